"""Asks and rows: which row an ask gets, and how one is read and changed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from .errors import JournalError
from .schema import (
    ANSWERS,
    COMPLETED,
    FAILED,
    OPEN,
    PROMPTS,
    ROWS,
    WHOLE_ROWS,
    R,
    clean,
    decimal_of,
    pack,
    stored_amount,
    unpack,
    utc_day,
)

MAX_PROMPT_CHARS = 16_000

OUTCOMES = ("open", "passed", "failed", "unknown", "error", "closed", "abandoned")
"""What ``history`` can be filtered by. ``unknown``: finished without a verdict; ``error``: a failed evaluation."""


@dataclass(frozen=True)
class Request:
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
        return None if self.packed is None else unpack(self.packed)

    @property
    def outcome(self) -> str:
        """One of ``OUTCOMES``."""
        if self.state == COMPLETED:
            return "unknown" if self.passed is None else "passed" if self.passed else "failed"
        return "error" if self.state == FAILED else self.state


_ROW_COLUMNS = tuple(f.name for f in fields(Row) if f.name in R and f.name not in ("price", "cost"))


def row_of(found: Any) -> Row:
    values = found._mapping
    return Row(
        **{name: values[name] for name in _ROW_COLUMNS},
        price=decimal_of(values["price"]),
        cost=decimal_of(values["cost"]),
        spooled=values["spool"] is not None,
        packed=values["packed"],
    )


def one_row(connection: sa.Connection, row_id: int) -> Row:
    found = connection.execute(WHOLE_ROWS.where(R.id == row_id)).first()
    if found is None:
        raise JournalError(f"The journal has no row {row_id} any more: it was pruned. Queue the prompt again.")
    return row_of(found)


def latest(connection: sa.Connection, account: str, request_hash: str) -> Row | None:
    same = WHOLE_ROWS.where(R.account == account, R.request_hash == clean(request_hash))
    found = connection.execute(same.order_by(R.generation.desc()).limit(1)).first()
    return row_of(found) if found else None


def update(connection: sa.Connection, row_id: int, condition: sa.ColumnElement[bool], **values: Any) -> bool:
    """Compare and set: whether the row was there, and the condition held."""
    return connection.execute(ROWS.update().where(R.id == row_id, condition).values(**values)).rowcount == 1


def needs_another(connection: sa.Connection, ask: Request, row: Row) -> bool:
    if row.state == OPEN:
        return False
    if row.state == COMPLETED:
        return not ask.reuse
    return row.state != FAILED or not _was_asked_by(connection, row, ask.prompt_token)


def _was_asked_by(connection: sa.Connection, row: Row, prompt_token: str) -> bool:
    token = clean(prompt_token)
    noted = sa.select(PROMPTS.c.row_id).where(PROMPTS.c.row_id == row.id, PROMPTS.c.prompt_token == token)
    return row.prompt_token == token or connection.scalar(noted) is not None


def note_prompt(connection: sa.Connection, row: Row, prompt_token: str) -> None:
    """Every prompt that waits for a row is kept: should it fail, none of them may pay for it a second time."""
    if not _was_asked_by(connection, row, prompt_token):
        connection.execute(PROMPTS.insert().values(row_id=row.id, prompt_token=clean(prompt_token)))


def insert(connection: sa.Connection, ask: Request, account: str, generation: int, now: float) -> Row:
    done = connection.execute(
        ROWS.insert().values(
            account=account,
            request_hash=clean(ask.request_hash),
            generation=generation,
            idempotency_key=str(uuid.uuid4()),
            state=OPEN,
            prompt_token=clean(ask.prompt_token),
            job_class=clean(ask.job_class),
            pixel_hash=clean(ask.pixel_hash),
            generation_prompt=clean(ask.generation_prompt)[:MAX_PROMPT_CHARS],
            day=utc_day(now),
            created_at=now,
            price=stored_amount(ask.price),
        )
    )
    assert done.inserted_primary_key is not None
    return one_row(connection, done.inserted_primary_key[0])


def add_to_answer(connection: sa.Connection, evaluation_id: str, added: Mapping[str, Any]) -> None:
    """Put fields into the answer of that evaluation's newest row, if there is one."""
    wanted = sa.select(ANSWERS.c.row_id, ANSWERS.c.packed).join(ROWS, ANSWERS.c.row_id == R.id)
    mine = wanted.where(R.evaluation_id == clean(evaluation_id)).order_by(R.id.desc()).limit(1)
    if (found := connection.execute(mine).first()) is not None:
        packed = pack({**unpack(found.packed), **added})
        connection.execute(ANSWERS.update().where(ANSWERS.c.row_id == found.row_id).values(packed=packed))


def move(connection: sa.Connection, provisional: str, account: str) -> None:
    """Give the rows of a provisional account to its organisation."""
    moving = sa.select(R.id, R.request_hash, R.generation, R.state).where(R.account == provisional)
    for row in connection.execute(moving.order_by(R.request_hash, R.generation)).all():
        _move_one(connection, row, account)


def _move_one(connection: sa.Connection, row: Any, account: str) -> None:
    """Give a provisional row to its organisation, behind or in front of what the organisation has."""
    known = latest(connection, account, row.request_hash)
    generation = row.generation
    if known is not None:
        if known.state in (OPEN, COMPLETED) or row.state not in (OPEN, COMPLETED):
            return
        generation = known.generation + 1
    update(connection, row.id, sa.true(), account=account, generation=generation)
