"""What every test gets: imports of the pack and of the shared helpers, and no RUNFLOW_ setting of this machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Appended, never prepended: the pack's `nodes` folder must not hide ComfyUI's own `nodes.py`.
for folder in (ROOT, ROOT / "tests", ROOT / "scripts"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

# A shell starts what it puts into the background deaf to Ctrl-C, and what that starts is deaf too: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_runflow_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's key must not reach a test, nor a test Runflow; RUNFLOW_TEST_ variables are for the tests."""
    for name in list(os.environ):
        if name.startswith("RUNFLOW_") and not name.startswith("RUNFLOW_TEST_"):
            monkeypatch.delenv(name)
