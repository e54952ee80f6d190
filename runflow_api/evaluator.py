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
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt

from . import background, errors, images, polling, request
from .background import Workers
from .client import RunflowClient, encode_request
from .config import WHERE_TO_SET_THE_KEY, Config
from .errors import RunflowError
from .journal import OPEN, Ask, Journal, JournalError, Limits, Row
from .models import COMPLETED, FAILED, Evaluation
from .transport import Patience, never_arrived
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

FULL = ("judges", "action", "gate_failures")
"""Embedded in the last read only: polls stay small."""
OWNER_POLL_S = 1.0
GRACE_S = 0.5
"""A call that ends by its own time-out does so first, with a better error."""
VISIBLE_WITHIN_S = 10.0
"""So long an id that was just given may not be found yet."""
RESEND_WITHIN_S = 23 * 3600.0
"""An idempotency key is trusted for less than a day; after that a resend might be billed again."""
TICK_S = 1.0
TIDY_S = 2.0
ENCODERS = 2
"""A lossless WebP takes nine times the memory of its pixels while it is made. Two at a time are faster than 400 Mbit/s
of upload, so more would only take memory."""
REFERENCES_KEPT = 8
"""References used again are encoded and uploaded once; a data URI may have 12 MB."""

FATAL = (
    errors.ConfigurationError,
    errors.InvalidInputError,
    errors.AuthenticationError,
    errors.PermissionDeniedError,
    errors.ValidationError,
)
"""Bad configuration, credentials, permission and invalid input always stop, whatever the policy says."""
OUTAGES = (errors.NetworkError, errors.ServerError, errors.RateLimitError, errors.InvalidResponseError)
"""While waiting for a verdict these are waited out until ``timeout_s``."""
UNBILLED = (
    errors.AuthenticationError,
    errors.InsufficientCreditError,
    errors.PermissionDeniedError,
    errors.ValidationError,
    errors.ConflictError,
)

log = logging.getLogger("runflow_evaluate")
Image = npt.NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Job:
    """A batch to be judged. ``images``: float (H, W, C) arrays, 0 to 1, or uint8; for Runflow also addresses.

    ``prompt_token`` names what the person started once: the queued prompt, or the run of the command line.
    Without ``wait`` a member ends when Runflow has taken it: its verdict is unknown and carries the id.
    """

    images: Sequence[Image | request.Address]
    question: request.Question = field(default_factory=request.Question)
    judge: request.Judge = "auto"
    policy: Policy = field(default_factory=Policy)
    options: request.Options = field(default_factory=request.Options)
    prompt_token: str = ""
    wait: bool = True


@dataclass(frozen=True)
class Quote:
    """What judging would add: evaluations that are not known yet, and the price of one in credits, if known."""

    new: int
    known: int
    price: Decimal | None

    @property
    def total(self) -> Decimal | None:
        return None if self.price is None else self.price * self.new


@dataclass
class Progress:
    """Where a batch is, for a line of text and a bar."""

    total: int
    judged: set[int] = field(default_factory=set)
    submitted: int = 0
    trouble: str = ""
    started: float = field(default_factory=time.monotonic)
    what: str = "the verdict"

    @property
    def text(self) -> str:
        seconds = f"{time.monotonic() - self.started:.0f} s"
        count = f" · {len(self.judged)} of {self.total} judged" if self.total > 1 else ""
        doing = f"waiting for {self.what}" if self.submitted >= self.total else "submitting"
        return f"{doing} · {seconds}{count}" + (f" · {self.trouble}" if self.trouble else "")


Report = Callable[[Progress], None]


