"""The command line where a folder is somebody else's: what needs it says so, the rest works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from support.pictures import picture

from runflow_api import images
from runflow_api.cli.exit_codes import CONFIGURATION, OK
from runflow_api.sandbox.app import Sandbox

ROOT = Path(__file__).resolve().parents[2]
LIKE_A_USER = "-dac_override,-dac_read_search,-fowner"
"""What root gives up to be refused as everybody is; still root, it may read the checkout, wherever that is."""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv, to run as somebody who is not allowed everything",
)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=0.05) as running:
        yield running


def evaluate(comfyui: Path, file: Path, *more: str, sandbox: Sandbox) -> subprocess.CompletedProcess[str]:
    limited = ["setpriv", f"--bounding-set={LIKE_A_USER}", f"--inh-caps={LIKE_A_USER}", sys.executable]
    command = [str(ROOT / "runflow_api"), "evaluate", str(file), "--comfyui", str(comfyui), *more]
    env = {**os.environ, "RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}
    return subprocess.run([*limited, *command], env=env, capture_output=True, text=True, timeout=300)


def foreign(path: Path, mode: int) -> Path:
    """A ComfyUI whose private folder belongs to user 1000."""
    private = path / "user" / "__runflow_evaluate"
    private.mkdir(parents=True)
    for folder in (private, private.parent):
        os.chown(folder, 1000, 1000)
        folder.chmod(mode if folder == private else 0o755)
    return path


def test_a_private_folder_of_another_user(tmp_path: Path, sandbox: Sandbox) -> None:
    comfyui, file = foreign(tmp_path / "comfyui", 0o700), tmp_path / "picture.png"
    images.to_pil(images.to_pixels(picture())).save(file)
    local = evaluate(comfyui, file, "--judge", "local", sandbox=sandbox)
    assert (local.returncode, "Traceback" in local.stderr) == (OK, False), local.stderr
    paid = evaluate(comfyui, file, "--yes", sandbox=sandbox)
    assert paid.returncode == CONFIGURATION
    (line,) = (line for line in paid.stderr.splitlines() if line.startswith("[FOLDER_UNUSABLE]"))
    assert f"{comfyui}/user/__runflow_evaluate belongs to another user" in line
    assert sandbox.bills == []


def test_a_private_folder_that_can_only_be_read(tmp_path: Path, sandbox: Sandbox) -> None:
    comfyui, file = foreign(tmp_path / "comfyui", 0o755), tmp_path / "picture.png"
    Image.fromarray(images.to_pixels(picture())).save(file)
    paid = evaluate(comfyui, file, "--yes", "--prompt", "a cup", sandbox=sandbox)
    assert len(sandbox.bills) == 1, paid.stderr
    shown = paid.stdout + paid.stderr
    assert "Traceback" not in shown
    assert shown.count("[JOURNAL_UNUSABLE]") == 2  # when it was met, and at the end; not beside every image
