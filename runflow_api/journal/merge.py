"""Rows that were kept elsewhere for a while come home: nothing paid is forgotten, nothing known is made worse."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from .budget import forget_tallies
from .rows import Row, askers, forget_body, goes_in_front, latest, leave, row_of, update
from .schema import (
    ANSWERS,
    NOT_ACCEPTED,
    NOT_SENT,
    PROMPTS,
    ROWS,
    TERMINAL,
    WHOLE_ROWS,
    R,
    RowState,
    organisation,
    stored_amount,
    utc_day,
)
from .spool import Spool
from .verdicts import bring_along, described

Kept = tuple[Row, set[str], bytes | None]
"""A row, the prompts that asked for it, and its body if it is here."""


def with_askers(connection: sa.Connection, keys: Collection[str]) -> list[tuple[Row, set[str]]]:
    """The rows with these idempotency keys and what is beside them, each with the prompts that asked for it."""
    found = [row_of(each) for each in connection.execute(WHOLE_ROWS.order_by(R.id))]
    rows = [row for row in found if row.idempotency_key in keys]
    asked, beside = askers(connection, rows), described(connection, [row.id for row in rows])
    return [
        (replace(row, described=beside.get(row.id)), {token for row_id, token in asked if row_id == row.id})
        for row in rows
    ]


def take_over(
    connection: sa.Connection, kept: Sequence[Kept], account: str, spool: Spool
) -> tuple[dict[str, int], list[str]]:
    """Put all of these into this journal. Returns their ids here by key, and the bodies to delete after the commit."""
    ids: dict[str, int] = {}
    done: list[str] = []
    for row, prompts, body in kept:
        whose = row.account if row.account.startswith(organisation("")) else account
        row_id = ids[row.idempotency_key] = merge(connection, row, whose, prompts)
        if row.spool is not None and update(connection, row_id, NOT_SENT, spool=row.spool) and body is not None:
            spool.write(row.spool, body)
            spool.attach(connection, [(row.spool, body)])
        done += forget_body(connection, row_id)
    spool.detach(connection, done)
    forget_tallies(connection)
    return ids, done


def move(connection: sa.Connection, provisional: str, account: str) -> None:
    """Give the rows of a provisional account to its organisation, unless that has a better one for the same request."""
    moving = sa.select(ROWS).where(R.account == provisional).order_by(R.request_hash, R.generation)
    for row in map(row_of, connection.execute(moving).all()):
        known = latest(connection, account, [row.request_hash], with_answers=False).get((account, row.request_hash))
        if known is None:
            update(connection, row.id, sa.true(), account=account)
        elif goes_in_front(row, known):
            update(connection, row.id, sa.true(), account=account, generation=known.generation + 1)


def merge(connection: sa.Connection, row: Row, account: str, prompts: set[str]) -> int:
    """The id here of ``row``, which is found by its idempotency key, otherwise inserted, whatever the limits say."""
    same = sa.select(ROWS).where(R.account == account, R.request_hash == row.request_hash).order_by(R.generation)
    siblings = [row_of(found) for found in connection.execute(same)]
    mine = next((each for each in siblings if each.idempotency_key == row.idempotency_key), None)
    if mine is None:
        row_id = _insert(connection, row, account, siblings)
    else:
        row_id = mine.id
        _bring_forward(connection, row_id, row)
    bring_along(connection, row_id, row)
    for token in prompts:
        same = sa.select(PROMPTS.c.row_id).where(PROMPTS.c.row_id == row_id, PROMPTS.c.prompt_token == token)
        if connection.scalar(same) is None:
            connection.execute(PROMPTS.insert().values(row_id=row_id, prompt_token=token))
    return row_id


def _insert(connection: sa.Connection, row: Row, account: str, siblings: list[Row]) -> int:
    """In front of what is here, or behind it, where it is never looked for but goes on counting for its day."""
    generation = 0
    if siblings:
        newest = siblings[-1]
        hides_a_verdict = newest.state == RowState.COMPLETED and not row.may_have_been_sent
        is_newer = row.is_useful and row.created_at >= newest.created_at and not hides_a_verdict
        in_front = goes_in_front(row, newest) or is_newer
        generation = newest.generation + 1 if in_front else siblings[0].generation - 1
    done = connection.execute(
        ROWS.insert().values(
            account=account,
            request_hash=row.request_hash,
            generation=generation,
            idempotency_key=row.idempotency_key,
            prompt_token=row.prompt_token,
            job_class=row.job_class,
            pixel_hash=row.pixel_hash,
            generation_prompt=row.generation_prompt,
            day=utc_day(row.created_at),
            created_at=row.created_at,
            price=stored_amount(row.price),
            **_progress(row),
        )
    )
    assert done.inserted_primary_key is not None
    row_id: int = done.inserted_primary_key[0]
    if row.packed is not None:
        connection.execute(ANSWERS.insert().values(row_id=row_id, packed=row.packed))
    return row_id


def _progress(row: Row) -> dict[str, Any]:
    return {
        "state": row.state,
        "evaluation_id": row.evaluation_id,
        "org_id": row.org_id,
        "submitted_at": row.submitted_at,
        "finished_at": row.finished_at,
        "duration_s": row.duration_s,
        "cost": stored_amount(row.cost),
        "passed": row.passed,
        "score": row.score,
        "failure_code": row.failure_code,
    }


def _bring_forward(connection: sa.Connection, row_id: int, row: Row) -> None:
    """What was learned elsewhere, as if it had been recorded here: the first id and the first answer win."""
    if row.evaluation_id is not None:
        taken = {"evaluation_id": row.evaluation_id, "org_id": row.org_id, "submitted_at": row.submitted_at}
        condition = R.evaluation_id.is_(None) & sa.not_(TERMINAL)
        update(connection, row_id, condition, **taken, state=RowState.OPEN, failure_code=None)
    if row.is_terminal:
        ended = {name: value for name, value in _progress(row).items() if name not in ("evaluation_id", "org_id")}
        if update(connection, row_id, sa.not_(TERMINAL), **ended) and row.packed is not None:
            connection.execute(ANSWERS.delete().where(ANSWERS.c.row_id == row_id))
            connection.execute(ANSWERS.insert().values(row_id=row_id, packed=row.packed))
    elif row.state == RowState.REJECTED and row.failure_code == "NOT_SENT":
        leave(connection, replace(row, id=row_id, asked_by=row.prompt_token), row.finished_at or row.created_at)
    elif row.state == RowState.REJECTED:
        values = {"finished_at": row.finished_at, "failure_code": row.failure_code}
        update(connection, row_id, NOT_ACCEPTED, state=row.state, **values)
    elif row.state == RowState.ABANDONED:
        update(connection, row_id, R.state == RowState.OPEN, state=row.state, finished_at=row.finished_at)
