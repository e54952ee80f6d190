"""What an attempt of a loop costs beside its own nodes, from one attempt to ten, in a real ComfyUI."""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import psutil
from measure import said, table

NODES, ATTEMPTS, QUICK_NODES = 400, (1, 2, 5, 10), 200
GOAL = 1.3
RUN_TIMEOUT_S = 1800


def run(options: Namespace) -> str:
    if options.comfyui is None:
        return "Not measured: no ComfyUI given."
    nodes = QUICK_NODES if options.quick else NODES
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        measured = _measured(options.comfyui, Path(folder), nodes)
    one = measured[0][2]
    rows = [
        [f"{attempts}", f"{took:.1f}", f"{used:.1f}", f"{used / attempts:.2f}", f"{used / (attempts * one):.2f}"]
        for attempts, took, used in measured
    ]
    growth = measured[-1][2] / (measured[-1][0] * one)
    return "\n\n".join(
        [
            f"A body of {nodes} trivial nodes (*Invert Image*, 64²), judged by the local judge.",
            table(["attempts", "seconds", "processor seconds", "for each attempt", "× attempts × one run"], rows),
            f"Ten attempts take {growth:.2f} times ten runs of one. Goal ≤ {GOAL:g}: {said(growth <= GOAL)}.",
        ]
    )


def _measured(comfyui: Path, base: Path, nodes: int) -> list[tuple[int, float, float]]:
    """(attempts, seconds, processor seconds of ComfyUI) for each number of attempts."""
    from support.server import ComfyUI

    found = []
    with ComfyUI(comfyui, base, python=sys.executable) as server:
        server.run(_loop(3, 1, seed=1), RUN_TIMEOUT_S)  # what is imported by the first
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        for number, attempts in enumerate(ATTEMPTS, 1):
            began, before = time.perf_counter(), sum(process.cpu_times()[:2])
            server.run(_loop(nodes, attempts, seed=1000 * number), RUN_TIMEOUT_S)
            found.append((attempts, time.perf_counter() - began, sum(process.cpu_times()[:2]) - before))
    return found


def _loop(nodes: int, attempts: int, seed: int) -> dict[str, Any]:
    """Each attempt makes one flat colour, which the judge fails."""

    def node(class_type: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": class_type, "inputs": inputs}

    prompt = {
        "1": node("RunflowRegenerateStart", prompt="a colour", seed=seed),
        "2": node("EmptyImage", width=64, height=64, batch_size=1, color=["1", 2]),
    }
    last = "2"
    for number in range(nodes):
        prompt[f"b{number}"] = node("ImageInvert", image=[last, 0])
        last = f"b{number}"
    prompt["3"] = node("RunflowEvaluateImage", image=[last, 0], judge="local")
    prompt["4"] = node(
        "RunflowRegenerateEnd", loop=["1", 0], image=[last, 0], evaluation=["3", 4], max_attempts=attempts
    )
    prompt["5"] = node("PreviewImage", images=["4", 0])
    return prompt
