"""The page's code: its types, its style, its unit tests in a DOM, and what a browser has to load before it starts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NO_NODE = "The page's checks need Node.js 20 or later with npm (Debian: apt install nodejs npm)."


@pytest.fixture(scope="session")
def npm() -> str:
    """npm, with the packages of the lock file installed; asks no registry when they are there."""
    found = shutil.which("npm")
    if found is None or shutil.which("node") is None:
        pytest.fail(NO_NODE, pytrace=False)
    stamp, lock = HERE / "node_modules" / ".package-lock.json", HERE / "package-lock.json"
    if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
        _run([found, "ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        stamp.touch()
    return found


@pytest.mark.parametrize("check", ["types", "lint", "test"])
def test_the_code_of_the_page(npm: str, check: str) -> None:
    _run([npm, "run", "--silent", check])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command[1:])}\n{done.stdout[-8000:]}{done.stderr[-4000:]}", pytrace=False)
