"""What tests of loops share, beside the server and its sandbox."""

from __future__ import annotations

import itertools

import pytest
from support.loops import Since
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox

_numbers = itertools.count(1)


@pytest.fixture
def prompt() -> str:
    """A prompt that no other test uses, so that nothing is cached or in the journal."""
    return f"a photo of loop number {next(_numbers)}"


@pytest.fixture
def since(server: ComfyUI, sandbox: Sandbox) -> Since:
    return Since(server, sandbox)
