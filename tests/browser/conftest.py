"""A real ComfyUI with a sandboxed Runflow behind it, and a real Chromium in front of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.server import ComfyUI, start_comfyui

if str(Path(__file__).parent) not in sys.path:
    sys.path.append(str(Path(__file__).parent))

from driver import HERE, KEY, Browser, Play, install, missing

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict

PHOTOS = HERE.parent.parent / "example_workflows" / "photos"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    needed = missing()
    if needed:
        pytest.fail(needed, pytrace=False)
    install()
    running = Browser(tmp_path_factory.mktemp("pictures"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(api_key=KEY, latency=0.2, balance="1000") as running:
        yield running


@pytest.fixture(autouse=True)
def as_before(sandbox: Sandbox) -> Iterator[None]:
    yield
    sandbox.clear_faults()
    sandbox.clear_verdicts()
    sandbox.latency = 0.2


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Callable[..., ComfyUI]]:
    """`start_server(key=…)`: a ComfyUI with the stand-ins for a model, ended with the session."""
    servers: list[ComfyUI] = []

    def start(key: str | None, args: tuple[str, ...] = ()) -> ComfyUI:
        base = tmp_path_factory.mktemp("comfyui")
        (base / "input").mkdir()
        for photo in PHOTOS.glob("*.jpg"):
            shutil.copy2(photo, base / "input")
        env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_MAX_EVALUATIONS_PER_DAY": "100000"}
        servers.append(
            start_comfyui(
                base,
                env=env | ({"RUNFLOW_API_KEY": key} if key else {}),
                extra_nodes=(HERE / "stand_ins",),
                args=args,
            )
        )
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def server(start_server: Callable[..., ComfyUI]) -> ComfyUI:
    return start_server(KEY)


@pytest.fixture(scope="session")
def keyless(start_server: Callable[..., ComfyUI]) -> ComfyUI:
    return start_server(None)


@pytest.fixture(params=["canvas", "vue"])
def renderer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def play(browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str) -> Play:
    def run(scenario: str, *verdicts: ScriptedVerdict, on: ComfyUI | None = None, **more: Any) -> Any:
        for verdict in verdicts:
            sandbox.add_verdict(verdict)
        return browser.run(scenario, (on or server).url, renderer, **more)

    return run
