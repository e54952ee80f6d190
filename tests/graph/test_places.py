"""Where a verdict is looked for beside the panel: /history and /view, the saved file, and a later Run."""

from __future__ import annotations

import io
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.loops import end, failed, generate, loop, passed, start
from support.pictures import picture
from support.prompts import Prompt, evaluate, load_image, node, options, show
from support.server import ComfyUI

from runflow_api import images
from runflow_api.image_files import read
from runflow_api.sandbox.app import Sandbox


def photo(server: ComfyUI, seed: int) -> str:
    name = f"places-{seed}.png"
    Image.fromarray(images.to_pixels(picture(80_000 + seed))).save(server.base / "input" / name)
    return name


def two(server: ComfyUI, seed: int) -> Prompt:
    """A batch of two, judged; the first passes."""
    return {
        **load_image("1", photo(server, seed)),
        **load_image("7", photo(server, seed + 1)),
        **node("6", "ImageBatch", image1=["1", 0], image2=["7", 0]),
        **evaluate("2", ["6", 0], generation_prompt="a cat"),
    }


def viewed(server: ComfyUI, shown: dict[str, str]) -> Image.Image:
    query = "&".join(f"{name}={value}" for name, value in shown.items())
    with urllib.request.urlopen(f"{server.url}/view?{query}", timeout=60) as answer:
        return Image.open(io.BytesIO(answer.read()))


def test_the_history_has_text_and_a_card_that_view_serves(server: ComfyUI, sandbox: Sandbox) -> None:
    sandbox.add_verdict(failed(0.41, "five fingers", "six fingers on the left hand"))
    gate = {**load_image("1", photo(server, 1)), **evaluate("2", ["1", 0]), **show("3", ["2", 4])}
    report = node("4", "RunflowVerdictCard", image=["1", 0], evaluation=["2", 4])
    shown = server.run({**gate, **report}).outputs
    (text,), (card,) = shown["3"]["text"], shown["3"]["images"]
    assert text.startswith("failed · 0.41") and text.endswith("\nsix fingers on the left hand")
    assert (card["type"], viewed(server, card).width) == ("temp", 1320)
    assert shown["4"]["text"][0].startswith("failed · 0.41")
    assert viewed(server, shown["4"]["images"][0]).width == 1320


def test_a_loops_end_shows_its_best_attempt(server: ComfyUI, sandbox: Sandbox) -> None:
    for verdict in (failed(0.2, "better"), passed(0.8)):
        sandbox.add_verdict(verdict)
    outputs = server.run(loop("a loop that shows its card")).outputs.values()
    (shown,) = [each for each in outputs if "runflow_regenerate" in each]
    assert shown["text"][0].startswith("passed · 0.80")
    assert viewed(server, shown["images"][0]).width == 1320


def saved(server: ComfyUI, shown: list[dict[str, str]]) -> list[Path]:
    return [server.base / "output" / each["subfolder"] / each["filename"] for each in shown]


def test_a_saved_file_knows_its_verdict_its_prompt_and_its_workflow(server: ComfyUI, sandbox: Sandbox) -> None:
    for verdict in (passed(0.9), failed(0.3)):
        sandbox.add_verdict(verdict)
    save = {"image": ["6", 0], "evaluation": ["2", 4]}
    graph = {
        **two(server, 10),
        **node("3", "RunflowSaveJudged", filename_prefix="judged/%judge%-%score%", folders="by_verdict", **save),
        **node("4", "RunflowSaveJudged", filename_prefix="good/%verdict%", what="passed", sidecar=True, **save),
    }
    workflow = {"nodes": [], "links": [], "version": 0.4}
    shown = server.run(graph, extra_data={"extra_pnginfo": {"workflow": workflow}}).outputs
    files = saved(server, shown["3"]["images"])
    by_verdict = {file.parent.name: file for file in files}
    assert set(by_verdict) == {"passed", "failed"}
    good = by_verdict["passed"]
    assert good.relative_to(server.base / "output").as_posix() == "judged/passed/runflow-0.90_00001_.png"
    found = read(good)
    assert found.saved is not None and found.prompt == ""
    assert (found.saved.outcome, found.saved.score, found.saved.judge) == ("passed", 0.9, "runflow")
    assert found.saved.evaluation_id in sandbox.evaluations
    assert found.saved.judged_hash == found.saved.pixel_hash == images.pixel_hash(found.pixels)
    with Image.open(good) as image:
        chunks: dict[str, Any] = {name: json.loads(text) for name, text in image.info.items()}
    assert (chunks["workflow"], chunks["prompt"]["3"]["class_type"]) == (workflow, "RunflowSaveJudged")
    assert sandbox.api_key not in good.read_bytes().decode("latin-1")
    (only,) = saved(server, shown["4"]["images"])
    assert json.loads(only.with_suffix(".json").read_text())["id"] == found.saved.evaluation_id
    assert "1 left out" in shown["4"]["text"][0]


@pytest.mark.parametrize("prefix", ["../outside", "/tmp/%verdict%"])
def test_no_prefix_leads_out_of_the_output_folder(server: ComfyUI, prefix: str) -> None:
    graph = {**two(server, 20), **node("3", "RunflowSaveJudged", image=["6", 0], evaluation=["2", 4])}
    graph["3"]["inputs"]["filename_prefix"] = prefix
    (error,) = server.run(graph, check=False).errors
    assert "[INVALID_INPUT] filename_prefix" in error["exception_message"]


def test_what_a_loop_saves_says_which_attempt_it_is(server: ComfyUI, sandbox: Sandbox) -> None:
    for verdict in (failed(0.2, "better"), passed(0.8)):
        sandbox.add_verdict(verdict)
    graph = {
        **start("a loop that saves", 3),
        **generate(),
        **evaluate("3", ["2", 0], generation_prompt=["1", 1]),
        **end(),
        **node("5", "RunflowSaveJudged", image=["2", 0], evaluation=["3", 4], filename_prefix="attempts/a"),
        **node("6", "SaveImage", images=["4", 0], filename_prefix="behind-end"),
    }
    server.run(graph, extra_data={"extra_pnginfo": {"workflow": {}}})
    said = []
    for file in sorted((server.base / "output" / "attempts").glob("*.png")):
        with Image.open(file) as image:
            entry = json.loads(image.info["runflow_regenerate"])["4"]
            said.append((entry["attempt"], json.loads(image.info["runflow_verdict"])["verdict"]))
    assert said == [(1, "failed"), (2, "passed")]
    (behind,) = (server.base / "output").glob("behind-end*.png")
    with Image.open(behind) as image:
        assert json.loads(image.info["runflow_regenerate"])["4"]["attempt"] == 2


def test_without_waiting_the_run_goes_on_and_a_later_one_collects(server: ComfyUI, sandbox: Sandbox) -> None:
    gate = {
        **load_image("1", photo(server, 30)),
        **evaluate("2", ["1", 0], options=["8", 0]),
        **show("3", ["2", 4]),
        **options("8", wait=False),
    }
    sandbox.latency, bills, before = 0.0, len(sandbox.bills), len(sandbox.requests)
    (first,) = server.run(gate).outputs["3"]["runflow"]
    (later,) = server.run(gate).outputs["3"]["runflow"]
    assert (first["verdict"], first["error"], later["verdict"], later["id"]) == (
        "unknown",
        None,
        "passed",
        first["id"],
    )
    submitted = [each for each in sandbox.requests[before:] if each.path == "/v1/evaluations"]
    assert (len(submitted), len(sandbox.bills) - bills) == (1, 1)
