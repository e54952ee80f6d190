"""What good pictures cost: pass rate, mean score, attempts and credits per kept image, by the settings that made them.

Every figure is counted by the database, in one pass over a narrow table, and read without the write lock. Sums of
credits are exact. What counts is a verdict: what nobody judged is in no rate, though its credits are in the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any

import sqlalchemy as sa

from ..journal.budget import EXACT
from ..journal.schema import IMAGE_PROMPTS, ROWS, VERDICTS, R, decimal_of
from ..journal.store import Store
from . import settings
from .statistics import Mean, Share, mean

V = VERDICTS.c
ENOUGH = 20
"""Below so many different images a figure is no finding, however often each was judged."""
IMAGES_COUNTED_UP_TO = 30_000
"""Different images are counted among so many verdicts: among more it takes longer than a page may take to open."""
MAX_GROUPS = 200
INDEXED = {"checkpoint", "day", "week"}
"""Settings whose figures stand in an index."""
IN_ORDER = V.row_id > 0
"""True of every row. Where what is beside the verdicts is read too, it has the planner read both in their own order and
not the verdicts in that of an index: then each row beside them is looked up anew, which takes twice as long."""


@dataclass(frozen=True)
class Filter:
    """Which verdicts: since a UTC day (0 for all), of one judge or task, "" for all.

    Without ``judge``, a person's own verdicts and thumbs count beside those of judges, but preflight only as what it
    saved: what it fails never reached a judge.
    """

    since_day: int = 0
    judge: str = ""
    task: str = ""

    def condition(self) -> sa.ColumnElement[bool]:
        wanted: list[sa.ColumnElement[bool]] = [V.is_final.is_(True)]
        if self.since_day > 0:
            wanted.append(V.day >= self.since_day)
        wanted.append(V.judge == self.judge if self.judge else V.judge != "preflight")
        if self.task:
            wanted.append(V.task == self.task)
        return sa.and_(*wanted)


@dataclass
class Group:
    """The verdicts that share ``values``, one text for each setting asked for; ``None`` is unknown.

    ``evaluations`` counts those without a verdict too, whose credits are in ``credits``. ``images`` counts the
    different images among ``judged``, ``None`` where they were not counted: one image asked 20 questions says as much
    about a setting as one image does, so that the interval of the pass rate is that of so many images.
    """

    values: tuple[str | None, ...]
    evaluations: int = 0
    judged: int = 0
    passed: int = 0
    scored: int = 0
    total_score: float = 0.0
    total_square: float = 0.0
    amounts: list[tuple[Decimal, int]] = field(default_factory=list)
    unpriced: int = 0
    images: int | None = None

    @property
    def credits(self) -> Decimal:
        with localcontext(EXACT):
            return sum((amount * count for amount, count in self.amounts), Decimal(0))

    @property
    def pass_rate(self) -> Share:
        return Share(self.passed, self.judged, self.images)

    @property
    def score(self) -> Mean:
        return mean(self.scored, self.total_score, self.total_square)

    @property
    def is_enough(self) -> bool:
        return (self.judged if self.images is None else self.images) >= ENOUGH

    def to_json(self) -> dict[str, Any]:
        rate, kept = self.pass_rate, self.passed
        with localcontext(EXACT):
            per_kept = self.credits / kept if kept else None
        return {
            "values": list(self.values),
            "evaluations": self.evaluations,
            "judged": self.judged,
            "images": self.images,
            "passed": kept,
            "pass_rate": rate.to_json(),
            "score": self.score.to_json(),
            "attempts_per_kept": {
                "value": self.judged / kept if kept else None,
                "low": 1 / rate.high if self.judged else None,
                "high": 1 / rate.low if rate.low > 0 else None,
            },
            "credits": f"{self.credits:f}",
            "credits_per_kept": None if per_kept is None else f"{round(per_kept, 6):f}",
            "unpriced": self.unpriced,
            "enough": self.is_enough,
        }


_COUNTED = (
    sa.func.count(),
    sa.func.count(V.passed),
    sa.func.coalesce(sa.func.sum(sa.case((V.passed.is_(True), 1), else_=0)), 0),
    sa.func.count(V.score),
    sa.func.coalesce(sa.func.sum(V.score), 0.0),
    sa.func.coalesce(sa.func.sum(V.score * V.score), 0.0),
)


def groups(store: Store, by: Sequence[str], wanted: Filter) -> tuple[list[Group], Group]:
    """The verdicts by one or two settings, those with the most first, and all of them together.

    At most ``MAX_GROUPS``; the rest is only in what is together.

    Raises ``InvalidInputError`` for a setting that is none, ``JournalError`` where the journal cannot be read.
    """
    names = settings.require_names(list(by))
    columns = [column for name in names for column in settings.COLUMNS[name]]
    amount: sa.ColumnElement[Any] = V.amount
    if not set(names) <= INDEXED:
        columns, amount = [_by_no_index(column) for column in columns], _by_no_index(amount)
    widths = [len(settings.COLUMNS[name]) for name in names]
    source: Any = VERDICTS
    with_rows = VERDICTS.join(ROWS, R.id == V.row_id)
    if settings.needs_rows(names):
        source = with_rows = with_rows.outerjoin(IMAGE_PROMPTS, IMAGE_PROMPTS.c.row_id == V.row_id)
    query = sa.select(*columns, amount, *_COUNTED).select_from(source).where(wanted.condition())
    query = query.where(IN_ORDER) if source is not VERDICTS else query
    query = query.group_by(*columns, amount)
    found: dict[tuple[str | None, ...], Group] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            key = tuple(_values(names, widths, row))
            _add(found.setdefault(key, Group(key)), row[len(columns) :])
        all_together = whole(list(found.values()))
        is_counted = all_together.judged <= IMAGES_COUNTED_UP_TO
        counts = connection.execute(_images(columns, with_rows, wanted)) if is_counted else ()
        for is_whole, *values, images in counts:
            group = all_together if is_whole else found[tuple(_values(names, widths, values))]
            group.images = (group.images or 0) + images
    return sorted(found.values(), key=_most_first)[:MAX_GROUPS], all_together


def _images(columns: Sequence[sa.ColumnElement[Any]], source: Any, wanted: Filter) -> sa.CompoundSelect[Any]:
    """How many different images were judged, for each value of the columns (``is_whole`` 0) and of all values (1).

    An image is told from another by its pixels; where they are not known, each verdict is on an image of its own.
    """
    image = sa.func.coalesce(sa.func.nullif(R.pixel_hash, ""), sa.cast(V.row_id, sa.String(20))).label("image")
    named = [_by_no_index(column).label(f"value_{number}") for number, column in enumerate(columns)]
    each = sa.select(*named, image).distinct().select_from(source)
    different = each.where(wanted.condition(), V.passed.is_not(None), IN_ORDER).cte("different")
    values = [different.c[column.name] for column in named]
    of_values = sa.select(sa.literal_column("0").label("is_whole"), *values, sa.func.count()).group_by(*values)
    nothing = [sa.null() for _ in values]
    return of_values.union_all(sa.select(sa.literal_column("1"), *nothing, sa.func.count(different.c.image.distinct())))


def _by_no_index(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The same values, which the planner finds in no index: it would take one that begins with a column of the group,
    and look up each row behind it, which takes twice as long as reading the table in its own order."""
    return sa.func.coalesce(column, column)


