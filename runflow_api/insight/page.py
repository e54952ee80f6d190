"""Everything that the page, the command line and the report show, as one JSON object of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ..journal.schema import ROWS, TERMINAL, VERDICTS, R
from ..journal.store import Store
from . import agreement, settings, value
from .agreement import Costs
from .value import Filter

V = VERDICTS.c
MAX_DAYS = 400
TO_RATE = 60


def overview(store: Store, by: Sequence[str], wanted: Filter, costs: Costs) -> dict[str, Any]:
    """Figures by one or two settings, over time and as a whole, what the gate saved, and every judge's agreement.

    Never writes, and needs no lock. Raises ``InvalidInputError`` for unknown settings and costs that make no sense.
    """
    names = settings.require_names(list(by))
    costs.check()
    found = value.groups(store, names, wanted)
    days = value.by_day(store, wanted)
    return {
        "by": names,
        "settings": list(settings.NAMES),
        "enough": value.ENOUGH,
        "groups": [group.to_json() for group in found],
        "whole": value.whole(days).to_json(),
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


def to_rate(store: Store, limit: int = TO_RATE) -> list[dict[str, Any]]:
    """Judged images that the person has not rated, newest first, each image and question once: no verdict is told.

    Of those whose pixels are known; ``image`` is their hash.
    """
    columns = (sa.func.max(V.row_id).label("row_id"), V.subject)
    newest = (
        sa.select(*columns)
        .where(V.is_good.is_(None), V.subject.is_not(None), V.passed.is_not(None), V.judge != "preflight")
        .group_by(V.subject)
        .order_by(sa.desc("row_id"))
        .limit(max(1, min(limit, value.MAX_GROUPS)))
        .subquery()
    )
    wanted = sa.select(R.id, R.pixel_hash, R.generation_prompt, V.task).where(R.pixel_hash != "", TERMINAL)
    wanted = wanted.join_from(newest, ROWS, R.id == newest.c.row_id).join(VERDICTS, V.row_id == R.id)
    with store.reading() as connection:
        rows = connection.execute(wanted.order_by(R.id.desc())).all()
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
