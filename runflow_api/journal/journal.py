"""What was submitted, what it cost, and what came back: the memory that survives a crash.

One row is one logical evaluation, which is paid at most once. It is inserted, with its idempotency key and its
share of the budget, before anything is sent; the exact body is spooled beside the journal until the API has given
an id, so that every resend carries the same key and the same bytes. Several threads and several processes share
one journal without leases: whoever inserts a row or spools its body first wins, the others take what is there.

SQLite by default, any other SQLAlchemy URL on request. Times are Unix seconds, days are UTC days, amounts are
credits as exact decimals. Every method raises ``JournalError`` where the journal cannot be used, and nothing of
SQLAlchemy or of the operating system.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from . import history
from .budget import DayTotal, Limits, Spend, check_limits, per_day, spend
from .errors import JournalError, translate_errors
from .rows import (
    OUTCOMES,
    Request,
    Row,
    add_to_answer,
    insert,
    latest,
    move,
    needs_another,
    note_prompt,
    one_row,
    update,
)
from .schema import (
    ABANDONED,
    ACCOUNTS,
    ANSWERS,
    CLOSED,
    COMPLETED,
    DAY_S,
    FAILED,
    NOT_ACCEPTED,
    OPEN,
    PROMPTS,
    R,
    chunks,
    clean,
    organisation,
    pack,
    page_size,
    positive,
    score_of,
    stored_amount,
    utc_day,
    verdict_of,
)
from .spool import Spool, SpoolFolder, SpoolInMemory, is_name_of
from .store import FILE_NAME, INSERT_ATTEMPTS, SPOOL_FOLDER, Store, lock, open_store, store_in_memory

__all__ = [
    "ABANDONED",
    "CLOSED",
    "COMPLETED",
    "FAILED",
    "FILE_NAME",
    "OPEN",
    "OUTCOMES",
    "SPOOL_FOLDER",
    "DayTotal",
    "Journal",
    "JournalError",
    "Limits",
    "Request",
    "Row",
    "Spend",
]

P = ParamSpec("P")
T = TypeVar("T")

PROMPTS_OF_AN_ANSWER = frozenset(
    {
        "generation_prompt", "task_description", "evaluation_instructions", "input_attributes",
        "run", "model", "flow", "comfyui_workflow", "parent_evaluation",
    }
)  # fmt: skip
"""What an answer repeats of the request: not kept where prompts are not. The improved prompt stays, being an output."""


def translates_errors(method: Callable[Concatenate[Journal, P], T]) -> Callable[Concatenate[Journal, P], T]:
    """Turn whatever goes wrong below into a ``JournalError`` that a person can act on."""

    @functools.wraps(method)
    def told(self: Journal, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with translate_errors(self.where):
            return method(self, *args, **kwargs)

    return told


class Journal:
    """An open journal; safe to use from several threads. Close it, or use it in a ``with`` statement."""

    def __init__(self, store: Store, spool: Spool, *, now: Callable[[], float], keep_prompts: bool) -> None:
        self.where = store.where
        self._store = store
        self._spool = spool
        self._now = now
        self._keep_prompts = keep_prompts

    @classmethod
    def open(
        cls, url: str | None, directory: Path, *, now: Callable[[], float] = time.time, keep_prompts: bool = True
    ) -> Journal:
        """Open the journal at ``url``, or ``directory``/journal.sqlite3, and bring its schema up to date.

        The spool is ``directory``/spool. What is created is private to the user: folders 0700, files 0600 (on
        Windows the folder's own rights hold). A schema newer than this version is refused and left untouched.
        """
        store, spool = open_store(url, directory)
        return cls(store, SpoolFolder(spool), now=now, keep_prompts=keep_prompts)

    @classmethod
    def in_memory(cls, *, now: Callable[[], float] = time.time, keep_prompts: bool = True) -> Journal:
        """A journal that ends with the process and touches no disk: for when the real one cannot be used."""
        return cls(store_in_memory(), SpoolInMemory(), now=now, keep_prompts=keep_prompts)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give every connection back. A call under way in another thread finishes and then gives back its own."""
        self._store.close()

    # --- accounts ---------------------------------------------------------------------------------

    @translates_errors
    def account(self, key: str, organization_id: str | None) -> str:
        """Who pays: the configured organisation, else the one learned for this key, else a provisional label.

        The key itself is never stored, only its HMAC-SHA256 under this journal's random salt.
        """
        if organization_id:
            return organisation(organization_id)
        with self._store.reading() as connection:
            return self._resolved(connection, self._provisional(key))

    @translates_errors
    def learn_account(self, key: str, org_id: str) -> None:
        """Remember which organisation a key belongs to, and move the rows that were begun before it was known.

        Where the organisation has asked the same before, its own row stays in front, unless it ended without
        anything to reuse.
        """
        provisional, account = self._provisional(key), organisation(org_id)
        if self.account(key, None) == account and not self._has_rows(provisional):
            return
        with self._store.writing() as connection:
            lock(connection)
            connection.execute(ACCOUNTS.delete().where(ACCOUNTS.c.provisional == provisional))
            connection.execute(ACCOUNTS.insert().values(provisional=provisional, account=account))
            move(connection, provisional, account)

    def _has_rows(self, account: str) -> bool:
        with self._store.reading() as connection:
            return connection.scalar(sa.select(R.id).where(R.account == account).limit(1)) is not None

    def _provisional(self, key: str) -> str:
        digest = hmac.new(self._store.salt, key.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"key:{digest.hexdigest()}"

    def _resolved(self, connection: sa.Connection, account: str) -> str:
        """``account``, or the organisation that another thread or process has learned for it meanwhile."""
        learned = sa.select(ACCOUNTS.c.account).where(ACCOUNTS.c.provisional == account)
        return connection.scalar(learned) or account

    # --- one evaluation's life --------------------------------------------------------------------

    @translates_errors
    def begin(self, asks: Sequence[Request], limits: Limits) -> list[Row]:
        """One row per ask, in order: what exists already, else a new one. All of the batch, or nothing.

        A completed row is taken again where the ask reuses, a failed one where this prompt has asked for it
        before, an open one always; else a new generation is inserted. Raises ``BudgetError``, with nothing
        inserted, where the new rows would break a limit. Both happen in one transaction that no other writer
        overlaps.
        """
        for attempt in range(INSERT_ATTEMPTS):
            try:
                with self._store.writing() as connection:
                    lock(connection)
                    return self._begin(connection, asks, limits)
            except IntegrityError:
                if attempt == INSERT_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    @translates_errors
    def preview(self, asks: Sequence[Request], limits: Limits) -> list[bool]:
        """For which of these ``begin`` would insert a row now: for equal ones, the first. Nothing is inserted.

        Raises ``BudgetError`` as ``begin`` would.
        """
        with self._store.writing() as connection, connection.begin_nested() as trial:
            lock(connection)
            rows = self._begin(connection, asks, limits)
            trial.rollback()
        first = {row.id: index for index, row in reversed(list(enumerate(rows)))}
        return [row.is_new and first[row.id] == index for index, row in enumerate(rows)]

    @translates_errors
    def fix_body(self, row: Row, body: bytes) -> bytes | None:
        """Fix the bytes to send for ``row``, and give them back: ``body``, or what was fixed before.

        Where the file is on another machine, or lost, ``body`` will do if it is the same: its digest is known.
        ``None`` where nothing is to be sent from here: the row was answered or closed meanwhile, or other bytes
        were fixed that are not here, so that the id is to be waited for (``get``).
        """
        name = self._spool_name(row.id)
        if name is None:
            mine = self._spool.write(row.id, body)
            if self._change(row.id, R.spool.is_(None) & NOT_ACCEPTED, spool=mine):
                return body
            self._spool.remove(mine)
            name = self._spool_name(row.id)
        fixed = self._spool.read(name)
        return body if fixed is None and name is not None and is_name_of(name, body) else fixed

    @translates_errors
    def body(self, row: Row) -> bytes | None:
        """The bytes that were fixed for ``row``; ``None`` where there are none, or where they are not here."""
        return self._spool.read(self._spool_name(row.id))

    @translates_errors
    def record_submission(self, row: Row, evaluation_id: str, org_id: str | None) -> Row:
        """The API took it: keep its id, then forget the body. The first id wins; the row as it now is comes back.

        A row that was closed or abandoned meanwhile is open again, since it is being billed.
        """
        return self._settle(
            row.id,
            R.evaluation_id.is_(None) & R.state.not_in((COMPLETED, FAILED)),
            evaluation_id=clean(evaluation_id),
            org_id=clean(org_id),
            submitted_at=self._now(),
            state=OPEN,
            failure_code=None,
        )

    @translates_errors
    def record_result(
        self,
        row: Row,
        answer: Mapping[str, Any],
        *,
        completed: bool,
        cost: str | None,
        failure_code: str | None,
        duration_s: float | None,
    ) -> Row:
        """Keep the terminal answer. The first one wins, whoever brings it; the row as it now is comes back."""
        return self._settle(
            row.id,
            R.state.not_in((COMPLETED, FAILED)),
            packed=pack(self._kept(answer)),
            state=COMPLETED if completed else FAILED,
            evaluation_id=sa.func.coalesce(R.evaluation_id, clean(answer.get("id"))),
            finished_at=self._now(),
            duration_s=positive(duration_s),
            cost=stored_amount(cost),
            passed=verdict_of(answer.get("overall_passed")) if completed else None,
            score=score_of(answer.get("weighted_pass_rate")) if completed else None,
            failure_code=clean(failure_code),
        )

    @translates_errors
    def record_refusal(self, row: Row, code: str) -> Row:
        """The API refused to take it (401, 402, 403, 422): closed, not billed, its share of the budget free again.

        Changes nothing where somebody else's submit of the same row was taken.
        """
        return self._settle(row.id, NOT_ACCEPTED, state=CLOSED, finished_at=self._now(), failure_code=clean(code))

    @translates_errors
    def release(self, row: Row) -> bool:
        """Nothing will be sent for ``row`` after all: close it and free its budget.

        False, and unchanged, where a body is spooled: it may have been sent, by this process or by another; and
        where another prompt has asked for it, which may be about to send it.
        """
        others = sa.select(PROMPTS.c.row_id).where(PROMPTS.c.row_id == row.id)
        free = NOT_ACCEPTED & R.spool.is_(None) & ~others.exists()
        return self._change(row.id, free, state=CLOSED, finished_at=self._now(), failure_code="NOT_SENT")

    @translates_errors
    def abandon(self, row: Row) -> Row:
        """Nobody will wait for it any more. It may have been billed, so it goes on counting against its day.

        Changes nothing where an id came that ``row`` does not know yet.
        """
        known = R.evaluation_id.is_not_distinct_from(row.evaluation_id) & (R.state == OPEN)
        return self._settle(row.id, known, state=ABANDONED, finished_at=self._now())

    @translates_errors
    def askers(self, row: Row) -> int:
        """How many prompts have asked for ``row``: with more than one, another may be sending it right now."""
        others = sa.select(sa.func.count()).where(
            PROMPTS.c.row_id == row.id, PROMPTS.c.prompt_token != clean(row.prompt_token)
        )
        with self._store.reading() as connection:
            return 1 + (connection.scalar(others) or 0)

    @translates_errors
    def record_feedback(self, evaluation_id: str, is_positive: bool | None, reason: str | None) -> None:
        """Keep the feedback that Runflow has taken in the answer of that evaluation's newest row."""
        rating = {"feedback_is_positive": is_positive, "feedback_reason": reason}
        with self._store.writing() as connection:
            lock(connection)
            add_to_answer(connection, evaluation_id, rating)

    # --- looking back -----------------------------------------------------------------------------

    @translates_errors
    def get(self, row_id: int) -> Row:
        """The row as it now is; ``JournalError`` where it was pruned."""
        with self._store.reading() as connection:
            return one_row(connection, row_id)

    @translates_errors
    def find_evaluation(self, evaluation_id: str) -> Row | None:
        """The newest row of that evaluation."""
        with self._store.reading() as connection:
            return history.newest(connection, evaluation_id)

    @translates_errors
    def durations(self, job_class: str, limit: int = 50) -> list[float]:
        """How long the latest evaluations of this job class took, in seconds, newest first."""
        with self._store.reading() as connection:
            return history.durations(connection, job_class, limit)

    @translates_errors
    def spent_today(self) -> Spend:
        """What this UTC day has used up, reservations included."""
        with self._store.reading() as connection:
            return spend(connection, self._today())

    @translates_errors
    def history(
        self,
        *,
        before: int | None = None,
        limit: int = 50,
        outcome: str | None = None,
        search: str = "",
        since: float = 0.0,
    ) -> list[Row]:
        """A page of rows, newest first; the next page is ``before`` the last one's id.

        ``outcome`` is one of ``OUTCOMES``; ``search`` is looked for in prompts, evaluation ids and failure codes;
        ``since`` is Unix seconds, 0 for all.
        """
        with self._store.reading() as connection:
            return history.page(connection, before, limit, outcome, search, since)

    @translates_errors
    def per_day(self, days: int) -> list[DayTotal]:
        """One total for each of the last ``days`` UTC days, today's last; days without evaluations are zeros."""
        with self._store.reading() as connection:
            return per_day(connection, self._today(), page_size(days))

    @translates_errors
    def prune(self, *, older_than_days: int, at_most: int, spool_older_than_days: int = 2) -> int:
        """Forget rows by age and count, and bodies that can no longer be resent; the number of rows forgotten.

        Today's rows stay, because they are the budget, and so do open ones younger than their body may be.
        """
        now = self._now()
        young = now - spool_older_than_days * DAY_S
        with self._store.reading() as connection:
            ids = history.forgettable(connection, now - older_than_days * DAY_S, at_most, self._today(), young)
        for chunk in chunks(ids):
            with self._store.writing() as connection:
                history.forget(connection, chunk)
        with self._store.reading() as connection:
            referenced = history.spooled_since(connection, young)
        self._spool.prune(referenced)
        return len(ids)

    # --- begin, in pieces -------------------------------------------------------------------------

    def _begin(self, connection: sa.Connection, asks: Sequence[Request], limits: Limits) -> list[Row]:
        now, new, rows = self._now(), dict[int, Request](), list[Row]()
        for ask in asks:
            account = self._resolved(connection, clean(ask.account))
            asked = ask if self._keep_prompts else replace(ask, generation_prompt="")
            row = latest(connection, account, ask.request_hash)
            if row is None or needs_another(connection, ask, row):
                generation = 0 if row is None else row.generation + 1
                row = insert(connection, asked, account, generation, now)
                new[row.id] = ask
            elif row.state == OPEN:
                note_prompt(connection, row, ask.prompt_token)
            rows.append(replace(row, is_new=row.id in new))
        if new:
            check_limits(connection, list(new.values()), limits, utc_day(now))
        return rows

    # --- changing one row -------------------------------------------------------------------------

    def _change(self, row_id: int, condition: sa.ColumnElement[bool], **values: Any) -> bool:
        with self._store.writing() as connection:
            return update(connection, row_id, condition, **values)

    def _settle(
        self, row_id: int, condition: sa.ColumnElement[bool], *, packed: bytes | None = None, **values: Any
    ) -> Row:
        """Change the row where ``condition`` holds, with its answer, and read it as it now is.

        Its body is forgotten, and deleted after the commit, where nothing more is to be sent.
        """
        with self._store.writing() as connection:
            changed = update(connection, row_id, condition, **values)
            if changed and packed is not None:
                connection.execute(ANSWERS.insert().values(row_id=row_id, packed=packed))
            name = connection.scalar(sa.select(R.spool).where(R.id == row_id, sa.not_(NOT_ACCEPTED)))
            if name is not None:
                update(connection, row_id, sa.true(), spool=None)
            row = one_row(connection, row_id)
        if name is not None:
            self._spool.remove(name)
        return row

    def _kept(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._keep_prompts:
            return answer
        return {name: value for name, value in answer.items() if name not in PROMPTS_OF_AN_ANSWER}

    def _spool_name(self, row_id: int) -> str | None:
        with self._store.reading() as connection:
            return connection.scalar(sa.select(R.spool).where(R.id == row_id))

    def _today(self) -> int:
        return utc_day(self._now())
