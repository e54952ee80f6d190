"""How sure a figure is: intervals at 95 %, for shares, for means and for the difference of two shares.

Sources: E. B. Wilson 1927 (a share); R. G. Newcombe, "Interval estimation for the difference between independent
proportions", Statistics in Medicine 17 (1998), method 10. Student's t by its expansion in 1/n (Abramowitz and Stegun
26.7.5) where it is exact enough, by table below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Z = 1.959963984540054
"""Of the standard normal distribution, 95 % are within so many standard deviations."""
ONE_IN_A_HUNDRED = 2.5758293035489
"""So many standard deviations are exceeded, in either direction, by one in a hundred."""
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t for 95 %, two-sided, with 1 to 30 degrees of freedom."""


@dataclass(frozen=True)
class Share:
    """``count`` of ``of``, and where the true share is, with 95 % confidence. Of nothing there is no share.

    ``sample``: how many of them are independent of each other, if not all: the interval is that of so many.
    """

    count: int
    of: int
    sample: int | None = None

    @property
    def value(self) -> float | None:
        return self.count / self.of if self.of else None

    @property
    def low(self) -> float:
        return self._interval[0]

    @property
    def high(self) -> float:
        return self._interval[1]

    @property
    def _interval(self) -> tuple[float, float]:
        if self.sample is None or self.sample >= self.of:
            return wilson(self.count, self.of)
        return wilson(self.count / self.of * self.sample, self.sample)

    def to_json(self) -> dict[str, Any]:
        return {"count": self.count, "of": self.of, "share": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Mean:
    """A mean of ``of`` values; ``low`` and ``high`` are ``None`` below two values."""

    value: float | None
    of: int
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {"mean": self.value, "of": self.of, "low": self.low, "high": self.high}


def wilson(count: float, of: int) -> tuple[float, float]:
    """The score interval of a share; (0, 1) where nothing was counted."""
    if of <= 0:
        return 0.0, 1.0
    share, square = count / of, Z * Z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = Z / (1 + square / of) * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    low = 0.0 if count == 0 else max(0.0, middle - half)
    high = 1.0 if count == of else min(1.0, middle + half)
    return low, high


def mean(of: int, total: float, total_of_squares: float) -> Mean:
    """The mean of scores from 0 to 1, from their count, their sum and the sum of their squares."""
    if of == 0:
        return Mean(None, 0)
    value = total / of
    if of == 1:
        return Mean(value, 1)
    variance = max(0.0, (total_of_squares - of * value * value) / (of - 1))
    half = student(of - 1) * math.sqrt(variance / of)
    return Mean(value, of, max(0.0, value - half), min(1.0, value + half))


def student(freedom: int) -> float:
    """Student's t for 95 %, two-sided."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    return Z + (Z**3 + Z) / (4 * freedom) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom * freedom)


def ranks_apart(groups: Sequence[tuple[int, int]]) -> float:
    """How many standard deviations the first counts are ranked above the second ones (Mann and Whitney, with ties).

    ``groups`` are counts of both with equal values, from the lowest value to the highest; both must count something.
    """
    first, second = sum(a for a, _ in groups), sum(b for _, b in groups)
    total, above, below, ties = first + second, 0.0, 0, 0
    for a, b in groups:
        above += a * (below + b / 2)
        below += b
        ties += (a + b) ** 3 - (a + b)
    variance = first * second / 12 * (total + 1 - ties / (total * (total - 1)))
    return (above - first * second / 2) / math.sqrt(variance) if variance > 0 else 0.0


def difference(first: Share, second: Share) -> tuple[float, float]:
    """Where the difference of two shares (first less second) is. Both must count something."""
    p, q = first.count / first.of, second.count / second.of
    low = p - q - math.hypot(p - first.low, second.high - q)
    high = p - q + math.hypot(first.high - p, q - second.low)
    return max(-1.0, low), min(1.0, high)
