"""What the attempts of a loop are, which one comes out, and how a loop ends."""

from __future__ import annotations

import pytest
from support.loops import Since, end, failed, generate, loop, passed, record, records, start, summary, verdicts
from support.prompts import evaluate, node
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict


def test_fail_fail_pass_is_three_generations_and_three_bills(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3, f"{prompt}, better"), failed(0.4, f"{prompt}, best"), passed(0.9))
    history = server.run(loop(prompt, max_attempts=4))
    prompts = [prompt, f"{prompt}, better", f"{prompt}, best"]
    assert since.generated == list(zip(prompts, [7, 8, 9], strict=True))
    assert since.judged == prompts
    assert since.bills == 3
    out = since.recorded
    assert (out["passed"], out["score"], out["prompt"], out["seed"]) == (True, 0.9, prompts[2], 9)
    assert (out["attempts"], out["issues"]) == (3, "")
    assert summary(history)["winner"] == 3


def test_three_failures_bring_out_the_best_one_as_not_passed(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.7, issue="one finger too many"), failed(0.1))
    server.run({**loop(prompt, max_attempts=3), **record("5", ["2", 0], "body")})
    out = since.recorded
    assert (out["passed"], out["score"], out["seed"], out["attempts"]) == (False, 0.7, 8, 3)
    assert out["issues"] == "one finger too many"
    assert out["image"] == since.runs("record", "body")[1]["value"]
    assert since.bills == 3


def test_the_earliest_of_equally_good_attempts_comes_out(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.5), failed(0.5))
    server.run(loop(prompt))
    assert since.recorded["seed"] == 8


def test_without_stop_on_pass_all_attempts_are_made_and_the_best_comes_out(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, passed(0.8), passed(0.95), failed(0.99))
    server.run(loop(prompt, stop_on_pass=False))
    out = since.recorded
    assert (out["passed"], out["score"], out["seed"], out["attempts"]) == (True, 0.95, 8, 3)


def test_queueing_the_same_graph_again_runs_and_pays_nothing(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    graph = loop(prompt)
    server.run(graph)
    first = Since(server, sandbox)
    history = server.run(graph)
    assert history.executed == []
    assert (first.generated, first.judged, first.bills) == ([], [], 0)


def test_changing_only_what_is_behind_the_loop_runs_only_that(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    graph = loop(prompt)
    server.run(graph)
    graph["40"]["inputs"]["name"] = "behind"
    after = Since(server, sandbox)
    history = server.run(graph)
    assert history.executed == ["40"]
    assert after.recorded == {"behind": since.recorded["image"]}
    assert (after.generated, after.bills) == ([], 0)


def test_more_attempts_go_on_where_fewer_ended(server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str) -> None:
    verdicts(sandbox, failed(0.3, f"{prompt}, better"), failed(0.2, f"{prompt}, best"))
    server.run(loop(prompt, max_attempts=2))
    verdicts(sandbox, failed(0.1, f"{prompt}, perfect"), passed())
    more = Since(server, sandbox)
    history = server.run(loop(prompt, max_attempts=5))
    assert more.generated == [(f"{prompt}, best", 9), (f"{prompt}, perfect", 10)]
    assert more.judged == [f"{prompt}, best", f"{prompt}, perfect"]
    assert more.bills == 2
    assert [each["score"] for each in summary(history)["attempts"]] == [0.3, 0.2, 0.1, 0.9]


def test_fewer_attempts_than_were_made_make_nothing_new(server: ComfyUI, sandbox: Sandbox, prompt: str) -> None:
    verdicts(sandbox, failed(0.3), failed(0.2), failed(0.7))
    server.run(loop(prompt, max_attempts=3))
    fewer = Since(server, sandbox)
    server.run(loop(prompt, max_attempts=2))
    assert (fewer.generated, fewer.bills) == ([], 0)
    assert fewer.recorded["score"] == 0.3


def test_fewer_attempts_and_then_more_again_make_nothing_twice(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.7), failed(0.1))
    server.run(loop(prompt, max_attempts=3))
    again = Since(server, sandbox)
    for most, best in ((2, 0.7), (3, 0.7), (1, 0.3), (3, 0.7)):
        history = server.run(loop(prompt, max_attempts=most))
        assert (len(summary(history)["attempts"]), again.recorded["score"]) == (most, best)
    assert (again.generated, again.judged, since.bills) == ([], [], 3)
    verdicts(sandbox, passed())
    server.run(loop(prompt, max_attempts=4))
    assert (again.generated, since.bills) == ([(prompt, 10)], 4)


@pytest.mark.parametrize("next_seed", ["increment", "random", "keep"])
def test_each_attempt_has_the_seed_that_was_asked_for(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str, next_seed: str
) -> None:
    verdicts(sandbox, failed(improved=f"{prompt}, 2"), failed(improved=f"{prompt}, 3"), failed())
    server.run(loop(prompt, seed=2**64 - 1, next_seed=next_seed))
    seeds = [seed for _, seed in since.generated]
    expected = {"increment": [2**64 - 1, 0, 1], "keep": [2**64 - 1] * 3}
    assert seeds == expected.get(next_seed, seeds)
    assert len(set(seeds)) == (1 if next_seed == "keep" else 3)
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_random_seeds_are_the_same_at_every_queue(server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str) -> None:
    verdicts(sandbox, failed(), failed(), failed())
    server.run(loop(prompt, next_seed="random", max_attempts=2))
    server.free()
    # ComfyUI hears it between prompts, and the next one may be sooner: after this one it has been heard.
    server.run({**node("1", "LoadImage", image="example.png"), **node("2", "PreviewImage", images=["1", 0])})
    server.run(loop(prompt, next_seed="random", max_attempts=3))
    assert since.generated[2:4] == since.generated[:2]
    assert since.bills == 3


def test_the_prompt_stays_where_it_is_kept_or_where_nothing_better_is_suggested(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(improved="something else"), passed(), failed(), passed())
    server.run(loop(prompt, next_prompt="keep"))
    graph = loop(prompt, seed=70)
    graph["3"]["inputs"]["generation_prompt"] = "a stale text on Evaluate"
    server.run(graph)
    assert {generated for generated, _ in since.generated} == {prompt}
    assert len(since.generated) == 4


def test_a_null_verdict_ends_the_loop_with_the_best_so_far(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), ScriptedVerdict(null=True))
    history = server.run(loop(prompt))
    assert (since.recorded["score"], since.recorded["attempts"], since.bills) == (0.3, 2, 2)
    assert summary(history)["reason"] == "nobody judged attempt 2"


