"""The journal with 100,000 rows against an empty one: look-up, insert, what was learned, history, opening."""

from __future__ import annotations

import itertools
import json
import sqlite3
import tempfile
import time
import uuid
import zlib
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import ROOT, median, said, table, timed  # noqa: F401

from runflow_api.journal.journal import FILE_NAME, Journal, Limits, Request

ROWS, ROUNDS = 100_000, 40
LIMITS = Limits(10**6, 10**6)
ANSWER = {"overall_passed": True, "weighted_pass_rate": 0.9, "top_issues": ["a finger too many"] * 3, "judges": []}
LOOK_UP_GOAL_S, PAGE_GOAL_S = 0.002, 0.050
DAYS = 90
_names = itertools.count()


def run(_: Namespace) -> str:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        empty, full = Path(folder) / "empty", Path(folder) / "full"
        for directory in (empty, full):
            Journal.open(None, directory).close()
        _fill(full / FILE_NAME)
        found = {name: _measured(directory) for name, directory in (("empty", empty), ("full", full))}
    rows = [[what, *(f"{1e3 * found[name][what]:.2f}" for name in ("empty", "full"))] for what in found["full"]]
    look_up, page = found["full"][LOOK_UP], found["full"][PAGE]
    return "\n\n".join(
        [
            f"Milliseconds, medians of {ROUNDS}; {ROWS:,} rows over {DAYS} days, as a file on this machine's disk.",
            table(["", "empty", f"{ROWS:,} rows"], rows),
            f"Goals: look-up ≤ {1e3 * LOOK_UP_GOAL_S:g} ms, {said(look_up <= LOOK_UP_GOAL_S)}; "
            f"history page ≤ {1e3 * PAGE_GOAL_S:g} ms, {said(page <= PAGE_GOAL_S)}.",
        ]
    )


LOOK_UP, PAGE = "look-up of a known verdict (`begin`)", "history page of 50"


def _measured(directory: Path) -> dict[str, float]:
    opening = [timed(lambda: Journal.open(None, directory).close()) for _ in range(10)]
    with Journal.open(None, directory) as journal:
        known = [ask.request_hash for ask in (_ask("known"),) if journal.begin([ask], LIMITS)]
        (row,) = journal.begin([_ask(known[0])], LIMITS)
        journal.record_result(row, ANSWER, completed=True, cost="0.10", failure_code=None, duration_s=8.0)
        calls: dict[str, Callable[[], Any]] = {
            LOOK_UP: lambda: journal.begin([_ask("known")], LIMITS),
            "a new row (`begin`)": lambda: journal.begin([_ask(f"new {next(_names)}")], LIMITS),
            "durations to learn from": lambda: journal.durations("standard"),
            PAGE: lambda: journal.history(limit=50),
            "history page, searched": lambda: journal.history(limit=50, search="number 99 of"),
            "history page of failed ones": lambda: journal.history(limit=50, outcome="failed"),
            "totals of 30 days": lambda: journal.per_day(30),
        }
        return {"opening": median(opening), **{what: _median(call) for what, call in calls.items()}}


def _median(call: Callable[[], Any]) -> float:
    call()
    return median(timed(call) for _ in range(ROUNDS))


def _ask(name: str) -> Request:
    return Request(name, "org:benchmark", None, "standard", f"prompt {next(_names)}", generation_prompt="a cat")


def _fill(file: Path) -> None:
    """Finished evaluations, written past the journal: through it they would take a commit each."""
    now = time.time()
    packed = zlib.compress(json.dumps(ANSWER).encode())
    names = (
        "id, account, request_hash, generation, idempotency_key, state, evaluation_id, org_id, prompt_token, "
        "job_class, pixel_hash, generation_prompt, day, created_at, submitted_at, finished_at, duration_s, cost, "
        "passed, score"
    )
    connection = sqlite3.connect(file)
    with connection:
        marks = ", ".join("?" * len(names.split(",")))
        insert = f"INSERT INTO runflow_evaluations ({names}) VALUES ({marks})"
        connection.executemany(insert, map(_values(now), range(ROWS)))
        connection.executemany("INSERT INTO runflow_answers VALUES (?, ?)", ((n + 1, packed) for n in range(ROWS)))
    connection.close()


def _values(now: float) -> Callable[[int], tuple[Any, ...]]:
    def values(n: int) -> tuple[Any, ...]:
        at = now - DAYS * 86_400 * (1 - n / ROWS)
        names = (f"{n:064x}", 0, str(uuid.UUID(int=n)), "completed", str(uuid.UUID(int=n + ROWS)), "benchmark")
        asked = (f"prompt {n // 4}", "standard", f"{n:064x}", f"a cat, number {n} of many, " + "in oil " * 20)
        return (n + 1, "org:benchmark", *names, *asked, int(at // 86_400), at, at, at + 8, 8.0, "0.10", n % 4 > 0, 0.9)

    return values
