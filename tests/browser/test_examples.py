"""Every shipped example and blueprint in the real editor: it opens whole, in both renderers, and runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driver import HERE, OLDEST, Browser
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict

ROOT = HERE.parent.parent
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
NEEDS_A_MODEL = {"retry_until_hands_are_right", "four_good_ones", "repair_with_edit_model"}
RUN_WITH_A_TINY_MODEL = NEEDS_A_MODEL - {"repair_with_edit_model"}
"""Text encoders of an edit model are not tiny. That one runs in ``tests/graph/test_examples.py``."""
TINY = "tiny.ckpt"
SMALL = {
    "CheckpointLoaderSimple": {"ckpt_name": TINY},
    "EmptyLatentImage": {"width": 64, "height": 64},
    "KSampler": {"steps": 1},
    "RunflowRegenerateEnd": {"passes_wanted": 1},
}
"""What a CPU makes at once."""
FAILS, PASSES = ScriptedVerdict(passed=False, score=0.3, issues=["six fingers"]), ScriptedVerdict(score=0.9)

RUNS = {path.stem for path in WORKFLOWS} - (NEEDS_A_MODEL - RUN_WITH_A_TINY_MODEL)
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def server(servers: Callable[[str], ComfyUI]) -> ComfyUI:
    """With a checkpoint of 10 MB."""
    running = servers(OLDEST)
    running.run({"1": {"class_type": "TestWriteCheckpoint", "inputs": {"name": TINY}}})
    return running


def workflow(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@each_workflow
def test_an_example_opens_with_every_node_in_its_place(browser: Browser, server: ComfyUI, path: Path) -> None:
    misses = path.stem in NEEDS_A_MODEL
    given = {"workflow": workflow(path), "misses": misses}
    browser.run("examples.opens", server.url, "vue", given=given)


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_the_inside_of_a_blueprint_lies_in_its_place(
    browser: Browser, server: ComfyUI, renderer: str, path: Path
) -> None:
    browser.run("examples.opens_inside", server.url, renderer, given={"workflow": workflow(path)})


@pytest.mark.parametrize("path", [each for each in WORKFLOWS if each.stem in RUNS], ids=lambda path: path.stem)
def test_an_example_opens_and_runs(browser: Browser, server: ComfyUI, sandbox: Sandbox, path: Path) -> None:
    for _ in range(4):
        sandbox.add_verdict(PASSES)
    misses = path.stem in RUN_WITH_A_TINY_MODEL
    given = {"workflow": workflow(path), "changes": SMALL if misses else {}, "misses": misses}
    browser.run("examples.runs", server.url, "canvas", given=given)


def test_the_quality_gate_is_added_from_the_node_library_and_sends_on_by_the_verdict(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    for verdict in (PASSES, FAILS):
        sandbox.add_verdict(verdict)
    given = {"image": "coffee.jpg", "wishes": [f"a cup, {renderer}, {number}" for number in (1, 2)]}
    found = browser.run("examples.adds_the_gate", server.url, renderer, given=given)
    assert found["widgets"] == ["evaluation_instructions", "generation_prompt", "judge", "min_score", "if_not_judged"]
    assert found["outputs"][:2] == ["passed_images", "failed_images"]
    assert found["shown"] == [["passed"], ["failed"]]


def test_text_to_image_is_added_from_the_node_library_and_makes_attempts_until_one_passes(
    browser: Browser, server: ComfyUI, sandbox: Sandbox
) -> None:
    sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.3, improved_prompt="a pianist, ten fingers"))
    sandbox.add_verdict(PASSES)
    before, seed = len(sandbox.requests), 11
    changes = {"ckpt_name": TINY, "width": 64, "height": 64, "steps": 1, "seed": seed, "prompt": "a pianist"}
    found = browser.run("examples.adds_text_to_image", server.url, "canvas", given={"changes": changes})
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
    browser.run("examples.shows_templates", server.url, "canvas", given={"names": names})
