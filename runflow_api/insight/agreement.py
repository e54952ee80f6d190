"""Whether a judge agrees with the person: wrong passes, wrong rejections, and what ``min_score`` would do about them.

What the person finds is their thumb on a verdict, their own verdict as the judge *person*, or what they said on the
rating page; the latest holds. An image that nobody has rated is in no figure here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ..errors import InvalidInputError
from ..journal.schema import ROWS, VERDICTS, R
from ..journal.store import Store
from . import settings
from .statistics import ONE_IN_A_HUNDRED, Share, difference, ranks_apart
from .value import IN_ORDER, Filter

V = VERDICTS.c
NEEDED = 20
"""So many different images that the person finds good, and so many bad ones, are needed before anything is proposed."""
EVERYTHING = Filter()
_Label = tuple[bool, float | None, bool]
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
    counts: dict[_Label, int] = field(default_factory=dict)

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


def agreements(store: Store, wanted: Filter = EVERYTHING) -> list[Agreement]:
    """Each judge's agreement on each task, before them, where there are several, on all of them together.

    An image is one label for a judge and task, however many questions were asked about it: the judge's latest verdict
    on it that the person has rated counts, with its score and that rating. On all tasks together it is one label too.
    An image is told from another by its pixels; where they are not known, it is in no figure.

    The judge *person* is who is agreed with, and preflight is part of every judge: neither is in the list.
    """
    of_image = (V.judge, V.judge_name, V.task, R.pixel_hash)
    newest = sa.select(sa.func.max(V.row_id).label("row_id"), R.pixel_hash).join_from(VERDICTS, ROWS, R.id == V.row_id)
    newest = newest.where(wanted.condition(), IN_ORDER, V.is_good.is_not(None), V.passed.is_not(None))
    newest = newest.where(V.judge.not_in(("person", "preflight")), R.pixel_hash != "").group_by(*of_image)
    each = newest.subquery()
    columns = (V.judge, V.judge_name, V.task, V.passed, V.score, V.is_good, each.c.pixel_hash)
    query = sa.select(*columns).join_from(each, VERDICTS, V.row_id == each.c.row_id).order_by(V.row_id)
    latest: dict[tuple[str, str | None], dict[str, _Label]] = {}
    with store.reading() as connection:
        for judge, name, task, passed, score, is_good, pixels in connection.execute(query):
            named = settings.text_of("judge", (judge, name)) or ""
            for of_task in (task, None):
                latest.setdefault((named, of_task), {})[pixels] = bool(passed), score, bool(is_good)
    tasks = Counter(judge for judge, _ in latest)
    found = [Agreement(judge, task, dict(Counter(of.values()))) for (judge, task), of in latest.items()]
    return sorted((each for each in found if each.task is not None or tasks[each.judge] > 2), key=_in_order)


def _in_order(each: Agreement) -> tuple[bool, str, str]:
    return each.task is not None, each.judge, each.task or ""