@dataclass(eq=False)
class _Member:
    """One image of a batch on its way."""

    index: int
    image: Image | request.Address
    subject: Subject
    patience: Patience
    started: float
    notes: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Batch:
    """What the members of one job share."""

    job: Job
    progress: Progress
    journal: Journal
    expected: polling.Window | None = None
    reference_urls: asyncio.Task[list[str]] | None = None
    fatal: RunflowError | None = None


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
        self._next_delay = next_delay
        self._now = now
        self._directory = directory
        self._journal: Journal | None = None
        self._fallback: Journal | None = None
        self._opening = threading.Lock()
        self._pruned = False
        self._pending = 0
        self._network = Workers(config.concurrency)
        self._processor = Workers(os.cpu_count() or 1)
        self._encoders = threading.Semaphore(ENCODERS)
        self._submitting: Counter[int] = Counter()
        self._tidying: set[Future[None]] = set()
        self._placing = asyncio.Lock()
        self._placed: dict[tuple[str, str], tuple[str, list[str]]] = {}

    def close(self) -> None:
        """Give connections back. What is under way ends by itself; the journal is given a moment to be tidied."""
        wait(list(self._tidying), timeout=TIDY_S)
        self.client.close()
        if self._journal is not None:
            self._journal.close()

    async def ask(self, call: Callable[[], T]) -> T:
        """One blocking call to Runflow; at most ``concurrency`` of all are under way."""
        return await self._network.run(call)

    async def quote(
        self, asked: Sequence[tuple[str, request.Question, request.Options]], prompt_token: str
    ) -> Quote:
        """What judging these (pixel hash, question, options) would add, before anything is reserved or sent.

        All have one job class, whose price is read only where a limit in credits needs it. Raises ``BudgetError``
        where a limit would be broken. What preflight will fail is counted all the same.
        """
        limited = self.config.max_credits_per_day is not None
        price = await self.price(asked[0][2].job_class) if limited else None

        def preview() -> list[bool]:
            asks = [
                self._ask_for(Job((), question, options=options, prompt_token=prompt_token), pixel_hash, price)
                for pixel_hash, question, options in asked
            ]
            try:
                return self.journal().preview(self._with_account(self.journal(), asks), _limits(self.config))
            except JournalError as error:
                return self._forget_journal(error).preview(asks, _limits(self.config))

        new = await self._in_thread(preview)
        return Quote(sum(new), len(new) - sum(new), price)

    def resolve(self, judge: request.Judge) -> str:
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
        members = await self._members(job)
        try:
            if judge == OFF:
                return BatchVerdict(tuple(not_asked(member.subject) for member in members))
            if job.judge == "auto" and judge == LOCAL and job.question.asks_about_content:
                error = _needs_key()
                verdicts = [not_judged(error, job.policy, member.subject, judge=LOCAL) for member in members]
            elif judge == LOCAL:
                verdicts = list(await asyncio.gather(*(self._judge_locally(job, member) for member in members)))
            else:
                verdicts = await self._ask_runflow(job, members, report)
        finally:
            members[0].patience.cancelled.set()  # one event for all: whatever still waits may go home
        return settled(verdicts, job.policy)

    def _check(self, job: Job) -> None:
        request.chosen("judge", job.judge, request.JUDGES)
        request.chosen("if_not_judged", job.policy.if_not_judged, IF_NOT_JUDGED)
        if not 0.0 <= job.policy.min_score <= 1.0:
            raise errors.InvalidInputError("min_score", f"{job.policy.min_score:g} is not between 0 and 1.")
        if not job.images:
            raise errors.InvalidInputError("image", "the batch is empty.")
        for number, image in enumerate(job.images, 1):
            self._check_image(image, "image" if len(job.images) == 1 else f"image {number}", job.judge)
        request.validate(job.question, job.options, self.config)
        if self.resolve(job.judge) == RUNFLOW:
            self.config.require_key()

    def _check_image(self, image: Image | request.Address, name: str, judge: request.Judge) -> None:
        if not isinstance(image, request.Address):
            return images.check_image(image, name)
        request.check_image_url(name, image.url)
        if self.resolve(judge) == LOCAL:
            raise errors.InvalidInputError(
                name, "is an address: only Runflow can judge it, because nothing is fetched from here."
            )

    async def _members(self, job: Job) -> list[_Member]:
        patience = Patience.of(job.options.timeout_s)
        started = time.monotonic()

        def member(index: int, image: Image | request.Address) -> _Member:
            if isinstance(image, request.Address):
                pixel_hash = image.hash
            else:
                pixel_hash = images.pixel_hash(images.to_pixels(image))
            subject = Subject(job.question.generation_prompt, pixel_hash)
            return _Member(index, image, subject, patience, started)

        hashing = [self._in_thread(functools.partial(member, *pair)) for pair in enumerate(job.images)]
        return list(await asyncio.gather(*hashing))

    # --- the local judge --------------------------------------------------------------------------

    async def _judge_locally(self, job: Job, member: _Member) -> Verdict:
        from . import local_judge  # not needed where Runflow judges

        image = member.image
        assert not isinstance(image, request.Address)  # refused by _check
        references = [reference.pixels for reference in job.question.references if reference.pixels is not None]
        evaluation = await self._processor.run(
            lambda: local_judge.judge(image, references=references, prompt=member.subject.prompt)
        )
        return from_evaluation(evaluation, job.policy, member.subject, judge=LOCAL, seconds=_since(member))

    async def _preflight(self, job: Job, member: _Member) -> Verdict | None:
        """A failed verdict for an image that is not worth paying for, else ``None``."""
        from . import local_judge

        checks, image = job.options.preflight, member.image
        if isinstance(image, request.Address):
            return None
        if checks == "off":
            request.finite(image, "image" if len(job.images) == 1 else f"image {member.index + 1}")
            return None
        evaluation = await self._processor.run(
            lambda: local_judge.judge(image, checks=checks, prompt=member.subject.prompt)
        )
        if evaluation.overall_passed:
            return None
        evaluation = evaluation.model_copy(update={"weighted_pass_rate": 0.0, "cost": "0"})
        return from_evaluation(evaluation, Policy(), member.subject, judge=PREFLIGHT, seconds=_since(member))

    # --- Runflow ----------------------------------------------------------------------------------

    async def _ask_runflow(self, job: Job, members: list[_Member], report: Report) -> list[Verdict]:
        """Preflight all, make sure that all may be paid for, then ask about all of them at once."""
        broken = await asyncio.gather(*(self._preflight(job, member) for member in members))
        asked = [member for member, verdict in zip(members, broken, strict=True) if verdict is None]
        answers = await self._ask_about(job, asked, report) if asked else []
        by_index = {member.index: verdict for member, verdict in zip(asked, answers, strict=True)}
        return [verdict or by_index[member.index] for member, verdict in zip(members, broken, strict=True)]

    async def _ask_about(self, job: Job, asked: list[_Member], report: Report) -> list[Verdict]:
        try:
            journal, rows = await self._begin(job, asked)
        except errors.BudgetError as error:
            return [not_judged(error, job.policy, member.subject, judge=RUNFLOW) for member in asked]
        batch = _Batch(job, Progress(len(asked)), journal)
        ticker = asyncio.create_task(tick(batch.progress, report))
        try:
            batch.expected = await self._in_thread(lambda: self._expected(journal, job.options.job_class))
            return await self._ask_each(batch, asked, rows)
        finally:
            ticker.cancel()
            tidying = background.call(lambda: self._tidy(journal, rows))
            self._tidying.add(tidying)
            tidying.add_done_callback(self._tidying.discard)

    async def _ask_each(self, batch: _Batch, asked: list[_Member], rows: list[Row]) -> list[Verdict]:
        """One task for each row: equal images of a batch are asked about, and paid, once."""
        tasks: dict[int, asyncio.Task[Verdict]] = {}
        for member, row in zip(asked, rows, strict=True):
            if row.id not in tasks:
                tasks[row.id] = asyncio.create_task(self._ask(batch, member, row))
        batch.progress.total = len(tasks)
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
            if batch.reference_urls is not None:
                batch.reference_urls.cancel()  # a hung upload must not hold back the next batch
        first = {row.id: member.index for member, row in reversed(list(zip(asked, rows, strict=True)))}
        verdicts = [tasks[row.id].result() for row in rows]
        return [
            verdict if first[row.id] == member.index or verdict.error else replace(verdict, reused=True, cost="0")
            for member, row, verdict in zip(asked, rows, verdicts, strict=True)
        ]

    async def _ask(self, batch: _Batch, member: _Member, row: Row) -> Verdict:
        """The verdict of one image; an error becomes an unknown verdict that carries it."""
        policy, known = batch.job.policy, row.answer is not None
        evaluation = Evaluation(id=row.evaluation_id)
        try:
            evaluation = await self._answer(batch, member, row)
            if evaluation.status_code == FAILED:
                raise _ended_without_verdict(evaluation)
        except RunflowError as error:
            if isinstance(error, FATAL):
                batch.fatal = batch.fatal or error
            seconds = _since(member)
            return not_judged(error, policy, member.subject, judge=RUNFLOW, evaluation=evaluation, seconds=seconds)
        batch.progress.judged.add(member.index)  # not where it was cancelled: then the image is saved
        seconds = 0.0 if known else _since(member)
        return from_evaluation(
            evaluation,
            policy,
            member.subject,
            judge=RUNFLOW,
            seconds=seconds,
            reused=known,
            notes=member.notes,
        )

    async def _answer(self, batch: _Batch, member: _Member, row: Row) -> Evaluation:
        """The terminal evaluation, from the journal or from Runflow."""
        if row.answer is not None:
            batch.progress.submitted += 1
            return Evaluation.model_validate(row.answer)
        evaluation = Evaluation(id=row.evaluation_id)
        if evaluation.id is None:
            evaluation = await self._submit(batch, member, row)
        batch.progress.submitted += 1
        if not batch.job.wait:
            return evaluation
        evaluation = await self._wait(batch, member, row, evaluation)
        if evaluation.status_code == COMPLETED:
            full = await self._read_full(member, evaluation)
            if full is None:  # not noted as finished: the next run reads what is missing, for free
                return evaluation
            evaluation = full
        await self._in_thread(lambda: self._note_answer(batch, member, row, evaluation))
        return evaluation

    # submitting

    async def _submit(self, batch: _Batch, member: _Member, row: Row) -> Evaluation:
        if row.spooled and (age := self._now() - row.created_at) > RESEND_WITHIN_S:
            await self._in_thread(lambda: self._noted(lambda: batch.journal.abandon(row), None))
            raise _maybe_billed(age)
        spooled = await self._in_thread(lambda: self._spooled(batch, row))
        reference_urls: list[str] = []
        if not spooled:
            reference_urls = await _within(member.patience, self._reference_urls(batch, member), NEVER_ARRIVED)
        self._submitting[row.id] += 1
        try:
            evaluation = await _within(
                member.patience,
                self._network.run(lambda: self._submit_in_thread(batch, member, row, reference_urls)),
                MAYBE_ACCEPTED,
            )
        finally:
            self._submitting[row.id] -= 1
        return evaluation or await self._id_from_owner(batch, member, row)

    def _refused(self, batch: _Batch, row: Row, error: errors.ApiError) -> RunflowError:
        """What a refusal means for money: the row is closed only where nothing that was sent can have been taken."""
        if error.is_resend:
            error.message += MAYBE_ACCEPTED
            return error
        error.message += " Nothing was paid."
        self._noted(lambda: batch.journal.refused(row, error.code), None)
        if isinstance(error, errors.NotFoundError):
            return errors.ConfigurationError(
                f"{error.message} There is no evaluation API at {self.config.base_url}: check RUNFLOW_BASE_URL.",
                code=error.code,
            )
        return error

    def _submit_in_thread(
        self, batch: _Batch, member: _Member, row: Row, reference_urls: list[str]
    ) -> Evaluation | None:
        """Encode, spool, send, and note the id, all in one thread, so that no cancel comes in between.

        Returns ``None`` where another machine spooled the body: its owner gets the id.
        """
        if batch.fatal is not None:
            raise batch.fatal
        if member.patience.cancelled.is_set():
            raise errors.Cancelled
        body = self._body(batch, member, row, reference_urls)
        if body is None:
            return None
        try:
            evaluation = self._send(batch, member, row, body)
        except OUTAGES as error:
            error.message += NEVER_ARRIVED if row.is_new and never_arrived(error) else MAYBE_ACCEPTED
            raise
        except errors.ApiError as error:
            raise self._refused(batch, row, error) from error
        self._noted(lambda: self._note_submitted(batch, row, evaluation), None)
        return evaluation

    def _send(self, batch: _Batch, member: _Member, row: Row, body: bytes) -> Evaluation:
        """Submit; a conflict on a first send is final, unless somebody else is sending the same."""
        submit = functools.partial(
            self.client.submit, body, idempotency_key=row.idempotency_key, patience=member.patience
        )
        try:
            return submit(may_have_arrived=not row.is_new)
        except errors.ConflictError as error:
            if error.is_resend or not self._is_shared(batch, row):
                raise
            return submit(may_have_arrived=True)

    def _is_shared(self, batch: _Batch, row: Row) -> bool:
        """Whether another prompt or process, or another node of this one, has asked for the same row."""
        return self._submitting[row.id] > 1 or self._noted(lambda: batch.journal.askers(row), 1) > 1

    def _body(self, batch: _Batch, member: _Member, row: Row, reference_urls: list[str]) -> bytes | None:
        """The bytes that must be sent: those spooled first, by whichever process that was."""
        spooled = self._spooled(batch, row)
        if spooled is not None:
            return spooled
        job = batch.job
        url = self._image_url(job, member)
        mine: bytes | None = encode_request(request.request(url, reference_urls, job.question, job.options))
        return self._noted(lambda: batch.journal.spool(row, mine or b""), mine)

    def _image_url(self, job: Job, member: _Member) -> str:
        if isinstance(member.image, request.Address):
            return member.image.url
        return self._place(images.to_pixels(member.image), job.options.upload, member)

    def _spooled(self, batch: _Batch, row: Row) -> bytes | None:
        return None if row.is_new else self._noted(lambda: batch.journal.body(row), None)

    def _place(self, pixels: images.PixelImage, upload: request.Upload, member: _Member) -> str:
        """An address for the image: a lossless data URI, else an asset, else a lossy data URI that is told."""
        with self._encoders:
            encoded = images.encode_lossless(pixels)
        if upload != "asset" and encoded.fits_data_uri:
            return images.data_uri(encoded)
        if upload != "data_uri" and len(encoded.data) <= images.MAX_ASSET_BYTES:
            try:
                return self.client.upload_asset(encoded, patience=member.patience)
            except (errors.PermissionDeniedError, errors.NotFoundError, errors.ValidationError) as error:
                if upload == "asset":
                    raise
                log.info("The image upload was refused (%s); a lossy data URI is sent.", error.code)
        encoded = images.encode_lossy(pixels)
        member.notes.append(encoded.loss)
        return images.data_uri(encoded)

    async def _reference_urls(self, batch: _Batch, member: _Member) -> list[str]:
        """The references' addresses, made once for the whole batch."""
        if not batch.job.question.references:
            return []
        if batch.reference_urls is None:
            batch.reference_urls = asyncio.create_task(self._place_references(batch, member))
        return await asyncio.shield(batch.reference_urls)

    async def _place_references(self, batch: _Batch, member: _Member) -> list[str]:
        """One after the other: what another job has just encoded or uploaded is taken from there."""
        if all(reference.pixels is None for reference in batch.job.question.references):
            return [reference.url for reference in batch.job.question.references]
        async with self._placing:
            return [await self._place_reference(batch, member, each) for each in batch.job.question.references]

    async def _place_reference(self, batch: _Batch, member: _Member, reference: request.Reference) -> str:
        if reference.pixels is None:
            return reference.url
        pixels, upload = images.to_pixels(reference.pixels), batch.job.options.upload
        key = await self._in_thread(lambda: (images.pixel_hash(pixels), upload))
        if key not in self._placed:
            before = len(member.notes)
            url = await self._network.run(lambda: self._place(pixels, upload, member))
            while len(self._placed) >= REFERENCES_KEPT:
                del self._placed[next(iter(self._placed))]
            self._placed[key] = url, member.notes[before:]
        else:
            member.notes += self._placed[key][1]
        return self._placed[key][0]

    async def _id_from_owner(self, batch: _Batch, member: _Member, row: Row) -> Evaluation:
        while member.patience.remaining > 0:
            await asyncio.sleep(OWNER_POLL_S)
            current = await self._in_thread(lambda: batch.journal.get(row.id))
            if current.evaluation_id:
                return Evaluation(id=current.evaluation_id)
            if current.state != OPEN:
                raise errors.NotJudgedError(
                    f"Another process asked the same and its request was not taken ({current.failure_code}). "
                    "Nothing was sent from here: run again."
                )
        raise errors.EvaluationTimeoutError(
            "Another machine submitted this evaluation and has not noted its id yet. Nothing was sent; run again."
        )

    # waiting

    async def _wait(self, batch: _Batch, member: _Member, row: Row, evaluation: Evaluation) -> Evaluation:
        """Look until the evaluation is terminal; an outage does not lose it."""
        self._pending += 1
        try:
            return await self._look_until_terminal(batch, member, row, evaluation)
        finally:
            self._pending -= 1

    async def _look_until_terminal(
        self, batch: _Batch, member: _Member, row: Row, evaluation: Evaluation
    ) -> Evaluation:
        evaluation_id = str(evaluation.id)
        submitted = time.monotonic() - self._age(row)
        delay = self._next_delay(0.0, batch.expected, self._pending) if row.evaluation_id is None else 0.0
        trouble = ""
        while not evaluation.is_terminal:
            if member.patience.remaining <= 0:
                raise _timed_out(evaluation_id, batch.job.options.timeout_s, trouble)
            await asyncio.sleep(min(delay, member.patience.remaining))
            try:
                reading = self._network.run(
                    lambda: self.client.get_evaluation(evaluation_id, patience=member.patience)
                )
                evaluation = await _within(member.patience, reading)
                trouble = batch.progress.trouble = ""
            except OUTAGES as error:
                if error.code == "REDIRECT_REFUSED":
                    raise
                trouble = str(error)
                batch.progress.trouble = f"Runflow does not answer ({error.code}), still waiting"
            except errors.NotFoundError as error:
                if row.evaluation_id is None and time.monotonic() - submitted < VISIBLE_WITHIN_S:
                    trouble = str(error)
                else:
                    await self._in_thread(lambda: self._noted(lambda: batch.journal.abandon(row), None))
                    raise _gone(evaluation_id, error) from error
            except errors.ApiError as error:
                error.message += f" Evaluation {evaluation_id} was submitted and is paid once: run again to pick it up."
                raise
            delay = self._next_delay(time.monotonic() - submitted, batch.expected, self._pending)
        return evaluation

    def _age(self, row: Row) -> float:
        """How long ago an earlier prompt submitted it, by clocks that may disagree."""
        return 0.0 if row.submitted_at is None else max(0.0, self._now() - row.submitted_at)

    def _expected(self, journal: Journal, job_class: str) -> polling.Window | None:
        return polling.window(self._noted(lambda: journal.durations(job_class), []))

    async def _read_full(self, member: _Member, evaluation: Evaluation) -> Evaluation | None:
        """The completed answer with judges, action and gate failures; ``None`` where it cannot be read now."""
        evaluation_id = str(evaluation.id)
        try:
            reading = self._network.run(
                lambda: self.client.get_evaluation(evaluation_id, embed=FULL, patience=member.patience)
            )
            full = await _within(member.patience, reading)
        except RunflowError as error:
            # The verdict itself is known and paid: it is not thrown away for want of its details.
            member.notes.append(f"the details of the verdict could not be read: {error}")
            return None
        return full if full.status_code == COMPLETED else None

    # --- journal and prices -----------------------------------------------------------------------

    async def _begin(self, job: Job, asked: list[_Member]) -> tuple[Journal, list[Row]]:
        """The journal in use and a row for each member: all of them may be paid for, or none is sent."""
        price = await self.price(job.options.job_class) if self.config.max_credits_per_day is not None else None

        def begin() -> tuple[Journal, list[Row]]:
            asks = [self._ask_for(job, member.subject.pixel_hash, price) for member in asked]
            try:
                journal = self.journal()
                return journal, self._rows(journal, asks)
            except JournalError as error:
                asked[0].notes.append(f"it is not known whether this was paid before: {error}")
                journal = self._forget_journal(error)
                return journal, self._rows(journal, asks)

        return await self._in_thread(begin)

    def _ask_for(self, job: Job, pixel_hash: str, price: Decimal | None) -> Ask:
        named = request.request_hash(pixel_hash, job.question, job.options, self.config.base_url)
        return Ask(
            request_hash=named,
            account="",
            price=price,
            job_class=job.options.job_class,
            prompt_token=job.prompt_token,
            reuse=job.options.reuse,
            generation_prompt=job.question.generation_prompt,
            pixel_hash=pixel_hash,
        )

    def _rows(self, journal: Journal, asks: list[Ask]) -> list[Row]:
        return journal.begin(self._with_account(journal, asks), _limits(self.config))

    def _with_account(self, journal: Journal, asks: list[Ask]) -> list[Ask]:
        account = journal.account(self.config.require_key(), self.config.organization_id)
        return [replace(ask, account=account) for ask in asks]

    def journal(self) -> Journal:
        """The journal, opened on first use. Raises ``JournalError`` where that cannot be done."""
        with self._opening:
            if self._journal is None:
                keep = self.config.keep_prompts
                url, directory = self.config.journal_url, self.config.journal_directory(self._directory)
                self._journal = Journal.open(url, directory, now=self._now, keep_prompts=keep)
            return self._journal

    def _forget_journal(self, error: JournalError) -> Journal:
        """Go on with a journal in memory: this process still pays nothing twice."""
        with self._opening:
            if self._journal is not None and self._journal is self._fallback:
                return self._journal  # another prompt was faster
            log.warning("%s Going on without it: it is not known what was paid before.", error)
            self._journal = self._fallback = Journal.in_memory()
            return self._journal

    def _tidy(self, journal: Journal, rows: list[Row]) -> None:
        """Give back the budget of what was never sent, and once in a while forget what is old."""
        for row in {row.id: row for row in rows if row.is_new}.values():
            if self._noted(functools.partial(journal.askers, row), 2) == 1:  # nobody else is about to send it
                self._noted(functools.partial(journal.release, row), False)
        if not self._pruned:
            self._pruned = True
            days, count = self.config.retention_days, self.config.retention_evaluations
            self._noted(lambda: journal.prune(older_than_days=days, at_most=count), 0)

    def _note_submitted(self, batch: _Batch, row: Row, evaluation: Evaluation) -> None:
        batch.journal.submitted(row, str(evaluation.id), evaluation.org_id)
        if evaluation.org_id and not self.config.organization_id:
            batch.journal.learn_account(self.config.require_key(), evaluation.org_id)

    def _note_answer(self, batch: _Batch, member: _Member, row: Row, evaluation: Evaluation) -> None:
        def note() -> None:
            batch.journal.finished(
                row,
                evaluation.to_json(),
                completed=evaluation.status_code == COMPLETED,
                cost=evaluation.cost,
                failure_code=evaluation.failure_code,
                duration_s=_took(evaluation) or (_since(member) if row.is_new else None),
            )

        self._noted(note, None)

    def _noted(self, use: Callable[[], T], otherwise: T) -> T:
        """Use the journal; where it fails, say so and go on: it never stops an evaluation."""
        try:
            return use()
        except JournalError as error:
            log.warning("%s Going on without it: a later run cannot know what was paid.", error)
            return otherwise

    async def price(self, job_class: str) -> Decimal | None:
        """The quoted price of a class in credits; ``None`` where it cannot be read."""
        try:
            classes = await self._network.run(self.client.job_classes)
        except RunflowError as error:
            log.warning("The price of an evaluation could not be read: %s", error)
            return None
        price = next((known.price for known in classes if known.code == job_class), None)
        try:
            return Decimal(price) if price else None
        except InvalidOperation:
            return None

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await self._processor.run(call)


