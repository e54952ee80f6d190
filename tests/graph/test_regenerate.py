"""Regenerate Until Passed in a real ComfyUI: what runs, what is paid, what comes out."""

from __future__ import annotations

import copy
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.prompts import Prompt, evaluate, example, node, show
from support.server import ComfyUI, History, PromptFailed

from runflow_api.sandbox.app import Fault, Sandbox, ScriptedVerdict

LATENCY = 0.1
CANCEL_WITHIN_S = 1.0
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=LATENCY, balance="1000") as running:
        yield running


@pytest.fixture(scope="module")
def server(comfyui_factory: Callable[..., ComfyUI], sandbox: Sandbox) -> ComfyUI:
    env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}
    return comfyui_factory(env={**env, "RUNFLOW_MAX_EVALUATIONS_PER_PROMPT": "100"})


@pytest.fixture(autouse=True)
def as_before(sandbox: Sandbox) -> Iterator[None]:
    yield
    sandbox.clear_faults()
    sandbox.latency = LATENCY


@pytest.fixture
def prompt() -> str:
    """A prompt that no other test uses, so that nothing is cached or in the journal."""
    return f"a photo of number {next(_numbers)}"


def start(prompt: str, seed: int = 7, node_id: str = "1") -> Prompt:
    return node(node_id, "RunflowRegenerateStart", prompt=prompt, seed=seed)


def generate(node_id: str = "2", source: str = "1", **inputs: Any) -> Prompt:
    return node(node_id, "TestGenerate", **{"prompt": [source, 1], "seed": [source, 2], **inputs})


def end(node_id: str = "4", **inputs: Any) -> Prompt:
    return node(
        node_id, "RunflowRegenerateEnd", **{"loop": ["1", 0], "image": ["2", 0], "evaluation": ["3", 4], **inputs}
    )


def record(node_id: str, value: list[Any], name: str) -> Prompt:
    return node(node_id, "TestRecord", value=value, name=name)


OUTPUTS = ("image", "passed", "score", "issues", "prompt", "seed", "attempts", "evaluation")


def records(source: str = "4") -> Prompt:
    """A recorder for each output of End but the kept attempts."""
    made: Prompt = {}
    for index, name in enumerate(OUTPUTS):
        made |= record(f"{source}{index}", [source, index], name)
    return made


def loop(prompt: str, seed: int = 7, **settings: Any) -> Prompt:
    """Start → generate → evaluate → End → a recorder for each output."""
    judge = evaluate("3", ["2", 0], generation_prompt=["1", 1])
    return {**start(prompt, seed), **generate(), **judge, **end(**settings), **records()}


class Since:
    """What happened from here on: runs of test nodes, submissions, bills."""

    def __init__(self, server: ComfyUI, sandbox: Sandbox) -> None:
        self._file, self._sandbox = server.base / "output" / "runs.jsonl", sandbox
        self._runs, self._requests, self._bills = len(self._lines()), len(sandbox.requests), len(sandbox.bills)

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []

    def runs(self, kind: str, name: str | None = None) -> list[dict[str, Any]]:
        lines = self._lines()[self._runs :]
        return [line for line in lines if line["kind"] == kind and name in (None, line.get("name"))]

    @property
    def generated(self) -> list[tuple[str, int]]:
        return [(run["prompt"], run["seed"]) for run in self.runs("generate")]

    @property
    def recorded(self) -> dict[str, Any]:
        """The last value of each recorder."""
        return {run["name"]: run["value"] for run in self.runs("record")}

    @property
    def judged(self) -> list[str]:
        """The prompts that images were judged against, in the order of their submission."""
        submitted = [r for r in self._sandbox.requests[self._requests :] if r.path == "/v1/evaluations"]
        return [record.body["generation_prompt"] for record in submitted]

    @property
    def bills(self) -> int:
        return len(self._sandbox.bills) - self._bills


@pytest.fixture
def since(server: ComfyUI, sandbox: Sandbox) -> Since:
    return Since(server, sandbox)


def verdicts(sandbox: Sandbox, *scripted: ScriptedVerdict) -> None:
    for each in scripted:
        sandbox.add_verdict(each)


def failed(score: float = 0.3, improved: str | None = None, issue: str = "six fingers") -> ScriptedVerdict:
    return ScriptedVerdict(passed=False, score=score, issues=[issue], improved_prompt=improved)


def passed(score: float = 0.9) -> ScriptedVerdict:
    return ScriptedVerdict(passed=True, score=score)


