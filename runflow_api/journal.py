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

import errno
import functools
import hashlib
import hmac
import json
import math
import os
import sqlite3
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import date, timedelta
from decimal import Context, Decimal, InvalidOperation, localcontext
from pathlib import Path, PurePath
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from ._migrations import BINARY, TEXT, NewerSchemaError, migrate, require_known
from .errors import BudgetError, InvalidInputError, RunflowError

P = ParamSpec("P")
T = TypeVar("T")

FILE_NAME, SPOOL_FOLDER = "journal.sqlite3", "spool"
BUSY_S = 10.0
"""How long a call waits for another process's write. Writes take milliseconds; a disk may stall for seconds."""
WAL_RETRY_S = MIGRATION_RETRY_S = 0.05
INSERT_ATTEMPTS = 3
"""Where a database has no lock for us, two inserts may collide: the loser looks again."""
DAY_S = 86_400
EPOCH = date(1970, 1, 1)
ORPHAN_S = 3_600
"""An unreferenced spool file older than this belongs to no write under way."""
MAX_PROMPT_CHARS = 16_000
MAX_PAGE = 500
AMOUNT_LIMIT = Decimal(10) ** 15
AMOUNT_PLACES = 24
EXACT = Context(prec=60)
"""Room for a sum of any number of such amounts."""

OPEN, COMPLETED, FAILED, CLOSED, ABANDONED = "open", "completed", "failed", "closed", "abandoned"
OUTCOMES = ("open", "passed", "failed", "unknown", "error", "closed", "abandoned")
"""What ``history`` can be filtered by. ``unknown``: finished without a verdict; ``error``: a failed evaluation."""

PROMPTS_OF_AN_ANSWER = frozenset(
    {
        "generation_prompt", "task_description", "evaluation_instructions", "input_attributes",
        "run", "model", "flow", "comfyui_workflow", "parent_evaluation",
    }
)  # fmt: skip
"""What an answer repeats of the request: not kept where prompts are not. The improved prompt stays, being an output."""

_schema = sa.MetaData()
_rows = sa.Table(
    "runflow_evaluations",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("account", sa.String(255)),
    sa.Column("request_hash", sa.String(128)),
    sa.Column("generation", sa.Integer),
    sa.Column("idempotency_key", sa.String(64)),
    sa.Column("state", sa.String(16)),
    sa.Column("evaluation_id", sa.String(255)),
    sa.Column("org_id", sa.String(255)),
    sa.Column("prompt_token", sa.String(255)),
    sa.Column("job_class", sa.String(255)),
    sa.Column("pixel_hash", sa.String(128)),
    sa.Column("generation_prompt", TEXT),
    sa.Column("day", sa.Integer),
    sa.Column("created_at", sa.Double),
    sa.Column("submitted_at", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("duration_s", sa.Double),
    sa.Column("price", sa.String(48)),
    sa.Column("cost", sa.String(48)),
    sa.Column("passed", sa.Boolean),
    sa.Column("score", sa.Double),
    sa.Column("failure_code", sa.String(255)),
    sa.Column("spool", sa.String(255)),
)
_answers = sa.Table(
    "runflow_answers",
    _schema,
    sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("packed", BINARY),
)
_prompts = sa.Table(
    "runflow_prompts",
    _schema,
    sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("prompt_token", sa.String(255), primary_key=True),
)
_accounts = sa.Table(
    "runflow_accounts",
    _schema,
    sa.Column("provisional", sa.String(255), primary_key=True),
    sa.Column("account", sa.String(255)),
)
_settings = sa.Table(
    "runflow_settings",
    _schema,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.String(255)),
)
_salt_row = sa.select(_settings.c.value).where(_settings.c.name == "salt")
_r = _rows.c
_whole_rows = sa.select(_rows, _answers.c.packed).select_from(_rows.outerjoin(_answers, _answers.c.row_id == _r.id))
_amount_column = sa.func.coalesce(_r.cost, _r.price)
"""What a row counts for: what it cost, else what was quoted."""


class JournalError(RunflowError):
    """The journal cannot be read or written; the text says why and what to do, and holds no secret."""

    code = "JOURNAL_UNUSABLE"


@dataclass(frozen=True)
class Ask:
    """One image, one request.

    ``request_hash`` leaves the account out (the journal keeps it beside, because it may be learned later).
    ``price`` in credits, ``None`` where unknown. ``prompt_token`` is ComfyUI's prompt id or the command line's
    run id. ``reuse`` false asks again where a finished verdict exists.
    """

    request_hash: str
    account: str
    price: Decimal | None
    job_class: str
    prompt_token: str
    reuse: bool = True
    generation_prompt: str = ""
    pixel_hash: str = ""


@dataclass(frozen=True)
class Limits:
    """The person's own limits, each inclusive; ``credits_per_day`` ``None`` is none."""

    per_prompt: int
    per_day: int
    credits_per_day: Decimal | None = None


@dataclass(frozen=True)
class Spend:
    """``credits`` counts the cost, else the quoted price; ``unpriced`` evaluations have neither."""

    evaluations: int
    credits: Decimal
    unpriced: int = 0


@dataclass(frozen=True)
class DayTotal:
    """One UTC day; ``passed`` counts Runflow's verdicts, before any ``min_score``."""

    date: date
    evaluations: int
    passed: int
    credits: Decimal


