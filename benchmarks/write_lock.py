"""How long others wait for the journal's write lock while the command line judges a large folder of ComfyUI's."""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
from measure import ROOT, said, table
from PIL import Image

from runflow_api.sandbox.app import Sandbox

COUNT, SIDE, GOAL_S, EVERY_S = 5_000, 32, 0.1, 0.02


def run(_: Namespace) -> str:
    with tempfile.TemporaryDirectory() as folder, Sandbox(latency=0.2, balance="100000", keep_bodies=False) as sandbox:
        pictures = _pictures(Path(folder) / "output")
        settings = Path(folder) / "user" / "__runflow_evaluate"
        settings.mkdir(parents=True)
        (settings / "config.json").write_text('{"max_evaluations_per_day": 1000000}')
        command = _start(pictures, sandbox, Path(folder))
        waits, seconds = _waits_while(command, settings)
        assert len(sandbox.bills) == COUNT, f"{len(sandbox.bills)} bills"
    ordered = sorted(waits)
    figures = (statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1])
    rows = [[name, f"{1000 * each:.1f}"] for name, each in zip(("median", "99 %", "longest"), figures, strict=True)]
    return "\n\n".join(
        [
            f"{COUNT} files paid for in {seconds:.0f} s; another process asked for the lock {len(waits)} times.",
            table(["wait", "ms"], rows),
            f"Goal: never more than {GOAL_S * 1000:g} ms: {said(figures[-1] <= GOAL_S)}.",
        ]
    )


def _pictures(directory: Path) -> Path:
    directory.mkdir()
    noise = np.random.default_rng(0)
    for number in range(COUNT):
        Image.fromarray(noise.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(directory / f"{number:05}.png")
    return directory


def _start(pictures: Path, sandbox: Sandbox, comfyui: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNFLOW_")}
    environment |= {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}
    asked = ["evaluate", str(pictures), "--comfyui", str(comfyui), "--yes", "--prompt", "a cup"]
    log = (comfyui / "log.txt").open("wb")
    return subprocess.Popen(
        [sys.executable, "-m", "runflow_api", *asked], cwd=ROOT, env=environment, stdout=log, stderr=log
    )


def _waits_while(command: subprocess.Popen[bytes], settings: Path) -> tuple[list[float], float]:
    """Seconds from asking for the lock to having it, each time, until the command ends; and how long it took."""
    began = time.monotonic()
    with ProcessPoolExecutor(1) as other:  # the sandbox would take this process's time from it
        waits = other.submit(_ask_while, command.pid, settings).result()
    assert command.wait() in (0, 1), (settings.parents[1] / "log.txt").read_text()[-2000:]
    return waits, time.monotonic() - began


def _ask_while(process: int, settings: Path) -> list[float]:
    waits: list[float] = []
    while _runs(process):
        time.sleep(EVERY_S)
        for file in settings.rglob("journal.sqlite3"):
            with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as journal:
                asked = time.monotonic()
                while not _takes_lock(journal):
                    time.sleep(0.001)  # SQLite itself looks again only after up to 100 ms
                waits.append(time.monotonic() - asked)
                journal.execute("ROLLBACK")
    return waits


def _takes_lock(journal: sqlite3.Connection) -> bool:
    try:
        journal.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


def _runs(process: int) -> bool:
    """False also for one that has ended and that nobody has waited for yet."""
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"
