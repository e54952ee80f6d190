"""What a person sees while a loop runs, and how it stops when Cancel is pressed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
from support.loops import Since, failed, loop, nested, passed, verdicts
from support.prompts import evaluate, node
from support.server import ComfyUI
from support.waiting import judge_now

from runflow_api.sandbox.app import Fault, Sandbox, ScriptedVerdict

_others = itertools.count()


def test_cancel_while_attempt_2_is_judged_stops_at_once_and_its_verdict_is_not_paid_again(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    waiting = ScriptedVerdict(passed=True, score=0.9, latency=600.0)
    verdicts(sandbox, failed(), waiting)
    before = len([r for r in sandbox.requests if r.method == "POST"])
    prompt_id = server.post(loop(prompt))
    sandbox.wait_for_requests("POST", "/v1/evaluations", before + 2)
    server.interrupt_at_once(prompt_id)
    judge_now(sandbox)
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
    server.interrupt_at_once(prompt_id)
    assert since.bills == 1


@pytest.fixture
def no_price_is_known(server: ComfyUI) -> Iterator[None]:
    """Prices are kept for minutes; other settings make a new evaluator, which has asked for none."""
    file = server.base / "user" / "__runflow_evaluate" / "config.json"
    file.write_text(json.dumps({"retention_days": 100 + next(_others)}))
    yield
    file.unlink()


def test_cancel_is_heard_while_the_price_is_not_answered(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str, no_price_is_known: None
) -> None:
    sandbox.add_fault(Fault("GET", "/v1/evaluations/job-classes", "hang"))
    asked = len([r for r in sandbox.requests if r.path == "/v1/evaluations/job-classes"])
    prompt_id = server.post(loop(prompt))
    sandbox.wait_for_requests("GET", "/v1/evaluations/job-classes", asked + 1)
    server.interrupt_at_once(prompt_id)
    assert since.generated == []


def test_start_says_what_it_may_cost_before_anything_is_paid_and_how_each_attempt_went_as_text(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    markup = '<img src="x" onerror="alert(1)"> ![x](http://x) [[x|http://x]]'
    verdicts(sandbox, failed(0.41, issue=f"hands {markup}"), passed(0.9))
    history = server.run(loop(prompt, max_attempts=4))
    assert history.texts["1"] == [
        "attempt 1 of 4 · at most 4 evaluations, 0.40 credits for each image of a batch",
        'attempt 1 of 4 · 0.41 · hands ‹img src="x" onerror="alert(1)"› ![x] (http://x) [ [x|http://x]]',
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
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str, no_price_is_known: None
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
