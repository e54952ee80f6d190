"""A real ComfyUI with a sandboxed Runflow behind it, and a real Chromium in front of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from support.fixtures import comfyui_factory  # noqa: F401
from support.server import ComfyUI
from support.waiting import SOON_S, judge_now

if str(Path(__file__).parent) not in sys.path:
    sys.path.append(str(Path(__file__).parent))

from driver import HELD_S, HERE, KEY, NEWEST, OLDEST, Browser, Play, install, missing, on_frontend

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict

PHOTOS = HERE.parent.parent / "example_workflows" / "photos"


@pytest.fixture(scope="package")  # not longer: a page that is open takes the processor from other tests
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
    with Sandbox(api_key=KEY, latency=SOON_S, balance="1000") as running:
        yield running


@pytest.fixture(autouse=True)
def as_before(sandbox: Sandbox) -> Iterator[None]:
    yield
    sandbox.clear_faults()
    sandbox.clear_verdicts()
    judge_now(sandbox)


@pytest.fixture
def held(sandbox: Sandbox) -> None:
    """Runflow judges when a scenario says so, with `editor.judgeNow()`."""
    sandbox.latency = HELD_S


@pytest.fixture(scope="session")
def start_server(
    tmp_path_factory: pytest.TempPathFactory,
    comfyui_factory: Callable[..., ComfyUI],  # noqa: F811
    sandbox: Sandbox,
) -> Callable[..., ComfyUI]:
    """`start_server(key)`: a ComfyUI with stand-ins for a model and a node that writes one, until the session ends."""

    def start(key: str | None, args: tuple[str, ...] = ()) -> ComfyUI:
        base = tmp_path_factory.mktemp("comfyui")
        (base / "input").mkdir()
        for photo in PHOTOS.rglob("*.jpg"):
            shutil.copy2(photo, base / "input")
        env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_MAX_EVALUATIONS_PER_DAY": "100000"}
        return comfyui_factory(
            base=base,
            env=env | ({"RUNFLOW_API_KEY": key} if key else {}),
            extra_nodes=(HERE / "stand_ins", HERE.parent / "graph" / "model_nodes"),
            args=(*args, "--fp32-text-enc"),
        )

    return start


EVERYWHERE = [(frontend, renderer) for frontend in (OLDEST, NEWEST) for renderer in ("canvas", "vue")]


@pytest.fixture(scope="session")
def servers(start_server: Callable[..., ComfyUI]) -> Callable[[str], ComfyUI]:
    """The server with a key, by frontend; each is started once."""
    return cache(lambda frontend: start_server(KEY, on_frontend(frontend)))


@pytest.fixture
def server(servers: Callable[[str], ComfyUI]) -> ComfyUI:
    return servers(OLDEST)


@pytest.fixture(scope="session")
def keyless(start_server: Callable[..., ComfyUI]) -> ComfyUI:
    return start_server(None, on_frontend(NEWEST))


@pytest.fixture(scope="session")
def remembering(start_server: Callable[..., ComfyUI]) -> ComfyUI:
    """A server whose cache holds more than the last run, and that a test may start again."""
    return start_server(KEY, (*on_frontend(NEWEST), "--cache-lru", "30"))


@pytest.fixture(params=["canvas", "vue"])
def renderer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A scenario runs in one place, or where its mark `at` says: `at("everywhere")`, `at("oldest vue", …)`."""
    if "place" not in metafunc.fixturenames:
        return
    marked = metafunc.definition.get_closest_marker("at")
    wanted = marked.args if marked else ("newest vue",)
    places = EVERYWHERE if wanted == ("everywhere",) else [tuple(each.split()) for each in wanted]
    metafunc.parametrize("place", places, ids=["-".join(each) for each in places])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scenarios in order of their places, so that a page which was left is seldom opened again."""
    where = [index for index, item in enumerate(items) if HERE in item.path.parents]
    in_order = sorted((items[index] for index in where), key=_place)
    for index, item in zip(where, in_order, strict=True):
        items[index] = item


def _place(item: pytest.Item) -> tuple[str, str]:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("place", ("", "")) if callspec else ("", "")


@pytest.fixture
def play(
    browser: Browser,
    servers: Callable[[str], ComfyUI],
    sandbox: Sandbox,
    place: tuple[str, str],
) -> Play:
    frontend, renderer = place

    def run(scenario: str, *verdicts: ScriptedVerdict, on: ComfyUI | None = None, **more: Any) -> Any:
        for verdict in verdicts:
            sandbox.add_verdict(verdict)
        url = (on or servers(frontend)).url
        return browser.run(scenario, url, renderer, judge=partial(judge_now, sandbox), **more)

    return run
