"""Graphs that version 0.1 saved, in the real editor: an input that is new since then moves no link and no value.

``workflows_0_1/subgraphs`` holds them as frontend 1.32 wrote them: links end at numbers, and each node has the names of
its inputs. ``nested.json``: Evaluate in the graph, in a subgraph, and in a subgraph of a subgraph, with prompt, score
and task linked or set on the host. ``quality_gate.json``: that version's blueprint. ``group_node.json``, put together
by hand from these: Evaluate in a group node, its prompt linked within and its score from outside.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from driver import HERE, Play
from support.waiting import judge_now

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict

SAVED = HERE.parent / "graph" / "workflows_0_1" / "subgraphs"
ALIKE = {"evaluation_instructions": "", "judge": "auto", "if_not_judged": "fail", "task_description": "inside"}
NESTED = {
    "3": {"generation_prompt": ["2", 0], "min_score": ["9", 0], "task_type": "image_generation"},
    "4:21": {"generation_prompt": ["2", 0], "min_score": 0.45, "task_type": "headshot"},
    "5:22:21": {"generation_prompt": ["2", 0], "min_score": 0.55, "task_type": "product"},
}


def saved(name: str) -> Any:
    return json.loads((SAVED / f"{name}.json").read_text("utf-8"))


def assert_nested(found: dict[str, Any]) -> None:
    assert found == {node: {**ALIKE, **inputs, "image": ["1", 0]} for node, inputs in NESTED.items()}


@pytest.mark.at("everywhere")
def test_links_into_subgraphs_end_at_the_inputs_they_were_saved_for(play: Play) -> None:
    found = play("saved.means_the_same_after_undo_and_saving", given={"workflow": saved("nested")})
    for each in ("then", "now", "undone"):
        assert_nested(found[each])


@pytest.mark.at("oldest canvas")
def test_what_was_set_on_the_blueprint_of_the_version_before_is_what_is_asked(play: Play) -> None:
    workflow = saved("quality_gate")
    workflow["nodes"][0]["widgets_values"] = ["five fingers", "a hand", "local", 0.75, "fail"]
    (found,) = play("saved.means", given={"workflow": workflow}).values()
    assert found == {
        "evaluation_instructions": "five fingers", "generation_prompt": "a hand", "judge": "local", "min_score": 0.75,
        "if_not_judged": "fail", "task_type": "image_generation", "task_description": "",
    }  # fmt: skip


@pytest.mark.at("oldest canvas")
def test_nodes_that_were_copied_before_the_update_are_pasted_with_their_links(play: Play) -> None:
    workflow = saved("nested")
    copied = {2, 3, 9}
    workflow["nodes"] = [node for node in workflow["nodes"] if node["id"] in copied]
    workflow["links"] = [link for link in workflow["links"] if {link[1], link[3]} <= copied]
    (found,) = play("saved.pastes", given={"workflow": workflow}).values()
    assert isinstance(found["generation_prompt"], list) and isinstance(found["min_score"], list)
    assert found["task_type"] == "image_generation" and "judge_model" not in found


@pytest.mark.at("oldest canvas")
def test_links_into_and_within_a_group_node_end_at_the_inputs_they_were_saved_for(play: Play) -> None:
    found = play("saved.means_the_same_after_undo_and_saving", given={"workflow": saved("group_node")})
    for each in ("then", "now", "undone"):
        ((node, asked),) = found[each].items()
        assert asked["generation_prompt"][0].split(":")[0] == node.split(":")[0], "another node of the group"
        assert (asked["image"], asked["min_score"]) == (["1", 0], ["9", 0])
        assert "judge_model" not in asked and asked["task_type"] == "image_generation"


def test_a_saved_image_or_workflow_that_is_dropped_brings_its_verdict_back(play: Play, sandbox: Sandbox) -> None:
    judged = ScriptedVerdict(passed=False, score=0.41, issues=["six fingers"])
    before = len(sandbox.bills)
    judge_now(sandbox)
    found = play("saved.comes_back_when_it_is_dropped", judged)
    assert found["ended"] == "execution_success" and found["name"].startswith("dropped")
    assert found["image"] == found["workflow"]
    assert all("0.41" in said for said in found["image"]["says"]), found
    assert len(sandbox.bills) == before + 1, "looking at it is free"
