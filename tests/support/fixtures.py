"""Fixtures for the conftest files of the folders whose tests need a real ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.server import ComfyUI, start_comfyui


@pytest.fixture(scope="session")
def comfyui_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ComfyUI]]:
    """`comfyui_factory(base=None, env=None, extra_nodes=(), **options)` starts a server with that environment.

    `base` is its base directory: give an old one to go on if an earlier server stopped. Each server lives
    until it is stopped (`with comfyui_factory(...) as server:`), at the latest until the end of the session; a
    start takes seconds, so share one if a test changes nothing of it.
    """
    with ExitStack() as running:

        def start(base: Path | None = None, **options: Any) -> ComfyUI:
            server = start_comfyui(base or tmp_path_factory.mktemp("comfyui"), **options)
            running.callback(server.kill)  # faster than a stop, and its folder is not read again
            return server

        yield start
