"""Workflows that version 0.1 saved: they load and mean the same.

``workflows_0_1/`` holds that version's examples as they were saved, and ``prompts.json`` what they meant then: the
prompts of that version. Saved widget values are positional, so an input that moves changes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.server import ComfyUI
from support.workflows import to_prompt

SAVED = Path(__file__).parent / "workflows_0_1"
PROMPTS: dict[str, Any] = json.loads((SAVED / "prompts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_a_workflow_of_the_version_before_means_the_same(comfyui: ComfyUI, name: str) -> None:
    workflow = json.loads((SAVED / f"{name}.json").read_text(encoding="utf-8"))
    prompt = to_prompt(workflow, comfyui.object_info())
    assert {node: info["class_type"] for node, info in prompt.items()} == {
        node: info["class_type"] for node, info in PROMPTS[name].items()
    }
    for node, info in PROMPTS[name].items():
        assert {**prompt[node]["inputs"], **info["inputs"]} == prompt[node]["inputs"], node  # new inputs may join


def test_every_saved_workflow_is_among_them() -> None:
    assert {file.stem for file in SAVED.glob("*.json")} - {"prompts"} == set(PROMPTS)
