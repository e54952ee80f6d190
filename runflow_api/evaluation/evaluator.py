"""The one path from an image to its verdict, which nodes and command line share.

For every image of a batch, at once and bounded: check what is asked, look it over before paying (preflight), find
or make its row in the journal, submit, wait, and judge by the person's rules. It knows nothing of ComfyUI:
progress is a callable, and cancelling is cancelling the coroutine.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

from .. import background, errors
from ..api.client import RunflowClient
from ..api.models import Evaluation, EvaluationStatus
from ..api.prices import PriceList
from ..api.transport import Deadline
from ..background import Workers
from ..errors import RunflowError
from ..images import Picture
from ..journal.errors import answered
from ..journal.journal import Journal, JournalError, Row, RowState
from ..settings.config import Config
from . import failures, polling
from .bookkeeping import Bookkeeper
from .failures import Acceptance, Scope, classify, raise_or_batch, scope_of
from .fleet import FleetLimiter
from .free_judges import FreeJudges
from .job import Batch, BatchItem, CostEstimate, Job, requests_for
from .local import judge_locally, preflight
from .polling import Progress, Report, report_nothing, report_progress, time_left, with_deadline
from .question import ImageUrl, JudgeChoice, Options, Question, resolve, validate
from .results import Results, known_answer, not_yet
from .submission import ENCODERS, Bodies
from .verdict import (
    LOCAL,
    MODEL,
    OFF,
    PERSON,
    RUNFLOW,
    BatchVerdict,
    Subject,
    Verdict,
    from_evaluation,
    not_asked,
    not_judged,
)

__all__ = ["ENCODERS", "CostEstimate", "Evaluator", "Job", "Progress", "Report"]

RESEND_WITHIN_S = 23 * 3600.0
"""An idempotency key is trusted for less than a day; after that a resend might be billed again."""
CLEAN_UP_S = 2.0
TOO_LARGE = 413

log = logging.getLogger("runflow_evaluate")
P = ParamSpec("P")
T = TypeVar("T")


class Evaluator:
    """Judges batches with one configuration. ``evaluate`` runs on the background loop (``background.start``).

    ``directory`` is private to the user and holds the journal. ``next_delay`` is the schedule of polling, ``now``
    Unix time. ``prices`` and ``bookkeeper`` block; use them in threads.
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
        self.bookkeeper = Bookkeeper(config, directory, now)
        if config.has_shared_journal and config.api_key is not None:
            who = f"{config.base_url} {config.organization_id or config.require_key()}"
            self.client.transport.limiter = FleetLimiter(self.bookkeeper.journal, who, config.requests_per_second)
        self._now = now
        self._submitting: Counter[int] = Counter()
        self._releasing: set[Future[None]] = set()
        self._processor = Workers(os.cpu_count() or 1)
        # A quarter of the slots is left to those that look whether evaluations have ended: a large batch would keep
        # its first verdicts waiting until its last image is sent.
        self._network = Workers(config.concurrency)
        self._senders = Workers(config.concurrency - config.concurrency // 4, among=self._network)
        self._free_judges = FreeJudges(config, self.bookkeeper.journal, self._processor)
        self._bodies = Bodies(self.client, self.bookkeeper, self._network)
        self._results = Results(self.client, self.bookkeeper, self._network, self._processor, next_delay, now)

    def close(self) -> None:
        """Give connections back. What is under way ends by itself; the journal is given a moment to be tidied."""
        wait(list(self._releasing), timeout=CLEAN_UP_S)
        self.client.close()
        self.bookkeeper.close()

    def close_when_unused(self) -> None:
        """Close it once nobody holds it any more; what is under way goes on, and is noted in the journal."""
        unused: SimpleQueue[None] = SimpleQueue()
        weakref.finalize(self, unused.put, None).atexit = False
        background.call(_close_unused, unused, self._releasing, self.client, self.bookkeeper)

    def journal(self) -> Journal:
        """The journal, for looking back. Opened on first use; raises ``JournalError`` if that cannot be done soon."""
        opening = self.bookkeeper.journal
        return answered("on a server", opening) if self.config.has_shared_journal else opening()

    def resolve(self, judge: JudgeChoice, *, has_model: bool = False) -> JudgeChoice:
        """Who answers: auto is runflow with a key, otherwise a connected or configured model, otherwise local."""
        return resolve(judge, self.config, has_model=has_model)

    async def call_api(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call to Runflow, or to the journal; at most ``concurrency`` of all are under way."""
        return await self._network.run(call, *args, **kwargs)

    async def estimate(self, wanted: Sequence[tuple[str, Question, Options]], prompt_token: str) -> CostEstimate:
        """What judging these (pixel hash, question, options) would add, before anything is reserved or sent.

        All have one job class, whose price is read only if a limit in credits needs it. Raises ``BudgetError``
        if a limit would be broken. What preflight will fail is counted all the same.
        """
        price = await self._limiting_price(wanted[0][2].job_class)
        new = await self._processor.run(self._would_be_new, wanted, prompt_token, price)
        return CostEstimate(sum(new), len(new) - sum(new), price)

    def _would_be_new(
        self, wanted: Sequence[tuple[str, Question, Options]], prompt_token: str, price: Decimal | None
    ) -> list[bool]:
        return self.bookkeeper.estimate(requests_for(wanted, self.config.base_url, prompt_token, price))

    async def _limiting_price(self, job_class: str, deadline: Deadline | None = None) -> Decimal | None:
        """The price of one evaluation, looked up only if the person has a limit in credits."""
        if self.config.max_credits_per_day is None and self.bookkeeper.budget is None:
            return None
        return await self._network.run(self.prices.price, job_class, deadline)

    async def evaluate(self, job: Job, report: Report = report_nothing) -> BatchVerdict:
        """Judge every image of ``job``; returns when all have ended.

        Raises ``InvalidInputError`` and ``ConfigurationError`` before anything is sent and, after every image has
        ended, the error that stops the workflow; its ``unjudged_indices`` name the images without a verdict.
        """
        validate(job, self.config)
        judge = self.resolve(job.judge, has_model=job.model is not None)
        items = await self._prepare(job)
        try:
            if judge == OFF:
                return BatchVerdict(tuple(not_asked(item.subject) for item in items))
            if job.judge == "auto" and judge == LOCAL and job.question.asks_about_content:
                error = failures.needs_key()
                verdicts = [not_judged(error, job.policy, item.subject, judge=LOCAL) for item in items]
            elif judge == LOCAL:
                verdicts = list(
                    await asyncio.gather(*(self._processor.run(judge_locally, item, self.config) for item in items))
                )
                await self._processor.run(self._free_judges.remember, items, verdicts)
            elif judge == PERSON:
                verdicts = await self._free_judges.ask_person(items, [None] * len(items), report)
            else:
                refused = await asyncio.gather(*(self._processor.run(preflight, item, self.config) for item in items))
                await self._processor.run(self._free_judges.remember, items, refused)
                sound = [item for item, verdict in zip(items, refused, strict=True) if verdict is None]
                judge_sound = self._free_judges.ask_model if judge == MODEL else self._evaluate_with_runflow
                answers = iter(await judge_sound(sound, report) if sound else [])
                verdicts = [next(answers) if verdict is None else verdict for verdict in refused]
            if job.policy.if_not_judged == "ask" and judge != PERSON:
                verdicts = await self._free_judges.ask_where_unjudged(items, verdicts, report)
        finally:
            items[0].batch.deadline.cancelled.set()  # one event for all: whatever still waits may go home
        return raise_or_batch(verdicts, job.policy, pays=judge == RUNFLOW)

    async def _prepare(self, job: Job) -> list[BatchItem]:
        """The images on their way, each made into pixels and hashed once, and so are the references."""
        deadline = Deadline.after(job.options.timeout_s)
        preparing = asyncio.ensure_future(self._processor.run(job.question.prepared))
        given = [Picture(each) if not isinstance(each, (Picture, ImageUrl)) else each for each in job.images]
        hashes = await asyncio.gather(*(self._processor.run(_hash_of, image) for image in given))
        question = await preparing
        batch = Batch(replace(job, question=question), deadline, Progress(len(given)))
        subjects = [Subject(question.generation_prompt, pixel_hash) for pixel_hash in hashes]
        return [
            BatchItem(batch, index, image, subject, job.options.upload)
            for index, (image, subject) in enumerate(zip(given, subjects, strict=True))
        ]

    # --- Runflow: the batch -----------------------------------------------------------------------

    async def _evaluate_with_runflow(self, sound: list[BatchItem], report: Report) -> list[Verdict]:
        """Make sure that all may be paid for, then evaluate all of them at once.

        There is one task for each row: equal images of a batch are submitted, and paid, once.
        """
        try:
            await self._reserve(sound)
        except (errors.BudgetError, JournalError) as error:
            return [self._not_judged(item, error) for item in sound]
        leaders = {item.row.id: item for item in reversed(sound)}
        leader_of = {item.index: leaders[item.row.id] for item in sound}
        progress = sound[0].batch.progress
        progress.total = len(leaders)
        tasks = {item.index: asyncio.create_task(self._evaluate_item(item)) for item in leaders.values()}
        ticker = asyncio.create_task(report_progress(progress, report))
        try:
            await asyncio.gather(*tasks.values())
        finally:
            self._cancel_and_release(sound, [ticker, *tasks.values()])
        verdicts = {index: tasks[leader.index].result() for index, leader in leader_of.items()}
        for index, verdict in verdicts.items():
            if index not in tasks and verdict.error is None:
                verdicts[index] = replace(verdict, reused=True, cost=Decimal(0))
        return [verdicts[item.index] for item in sound]

    async def _reserve(self, items: list[BatchItem]) -> None:
        """A row for each: all of them may be paid for, or none is sent.

        Cancelled while rows are being reserved, it leaves none behind.
        """
        batch = items[0].batch
        batch.price = await self._limiting_price(batch.job.options.job_class, batch.deadline)
        beginning = background.call(self._reserve_in_thread, items)
        try:
            rows = await asyncio.wrap_future(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(self._release_after_cancel)
            raise
        for item, row in zip(items, rows, strict=True):
            item.rows.append(row)
        batch.notes += [self.bookkeeper.trouble] if self.bookkeeper.trouble else []

    def _reserve_in_thread(self, items: list[BatchItem]) -> list[Row]:
        batch = items[0].batch
        base_url = self.config.base_url
        asked = [batch.job.request(item.subject.pixel_hash, batch.price, base_url) for item in items]
        rows = self.bookkeeper.begin([item.in_context(request) for item, request in zip(items, asked, strict=True)])
        batch.usual = batch.progress.expected = self.bookkeeper.usual_durations.of(batch.job.options.job_class)
        return rows

    def _release_after_cancel(self, beginning: Future[list[Row]]) -> None:
        """In the thread that reserved the rows, once it has."""
        if not beginning.cancelled() and beginning.exception() is None:
            self.bookkeeper.release(beginning.result())

    def _cancel_and_release(
        self, items: list[BatchItem], tasks: list[asyncio.Task[Verdict] | asyncio.Task[None]]
    ) -> None:
        """Let go of everything; what was reserved and not sent gives its budget back."""
        for task in tasks:
            task.cancel()
        for placing in items[0].batch.reference_urls.values():
            placing.cancel()  # a hung upload must not hold back the next batch
        releasing = background.call(self.bookkeeper.release, [row for item in items for row in item.rows])
        self._releasing.add(releasing)
        releasing.add_done_callback(self._releasing.discard)

    # --- Runflow: one image -----------------------------------------------------------------------

    async def _evaluate_item(self, item: BatchItem) -> Verdict:
        """The verdict of one image; an error becomes an unknown verdict that carries it."""
        batch, row = item.batch, item.row
        evaluation, reused = Evaluation(id=row.evaluation_id), row.state != RowState.OPEN
        item.notes += [row.note] if row.note else []
        try:
            known = known_answer(row)
            if known is not None:
                evaluation = known
            elif evaluation.id is None:
                evaluation = await self._submit(item)
            batch.progress.past_submission_count += 1
            if batch.job.on_submitted is not None:
                batch.job.on_submitted(item.index)
            if known is None and batch.job.wait:
                read = self._results.wait if batch.job.options.wait else self._results.read_once
                was_just_submitted = row.evaluation_id is None and not batch.job.options.wait
                evaluation = evaluation if was_just_submitted else await read(item, str(evaluation.id))
            if evaluation.status_code == EvaluationStatus.FAILED:
                raise failures.ended_without_verdict(evaluation)
        except RunflowError as error:
            if scope_of(error) is Scope.EVERY_IMAGE:
                batch.stopped_by = batch.stopped_by or error
            return self._not_judged(item, error, evaluation)
        batch.progress.judged.add(item.index)  # not where it was cancelled: then the image is saved
        if not evaluation.is_terminal and batch.job.wait:
            return replace(
                not_yet(evaluation, batch.job.policy, item.subject, reused=row.evaluation_id is not None),
                notes=tuple(item.all_notes),
            )
        return from_evaluation(
            evaluation,
            batch.job.policy,
            item.subject,
            judge=RUNFLOW,
            seconds=0.0 if reused else batch.seconds,
            reused=reused or item.is_billed_elsewhere,
            notes=item.all_notes,
        )

    def _not_judged(self, item: BatchItem, error: RunflowError, evaluation: Evaluation | None = None) -> Verdict:
        batch = item.batch
        return not_judged(
            error,
            batch.job.policy,
            item.subject,
            judge=RUNFLOW,
            evaluation=evaluation,
            seconds=batch.seconds,
            notes=item.all_notes,
        )

    async def _submit(self, item: BatchItem) -> Evaluation:
        """The pending evaluation of an image whose row has no id yet. Raises what stands in its way.

        What is too large inside the request (413) goes by upload, under a row of its own.
        """
        batch = item.batch
        while True:
            row = item.row
            reference_urls = await self._reference_urls(item)
            self._submitting[row.id] += 1
            try:
                sending = self._senders.run(self._send, item, reference_urls)
                evaluation = await asyncio.wait_for(sending, time_left(batch.deadline))
                break
            except asyncio.TimeoutError as error:
                late = polling.too_slow()
                late.cost, late.may_have_been_accepted = failures.COSTS[Acceptance.MAYBE_ACCEPTED], True
                raise late from error
            except errors.ValidationError as error:
                if error.status != TOO_LARGE or item.upload != "auto" or error.may_have_been_accepted:
                    raise
                item.upload, item.too_large = "asset", error
            finally:
                self._submitting -= Counter([row.id])  # forgotten at zero: a run may have millions of rows
            await self._reserve([item])
        return evaluation or await self._results.id_from_owner(item)

    async def _reference_urls(self, item: BatchItem) -> list[str]:
        """The addresses of the references, where the body is not made already. Nothing is sent that is too old."""
        row = item.row
        age = self._now() - row.created_at
        if row.spooled and age > RESEND_WITHIN_S:
            await self._processor.run(self.bookkeeper.abandon, row)
            raise failures.too_old_to_resend(age)
        if not row.is_new and await self._processor.run(self.bookkeeper.body, row) is not None:
            return []
        try:
            return await with_deadline(item.batch.deadline, self._bodies.reference_urls(item))
        except RunflowError as error:
            _set_cost_of_unprepared(item, error)
            raise

    def _send(self, item: BatchItem, reference_urls: list[str]) -> Evaluation | None:
        """Encode, fix the body, send and keep the id, all in one thread, so that no cancel comes in between.

        ``None`` if the body is elsewhere: whoever has it gets the id.
        """
        batch, row = item.batch, item.row
        if batch.stopped_by is not None:
            raise batch.stopped_by
        if batch.deadline.cancelled.is_set():
            raise errors.Cancelled
        try:
            body = self._bodies.body(item, reference_urls)
        except RunflowError as error:
            _set_cost_of_unprepared(item, error)
            raise
        if body is None:
            return None
        submit = functools.partial(self.client.submit, body, idempotency_key=row.idempotency_key)
        may_have_arrived = not row.is_new
        while True:
            try:
                evaluation = submit(deadline=batch.deadline, may_have_arrived=may_have_arrived)
                break
            except RunflowError as error:
                if not may_have_arrived and self._is_sent_by_another(row, error):
                    may_have_arrived = True
                    continue
                self._set_cost_and_close_row(item, error)
                if isinstance(error, errors.NotFoundError) and not error.may_have_been_accepted:
                    raise failures.no_api_there(error, self.config.base_url) from error
                raise
        self.bookkeeper.record_submission(row, evaluation)
        return evaluation

    def _is_sent_by_another(self, row: Row, error: RunflowError) -> bool:
        """Whether a conflict on a first send is with somebody else's, who sends the same; otherwise it is final."""
        is_conflict = isinstance(error, errors.ConflictError) and not error.may_have_been_accepted
        return is_conflict and self._has_other_askers(row)

    def _set_cost_and_close_row(self, item: BatchItem, error: RunflowError) -> None:
        """Say what the error means for money, and close the row if nothing can have been accepted."""
        acceptance = classify(error, item.row)
        error.cost = failures.COSTS[acceptance]
        is_ours_alone = acceptance is Acceptance.NOT_ACCEPTED and not self._has_other_askers(item.row)
        if acceptance is Acceptance.REFUSED or is_ours_alone:
            self.bookkeeper.record_refusal(item.row, error.code)

    def _has_other_askers(self, row: Row) -> bool:
        """Whether another prompt or process, or another node of this one, has asked for the same row."""
        return self._submitting[row.id] > 1 or self.bookkeeper.has_other_askers(row)


def _set_cost_of_unprepared(item: BatchItem, error: RunflowError) -> None:
    """What was to be sent could not be made ready; an earlier send may be under way all the same."""
    if error is not item.too_large:
        error.may_have_been_accepted = not item.row.is_new
        error.cost = failures.COSTS[Acceptance.NOT_ACCEPTED if item.row.is_new else Acceptance.MAYBE_ACCEPTED]


def _close_unused(
    unused: SimpleQueue[None], releasing: set[Future[None]], client: RunflowClient, bookkeeper: Bookkeeper
) -> None:
    unused.get()
    wait(list(releasing), timeout=CLEAN_UP_S)
    client.close()
    if not bookkeeper.trouble:  # otherwise it may keep in memory what it carries over when the journal is back
        bookkeeper.close()


def _hash_of(image: Picture | ImageUrl) -> str:
    return image.hash