@dataclass(frozen=True)
class Row:
    """One logical evaluation as it was when read; its ``id`` stays, everything else may have moved on.

    ``state``: "open" (no final answer), "completed", "failed", "closed" (refused, not billed) or "abandoned"
    (never answered, may have been billed). Times are Unix seconds, ``duration_s`` seconds from submit to answer.
    ``spooled``: a body was fixed and may have been sent; an open row without is certain not to have been.
    ``prompt_token`` is the prompt that inserted the row, ``is_new`` whether this ``begin`` did.
    """

    id: int
    account: str
    request_hash: str
    generation: int
    idempotency_key: str
    state: str
    evaluation_id: str | None
    org_id: str | None
    prompt_token: str
    job_class: str
    pixel_hash: str
    generation_prompt: str
    created_at: float
    submitted_at: float | None
    finished_at: float | None
    duration_s: float | None
    price: Decimal | None
    cost: Decimal | None
    passed: bool | None
    score: float | None
    failure_code: str | None
    spooled: bool = False
    is_new: bool = False
    packed: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def answer(self) -> dict[str, Any] | None:
        """The API's whole answer, decoded anew each time; ``None`` before there is one."""
        return None if self.packed is None else _unpacked(self.packed)

    @property
    def outcome(self) -> str:
        """One of ``OUTCOMES``."""
        if self.state == COMPLETED:
            return "unknown" if self.passed is None else "passed" if self.passed else "failed"
        return "error" if self.state == FAILED else self.state


