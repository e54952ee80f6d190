"""What has been spent, and the person's own limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any

import sqlalchemy as sa

from ..errors import BudgetError
from .rows import Request, Row
from .schema import AMOUNT, EPOCH, TALLIES, R, RowState, clean, decimal_of, stored_amount

FREE = "free:"
"""Accounts that begin so are of judges that cost nothing: their rows count against no limit and in no sum."""
PAID = R.account.not_like(f"{FREE}%")
EXACT = Context(prec=60)
"""Room for a sum of any number of such amounts."""


@dataclass(frozen=True)
class Limits:
    """The person's own limits, each inclusive; credits ``None`` are no limit."""

    per_prompt: int
    per_day: int
    credits_per_day: Decimal | None = None
    credits_per_prompt: Decimal | None = None


@dataclass(frozen=True)
class Spend:
    """``credits`` counts the cost, otherwise the quoted price; ``unpriced`` evaluations have neither."""

    evaluations: int
    credits: Decimal
    unpriced: int = 0


@dataclass(frozen=True)
class DayTotal:
    """One UTC day; ``judged`` and ``passed`` count Runflow's verdicts, before any ``min_score``."""

    date: date
    evaluations: int
    judged: int
    passed: int
    credits: Decimal


def reserve(connection: sa.Connection, new: Sequence[Request], limits: Limits, today: int) -> None:
    """``check_limits``, and note what the rows use up that the caller inserts next, in the same transaction."""
    for limit, asked in _limits(new, limits, today):
        used = _check(connection, limit, asked)
        prices = [_price(request) for request in asked if not request.account.startswith(FREE)]
        more = _sum([(used.credits, 1), *((price, 1) for price in prices)])
        _set(connection, limit.name, Spend(used.evaluations + len(prices), more, used.unpriced + prices.count(None)))


def check_limits(connection: sa.Connection, new: Sequence[Request], limits: Limits, today: int) -> None:
    """Raise ``BudgetError`` if ``new`` rows would be too many. They are not inserted yet."""
    for limit, asked in _limits(new, limits, today):
        _check(connection, limit, asked)


@dataclass(frozen=True)
class _Limit:
    """``name`` is that of its tally, ``condition`` which rows count."""

    name: str
    condition: sa.ColumnElement[bool]
    per: str
    variable: str
    evaluations: int
    credits: Decimal | None


def _limits(new: Sequence[Request], limits: Limits, today: int) -> list[tuple[_Limit, Sequence[Request]]]:
    """Each limit that is to be kept, with the requests that count against it."""
    found: list[tuple[_Limit, Sequence[Request]]] = []
    for token, asked in _by_prompt(new).items():
        name, mine = _of_prompt(token), R.prompt_token == token
        found.append(
            (_Limit(name, mine, "queued prompt", "PROMPT", limits.per_prompt, limits.credits_per_prompt), asked)
        )
    per_day = _Limit(_of_day(today), R.day == today, "day (UTC)", "DAY", limits.per_day, limits.credits_per_day)
    return [*found, (per_day, new)]


def _price(request: Request) -> Decimal | None:
    return decimal_of(stored_amount(request.price))


def _check(connection: sa.Connection, limit: _Limit, new: Sequence[Request]) -> Spend:
    """What was used up, at most. It is counted only if its tally, which is never too small, leaves too little room."""
    prices = [_price(request) for request in new]
    known = [price for price in prices if price is not None]
    asked = _sum((price, 1) for price in known)
    used = _tally(connection, limit.name)
    if used is not None and _has_room(used, len(new), asked, limit) and (limit.credits is None or None not in prices):
        return used
    used = _spend(connection, limit.condition)
    if used.evaluations + len(new) > limit.evaluations:
        variable = f"EVALUATIONS_PER_{limit.variable}"
        raise _over(f"evaluations per {limit.per}", len(new), used.evaluations, limit.evaluations, variable)
    if limit.credits is None:
        return used
    if len(known) < len(new):
        raise BudgetError(
            f"The price of {len(new) - len(known)} of {len(new)} evaluations is not known, and your limit is "
            f"{limit.credits:f} credits per {limit.per}. {_where_to_change(f'CREDITS_PER_{limit.variable}')}"
        )
    if _sum([(used.credits, 1), (asked, 1)]) > limit.credits:
        variable = f"CREDITS_PER_{limit.variable}"
        raise _over(f"credits per {limit.per}", asked, used.credits, limit.credits, variable)
    return used


def _has_room(used: Spend, count: int, asked: Decimal, limit: _Limit) -> bool:
    """By a tally: what has no price yet may cost anything, so that it has to be counted."""
    if used.evaluations + count > limit.evaluations:
        return False
    return limit.credits is None or (not used.unpriced and _sum([(used.credits, 1), (asked, 1)]) <= limit.credits)


Number = int | Decimal


