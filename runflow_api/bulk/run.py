"""The rows of a manifest on their way: so many at once, whatever their number, and every one gets its verdict.

What would meet every row is waited out if it may pass (an outage), and otherwise ends the run; what concerns one row is
its verdict, *unknown* with a code. Nothing is lost by an end: the journal has what was paid, and the same run goes on
later where this one was.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from .. import errors
from ..background import Workers
from ..evaluation.evaluator import Evaluator, Job
from ..evaluation.failures import OUTAGES, OWN_FIELDS, Scope, scope_of
from ..evaluation.job import requests_for
from ..evaluation.question import ImageUrl, JudgeChoice
from ..evaluation.verdict import RUNFLOW, UNKNOWN, Policy, Subject, Verdict, not_judged
from ..journal.journal import JournalError
from .manifest import Manifest, ManifestRow
from .question import PASSED_ON, RowJob, RowReader, UnusableRowError
from .verdicts import Parts, record_of

OWN_OF_A_ROW = OWN_FIELDS | {
    "generation_prompt", "evaluation_instructions", "task_type", "task_description", "reference_images", "references",
    "input_attributes", "run_id", "client_ref", "job_class", "callback_url", "manifest", "image",
}  # fmt: skip
"""What each row has for itself: if Runflow refuses it, the next one is asked all the same."""
OPEN_PARTS = 4
"""So many parts may wait for their last verdicts; their rows are what takes memory."""
SPENT_EVERY_S = 15.0
NO_LIMIT = 10_000_000
"""The limit per queued prompt is one of the graph: here the person sees the sum, and confirms it."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
"""While Runflow or the journal is away."""
SUSPICIOUS = 50
"""If none of so many first rows could be judged, for one and the same reason, none of the others will be."""
NEVER_PASSES = Policy(if_not_judged="fail")


@dataclass(frozen=True)
class Settings:
    """How a manifest is judged.

    ``shard`` is (which, of how many), counted from 0. ``patience_s`` is how long an outage may take.
    """

    judge: JudgeChoice = "auto"
    policy: Policy = NEVER_PASSES
    in_flight: int = 64
    part_rows: int = 1_000
    shard: tuple[int, int] = (0, 1)
    retry: bool = False
    kept: tuple[str, ...] = ()
    wait: bool = True
    patience_s: float = 3_600.0


@dataclass(eq=False)
class Tally:
    """How far a run is. ``skipped`` rows were judged by an earlier one."""

    outcomes: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    reused: int = 0
    skipped: int = 0
    waiting: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def add(self, verdict: Verdict) -> None:
        self.outcomes[str(verdict.outcome)] += 1
        self.reused += verdict.reused
        if verdict.error is not None:
            self.codes[verdict.error.code] += 1


@dataclass(eq=False)
class _Part:
    """Rows that are written together; ``size`` is how many there are, once that is known."""

    number: int
    size: int | None = None
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    dead: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return self.size is not None and len(self.records) == self.size

    @property
    def in_order(self) -> list[dict[str, Any]]:
        return [self.records[number] for number in sorted(self.records)]