# --- what is said -------------------------------------------------------------------------------------

NEVER_ARRIVED = " Nothing arrived at Runflow and nothing was paid: run again."
MAYBE_ACCEPTED = " The submission may have been accepted; nothing is paid twice: run again, and it is recognised."


def settled(verdicts: Sequence[Verdict], policy: Policy) -> BatchVerdict:
    """The batch, or the error that stops the workflow: any fatal one, else the first where stop is the policy."""
    failed = [(index, verdict.error) for index, verdict in enumerate(verdicts) if verdict.error is not None]
    fatal = next((error for _, error in failed if isinstance(error, FATAL)), None)
    if not failed or not (fatal or policy.if_not_judged == "stop"):
        return BatchVerdict(tuple(verdicts))
    error = fatal or failed[0][1]
    error.unjudged = tuple(index for index, _ in failed)
    if len(verdicts) > 1:
        kept = len(verdicts) - len(failed)
        again = sum(_is_paid_anew(each) for _, each in failed)
        error.message += f" {kept} of {len(verdicts)} kept; run again pays {again}."
    if fatal is None:
        error.message += " To go on without a verdict, set if_not_judged to fail or pass."
    raise error


def _gone(evaluation_id: str, error: errors.NotFoundError) -> RunflowError:
    return errors.NotJudgedError(
        f"Runflow does not know evaluation {evaluation_id} any more. It may have been billed. Run again to start, and "
        "pay, a new one.",
        code=error.code,
        evaluation_ids=[evaluation_id],
    )