def _values(names: Sequence[str], widths: Sequence[int], row: Sequence[Any]) -> Iterable[str | None]:
    start = 0
    for name, width in zip(names, widths, strict=True):
        yield settings.text_of(name, tuple(row[start : start + width]))
        start += width


def _most_first(group: Group) -> tuple[Any, ...]:
    return -group.judged, -group.evaluations, tuple(value or "" for value in group.values)


def _add(group: Group, counted: Sequence[Any]) -> None:
    amount, evaluations, judged, passed, scored, total, square = counted
    group.evaluations += evaluations
    group.judged += judged
    group.passed += int(passed)
    group.scored += scored
    group.total_score += total
    group.total_square += square
    credits = decimal_of(amount)
    if credits is None:
        group.unpriced += evaluations
    elif credits:
        group.amounts.append((credits, evaluations))


def whole(found: Sequence[Group]) -> Group:
    """All of these together."""
    total = Group(())
    for group in found:
        total.evaluations += group.evaluations
        total.judged += group.judged
        total.passed += group.passed
        total.scored += group.scored
        total.total_score += group.total_score
        total.total_square += group.total_square
        total.amounts += group.amounts
        total.unpriced += group.unpriced
    return total


def by_day(store: Store, wanted: Filter) -> list[Group]:
    """The verdicts of each UTC day that has any, the oldest first."""
    query = sa.select(V.day, V.amount, *_COUNTED).where(wanted.condition()).group_by(V.day, V.amount)
    found: dict[int, Group] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            _add(found.setdefault(row[0], Group((settings.text_of("day", (row[0],)),))), row[1:])
    return [found[day] for day in sorted(found)]


@dataclass(frozen=True)
class Saved:
    """What the gate saved: images that nobody had to look at, and evaluations that were not paid.

    ``rejected``: images that a judge failed, ``preflight``: images that failed before paying, both each image and
    question once, however many judged it and however often. ``credits`` is what the latter would have cost at the mean
    price of this journal's paid evaluations, ``None`` if there are none.
    """

    rejected: int
    preflight: int
    credits: Decimal | None

    def to_json(self) -> dict[str, Any]:
        credits = None if self.credits is None else f"{round(self.credits, 6):f}"
        return {"rejected": self.rejected, "preflight": self.preflight, "credits": credits}


def saved(store: Store, wanted: Filter) -> Saved:
    is_recent = V.day >= wanted.since_day if wanted.since_day > 0 else sa.true()  # of all days, an index is in the way
    is_preflight = V.judge == "preflight"
    of_judge = V.judge == wanted.judge if wanted.judge else V.judge != "person"
    without_pixels = sa.func.count() - sa.func.count(V.subject)
    failed = sa.select(is_preflight, sa.func.count(V.subject.distinct()) + without_pixels)
    failed = failed.where(V.is_final.is_(True), V.passed.is_(False), is_recent, is_preflight | of_judge)
    if wanted.task:
        failed = failed.where(V.task == wanted.task)
    paid = sa.select(V.amount, sa.func.count()).where(V.is_final.is_(True), V.judge == "runflow", is_recent)
    with store.reading() as connection:
        images = {bool(before): int(count) for before, count in connection.execute(failed.group_by(is_preflight))}
        prices = [(decimal_of(amount), count) for amount, count in connection.execute(paid.group_by(V.amount))]
    rejected, preflight = images.get(False, 0), images.get(True, 0)
    priced = [(amount, count) for amount, count in prices if amount]
    with localcontext(EXACT):
        total = sum((amount * count for amount, count in priced), Decimal(0))
        credits = total / sum(count for _, count in priced) * preflight if priced else None
    return Saved(rejected, preflight, credits)
