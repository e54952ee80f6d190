"""The evaluator's side of the journal, on good days and on bad ones.

A journal that fails once is tried again: at the next evaluation, and by itself a few seconds later. Meanwhile a
stand-in in memory keeps what this process knows, so that nothing it has paid is paid again, and gives it to the journal
when that is back. If the person has set a limit per day or in credits, or if other machines share the journal, nothing
new is begun meanwhile: what others have asked and spent cannot be known.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from ..api.models import Evaluation, EvaluationStatus
from ..errors import BudgetError
from ..journal.begin import RESERVED_S
from ..journal.errors import nothing_sent, tried_again
from ..journal.journal import Journal, JournalError, Limits, Request, Row, RowState
from ..journal.spool import name_for
from ..journal.stand_in import Remembered, StandIn
from ..settings.config import Config
from . import polling
from .reservations import Bills, OneAtATime, Reservations

NOTHING_NEW = Limits(per_prompt=0, per_day=0)
RETRY_S = 5.0
"""How long a journal that failed is left alone, except by an evaluation that begins."""

log = logging.getLogger("runflow_evaluate")
P = ParamSpec("P")
T = TypeVar("T")


class Bookkeeper:
    """Owns the journal. ``now`` is Unix time. Every method may block, and may be called from any thread.

    What is recorded never raises: if the journal cannot keep it, it is kept in memory and carried over later.
    """

    def __init__(self, config: Config, directory: Path, now: Callable[[], float]) -> None:
        self.budget: Decimal | None = None
        """Credits that all of one prompt, or of one run of the command line, may cost."""
        self._config = config
        self._directory = config.journal_directory(directory)
        self._now = now
        self._lock = threading.RLock()
        self._journal: Journal | None = None
        self._stand_in: StandIn | None = None
        self._seen = Remembered()
        self._ids: dict[str, int] = {}
        self.usual_durations = polling.UsualDurations(lambda name: self._try_journal(Journal.durations, name))
        self._reservations = Reservations()
        self._beginning = OneAtATime()
        self._bills = Bills()
        self._organization = ""
        self._expects_many = False
        self._is_learned = self._is_tidy = self._is_pruned = self._is_closed = False
        self._trouble = ""
        self._retry_at = 0.0
        self._timer: threading.Timer | None = None

    @property
    def trouble(self) -> str:
        """What is the matter with the journal and what to do, in one line; "" if it works."""
        return self._trouble

    def journal(self) -> Journal:
        """The journal, opened on first use. Raises ``JournalError`` if it cannot be opened."""
        with self._lock:
            if self._journal is None:
                url, keep = self._config.journal_url, self._config.keep_prompts
                self._journal = Journal.open(url, self._directory, now=self._now, keep_prompts=keep)
                if self._expects_many:
                    self._journal.expect_many()
            return self._journal

    def expect_many(self) -> None:
        """Many rows are under way and nobody waits for any one of them, as in a run over a manifest."""
        self._expects_many = True
        if self._journal is not None:
            self._journal.expect_many()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._timer is not None:
                self._timer.cancel()
            if self._stand_in is not None:
                with suppress(JournalError):
                    self.journal().store.be_quick(False)  # it is the last time
                    self._recovered_journal()
            if self._journal is not None:
                self._journal.close()

    def begin(self, requests: Sequence[Request]) -> list[Row]:
        """A row for each, in order: all of them may be paid for. Whoever begins must ``release`` the rows at the end.

        Raises ``BudgetError`` if a limit would be exceeded, and ``JournalError`` if the journal cannot be used and is
        needed: the person has set a limit, or other machines share it. Nothing is reserved then.
        """
        with self._beginning.alone_with({request.request_hash for request in requests}):
            try:
                journal, notice = self._recovered_journal()
                rows = journal.begin(self._with_account(journal, requests), self._limits())
                if not self._is_current(journal):  # deleted meanwhile, and these rows with it
                    journal, notice = self._recovered_journal()
                    rows = journal.begin(self._with_account(journal, requests), self._limits())
                self._note_recovery(rows, notice)
            except JournalError as error:
                self._fail(error)
                rows = self._begin_without(requests, error)
        self._reservations.join(rows)
        return rows

    def estimate(self, requests: Sequence[Request]) -> list[bool]:
        """Which of these ``begin`` would pay for. Nothing is written. Raises as ``begin`` would."""
        try:
            journal = self.journal()
            return journal.estimate(self._with_account(journal, requests), self._limits())
        except JournalError as error:
            self._fail(error)
            if self._config.needs_journal:
                raise nothing_sent(error, is_shared=self._config.has_shared_journal) from error
            with self._lock:
                journal = self._stand_in_with().journal
                return journal.estimate(self._with_account(journal, requests), self._limits())

    def paid(self, requests: Sequence[Request]) -> list[bool]:
        """Which of these have their verdict, or are under way: to ask again costs nothing. Nothing is written.

        A journal that cannot be asked knows nothing; what that means for money is said where it is paid.
        """
        try:
            journal = self.journal()
            rows = journal.known(self._with_account(journal, requests))
        except JournalError:
            return [False] * len(requests)
        sent = {row.request_hash for row in rows if row.state == RowState.OPEN and (row.evaluation_id or row.spooled)}
        there = sent | {row.request_hash for row in rows if row.state == RowState.COMPLETED}
        return [request.request_hash in there for request in requests]

    def release(self, rows: Sequence[Row]) -> None:
        """Whoever began these rows has ended: what was never sent, and nobody else waits for, gives its budget back."""
        leaving = self._reservations.leave(rows)
        with self._lock:
            unsent = [row for row in leaving if not self._seen.latest(row).may_have_been_sent]
            elsewhere = self._stand_in.changed if self._stand_in is not None else set[str]()
            here = [row for row in unsent if row.idempotency_key not in elsewhere]
            self._release_in_memory([row for row in unsent if row.idempotency_key in elsewhere])
        try:
            if here:
                self.journal().release([self._with_journal_id(row) for row in here])
            if not self._is_pruned:
                self._is_pruned = True
                self.journal().prune(older_than_days=self._config.retention_days, at_most=self._config.rows_kept)
        except JournalError as error:
            self._fail(error)
            with self._lock:
                self._release_in_memory(here)

    def _release_in_memory(self, rows: Sequence[Row]) -> None:
        if rows:
            self._stand_in_with(rows).release(rows)
            self._retry_soon()

    def fix_body(self, row: Row, body: bytes) -> bytes | None:
        """Fix the bytes to send for ``row`` and give them back: ``body``, or what was fixed before.

        ``None`` if nothing is to be sent from here: look at ``current(row)`` until the owner's id is there. Raises
        ``JournalError`` if it cannot be recorded and must be (as for ``begin``), or once the bookkeeper is closed:
        nothing is to be sent then.
        """
        self._require_open()
        if self._config.needs_journal or not self._use_stand_in(row):
            here = self._with_journal_id(row)
            try:
                fixed = self.journal().fix_body(here, body)
            except JournalError as error:
                self._fail(error)
                if self._config.needs_journal:
                    raise nothing_sent(error, is_shared=self._config.has_shared_journal) from error
            else:
                self._remember([replace(row, spool=name_for(row.id, fixed))] if fixed is not None else [])
                return fixed
        with self._lock:
            self._require_open()  # what memory takes after the end is kept by nobody
            return self._stand_in_with([row]).use(Journal.fix_body, row, body)

    def _require_open(self) -> None:
        if self._is_closed:
            raise JournalError("The journal is closed. Nothing was sent and nothing was paid.")

    def body(self, row: Row) -> bytes | None:
        """The bytes that were fixed for ``row``; ``None`` if there are none, or if they are not here.

        Raises ``JournalError`` if some were and cannot be looked up: others must not be sent in their place.
        """
        if self._use_stand_in(row):
            with self._lock:
                return self._stand_in_with([row]).use(Journal.body, row)
        try:
            return self.journal().body(self._with_journal_id(row))
        except JournalError as error:
            self._fail(error)
            if row.spooled:
                raise
            return None

    def current(self, row: Row) -> Row:
        """``row`` as it now is. Raises ``JournalError`` if that cannot be known."""
        with self._lock:
            kept = self._stand_in.row(row.idempotency_key) if self._stand_in and self._use_stand_in(row) else None
        return kept or self.journal().get(self._with_journal_id(row))

    def has_other_askers(self, row: Row) -> bool:
        """Whether another node, prompt or process has asked for the same row, and may be sending it right now."""
        here = self._reservations.count(row)
        if here > 1 or self._use_stand_in(row):
            return here > 1
        return (self._try_journal(Journal.askers, self._with_journal_id(row)) or 1) > 1

    def record_submission(self, row: Row, evaluation: Evaluation) -> None:
        """Runflow has taken it: keep the id, and learn whose organisation the key is."""
        self._record(Journal.record_submission, row, str(evaluation.id), evaluation.org_id)
        if evaluation.org_id and not self._config.organization_id:
            if evaluation.org_id != self._organization:
                self._organization, self._is_learned = evaluation.org_id, False
            with suppress(JournalError):  # it is learned from the next one, or when the journal is back
                self._learn_organization(self.journal())

    def record_result(self, row: Row, evaluation: Evaluation, seconds: float | None = None) -> bool:
        """Keep the terminal answer; whether its bill is this caller's to show, so that one bill is shown once.

        ``seconds``: how long it took if Runflow does not tell, if that is known.
        """
        # By Runflow's clock, which knows nothing of our upload and of when we looked.
        took = polling.seconds_between(evaluation.submitted_at, evaluation.completed_at)
        self._record(
            Journal.record_result,
            row,
            evaluation.to_json(),
            completed=evaluation.status_code == EvaluationStatus.COMPLETED,
            cost=evaluation.cost,
            failure_code=evaluation.failure_code,
            duration_s=took or seconds,
        )
        return self._bills.is_first(row)

    def record_refusal(self, row: Row, code: str) -> None:
        """Runflow refused to take it, and nothing sent before can have arrived: closed, not billed."""
        self._record(Journal.record_refusal, row, code)

    def abandon(self, row: Row) -> None:
        """Nobody will wait for it any more. It may have been billed, so it goes on counting."""
        self._record(Journal.abandon, row)

    def find_evaluation(self, evaluation_id: str) -> Row | None:
        """The newest row of that evaluation; ``None`` if there is none, or if the journal cannot be used."""
        found = self._try_journal(Journal.find_evaluation, evaluation_id)
        with self._lock:
            if found is None and self._stand_in is not None:
                found = self._stand_in.journal.find_evaluation(evaluation_id)
        return found

    def record_feedback(self, evaluation_id: str, is_positive: bool | None, reason: str | None) -> None:
        """Keep the feedback that Runflow has taken, if that can be done: Runflow has it anyway."""
        self._try_journal(Journal.record_feedback, evaluation_id, is_positive, reason)

    def _try_journal(self, method: Callable[Concatenate[Journal, P], T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return method(self.journal(), *args, **kwargs)
        except JournalError as error:
            log.info("%s", error)
            return None

    def _fail(self, error: JournalError) -> None:
        """Say what is the matter, in the log once, and leave the journal alone for a moment."""
        config = self._config
        trouble = tried_again(error, is_needed=config.needs_journal, is_shared=config.has_shared_journal)
        with self._lock:
            if trouble != self._trouble:
                log.warning("%s", trouble)
            self._trouble = trouble
            self._retry_at = time.monotonic() + RETRY_S
            if self._journal:
                self._journal.store.be_quick(True)

    def _begin_without(self, requests: Sequence[Request], error: JournalError) -> list[Row]:
        """What is known is given; anything new only if no limit of the person's could be passed."""
        known: list[Row] = []
        with suppress(JournalError):  # what cannot be written can often be read, and what was deleted be put back
            journal, _ = self._journal_in_place()
            known = journal.known(self._with_account(journal, requests))
        with self._lock:
            stand_in = self._stand_in_with(known)
            limits = NOTHING_NEW if self._config.needs_journal else self._limits()
            try:
                rows = stand_in.begin(self._with_account(stand_in.journal, requests), limits)
            except BudgetError:
                if self._config.needs_journal:
                    raise nothing_sent(error, is_shared=self._config.has_shared_journal) from error
                raise
            self._retry_soon()
            return rows

    def _record(
        self, method: Callable[Concatenate[Journal, Row, P], Row], row: Row, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Change a row where it is: in the journal, otherwise in memory, to be carried over."""
        if not self._use_stand_in(row):
            try:
                journal = self.journal()
                updated = method(journal, self._with_journal_id(row), *args, **kwargs)
                self._remember([updated])
                if self._is_current(journal):
                    return
            except JournalError as error:
                self._fail(error)
        with self._lock:
            try:
                self._stand_in_with([row]).use(method, row, *args, **kwargs)
                self._retry_soon()
            except JournalError as error:
                log.warning("%s A later run cannot know what was paid.", error)

    def _use_stand_in(self, row: Row) -> bool:
        """Whether ``row`` is to be looked for in memory: it is newer there, or the journal has just failed."""
        with self._lock:
            is_newer = self._stand_in is not None and row.idempotency_key in self._stand_in.changed
            return is_newer or time.monotonic() < self._retry_at

    def _stand_in_with(self, rows: Iterable[Row] = ()) -> StandIn:
        """The journal in memory: it begins with what this process has seen, and gets these rows as last seen."""
        wanted = list(rows)
        if self._stand_in is None:
            self._stand_in = StandIn(Journal.in_memory(now=self._now, keep_prompts=self._config.keep_prompts))
            wanted = [*self._seen, *wanted]
        account = self._stand_in.journal.account(self._config.require_key(), self._config.organization_id)
        held = [self._seen.latest(row) for row in wanted]
        self._stand_in.know(held, account)
        for row in held:
            self._ids.setdefault(row.idempotency_key, row.id)
        return self._stand_in

    def _remember(self, rows: Iterable[Row]) -> None:
        with self._lock:
            self._seen.add(rows)

    def _recovered_journal(self) -> tuple[Journal, str]:
        """The journal, there and up to date with what was kept in memory, and what had to be done for that, or "".

        Raises ``JournalError``.
        """
        with self._lock:
            journal, notice = self._journal_in_place()
            if self._stand_in is not None:
                self._carry_over(journal, self._stand_in)
            if not self._is_tidy:
                journal.release_left_behind(RESERVED_S)
                self._is_tidy = True
            return journal, notice

    def _journal_in_place(self) -> tuple[Journal, str]:
        """The journal where others would open it, and what had to be done for that, or ""."""
        with self._lock:
            journal = self.journal()
            return (journal, "") if journal.store.is_in_place else self._after_deletion(journal)

    def _note_recovery(self, rows: Iterable[Row], notice: str) -> None:
        """The journal works (again)."""
        with self._lock:
            self._remember(rows)
            self._trouble, self._retry_at = notice, 0.0
            self.journal().store.be_quick(False)

    def _carry_over(self, journal: Journal, stand_in: StandIn) -> None:
        if stand_in.changed:
            self._learn_organization(journal)
            account = journal.account(self._config.require_key(), self._config.organization_id)
            home = stand_in.go_home(journal, account, stand_in.changed)
            self._ids |= {key: row.id for key, row in home.items()}
            self._seen.add(home.values())
        stand_in.journal.close()
        self._stand_in = None

    def _after_deletion(self, deleted: Journal) -> tuple[Journal, str]:
        """The file was deleted under the open connection: put it back, or give another one what this process knows."""
        if not deleted.store.put_back():
            self._ids.clear()
            self._stand_in_with().changed.update(row.idempotency_key for row in self._seen)
        deleted.close()
        self._journal = None
        journal = self.journal()
        notice = (
            f"The journal ({journal.where}) was deleted or replaced while it was in use. What was still known was "
            "written to the new one. To delete it for good, close ComfyUI first."
        )
        log.warning("%s", notice)
        return journal, notice

    def _retry_soon(self) -> None:
        """What is kept in memory must not wait for the next evaluation: there may be none."""
        if self._timer is None and not self._is_closed and self._stand_in is not None and self._stand_in.changed:
            self._timer = threading.Timer(RETRY_S, self._retry)
            self._timer.daemon = True
            self._timer.start()

    def _retry(self) -> None:
        with self._lock:
            self._timer = None
            if not self._is_closed and self._stand_in is not None:
                try:
                    _, notice = self._recovered_journal()
                    self._note_recovery((), notice)
                except JournalError as error:
                    self._fail(error)
                    self._retry_soon()

    def _is_current(self, journal: Journal) -> bool:
        """Whether no other journal was opened in its place while it was used."""
        with self._lock:
            return self._journal is journal

    def _with_journal_id(self, row: Row) -> Row:
        return row.at(self._ids.get(row.idempotency_key, row.id))

    def _learn_organization(self, journal: Journal) -> None:
        if self._organization and not self._is_learned:
            journal.learn_account(self._config.require_key(), self._organization)
            self._is_learned = True

    def _with_account(self, journal: Journal, requests: Sequence[Request]) -> list[Request]:
        account = journal.payer(self._config.require_key(), self._config.organization_id)
        return [replace(request, account=account) for request in requests]

    def _limits(self) -> Limits:
        return Limits(
            per_prompt=self._config.max_evaluations_per_prompt,
            per_day=self._config.max_evaluations_per_day,
            credits_per_day=self._config.max_credits_per_day,
            credits_per_prompt=self.budget,
        )
