"""A sandbox that answers fast, and an evaluator with a journal of its own, for each test that wants them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.evaluators import make_evaluator

from runflow_api.evaluation.evaluator import Evaluator
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