class BulkRun:
    """Judges the rows of a manifest with one evaluator. Its coroutines run on the background loop.

    ``token`` names the run for the journal: whatever was paid for it counts against one budget, and an evaluation that
    failed is not started again by it.
    """

    def __init__(self, evaluator: Evaluator, reader: RowReader, settings: Settings, token: str) -> None:
        self.tally = Tally()
        self.stopped: errors.RunflowError | None = None
        self.evaluator = evaluator
        self.reader = reader
        self.settings = settings
        self.token = token
        evaluator.bookkeeper.expect_many()
        self._judge = evaluator.resolve(settings.judge)
        self._readers = Workers(os.cpu_count() or 1)
        self._holding = asyncio.Semaphore(evaluator.config.concurrency)
        self._under_way = asyncio.Semaphore(settings.in_flight)
        self._open: dict[int, _Part] = {}
        self._row_ended = asyncio.Event()
        self._failure: BaseException | None = None
        self._closed_until, self._pause_s = 0.0, FIRST_PAUSE_S
        self._last_success = time.monotonic()
        self._spent: Decimal | None = None
        self._spent_at = 0.0

    @property
    def spent(self) -> Decimal | None:
        """What the run has cost so far, in all processes and reservations included; ``None`` if that is not known.

        Looked up now and then. Blocks.
        """
        if time.monotonic() - self._spent_at >= SPENT_EVERY_S:
            try:
                self._spent = self.evaluator.journal().spent_for(self.token).credits
            except JournalError:
                self._spent = None
            self._spent_at = time.monotonic()
        return self._spent

    @property
    def manifest(self) -> Manifest:
        return self.reader.manifest

    # --- all rows ---------------------------------------------------------------------------------

    async def judge_rows(self, rows: Sequence[ManifestRow]) -> list[Verdict | None]:
        """The verdicts of these rows, in order; ``None`` for those that have none because the run was stopped."""

        async def judge(row: ManifestRow) -> Verdict | None:
            async with self._under_way:
                verdict = await self._verdict(row)
            if verdict is not None:
                self.tally.add(verdict)
            return verdict

        tasks = [asyncio.ensure_future(judge(row)) for row in rows]
        await _all(tasks)
        return [task.result() for task in tasks]

    async def judge_all(self, parts: Parts) -> None:
        """Judge every row of the shard that no part has, and write the parts."""
        tasks: set[asyncio.Task[None]] = set()
        rows = self.manifest.shard(*self.settings.shard)
        numbered = itertools.groupby(enumerate(rows), key=self._part_of)
        try:
            while not self._is_over:
                found = await self._readers.run(self._next_rows, numbered, parts)
                if found is None:
                    break
                await self._start_part(found, parts, tasks)
            await _all(list(tasks))
            if self._failure is not None:
                raise self._failure
        finally:
            for task in tasks:
                task.cancel()

    @property
    def _is_over(self) -> bool:
        return self.stopped is not None or self._failure is not None

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """What a row cannot survive, such as a full disk, ends the run."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
        self._row_ended.set()

    def write_partials(self, parts: Parts) -> None:
        """Keep what is there of parts that this run does not finish. Blocks."""
        for part in self._open.values():
            parts.write_partial(part.number, part.in_order)

    def _part_of(self, numbered: tuple[int, ManifestRow]) -> int:
        return numbered[0] // self.settings.part_rows

    def _next_rows(
        self, numbered: Iterator[tuple[int, Iterator[tuple[int, ManifestRow]]]], parts: Parts
    ) -> tuple[int, list[ManifestRow]] | None:
        """The rows of the next part that is to be judged; ``None`` if there is none."""
        for number, rows in numbered:
            if parts.is_there(number, retry=self.settings.retry):
                self.tally.skipped += sum(1 for _ in rows)
                continue
            return number, [row for _, row in rows]
        return None

    async def _start_part(
        self, found: tuple[int, list[ManifestRow]], parts: Parts, tasks: set[asyncio.Task[None]]
    ) -> None:
        while len(self._open) >= OPEN_PARTS and not self._is_over:
            self._row_ended.clear()
            await self._row_ended.wait()
        number, rows = found
        part = self._open[number] = _Part(number, len(rows))
        for row in rows:
            await self._under_way.acquire()
            if self._is_over:
                self._under_way.release()
                return
            task = asyncio.create_task(self._judge_row(row, part, parts))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(self._note_end)

    async def _judge_row(self, row: ManifestRow, part: _Part, parts: Parts) -> None:
        try:
            verdict = await self._verdict(row)
        finally:
            self._under_way.release()
        if verdict is None:  # the run is stopped: this row is one of the next
            return
        self.tally.add(verdict)
        part.records[row.number] = record_of(row, verdict, self.settings.kept)
        if verdict.outcome == UNKNOWN:
            part.dead.append(self._dead_letter(row, verdict))
        if part.is_whole:
            await self._readers.run(_write, parts, part)
            del self._open[part.number]

    def _dead_letter(self, row: ManifestRow, verdict: Verdict) -> dict[str, Any]:
        """The row again, with the reason; its image is found from everywhere."""
        image = row.values.get("image")
        error = verdict.error
        reason = {"code": error.code if error else None, "message": str(error or ""), "row": row.number}
        if isinstance(image, str) and image and not image.startswith(PASSED_ON):
            reason["image"] = self.manifest.address(image)
        return {**row.values, **reason}

    # --- one row ----------------------------------------------------------------------------------

    async def _verdict(self, row: ManifestRow) -> Verdict | None:
        """The verdict of one row; ``None`` if the run is stopped before it has one."""
        while not self.stopped:
            await self._wait_while_closed()
            verdict = await self._try(row)
            if verdict is None:
                return None
            error = verdict.error
            scope = None if error is None else self._scope_of(error)
            if error is None or scope is Scope.ONE_IMAGE:
                return self._succeeded(verdict)
            may_pass = scope is Scope.FOR_NOW and isinstance(error, (*OUTAGES, JournalError))
            if may_pass and time.monotonic() - self._last_success < self.settings.patience_s:
                self._close_for_a_while(error)
            else:
                self.stopped = self.stopped or error
        return None

    def _scope_of(self, error: errors.RunflowError) -> Scope:
        return Scope.ONE_IMAGE if isinstance(error, UnusableRowError) else scope_of(error, OWN_OF_A_ROW)

    def _succeeded(self, verdict: Verdict) -> Verdict:
        """Something works. If nothing ever did, and always for one reason, it is not the rows' fault."""
        if verdict.error is None:
            self._last_success, self._pause_s, self.tally.waiting = time.monotonic(), FIRST_PAUSE_S, ""
        elif self.tally.codes[verdict.error.code] == self.tally.done >= SUSPICIOUS:
            self.stopped = self.stopped or verdict.error
        return verdict

    def _close_for_a_while(self, error: errors.RunflowError) -> None:
        """Whoever notices first sets the pause for all; it grows while nothing helps."""
        if time.monotonic() >= self._closed_until:
            self._closed_until = time.monotonic() + self._pause_s
            self.tally.waiting = f"waiting {self._pause_s:.0f} s ({error.code})"
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    async def _wait_while_closed(self) -> None:
        while (left := self._closed_until - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def _try(self, row: ManifestRow) -> Verdict | None:
        """One try. The image is in memory only until Runflow has it."""
        async with _Held(self._holding) as held:
            if self.stopped:
                return None
            try:
                row_job = await self._readers.run(self._read, row)
            except UnusableRowError as error:
                return not_judged(error, NEVER_PASSES, Subject(), judge=self._judge)
            if isinstance(row_job.image, ImageUrl):
                held.release()  # an address takes no room
            job = Job(
                [row_job.image],
                row_job.question,
                self.settings.judge,
                self.settings.policy,
                row_job.options,
                self.token,
                self.settings.wait,
                on_submitted=_Release(row_job, held),
                image_settings=row_job.image_settings,
            )
            subject = Subject(row_job.question.generation_prompt, await self._readers.run(_hash_of, row_job))
            try:
                return (await self.evaluator.evaluate(job))[0]
            except errors.RunflowError as error:
                return not_judged(error, NEVER_PASSES, subject, judge=self._judge)

    def _read(self, row: ManifestRow) -> RowJob:
        """The row as its files are read here; or as another decoder reads them, if that was paid for and this was not.

        Raises ``UnusableRowError``. Blocks.
        """
        row_job, otherwise = self.reader.read(row), self.reader.otherwise
        if otherwise is None or not row_job.depends_on_decoder or self._judge != RUNFLOW or not row_job.options.reuse:
            return row_job
        if self._is_paid(row_job):
            return row_job
        read_otherwise = otherwise.read(row)
        return read_otherwise if self._is_paid(read_otherwise) else row_job

    def _is_paid(self, row_job: RowJob) -> bool:
        asked = row_job.image.hash, row_job.question, row_job.options
        return self.evaluator.bookkeeper.paid(requests_for([asked], self.evaluator.config.base_url))[0]


def _write(parts: Parts, part: _Part) -> None:
    parts.write(part.number, part.in_order)
    parts.write_dead(part.number, sorted(part.dead, key=_number_of))


def _number_of(dead: Mapping[str, Any]) -> int:
    return int(dead["row"])


def _hash_of(row_job: RowJob) -> str:
    return row_job.image.hash


class _Held:
    """A slot that can be given back before its block ends."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._is_held = False

    async def __aenter__(self) -> _Held:
        await self._slots.acquire()
        self._is_held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._slots.release()


@dataclass(frozen=True)
class _Release:
    """Its image is not needed any more: the next one may be read."""

    row_job: RowJob
    held: _Held

    def __call__(self, _: int) -> None:
        if not isinstance(self.row_job.image, ImageUrl):
            self.row_job.image.forget()
        self.held.release()


async def _all(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Await all; if one raises or this is cancelled, the others are cancelled."""
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
