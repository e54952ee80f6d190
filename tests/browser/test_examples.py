"""Every shipped example and blueprint in the real editor: it opens whole, in both renderers, and runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import HERE, KEY, Browser
from support.server import ComfyUI, start_comfyui

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict

ROOT = HERE.parent.parent
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
NEEDS_A_MODEL = "retry_until_hands_are_right"
TINY = "tiny.ckpt"
SMALL = {
    "CheckpointLoaderSimple": {"ckpt_name": TINY},
    "EmptyLatentImage": {"width": 64, "height": 64},
    "KSampler": {"steps": 1},
}
"""What a CPU makes at once."""
FAILS, PASSES = ScriptedVerdict(passed=False, score=0.3, issues=["six fingers"]), ScriptedVerdict(score=0.9)

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[ComfyUI]:
    """With the photographs where the notes say they belong, and a checkpoint of 10 MB."""
    base = tmp_path_factory.mktemp("examples")
    (base / "input").mkdir()
    for photo in (ROOT / "example_workflows" / "photos").rglob("*.jpg"):
        shutil.copy2(photo, base / "input")
    env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": KEY}
    nodes = (HERE.parent / "graph" / "model_nodes",)
    with start_comfyui(base, env=env, extra_nodes=nodes, args=("--fp32-text-enc",)) as running:
        running.run({"1": {"class_type": "TestWriteCheckpoint", "inputs": {"name": TINY}}})
        yield running


def workflow(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@each_workflow
def test_an_example_opens_with_every_node_in_its_place(
    browser: Browser, server: ComfyUI, renderer: str, path: Path
) -> None:
    misses = path.stem == NEEDS_A_MODEL
    given = {"workflow": workflow(path), "misses": misses}
    assert browser.run("examples.opens", server.url, renderer, given=given) == misses


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_the_inside_of_a_blueprint_lies_in_its_place(
    browser: Browser, server: ComfyUI, renderer: str, path: Path
) -> None:
    browser.run("examples.opens_inside", server.url, renderer, given={"workflow": workflow(path)})


@each_workflow
def test_an_example_runs_from_the_editor(browser: Browser, server: ComfyUI, sandbox: Sandbox, path: Path) -> None:
    sandbox.add_verdict(PASSES)
    misses = path.stem == NEEDS_A_MODEL
    given = {"workflow": workflow(path), "changes": SMALL if misses else {}, "misses": misses}
    browser.run("examples.runs", server.url, "canvas", given=given)


@pytest.mark.parametrize(("verdict", "side"), [(PASSES, "passed"), (FAILS, "failed")], ids=["passed", "failed"])
def test_the_quality_gate_is_added_from_the_node_library_and_sends_on_by_the_verdict(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str, verdict: ScriptedVerdict, side: str
) -> None:
    sandbox.add_verdict(verdict)
    given = {"image": "coffee.jpg", "wish": f"a cup, {renderer} {side}"}
    found = browser.run("examples.adds_the_gate", server.url, renderer, given=given, fresh=True)
    assert found["widgets"] == ["evaluation_instructions", "generation_prompt", "judge", "min_score", "if_not_judged"]
    assert found["outputs"][:2] == ["passed_images", "failed_images"]
    assert found["shown"] == [side]


def test_text_to_image_is_added_from_the_node_library_and_makes_attempts_until_one_passes(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.3, improved_prompt="a pianist, ten fingers"))
    sandbox.add_verdict(PASSES)
    before, seed = len(sandbox.requests), {"canvas": 11, "vue": 21}[renderer]
    changes = {"ckpt_name": TINY, "width": 64, "height": 64, "steps": 1, "seed": seed, "prompt": "a pianist"}
    found = browser.run("examples.adds_text_to_image", server.url, renderer, given={"changes": changes}, fresh=True)
    assert found["widgets"] == [
        "prompt", "evaluation_instructions", "text", "ckpt_name", "width", "height", "seed", "steps", "cfg",
        "max_attempts", "next_prompt",
    ]  # fmt: skip
    assert found["seeds"] == [seed, seed], "Run does not change the seed, which would pay again"
    asked = [record.body for record in sandbox.requests[before:] if record.path == "/v1/evaluations"]
    assert [each["generation_prompt"] for each in asked] == ["a pianist", "a pianist, ten fingers"]
    assert all("five fingers" in each["evaluation_instructions"] for each in asked)


def test_every_template_has_its_picture_in_the_template_browser(browser: Browser, server: ComfyUI) -> None:
    names = [path.stem for path in WORKFLOWS]
    browser.run("examples.shows_templates", server.url, "canvas", given={"names": names}, fresh=True)
