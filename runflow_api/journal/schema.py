"""The journal's tables, and how values are stored in them."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, TypeVar

import sqlalchemy as sa

from .errors import JournalError
from .migrations import BINARY, TEXT

T = TypeVar("T")

DAY_S = 86_400
EPOCH = date(1970, 1, 1)
MAX_PAGE = 500
AMOUNT_LIMIT = Decimal(10) ** 15
AMOUNT_PLACES = 24


class RowState(str, Enum):
    """Where one logical evaluation is. What is stored is older than the words: a rejected row says "closed"."""

    OPEN = "open"
    """No final answer yet."""
    COMPLETED = "completed"
    FAILED = "failed"
    REJECTED = "closed"
    """Refused, or never sent: not billed."""
    ABANDONED = "abandoned"
    """Never answered: may have been billed."""

    __str__ = str.__str__


class StateColumn(sa.TypeDecorator[RowState]):
    """What is stored and is none of the states is ``None``: the row is damaged."""

    impl = sa.String(16)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> RowState | None:
        try:
            return RowState(value)
        except ValueError:
            return None


SCHEMA = sa.MetaData()
ROWS = sa.Table(
    "runflow_evaluations",
    SCHEMA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("account", sa.String(255)),
    sa.Column("request_hash", sa.String(128)),
    sa.Column("generation", sa.Integer),
    sa.Column("idempotency_key", sa.String(64)),
    sa.Column("state", StateColumn),
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
ANSWERS = sa.Table(
    "runflow_answers",
    SCHEMA,
    sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("packed", BINARY),
)
PROMPTS = sa.Table(
    "runflow_prompts",
    SCHEMA,
    sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("prompt_token", sa.String(255), primary_key=True),
)
VERDICTS = sa.Table(
    "runflow_verdicts",
    SCHEMA,
    sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("is_final", sa.Boolean),
    sa.Column("judge", sa.String(16)),
    sa.Column("judge_name", sa.String(255)),
    sa.Column("task", sa.String(100)),
    sa.Column("day", sa.Integer),
    sa.Column("passed", sa.Boolean),
    sa.Column("score", sa.Double),
    sa.Column("amount", sa.String(48)),
    sa.Column("is_good", sa.Boolean),
    sa.Column("subject", sa.String(64)),
    sa.Column("checkpoint", sa.String(255)),
    sa.Column("loras", sa.Text),
    sa.Column("sampler", sa.String(255)),
    sa.Column("scheduler", sa.String(255)),
    sa.Column("steps", sa.Integer),
    sa.Column("cfg", sa.Double),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("seed", sa.String(20)),
)
"""Beside each row, narrow enough to be read whole: what was said, what made the image, and whether the person finds
it good (``is_good``). ``subject`` stands for the pixels and what was asked about them."""
IMAGE_PROMPTS = sa.Table(
    "runflow_image_prompts",
    SCHEMA,
    sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("prompt", TEXT),
)
"""The prompt that made an image, where it is another one than the image was judged against."""
ACCOUNTS = sa.Table(
    "runflow_accounts",
    SCHEMA,
    sa.Column("provisional", sa.String(255), primary_key=True),
    sa.Column("account", sa.String(255)),
)
SETTINGS = sa.Table(
    "runflow_settings",
    SCHEMA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.String(255)),
)
BODIES = sa.Table(
    "runflow_bodies",
    SCHEMA,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("body", BINARY),
    sa.Column("created_at", sa.Double),
)
PACE = sa.Table(
    "runflow_pace",
    SCHEMA,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("rate", sa.Double),
    sa.Column("ceiling", sa.Double),
    sa.Column("next_at", sa.Double),
    sa.Column("paused_until", sa.Double),
    sa.Column("changed_at", sa.Double),
)
TALLIES = sa.Table(
    "runflow_tallies",
    SCHEMA,
    sa.Column("name", sa.String(300), primary_key=True),
    sa.Column("evaluations", sa.Integer),
    sa.Column("unpriced", sa.Integer),
    sa.Column("credits", sa.String(64)),
)
SALT_ROW = sa.select(SETTINGS.c.value).where(SETTINGS.c.name == "salt")
R = ROWS.c
PACKED = sa.type_coerce(ANSWERS.c.packed, sa.types.NullType()).label("packed")
"""As the driver gives it: what is not bytes is damaged, and must not end the query."""
WHOLE_ROWS = sa.select(ROWS, PACKED).select_from(ROWS.outerjoin(ANSWERS, ANSWERS.c.row_id == R.id))
AMOUNT = sa.func.coalesce(R.cost, R.price)
"""What a row counts for: what it cost, otherwise what was quoted."""
NOT_ACCEPTED = (R.state == RowState.OPEN) & R.evaluation_id.is_(None)
NOT_SENT = NOT_ACCEPTED & R.spool.is_(None)
"""No body was fixed, so that nothing can have been sent."""
TERMINAL = R.state.in_((RowState.COMPLETED, RowState.FAILED))


def clean(text: Any) -> Any:
    """Text that every database takes: no lone surrogates, no NUL. What is not text becomes ``None``."""
    if not isinstance(text, str):
        return None
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def organisation(org_id: str) -> str:
    return f"org:{clean(org_id)}"


def stored_amount(value: Decimal | str | None) -> str | None:
    """Credits as they are stored: plain digits. What is not a sane amount is unknown, whoever sent it."""
    try:
        amount = None if value is None else Decimal(value)
    except (InvalidOperation, ValueError, TypeError):
        return None
    if amount is None or not amount.is_finite() or not 0 <= amount < AMOUNT_LIMIT:
        return None
    exponent = amount.as_tuple().exponent
    return f"{amount:f}" if isinstance(exponent, int) and -AMOUNT_PLACES <= exponent <= 15 else None


def decimal_of(text: Any) -> Decimal | None:
    """Credits as they were stored; what is not a sane amount is unknown."""
    stored = stored_amount(text) if isinstance(text, str) else None
    return None if stored is None else Decimal(stored)


def verdict_of(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def score_of(value: Any) -> float | None:
    """A share of 1; anything beyond it is not a score."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None


