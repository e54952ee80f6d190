"""From Cancel, and from Ctrl-C, until it stopped, while Runflow does not answer."""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pictures
from measure import median, said, table
from PIL import Image

from runflow_api.sandbox.app import Fault, Sandbox

ROUNDS, GOAL_S, EXIT_GOAL_S = 5, 1.0, 3.0
SUBMIT, READ = "/v1/evaluations", "/v1/evaluations/[0-9a-f-]{36}"
HANGS = {
    "the submission hangs": Fault("POST", SUBMIT, "hang", times=None),
    "a poll hangs": Fault("GET", READ, "hang", times=None),
    "polls are refused (503)": Fault("GET", READ, "status", times=None, status=503),
}


def run(options: Namespace) -> str:
    if options.comfyui is None:
        return "Not measured: no ComfyUI given."
    from support.server import ComfyUI

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Sandbox(balance="1000") as sandbox:
        base = Path(folder)
        (base / "input").mkdir()
        picture = pictures.squares(pictures.found(options.photos, options.generated), 512, 1)[0]
        Image.fromarray(picture.pixels).save(base / "input" / "picture.png")
        env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}
        with ComfyUI(options.comfyui, base, python=sys.executable, env=env) as server:
            taken = {
                name: [_cancelled(server, sandbox, fault, f"{name} {number}") for number in range(ROUNDS)]
                for name, fault in HANGS.items()
            }
            _wait_for(server, sandbox, HANGS["a poll hangs"], "exit")
            exit_s = server.stop()
    worst = max(max(seconds) for seconds in taken.values())
    rows = [[name, f"{median(seconds):.2f}", f"{max(seconds):.2f}"] for name, seconds in taken.items()]
    goal = (
        f"Goal ≤ {GOAL_S:g} s, also the longest: {said(worst <= GOAL_S)}. ComfyUI ended {exit_s:.1f} s after Ctrl-C, "
        f"with a poll that hangs; goal ≤ {EXIT_GOAL_S:g} s: {said(exit_s <= EXIT_GOAL_S)}."
    )
    return "\n\n".join([f"Seconds, of {ROUNDS} each.", table(["", "median", "longest"], rows), goal])


def _cancelled(server: Any, sandbox: Sandbox, fault: Fault, prompt: str) -> float:
    """Seconds until the prompt was interrupted."""
    prompt_id = _wait_for(server, sandbox, fault, prompt)
    began = time.monotonic()
    server.interrupt()
    assert server.wait(prompt_id, check=False).interrupted
    seconds = server.wait_for("execution_interrupted", prompt_id).at - began
    sandbox.clear_faults()
    return seconds


def _wait_for(server: Any, sandbox: Sandbox, fault: Fault, prompt: str) -> str:
    """The id of a prompt whose evaluation has met the fault."""
    sandbox.add_fault(fault)
    asked = len(sandbox.wait_for_requests(fault.method, fault.path, 0))
    prompt_id = server.post(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": "picture.png"}},
            "2": {"class_type": "RunflowEvaluateImage", "inputs": {"image": ["1", 0], "generation_prompt": prompt}},
            "3": {"class_type": "RunflowShowVerdict", "inputs": {"evaluation": ["2", 4]}},
        }
    )
    sandbox.wait_for_requests(fault.method, fault.path, asked + 1)
    return prompt_id
