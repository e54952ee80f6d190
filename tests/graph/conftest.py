"""Servers for graph tests: `comfyui`, one for all tests, and `comfyui_factory`, for those that need their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.server import ComfyUI, start_comfyui

HERE = Path(__file__).parent
TEST_NODES = HERE / "test_nodes"


@pytest.fixture(scope="session")
def comfyui_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ComfyUI]]:
    """`comfyui_factory(env=None, base=None, extra_nodes=None, **options)` starts a server with that environment.

    `base` is its base directory: give an old one to go on where an earlier server stopped. Each server lives
    until it is stopped (`with comfyui_factory(...) as server:`), at the latest until the end of the session; a
    start takes seconds, so share one per module. `tests/graph/test_nodes` is copied into its `custom_nodes`,
    unless `extra_nodes` says else.
    """
    servers: list[ComfyUI] = []

    def start(base: Path | None = None, **options: Any) -> ComfyUI:
        options.setdefault("extra_nodes", (TEST_NODES,) if TEST_NODES.is_dir() else ())
        servers.append(start_comfyui(base or tmp_path_factory.mktemp("comfyui"), **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def comfyui(comfyui_factory: Callable[..., ComfyUI]) -> ComfyUI:
    """The server that tests share: no RUNFLOW_ setting, no key. Leave it running."""
    return comfyui_factory()
