"""What has been spent, and the person's own limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any

import sqlalchemy as sa

from ..errors import BudgetError
from .rows import Request
from .schema import AMOUNT, EPOCH, R, RowState, clean, decimal_of, stored_amount

FREE = "free:"
"""Accounts that begin so are of judges that cost nothing: their rows count against no limit and in no sum."""
PAID = R.account.not_like(f"{FREE}%")
EXACT = Context(prec=60)
"""Room for a sum of any number of such amounts."""


@dataclass(frozen=True)
class Limits:
    """The person's own limits, each inclusive; ``credits_per_day`` ``None`` is none."""

    per_prompt: int
    per_day: int
    credits_per_day: Decimal | None = None


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


def check_limits(connection: sa.Connection, new: Sequence[Request], limits: Limits, today: int) -> None:
    """Raise ``BudgetError`` if ``new`` rows would be too many. They are not inserted yet."""
    for token, asked in Counter(clean(request.prompt_token) for request in new).items():
        counted = sa.select(sa.func.count()).where(R.prompt_token == token, R.state != RowState.REJECTED, PAID)
        used = connection.scalar(counted) or 0
        if used + asked > limits.per_prompt:
            raise _over("evaluations per queued prompt", asked, used, limits.per_prompt, "EVALUATIONS_PER_PROMPT")
    spent = spend(connection, today)
    if spent.evaluations + len(new) > limits.per_day:
        used = spent.evaluations
        raise _over("evaluations per day (UTC)", len(new), used, limits.per_day, "EVALUATIONS_PER_DAY")
    if limits.credits_per_day is not None:
        _check_credits(new, spent.credits, limits.credits_per_day)


def _check_credits(new: Sequence[Request], used: Decimal, limit: Decimal) -> None:
    prices = [decimal_of(stored_amount(request.price)) for request in new]
    known = [price for price in prices if price is not None]
    asked = _sum((price, 1) for price in known)
    if len(known) < len(new):
        raise BudgetError(
            f"The price of {len(new) - len(known)} of {len(new)} evaluations is not known, and your limit is "
            f"{limit:f} credits per day (UTC). {_where_to_change('CREDITS_PER_DAY')}"
        )
    if _sum([(used, 1), (asked, 1)]) > limit:
        raise _over("credits per day (UTC)", asked, used, limit, "CREDITS_PER_DAY")


Number = int | Decimal


def _over(name: str, asked: Number, used: Number, limit: Number, variable: str) -> BudgetError:
    return BudgetError(
        f"This would add {Decimal(asked):f} to the {Decimal(used):f} used already; your limit is "
        f"{Decimal(limit):f} {name}. {_where_to_change(variable)}"
    )


def _where_to_change(variable: str) -> str:
    return (
        "Nothing was sent and nothing was paid. To allow more, change the limit in Settings \u2192 Runflow Evaluate, "
        f"or set RUNFLOW_MAX_{variable}."
    )


def spend(connection: sa.Connection, day: int) -> Spend:
    counted = (R.day == day) & (R.state != RowState.REJECTED) & PAID
    wanted = sa.select(AMOUNT, sa.func.count()).where(counted).group_by(AMOUNT)
    found = [(decimal_of(amount), count) for amount, count in connection.execute(wanted)]
    unpriced = sum(count for amount, count in found if amount is None)
    return Spend(sum(count for _, count in found), _sum(found), unpriced)


def _sum(amounts: Any) -> Decimal:
    """Exact: the sum of amount times count, if there is an amount."""
    with localcontext(EXACT):
        return sum((amount * count for amount, count in amounts if amount is not None), Decimal(0))


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