def _over(name: str, asked: Number, used: Number, limit: Number, variable: str) -> BudgetError:
    return BudgetError(
        f"This would add {Decimal(asked):f} to the {Decimal(used):f} used already; your limit is "
        f"{Decimal(limit):f} {name}. {_where_to_change(variable)}"
    )


def _where_to_change(variable: str) -> str:
    if variable == "CREDITS_PER_PROMPT":
        return "Nothing was sent and nothing was paid. To go on, give a larger --budget."
    return (
        "Nothing was sent and nothing was paid. To allow more, change the limit in Settings \u2192 Runflow Evaluate, "
        f"or set RUNFLOW_MAX_{variable}."
    )


def spend(connection: sa.Connection, day: int) -> Spend:
    return _spend(connection, R.day == day)


def spend_of_prompt(connection: sa.Connection, prompt_token: str) -> Spend:
    return _spend(connection, R.prompt_token == clean(prompt_token))


def _spend(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Spend:
    """Counted, row by row."""
    counted = condition & (R.state != RowState.REJECTED) & PAID
    wanted = sa.select(AMOUNT, sa.func.count()).where(counted).group_by(AMOUNT)
    found = [(decimal_of(amount), count) for amount, count in connection.execute(wanted)]
    unpriced = sum(count for amount, count in found if amount is None)
    return Spend(sum(count for _, count in found), _sum(found), unpriced)


def _sum(amounts: Any) -> Decimal:
    """Exact: the sum of amount times count, if there is an amount."""
    with localcontext(EXACT):
        return sum((amount * count for amount, count in amounts if amount is not None), Decimal(0))


# --- tallies --------------------------------------------------------------------------------------
# What rows of a day or of a prompt have used up, at most: rows that are closed later give nothing back to it. Without
# them a day of a million rows would be counted anew for each one that is begun.


def _of_day(day: int) -> str:
    return f"day {day}"


def _of_prompt(token: str) -> str:
    return f"prompt {token}"


def _by_prompt(requests: Iterable[Request]) -> dict[str, list[Request]]:
    found: dict[str, list[Request]] = {}
    for request in requests:
        found.setdefault(clean(request.prompt_token), []).append(request)
    return found


_IS_TALLY = TALLIES.c.name == sa.bindparam("whose")
_TALLY = sa.select(TALLIES).where(_IS_TALLY)
_TALLYING = (
    TALLIES.update()
    .where(_IS_TALLY)
    .values({name: sa.bindparam(name) for name in ("evaluations", "unpriced", "credits")})
)


def _tally(connection: sa.Connection, name: str) -> Spend | None:
    found = connection.execute(_TALLY, {"whose": name}).first()
    return None if found is None else Spend(found.evaluations, Decimal(found.credits), found.unpriced)


def _set(connection: sa.Connection, name: str, used: Spend) -> None:
    values = {"evaluations": used.evaluations, "unpriced": used.unpriced, "credits": f"{used.credits:f}"}
    if not connection.execute(_TALLYING, {**values, "whose": name}).rowcount:
        connection.execute(TALLIES.insert().values(name=name, **values))


def forget_tallies(connection: sa.Connection) -> None:
    """Rows have come to count, or to cost, more than was noted when they were begun. The caller keeps writers out."""
    connection.execute(TALLIES.delete())


def costs_more(row: Row, values: Mapping[str, Any]) -> bool:
    """Whether a change to ``row`` makes it count for more than when it was begun: it is open again, or dearer."""
    if values["state"] == RowState.OPEN:
        return row.state == RowState.REJECTED
    cost = decimal_of(values.get("cost"))
    return cost is not None and row.price is not None and cost > row.price


def has_old_tallies(connection: sa.Connection, today: int) -> bool:
    """Whether there are any of days that are over, or of prompts that may be."""
    return connection.scalar(sa.select(TALLIES.c.name).where(TALLIES.c.name != _of_day(today)).limit(1)) is not None


def forget_old_tallies(connection: sa.Connection, today: int) -> None:
    """Whoever needs one counts again."""
    connection.execute(TALLIES.delete().where(TALLIES.c.name != _of_day(today)))


def per_day(connection: sa.Connection, today: int, days: int) -> list[DayTotal]:
    first = today - days + 1
    wanted = (
        sa.select(R.day, R.passed, AMOUNT, sa.func.count())
        .where(R.day.between(first, today), R.state != RowState.REJECTED, PAID)
        .group_by(R.day, R.passed, AMOUNT)
    )
    found = [tuple(row) for row in connection.execute(wanted)]
    return [_day_total(day, [row[1:] for row in found if row[0] == day]) for day in range(first, today + 1)]


def _day_total(day: int, found: list[tuple[Any, ...]]) -> DayTotal:
    return DayTotal(
        date=EPOCH + timedelta(days=day),
        evaluations=sum(count for _, _, count in found),
        judged=sum(count for passed, _, count in found if passed is not None),
        passed=sum(count for passed, _, count in found if passed),
        credits=_sum((decimal_of(amount), count) for _, amount, count in found),
    )
