"""Requests and rows: which row a request gets, and how one is read and changed."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from .errors import JournalError
from .image_settings import VerdictContext
from .schema import (
    ANSWERS,
    NOT_ACCEPTED,
    NOT_SENT,
    PACKED,
    PROMPTS,
    ROWS,
    WHOLE_ROWS,
    R,
    RowState,
    chunks,
    clean,
    decimal_of,
    pack,
    stored_amount,
    unpack,
    utc_day,
)

MAX_PROMPT_CHARS = 16_000
RESERVED_S = 3_600.0
"""A row that nobody has sent so long after it was begun was left behind by a process that died."""

OUTCOMES = ("open", "passed", "failed", "unknown", "error", "closed", "abandoned")
"""What ``history`` can be filtered by. ``unknown``: finished without a verdict; ``error``: a failed evaluation."""

Key = tuple[str, str]
"""Account and request hash: what makes two requests one."""


@dataclass(frozen=True)
class Request:
    """One image, one request.

    ``request_hash`` leaves the account out (the journal keeps it beside, because it may be learned later).
    ``price`` in credits, ``None`` if unknown. ``prompt_token`` is ComfyUI's prompt id or the command line's
    run id. ``reuse`` false asks again even if there is a finished verdict. ``context`` is what the verdict is
    remembered with.
    """

    request_hash: str
    account: str
    price: Decimal | None
    job_class: str
    prompt_token: str
    reuse: bool = True
    generation_prompt: str = ""
    pixel_hash: str = ""
    context: VerdictContext = field(default_factory=VerdictContext)

    def without_prompt(self) -> Request:
        return replace(self, generation_prompt="")


@dataclass(frozen=True)
class Row:
    """One logical evaluation as it was when read; its ``id`` stays, everything else may have moved on.

    Times are Unix seconds, ``duration_s`` seconds from submit to answer. ``spool`` names the body that was fixed: it
    may have been sent; an open row without is certain not to have been. ``prompt_token`` is the prompt that pays,
    ``asked_by`` the one that this ``begin`` was for, ``is_new`` whether it inserted the row. ``note`` says what was
    repaired on the way, "" as a rule.
    """

    id: int
    account: str
    request_hash: str
    generation: int
    idempotency_key: str
    state: RowState
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
    spool: str | None = None
    asked_by: str = ""
    is_new: bool = False
    is_damaged: bool = False
    note: str = ""
    packed: bytes | None = field(default=None, repr=False, compare=False)
    described: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    """What is beside the row (``verdicts``), where it was read to be carried to another journal."""

    @property
    def spooled(self) -> bool:
        return self.spool is not None

    @property
    def may_have_been_sent(self) -> bool:
        """Once it may have been, it never is again a row that is certain not to have been."""
        return self.spool is not None or self.evaluation_id is not None or self.state != RowState.OPEN

    @property
    def is_terminal(self) -> bool:
        return self.state in (RowState.COMPLETED, RowState.FAILED)

    @property
    def is_useful(self) -> bool:
        """Whether it can be reused, or waited for."""
        return self.state in (RowState.OPEN, RowState.COMPLETED)

    @property
    def came_to_nothing(self) -> bool:
        """Whether it was never taken, or nobody will wait for it any more."""
        return self.state in (RowState.REJECTED, RowState.ABANDONED)

    @property
    def answer(self) -> dict[str, Any] | None:
        """The API's whole answer, decoded anew each time; ``None`` before there is one."""
        return None if self.packed is None else unpack(self.packed)

    def at(self, row_id: int) -> Row:
        """The same row as another journal knows it."""
        return replace(self, id=row_id)

    @property
    def outcome(self) -> str:
        """One of ``OUTCOMES``."""
        if self.state == RowState.COMPLETED:
            return "unknown" if self.passed is None else "passed" if self.passed else "failed"
        return "error" if self.state == RowState.FAILED else str(self.state)


# --- reading --------------------------------------------------------------------------------------

_TEXT = ("account", "request_hash", "idempotency_key", "prompt_token", "job_class", "pixel_hash", "generation_prompt")
_TEXT_OR_NONE = ("evaluation_id", "org_id", "failure_code", "spool")
_NUMBER_OR_NONE = ("submitted_at", "finished_at", "duration_s", "score")

_FIELDS = {each.name for each in fields(Row)} - {"created_at", "state", "price", "cost"}


def row_of(found: Any) -> Row:
    """A row as it is stored. What makes no sense in it is left out, so that a damaged row can still be shown."""
    values: dict[str, Any] = {}
    for name, value in found._mapping.items():
        if name in _TEXT and not isinstance(value, str):
            value = ""
        elif name in _TEXT_OR_NONE and not isinstance(value, str):
            value = None
        elif name in _NUMBER_OR_NONE and not isinstance(value, int | float):
            value = None
        values[name] = value
    return Row(
        **{name: value for name, value in values.items() if name in _FIELDS},
        created_at=values["created_at"] if isinstance(values["created_at"], int | float) else 0.0,
        state=values["state"] or RowState.ABANDONED,
        price=decimal_of(values["price"]),
        cost=decimal_of(values["cost"]),
        is_damaged=values["state"] is None or not values["idempotency_key"],
    )


def is_same(row: Row) -> sa.ColumnElement[bool]:
    """An id means another row in another file; an idempotency key never does."""
    return R.idempotency_key == row.idempotency_key


def one_row(connection: sa.Connection, row_id: int, condition: sa.ColumnElement[bool] | None = None) -> Row:
    wanted = WHOLE_ROWS.where(R.id == row_id)
    found = connection.execute(wanted if condition is None else wanted.where(condition)).first()
    if found is None:
        raise pruned(row_id)
    return row_of(found)


