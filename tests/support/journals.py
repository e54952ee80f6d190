"""Journals for tests: a fixed clock, requests and rows, and the stores that a journal may be in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from runflow_api.journal import store as journal_store
from runflow_api.journal.journal import Journal, Limits, Request, Row
from support import postgres

ROOT = Path(__file__).resolve().parents[2]
KEY, OTHER_KEY, ORG = "rf_live_key_number_one_0001", "rf_live_key_number_two_0002", "org-1"
NOON = 20_000 * 86_400 + 43_200.0
"""2024-10-04 12:00 UTC."""
PLENTY = Limits(per_prompt=100_000, per_day=100_000)
VERDICT = {"id": "ev-1", "status_code": "completed", "overall_passed": True, "weighted_pass_rate": 0.9, "cost": "0.5"}
STORES = ["file", "memory", "server"]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX rights and signals")


class Clock:
    def __init__(self, at: float = NOON) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def shorten_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(journal_store, "BUSY_S", 0.3)
    patch.setattr(journal_store, "QUICK_S", 0.1)


@contextmanager
def waits_are_short() -> Iterator[None]:
    """Nobody waits long for a journal that is locked on purpose. At any other time a busy machine or a slow disk may
    keep a write waiting for longer than this.
    """
    with pytest.MonkeyPatch.context() as patch:
        shorten_waits(patch)
        yield


def emptied(store: str) -> str | None:
    """The URL of a server's database with no journal in it, ``None`` for a file; the server is started if need be."""
    if store == "file":
        return None
    if postgres.programs() is None:
        pytest.skip(postgres.NOT_HERE)
    server = postgres.running().url("postgres")
    engine = sa.create_engine(server)
    with engine.begin() as connection:
        for table in sa.inspect(connection).get_table_names():
            if table.startswith("runflow_"):
                connection.execute(sa.text(f"DROP TABLE {table}"))
    engine.dispose()
    return server


def ask(name: str = "a", **changes: Any) -> Request:
    plain = Request(request_hash=name, account="org:1", price=Decimal("0.5"), job_class="standard", prompt_token="p1")
    return replace(plain, **changes)


def begin(book: Journal, *asks: Request, limits: Limits = PLENTY) -> list[Row]:
    return book.begin(list(asks) or [ask()], limits)


def complete(book: Journal, row: Row, **changes: Any) -> Row:
    answer = {**VERDICT, "id": f"ev-{row.id}", **changes}
    book.record_submission(row, answer["id"], ORG)
    return book.record_result(row, answer, completed=True, cost=answer["cost"], failure_code=None, duration_s=8.0)


def fail(book: Journal, row: Row) -> Row:
    return book.record_result(row, {}, completed=False, cost="0.5", failure_code="JUDGE_DOWN", duration_s=3.0)


def child_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
