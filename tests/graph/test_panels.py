"""What the panel of a node says while it runs and after it, as the page hears it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.loops import Since, failed, loop, verdicts
from support.prompts import Prompt, evaluate, node, show
from support.server import ComfyUI

from runflow_api.sandbox.app import Fault, Sandbox

SUBMIT, READ = "/v1/evaluations", "/v1/evaluations/[0-9a-f-]{36}"
TEST_NODES = (Path(__file__).parent / "test_nodes",)
_numbers = itertools.count(1)


@pytest.fixture
def prompt() -> str:
    return f"a panel of test number {next(_numbers)}"


def listed(prompt: str, count: int, **inputs: Any) -> Prompt:
    """Evaluate over a list of images, with its verdicts on Show Verdict."""
    return {
        **node("5", "TestStrings", count=count),
        **node("1", "TestGenerate", prompt=["5", 0], seed=len(prompt) + 7, name=prompt),
        **evaluate("2", ["1", 0], generation_prompt=prompt, **inputs),
        **show("3", ["2", 4]),
    }


def said(server: ComfyUI, prompt_id: str, node_id: str) -> list[tuple[str, str]]:
    """(phase, code) of everything that a node's panel was told, in order."""
    events = server.events("runflow-evaluate.panel", prompt_id, node_id)
    return [(event.data["phase"], event.data["code"]) for event in events]


@pytest.mark.parametrize(
    ("inputs", "status", "code"),
    [
        ({"image": ["9", 0]}, None, "INVALID_INPUT"),
        ({"if_not_judged": "shrug"}, None, "INVALID_INPUT"),
        ({}, 402, "INSUFFICIENT_CREDIT"),
    ],
)
def test_what_stops_evaluate_stays_on_its_panel_with_the_code(
    server: ComfyUI, sandbox: Sandbox, prompt: str, inputs: dict[str, Any], status: int | None, code: str
) -> None:
    if status is not None:
        sandbox.add_fault(Fault("POST", SUBMIT, "status", times=None, status=status))
    graph = {**node("1", "TestGenerate", prompt=prompt, seed=1), **node("9", "TestNothing"), **show("3", ["2", 4])}
    graph |= evaluate("2", ["1", 0], generation_prompt=prompt)
    graph["2"]["inputs"] |= inputs
    history = server.run(graph, check=False)
    assert history.errors[0]["exception_message"].startswith(f"[{code}]")
    assert said(server, history.prompt_id, "2")[0] == ("waiting", "starting")
    assert said(server, history.prompt_id, "2")[-1] == ("stopped", code)


def test_the_panel_has_the_verdicts_of_a_list_in_its_order_whichever_comes_first(
    server: ComfyUI, sandbox: Sandbox, prompt: str
) -> None:
    sandbox.add_fault(Fault("POST", SUBMIT, "slow", times=1, delay=2.0))
    history = server.run(listed(prompt, 4))
    *_, last = [event.data for event in server.events("runflow-evaluate.panel", history.prompt_id, "2")]
    assert last["phase"] == "done"
    assert [each["id"] for each in last["verdicts"]] == [each["id"] for each in history.outputs["3"]["runflow"]]
    *_, beside = [event.data for event in server.events("runflow-evaluate.panel", history.prompt_id, "3")]
    assert len(beside["verdicts"]) == 4


@pytest.mark.parametrize("if_not_judged", ["stop", "fail"])
def test_a_list_of_more_than_the_limit_pays_nothing_and_its_panel_says_why(
    comfyui_factory: Callable[..., ComfyUI], sandbox: Sandbox, prompt: str, if_not_judged: str
) -> None:
    env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}
    with comfyui_factory(env=env, extra_nodes=TEST_NODES) as limited:  # 20 by default
        since = Since(limited, sandbox)
        history = limited.run(listed(prompt, 25, if_not_judged=if_not_judged), check=False)
        *_, last = [event.data for event in limited.events("runflow-evaluate.panel", history.prompt_id, "2")]
        if if_not_judged == "stop":
            assert (last["phase"], last["code"]) == ("stopped", "BUDGET_EXCEEDED")
        else:
            assert [each["error"] for each in last["verdicts"]] == ["BUDGET_EXCEEDED"] * 25
        assert since.bills == 0


def test_one_value_of_a_list_that_fails_is_what_its_panel_says(server: ComfyUI, sandbox: Sandbox, prompt: str) -> None:
    sandbox.latency = 3.0
    sandbox.add_fault(Fault("POST", SUBMIT, "status", status=422, times=1, after_skip=2))
    history = server.run(listed(prompt, 4), check=False)
    assert history.errors[0]["exception_message"].startswith("[VALIDATION_ERROR]")
    assert said(server, history.prompt_id, "2")[-1] == ("stopped", "VALIDATION_ERROR")


def test_the_panel_of_an_attempt_that_is_not_judged_names_the_code_and_the_loop_ends_with_the_best(
    server: ComfyUI, sandbox: Sandbox, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3, f"{prompt}, better"))
    sandbox.add_fault(Fault("POST", SUBMIT, "status", status=402, times=None, after_skip=1))
    history = server.run(loop(prompt, max_attempts=4))
    *_, judged = [event.data for event in server.events("runflow-evaluate.panel", history.prompt_id, "3")]
    assert (judged["phase"], judged["verdicts"][0]["error"]) == ("done", "INSUFFICIENT_CREDIT")
    *_, end = [event.data for event in server.events("runflow-evaluate.panel", history.prompt_id, "4")]
    assert (end["phase"], end["loop"]["winner"], len(end["loop"]["attempts"])) == ("done", 1, 2)


def test_cancel_during_a_loop_takes_effect_and_keeps_the_best_attempt(
    server: ComfyUI, sandbox: Sandbox, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3, f"{prompt}, better"))
    sandbox.add_fault(Fault("POST", SUBMIT, "hang", times=None, after_skip=1))
    asked = len(sandbox.wait_for_requests("POST", SUBMIT, 0))
    prompt_id = server.post(loop(prompt, max_attempts=4))
    sandbox.wait_for_requests("POST", SUBMIT, asked + 2)
    history = server.interrupt_at_once(prompt_id)
    assert said(server, prompt_id, "3")[-1] == ("stopped", "CANCELLED")
    assert "attempt 1 of 1 is the best so far" in history.texts["4"][-1]
