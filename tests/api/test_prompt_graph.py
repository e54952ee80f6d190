"""Loops in a graph, read without ComfyUI: whose end belongs to whose start, and what is priced for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.evaluators import configuration

from runflow_api.api.client import RunflowClient
from runflow_api.api.transport import Transport
from runflow_api.errors import InvalidInputError
from runflow_api.evaluation.evaluator import Evaluator
from runflow_api.prompt.classes import KEEPS_COUNT, LOOPS, MAKES_COUNT, NodeClass, listed
from runflow_api.prompt.graph import boundary_pairs
from runflow_api.prompt.price import PromptPrice, price


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def chain(*names: str) -> dict[str, Any]:
    """Each depends on the one before."""
    pairs = zip(names, (None, *names), strict=False)
    return {name: node("Any", **({"value": [before, 0]} if before else {})) for name, before in pairs}


@pytest.mark.parametrize(
    ("order", "pairs"),
    [
        (("s1", "work", "e1"), {("s1", "e1")}),
        (("s1", "s2", "e1", "e2"), {("s2", "e1"), ("s1", "e2")}),
        (("s1", "e1", "s2", "e2"), {("s1", "e1"), ("s2", "e2")}),
        (("e1", "s1"), set()),
    ],
)
def test_an_end_without_a_partner_closes_the_innermost_open_start(order: Any, pairs: set[Any]) -> None:
    starts, ends = ([name for name in order if name[0] == side] for side in "se")
    assert set(boundary_pairs(chain(*order), starts, ends)) == pairs


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    """Its Runflow is not there, which is found out at once."""
    settings = configuration(None, RUNFLOW_API_KEY="rf_test_x", RUNFLOW_BASE_URL="http://127.0.0.1:9")
    return Evaluator(settings, tmp_path, client=RunflowClient(settings, Transport(settings, delay=lambda *_: 0.01)))


def said(evaluator: Evaluator, prompt: Any, **known: NodeClass) -> PromptPrice:
    return price(prompt, evaluator, read_image=lambda _: None, classes=lambda name: known.get(name) or listed(name))


def test_in_a_loop_of_comfyui_nothing_is_promised_but_the_limit(evaluator: Evaluator) -> None:
    prompt = {
        "1": node("StartLoop", iterations=4),
        "2": node("EmptyImage", batch_size=1, color=["1", 0]),
        "3": node("RunflowEvaluateImage", image=["2", 0]),
        "4": node("RunflowShowVerdict", evaluation=["3", 4]),
        "5": node("EndLoop", output_value=["3", 1]),
        "6": node("PreviewAny", source=["5", 0]),
    }
    found = said(evaluator, prompt)
    assert (found.evaluations, found.at_most, found.credits) == (20, True, None)
    outside = said(evaluator, {**prompt, "2": node("EmptyImage", batch_size=2)})
    assert (outside.evaluations, outside.at_most) == (20, True)  # it stands before the end, and may be repeated


@pytest.mark.parametrize("prompt", [None, [], {"1": {}}, {"nodes": [], "links": []}, {"1": node("X") | {"inputs": []}}])
def test_what_is_no_prompt_is_refused(evaluator: Evaluator, prompt: Any) -> None:
    with pytest.raises(InvalidInputError):
        said(evaluator, prompt)


def test_what_the_prompt_route_takes_is_taken_too(evaluator: Evaluator) -> None:
    prompt = {"1": node("RunflowEvaluateImage"), "2": node("RunflowShowVerdict", evaluation=["1", 4])}
    found = said(evaluator, {"prompt": prompt, "client_id": "a script"})
    assert (found.runs, found.evaluations) == (False, 0)
    assert [problem.to_json()["node"] for problem in found.problems] == ["1"]


def test_the_panel_counts_by_the_same_nodes() -> None:
    source = (Path(__file__).parents[2] / "js" / "lib" / "state" / "plan.mjs").read_text("utf-8")
    table = source.partition("const KEEPS_COUNT = new Map([")[2].partition("])")[0]
    assert dict(re.findall(r"\['(\w+)', '(\w+)'\]", table)) == KEEPS_COUNT
    assert f"/^{MAKES_COUNT.pattern}$/" in source
    assert f"/{LOOPS.pattern}/i" in source


@pytest.mark.parametrize(("file", "most"), [("cat.jpg", 1), ("cat.webp", 20), ("cat.png [output]", 20)])
def test_a_file_that_cannot_be_read_now_is_one_image_if_it_cannot_be_an_animation(
    evaluator: Evaluator, file: str, most: int
) -> None:
    prompt = {
        "1": node("LoadImage", image=file),
        "2": node("RunflowEvaluateImage", image=["1", 0]),
        "3": node("RunflowShowVerdict", evaluation=["2", 4]),
    }
    found = said(evaluator, prompt)
    assert (found.evaluations, found.at_most) == (most, True)


@pytest.mark.parametrize("judge", ["local", "off", "person", "model"])
def test_whoever_is_not_runflow_costs_nothing(evaluator: Evaluator, judge: str) -> None:
    prompt = {
        "1": node("EmptyImage", batch_size=4),
        "2": node("RunflowEvaluateImage", image=["1", 0], judge=judge),
        "3": node("RunflowShowVerdict", evaluation=["2", 4]),
    }
    if judge == "model":
        prompt |= {"4": node("CLIPLoader"), "5": node("RunflowJudgeModel", clip=["4", 0])}
        prompt["2"]["inputs"]["judge_model"] = ["5", 0]
    found = said(evaluator, prompt)
    assert (found.evaluations, found.at_most, found.nodes[0].judge, found.problems) == (0, False, judge, ())
