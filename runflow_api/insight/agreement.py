"""Whether a judge agrees with the person: wrong passes, wrong rejections, and what ``min_score`` would do about them.

What the person finds is their thumb on a verdict, their own verdict as the judge *person*, or what they said on the
rating page; the latest holds. An image that nobody has rated is in no figure here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ..errors import InvalidInputError
from ..journal.schema import VERDICTS
from ..journal.store import Store
from . import settings
from .statistics import ONE_IN_A_HUNDRED, Share, difference, ranks_apart

V = VERDICTS.c
NEEDED = 20
"""So many images that the person finds good, and so many bad ones, are needed before anything is proposed."""
NOT_ENOUGH, NO_BETTER_THAN_CHANCE, BETTER_THAN_CHANCE = "not_enough", "no_better_than_chance", "better_than_chance"


@dataclass(frozen=True)
class Costs:
    """What a wrong pass and a wrong rejection cost the person, in any unit: only their ratio matters."""

    wrong_pass: float = 1.0
    wrong_rejection: float = 1.0

    def check(self) -> None:
        """Raise ``InvalidInputError`` for what is no cost."""
        for name, value in (("wrong_pass", self.wrong_pass), ("wrong_rejection", self.wrong_rejection)):
            if not 0 <= value < 1e9:
                raise InvalidInputError(name, "must be a number from 0.")
        if not self.wrong_pass and not self.wrong_rejection:
            raise InvalidInputError("wrong_pass", "and wrong_rejection are both 0: then nothing matters.")


@dataclass(frozen=True)
class Proposal:
    """A ``min_score``, and what it would have done with the rated images."""

    min_score: float
    passed: int
    rejected: int
    wrong_passes: int
    wrong_rejections: int
    cost: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass
class Agreement:
    """One judge on one task, "" where it is not known, or on all of them (``None``).

    ``counts``: {(the judge passed it, its score, the person finds it good): images}.
    """

    judge: str
    task: str | None
    counts: dict[tuple[bool, float | None, bool], int] = field(default_factory=dict)

    def _count(self, *, passed: bool | None = None, is_good: bool | None = None) -> int:
        return sum(
            count
            for (has_passed, _, good), count in self.counts.items()
            if passed in (None, has_passed) and is_good in (None, good)
        )

    @property
    def good(self) -> int:
        return self._count(is_good=True)

    @property
    def bad(self) -> int:
        return self._count(is_good=False)

    @property
    def agreed(self) -> Share:
        right = self._count(passed=True, is_good=True) + self._count(passed=False, is_good=False)
        return Share(right, self.good + self.bad)

    @property
    def wrong_passes(self) -> Share:
        """Of the images that the person finds bad, those that passed."""
        return Share(self._count(passed=True, is_good=False), self.bad)

    @property
    def wrong_rejections(self) -> Share:
        """Of the images that the person finds good, those that failed."""
        return Share(self._count(passed=False, is_good=True), self.good)

    @property
    def missing_good(self) -> int:
        return max(0, NEEDED - self.good)

    @property
    def missing_bad(self) -> int:
        return max(0, NEEDED - self.bad)

    @property
    def missing(self) -> int:
        """How many ratings are missing at least."""
        return self.missing_good + self.missing_bad

    @property
    def finding(self) -> str:
        """Whether the judge passes good images more often than bad ones, beyond what chance explains."""
        if self.missing:
            return NOT_ENOUGH
        passed_of_good = Share(self._count(passed=True, is_good=True), self.good)
        low, _ = difference(passed_of_good, self.wrong_passes)
        return BETTER_THAN_CHANCE if low > 0 else NO_BETTER_THAN_CHANCE

    def at(self, min_score: float, costs: Costs) -> Proposal:
        """What this ``min_score`` would have done. An image without a score does not reach one above 0."""
        passed = wrong_passes = wrong_rejections = 0
        for (has_passed, score, is_good), count in self.counts.items():
            passes = has_passed and (min_score <= 0 or (score is not None and score >= min_score))
            passed += count * passes
            wrong_passes += count * (passes and not is_good)
            wrong_rejections += count * (not passes and is_good)
        cost = costs.wrong_pass * wrong_passes + costs.wrong_rejection * wrong_rejections
        return Proposal(min_score, passed, self.good + self.bad - passed, wrong_passes, wrong_rejections, cost)

    def proposal(self, costs: Costs) -> Proposal | None:
        """The ``min_score`` that would have cost least, the lowest of equal ones.

        ``None`` from too few ratings, and where neither verdicts nor scores are better than chance.
        """
        if self.finding != BETTER_THAN_CHANCE and not self.scores_separate:
            return None
        scores = {score for has_passed, score, _ in self.counts if has_passed and score}
        return min((self.at(score, costs) for score in sorted({0.0, *scores})), key=_cost)

    @property
    def scores_separate(self) -> bool:
        """Whether scores of good images are higher, beyond chance at 99 %: a judge may pass all, and score well.

        One test of all scores, because the best of many ``min_score`` looks good by chance. Failed images count as
        lower than any that passed.
        """
        if self.missing:
            return False
        counts: dict[float, list[int]] = {}
        for (has_passed, score, is_good), count in self.counts.items():
            of_score = counts.setdefault(-1.0 if not has_passed else score or 0.0, [0, 0])
            of_score[0 if is_good else 1] += count
        return ranks_apart([(good, bad) for _, (good, bad) in sorted(counts.items())]) > ONE_IN_A_HUNDRED

    def to_json(self, costs: Costs) -> dict[str, Any]:
        proposed = self.proposal(costs)
        return {
            "judge": self.judge,
            "task": self.task,
            "good": self.good,
            "bad": self.bad,
            "agreement": self.agreed.to_json(),
            "wrong_passes": self.wrong_passes.to_json(),
            "wrong_rejections": self.wrong_rejections.to_json(),
            "finding": self.finding,
            "missing": self.missing,
            "missing_good": self.missing_good,
            "missing_bad": self.missing_bad,
            "now": self.at(0.0, costs).to_json(),
            "proposal": None if proposed is None else proposed.to_json(),
        }


def _cost(proposal: Proposal) -> float:
    return proposal.cost


def agreements(store: Store, since_day: int = 0) -> list[Agreement]:
    """Each judge's agreement on each task, before them, where there are several, on all of them together.

    The judge *person* is who is agreed with, and preflight is part of every judge: neither is in the list.
    """
    columns = (V.judge, V.judge_name, V.task, V.passed, V.score)
    is_final = sa.and_(V.passed.is_not(None), V.is_final.is_(True), V.judge.not_in(("person", "preflight")))
    query = sa.select(*columns, sa.func.count()).where(is_final).group_by(*columns)
    query = query.where(V.day >= since_day) if since_day > 0 else query
    found: dict[tuple[str, str], Agreement] = {}
    with store.reading() as connection:
        for is_good in (True, False):  # one after the other: in each the index has the groups in order
            for judge, name, task, passed, score, count in connection.execute(query.where(V.is_good.is_(is_good))):
                named = settings.text_of("judge", (judge, name)) or ""
                one = found.setdefault((named, task), Agreement(named, task))
                key = bool(passed), score, is_good
                one.counts[key] = one.counts.get(key, 0) + count
    return [*_together(found.values()), *(found[key] for key in sorted(found))]


def _together(found: Iterable[Agreement]) -> Sequence[Agreement]:
    by_judge: dict[str, list[Agreement]] = {}
    for each in found:
        by_judge.setdefault(each.judge, []).append(each)
    together = []
    for judge in sorted(by_judge):
        if len(by_judge[judge]) < 2:
            continue
        whole = Agreement(judge, None)
        for each in by_judge[judge]:
            for key, count in each.counts.items():
                whole.counts[key] = whole.counts.get(key, 0) + count
        together.append(whole)
    return together
