"""Which row a request gets: one that is there, or a new one within the limits."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from .budget import Limits, check_limits, forget_tallies, reserve
from .errors import JournalError
from .rows import NewRow, Request, Row, askers, closed_unsent, latest, leave, one_row, update
from .schema import ACCOUNTS, ANSWERS, NOT_SENT, PROMPTS, ROWS, R, RowState, chunks, clean, utc_day
from .store import COLLISION_ATTEMPTS, Store, lock
from .verdicts import insert_described

RESERVED_S = 3_600.0
"""A row that nobody has sent so long after it was begun was left behind by a process that died."""

_LEARNED = sa.select(ACCOUNTS.c.account).where(ACCOUNTS.c.provisional == sa.bindparam("whose"))

Key = tuple[str, str]
"""Account and request hash: what makes two requests one."""


def begin_all(
    store: Store, requests: Sequence[Request], limits: Limits, now: float, *, keep_prompts: bool
) -> list[Row]:
    """One row per request, in order. Writes, and waits for other writers, only if not all of them are finished."""
    with store.reading() as connection:
        known = all_finished(connection, requests, now)
    if known is not None:
        return known
    for attempt in range(COLLISION_ATTEMPTS):
        try:
            with store.writing() as connection:
                lock(connection)
                return begin(connection, requests, limits, now, keep_prompts=keep_prompts)
        except IntegrityError:
            if attempt == COLLISION_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def begin(
    connection: sa.Connection, requests: Sequence[Request], limits: Limits, now: float, *, keep_prompts: bool
) -> list[Row]:
    """One row per request, in order; with ``BudgetError`` none is inserted. The caller keeps other writers out."""
    keyed = _keyed(connection, requests)
    there = _known(connection, keyed)
    for key, row in there.items():
        if not is_whole(row):
            there[key] = set_aside(connection, row)
        elif is_left_behind(row, now) and update(connection, row.id, NOT_SENT, **closed_unsent(now)):
            there[key] = one_row(connection, row.id)
    asked = askers(connection, there.values())
    new = which_are_new(keyed, there, asked, now)
    wanted = [request for request, is_new in zip(requests, new, strict=True) if is_new]
    if wanted:
        reserve(connection, wanted, limits, utc_day(now))
        inserting = [
            NewRow(request, key[0], there[key].generation + 1 if key in there else 0)
            for (key, request), is_new in zip(keyed, new, strict=True)
            if is_new
        ]
        inserted = insert_described(connection, inserting, now, keep_prompts=keep_prompts)
        for each, row in zip(inserting, inserted, strict=True):
            before = there.get(each.key)
            there[each.key] = replace(row, is_new=True, note=before.note if before else "")
    rows = []
    for (key, request), is_new in zip(keyed, new, strict=True):
        if not is_new and there[key].state == RowState.OPEN:
            note_prompt(connection, there[key], request.prompt_token, asked)
        rows.append(replace(there[key], asked_by=clean(request.prompt_token)))
    return rows


def estimate(connection: sa.Connection, requests: Sequence[Request], limits: Limits, now: float) -> list[bool]:
    """For which requests ``begin`` would insert a row; raises ``BudgetError`` as it would. Nothing is written."""
    keyed = _keyed(connection, requests)
    there = _known(connection, keyed, with_answers=False)
    new = which_are_new(keyed, there, askers(connection, _failed(there)), now)
    wanted = [request for request, is_new in zip(requests, new, strict=True) if is_new]
    if wanted:
        check_limits(connection, wanted, limits, utc_day(now))
    return new


def known(connection: sa.Connection, requests: Sequence[Request]) -> list[Row]:
    """What is there for these requests, whatever became of it."""
    return list(_known(connection, _keyed(connection, requests)).values())


def all_finished(connection: sa.Connection, requests: Sequence[Request], now: float) -> list[Row] | None:
    """The rows, if every one has its verdict and nothing is to be written; otherwise ``None``."""
    keyed = _keyed(connection, requests)
    there = _known(connection, keyed)
    if any(which_are_new(keyed, there, askers(connection, _failed(there)), now)):
        return None
    if not all(row.is_terminal and is_whole(row) for row in there.values()):
        return None
    return [replace(there[key], asked_by=clean(request.prompt_token)) for key, request in keyed]


def resolved(connection: sa.Connection, account: str) -> str:
    """``account``, or the organisation that another thread or process has learned for it meanwhile."""
    return connection.scalar(_LEARNED, {"whose": account}) or account


def _keyed(connection: sa.Connection, requests: Sequence[Request]) -> list[tuple[Key, Request]]:
    accounts = {account: resolved(connection, clean(account)) for account in {each.account for each in requests}}
    return [((accounts[request.account], clean(request.request_hash)), request) for request in requests]


def _known(
    connection: sa.Connection, keyed: Sequence[tuple[Key, Request]], *, with_answers: bool = True
) -> dict[Key, Row]:
    known: dict[Key, Row] = {}
    for account in {account for (account, _), _ in keyed}:
        hashes = [request_hash for (whose, request_hash), _ in keyed if whose == account]
        known |= latest(connection, account, hashes, with_answers=with_answers)
    return known


def _failed(known: Mapping[Key, Row]) -> Iterable[Row]:
    return [row for row in known.values() if row.state == RowState.FAILED]


def which_are_new(
    requests: Sequence[tuple[Key, Request]], known: Mapping[Key, Row], asked: set[tuple[int, str]], now: float
) -> list[bool]:
    """For which requests a row must be inserted; of equal ones, for the first."""
    begun: set[Key] = set()
    new = []
    for key, request in requests:
        is_new = key not in begun and (key not in known or _needs_another(request, known[key], asked, now))
        if is_new:
            begun.add(key)
        new.append(is_new)
    return new


def _needs_another(request: Request, row: Row, asked: set[tuple[int, str]], now: float) -> bool:
    """A completed row is taken where the request reuses, a failed one where its prompt has asked before."""
    if row.state == RowState.OPEN:
        return is_left_behind(row, now)
    if row.state == RowState.COMPLETED:
        return not request.reuse
    token = clean(request.prompt_token)
    return row.state != RowState.FAILED or not (row.prompt_token == token or (row.id, token) in asked)


def is_left_behind(row: Row, now: float) -> bool:
    """Whether it was reserved by a process that died before it had anything to send."""
    is_unsent = row.state == RowState.OPEN and row.evaluation_id is None and not row.spooled
    return is_unsent and row.created_at < now - RESERVED_S


def is_whole(row: Row) -> bool:
    """Whether everything can be read that this row must have: its key and state, and once finished its answer."""
    try:
        return not row.is_damaged and not (row.is_terminal and row.answer is None)
    except JournalError:
        return False


def set_aside(connection: sa.Connection, row: Row) -> Row:
    """A damaged row stands in nobody's way: it is read again by its evaluation's id, or given up.

    Either way it goes on counting for its day. What became of it is in its ``note``.
    """
    connection.execute(ANSWERS.delete().where(ANSWERS.c.row_id == row.id))
    forget_tallies(connection)
    if row.evaluation_id is not None:
        key = row.idempotency_key or str(uuid.uuid4())
        update(connection, row.id, sa.true(), state=RowState.OPEN, idempotency_key=key, finished_at=None, spool=None)
        note = f"evaluation {row.evaluation_id} was damaged in the journal (row {row.id}): it was read again, for free"
    else:
        values = {"state": RowState.ABANDONED, "failure_code": "DAMAGED"}
        update(connection, row.id, sa.true(), idempotency_key=row.idempotency_key or str(uuid.uuid4()), **values)
        note = f"row {row.id} of the journal was damaged and does not name its evaluation: a new one was started"
    return replace(one_row(connection, row.id), note=note)


def note_prompt(connection: sa.Connection, row: Row, prompt_token: str, asked: set[tuple[int, str]]) -> None:
    """Every prompt that waits for a row is kept: should it fail, none of them may pay for it a second time."""
    token = clean(prompt_token)
    if row.prompt_token != token and (row.id, token) not in asked:
        asked.add((row.id, token))
        connection.execute(PROMPTS.insert().values(row_id=row.id, prompt_token=token))


def release(store: Store, rows: Sequence[Row], now: float) -> int:
    """Writes only if there is something to close; the number of rows closed."""
    with store.reading() as connection:
        unsent = sa.select(R.idempotency_key).where(R.id.in_([row.id for row in rows]), NOT_SENT)
        keys = set(connection.scalars(unsent))
    if not keys:
        return 0
    with store.writing() as connection:
        lock(connection)
        return sum(leave(connection, row, now) for row in rows if row.idempotency_key in keys)


def close_left_behind(store: Store, now: float, older_than_s: float) -> int:
    """Writes only if there is something to close; the number of rows."""
    left = NOT_SENT & (R.created_at < now - older_than_s)
    with store.reading() as connection:
        ids = list(connection.scalars(sa.select(R.id).where(left)))
    for chunk in chunks(ids):
        with store.writing() as connection:
            connection.execute(ROWS.update().where(R.id.in_(chunk), left).values(**closed_unsent(now)))
    return len(ids)
