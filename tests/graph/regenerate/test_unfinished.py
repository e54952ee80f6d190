"""What was made and paid is not lost when a later attempt cannot be judged, fails, is blocked, or is never finished."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support.loops import Since, chunks_of, failed, generate, loop, nested, passed, refusal, summary, verdicts
from support.prompts import Prompt, evaluate, node
from support.server import ComfyUI, PromptFailed

from runflow_api.sandbox.app import Fault, Sandbox, ScriptedVerdict

SUBMIT = "/v1/evaluations"
TEST_NODES = (Path(__file__).parents[1] / "test_nodes",)


def kept(server: ComfyUI, text: str) -> Path:
    """The file that a text names as saved."""
    found = re.search(r"output/(runflow-[a-z]+/[0-9a-f]+\.png)", text)
    assert found is not None, text
    return server.base / "output" / found[1]


@pytest.mark.parametrize(
    ("verdict", "fault", "code"),
    [
        (ScriptedVerdict(failure_code="dispatch_failed"), None, "EVALUATION_FAILED"),
        (None, Fault("POST", SUBMIT, "status", status=402, times=None), "INSUFFICIENT_CREDIT"),
    ],
)
def test_the_best_attempt_comes_out_where_a_later_one_would_stop_the_workflow(
    server: ComfyUI,
    sandbox: Sandbox,
    since: Since,
    prompt: str,
    verdict: ScriptedVerdict | None,
    fault: Fault | None,
    code: str,
) -> None:
    graph = loop(prompt, max_attempts=4)
    assert "if_not_judged" not in graph["3"]["inputs"]  # stop is the default
    verdicts(sandbox, failed(0.3, f"{prompt}, better"))
    if verdict is not None:
        verdicts(sandbox, verdict)
    if fault is not None:
        sandbox.add_fault(Fault("POST", SUBMIT, "status", status=402, times=None, after_skip=1))
    history = server.run(graph)
    out = since.recorded
    assert (out["score"], out["prompt"], out["attempts"], out["passed"]) == (0.3, prompt, 2, False)
    assert summary(history)["reason"] == f"nobody judged attempt 2 [{code}]"
    assert summary(history)["winner"] == 1
    assert len(since.generated) == 2  # an unknown verdict starts no attempt
    assert list((server.base / "output" / "runflow-unjudged").glob("*.png")) != []


def test_the_best_attempt_comes_out_where_a_limit_is_reached(
    comfyui_factory: Callable[..., ComfyUI], sandbox: Sandbox, prompt: str
) -> None:
    env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}
    with comfyui_factory(env={**env, "RUNFLOW_MAX_EVALUATIONS_PER_PROMPT": "2"}, extra_nodes=TEST_NODES) as limited:
        since = Since(limited, sandbox)
        verdicts(sandbox, failed(0.3), failed(0.6))
        history = limited.run(loop(prompt, max_attempts=5))
        assert (since.recorded["score"], since.recorded["attempts"], since.bills) == (0.6, 3, 2)
        assert summary(history)["reason"] == "nobody judged attempt 3 [BUDGET_EXCEEDED]"


def test_the_first_attempt_stops_the_workflow_as_ever(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, ScriptedVerdict(failure_code="dispatch_failed"))
    assert "[EVALUATION_FAILED]" in refusal(server, loop(prompt))


def test_what_an_outer_loop_has_made_comes_out_where_an_inner_one_is_not_judged(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    inner_1, outer_1 = (failed(0.1), passed(0.8)), failed(0.4)
    verdicts(sandbox, *inner_1, outer_1, ScriptedVerdict(failure_code="dispatch_failed"), failed(0.2))
    server.run(nested(prompt, max_attempts=2))
    assert (since.recorded["score"], since.recorded["attempts"]) == (0.4, 2)


def test_an_error_that_always_stops_names_the_best_attempt_and_where_it_is(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3))
    sandbox.add_fault(Fault("POST", SUBMIT, "status", status=401, times=None, after_skip=1))
    with pytest.raises(PromptFailed) as caught:
        server.run(loop(prompt))
    history = caught.value.history
    assert history is not None
    assert "UNAUTHORIZED" in history.errors[0]["exception_message"]
    assert "attempt 1 of 1 is the best so far" in history.texts["4"][-1]
    assert kept(server, history.texts["4"][-1]).is_file()


def interfered(prompt: str, kind: str, at: int) -> Prompt:
    """A loop with another pack's node between what generates and what judges."""
    graph = {**loop(prompt, image=["5", 0]), **evaluate("3", ["5", 0], generation_prompt=["1", 1])}
    return {**graph, **node("5", kind, image=["2", 0], number=["1", 3], at=at)}


