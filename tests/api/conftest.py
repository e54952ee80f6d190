"""A sandbox that answers fast, and an evaluator with a journal of its own, for each test that wants them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.evaluators import make_evaluator
from support.journals import STORES, Clock, emptied

from runflow_api.evaluation.evaluator import Evaluator
from runflow_api.journal.journal import Journal
from runflow_api.sandbox.app import Sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=0.05) as running:
        yield running


@pytest.fixture
def evaluator(sandbox: Sandbox, tmp_path: Path) -> Iterator[Evaluator]:
    made = make_evaluator(sandbox, tmp_path)
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORES)
def book(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    """An empty journal: in SQLite's file, in memory, and on a PostgreSQL of the tests."""
    if request.param == "memory":
        opened = Journal.in_memory(now=clock)
    else:
        opened = Journal.open(emptied(request.param), tmp_path, now=clock)
    with opened:
        yield opened


@pytest.fixture(params=[store for store in STORES if store != "memory"])
def shared_url(request: pytest.FixtureRequest) -> str | None:
    return emptied(request.param)