def summary(history: History) -> dict[str, Any]:
    """What the End that gave the outputs says about its loop."""
    (only,) = [each for output in history.outputs.values() for each in output.get("runflow_regenerate", [])]
    return only


def refusal(server: ComfyUI, graph: Prompt) -> str:
    with pytest.raises(PromptFailed) as caught:
        server.run(graph)
    assert caught.value.history is not None, caught.value
    (error,) = caught.value.history.errors
    return error["exception_message"].strip()


# --- the contract


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


# --- how a loop ends


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
    assert warning.startswith("the prompt suggested after attempt 1 has 10001 characters, and Runflow takes 10000")


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
    assert summary(history)["reason"] == "attempt 2 came out like attempt 1"
    assert since.bills == 1


# --- refused before anything is paid


def unconnected(prompt: str) -> Prompt:
    return {**loop(prompt), **generate("2", prompt=prompt, seed=1)}


def unconnected_but_previewed(prompt: str) -> Prompt:
    """ComfyUI could make the image for the preview before it asks End."""
    return {**node("5", "PreviewImage", images=["2", 0]), **unconnected(prompt), **evaluate("3", ["2", 0])}


def unkept_attempts(prompt: str) -> Prompt:
    inner = end("14", image=["4", 8])
    return {**loop(prompt, next_seed="random"), **inner, **evaluate("3", ["2", 0]), **records("14")}


def unjudged_inside(prompt: str) -> Prompt:
    graph = {**loop(prompt), **end("14", image=["4", 0], evaluation=["4", 7]), **records("14")}
    del graph["4"]["inputs"]["evaluation"]
    return graph


def no_loop(prompt: str) -> Prompt:
    return loop(prompt) | end(loop="a text")


def no_evaluation(prompt: str) -> Prompt:
    return loop(prompt) | end(evaluation="a text")


def only_the_kept_prompt(prompt: str) -> Prompt:
    return {**loop(prompt, next_prompt="keep"), **generate("2", seed=1)}


def only_the_kept_seed(prompt: str) -> Prompt:
    return {**loop(prompt, next_seed="keep"), **generate("2", prompt=prompt)}


def image_from_outside(prompt: str) -> Prompt:
    return {**loop(prompt, image=["5", 0]), **generate("5", prompt=prompt, seed=1)}


def foreign_evaluation(prompt: str) -> Prompt:
    other = {**generate("5", prompt=prompt, seed=1), **evaluate("6", ["5", 0], judge="off")}
    return {**loop(prompt, evaluation=["6", 4]), **other}


def split_before_end(prompt: str) -> Prompt:
    split = node("5", "RunflowSplitByVerdict", image=["2", 0], evaluation=["3", 4])
    return {**loop(prompt, image=["6", 0], evaluation=["5", 6]), **split, **node("6", "ImageInvert", image=["5", 0])}


def split_evaluation(prompt: str) -> Prompt:
    split = node("5", "RunflowSplitByVerdict", image=["2", 0], evaluation=["3", 4])
    return {**loop(prompt, evaluation=["5", 7]), **split}


def half_a_switch(prompt: str) -> Prompt:
    switch = node("5", "RunflowVerdictSwitch", passed=["3", 0], on_pass=["2", 0])
    return {**loop(prompt, image=["5", 0]), **switch}


def listed_image(prompt: str) -> Prompt:
    graph = {**loop(prompt, image=["5", 0]), **node("5", "TestList", image=["2", 0], count=1)}
    return {**graph, **evaluate("3", ["5", 0])}


def listed_somewhere_before(prompt: str) -> Prompt:
    return {**loop(prompt), **node("5", "TestStrings", count=2), **generate("2", prompt=["5", 0])}


def listed_prompt(prompt: str) -> Prompt:
    return {**loop(prompt), **node("5", "TestStrings", count=2), **start(["5", 0])}  # type: ignore[arg-type]