async def _within(patience: Patience, work: Awaitable[T], cost: str = "") -> T:
    """Wait for ``work`` no longer than patience lasts: a server that drips its answer is left behind.

    ``cost`` is what the error says about money then.
    """
    try:
        return await asyncio.wait_for(work, max(patience.remaining, 0.0) + GRACE_S)
    except asyncio.TimeoutError as error:
        text = f"Runflow did not finish its answer in the time that timeout_s allows.{cost}"
        raise errors.NetworkError(text, code="TIMEOUT", tried=("timed out",)) from error


NEW_BILL_NEXT_TIME = (errors.EvaluationFailedError, errors.BudgetError, errors.ConfigurationError, *UNBILLED)


def _is_paid_anew(error: RunflowError) -> bool:
    """Whether the next run starts another evaluation, rather than taking up this one."""
    return isinstance(error, NEW_BILL_NEXT_TIME) and not getattr(error, "is_resend", False)


def _needs_key() -> RunflowError:
    return errors.NeedsKeyError(
        f"The instructions or references ask about the content of the image: that needs a Runflow key "
        f"({WHERE_TO_SET_THE_KEY}); set judge to local for pixel checks only. Nothing was sent or paid."
    )


def _ended_without_verdict(evaluation: Evaluation) -> RunflowError:
    paid = f"It cost {evaluation.cost} credits" if evaluation.cost else "Nothing was charged"
    return errors.EvaluationFailedError(
        f"Runflow ended evaluation {evaluation.id} without a verdict: "
        f"{evaluation.failure_code or 'no reason given'}. {paid}. Run again to start a new evaluation.",
        evaluation_ids=[str(evaluation.id)],
    )


