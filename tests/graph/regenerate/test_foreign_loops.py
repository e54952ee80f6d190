"""A loop beside the loops of other packs: nested it is right, torn apart it is refused before the first attempt."""

from __future__ import annotations

from support.loops import Since, end, failed, generate, loop, passed, record, refusal, start, verdicts
from support.prompts import Prompt, evaluate, node
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox


def for_each(rounds: int, value: list[object]) -> Prompt:
    first = node("20", "TestForOpen", rounds=rounds)
    return {**first, **node("21", "TestForClose", flow=["20", 0], value=value), **record("22", ["21", 0], "out")}


def inside(prompt: str) -> Prompt:
    """The whole loop in each round: the round's number is Start's seed."""
    judge = evaluate("3", ["2", 0], generation_prompt=["1", 1])
    whole = {**start(prompt, ["20", 1]), **generate(), **judge, **end()}  # type: ignore[arg-type]
    return {**whole, **for_each(2, ["4", 0])}


def test_a_whole_loop_runs_in_every_round_of_another_one(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.4), passed())
    graph = inside(prompt)
    graph["4"]["inputs"]["max_attempts"] = 2
    history = server.run(graph)
    assert since.generated == [(prompt, 1), (prompt, 2), (prompt, 2), (prompt, 3)]
    # The second round begins with the seed that the first one ended with: judged already, and not paid again.
    assert since.bills == 3
    assert "and each round of the loop that ends at node 21" in history.texts["1"][0]


def test_an_end_in_another_loop_without_its_start_is_refused_before_the_first_attempt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    graph = {**loop(prompt), **for_each(2, ["4", 0])}
    graph["2"]["inputs"]["batch"] = ["20", 1]
    said = refusal(server, graph)
    assert (
        "[INVALID_INPUT] loop: the loop from node 20 to node 21 (TestForClose) repeats End 4, but not Start 1" in said
    )
    assert "connect an output of node 20 to Start's prompt or seed" in said
    assert (since.generated, since.judged) == ([], [])


def test_a_start_in_another_loop_without_its_end_is_refused_before_the_first_attempt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    graph = {**inside(prompt), **for_each(2, ["2", 0]), **record("30", ["4", 0], "best")}
    said = refusal(server, graph)
    assert (
        "[INVALID_INPUT] loop: the loop from node 20 to node 21 (TestForClose) repeats Start 1, but not End 4" in said
    )
    assert (since.generated, since.judged) == ([], [])


def test_another_loop_may_run_in_the_body(server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str) -> None:
    """The other pack makes the image in two rounds, at every attempt."""
    first = node("20", "TestForOpen", rounds=2, value=["1", 2])
    rounds = {**first, **node("21", "TestForClose", flow=["20", 0], value=["2", 0])}
    graph = {**loop(prompt, image=["21", 0]), **rounds, **evaluate("3", ["21", 0], generation_prompt=["1", 1])}
    graph["2"]["inputs"]["batch"] = ["20", 1]
    verdicts(sandbox, failed(0.3), failed(0.3), passed(), passed())
    server.run(graph)
    assert (since.recorded["attempts"], since.recorded["passed"], since.bills) == (2, True, 4)
    assert [seed for _, seed in since.generated] == [7, 7, 8, 8]
