"""The types of the nodes, checked as ComfyUI loads them: as a package inside the pack's package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(os.name == "nt", reason="makes a link to a folder")
def test_the_nodes_are_typed_strictly(tmp_path: Path) -> None:
    (tmp_path / "pack").symlink_to(ROOT)  # the folder's own name need not be one that Python can import
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    found = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "-p", "pack.nodes"], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
