"""One server and one sandbox for all tests of loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from support.loops import Since
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox

LATENCY = 0.1
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def loop_sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=LATENCY, balance="1000") as running:
        yield running


@pytest.fixture(scope="session")
def server(comfyui_factory: Callable[..., ComfyUI], loop_sandbox: Sandbox) -> ComfyUI:
    env = {"RUNFLOW_BASE_URL": loop_sandbox.url, "RUNFLOW_API_KEY": loop_sandbox.api_key}
    return comfyui_factory(env={**env, "RUNFLOW_MAX_EVALUATIONS_PER_PROMPT": "100"})


@pytest.fixture
def sandbox(loop_sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox, which has forgotten the faults and verdicts of the test before."""
    yield loop_sandbox
    loop_sandbox.clear_faults()
    loop_sandbox.clear_verdicts()
    loop_sandbox.latency = LATENCY


@pytest.fixture
def prompt() -> str:
    """A prompt that no other test uses, so that nothing is cached or in the journal."""
    return f"a photo of number {next(_numbers)}"


@pytest.fixture
def since(server: ComfyUI, sandbox: Sandbox) -> Since:
    return Since(server, sandbox)