def test_a_node_that_raises_in_a_later_attempt_leaves_the_best_one_saved_and_named(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.5))
    with pytest.raises(PromptFailed) as caught:
        server.run(interfered(prompt, "TestRaise", 3), extra_data={"extra_pnginfo": {}})
    assert caught.value.history is not None
    said = caught.value.history.texts["4"][-1]
    assert said.startswith("attempt 3 did not reach End")
    assert "attempt 2 of 2 is the best so far" in said
    entry = chunks_of(kept(server, said))["runflow_regenerate"]["4"]
    assert (entry["attempt"], entry["seed"], entry["score"]) == (2, 8, 0.5)
    again = Since(server, sandbox)
    verdicts(sandbox, passed())
    server.run(interfered(prompt, "TestRaise", 99))
    assert (again.bills, again.recorded["passed"]) == (1, True)  # nothing is paid again


def test_a_node_that_blocks_in_a_later_attempt_is_said_on_end_and_the_best_one_is_saved(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3))
    history = server.run(interfered(prompt, "TestBlock", 2))
    said = history.texts["4"][-1]
    assert "attempt 2 did not reach End" in said and "attempt 1 of 1 is the best so far" in said
    with Image.open(kept(server, said)) as image:
        assert image.size == (64, 64)
    assert since.recorded == {}
    again = server.run(interfered(prompt, "TestBlock", 2))
    assert (again.texts["4"][-1], again.status, since.bills) == (said, "success", 1)  # queued again, it is said again
    first = server.run(interfered(f"{prompt}, the first", "TestBlock", 1))
    assert first.texts["4"][-1].startswith("attempt 1 did not reach End")
    first_again = server.run(interfered(f"{prompt}, the first", "TestBlock", 1))
    assert first_again.texts["4"][-1] == first.texts["4"][-1]


def test_a_loop_that_ends_saves_nothing_of_its_own(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    folder = server.base / "output" / "runflow-best"
    before = set(folder.glob("*"))
    verdicts(sandbox, failed(0.3), passed())
    history = server.run(loop(prompt))
    assert history.texts["4"] == ["attempt 2 of 2 came out · passed · 0.90"]
    assert set(folder.glob("*")) == before


def test_a_score_of_the_local_judge_never_beats_one_of_runflow(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.2), failed(0.1))
    graph = {
        **loop(prompt, evaluation=["6", 0], max_attempts=2),
        **evaluate("5", ["2", 0], judge="local"),
        **node("6", "TestChoose", number=["1", 3], first=["3", 4], other=["5", 4]),
    }
    history = server.run(graph)
    attempts = summary(history)["attempts"]
    assert [each["members"][0]["judge"] for each in attempts] == ["runflow", "local"]
    assert attempts[1]["score"] > attempts[0]["score"]
    assert summary(history)["winner"] == 1


def test_some_frames_of_a_clip_are_judged_for_all_of_it(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.3), passed(), passed())
    graph = {**loop(prompt), **node("5", "ImageFromBatch", image=["2", 0], batch_index=1, length=2)}
    graph |= evaluate("3", ["5", 0], generation_prompt=["1", 1])
    graph["2"]["inputs"]["batch"] = 6
    history = server.run(graph)
    assert since.recorded["image"]["shape"] == [6, 64, 64, 3]
    assert (since.recorded["passed"], since.recorded["attempts"], since.bills) == (True, 2, 4)
    assert summary(history)["warnings"] == ["2 images were judged for the 6 that came out"]


def test_a_batch_may_change_its_size_from_attempt_to_attempt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.4), failed(0.5))
    graph = loop(prompt, keep_attempts=True, max_attempts=2)
    graph["2"]["inputs"]["batch"] = ["1", 3]
    graph |= node("9", "TestRecord", value=["4", 8], name="all")
    server.run(graph)
    assert since.recorded["image"]["shape"] == [2, 64, 64, 3]
    assert since.recorded["all"]["shape"] == [3, 64, 64, 3]


def test_the_issues_for_the_next_attempt_are_few_enough_to_stand_in_its_prompt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    many = ScriptedVerdict(passed=False, score=0.3, issues=[f"finger number {n} is too many" for n in range(200)])
    verdicts(sandbox, many, passed())
    graph = {**loop(prompt), **node("5", "TestJoin", first=["1", 5], second=["1", 4]), **generate(prompt=["5", 0])}
    server.run({**graph, **evaluate("3", ["2", 0], generation_prompt=["5", 0])})
    assert (since.recorded["attempts"], since.recorded["passed"]) == (2, True)
    assert 200 < len(since.judged[1]) < 1_200
    assert since.judged[1].endswith("is too many")
