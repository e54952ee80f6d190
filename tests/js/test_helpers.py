"""The page's helpers that need no browser, by Node's own test runner."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_the_helpers_of_the_page() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.fail("The page's tests need Node.js 20 or later (Debian: apt install nodejs npm).", pytrace=False)
    tests = sorted(map(str, HERE.glob("*.test.mjs")))
    done = subprocess.run([node, "--test", *tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
