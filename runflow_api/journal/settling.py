"""Changing rows that are there, many in one transaction: each as it now is decides what becomes of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from . import verdicts
from .budget import costs_more, forget_tallies
from .errors import JournalError
from .rows import Row, pruned, row_of
from .schema import ANSWERS, ROWS, WHOLE_ROWS, R, RowState, chunks, decimal_of
from .spool import Spool
from .store import lock

ROW_ID: sa.BindParameter[int] = sa.bindparam("changed_id")
_HELD = WHOLE_ROWS.where(R.id.in_(sa.bindparam("ids", expanding=True))).order_by(R.id).with_for_update(of=ROWS)


@dataclass(frozen=True)
class Settlement:
    """What is to become of ``row`` if it ``may``, looking at it as it now is: these columns, and this answer."""

    row: Row
    may: Callable[[Row], bool]
    values: Mapping[str, Any]
    packed: bytes | None = None


def has_no_answer(row: Row) -> bool:
    return not row.is_terminal


def has_no_id(row: Row) -> bool:
    return row.evaluation_id is None and not row.is_terminal


def is_not_accepted(row: Row) -> bool:
    return row.state == RowState.OPEN and row.evaluation_id is None


def is_open_as(evaluation_id: str | None, row: Row) -> bool:
    """Open, and known by this id."""
    return row.state == RowState.OPEN and row.evaluation_id == evaluation_id


def hold(connection: sa.Connection, rows: Sequence[Row]) -> list[Row | None]:
    """These rows as they now are, and stay until the transaction ends; ``None`` for what was pruned.

    An id means another row in another file; an idempotency key never does.
    """
    there: dict[int, Row] = {}
    for ids in chunks(sorted({row.id for row in rows})):
        there |= {row.id: row for row in map(row_of, connection.execute(_HELD, {"ids": ids}))}
    found = [there.get(row.id) for row in rows]
    return [
        now if now is not None and now.idempotency_key == row.idempotency_key else None
        for row, now in zip(rows, found, strict=True)
    ]


def change(connection: sa.Connection, changes: Mapping[int, Mapping[str, Any]]) -> None:
    """Set these columns of the rows with these ids, with one statement for all that change the same ones."""
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row_id, values in changes.items():
        alike.setdefault(tuple(sorted(values)), []).append({**values, ROW_ID.key: row_id})
    for names, values_of_all in alike.items():
        connection.execute(_setting(names), values_of_all)


@functools.cache
def _setting(names: tuple[str, ...]) -> sa.Update:
    return ROWS.update().where(R.id == ROW_ID).values({name: sa.bindparam(name) for name in names})


def fix_bodies(
    connection: sa.Connection, bodies: Sequence[tuple[Row, str, bytes]], spool: Spool
) -> list[str | JournalError | None]:
    """Give each row the body of this name, unless it has one or nothing is to be sent; the name that it now has."""
    fixed: list[str | JournalError | None] = []
    mine: dict[int, tuple[str, bytes]] = {}
    for now, (row, name, body) in zip(hold(connection, [row for row, _, _ in bodies]), bodies, strict=True):
        if now is not None and is_not_accepted(now) and now.spool is None:
            mine[now.id] = name, body
            fixed.append(name)
        else:
            fixed.append(pruned(row.id) if now is None else now.spool)
    change(connection, {row_id: {"spool": name} for row_id, (name, _) in mine.items()})
    spool.attach(connection, list(mine.values()))
    return fixed


def settle(
    connection: sa.Connection, settlements: Sequence[Settlement], spool: Spool
) -> tuple[list[Row | JournalError], list[str]]:
    """The rows as they now are, and the names of the bodies that may go after the commit: nothing more is sent.

    The settlements are of different rows.
    """
    there = hold(connection, [each.row for each in settlements])
    settled: list[Row | JournalError] = []
    changes: dict[int, dict[str, Any]] = {}
    answered: list[Row] = []
    done: list[str] = []
    is_dearer = False
    for each, before in zip(settlements, there, strict=True):
        if before is None:
            settled.append(pruned(each.row.id))
            continue
        values: dict[str, Any] = {}
        now = before
        if each.may(before):
            values |= each.values
            if before.evaluation_id is not None:
                values.pop("evaluation_id", None)  # the first one wins
            is_dearer = is_dearer or costs_more(before, values)
            now = _changed(before, values, each.packed)
            if each.packed is not None:
                answered.append(now)
                if before.packed is not None:
                    connection.execute(ANSWERS.delete().where(ANSWERS.c.row_id == now.id))
        elif before.is_terminal and before.packed is None:
            now = _read_again(connection, before)  # answered while this transaction waited for it
        if now.spool is not None and not is_not_accepted(now):
            done.append(now.spool)
            now = replace(now, spool=None)
            values["spool"] = None
        if values:
            changes[now.id] = values
        settled.append(now)
    if is_dearer:
        lock(connection)
        forget_tallies(connection)
    change(connection, changes)
    if answered:
        connection.execute(ANSWERS.insert(), [{"row_id": row.id, "packed": row.packed} for row in answered])
        verdicts.settle(connection, answered)
    spool.detach(connection, done)
    return settled, done


def _changed(before: Row, values: Mapping[str, Any], packed: bytes | None) -> Row:
    cost = {"cost": decimal_of(values["cost"])} if "cost" in values else {}
    return replace(before, **{**values, **cost}, packed=packed or before.packed)


def _read_again(connection: sa.Connection, row: Row) -> Row:
    return row_of(connection.execute(WHOLE_ROWS.where(R.id == row.id)).one())