def positive(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) and seconds > 0 else None


def pack(answer: Mapping[str, Any]) -> bytes:
    try:
        return zlib.compress(json.dumps(answer, separators=(",", ":")).encode("ascii"))
    except (TypeError, RecursionError) as error:
        raise JournalError("The API's answer cannot be kept: it is not JSON, or nested too deeply.") from error


PROMPTS_OF_AN_ANSWER = frozenset(
    {
        "generation_prompt", "task_description", "evaluation_instructions", "input_attributes",
        "run", "model", "flow", "comfyui_workflow", "parent_evaluation",
    }
)  # fmt: skip
"""What an answer repeats of the request: not kept where prompts are not. The improved prompt stays, being an output."""


def without_prompts(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in PROMPTS_OF_AN_ANSWER}


def unpack(packed: Any) -> dict[str, Any]:
    """The answer that ``pack`` made so small. Raises ``JournalError`` if it is damaged."""
    try:
        answer = json.loads(zlib.decompress(packed))
    except (zlib.error, ValueError, TypeError, RecursionError) as error:
        raise JournalError("An answer in the journal is damaged. Read it again by its evaluation id.") from error
    if not isinstance(answer, dict):
        raise JournalError("An answer in the journal is damaged. Read it again by its evaluation id.")
    return answer


def utc_day(now: float) -> int:
    """The UTC day as a number, 0 on 1970-01-01; an absurd clock stops well within the calendar."""
    return int(min(max(now // DAY_S, (date(1000, 1, 1) - EPOCH).days), (date(9000, 1, 1) - EPOCH).days))


def page_size(limit: int) -> int:
    return min(max(limit, 1), MAX_PAGE)


def chunks(values: Sequence[T], size: int = 500) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))