def too_many_attempts(prompt: str) -> Prompt:
    return {**loop(prompt, max_attempts=["5", 0]), **node("5", "PrimitiveInt", value=21)}


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (unconnected, "[INVALID_INPUT] image: is the same at every attempt"),
        (unconnected_but_previewed, "[INVALID_INPUT] image: is the same at every attempt"),
        (unkept_attempts, "comes through node 4, whose attempt_images are not sent on"),
        (unjudged_inside, "[INVALID_INPUT] evaluation: comes through node 4, an End that has no evaluation"),
        (no_loop, "[INVALID_INPUT] loop: must come from Regenerate Until Passed: Start"),
        (only_the_kept_prompt, "the prompt is connected, but next_prompt is keep"),
        (only_the_kept_seed, "the seed is connected, but next_seed is keep"),
        (image_from_outside, "Connect current_seed to your sampler's seed"),
        (foreign_evaluation, "[INVALID_INPUT] evaluation: does not come from this loop"),
        (split_before_end, "[INVALID_INPUT] image: comes through node 5, Split Passed / Failed, which sends nothing"),
        (split_evaluation, "[INVALID_INPUT] evaluation: comes through node 5, Split Passed / Failed"),
        (half_a_switch, "[INVALID_INPUT] image: comes through node 5, a Quality Switch that sends nothing on"),
        (listed_image, "[INVALID_INPUT] image: gets a list"),
        (listed_somewhere_before, "[INVALID_INPUT] image: gets a list"),
        (listed_prompt, "[INVALID_INPUT] loop: gets a list"),
        (too_many_attempts, "[INVALID_INPUT] max_attempts: 21 is not between 1 and 20"),
    ],
)
def test_a_loop_that_cannot_work_is_refused_before_anything_is_generated(
    server: ComfyUI,
    sandbox: Sandbox,
    since: Since,
    prompt: str,
    graph: Callable[[str], Prompt],
    said: str,
) -> None:
    assert said in refusal(server, graph(prompt))
    assert (since.generated, since.judged) == ([], [])


def test_keep_with_keep_is_refused_when_it_is_queued(server: ComfyUI, since: Since, prompt: str) -> None:
    with pytest.raises(PromptFailed, match="next_prompt keep with next_seed keep makes the same attempt again"):
        server.run(loop(prompt, next_prompt="keep", next_seed="keep"))


def test_verdicts_of_another_number_of_images_are_refused(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    graph = {**loop(prompt, image=["5", 0]), **node("5", "ImageFromBatch", image=["2", 0], batch_index=0, length=1)}
    graph["2"]["inputs"]["batch"] = 2
    verdicts(sandbox, failed(), failed())
    assert "[INVALID_INPUT] evaluation: holds 2 verdicts, but 1 images" in refusal(server, graph)


def test_a_start_outside_of_the_loop_that_its_end_is_in_is_refused(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    """The outer loop's first attempt could run as it stands; the second would hold a clone of End without Start."""
    graph = {
        **start(prompt),
        **start(prompt, 50, "11"),
        **generate("2", prompt=["11", 1]),
        **evaluate("3", ["2", 0]),
        **end(),
        **evaluate("13", ["4", 0], evaluation_instructions="outer"),
        **end("14", loop=["11", 0], image=["4", 0], evaluation=["13", 4]),
        **records("14"),
    }
    assert "[INVALID_INPUT] loop: Start is not in the same loop as End 4" in refusal(server, graph)
    assert (since.generated, since.judged) == ([], [])


def test_what_is_no_evaluation_is_refused(server: ComfyUI, prompt: str) -> None:
    assert "[INVALID_INPUT] evaluation: must come from Evaluate Image Quality" in refusal(server, no_evaluation(prompt))


def test_an_improved_prompt_that_does_not_reach_the_image_is_said_before_and_after(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3, f"{prompt}, better"), passed())
    history = server.run({**loop(prompt), **generate(prompt="typed into the sampler's encoder")})
    assert "current_prompt does not reach the image: connect it to your text encoder" in history.texts["1"][0]
    (warning,) = summary(history)["warnings"]
    assert warning == "the prompt of the attempts changed, but current_prompt does not reach the image"
    assert since.judged == [prompt, f"{prompt}, better"]


def test_a_seed_that_does_not_reach_the_image_makes_no_second_equal_attempt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3))
    history = server.run({**loop(prompt), **generate(seed=1234)})
    assert "current_seed does not reach the image: connect it to your sampler's seed" in history.texts["1"][0]
    assert summary(history)["reason"] == "what changes does not reach the image: the next attempt would be the same"
    assert (len(since.generated), since.bills, since.recorded["seed"]) == (1, 1, 7)


# --- shapes of bodies


def test_what_previews_and_saves_in_the_body_runs_at_every_attempt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.4), passed())
    body = {
        **node("5", "PreviewImage", images=["2", 0]),
        **node("6", "SaveImage", images=["2", 0], filename_prefix=prompt),
        **show("7", ["3", 4]),
        **record("8", ["1", 3], "attempt"),
    }
    history = server.run({**loop(prompt), **body})
    shown = [meta["display_node"] for meta in history.meta.values()]
    assert [shown.count(each) for each in ("5", "6", "7")] == [3, 3, 3]
    assert [run["value"] for run in since.runs("record", "attempt")] == [1, 2, 3]
    assert len(list((server.base / "output").glob(f"{prompt}*.png"))) == 3


