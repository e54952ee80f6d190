"""The servers that graph tests share; who needs one of their own starts it with `comfyui_factory`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fixtures import comfyui_factory  # noqa: F401
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox

TEST_NODES = Path(__file__).parent / "test_nodes"
KEY = f"rf_test_{uuid.uuid4().hex}"  # written down nowhere
LATENCY = 0.1


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=LATENCY, api_key=KEY, balance="1000") as running:
        yield running


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    """What `server` asks: as new for each test, except for the requests and bills it has seen."""
    yield shared_sandbox
    shared_sandbox.clear_faults()
    shared_sandbox.clear_verdicts()
    shared_sandbox.latency = LATENCY


@pytest.fixture(scope="session")
def server(comfyui_factory: Callable[..., ComfyUI], shared_sandbox: Sandbox) -> ComfyUI:  # noqa: F811
    """A server with a key, whose Runflow is the sandbox. Leave it running."""
    env = {"RUNFLOW_BASE_URL": shared_sandbox.url, "RUNFLOW_API_KEY": shared_sandbox.api_key}
    limits = {"RUNFLOW_MAX_EVALUATIONS_PER_PROMPT": "100", "RUNFLOW_MAX_EVALUATIONS_PER_DAY": "100000"}
    return comfyui_factory(env=env | limits, extra_nodes=(TEST_NODES,))


@pytest.fixture(scope="session")
def comfyui(comfyui_factory: Callable[..., ComfyUI]) -> ComfyUI:  # noqa: F811
    """A server without key or setting: with judge auto it judges locally. Leave it running."""
    return comfyui_factory(extra_nodes=(TEST_NODES,))
