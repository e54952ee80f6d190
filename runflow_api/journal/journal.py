"""What was submitted, what it cost, and what came back: the memory that survives a crash.

One row is one logical evaluation, which is paid at most once. It is inserted, with its idempotency key and its
share of the budget, before anything is sent; the exact body is spooled beside the journal until the API has given
an id, so that every resend carries the same key and the same bytes. Several threads and several processes share
one journal without leases: whoever inserts a row or spools its body first wins, the others take what is there.

SQLite by default; PostgreSQL, bodies included, if several machines share it; any other SQLAlchemy URL. Times are Unix
seconds, days are UTC days, amounts are credits as exact decimals. Every method raises ``JournalError`` if the journal
cannot be used, and nothing of SQLAlchemy or of the operating system.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from . import begin, history, settling, verdicts
from . import merge as merging
from .begin import resolved
from .budget import DayTotal, Limits, Spend, per_day, spend, spend_of_prompt
from .errors import JournalError, looks_back, translates_errors
from .groups import Groups
from .merge import Kept
from .pace import SharedPace
from .rows import OUTCOMES, Request, Row, add_to_answer, is_same, one_row
from .schema import (
    ACCOUNTS,
    DAY_S,
    PROMPTS,
    R,
    RowState,
    clean,
    organisation,
    pack,
    page_size,
    positive,
    score_of,
    stored_amount,
    utc_day,
    verdict_of,
    without_prompts,
)
from .settling import Settlement
from .spool import Spool, SpoolFolder, SpoolInMemory, SpoolTable, ignored_where_full, is_name_of, name_for
from .store import FILE_NAME, SPOOL_FOLDER, Store, lock, open_store, store_in_memory

__all__ = [
    "FILE_NAME", "OUTCOMES", "SPOOL_FOLDER", "DayTotal", "Journal", "JournalError", "Limits", "Request",
    "Row", "RowState", "Spend",
]  # fmt: skip
GATHER_S = 0.05
GATHER_BEFORE_ANSWER_S = 0.01
"""While a request is to be sent, or its answer is to be kept, a slot of the network waits as well."""
P = ParamSpec("P")
T = TypeVar("T")


class Journal:
    """An open journal; safe to use from several threads. Close it, or use it in a ``with`` statement."""

    def __init__(self, store: Store, spool: Spool, *, now: Callable[[], float], keep_prompts: bool) -> None:
        self.where = store.where
        self.store = store
        self._spool = spool
        self._now = now
        self._keep_prompts = keep_prompts
        self._beginning = Groups(self._begin_together)
        self._fixing = Groups(self._fix_together)
        self._submitting = Groups(self._settle_together)
        self._settling = Groups(self._settle_together)

    @classmethod
    def open(
        cls, url: str | None, directory: Path, *, now: Callable[[], float] = time.time, keep_prompts: bool = True
    ) -> Journal:
        """Open the journal at ``url``, or ``directory``/journal.sqlite3, and bring its schema up to date.

        The spool is ``directory``/spool, or a table in the database of a server. What is created is private to the
        user: folders 0700, files 0600 (on Windows the folder's own rights hold). A schema newer than this version is
        refused and left untouched.
        """
        store, folder = open_store(url, directory)
        spool = SpoolTable(store, SpoolFolder(folder)) if store.is_shared else SpoolFolder(folder)
        return cls(store, spool, now=now, keep_prompts=keep_prompts)

    @classmethod
    def in_memory(cls, *, now: Callable[[], float] = time.time, keep_prompts: bool = True) -> Journal:
        """A journal that ends with the process and touches no disk: for when the real one cannot be used.

        Its rows have ids that no other journal gives.
        """
        return cls(store_in_memory(), SpoolInMemory(), now=now, keep_prompts=keep_prompts)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give every connection back. A call under way in another thread finishes and then gives back its own."""
        self.store.close()

    def expect_many(self) -> None:
        """Many rows are under way and nobody waits for any one of them: what is written waits a moment for company."""
        self._beginning.gather_s = self._settling.gather_s = GATHER_S
        self._fixing.gather_s = self._submitting.gather_s = GATHER_BEFORE_ANSWER_S

    @property
    def rides_out_s(self) -> float:
        """How long a call waits for a database server that does not answer."""
        return self.store.rides_out_s

    def pace(self, who: str, most: float | None) -> SharedPace:
        """The rate and the pause of everybody who asks as ``who``, at ``most`` so many requests per second."""
        return SharedPace(self.store, self._provisional(who), most)

    # --- accounts ---------------------------------------------------------------------------------

    @translates_errors
    def account(self, key: str, organization_id: str | None) -> str:
        """Who pays: the configured organisation, otherwise the one learned for this key, otherwise a provisional label.

        The key itself is never stored, only its HMAC-SHA256 under this journal's random salt.
        """
        payer = self.payer(key, organization_id)
        with self.store.reading() as connection:
            return resolved(connection, payer)

    def payer(self, key: str, organization_id: str | None) -> str:
        """What ``begin`` takes for an account: it looks up by itself what was learned for a key."""
        return organisation(organization_id) if organization_id else self._provisional(key)

    @translates_errors
    def learn_account(self, key: str, org_id: str) -> None:
        """Remember which organisation a key belongs to, and move the rows that were begun before it was known.

        Where the organisation has asked the same before, its own row stays in front, unless it ended without
        anything to reuse.
        """
        provisional, account = self._provisional(key), organisation(org_id)
        if self.account(key, None) == account and not self._has_rows(provisional):
            return
        with self.store.writing() as connection:
            lock(connection)
            connection.execute(ACCOUNTS.delete().where(ACCOUNTS.c.provisional == provisional))
            connection.execute(ACCOUNTS.insert().values(provisional=provisional, account=account))
            merging.move(connection, provisional, account)

    def _has_rows(self, account: str) -> bool:
        with self.store.reading() as connection:
            return connection.scalar(sa.select(R.id).where(R.account == account).limit(1)) is not None

    def _provisional(self, key: str) -> str:
        digest = hmac.new(self.store.salt, key.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"key:{digest.hexdigest()}"

    # --- one evaluation's life --------------------------------------------------------------------

    def begin(self, requests: Sequence[Request], limits: Limits) -> list[Row]:
        """One row per request, in order: what exists already, otherwise a new one. All of the batch, or nothing.

        A completed row is taken again where the request reuses, a failed one where this prompt has asked for it
        before, an open one always; otherwise a new generation is inserted. Raises ``BudgetError``, with nothing
        inserted, where the new rows would break a limit. Both happen in one transaction that no other writer
        overlaps. Verdicts that are known are given without the write lock.
        """
        hashes = {request.request_hash for request in requests}
        return self._beginning.do((requests, limits), hashes, kind=limits) if requests else []

    @translates_errors
    def estimate(self, requests: Sequence[Request], limits: Limits) -> list[bool]:
        """For which of these ``begin`` would insert a row now: for equal ones, the first. Nothing is written.

        Raises ``BudgetError`` as ``begin`` would.
        """
        with self.store.reading() as connection:
            return begin.estimate(connection, requests, limits, self._now())

    @translates_errors
    def known(self, requests: Sequence[Request]) -> list[Row]:
        """The rows that are there for these requests, each once. Nothing is written."""
        with self.store.reading() as connection:
            return begin.known(connection, requests)

    @translates_errors
    def fix_body(self, row: Row, body: bytes) -> bytes | None:
        """Fix the bytes to send for ``row``, and give them back: ``body``, or what was fixed before.

        Where the file is on another machine, or lost, ``body`` will do if it is the same: its digest is known.
        ``None`` if nothing is to be sent from here: the row was answered or closed meanwhile, or other bytes
        were fixed that are not here, so that the id is to be waited for (``get``).
        """
        mine = name_for(row.id, body)
        # A body that finds no room on the disk is noted all the same: it may have been sent, and its digest is
        # enough to send the same again.
        with ignored_where_full():
            self._spool.write(mine, body)
        name = self._fixing.do((row, mine, body), {row.idempotency_key})
        if name == mine:
            return body
        self._spool.remove(mine)
        fixed = self._spool.read(name)
        return body if fixed is None and name is not None and is_name_of(name, body) else fixed

    @translates_errors
    def body(self, row: Row) -> bytes | None:
        """The bytes that were fixed for ``row``; ``None`` if there are none, or if they are not here."""
        with self.store.reading() as connection:
            name = one_row(connection, row.id, is_same(row)).spool
        return self._spool.read(name)

    def record_submission(self, row: Row, evaluation_id: str, org_id: str | None) -> Row:
        """The API took it: keep its id, then forget the body. The first id wins; the row as it now is comes back.

        A row that was closed or abandoned meanwhile is open again, since it is being billed.
        """
        taken = {
            "evaluation_id": clean(evaluation_id),
            "org_id": clean(org_id),
            "submitted_at": self._now(),
            "state": RowState.OPEN,
            "failure_code": None,
        }
        return self._submitting.do(Settlement(row, settling.has_no_id, taken), {row.idempotency_key})

    def record_result(
        self,
        row: Row,
        answer: Mapping[str, Any],
        *,
        completed: bool,
        cost: Decimal | str | None,
        failure_code: str | None,
        duration_s: float | None,
    ) -> Row:
        """Keep the terminal answer. The first one wins, whoever brings it; the row as it now is comes back."""
        return self._settle(
            row,
            settling.has_no_answer,
            packed=pack(answer if self._keep_prompts else without_prompts(answer)),
            state=RowState.COMPLETED if completed else RowState.FAILED,
            evaluation_id=clean(answer.get("id")),
            finished_at=self._now(),
            duration_s=positive(duration_s),
            cost=stored_amount(cost),
            passed=verdict_of(answer.get("overall_passed")) if completed else None,
            score=score_of(answer.get("weighted_pass_rate")) if completed else None,
            failure_code=clean(failure_code),
        )

    def record_refusal(self, row: Row, code: str) -> Row:
        """The API refused to take it (401, 402, 403, 422): closed, not billed, its share of the budget free again.

        Changes nothing where somebody else's submit of the same row was taken.
        """
        refused = {"finished_at": self._now(), "failure_code": clean(code)}
        return self._settle(row, settling.is_not_accepted, state=RowState.REJECTED, **refused)

    @translates_errors
    def release(self, rows: Sequence[Row]) -> int:
        """Who asked for these (``asked_by``) sends nothing: what nobody else waits for is closed, and its budget free.

        The number of closed ones. Unchanged stays where a body is spooled: it may have been sent, by this process or
        by another. If another prompt has asked for a row, it is that one's now. Writes only if there is
        something to close.
        """
        return begin.release(self.store, rows, self._now())

    @translates_errors
    def release_left_behind(self, older_than_s: float) -> int:
        """Close what was reserved longer ago than that and never sent: whoever did has died. The number of rows."""
        return begin.close_left_behind(self.store, self._now(), older_than_s)

    def abandon(self, row: Row) -> Row:
        """Nobody will wait for it any more. It may have been billed, so it goes on counting against its day.

        Changes nothing if an id came that ``row`` does not know yet.
        """
        known = functools.partial(settling.is_open_as, row.evaluation_id)
        return self._settle(row, known, state=RowState.ABANDONED, finished_at=self._now())

    @translates_errors
    def askers(self, row: Row) -> int:
        """How many prompts have asked for ``row``: with more than one, another may be sending it right now."""
        others = sa.select(sa.func.count()).where(
            PROMPTS.c.row_id == row.id, PROMPTS.c.prompt_token != clean(row.prompt_token)
        )
        with self.store.reading() as connection:
            return 1 + (connection.scalar(others) or 0)

    @translates_errors
    def record_feedback(self, evaluation_id: str, is_positive: bool | None, reason: str | None) -> None:
        """Keep the feedback that Runflow has taken in the answer of that evaluation's newest row."""
        rating = {"feedback_is_positive": is_positive, "feedback_reason": reason}
        with self.store.writing() as connection:
            lock(connection)
            add_to_answer(connection, evaluation_id, rating)
            verdicts.rate_by_thumb(connection, evaluation_id, is_positive)

    @translates_errors
    def record_free(self, requests: Sequence[Request], answers: Sequence[Mapping[str, Any]]) -> None:
        """Keep verdicts that cost nothing, in one transaction; where all are known, nothing is written."""
        with self.store.reading() as connection:
            if verdicts.are_known(connection, requests):
                return
        with self.store.writing() as connection:
            lock(connection)
            verdicts.record_free(connection, requests, answers, self._now(), keep_prompts=self._keep_prompts)

    @translates_errors
    def rate(self, row_id: int, is_good: bool | None) -> None:
        """Keep whether the person finds an image good for what was asked; ``None`` takes it back."""
        with self.store.writing() as connection:
            lock(connection)
            verdicts.rate(connection, row_id, is_good)

    # --- looking back -----------------------------------------------------------------------------

    @translates_errors
    def get(self, row: Row | int) -> Row:
        """The row, or the one with this id, as it now is; ``JournalError`` if it was pruned."""
        with self.store.reading() as connection:
            if isinstance(row, int):
                return one_row(connection, row)
            return one_row(connection, row.id, is_same(row))

    @looks_back
    def query(self, function: Callable[Concatenate[Store, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``function`` finds in the store. It must only read."""
        return function(self.store, *args, **kwargs)

    @looks_back
    def find_evaluation(self, evaluation_id: str) -> Row | None:
        """The newest row of that evaluation."""
        with self.store.reading() as connection:
            return history.newest(connection, evaluation_id)

    @looks_back
    def durations(self, job_class: str, limit: int = 50) -> list[float]:
        """How long the latest evaluations of this job class took, in seconds, newest first."""
        with self.store.reading() as connection:
            return history.durations(connection, job_class, limit)

    @looks_back
    def spent_today(self) -> Spend:
        """What this UTC day has used up, reservations included."""
        with self.store.reading() as connection:
            return spend(connection, utc_day(self._now()))

    @looks_back
    def spent_for(self, prompt_token: str) -> Spend:
        """What this prompt, or this run of the command line, has used up, reservations included."""
        with self.store.reading() as connection:
            return spend_of_prompt(connection, prompt_token)

    @looks_back
    def history(
        self,
        *,
        before: int | None = None,
        limit: int = 50,
        outcome: str | None = None,
        search: str = "",
        since: float = 0.0,
        sort: str = "newest",
    ) -> list[Row]:
        """A page of rows, newest first; the next page is ``before`` the last one's id.

        ``outcome`` is one of ``OUTCOMES``; ``search`` is looked for in prompts, evaluation ids and failure codes;
        ``since`` is Unix seconds, 0 for all; by ``sort``, the best or worst scores come first, without a next page.
        """
        with self.store.reading() as connection:
            return history.page(connection, before, limit, outcome, search, since, sort)

    @looks_back
    def per_day(self, days: int) -> list[DayTotal]:
        """One total for each of the last ``days`` UTC days, today's last; days without evaluations are zeros."""
        with self.store.reading() as connection:
            return per_day(connection, utc_day(self._now()), page_size(days))

    @translates_errors
    def prune(self, *, older_than_days: int, at_most: int | None, spool_older_than_days: int = 2) -> int:
        """Forget rows by age and count, and bodies that can no longer be resent; the number of rows forgotten.

        Today's rows stay, because they are the budget, and so do open ones younger than their body may be.
        """
        now = self._now()
        young = now - spool_older_than_days * DAY_S
        return history.prune(self.store, self._spool, now - older_than_days * DAY_S, at_most, utc_day(now), young)

    # --- what was kept elsewhere ------------------------------------------------------------------

    @translates_errors
    def rows_by_key(self, keys: Collection[str]) -> list[Kept]:
        """The rows with these idempotency keys, each with the prompts that asked for it and its body, if it is here."""
        with self.store.reading() as connection:
            found = merging.with_askers(connection, keys)
        return [(row, prompts, self._spool.read(row.spool)) for row, prompts in found]

    @translates_errors
    def take_over(self, kept: Sequence[Kept], account: str) -> dict[str, int]:
        """Keep rows of another journal in this one, all or none, whatever the limits say: the ids here by their keys.

        ``account`` is whose those rows are that do not know their organisation yet.
        """
        with self.store.writing() as connection:
            lock(connection)
            ids, done = merging.take_over(connection, kept, account, self._spool)
        for name in done:
            self._spool.remove(name)
        return ids

    # --- what is done together --------------------------------------------------------------------

    @translates_errors
    def _begin_together(self, calls: Sequence[tuple[Sequence[Request], Limits]]) -> list[list[Row]]:
        """The rows of several calls that have nothing in common but their limits: of all of them, or of none."""
        requests = [request for asked, _ in calls for request in asked]
        rows = iter(begin.begin_all(self.store, requests, calls[0][1], self._now(), keep_prompts=self._keep_prompts))
        return [[next(rows) for _ in asked] for asked, _ in calls]

    @translates_errors
    def _fix_together(self, bodies: Sequence[tuple[Row, str, bytes]]) -> list[str | JournalError | None]:
        with self.store.writing() as connection:
            return settling.fix_bodies(connection, bodies, self._spool)

    def _settle(self, row: Row, may: Callable[[Row], bool], *, packed: bytes | None = None, **values: Any) -> Row:
        """Change the row if it ``may``, with its answer, and give it back as it now is.

        Its body is forgotten, and deleted after the commit, if nothing more is to be sent.
        """
        return self._settling.do(Settlement(row, may, values, packed), {row.idempotency_key})

    @translates_errors
    def _settle_together(self, settlements: Sequence[Settlement]) -> list[Row | JournalError]:
        with self.store.writing() as connection:
            rows, done = settling.settle(connection, settlements, self._spool)
        for name in done:
            self._spool.remove(name)
        return rows
