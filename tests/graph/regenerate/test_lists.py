"""Lists in a loop: of one they are no reason to refuse, and longer ones are refused before they cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.loops import Since, end, failed, generate, loop, passed, refusal, start, verdicts
from support.prompts import Prompt, evaluate, node
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox


def shown_text(prompt: str) -> Prompt:
    """A Show Text in the wire from Start to what takes the text."""
    return {**loop(prompt), **node("5", "TestShowText", text=["1", 1]), **generate(prompt=["5", 0])}


def shown_before_start(prompt: str) -> Prompt:
    return {**loop(prompt), **node("5", "TestShowText", text=prompt), **start(["5", 0])}  # type: ignore[arg-type]


def rebatched(prompt: str) -> Prompt:
    graph = {**loop(prompt, image=["5", 0]), **node("5", "RebatchImages", images=["2", 0], batch_size=1)}
    return {**graph, **evaluate("3", ["5", 0], generation_prompt=["1", 1])}


def a_list_of_one_image(prompt: str) -> Prompt:
    graph = {**loop(prompt, image=["5", 0]), **node("5", "TestList", image=["2", 0], count=1)}
    return {**graph, **evaluate("3", ["5", 0], generation_prompt=["1", 1])}


def shown_everywhere(prompt: str) -> Prompt:
    """Whatever goes into the loop, through it and out of it is a list of one."""
    given = {
        **node("s", "PrimitiveInt", value=7),
        **node("n", "PrimitiveInt", value=3),
        **node("m", "PrimitiveFloat", value=0.5),
    }
    wires = {"5": ["s", 0], "6": ["n", 0], "7": ["m", 0], "8": ["1", 2], "9": ["2", 0], "10": ["3", 4], "11": ["1", 3]}
    shown = {
        name: made for number, link in wires.items() for name, made in node(number, "TestShowText", text=link).items()
    }
    switch = node("12", "RunflowRepairSwitch", attempt=["11", 0], generate=["9", 0], repair=["9", 0], repair_from=2)
    judge = evaluate("3", ["12", 0], generation_prompt=["1", 1], min_score=["7", 0])
    ends = end(image=["12", 0], evaluation=["10", 0], max_attempts=["6", 0])
    body = {**start(prompt, seed=["5", 0]), **generate(seed=["8", 0]), **switch, **judge}  # type: ignore[arg-type]
    return {**loop(prompt), **given, **shown, **body, **ends}


@pytest.mark.parametrize("graph", [shown_text, shown_before_start, rebatched, a_list_of_one_image, shown_everywhere])
def test_a_list_of_one_changes_nothing(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str, graph: Callable[[str], Prompt]
) -> None:
    verdicts(sandbox, failed(0.3, f"{prompt}, better"), passed(0.9))
    server.run(graph(prompt))
    assert since.generated == [(prompt, 7), (f"{prompt}, better", 8)]
    assert since.judged == [prompt, f"{prompt}, better"]
    assert (since.recorded["passed"], since.recorded["attempts"], since.bills) == (True, 2, 2)


def two_images(prompt: str) -> Prompt:
    graph = {**loop(prompt, image=["5", 0]), **node("5", "TestList", image=["2", 0], count=2)}
    return {**graph, **evaluate("3", ["5", 0])}


def two_prompts_inside(prompt: str) -> Prompt:
    return {**loop(prompt), **node("5", "TestStrings", count=2), **generate(prompt=["5", 0])}


def two_images_that_nobody_judges(prompt: str) -> Prompt:
    graph = {**loop(prompt, image=["5", 0]), **node("5", "TestList", image=["2", 0], count=2)}
    return {**graph, **evaluate("3", ["2", 0])}


@pytest.mark.parametrize("graph", [two_images, two_prompts_inside])
def test_a_longer_list_is_refused_before_one_of_it_is_paid(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str, graph: Callable[[str], Prompt]
) -> None:
    said = refusal(server, graph(prompt))
    assert "[INVALID_INPUT] image: gets a list of 2 values, but a loop needs one" in said
    assert "The list comes from node 5 (Test" in said
    assert (since.judged, since.bills) == ([], 0)


def test_two_prompts_for_start_are_refused_before_anything_is_generated(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    graph = {**loop(prompt), **node("5", "TestStrings", count=2), **start(["5", 0])}  # type: ignore[arg-type]
    assert "[INVALID_INPUT] loop: gets a list of 2 values" in refusal(server, graph)
    assert (since.generated, since.judged) == ([], [])


def test_two_values_for_a_setting_are_refused_and_nothing_that_did_not_run_is_said_to_have(
    server: ComfyUI, since: Since, prompt: str
) -> None:
    wire = {**node("5", "TestStrings", count=2), **node("6", "TestShowText", text=["5", 0])}
    said = refusal(server, {**loop(prompt, max_attempts=["6", 0]), **wire})
    assert "[INVALID_INPUT] max_attempts: gets a list of 2 values" in said
    assert "The list comes from node 5 (TestStrings)" in said and said.rstrip().endswith("No attempt was made.")
    assert (since.generated, since.judged) == ([], [])


def test_a_list_that_reaches_end_beside_the_judge_is_refused_in_words(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3))
    said = refusal(server, two_images_that_nobody_judges(prompt))
    assert "[INVALID_INPUT] image: gets a list of 2 values" in said


def test_a_list_outside_of_a_loop_is_judged_one_by_one(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, passed(), failed())
    many = {**node("5", "TestStrings", count=2), **generate("2", prompt=["5", 0], seed=len(prompt) * 1000 + 1)}
    server.run({**many, **evaluate("3", ["2", 0]), **node("9", "RunflowShowVerdict", evaluation=["3", 4])})
    assert since.bills == 2


@pytest.mark.parametrize("if_not_judged", ["stop", "fail"])
def test_a_list_is_counted_whole_against_the_limits_before_its_first_image_is_paid(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str, if_not_judged: str
) -> None:
    many = {**node("5", "TestStrings", count=101), **generate("2", prompt=["5", 0], seed=11, name=if_not_judged)}
    graph = {**many, **evaluate("3", ["2", 0], evaluation_instructions=prompt, if_not_judged=if_not_judged)}
    graph |= node("9", "TestRecord", value=["3", 2], name="issues")
    if if_not_judged == "stop":
        assert "[BUDGET_EXCEEDED]" in refusal(server, graph)
    else:
        server.run(graph)
        assert "[BUDGET_EXCEEDED]" in since.recorded["issues"]
    assert (since.judged, since.bills) == ([], 0)


def test_a_loop_after_a_list_needs_one_value(server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str) -> None:
    graph = {**loop(prompt), **node("5", "TestStrings", count=2), **end(max_attempts=["6", 0])}
    graph |= node("6", "TestCount", text=["5", 0])
    assert "[INVALID_INPUT] max_attempts: gets a list of 2 values" in refusal(server, graph)
    assert since.judged == []