def _timed_out(evaluation_id: str, timeout_s: int, trouble: str) -> RunflowError:
    last = f" Last answer: {trouble}" if trouble else ""
    return errors.EvaluationTimeoutError(
        f"No verdict within {timeout_s} s. Evaluation {evaluation_id} goes on at Runflow and is paid once: "
        f"run again to pick up its verdict, or raise timeout_s.{last}",
        evaluation_ids=[evaluation_id],
    )


def _maybe_billed(age_s: float) -> RunflowError:
    return errors.NotJudgedError(
        f"This was submitted {age_s / 3600:.0f} h ago and no answer is known: it may have been billed. It is too old "
        "to be sent again under the same key. Run again to start, and pay, a new evaluation.",
        code="MAY_HAVE_BEEN_BILLED",
    )


def _limits(config: Config) -> Limits:
    credits = config.max_credits_per_day
    return Limits(
        per_prompt=config.max_evaluations_per_prompt,
        per_day=config.max_evaluations_per_day,
        credits_per_day=None if credits is None else Decimal(str(credits)),
    )


def _took(evaluation: Evaluation) -> float | None:
    """By Runflow's clock, which knows nothing of our upload and of when we looked."""
    return polling.seconds_between(evaluation.submitted_at, evaluation.completed_at)


def _since(member: _Member) -> float:
    return time.monotonic() - member.started


async def tick(progress: Progress, report: Report) -> None:
    while True:
        report(progress)
        await asyncio.sleep(TICK_S)