def _told(method: Callable[Concatenate[Journal, P], T]) -> Callable[Concatenate[Journal, P], T]:
    """Turn whatever goes wrong below into a ``JournalError`` that a person can act on."""

    @functools.wraps(method)
    def told(self: Journal, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with _explained(self.where):
            return method(self, *args, **kwargs)

    return told


class Journal:
    """An open journal; safe to use from several threads. Close it, or use it in a ``with`` statement."""

    def __init__(
        self, engine: sa.Engine, spool: _Spool, where: str, *, now: Callable[[], float], keep_prompts: bool
    ) -> None:
        self.where = where
        self._engine = engine
        self._writer = engine.execution_options(**{_WRITES: True})
        self._spool = spool
        self._salt = _salt(engine)
        self._now = now
        self._keep_prompts = keep_prompts
        self._closed = False
        self._is_sqlite = engine.dialect.name == "sqlite"
        # SQLite lets one writer in, and others poll: within a process a lock is fairer and faster.
        self._turn = threading.Lock() if self._is_sqlite else None

    @classmethod
    def open(
        cls, url: str | None, directory: Path, *, now: Callable[[], float] = time.time, keep_prompts: bool = True
    ) -> Journal:
        """Open the journal at ``url``, or ``directory``/journal.sqlite3, and bring its schema up to date.

        The spool is ``directory``/spool. What is created is private to the user: folders 0700, files 0600 (on
        Windows the folder's own rights hold). A schema newer than this version is refused and left untouched.
        """
        location = _location(url, directory)
        where = _named(location)
        with _explained(where):
            file = _sqlite_file(location)
            if file is not None:
                _create_private(file)
            engine = _engine(location)
            try:
                spool = _prepared(engine, file, directory)
                return cls(engine, _SpoolFolder(spool), where, now=now, keep_prompts=keep_prompts)
            except BaseException:
                engine.dispose()
                raise

    @classmethod
    def in_memory(cls, *, now: Callable[[], float] = time.time, keep_prompts: bool = True) -> Journal:
        """A journal that ends with the process and touches no disk: for when the real one cannot be used."""
        with _explained("memory"):
            # One connection, because each has a database of its own; whoever comes second waits for it.
            engine = _sqlite_engine(sa.URL.create("sqlite"), poolclass=sa.QueuePool, pool_size=1, max_overflow=0)
            _migrate(engine)
            return cls(engine, _SpoolInMemory(), "memory", now=now, keep_prompts=keep_prompts)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give every connection back. A call under way in another thread finishes and then gives back its own."""
        self._closed = True
        with suppress(SQLAlchemyError):
            self._engine.pool.dispose()

    # --- accounts ---------------------------------------------------------------------------------

    @_told
    def account(self, key: str, organization_id: str | None) -> str:
        """Who pays: the configured organisation, else the one learned for this key, else a provisional label.

        The key itself is never stored, only its HMAC-SHA256 under this journal's random salt.
        """
        if organization_id:
            return _organisation(organization_id)
        with self._reading() as connection:
            return self._resolved(connection, self._provisional(key))

    @_told
    def learn_account(self, key: str, org_id: str) -> None:
        """Remember which organisation a key belongs to, and move the rows that were begun before it was known.

        Where the organisation has asked the same before, its own row stays in front, unless it ended without
        anything to reuse.
        """
        provisional, account = self._provisional(key), _organisation(org_id)
        if self.account(key, None) == account and not self._has_rows(provisional):
            return
        with self._writing() as connection:
            self._lock(connection)
            connection.execute(_accounts.delete().where(_accounts.c.provisional == provisional))
            connection.execute(_accounts.insert().values(provisional=provisional, account=account))
            moving = sa.select(_r.id, _r.request_hash, _r.generation, _r.state).where(_r.account == provisional)
            for row in connection.execute(moving.order_by(_r.request_hash, _r.generation)).all():
                _move(connection, row, account)

    def _has_rows(self, account: str) -> bool:
        with self._reading() as connection:
            return connection.scalar(sa.select(_r.id).where(_r.account == account).limit(1)) is not None

    def _provisional(self, key: str) -> str:
        digest = hmac.new(self._salt, key.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"key:{digest.hexdigest()}"

    def _resolved(self, connection: sa.Connection, account: str) -> str:
        """``account``, or the organisation that another thread or process has learned for it meanwhile."""
        learned = sa.select(_accounts.c.account).where(_accounts.c.provisional == account)
        return connection.scalar(learned) or account

    # --- one evaluation's life --------------------------------------------------------------------

    @_told
    def begin(self, asks: Sequence[Ask], limits: Limits) -> list[Row]:
        """One row per ask, in order: what exists already, else a new one. All of the batch, or nothing.

        A completed row is taken again where the ask reuses, a failed one where this prompt has asked for it
        before, an open one always; else a new generation is inserted. Raises ``BudgetError``, with nothing
        inserted, where the new rows would break a limit. Both happen in one transaction that no other writer
        overlaps.
        """
        for attempt in range(INSERT_ATTEMPTS):
            try:
                with self._writing() as connection:
                    self._lock(connection)
                    return self._begin(connection, asks, limits)
            except IntegrityError:
                if attempt == INSERT_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    @_told
    def preview(self, asks: Sequence[Ask], limits: Limits) -> list[bool]:
        """For which of these ``begin`` would insert a row now: for equal ones, the first. Nothing is inserted.

        Raises ``BudgetError`` as ``begin`` would.
        """
        with self._writing() as connection, connection.begin_nested() as trial:
            self._lock(connection)
            rows = self._begin(connection, asks, limits)
            trial.rollback()
        first = {row.id: index for index, row in reversed(list(enumerate(rows)))}
        return [row.is_new and first[row.id] == index for index, row in enumerate(rows)]

    @_told
    def spool(self, row: Row, body: bytes) -> bytes | None:
        """Fix the bytes to send for ``row``, and give them back: ``body``, or what was fixed before.

        ``None`` where nothing is to be sent from here: the row was answered or closed meanwhile, or its bytes are
        on another machine, whose id is to be waited for (``get``).
        """
        name = self._spool_name(row.id)
        if name is None:
            mine = self._spool.write(row.id, body)
            if self._change(row.id, _r.spool.is_(None) & _untaken, spool=mine):
                return body
            self._spool.remove(mine)
            name = self._spool_name(row.id)
        return self._spool.read(name)

    @_told
    def body(self, row: Row) -> bytes | None:
        """The bytes that were fixed for ``row``; ``None`` where there are none, or where they are not here."""
        return self._spool.read(self._spool_name(row.id))

    @_told
    def submitted(self, row: Row, evaluation_id: str, org_id: str | None) -> Row:
        """The API took it: keep its id, then forget the body. The first id wins; the row as it now is comes back.

        A row that was closed or abandoned meanwhile is open again, since it is being billed.
        """
        return self._settle(
            row.id,
            _r.evaluation_id.is_(None) & _r.state.not_in((COMPLETED, FAILED)),
            evaluation_id=_clean(evaluation_id),
            org_id=_clean(org_id),
            submitted_at=self._now(),
            state=OPEN,
            failure_code=None,
        )

    @_told
    def finished(
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
            _r.state.not_in((COMPLETED, FAILED)),
            packed=_packed(self._kept(answer)),
            state=COMPLETED if completed else FAILED,
            evaluation_id=sa.func.coalesce(_r.evaluation_id, _clean(answer.get("id"))),
            finished_at=self._now(),
            duration_s=_positive(duration_s),
            cost=_amount(cost),
            passed=_verdict(answer.get("overall_passed")) if completed else None,
            score=_score(answer.get("weighted_pass_rate")) if completed else None,
            failure_code=_clean(failure_code),
        )

    @_told
    def refused(self, row: Row, code: str) -> Row:
        """The API refused to take it (401, 402, 403, 422): closed, not billed, its share of the budget free again.

        Changes nothing where somebody else's submit of the same row was taken.
        """
        return self._settle(row.id, _untaken, state=CLOSED, finished_at=self._now(), failure_code=_clean(code))

    @_told
    def release(self, row: Row) -> bool:
        """Nothing will be sent for ``row`` after all: close it and free its budget.

        False, and unchanged, where a body is spooled: it may have been sent, by this process or by another.
        """
        free = _untaken & _r.spool.is_(None)
        return self._change(row.id, free, state=CLOSED, finished_at=self._now(), failure_code="NOT_SENT")

    @_told
    def abandon(self, row: Row) -> Row:
        """Nobody will wait for it any more. It may have been billed, so it goes on counting against its day.

        Changes nothing where an id came that ``row`` does not know yet.
        """
        known = _r.evaluation_id.is_not_distinct_from(row.evaluation_id) & (_r.state == OPEN)
        return self._settle(row.id, known, state=ABANDONED, finished_at=self._now())

    @_told
    def askers(self, row: Row) -> int:
        """How many prompts have asked for ``row``: with more than one, another may be sending it right now."""
        others = sa.select(sa.func.count()).where(
            _prompts.c.row_id == row.id, _prompts.c.prompt_token != _clean(row.prompt_token)
        )
        with self._reading() as connection:
            return 1 + (connection.scalar(others) or 0)

    @_told
    def rated(self, evaluation_id: str, is_positive: bool | None, reason: str | None) -> None:
        """Keep the feedback that Runflow has taken in the answer of that evaluation's newest row."""
        wanted = sa.select(_answers.c.row_id, _answers.c.packed).select_from(
            _rows.join(_answers, _answers.c.row_id == _r.id)
        )
        with self._writing() as connection:
            self._lock(connection)
            mine = wanted.where(_r.evaluation_id == _clean(evaluation_id)).order_by(_r.id.desc()).limit(1)
            found = connection.execute(mine).first()
            if found is None:
                return
            rating = {"feedback_is_positive": is_positive, "feedback_reason": reason}
            packed = _packed({**_unpacked(found.packed), **rating})
            connection.execute(_answers.update().where(_answers.c.row_id == found.row_id).values(packed=packed))

    # --- looking back -----------------------------------------------------------------------------

    @_told
    def get(self, row_id: int) -> Row:
        """The row as it now is; ``JournalError`` where it was pruned."""
        with self._reading() as connection:
            return _one(connection, row_id)

    @_told
    def find_evaluation(self, evaluation_id: str) -> Row | None:
        """The newest row of that evaluation."""
        wanted = _whole_rows.where(_r.evaluation_id == _clean(evaluation_id)).order_by(_r.id.desc()).limit(1)
        with self._reading() as connection:
            found = connection.execute(wanted).first()
        return _row(found) if found else None

    @_told
    def durations(self, job_class: str, limit: int = 50) -> list[float]:
        """How long the latest evaluations of this job class took, in seconds, newest first."""
        wanted = sa.select(_r.duration_s).where(_r.job_class == _clean(job_class), _r.duration_s.is_not(None))
        with self._reading() as connection:
            return list(connection.scalars(wanted.order_by(_r.id.desc()).limit(_page(limit))))

    @_told
    def spent_today(self) -> Spend:
        """What this UTC day has used up, reservations included."""
        with self._reading() as connection:
            return _spend(connection, self._today())

    @_told
    def history(
        self, *, before: int | None = None, limit: int = 50, outcome: str | None = None, search: str = ""
    ) -> list[Row]:
        """A page of rows, newest first; the next page is ``before`` the last one's id.

        ``outcome`` is one of ``OUTCOMES``; ``search`` is looked for in prompts, evaluation ids and failure codes.
        """
        wanted = _whole_rows.order_by(_r.id.desc()).limit(_page(limit))
        if before is not None:
            wanted = wanted.where(_r.id < before)
        if outcome is not None:
            wanted = wanted.where(_has_outcome(outcome))
        if search.strip():
            wanted = wanted.where(self._holds(search.strip()))
        with self._reading() as connection:
            return [_row(found) for found in connection.execute(wanted)]

    def _holds(self, text: str) -> sa.ColumnElement[bool]:
        """Case does not count. SQLite's LIKE ignores it by itself (for ASCII), in half the time of lowering both."""
        columns = (_r.generation_prompt, _r.evaluation_id, _r.failure_code)
        like = "contains" if self._is_sqlite else "icontains"
        return sa.or_(*(getattr(column, like)(_clean(text), autoescape=True) for column in columns))

    @_told
    def per_day(self, days: int) -> list[DayTotal]:
        """One total for each of the last ``days`` UTC days, today's last; days without evaluations are zeros."""
        today = self._today()
        first = today - _page(days) + 1
        wanted = (
            sa.select(_r.day, _r.passed, _amount_column, sa.func.count())
            .where(_r.day.between(first, today), _r.state != CLOSED)
            .group_by(_r.day, _r.passed, _amount_column)
        )
        with self._reading() as connection:
            found = [tuple(row) for row in connection.execute(wanted)]
        return [_day_total(day, [row[1:] for row in found if row[0] == day]) for day in range(first, today + 1)]

    @_told
    def prune(self, *, older_than_days: int, at_most: int, spool_older_than_days: int = 2) -> int:
        """Forget rows by age and count, and bodies that can no longer be resent; the number of rows forgotten.

        Today's rows stay, because they are the budget, and so do open ones younger than their body may be.
        """
        now, today = self._now(), self._today()
        young = now - spool_older_than_days * DAY_S
        keep = (_r.day >= today) | ((_r.state == OPEN) & (_r.created_at > young))
        newest = sa.select(_r.id).order_by(_r.id.desc()).limit(1).offset(max(at_most, 0))
        with self._reading() as connection:
            over = connection.scalar(newest) or 0
            old = (_r.created_at < now - older_than_days * DAY_S) | (_r.id <= over)
            ids = list(connection.scalars(sa.select(_r.id).where(old, sa.not_(keep))))
        for chunk in _chunks(ids):
            self._forget(chunk)
        with self._reading() as connection:
            wanted = sa.select(_r.spool).where(_r.spool.is_not(None), _r.created_at > young)
            referenced = set(connection.scalars(wanted))
        self._spool.prune(referenced, now)
        return len(ids)

    def _forget(self, ids: Sequence[int]) -> None:
        """A few rows at a time, so that nobody waits long for the lock."""
        with self._writing() as connection:
            connection.execute(_answers.delete().where(_answers.c.row_id.in_(ids)))
            connection.execute(_prompts.delete().where(_prompts.c.row_id.in_(ids)))
            connection.execute(_rows.delete().where(_r.id.in_(ids)))

    # --- begin, in pieces -------------------------------------------------------------------------

    def _begin(self, connection: sa.Connection, asks: Sequence[Ask], limits: Limits) -> list[Row]:
        now, new, rows = self._now(), dict[int, Ask](), list[Row]()
        for ask in asks:
            account = self._resolved(connection, _clean(ask.account))
            row = _latest(connection, account, ask.request_hash)
            if row is None or _needs_another(connection, ask, row):
                generation = 0 if row is None else row.generation + 1
                row = self._insert(connection, ask, account, generation, now)
                new[row.id] = ask
            elif row.state == OPEN:
                _note_prompt(connection, row, ask.prompt_token)
            rows.append(replace(row, is_new=row.id in new))
        if new:
            _check_limits(connection, list(new.values()), limits, _day(now))
        return rows

    def _insert(self, connection: sa.Connection, ask: Ask, account: str, generation: int, now: float) -> Row:
        done = connection.execute(
            _rows.insert().values(
                account=account,
                request_hash=_clean(ask.request_hash),
                generation=generation,
                idempotency_key=str(uuid.uuid4()),
                state=OPEN,
                prompt_token=_clean(ask.prompt_token),
                job_class=_clean(ask.job_class),
                pixel_hash=_clean(ask.pixel_hash),
                generation_prompt=_clean(ask.generation_prompt)[:MAX_PROMPT_CHARS] if self._keep_prompts else "",
                day=_day(now),
                created_at=now,
                price=_amount(ask.price),
            )
        )
        assert done.inserted_primary_key is not None
        return _one(connection, done.inserted_primary_key[0])

    def _lock(self, connection: sa.Connection) -> None:
        """Keep other writers out until this transaction ends. On SQLite BEGIN IMMEDIATE has done so already."""
        connection.execute(_salt_row.with_for_update())

    # --- changing one row -------------------------------------------------------------------------

    def _change(self, row_id: int, condition: sa.ColumnElement[bool], **values: Any) -> bool:
        with self._writing() as connection:
            return _update(connection, row_id, condition, **values)

    def _settle(
        self, row_id: int, condition: sa.ColumnElement[bool], *, packed: bytes | None = None, **values: Any
    ) -> Row:
        """Change the row where ``condition`` holds, with its answer, and read it as it now is.

        Its body is forgotten, and deleted after the commit, where nothing more is to be sent.
        """
        with self._writing() as connection:
            changed = _update(connection, row_id, condition, **values)
            if changed and packed is not None:
                connection.execute(_answers.insert().values(row_id=row_id, packed=packed))
            name = connection.scalar(sa.select(_r.spool).where(_r.id == row_id, sa.not_(_untaken)))
            if name is not None:
                _update(connection, row_id, sa.true(), spool=None)
            row = _one(connection, row_id)
        if name is not None:
            self._spool.remove(name)
        return row

    def _kept(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._keep_prompts:
            return answer
        return {name: value for name, value in answer.items() if name not in PROMPTS_OF_AN_ANSWER}

    def _spool_name(self, row_id: int) -> str | None:
        with self._reading() as connection:
            return connection.scalar(sa.select(_r.spool).where(_r.id == row_id))

    # --- transactions -----------------------------------------------------------------------------

    def _today(self) -> int:
        return _day(self._now())

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        self._require_open()
        try:
            with self._engine.begin() as connection:
                yield connection
        finally:
            self._give_back()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that holds the database's write lock from its first moment."""
        self._require_open()
        try:
            with self._in_turn(), self._writer.begin() as connection:
                yield connection
        finally:
            self._give_back()

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if self._turn is None:
            yield
        elif self._turn.acquire(timeout=BUSY_S):
            try:
                yield
            finally:
                self._turn.release()
        else:
            raise JournalError(f"The journal ({self.where}) cannot be used: {_LOCKED}")

    def _require_open(self) -> None:
        if self._closed:
            raise JournalError(f"The journal ({self.where}) is closed. Nothing was written.")

    def _give_back(self) -> None:
        if self._closed:  # closed while this thread was inside: nobody else will close its connection
            self._engine.pool.dispose()


# --- rows -----------------------------------------------------------------------------------------

_untaken = (_r.state == OPEN) & _r.evaluation_id.is_(None)
_ROW_COLUMNS = tuple(f.name for f in fields(Row) if f.name in _r and f.name not in ("price", "cost"))


def _row(found: Any) -> Row:
    values = found._mapping
    return Row(
        **{name: values[name] for name in _ROW_COLUMNS},
        price=_decimal(values["price"]),
        cost=_decimal(values["cost"]),
        spooled=values["spool"] is not None,
        packed=values["packed"],
    )


def _one(connection: sa.Connection, row_id: int) -> Row:
    found = connection.execute(_whole_rows.where(_r.id == row_id)).first()
    if found is None:
        raise JournalError(f"The journal has no row {row_id} any more: it was pruned. Queue the prompt again.")
    return _row(found)


def _latest(connection: sa.Connection, account: str, request_hash: str) -> Row | None:
    same = _whole_rows.where(_r.account == account, _r.request_hash == _clean(request_hash))
    found = connection.execute(same.order_by(_r.generation.desc()).limit(1)).first()
    return _row(found) if found else None


def _update(connection: sa.Connection, row_id: int, condition: sa.ColumnElement[bool], **values: Any) -> bool:
    """Compare and set: whether the row was there, and the condition held."""
    return connection.execute(_rows.update().where(_r.id == row_id, condition).values(**values)).rowcount == 1


def _needs_another(connection: sa.Connection, ask: Ask, row: Row) -> bool:
    if row.state == OPEN:
        return False
    if row.state == COMPLETED:
        return not ask.reuse
    return row.state != FAILED or not _was_asked_by(connection, row, ask.prompt_token)


def _was_asked_by(connection: sa.Connection, row: Row, prompt_token: str) -> bool:
    token = _clean(prompt_token)
    noted = sa.select(_prompts.c.row_id).where(_prompts.c.row_id == row.id, _prompts.c.prompt_token == token)
    return row.prompt_token == token or connection.scalar(noted) is not None


def _note_prompt(connection: sa.Connection, row: Row, prompt_token: str) -> None:
    """Every prompt that waits for a row is kept: should it fail, none of them may pay for it a second time."""
    if not _was_asked_by(connection, row, prompt_token):
        connection.execute(_prompts.insert().values(row_id=row.id, prompt_token=_clean(prompt_token)))


def _move(connection: sa.Connection, row: Any, account: str) -> None:
    """Give a provisional row to its organisation, behind or in front of what the organisation has."""
    latest = _latest(connection, account, row.request_hash)
    generation = row.generation
    if latest is not None:
        if latest.state in (OPEN, COMPLETED) or row.state not in (OPEN, COMPLETED):
            return
        generation = latest.generation + 1
    _update(connection, row.id, sa.true(), account=account, generation=generation)


def _has_outcome(outcome: str) -> sa.ColumnElement[bool]:
    if outcome not in OUTCOMES:
        raise InvalidInputError("outcome", f"must be one of {', '.join(OUTCOMES)}.")
    if outcome == "error":
        return _r.state == FAILED
    if outcome in (OPEN, CLOSED, ABANDONED):
        return _r.state == outcome
    return (_r.state == COMPLETED) & _r.passed.is_({"passed": True, "failed": False, "unknown": None}[outcome])


# --- the budget -----------------------------------------------------------------------------------


def _check_limits(connection: sa.Connection, new: list[Ask], limits: Limits, today: int) -> None:
    """Refuse where the rows just inserted, which the counts include, are too many. The caller rolls back."""
    for token, asked in Counter(_clean(ask.prompt_token) for ask in new).items():
        counted = sa.select(sa.func.count()).where(_r.prompt_token == token, _r.state != CLOSED)
        total = connection.scalar(counted) or 0
        if total > limits.per_prompt:
            used = total - asked
            raise _over("evaluations per queued prompt", asked, used, limits.per_prompt, "EVALUATIONS_PER_PROMPT")
    spend = _spend(connection, today)
    if spend.evaluations > limits.per_day:
        used = spend.evaluations - len(new)
        raise _over("evaluations per day (UTC)", len(new), used, limits.per_day, "EVALUATIONS_PER_DAY")
    if limits.credits_per_day is not None:
        _check_credits(new, spend.credits, limits.credits_per_day)


def _check_credits(new: list[Ask], total: Decimal, limit: Decimal) -> None:
    prices = [_decimal(_amount(ask.price)) for ask in new]
    known = [price for price in prices if price is not None]
    asked = _sum((price, 1) for price in known)
    if len(known) < len(new):
        raise BudgetError(
            f"The price of {len(new) - len(known)} of {len(new)} evaluations is not known, and your limit is "
            f"{limit:f} credits per day (UTC). {_where_to_change('CREDITS_PER_DAY')}"
        )
    if total > limit:
        with localcontext(EXACT):
            used = total - asked
        raise _over("credits per day (UTC)", asked, used, limit, "CREDITS_PER_DAY")


Number = int | Decimal


def _over(name: str, asked: Number, used: Number, limit: Number, variable: str) -> BudgetError:
    return BudgetError(
        f"This would add {Decimal(asked):f} to the {Decimal(used):f} used already; your limit is "
        f"{Decimal(limit):f} {name}. {_where_to_change(variable)}"
    )


def _where_to_change(variable: str) -> str:
    return (
        "Nothing was sent and nothing was paid. To allow more, change the limit in Settings → Runflow Evaluate, "
        f"or set RUNFLOW_MAX_{variable}."
    )


def _spend(connection: sa.Connection, day: int) -> Spend:
    wanted = (
        sa.select(_amount_column, sa.func.count()).where(_r.day == day, _r.state != CLOSED).group_by(_amount_column)
    )
    found = [(_decimal(amount), count) for amount, count in connection.execute(wanted)]
    unpriced = sum(count for amount, count in found if amount is None)
    return Spend(sum(count for _, count in found), _sum(found), unpriced)


def _sum(amounts: Any) -> Decimal:
    """Exact: the sum of amount times count, where there is an amount."""
    with localcontext(EXACT):
        return sum((amount * count for amount, count in amounts if amount is not None), Decimal(0))


def _day_total(day: int, found: list[tuple[Any, ...]]) -> DayTotal:
    return DayTotal(
        date=EPOCH + timedelta(days=day),
        evaluations=sum(count for _, _, count in found),
        passed=sum(count for passed, _, count in found if passed),
        credits=_sum((_decimal(amount), count) for _, amount, count in found),
    )


# --- values ---------------------------------------------------------------------------------------


def _clean(text: Any) -> Any:
    """Text that every database takes: no lone surrogates, no NUL. What is no text becomes ``None``."""
    if not isinstance(text, str):
        return None
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def _amount(value: Decimal | str | None) -> str | None:
    """Credits as they are stored: plain digits. What is no sane amount is unknown, whoever sent it."""
    try:
        amount = None if value is None else Decimal(value)
    except (InvalidOperation, ValueError, TypeError):
        return None
    if amount is None or not amount.is_finite() or not 0 <= amount < AMOUNT_LIMIT:
        return None
    exponent = amount.as_tuple().exponent
    return f"{amount:f}" if isinstance(exponent, int) and -AMOUNT_PLACES <= exponent <= 15 else None


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _verdict(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _score(value: Any) -> float | None:
    """A share of 1; anything beyond it is no score."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None


def _positive(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) and seconds > 0 else None


def _packed(answer: Mapping[str, Any]) -> bytes:
    try:
        return zlib.compress(json.dumps(answer, separators=(",", ":")).encode("ascii"))
    except (TypeError, RecursionError) as error:
        raise JournalError("The API's answer cannot be kept: it is no JSON, or nested too deeply.") from error


def _unpacked(packed: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(zlib.decompress(packed))
    except (zlib.error, ValueError, RecursionError) as error:
        raise JournalError("An answer in the journal is damaged. Read it anew by its evaluation id.") from error
    return answer if isinstance(answer, dict) else {}


def _day(now: float) -> int:
    """The UTC day as a number, 0 on 1970-01-01; an absurd clock stops well within the calendar."""
    return int(min(max(now // DAY_S, (date(1000, 1, 1) - EPOCH).days), (date(9000, 1, 1) - EPOCH).days))


def _page(limit: int) -> int:
    return min(max(limit, 1), MAX_PAGE)


def _chunks(ids: list[int], size: int = 500) -> Iterator[list[int]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


# --- the spool ------------------------------------------------------------------------------------


class _Spool(Protocol):
    """Where bodies are kept, by the names that rows hold."""

    def write(self, row_id: int, body: bytes) -> str: ...

    def read(self, name: str | None) -> bytes | None: ...

    def remove(self, name: str) -> None: ...

    def prune(self, referenced: Container[str | None], now: float) -> None: ...


class _SpoolFolder:
    """One private file per body."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, name: str) -> Path:
        return self._folder / PurePath(name).name  # whatever a shared database says, it stays in the folder

    def write(self, row_id: int, body: bytes) -> str:
        """A new file that is whole and on the disk before anybody can know its name."""
        name = f"{row_id}-{uuid.uuid4().hex}.body"
        try:
            with _private_file(self._file(name)) as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            self.remove(name)
            raise
        return name

    def read(self, name: str | None) -> bytes | None:
        if name is None:
            return None
        try:
            return self._file(name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Windows keeps a file that somebody is reading; ``prune`` takes it later."""
        with suppress(FileNotFoundError, PermissionError):
            self._file(name).unlink()

    def prune(self, referenced: Container[str | None], now: float) -> None:
        """Take what no row refers to, but not what another process is just writing."""
        for file in list(self._folder.glob("*.body")):
            with suppress(FileNotFoundError, PermissionError):
                if file.name not in referenced and file.stat().st_mtime < now - ORPHAN_S:
                    file.unlink()


class _SpoolInMemory:
    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}

    def write(self, row_id: int, body: bytes) -> str:
        name = f"{row_id}-{uuid.uuid4().hex}"
        self._bodies[name] = body
        return name

    def read(self, name: str | None) -> bytes | None:
        return self._bodies.get(name or "")

    def remove(self, name: str) -> None:
        self._bodies.pop(name, None)

    def prune(self, referenced: Container[str | None], now: float) -> None:
        for name in [name for name in self._bodies if name not in referenced]:
            self.remove(name)


# --- opening --------------------------------------------------------------------------------------

_WRITES = "runflow_writes"


def _location(url: str | None, directory: Path) -> sa.URL:
    if not url:
        return sa.URL.create("sqlite", database=str(directory / FILE_NAME))
    try:
        location = sa.make_url(url)
    except (ArgumentError, ValueError):
        # Without its cause, which may quote the URL and so its password.
        raise JournalError(
            "RUNFLOW_JOURNAL_URL is no database URL. Write it like postgresql+psycopg://user:password@host/name, "
            "or leave it out to keep the journal in a file."
        ) from None
    if location.get_backend_name() == "sqlite" and location.database in (None, "", ":memory:"):
        raise JournalError("RUNFLOW_JOURNAL_URL names a database in memory, which survives nothing. Name a file.")
    return location


def _named(location: sa.URL) -> str:
    """What a person knows the journal by; no user name, password or option of a URL."""
    if location.get_backend_name() == "sqlite":
        return str(location.database)
    return f"{location.get_backend_name()} database {location.database} on {location.host or 'this machine'}"


def _sqlite_file(location: sa.URL) -> Path | None:
    if location.get_backend_name() != "sqlite" or str(location.database).startswith("file:"):
        return None
    return Path(str(location.database))


def _organisation(org_id: str) -> str:
    return f"org:{_clean(org_id)}"


def _private_folder(folder: Path) -> Path:
    """``mkdir`` gives the mode to the last folder only, so the one above is made first."""
    if not folder.parent.exists():
        _private_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _private_file(path: Path) -> Any:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _create_private(file: Path) -> None:
    """Made before SQLite would make it: -wal and -shm take the file's own rights."""
    _private_folder(file.parent)
    with suppress(FileExistsError):
        _private_file(file).close()


def _engine(location: sa.URL) -> sa.Engine:
    if location.get_backend_name() != "sqlite":
        return sa.create_engine(location, hide_parameters=True, pool_pre_ping=True)
    return _sqlite_engine(location)


def _sqlite_engine(location: sa.URL, **options: Any) -> sa.Engine:
    # Autocommit in the driver, so that "begin" is ours to write: the driver's own comes with the first write.
    arguments = {"timeout": BUSY_S, "check_same_thread": False, "isolation_level": None}
    engine = sa.create_engine(location, hide_parameters=True, connect_args=arguments, **options)
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _: object) -> None:
    # FULL: with NORMAL a commit survives a killed process, but not a driver that takes the machine down with it.
    connection.execute("PRAGMA synchronous=FULL").close()


def _on_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepared(engine: sa.Engine, file: Path | None, directory: Path) -> Path:
    """Refuse what is newer before anything is touched, then make the journal usable; the spool's folder."""
    with engine.begin() as connection:
        require_known(connection)
    if file is not None:
        with suppress(OSError):
            file.chmod(0o600)
    if engine.dialect.name == "sqlite":
        _use_wal(engine)
    _migrate(engine)
    return _private_folder(_private_folder(directory) / SPOOL_FOLDER)


def _migrate(engine: sa.Engine) -> None:
    """Another process may be at it: where the database has no lock for that, look again."""
    for attempt in range(INSERT_ATTEMPTS):
        try:
            with engine.execution_options(**{_WRITES: True}).begin() as connection:
                return migrate(connection)
        except SQLAlchemyError:
            if engine.dialect.name == "sqlite" or attempt == INSERT_ATTEMPTS - 1:
                raise
            time.sleep(MIGRATION_RETRY_S)


def _use_wal(engine: sa.Engine) -> None:
    """Readers and the writer go on beside each other. SQLite does not wait for this lock by itself, so we do.

    Where the file system cannot (some network drives) the journal works without.
    """
    deadline = time.monotonic() + BUSY_S
    pooled = engine.raw_connection()
    connection: Any = pooled.driver_connection
    try:
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode=WAL").fetchone()
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(WAL_RETRY_S)
    finally:
        pooled.close()


def _salt(engine: sa.Engine) -> bytes:
    with engine.begin() as connection:
        return bytes.fromhex(connection.scalar(_salt_row) or "")


# --- trouble --------------------------------------------------------------------------------------

_LOCKED = f"another process has kept it locked for {BUSY_S:g} s. Close what else uses it, and queue again."
_RIGHTS = "it may not be read or written. Check the rights of the file and of its folder."
_FULL = "the disk is full. Make room, and queue again."
_DAMAGED = "it is damaged. Move it away to start a new one; what was paid before is then not known."

_BY_ERRNO = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _RIGHTS),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
}
"""Files: their text is in the person's language."""
_BY_TEXT = (
    ("locked", _LOCKED),
    ("readonly", _RIGHTS),
    ("unable to open", "it cannot be opened. Check that its folder exists, and the rights of both."),
    ("full", _FULL),
    ("not a database", _DAMAGED),
    ("malformed", _DAMAGED),
    ("no module named", "the driver of its database is not installed. Install it into ComfyUI's Python."),
    ("no such table", "its tables are missing. Restart ComfyUI to have them made."),
)
"""SQLite's own words, and Python's for a driver that is not there."""
_BELOW = (SQLAlchemyError, sqlite3.Error, OSError, ImportError, ValueError, OverflowError, RecursionError, MemoryError)


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except RunflowError:
        raise
    except NewerSchemaError as error:
        raise JournalError(
            f"The journal ({where}) was written by a newer version of this pack (schema {error.found}, known here "
            f"{error.known}). Update the pack. Nothing in it was touched."
        ) from error
    except _BELOW as error:
        raise _trouble(error, where) from error


def _trouble(error: BaseException, where: str) -> JournalError:
    """What fits, in our own words: a driver may put anything into its text."""
    if isinstance(error, OSError):
        remedy = _BY_ERRNO.get(error.errno or 0)
    else:
        text = str(getattr(error, "orig", None) or error).lower()
        remedy = next((remedy for sign, remedy in _BY_TEXT if sign in text), None)
    return JournalError(
        f"The journal ({where}) cannot be used: {remedy or f'{type(error).__name__}. Check it, and queue again.'}"
    )
