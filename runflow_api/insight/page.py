"""Everything that the page, the command line and the report show, as one JSON object of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ..journal.schema import ROWS, TERMINAL, VERDICTS, R
from ..journal.store import Store
from . import agreement, settings, value
from .agreement import EVERYTHING, Costs
from .value import IN_ORDER, Filter

V = VERDICTS.c
MAX_DAYS = 400
TO_RATE = 60


def overview(store: Store, by: Sequence[str], wanted: Filter, costs: Costs) -> dict[str, Any]:
    """Figures by one or two settings, over time and as a whole, what the gate saved, and every judge's agreement.

    Never writes, and needs no lock. Raises ``InvalidInputError`` for unknown settings and costs that make no sense.
    """
    names = settings.require_names(list(by))
    costs.check()
    found, whole = value.groups(store, names, wanted)
    days = value.by_day(store, wanted)
    return {
        "by": names,
        "settings": list(settings.NAMES),
        "enough": value.ENOUGH,
        "groups": [group.to_json() for group in found],
        "whole": whole.to_json(),
        "days": [_day(day) for day in days[-MAX_DAYS:]],
        "saved": value.saved(store, wanted).to_json(),
        "agreement": [each.to_json(costs) for each in agreement.agreements(store, wanted)],
        "costs": {"wrong_pass": costs.wrong_pass, "wrong_rejection": costs.wrong_rejection},
    }


def _day(day: value.Group) -> dict[str, Any]:
    return {
        "date": day.values[0],
        "judged": day.judged,
        "passed": day.passed,
        "pass_rate": day.pass_rate.to_json(),
        "credits": f"{day.credits:f}",
    }


def to_rate(store: Store, wanted: Filter = EVERYTHING, limit: int = TO_RATE) -> list[dict[str, Any]]:
    """Judged images that lack the person's rating for a judge and task among those wanted, each image once.

    However many questions were asked about it: one rated question is the image's label for that judge and task, as
    :func:`agreement.agreements` counts. Those that have no rating at all come first, then the newest. No verdict is
    told. Of those whose pixels are known; ``image`` is their hash.
    """
    is_asked = sa.and_(wanted.condition(), V.passed.is_not(None), V.judge != "preflight")
    asked_last = sa.func.max(sa.case((is_asked, V.row_id))).label("asked_last")
    labels = sa.select(R.pixel_hash, asked_last, sa.func.count(V.is_good).label("ratings"))
    labels = labels.join_from(VERDICTS, ROWS, R.id == V.row_id).where(R.pixel_hash != "", IN_ORDER)
    label = labels.group_by(R.pixel_hash, V.judge, V.judge_name, V.task).subquery().c
    row_id = sa.func.max(sa.case((label.ratings == 0, label.asked_last)))
    each = sa.select(row_id.label("row_id"), sa.func.sum(label.ratings).label("ratings")).group_by(label.pixel_hash)
    each = each.having(row_id.is_not(None)).order_by(sa.func.sum(label.ratings) > 0, row_id.desc())
    first = each.limit(max(1, min(limit, value.MAX_GROUPS))).subquery()
    shown = sa.select(R.id, R.pixel_hash, R.generation_prompt, V.task).where(TERMINAL)
    shown = shown.join_from(first, ROWS, R.id == first.c.row_id).join(VERDICTS, V.row_id == R.id)
    with store.reading() as connection:
        rows = connection.execute(shown.order_by(first.c.ratings > 0, R.id.desc())).all()
    return [
        {"row": row.id, "image": row.pixel_hash, "prompt": str(row.generation_prompt or "")[:2_000], "task": row.task}
        for row in rows
    ]


def verdicts_on(store: Store, row_id: int) -> list[dict[str, Any]]:
    """What each judge said of an image and question: shown after the person has said what they find."""
    subject = sa.select(V.subject).where(V.row_id == row_id).scalar_subquery()
    wanted = sa.select(V.judge, V.judge_name, V.passed, V.score).where(
        sa.or_(V.row_id == row_id, V.subject == subject), V.passed.is_not(None), V.judge != "person"
    )
    with store.reading() as connection:
        found = connection.execute(wanted.order_by(V.row_id).limit(20)).all()
    return [
        {"judge": settings.text_of("judge", (row.judge, row.judge_name)), "passed": row.passed, "score": row.score}
        for row in found
    ]
