"""The one path from request to verdict, which nodes and command line share.

For every image of a batch, at once and bounded: validate, look it over before paying (preflight), find or
make its row in the journal, submit, wait, and judge by the person's rules. It knows nothing of ComfyUI:
progress is a callable, and cancelling is cancelling the coroutine.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from .. import background, errors, images
from ..api.client import RunflowClient
from ..api.models import Evaluation, EvaluationStatus
from ..api.prices import PriceList
from ..api.transport import Deadline
from ..background import Workers
from ..errors import RunflowError
from ..journal.journal import Journal, Row
from ..settings.config import Config
from . import polling
from .bookkeeping import Bookkeeper
from .failures import FATAL, OUTAGES, ended_without_verdict, needs_key, raise_or_batch, timed_out, unknown_by_now
from .job import BatchItem, CostEstimate, Image, Job
from .question import (
    JUDGES,
    ImageUrl,
    JudgeChoice,
    Options,
    Question,
    check_image_url,
    require_choice,
    require_finite,
    validate,
)
from .submission import ENCODERS, Batch, Submitter
from .verdict import (
    IF_NOT_JUDGED,
    LOCAL,
    OFF,
    PREFLIGHT,
    RUNFLOW,
    BatchVerdict,
    Policy,
    Subject,
    Verdict,
    from_evaluation,
    not_asked,
    not_judged,
)
from .waiting import Progress, Report, poll_until_terminal, report_progress, with_deadline

__all__ = ["ENCODERS", "FATAL", "OUTAGES", "CostEstimate", "Evaluator", "Job", "Progress", "Report"]

FULL = ("judges", "action", "gate_failures")
"""Embedded in the last read only: polls stay small."""
VISIBLE_WITHIN_S = 10.0
"""So long an id that was just given may not be found yet."""
CLEAN_UP_S = 2.0

log = logging.getLogger("runflow_evaluate")
T = TypeVar("T")


class Evaluator:
    """Judges batches with one configuration. ``evaluate`` runs on the background loop (``background.start``).

    ``directory`` is private to the user and holds the journal. Where the journal cannot be used, that is
    said once and evaluations go on with one that lives in memory.
    """

    def __init__(
        self,
        config: Config,
        directory: Path,
        *,
        client: RunflowClient | None = None,
        next_delay: Callable[[float, polling.Window | None, int], float] = polling.next_delay,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.client = client or RunflowClient(config)
        self.prices = PriceList(self.client)
        self._next_delay = next_delay
        self._now = now
        self._pending = 0
        self._network = Workers(config.concurrency)
        self._processor = Workers(os.cpu_count() or 1)
        self._cleaning_up: set[Future[None]] = set()
        self.bookkeeper = Bookkeeper(config, directory, now)
        self._submitter = Submitter(self.client, self.bookkeeper, self._network, self._processor, now)

    def close(self) -> None:
        """Give connections back. What is under way ends by itself; the journal is given a moment to be tidied."""
        wait(list(self._cleaning_up), timeout=CLEAN_UP_S)
        self.client.close()
        self.bookkeeper.close()

    def journal(self) -> Journal:
        """The journal, opened on first use. Raises ``JournalError`` where that cannot be done."""
        return self.bookkeeper.journal()

    async def ask(self, call: Callable[[], T]) -> T:
        """One blocking call to Runflow; at most ``concurrency`` of all are under way."""
        return await self._network.run(call)

    async def quote(self, asked: Sequence[tuple[str, Question, Options]], prompt_token: str) -> CostEstimate:
        """What judging these (pixel hash, question, options) would add, before anything is reserved or sent.

        All have one job class, whose price is read only where a limit in credits needs it. Raises ``BudgetError``
        where a limit would be broken. What preflight will fail is counted all the same.
        """
        limited = self.config.max_credits_per_day is not None
        price = await self.price(asked[0][2].job_class) if limited else None

        def preview() -> list[bool]:
            asks = [
                self.bookkeeper.request(
                    Job((), question, options=options, prompt_token=prompt_token), pixel_hash, price
                )
                for pixel_hash, question, options in asked
            ]
            return self.bookkeeper.estimate(asks)

        new = await self._in_thread(preview)
        return CostEstimate(sum(new), len(new) - sum(new), price)

    def resolve(self, judge: JudgeChoice) -> str:
        """Who answers: auto is runflow where a key is configured, else local."""
        if judge == "auto":
            return RUNFLOW if self.config.api_key else LOCAL
        return judge

    async def evaluate(self, job: Job, report: Report = lambda _: None) -> BatchVerdict:
        """Judge every image of ``job``; returns when all members have ended.

        Raises ``InvalidInputError`` and ``ConfigurationError`` before anything is sent, and, after every
        member has ended, the error that stops the workflow; its ``unjudged`` names the images without
        a verdict.
        """
        self._check(job)
        judge = self.resolve(job.judge)
        items = await self._members(job)
        try:
            if judge == OFF:
                return BatchVerdict(tuple(not_asked(item.subject) for item in items))
            if job.judge == "auto" and judge == LOCAL and job.question.asks_about_content:
                error = needs_key()
                verdicts = [not_judged(error, job.policy, item.subject, judge=LOCAL) for item in items]
            elif judge == LOCAL:
                verdicts = list(await asyncio.gather(*(self._judge_locally(job, item) for item in items)))
            else:
                verdicts = await self._ask_runflow(job, items, report)
        finally:
            items[0].deadline.cancelled.set()  # one event for all: whatever still waits may go home
        return raise_or_batch(verdicts, job.policy)

    def _check(self, job: Job) -> None:
        require_choice("judge", job.judge, JUDGES)
        require_choice("if_not_judged", job.policy.if_not_judged, IF_NOT_JUDGED)
        if not 0.0 <= job.policy.min_score <= 1.0:
            raise errors.InvalidInputError("min_score", f"{job.policy.min_score:g} is not between 0 and 1.")
        if not job.images:
            raise errors.InvalidInputError("image", "the batch is empty.")
        for index, image in enumerate(job.images):
            self._check_image(image, job.name_of(index), job.judge)
        validate(job.question, job.options, self.config)
        if self.resolve(job.judge) == RUNFLOW:
            self.config.require_key()

    def _check_image(self, image: Image | ImageUrl, name: str, judge: JudgeChoice) -> None:
        if not isinstance(image, ImageUrl):
            return images.check_image(image, name)
        check_image_url(name, image.url)
        if self.resolve(judge) == LOCAL:
            raise errors.InvalidInputError(
                name, "is an address: only Runflow can judge it, because nothing is fetched from here."
            )

    async def _members(self, job: Job) -> list[BatchItem]:
        deadline = Deadline.after(job.options.timeout_s)
        started = time.monotonic()

        def item(index: int, image: Image | ImageUrl) -> BatchItem:
            if isinstance(image, ImageUrl):
                pixel_hash = image.hash
            else:
                pixel_hash = images.pixel_hash(images.to_pixels(image))
            subject = Subject(job.question.generation_prompt, pixel_hash)
            return BatchItem(index, image, subject, deadline, started)

        hashing = [self._in_thread(functools.partial(item, *pair)) for pair in enumerate(job.images)]
        return list(await asyncio.gather(*hashing))

    # --- the local judge --------------------------------------------------------------------------

    async def _judge_locally(self, job: Job, item: BatchItem) -> Verdict:
        from ..local_judge import judge as local_judge  # not needed where Runflow judges

        image = item.image
        assert not isinstance(image, ImageUrl)  # refused by _check
        references = [reference.pixels for reference in job.question.references if reference.pixels is not None]
        evaluation = await self._processor.run(
            lambda: local_judge.judge(image, references=references, prompt=item.subject.prompt)
        )
        return from_evaluation(evaluation, job.policy, item.subject, judge=LOCAL, seconds=item.seconds)

    async def _preflight(self, job: Job, item: BatchItem) -> Verdict | None:
        """A failed verdict for an image that is not worth paying for, else ``None``."""
        from ..local_judge import judge as local_judge

        checks, image = job.options.preflight, item.image
        if isinstance(image, ImageUrl):
            return None
        if checks == "off":
            require_finite(image, job.name_of(item.index))
            return None
        evaluation = await self._processor.run(
            lambda: local_judge.judge(image, checks=checks, prompt=item.subject.prompt)
        )
        if evaluation.overall_passed:
            return None
        evaluation = evaluation.model_copy(update={"weighted_pass_rate": 0.0, "cost": Decimal(0)})
        return from_evaluation(evaluation, Policy(), item.subject, judge=PREFLIGHT, seconds=item.seconds)

    # --- Runflow ----------------------------------------------------------------------------------

    async def _ask_runflow(self, job: Job, items: list[BatchItem], report: Report) -> list[Verdict]:
        """Preflight all, make sure that all may be paid for, then ask about all of them at once."""
        broken = await asyncio.gather(*(self._preflight(job, item) for item in items))
        asked = [item for item, verdict in zip(items, broken, strict=True) if verdict is None]
        answers = await self._ask_about(job, asked, report) if asked else []
        by_index = {item.index: verdict for item, verdict in zip(asked, answers, strict=True)}
        return [verdict or by_index[item.index] for item, verdict in zip(items, broken, strict=True)]

    async def _ask_about(self, job: Job, asked: list[BatchItem], report: Report) -> list[Verdict]:
        try:
            rows = await self._begin(job, asked)
        except errors.BudgetError as error:
            return [not_judged(error, job.policy, item.subject, judge=RUNFLOW) for item in asked]
        batch = Batch(job, Progress(len(asked)))
        ticker = asyncio.create_task(report_progress(batch.progress, report))
        try:
            batch.expected = await self._in_thread(lambda: self.bookkeeper.usual_durations(job.options.job_class))
            return await self._ask_each(batch, asked, rows)
        finally:
            ticker.cancel()
            cleaning_up = background.call(lambda: self.bookkeeper.release(rows))
            self._cleaning_up.add(cleaning_up)
            cleaning_up.add_done_callback(self._cleaning_up.discard)

    async def _ask_each(self, batch: Batch, asked: list[BatchItem], rows: list[Row]) -> list[Verdict]:
        """One task for each row: equal images of a batch are asked about, and paid, once."""
        tasks: dict[int, asyncio.Task[Verdict]] = {}
        for item, row in zip(asked, rows, strict=True):
            if row.id not in tasks:
                tasks[row.id] = asyncio.create_task(self._ask(batch, item, row))
        batch.progress.total = len(tasks)
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
            if batch.reference_urls is not None:
                batch.reference_urls.cancel()  # a hung upload must not hold back the next batch
        first = {row.id: item.index for item, row in reversed(list(zip(asked, rows, strict=True)))}
        verdicts = [tasks[row.id].result() for row in rows]
        return [
            verdict if first[row.id] == item.index or verdict.error else replace(verdict, reused=True, cost=Decimal(0))
            for item, row, verdict in zip(asked, rows, verdicts, strict=True)
        ]

    async def _ask(self, batch: Batch, item: BatchItem, row: Row) -> Verdict:
        """The verdict of one image; an error becomes an unknown verdict that carries it."""
        policy, known = batch.job.policy, row.answer is not None
        evaluation = Evaluation(id=row.evaluation_id)
        try:
            evaluation = await self._answer(batch, item, row)
            if evaluation.status_code == EvaluationStatus.FAILED:
                raise ended_without_verdict(evaluation)
        except RunflowError as error:
            if isinstance(error, FATAL):
                batch.fatal = batch.fatal or error
            seconds = item.seconds
            return not_judged(error, policy, item.subject, judge=RUNFLOW, evaluation=evaluation, seconds=seconds)
        batch.progress.judged.add(item.index)  # not where it was cancelled: then the image is saved
        seconds = 0.0 if known else item.seconds
        return from_evaluation(
            evaluation,
            policy,
            item.subject,
            judge=RUNFLOW,
            seconds=seconds,
            reused=known,
            notes=item.notes,
        )

    async def _answer(self, batch: Batch, item: BatchItem, row: Row) -> Evaluation:
        """The terminal evaluation, from the journal or from Runflow."""
        if row.answer is not None:
            batch.progress.submitted += 1
            return Evaluation.model_validate(row.answer)
        evaluation = Evaluation(id=row.evaluation_id)
        if evaluation.id is None:
            evaluation = await self._submitter.submit(batch, item, row)
        batch.progress.submitted += 1
        if not batch.job.wait:
            return evaluation
        if not evaluation.is_terminal:
            evaluation = await self._wait(batch, item, row, str(evaluation.id))
        if evaluation.status_code == EvaluationStatus.COMPLETED:
            full = await self._read_full(item, evaluation)
            if full is None:  # not noted as finished: the next run reads what is missing, for free
                return evaluation
            evaluation = full
        waited = item.seconds if row.is_new else None
        await self._in_thread(lambda: self.bookkeeper.record_result(row, evaluation, waited))
        return evaluation

    async def _wait(self, batch: Batch, item: BatchItem, row: Row, evaluation_id: str) -> Evaluation:
        """Look until the evaluation is terminal; an outage does not lose it."""
        self._pending += 1
        try:
            return await self._look_until_terminal(batch, item, row, evaluation_id)
        except errors.NotFoundError as error:
            await self._in_thread(lambda: self.bookkeeper.abandon(row))
            raise unknown_by_now(evaluation_id, error) from error
        except errors.ApiError as error:
            error.message += f" Evaluation {evaluation_id} was submitted and is paid once: run again to pick it up."
            raise
        finally:
            self._pending -= 1

    async def _look_until_terminal(self, batch: Batch, item: BatchItem, row: Row, evaluation_id: str) -> Evaluation:
        submitted = time.monotonic() - self._age(row)
        is_new = row.evaluation_id is None

        def next_delay() -> float:
            return self._next_delay(time.monotonic() - submitted, batch.expected, self._pending)

        async def look(_: Evaluation | None) -> Evaluation:
            try:
                return await self.ask(lambda: self.client.get_evaluation(evaluation_id, deadline=item.deadline))
            except errors.NotFoundError:
                if is_new and time.monotonic() - submitted < VISIBLE_WITHIN_S:
                    return Evaluation(id=evaluation_id)
                raise

        first_delay = next_delay() if is_new else 0.0
        seen = await poll_until_terminal(
            look, item.deadline, batch.progress, first_delay=first_delay, next_delay=next_delay
        )
        if seen.latest is None or not seen.latest.is_terminal:
            raise timed_out(evaluation_id, batch.job.options.timeout_s, seen.trouble)
        return seen.latest

    def _age(self, row: Row) -> float:
        """How long ago an earlier prompt submitted it, by clocks that may disagree."""
        return 0.0 if row.submitted_at is None else max(0.0, self._now() - row.submitted_at)

    async def _read_full(self, item: BatchItem, evaluation: Evaluation) -> Evaluation | None:
        """The completed answer with judges, action and gate failures; ``None`` where it cannot be read now."""
        evaluation_id = str(evaluation.id)
        try:
            reading = self._network.run(
                lambda: self.client.get_evaluation(evaluation_id, embed=FULL, deadline=item.deadline)
            )
            full = await with_deadline(item.deadline, reading)
        except RunflowError as error:
            # The verdict itself is known and paid: it is not thrown away for want of its details.
            item.notes.append(f"the details of the verdict could not be read: {error}")
            return None
        return full if full.status_code == EvaluationStatus.COMPLETED else None

    # --- rows and prices -----------------------------------------------------------------------

    async def _begin(self, job: Job, asked: list[BatchItem]) -> list[Row]:
        """A row for each member: all of them may be paid for, or none is sent.

        Cancelled while rows are being reserved, it leaves none behind.
        """
        price = await self.price(job.options.job_class) if self.config.max_credits_per_day is not None else None

        def begin() -> list[Row]:
            return self.bookkeeper.begin(
                [self.bookkeeper.request(job, each.subject.pixel_hash, price) for each in asked]
            )

        beginning = background.call(begin)
        try:
            rows = await asyncio.wrap_future(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(self._release_unseen)
            raise
        if self.bookkeeper.trouble:
            asked[0].notes.append(self.bookkeeper.trouble)
        return rows

    def _release_unseen(self, beginning: Future[list[Row]]) -> None:
        """In the thread that reserved the rows, once it has."""
        if not beginning.cancelled() and beginning.exception() is None:
            self.bookkeeper.release(beginning.result())

    async def price(self, job_class: str) -> Decimal | None:
        """The quoted price of a class in credits; ``None`` where it cannot be read."""
        return await self._network.run(lambda: self.prices.price(job_class))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await self._processor.run(call)
