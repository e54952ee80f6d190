"""What a whole manifest would come to, told from a sample of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from ..evaluation.verdict import FAILED, PASSED, Verdict

CONFIDENCE = 1.96
"""Standard deviations of a normal distribution: 95 of 100 such intervals hold the true share."""


@dataclass(frozen=True)
class Sampled:
    """``judged`` of ``rows`` have a verdict, ``passed`` of them passed; ``credits`` is what all of them cost."""

    rows: int
    judged: int
    passed: int
    credits: Decimal | None

    @property
    def interval(self) -> tuple[float, float]:
        """The share that passes, and how far it may be off either way (Wilson's interval)."""
        n, z2 = self.judged, CONFIDENCE**2
        if not n:
            return 0.5, 0.5
        share = self.passed / n
        centre = (share + z2 / (2 * n)) / (1 + z2 / n)
        half = CONFIDENCE * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        return centre, half

    def credits_for(self, rows: int) -> Decimal | None:
        """What so many rows would cost, if they are as the sample is; copies among them cost nothing."""
        return None if self.credits is None or not self.rows else self.credits / self.rows * rows


def sampled(verdicts: Iterable[Verdict]) -> Sampled:
    """Count them. Rows with the same evaluation cost once."""
    listed = list(verdicts)
    judged = [verdict for verdict in listed if verdict.outcome in (PASSED, FAILED)]
    costs = {verdict.evaluation.id: verdict.evaluation.cost for verdict in judged}
    known = [cost for cost in costs.values() if cost is not None]
    passed = sum(verdict.outcome == PASSED for verdict in judged)
    return Sampled(len(listed), len(judged), passed, sum(known, Decimal(0)) if known else None)
