"""What is saved says which attempt it is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.loops import Since, chunks_of, failed, loop, nested, passed, saved, verdicts
from support.prompts import node
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox


def test_what_is_saved_behind_the_loop_says_how_the_winner_was_made(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3, f"{prompt}, better"), passed(0.8))
    graph = {**loop(prompt), **node("9", "SaveImage", images=["4", 0], filename_prefix=f"{prompt} first")}
    graph |= node("10", "SaveImage", images=["2", 0], filename_prefix=f"{prompt} body")
    extra = {"extra_pnginfo": {"workflow": {"id": "kept"}}}
    server.run(graph, extra_data=copy.deepcopy(extra))
    entry = saved(server, f"{prompt} first")["runflow_regenerate"]["4"]
    assert (entry["prompt"], entry["seed"], entry["attempt"], entry["attempts"]) == (f"{prompt}, better", 8, 2, 2)
    assert (entry["verdict"], entry["passed"], entry["score"], entry["start"]) == ("passed", True, 0.8, "1")
    assert saved(server, f"{prompt} first")["workflow"] == {"id": "kept"}

    graph["9"]["inputs"]["filename_prefix"] = f"{prompt} second"
    history = server.run(graph, extra_data=copy.deepcopy(extra))
    assert history.executed == ["9"]
    assert saved(server, f"{prompt} second")["runflow_regenerate"]["4"] == entry


@pytest.mark.parametrize("extra_data", [{"extra_pnginfo": {}}, {}])
def test_what_is_saved_by_the_body_says_which_attempt_it_is(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str, extra_data: dict[str, Any]
) -> None:
    """Savers run when ComfyUI likes, also after the loop: the entry follows the node that saves."""
    name = f"{prompt} {len(extra_data)}"
    graph = {**loop(name, max_attempts=4), **node("9", "SaveImage", images=["2", 0], filename_prefix=f"{name} body")}
    graph |= node("10", "SaveImage", images=["4", 0], filename_prefix=f"{name} best")
    verdicts(sandbox, failed(0.3, f"{name}, better"), failed(0.6), failed(0.1), failed(0.2))
    server.run(graph, extra_data=extra_data)

    def entry_of(file: Path) -> dict[str, Any]:
        chunks = chunks_of(file)
        entries = chunks.get("runflow_regenerate") or {"4": chunks["prompt"]["4"]["_meta"]["runflow_regenerate"]}
        entry: dict[str, Any] = entries["4"]
        return entry

    made = [entry_of(file) for file in sorted((server.base / "output").glob(f"{name} body*.png"))]
    by_number = sorted((entry["attempt"], entry["prompt"], entry["seed"]) for entry in made)
    better = f"{name}, better"
    assert by_number == [(1, name, 7), (2, better, 8), (3, better, 9), (4, better, 10)]
    pixels = {
        Image.open(file).tobytes(): entry_of(file)["seed"]
        for file in (server.base / "output").glob(f"{name} body*.png")
    }
    (best,) = (server.base / "output").glob(f"{name} best*.png")
    assert (entry_of(best)["attempt"], entry_of(best)["verdict"], entry_of(best)["seed"]) == (2, "failed", 8)
    assert pixels[Image.open(best).tobytes()] == 8


def test_a_job_without_extra_pnginfo_has_the_winner_in_the_saved_prompt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    server.run({**loop(prompt), **node("9", "SaveImage", images=["4", 0], filename_prefix=prompt)})
    chunks = saved(server, prompt)
    assert chunks["prompt"]["4"]["_meta"]["runflow_regenerate"]["seed"] == 8
    assert list(chunks) == ["prompt"]


def test_what_a_loop_in_a_loop_chose_is_saved_for_the_winning_attempt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.1), passed(0.8), failed(0.7), passed(0.6), failed(0.2))
    graph = {**nested(prompt, max_attempts=2)}
    for prefix in ("first", "second"):
        graph |= node("9", "SaveImage", images=["14", 0], filename_prefix=f"{prompt} {prefix}")
        server.run(graph, extra_data={"extra_pnginfo": {}})
        entries = saved(server, f"{prompt} {prefix}")["runflow_regenerate"]
        assert (entries["14"]["attempt"], entries["14"]["score"]) == (1, 0.7)
        assert (entries["4"]["seed"], entries["4"]["attempt"], entries["4"]["in_attempt"]) == (101, 2, 1)