def test_an_attempt_without_a_verdict_does_not_displace_one_that_was_judged(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), ScriptedVerdict(score=0.9, extra={"overall_passed": None}))
    server.run(loop(prompt))
    assert (since.recorded["score"], since.recorded["seed"], since.recorded["attempts"]) == (0.3, 7, 2)


def test_a_suggestion_that_nobody_could_judge_is_not_used_and_that_is_said(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3, "x" * 10_001), passed())
    history = server.run(loop(prompt))
    assert since.generated == [(prompt, 7), (prompt, 8)]
    (warning,) = summary(history)["warnings"]
    assert warning.startswith("the prompt suggested after attempt 1 has 10001 characters, but Runflow takes")


def test_what_nobody_judged_is_asked_again_at_the_next_queue_and_the_rest_is_not(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), ScriptedVerdict(failure_code="dispatch_failed"))
    graph = loop(prompt)
    graph["3"]["inputs"]["if_not_judged"] = "fail"
    server.run(graph)
    assert (since.recorded["score"], since.recorded["attempts"]) == (0.3, 2)
    verdicts(sandbox, passed())
    again = Since(server, sandbox)
    server.run(graph)
    assert (again.judged, again.bills) == ([prompt], 1)
    assert (again.recorded["passed"], again.recorded["seed"]) == (True, 8)


def test_judge_off_makes_one_attempt_that_passes(server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str) -> None:
    graph = loop(prompt)
    graph["3"]["inputs"]["judge"] = "off"
    server.run(graph)
    assert (since.recorded["passed"], since.recorded["attempts"], since.bills) == (True, 1, 0)


def test_without_an_evaluation_one_attempt_is_made_and_not_judged(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    graph = {**start(prompt), **generate(), **end(), **records()}
    del graph["4"]["inputs"]["evaluation"]
    history = server.run(graph)
    out = since.recorded
    assert len(since.generated) == 1
    assert (out["passed"], out["score"], out["attempts"]) == (False, 0.0, 1)
    assert out["issues"] == "not judged, nothing is connected to evaluation"
    assert "evaluation" not in out
    assert [blocked["exception_message"] for blocked in history.blocked] == [
        "Execution Blocked: [NOT_JUDGED] Regenerate End: nothing is connected to evaluation, "
        "so there is no verdict to pass on."
    ]


def test_a_loop_stops_before_it_would_make_the_same_attempt_again(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed())
    history = server.run(loop(prompt, next_seed="keep"))
    assert (len(since.generated), since.bills) == (1, 1)
    assert "the next attempt would be the same" in summary(history)["reason"]


def test_a_loop_stops_when_an_attempt_came_out_like_the_one_before(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed())
    graph = {
        **loop(prompt, image=["5", 0]),
        **generate("2", prompt=["1", 5], seed=1),
        **node("5", "TestRaise", image=["2", 0], number=["1", 3], at=99),
        **evaluate("3", ["5", 0], generation_prompt=["1", 5]),
    }
    history = server.run(graph)
    assert summary(history)["reason"] == "attempt 2 is the same as attempt 1"
    assert since.bills == 1
