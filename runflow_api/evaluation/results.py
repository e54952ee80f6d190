"""What becomes of a submission: its id, where somebody else is sending it, and its result."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from decimal import Decimal

import pydantic

from .. import background, errors
from ..api.client import RunflowClient
from ..api.models import Evaluation, EvaluationStatus
from ..background import Workers
from ..journal.journal import JournalError, Row, RowState
from . import failures
from .bookkeeping import Bookkeeper
from .job import BatchItem
from .polling import Window, poll_until_terminal
from .verdict import RUNFLOW, UNKNOWN, Policy, Subject, Verdict

FULL = ("judges", "action", "gate_failures")
"""Embedded in the last read only: polls stay small."""
VISIBLE_WITHIN_S = 10.0
"""So long an id that was just given may not be found yet."""
OWNER_POLL_S = 1.0
OWNER_WITHIN_S = 180.0
"""So long after a request was begun its owner may take to keep the id: five attempts of half a minute, and pauses."""
OWNER_AT_LEAST_S = 10.0
"""So long the id of an older request is looked for: its owner may just be sending it again."""

log = logging.getLogger("runflow_evaluate")


class Results:
    """Waits for the submissions of all batches of one evaluator. ``now`` is Unix time."""

    def __init__(
        self,
        client: RunflowClient,
        bookkeeper: Bookkeeper,
        network: Workers,
        processor: Workers,
        next_delay: Callable[[float, Window | None, int], float],
        now: Callable[[], float],
    ) -> None:
        self._client = client
        self._bookkeeper = bookkeeper
        self._network = network
        self._processor = processor
        self._next_delay = next_delay
        self._now = now
        self._pending = 0

    async def id_from_owner(self, item: BatchItem) -> Evaluation:
        """The id that whoever fixed the body keeps; what nobody can be expected to keep is not waited for."""
        age = max(0.0, self._now() - item.row.created_at)
        ends = time.monotonic() + min(max(OWNER_AT_LEAST_S, OWNER_WITHIN_S - age), item.batch.deadline.remaining)
        while True:
            current = await self._processor.run(self._bookkeeper.current, item.row)
            if current.evaluation_id:
                return Evaluation(id=current.evaluation_id)
            if current.state != RowState.OPEN:
                raise failures.other_request_ended(current)
            if (left := ends - time.monotonic()) <= 0:
                raise failures.id_unknown()
            await asyncio.sleep(min(OWNER_POLL_S, left))

    async def read_once(self, item: BatchItem, evaluation_id: str) -> Evaluation:
        """The evaluation as it is now, kept in the journal if it has ended; an outage says nothing new."""
        try:
            latest = await self._fetch(item, evaluation_id, time.monotonic() - self._age(item.row), True)
        except failures.OUTAGES as error:
            item.notes.append(f"whether it has ended could not be read ({error.code})")
            return Evaluation(id=evaluation_id)
        if latest.is_terminal:
            await self._record(item, latest, None)
        return latest

    async def wait(self, item: BatchItem, evaluation_id: str) -> Evaluation:
        """The terminal evaluation, kept in the journal; an outage does not lose it."""
        batch, row = item.batch, item.row
        submitted = time.monotonic() - self._age(row)

        def next_delay() -> float:
            delay = self._next_delay(time.monotonic() - submitted, batch.usual, self._pending)
            share = self._client.transport.limiter.share
            # Where the fleet keeps a rate, half of it is left to submissions.
            return delay if share is None else max(delay, 2 * self._pending / share)

        self._pending += 1
        try:
            polled = await poll_until_terminal(
                functools.partial(self._fetch, item, evaluation_id, submitted),
                batch.deadline,
                batch.progress,
                next_delay=next_delay,
                first_delay=next_delay() if row.evaluation_id is None else 0.0,
            )
        except errors.NotFoundError as error:
            await self._processor.run(self._bookkeeper.abandon, row)
            raise failures.unknown_by_now(evaluation_id, error) from error
        except errors.ApiError as error:
            error.cost = f"Evaluation {evaluation_id} was submitted and is paid for once: run again to pick it up."
            error.may_have_been_accepted = True
            raise
        finally:
            self._pending -= 1
        latest = polled.latest
        if latest is None or not latest.is_terminal:
            raise failures.timed_out(evaluation_id, batch.job.options.timeout_s, polled.trouble)
        if polled.is_whole or latest.status_code == EvaluationStatus.FAILED:
            await self._record(item, latest, batch.seconds if row.is_new else None)
        else:  # not kept as finished: the next run reads what is missing, for free
            item.notes.append(f"the details of the verdict could not be read: {polled.trouble}")
        return latest

    async def _record(self, item: BatchItem, latest: Evaluation, seconds: float | None) -> None:
        """In a thread of its own, for which none of the others waits: what comes at once is kept in one transaction."""
        recording = background.call(self._bookkeeper.record_result, item.row, latest, seconds)
        item.is_billed_elsewhere = not await asyncio.wrap_future(recording)

    async def _fetch(self, item: BatchItem, evaluation_id: str, submitted: float, whole: bool) -> Evaluation:
        """``submitted`` is a moment of ``time.monotonic``: an id that was just given may not be found yet."""
        get, embed = self._client.get_evaluation, FULL if whole else ()
        try:
            return await self._network.run(get, evaluation_id, embed=embed, deadline=item.batch.deadline)
        except errors.NotFoundError:
            if item.row.evaluation_id is None and time.monotonic() - submitted < VISIBLE_WITHIN_S:
                return Evaluation(id=evaluation_id)
            raise

    def _age(self, row: Row) -> float:
        """How long ago an earlier prompt submitted it, by clocks that may disagree."""
        return 0.0 if row.submitted_at is None else max(0.0, self._now() - row.submitted_at)


def not_yet(evaluation: Evaluation, policy: Policy, subject: Subject, *, reused: bool) -> Verdict:
    """Under way, and not to be waited for: unknown, but nothing that stops a workflow."""
    return Verdict(
        outcome=UNKNOWN,
        passed=policy.if_not_judged == "pass",
        score=0.0,
        issues=(f"not judged yet: evaluation {evaluation.id} is {evaluation.status_code or 'under way'}",),
        improved_prompt=subject.prompt,
        judge=RUNFLOW,
        subject=subject,
        evaluation=evaluation,
        cost=Decimal(0) if reused else evaluation.cost,
        reused=reused,
    )


def known_answer(row: Row) -> Evaluation | None:
    """The answer in the journal; ``None`` if there is none yet, or if a damaged one can be read again."""
    try:
        answer = row.answer
        return None if answer is None else Evaluation.model_validate(answer)
    except (JournalError, pydantic.ValidationError) as error:
        if row.evaluation_id is None:
            raise errors.NotJudgedError(
                "An answer in the journal is damaged and does not name its evaluation."
            ) from error
        log.warning("The journal's answer to evaluation %s is damaged; it is read again.", row.evaluation_id)
        return None
