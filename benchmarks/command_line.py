"""A folder of images from the command line: how much longer it takes than the verdicts themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
from measure import ROOT, said, table
from PIL import Image

from runflow_api.sandbox.app import Sandbox
from runflow_api.settings.config import Config

COUNT, LATENCY_S, SIDE, GOAL = 200, 2.0, 64, 1.3


def run(options: Namespace) -> str:
    at_once = Config().concurrency
    least = COUNT * LATENCY_S / at_once
    with tempfile.TemporaryDirectory() as folder, Sandbox(latency=LATENCY_S, balance="1000") as sandbox:
        sandbox.keep_bodies = False
        images = Path(folder) / "images"
        images.mkdir()
        noise = np.random.default_rng(0)
        for number in range(COUNT):
            pixels = noise.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            Image.fromarray(pixels).save(images / f"{number:03}.png")
        seconds = _judged(images, sandbox, Path(folder))
        assert len(sandbox.bills) == COUNT
    return "\n\n".join(
        [
            f"{COUNT} pictures of {SIDE}², each a verdict after {LATENCY_S:g} s, `RUNFLOW_CONCURRENCY` {at_once}.",
            table(["", "seconds"], [["took", f"{seconds:.1f}"], [f"{at_once} at a time must take", f"{least:.1f}"]]),
            f"Goal: ≤ {GOAL} ×; {seconds / least:.2f} ×, {said(seconds <= GOAL * least)}.",
        ]
    )


def _judged(images: Path, sandbox: Sandbox, home: Path) -> float:
    """Seconds of the whole command, its start included."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNFLOW_")}
    environment |= {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}
    environment |= {name: str(home) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "APPDATA", "LOCALAPPDATA")}
    command = [sys.executable, "-m", "runflow_api", "evaluate", str(images), "--yes", "--prompt", "a cup"]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: the sandbox failed some of them
    return time.monotonic() - began
