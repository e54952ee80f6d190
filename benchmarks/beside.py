"""An evaluation beside a synchronous sampler in a real ComfyUI: what it takes from the sampler, and when it is done."""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import api
import pictures
from measure import HERE, median, said, table
from PIL import Image

from runflow_api.sandbox.app import DEFAULT_KEY

ROUNDS, STEPS, LATENCY_S = 7, 2500, 4.0
GOAL, NOISE = 3.0, 15.0
RUN_TIMEOUT_S = 180


def run(options: Namespace) -> str:
    if options.comfyui is None:
        return "Not measured: no ComfyUI given."
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, api.running(LATENCY_S) as sandbox:
        server = _server(options, Path(folder), sandbox.url)
        with server:
            rounds = [_round(server, sandbox, number) for number in range(ROUNDS + 1)][1:]
    alone, beside = median(each[0] for each in rounds), median(each[1] for each in rounds)
    loss = 100 * median(b / a - 1 for a, b, _ in rounds)
    done = sum(each[2] for each in rounds)
    least, most = (100 * function(b / a - 1 for a, b, _ in rounds) for function in (min, max))
    decided = said(loss <= GOAL) if most - least < NOISE else "**not decided**, the pairs differ by too much"
    rows = [["the sampler alone", f"{alone:.2f}"], ["beside one evaluation", f"{beside:.2f}"]]
    return "\n\n".join(
        [
            "A node that multiplies matrices on one core and never gives the event loop back; a 1024² picture, a "
            f"verdict after {LATENCY_S:g} s; {ROUNDS} pairs in turn.",
            table(["", "seconds (median)"], rows),
            f"The sampler loses {loss:.1f} % (median of the pairs, which lie between "
            f"{least:.1f} and {most:.1f} %). Goal ≤ {GOAL:g} %: {decided}. "
            f"The verdict was read before the sampler ended in {done} of {ROUNDS}: {said(done == ROUNDS)}.",
        ]
    )


def _server(options: Namespace, base: Path, url: str) -> Any:
    from support.server import ComfyUI

    picture = pictures.squares(pictures.found(options.photos, options.generated), 1024, 1)[0]
    (base / "input").mkdir(parents=True)
    Image.fromarray(picture.pixels).save(base / "input" / "picture.png")
    env = {"RUNFLOW_BASE_URL": url, "RUNFLOW_API_KEY": DEFAULT_KEY, "RUNFLOW_MAX_EVALUATIONS_PER_DAY": "1000"}
    nodes = (HERE / "nodes" / "first" / "runflow_benchmark",)
    return ComfyUI(options.comfyui, base, python=sys.executable, env=env, extra_nodes=nodes)


def _round(server: Any, sandbox: api.Api, number: int) -> tuple[float, float, bool]:
    """(seconds alone, seconds beside, whether the verdict was there first)."""
    alone, _ = _sampled(server, 2 * number, {})
    evaluation = {
        "2": {"class_type": "RunflowEvaluateImage", "inputs": {"image": ["1", 0], "generation_prompt": f"{number}"}},
        "3": {"class_type": "RunflowShowVerdict", "inputs": {"evaluation": ["2", 4]}},
    }
    before = len(sandbox.requests())
    beside, ended = _sampled(server, 2 * number + 1, evaluation)
    full = [each.at for each in sandbox.requests()[before:] if each.embeds]
    return alone, beside, bool(full) and full[0] < ended


def _sampled(server: Any, number: int, more: dict[str, Any]) -> tuple[float, float]:
    """(what the sampler took, when it ended)."""
    prompt = {
        **more,
        "1": {"class_type": "LoadImage", "inputs": {"image": "picture.png"}},
        "8": {
            "class_type": "RunflowBenchmarkSampler",
            "inputs": {"steps": STEPS, "round": number, "image": ["1", 0]},
        },
        "9": {"class_type": "PreviewAny", "inputs": {"source": ["8", 0]}},
    }
    prompt_id = server.post(prompt)
    history = server.wait(prompt_id, RUN_TIMEOUT_S)
    ended = server.wait_for("executed", prompt_id, "9").at
    return float(history.outputs["9"]["text"][0]), ended