def test_a_saver_that_is_put_into_the_body_later_runs_at_every_attempt_too_and_names_no_winner(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.4), failed(0.3), passed())
    extra: dict[str, Any] = {"extra_data": {"extra_pnginfo": {}}}
    server.run(loop(prompt), **extra)
    graph = {**node("6", "SaveImage", images=["2", 0], filename_prefix=f"{prompt} later"), **loop(prompt)}
    server.run(graph, **extra)
    files = list((server.base / "output").glob(f"{prompt} later*.png"))
    assert len(files) == 3
    assert [chunks_of(file)["runflow_regenerate"] for file in files] == [{}, {}, {}]
    assert since.bills == 3
    assert server.run(graph, **extra).executed == []
    more = Since(server, sandbox)
    server.run({**graph, **end(max_attempts=2)}, **extra)
    assert more.generated == []


def test_running_a_part_of_the_outputs_makes_nothing_again(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), passed())
    graph = {**node("6", "SaveImage", images=["2", 0], filename_prefix=prompt), **loop(prompt)}
    server.run(graph, partial_execution_targets=["40"])
    assert list((server.base / "output").glob(f"{prompt}*.png")) == []
    server.run(graph)
    assert len(list((server.base / "output").glob(f"{prompt}*.png"))) == 2
    before = Since(server, sandbox)
    server.run(graph, partial_execution_targets=["40"])
    server.run(graph)
    assert (before.generated, since.bills) == ([], 2)


