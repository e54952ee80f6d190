"""Looking back over the rows: pages of them, how long evaluations took, and what is old enough to forget."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..errors import InvalidInputError
from .budget import PAID, forget_old_tallies, has_old_tallies
from .rows import OUTCOMES, Row, row_of
from .schema import ANSWERS, PROMPTS, ROWS, WHOLE_ROWS, R, RowState, chunks, clean, page_size, utc_day
from .spool import Spool
from .store import Store
from .verdicts import forget

SORTS = ("newest", "best", "worst")


def page(
    connection: sa.Connection,
    before: int | None,
    limit: int,
    outcome: str | None,
    search: str,
    since: float,
    sort: str = SORTS[0],
) -> list[Row]:
    """``before`` is for the newest first only: by score, one page is given, of rows that have one."""
    wanted = WHOLE_ROWS.order_by(*_order(sort)).limit(page_size(limit))
    if sort != "newest":
        before, wanted = None, wanted.where(R.score.is_not(None))
    if since > 0:
        wanted = wanted.where(R.created_at >= since)
    if before is not None:
        wanted = wanted.where(R.id < before)
    if outcome is not None:
        wanted = wanted.where(_has_outcome(outcome))
    if search.strip():
        wanted = wanted.where(_holds(search.strip(), connection.dialect.name))
    return [row_of(found) for found in connection.execute(wanted)]


def _order(sort: str) -> list[sa.ColumnElement[Any]]:
    if sort not in SORTS:
        raise InvalidInputError("sort", f"must be one of {', '.join(SORTS)}.")
    by_score: dict[str, list[sa.ColumnElement[Any]]] = {
        "newest": [],
        "best": [R.score.desc()],
        "worst": [R.score.asc()],
    }
    return [*by_score[sort], R.id.desc()]


def _has_outcome(outcome: str) -> sa.ColumnElement[bool]:
    if outcome not in OUTCOMES:
        raise InvalidInputError("outcome", f"must be one of {', '.join(OUTCOMES)}.")
    if outcome == "error":
        return R.state == RowState.FAILED
    if outcome in (RowState.OPEN, RowState.REJECTED, RowState.ABANDONED):
        return R.state == outcome
    return (R.state == RowState.COMPLETED) & R.passed.is_({"passed": True, "failed": False, "unknown": None}[outcome])


def _holds(text: str, dialect: str) -> sa.ColumnElement[bool]:
    """Case does not count. SQLite's LIKE ignores it by itself (for ASCII), in half the time of lowering both."""
    columns = (R.generation_prompt, R.evaluation_id, R.failure_code)
    like = "contains" if dialect == "sqlite" else "icontains"
    return sa.or_(*(getattr(column, like)(clean(text), autoescape=True) for column in columns))


def newest(connection: sa.Connection, evaluation_id: str) -> Row | None:
    wanted = WHOLE_ROWS.where(R.evaluation_id == clean(evaluation_id)).order_by(R.id.desc()).limit(1)
    found = connection.execute(wanted).first()
    return row_of(found) if found else None


def durations(connection: sa.Connection, job_class: str, limit: int) -> list[float]:
    wanted = sa.select(R.duration_s).where(R.job_class == clean(job_class), R.duration_s.is_not(None))
    return list(connection.scalars(wanted.order_by(R.id.desc()).limit(page_size(limit))))


def prune(store: Store, spool: Spool, before: float, at_most: int | None, today: int, young: float) -> int:
    """Forget rows created before ``before``, or beyond the newest ``at_most``, and bodies older than ``young``.

    What was paid and what was free are counted apart: no number of free verdicts forgets a paid one.
    Today's rows stay, because they are the budget, and so do open ones that are younger than ``young``.
    """
    keep = (R.day >= today) | ((R.state == RowState.OPEN) & (R.created_at > young))
    with store.reading() as connection:
        old = (R.day <= utc_day(before)) & (R.created_at < before)
        for kind in (PAID, sa.not_(PAID)) if at_most is not None else ():
            newest_over = sa.select(R.id).where(kind).order_by(R.id.desc()).limit(1).offset(max(at_most or 0, 0))
            old |= kind & (R.id <= (connection.scalar(newest_over) or 0))
        ids = list(connection.scalars(sa.select(R.id).where(old, sa.not_(keep))))
    for chunk in chunks(ids):
        with store.writing() as connection:
            connection.execute(ANSWERS.delete().where(ANSWERS.c.row_id.in_(chunk)))
            connection.execute(PROMPTS.delete().where(PROMPTS.c.row_id.in_(chunk)))
            forget(connection, chunk)
            connection.execute(ROWS.delete().where(R.id.in_(chunk)))
    with store.reading() as connection:
        spooled = sa.select(R.spool).where(R.spool.is_not(None), R.created_at > young)
        spool.prune(set(connection.scalars(spooled)))
        over_tallies = has_old_tallies(connection, today)
    if over_tallies:
        with store.writing() as connection:
            forget_old_tallies(connection, today)
    return len(ids)