def pruned(row_id: int) -> JournalError:
    return JournalError(f"The journal has no row {row_id} any more: it was pruned. Run again.")


_IS_ASKED = (R.account == sa.bindparam("whose")) & R.request_hash.in_(sa.bindparam("hashes", expanding=True))
_ASKED = sa.select(ROWS).where(_IS_ASKED).order_by(R.generation)
_ASKED_WITH_ANSWERS = WHOLE_ROWS.where(_IS_ASKED).order_by(R.generation)


def latest(
    connection: sa.Connection, account: str, hashes: Iterable[str], *, with_answers: bool = True
) -> dict[Key, Row]:
    """The newest generation of each request of one account, if there is one.

    One that came to nothing hides none before it that can be reused or waited for; the next one comes after both.
    """
    found: dict[Key, Row] = {}
    wanted = _ASKED_WITH_ANSWERS if with_answers else _ASKED
    for chunk in chunks(sorted(set(hashes))):
        for row in map(row_of, connection.execute(wanted, {"whose": account, "hashes": chunk})):
            before = found.get((account, row.request_hash))
            if before is not None and before.is_useful and row.came_to_nothing:
                row = replace(before, generation=row.generation)
            found[account, row.request_hash] = row
    return found


def askers(connection: sa.Connection, rows: Iterable[Row]) -> set[tuple[int, str]]:
    """Which prompts have asked for these rows, beside those that pay for them: pairs of row id and prompt token."""
    found: set[tuple[int, str]] = set()
    for chunk in chunks([row.id for row in rows]):
        wanted = sa.select(PROMPTS.c.row_id, PROMPTS.c.prompt_token).where(PROMPTS.c.row_id.in_(chunk))
        found.update((row_id, token) for row_id, token in connection.execute(wanted))
    return found


# --- changing -------------------------------------------------------------------------------------


def update(connection: sa.Connection, row_id: int, condition: sa.ColumnElement[bool], **values: Any) -> bool:
    """Compare and set: whether the row was there, and the condition held."""
    return connection.execute(ROWS.update().where(R.id == row_id, condition).values(**values)).rowcount == 1


def forget_body(connection: sa.Connection, row_id: int) -> list[str]:
    """If nothing more is to be sent: the name of the body, to be removed after the commit."""
    name = connection.scalar(sa.select(R.spool).where(R.id == row_id, sa.not_(NOT_ACCEPTED)))
    if name is None:
        return []
    update(connection, row_id, sa.true(), spool=None)
    return [name]


@dataclass(frozen=True)
class NewRow:
    """What is to be inserted: a request of this account, in this generation."""

    request: Request
    account: str
    generation: int

    @property
    def key(self) -> Key:
        return self.account, clean(self.request.request_hash)


def insert(connection: sa.Connection, new: Sequence[NewRow], now: float) -> list[Row]:
    """The rows of these requests, which are all different ones, in order."""
    connection.execute(ROWS.insert(), [_columns(each, now) for each in new])
    there: dict[Key, Row] = {}
    for account in {each.account for each in new}:
        hashes = [each.key[1] for each in new if each.account == account]
        there |= latest(connection, account, hashes, with_answers=False)
    return [there[each.key] for each in new]


def _columns(new: NewRow, now: float) -> dict[str, Any]:
    request = new.request
    return {
        "account": new.account,
        "request_hash": new.key[1],
        "generation": new.generation,
        "idempotency_key": str(uuid.uuid4()),
        "state": RowState.OPEN,
        "prompt_token": clean(request.prompt_token),
        "job_class": clean(request.job_class),
        "pixel_hash": clean(request.pixel_hash),
        "generation_prompt": clean(request.generation_prompt)[:MAX_PROMPT_CHARS],
        "day": utc_day(now),
        "created_at": now,
        "price": stored_amount(request.price),
    }


def leave(connection: sa.Connection, row: Row, now: float) -> bool:
    """The prompt that asked for ``row`` sends nothing: hand it on, or close it; whether it closed.

    Changes nothing if a body was fixed, which may have been sent, by this process or by another.
    """
    paying = connection.scalar(sa.select(R.prompt_token).where(R.id == row.id, NOT_SENT))
    if paying is None:
        return False
    connection.execute(PROMPTS.delete().where(PROMPTS.c.row_id == row.id, PROMPTS.c.prompt_token == row.asked_by))
    if paying != row.asked_by:
        return False
    waiting = sa.select(PROMPTS.c.prompt_token).where(PROMPTS.c.row_id == row.id).limit(1)
    if (heir := connection.scalar(waiting)) is None:
        return update(connection, row.id, NOT_SENT, **closed_unsent(now))
    connection.execute(PROMPTS.delete().where(PROMPTS.c.row_id == row.id, PROMPTS.c.prompt_token == heir))
    update(connection, row.id, NOT_SENT, prompt_token=heir)
    return False


def closed_unsent(now: float) -> dict[str, Any]:
    return {"state": RowState.REJECTED, "finished_at": now, "failure_code": "NOT_SENT"}


def add_to_answer(connection: sa.Connection, evaluation_id: str, added: Mapping[str, Any]) -> None:
    """Put fields into the answer of that evaluation's newest row, if there is one."""
    wanted = sa.select(ANSWERS.c.row_id, PACKED).join(ROWS, ANSWERS.c.row_id == R.id)
    mine = wanted.where(R.evaluation_id == clean(evaluation_id)).order_by(R.id.desc()).limit(1)
    if (found := connection.execute(mine).first()) is not None:
        packed = pack({**unpack(found.packed), **added})
        connection.execute(ANSWERS.update().where(ANSWERS.c.row_id == found.row_id).values(packed=packed))


def goes_in_front(row: Row, known: Row) -> bool:
    """What can be reused or waited for goes in front of what cannot."""
    return row.is_useful and not known.is_useful