def test_what_is_fed_by_the_body_alone_runs_at_every_attempt_wherever_it_leads(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    outside = {**node("5", "ImageInvert", image=["2", 0]), **record("6", ["5", 0], "inverted")}
    server.run({**loop(prompt), **outside})
    assert len({run["value"]["pixels"] for run in since.runs("record", "inverted")}) == 2


def test_a_node_behind_the_loop_that_also_reads_the_body_gets_attempt_1_and_that_is_said(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    both = {
        **node("5", "TestJoin", first=["4", 4], second=["1", 4]),
        **node("6", "TestJoin", first=["4", 4], second=["1", 5]),  # the original prompt is the same at every attempt
        **record("7", ["5", 0], "joined"),
        **record("8", ["6", 0], "joined too"),
    }
    history = server.run({**loop(prompt), **both})
    assert since.recorded["joined"] == f"{prompt} "
    (warning,) = summary(history)["warnings"]
    assert warning.startswith("node 5 (TestJoin) comes after End and also reads the loop")


def test_other_pixels_than_those_that_were_judged_come_out_and_that_is_said(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    graph = {**loop(prompt, image=["5", 0]), **node("5", "ImageInvert", image=["2", 0])}
    said = summary(server.run(graph))
    assert said["warnings"] == ["other pixels were judged than those that came out"]
    assert since.recorded["passed"] is True


def test_the_counts_of_a_split_in_the_body_are_fine(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    split = node("5", "RunflowSplitByVerdict", image=["2", 0], evaluation=["3", 4])
    server.run({**loop(prompt), **split, **record("6", ["5", 4], "failed")})
    assert [run["value"] for run in since.runs("record", "failed")] == [1, 0]


def test_the_issues_of_an_attempt_reach_the_next_one(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(issue="six fingers"), passed())
    graph = {**loop(prompt), **node("5", "TestJoin", first=["1", 5], second=["1", 4])}
    graph["2"]["inputs"]["prompt"] = ["5", 0]
    server.run(graph)
    assert [generated for generated, _ in since.generated] == [f"{prompt} ", f"{prompt} six fingers"]


def test_a_batch_is_kept_whole_and_ranked_by_its_lowest_score(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    # Of a batch it is not known which image is submitted first; each attempt has one score for both.
    verdicts(sandbox, failed(0.6), failed(0.6), failed(0.4), failed(0.9), passed(0.5), failed(0.5))
    graph = loop(prompt)
    graph["2"]["inputs"]["batch"] = 2
    server.run(graph)
    out = since.recorded
    assert (out["score"], out["seed"], out["passed"]) == (0.6, 7, False)
    assert out["image"]["shape"] == [2, 64, 64, 3]
    assert since.bills == 6


def test_kept_attempts_come_out_in_the_size_of_the_best_one(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.6), failed(0.4))
    graph = {**loop(prompt, seed=64, keep_attempts=True), **record("9", ["4", 8], "all")}
    graph["2"]["inputs"]["width"] = ["1", 2]
    server.run(graph)
    assert since.recorded["all"]["shape"] == [3, 65, 65, 3]


def test_attempts_that_were_not_kept_are_asked_for_in_words(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, passed())
    history = server.run({**loop(prompt), **record("9", ["4", 8], "all")})
    assert "all" not in since.recorded
    (blocked,) = history.blocked
    assert "[ATTEMPTS_NOT_KEPT]" in blocked["exception_message"]


def test_two_loops_in_one_graph_do_not_touch_each_other(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    """One after the other, so that the order of the verdicts is known."""
    verdicts(sandbox, failed(0.3, f"{prompt}, better"), passed(0.8), failed(0.2), failed(0.4), passed(0.7))
    second = {
        **start(["4", 4], 70, "11"),  # type: ignore[arg-type]
        **generate("12", "11"),
        **evaluate("13", ["12", 0], generation_prompt=["11", 1]),
        **end("14", loop=["11", 0], image=["12", 0], evaluation=["13", 4]),
        **record("15", ["14", 5], "second seed"),
    }
    server.run({**loop(prompt), **second})
    better = f"{prompt}, better"
    assert since.generated == [(prompt, 7), (better, 8), (better, 70), (better, 71), (better, 72)]
    assert (since.recorded["seed"], since.recorded["second seed"]) == (8, 72)
    assert since.bills == 5


def test_the_same_loop_in_another_workflow_is_another_loop(server: ComfyUI, prompt: str) -> None:
    """ComfyUI keeps results by inputs, not by node: the second Start must not come out of its cache as the first."""

    def loop(first: int) -> tuple[Prompt, str]:
        begin, made, judged, last, shown = (str(first + n) for n in range(5))
        wires = {"loop": [begin, 0], "image": [made, 0], "evaluation": [judged, 4]}
        nodes = (
            start(prompt, node_id=begin),
            generate(made, begin),
            evaluate(judged, [made, 0], judge="local"),
            end(last, **wires),
            node(shown, "PreviewImage", images=[last, 0]),
        )
        return {name: info for each in nodes for name, info in each.items()}, shown

    for first in (1, 11):
        workflow, shown = loop(first)
        assert server.run(workflow).outputs[shown]["images"]


def test_two_loops_beside_each_other_both_come_to_their_end(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.3), passed(0.9), passed(0.9))
    other = {**start(f"{prompt}, other", 70, "11"), **generate("12", "11")}
    other |= evaluate("13", ["12", 0], generation_prompt=["11", 1])
    other |= end("14", loop=["11", 0], image=["12", 0], evaluation=["13", 4])
    server.run({**loop(prompt), **other, **record("15", ["14", 5], "other seed")})
    assert (since.recorded["seed"], since.recorded["other seed"]) == (8, 71)
    assert since.bills == 4


def test_one_start_can_serve_two_ends(server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str) -> None:
    verdicts(sandbox, failed(0.3), failed(0.3), passed(0.9), passed(0.9))
    other = {**generate("12", name="other"), **evaluate("13", ["12", 0], evaluation_instructions="other")}
    other |= end("14", image=["12", 0], evaluation=["13", 4], next_seed="random")
    server.run({**loop(prompt), **other, **record("15", ["14", 6], "other attempts")})
    assert (since.recorded["attempts"], since.recorded["other attempts"]) == (2, 2)
    assert len(since.generated) == 4


def test_a_switch_in_the_body_runs_one_branch_at_each_attempt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    """The first look fails the first attempt and passes the second; only what failed is repaired."""
    verdicts(sandbox, failed(), failed(), passed(), passed())
    graph = {
        **loop(prompt, image=["6", 0]),
        **evaluate("5", ["2", 0], evaluation_instructions="first look"),
        **node("7", "ImageInvert", image=["2", 0]),
        **node("6", "RunflowVerdictSwitch", passed=["5", 0], on_pass=["2", 0], on_fail=["7", 0]),
        **evaluate("3", ["6", 0], generation_prompt=["1", 1]),
    }
    history = server.run(graph)
    assert since.recorded["attempts"] == 2
    assert "7" in history.executed and "4.0.0.7" not in history.executed


def nested(prompt: str, **outer: Any) -> Prompt:
    """A loop inside a loop: the outer one hands its prompt and seed to the inner one and judges what comes out."""
    return {
        **start(prompt, 100, "11"),
        **start(["11", 1], ["11", 2]),  # type: ignore[arg-type]
        **generate(),
        **evaluate("3", ["2", 0], generation_prompt=["1", 1]),
        **end(max_attempts=2),
        **evaluate("13", ["4", 0], generation_prompt=["11", 1], evaluation_instructions="outer"),
        **end("14", loop=["11", 0], image=["4", 0], evaluation=["13", 4], next_seed="random", **outer),
        **records("14"),
    }


def test_a_loop_in_a_loop_starts_anew_at_each_attempt_of_the_outer_one(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    better = f"{prompt}, better"
    inner_1, outer_1 = (failed(0.1), passed(0.8)), failed(0.4, better)
    inner_2, outer_2 = (failed(0.2), failed(0.5)), passed(0.9)
    verdicts(sandbox, *inner_1, outer_1, *inner_2, outer_2)
    history = server.run(nested(prompt))
    prompts, seeds = zip(*since.generated, strict=True)
    assert prompts == (prompt, prompt, better, better)
    assert (seeds[1], seeds[3]) == (seeds[0] + 1, seeds[2] + 1)
    assert since.bills == 6
    assert (since.recorded["passed"], since.recorded["prompt"], since.recorded["attempts"]) == (True, better, 2)
    first = history.texts["11"][0]
    assert "at most 9 evaluations, 0.90 credits" in first


def test_a_loop_in_a_loop_is_not_made_again_either(server: ComfyUI, sandbox: Sandbox, prompt: str) -> None:
    verdicts(sandbox, passed(), failed(0.4), passed(), failed(0.4))
    server.run(nested(prompt, max_attempts=2))
    verdicts(sandbox, passed(), passed())
    more = Since(server, sandbox)
    server.run(nested(prompt, max_attempts=3))
    assert (len(more.generated), more.bills) == (1, 2)


def test_a_loop_in_a_subgraph_works_under_the_ids_that_the_editor_gives_it(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    def moved(value: Any) -> Any:
        return [f"2:{value[0]}", value[1]] if isinstance(value, list) else value

    inside = {
        f"2:{node_id}": {**info, "inputs": {name: moved(value) for name, value in info["inputs"].items()}}
        for node_id, info in loop(prompt).items()
    }
    verdicts(sandbox, failed(), passed())
    history = server.run(inside)
    assert since.recorded["seed"] == 8
    assert summary(history)["start"] == "2:1"
    assert history.texts["2:1"][-1].startswith("attempt 2 of 3")


def test_a_body_that_raises_fails_the_prompt_and_keeps_what_was_made(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    def raising(at: int) -> Prompt:
        graph = {**loop(prompt, image=["5", 0]), **evaluate("3", ["5", 0], generation_prompt=["1", 1])}
        return {**graph, **node("5", "TestRaise", image=["2", 0], number=["1", 3], at=at)}

    verdicts(sandbox, failed(), passed())
    assert refusal(server, raising(2)) == "the body failed at 2"
    assert len(since.generated) == 2
    server.run(raising(9))
    assert since.bills == 2  # the first attempt is not paid again
    assert since.recorded["passed"] is True


def test_a_prompt_cannot_bring_an_attempt_of_its_own(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    server.run(loop(prompt, _handover={"best": "something"}))
    assert (since.recorded["attempts"], since.recorded["seed"]) == (2, 8)


# --- cancelling


def cancelled_after(server: ComfyUI, prompt_id: str) -> tuple[float, History]:
    """Seconds from Cancel to ComfyUI's word that it stopped."""
    began = time.monotonic()
    server.interrupt()
    history = server.wait(prompt_id, check=False)
    return server.wait_for("execution_interrupted", prompt_id).at - began, history


def test_cancel_while_attempt_2_is_judged_stops_at_once_and_its_verdict_is_not_paid_again(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    waiting = ScriptedVerdict(passed=True, score=0.9, latency=4.0)
    verdicts(sandbox, failed(), waiting)
    before = len([r for r in sandbox.requests if r.method == "POST"])
    prompt_id = server.post(loop(prompt))
    sandbox.wait_for_requests("POST", "/v1/evaluations", before + 2)
    took, history = cancelled_after(server, prompt_id)
    assert history.interrupted
    assert took < CANCEL_WITHIN_S
    server.run(loop(prompt))
    assert since.bills == 2
    assert since.recorded["seed"] == 8
    assert since.generated[:2] == [(prompt, 7), (prompt, 8)]
    # What of it ComfyUI has dropped from its cache is generated again, and not more than that.
    assert set(since.generated[2:]) <= {(prompt, 8)}


def test_cancel_while_attempt_2_is_made_stops_at_once(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed())
    graph = {
        **loop(prompt, image=["5", 0]),
        **evaluate("3", ["5", 0], generation_prompt=["1", 1]),
        **node("5", "TestSleep", image=["2", 0], number=["1", 3], at=2, seconds=600.0),
    }
    prompt_id = server.post(graph)
    server.wait_for("executing", prompt_id, "4.0.0.5")
    took, history = cancelled_after(server, prompt_id)
    assert history.interrupted
    assert took < CANCEL_WITHIN_S
    assert since.bills == 1


def test_cancel_is_heard_while_the_price_is_not_answered(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    sandbox.add_fault(Fault("GET", "/v1/evaluations/job-classes", "hang"))
    asked = len([r for r in sandbox.requests if r.path == "/v1/evaluations/job-classes"])
    prompt_id = server.post(loop(prompt))
    sandbox.wait_for_requests("GET", "/v1/evaluations/job-classes", asked + 1)
    took, history = cancelled_after(server, prompt_id)
    assert history.interrupted
    assert took < CANCEL_WITHIN_S
    assert since.generated == []


# --- what the person sees, and what is saved


def test_start_says_what_it_may_cost_before_anything_is_paid_and_how_each_attempt_went(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.41, issue="hands"), passed(0.9))
    history = server.run(loop(prompt, max_attempts=4))
    assert history.texts["1"] == [
        "attempt 1 of 4 · at most 4 evaluations, 0.40 credits for each image of a batch",
        "attempt 1 of 4 · 0.41 · hands",
        "attempt 2 of 4",
        "attempt 2 of 4 · 0.90 · passed",
    ]
    assert history.texts["4"] == ["attempt 2 of 2 came out · passed · 0.90"]
    cost = next(event for event in history.events if event.kind == "progress_text")
    judging = next(event for event in history.events if event.kind == "executing" and event.node == "3")
    assert cost.at <= judging.at


def test_a_loop_that_could_pass_a_limit_says_so_before_anything_is_paid(
    server: ComfyUI, sandbox: Sandbox, prompt: str
) -> None:
    verdicts(sandbox, passed(), passed())
    graph = nested(prompt, max_attempts=20)
    graph["4"]["inputs"]["max_attempts"] = 20
    text = server.run(graph).texts["11"][0]
    assert "at most 420 evaluations, 42.00 credits" in text
    assert text.endswith("your limit of 100 for one prompt would end it before")


def test_a_price_that_cannot_be_read_is_left_out_and_stops_nothing(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    sandbox.add_fault(Fault("GET", "/v1/evaluations/job-classes", "hang", times=None))
    verdicts(sandbox, passed())
    history = server.run(loop(prompt))
    assert history.texts["1"][0] == "attempt 1 of 3 · at most 3 evaluations for each image of a batch"


def test_every_attempt_is_shown_on_end_as_a_preview(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    history = server.run(loop(prompt))
    assert sum(event.kind == "binary" for event in history.events) == 2
    assert history.progress("4") == [(1, 3)] or (1, 3) in history.progress("4")


def test_the_verdict_of_the_winner_is_filed_under_the_end_that_gave_it(
    server: ComfyUI, sandbox: Sandbox, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), passed(0.8))
    history = server.run(loop(prompt))
    ((clone, output),) = [(name, out) for name, out in history.outputs.items() if "runflow_regenerate" in out]
    assert history.meta[clone]["display_node"] == "4"
    assert [verdict["score"] for verdict in output["runflow"]] == [0.8]


def saved(server: ComfyUI, prefix: str) -> dict[str, Any]:
    """The text chunks of the only file with that prefix, parsed."""
    (file,) = (server.base / "output").glob(f"{prefix}*.png")
    return chunks_of(file)


def chunks_of(file: Path) -> dict[str, Any]:
    with Image.open(file) as image:
        return {name: json.loads(text) for name, text in image.info.items()}


def test_what_is_saved_behind_the_loop_says_how_the_winner_was_made(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3, f"{prompt}, better"), passed(0.8))
    graph = {**loop(prompt), **node("9", "SaveImage", images=["4", 0], filename_prefix=f"{prompt} first")}
    graph |= node("10", "SaveImage", images=["2", 0], filename_prefix=f"{prompt} body")
    extra = {"extra_pnginfo": {"workflow": {"id": "kept"}}}
    server.run(graph, extra_data=copy.deepcopy(extra))
    entry = saved(server, f"{prompt} first")["runflow_regenerate"]["4"]
    assert (entry["prompt"], entry["seed"], entry["attempt"], entry["attempts"]) == (f"{prompt}, better", 8, 2, 2)
    assert (entry["verdict"], entry["passed"], entry["score"], entry["start"]) == ("passed", True, 0.8, "1")
    assert saved(server, f"{prompt} first")["workflow"] == {"id": "kept"}

    graph["9"]["inputs"]["filename_prefix"] = f"{prompt} second"
    history = server.run(graph, extra_data=copy.deepcopy(extra))
    assert history.executed == ["9"]
    assert saved(server, f"{prompt} second")["runflow_regenerate"]["4"] == entry


def test_what_is_saved_by_the_body_names_no_winner(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    graph = {**loop(prompt), **node("9", "SaveImage", images=["2", 0], filename_prefix=f"{prompt} body")}
    verdicts(sandbox, passed())
    server.run(graph, extra_data={"extra_pnginfo": {}})
    assert saved(server, f"{prompt} body").get("runflow_regenerate", {}) == {}


def test_a_job_without_extra_pnginfo_has_the_winner_in_the_saved_prompt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    server.run({**loop(prompt), **node("9", "SaveImage", images=["4", 0], filename_prefix=prompt)})
    chunks = saved(server, prompt)
    assert chunks["prompt"]["4"]["_meta"]["runflow_regenerate"]["seed"] == 8
    assert list(chunks) == ["prompt"]


def test_what_a_loop_in_a_loop_chose_is_saved_for_the_winning_attempt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.1), passed(0.8), failed(0.7), passed(0.6), failed(0.2))
    graph = {**nested(prompt, max_attempts=2)}
    for prefix in ("first", "second"):
        graph |= node("9", "SaveImage", images=["14", 0], filename_prefix=f"{prompt} {prefix}")
        server.run(graph, extra_data={"extra_pnginfo": {}})
        entries = saved(server, f"{prompt} {prefix}")["runflow_regenerate"]
        assert (entries["14"]["attempt"], entries["14"]["score"]) == (1, 0.7)
        assert (entries["4"]["seed"], entries["4"]["attempt"], entries["4"]["in_attempt"]) == (101, 2, 1)


# --- the example


def test_the_example_without_a_model_takes_the_good_photograph(server: ComfyUI, sandbox: Sandbox, since: Since) -> None:
    history = server.run(example(server, "regenerate_until_passed"))
    told = summary(history)
    assert [each["verdict"] for each in told["attempts"]] == ["failed", "failed", "passed"]
    assert [each["seed"] for each in told["attempts"]] == [0, 1, 2]
    assert len(list((server.base / "output" / "runflow").glob("until_passed*.png"))) == 1
    assert since.judged == []


# --- memory

LARGE = 2048 * 2048 * 3 * 4
FREED_WITHIN_S = 30
SETTLES_IN_S = 3


def test_twelve_large_attempts_leave_no_more_memory_behind_than_three(
    server: ComfyUI, sandbox: Sandbox, prompt: str
) -> None:
    def left_behind(attempts: int, at_most: int | None = None) -> dict[str, int]:
        verdicts(sandbox, *(failed(0.01 * number) for number in range(attempts)))
        graph = loop(f"{prompt}, {attempts}", max_attempts=attempts)
        graph["2"]["inputs"]["width"] = 2048
        server.run(graph, timeout=300)
        server.free()
        return freed(server, at_most)

    three = left_behind(3)
    twelve = left_behind(12, three["process"] + 2 * LARGE)
    assert twelve["tensors"] < LARGE
    assert twelve["process"] - three["process"] < 2 * LARGE, (three, twelve)


def freed(server: ComfyUI, at_most: int | None = None) -> dict[str, int]:
    """What is in use once ComfyUI has dropped its cache: it sees /free between prompts, soon but not at once.

    Waited for until the process has no more than ``at_most`` bytes, where that is given.
    """
    give_up = time.monotonic() + FREED_WITHIN_S
    while (memory := server.request("GET", "/testing/memory", timeout=60))["tensors"] >= LARGE:
        assert time.monotonic() < give_up, memory
        time.sleep(0.5)
        server.free()  # asked while a prompt was just ending, it may have been missed
    least = memory  # threads that made thumbnails and bodies give theirs back a little later
    settled = time.monotonic() + SETTLES_IN_S
    while time.monotonic() < (settled if at_most is None or least["process"] < at_most else give_up):
        time.sleep(0.3)
        least = min(least, server.request("GET", "/testing/memory", timeout=60), key=lambda each: each["process"])
    return least
