"""Get Evaluation, Send Feedback, Get Run and Quality Report in a real ComfyUI, against the sandbox over real HTTP."""

from __future__ import annotations

import itertools
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.pictures import picture
from support.prompts import details, evaluate, load_image, node, outputs_as_text, show
from support.server import ComfyUI, PromptFailed
from support.waiting import wait_until

from runflow_api import images
from runflow_api.sandbox.app import Fault, Sandbox, ScriptedVerdict

NOBODYS = "00000000-0000-4000-8000-000000000000"
_seeds = itertools.count(9_000)


def photo(server: ComfyUI) -> str:
    """A new picture in the server's input folder; its name."""
    name = f"follow-up-{next(_seeds)}.png"
    Image.fromarray(images.to_pixels(picture(next(_seeds)))).save(server.base / "input" / name)
    return name


def judged(name: str, **inputs: Any) -> dict[str, Any]:
    """Nodes 1 and 2: the image and its evaluation."""
    return {**load_image("1", name), **evaluate("2", ["1", 0], **inputs)}


def get(ids: str, **inputs: Any) -> dict[str, Any]:
    """Node 5 and its outputs as text: ``5-0`` to ``5-3``."""
    return {
        **node("5", "RunflowGetEvaluation", evaluation_ids=ids, **inputs),
        **outputs_as_text("5", 4),
        **show("6", ["5", 4]),
    }


def feedback(evaluation: list[Any], **inputs: Any) -> dict[str, Any]:
    return node("7", "RunflowSendFeedback", evaluation=evaluation, **inputs)


def get_run(run_id: str, **inputs: Any) -> dict[str, Any]:
    return {**node("8", "RunflowGetRun", run_id=run_id, **inputs), **outputs_as_text("8", 5)}


def texts(history: Any, source: str, count: int) -> list[str]:
    return [history.outputs[f"{source}-{n}"]["text"][0] for n in range(count)]


def failure(server: ComfyUI, prompt: dict[str, Any]) -> str:
    with pytest.raises(PromptFailed) as caught:
        server.run(prompt)
    (error,) = caught.value.history.errors
    return error["exception_message"].strip()


def submitted(server: ComfyUI, sandbox: Sandbox, **script: Any) -> str:
    """The id of a new evaluation, which ended with what ``script`` says."""
    sandbox.add_verdict(ScriptedVerdict(**script))
    history = server.run({**judged(photo(server), if_not_judged="fail"), **show("3", ["2", 4])})
    return history.outputs["3"]["runflow"][0]["id"]


# --- Get Evaluation -----------------------------------------------------------------------------------


def test_an_evaluation_is_read_by_its_id_with_the_five_outputs_of_evaluate(server: ComfyUI, sandbox: Sandbox) -> None:
    script = {"passed": False, "score": 0.4, "issues": ["six fingers"], "improved_prompt": "five fingers"}
    evaluation_id = submitted(server, sandbox, **script)
    bills = len(sandbox.bills)
    history = server.run(get(f"  {evaluation_id}\n\n"))
    passed, score, issues, improved = texts(history, "5", 4)
    assert (passed.lower(), float(score), issues, improved) == ("false", 0.4, "six fingers", "five fingers")
    assert history.outputs["6"]["runflow"][0]["id"] == evaluation_id
    assert len(sandbox.bills) == bills


def test_several_ids_are_a_batch_in_their_order(server: ComfyUI, sandbox: Sandbox) -> None:
    good = submitted(server, sandbox, passed=True, score=0.9)
    bad = submitted(server, sandbox, passed=False, score=0.2, issues=["blurred"])
    history = server.run(get(f"{good}\n{bad}"))
    assert [each["verdict"] for each in history.outputs["6"]["runflow"]] == ["passed", "failed"]
    assert texts(history, "5", 3)[1:] == ["0.2", "image 2: blurred"]


def test_the_own_minimum_holds_here_too(server: ComfyUI, sandbox: Sandbox) -> None:
    evaluation_id = submitted(server, sandbox, passed=True, score=0.8)
    passed, _, issues, _ = texts(server.run(get(evaluation_id, min_score=0.85)), "5", 4)
    assert passed.lower() == "false"
    assert issues == "score 0.80, below your 0.85"


def test_everything_that_the_api_says_reaches_evaluation_details(server: ComfyUI, sandbox: Sandbox) -> None:
    run_id = sandbox.add_run("succeeded", output={"image": "https://example.invalid/a.png"})
    sandbox.add_verdict(ScriptedVerdict(passed=True, extra={"model": {"name": "a model"}}))
    nodes = judged(photo(server), options=["9", 0]) | node("9", "RunflowEvaluationOptions", run_id=run_id)
    first = server.run({**nodes, **show("3", ["2", 4])})
    evaluation_id = first.outputs["3"]["runflow"][0]["id"]
    prompt = {**get(evaluation_id), **details("4", ["5", 4]), **outputs_as_text("4", 9)}
    answer = json.loads(server.run(prompt).outputs["4-8"]["text"][0])
    assert answer["run"]["id"] == run_id
    assert answer["model"]["name"] == "a model"


def test_what_is_under_way_is_waited_for(server: ComfyUI, sandbox: Sandbox) -> None:
    sandbox.latency = 2.0
    evaluation_id = under_way(server, sandbox)
    history = server.run(get(evaluation_id))
    assert texts(history, "5", 1)[0].lower() == "true"
    assert any("waiting for the verdict" in text for text in history.texts["5"])


def test_without_waiting_it_is_unknown_and_asked_again_next_time(server: ComfyUI, sandbox: Sandbox) -> None:
    sandbox.latency = 3.0
    evaluation_id = under_way(server, sandbox)
    prompt = get(evaluation_id, wait=False)
    first = server.run(prompt)
    assert first.outputs["6"]["runflow"][0]["verdict"] == "unknown"
    assert texts(first, "5", 1)[0].lower() == "false"
    again = server.run(prompt)
    assert "5" in again.executed
    wait_until(lambda: sandbox.evaluations[evaluation_id].due < time.monotonic())
    last = server.run(prompt)
    assert last.outputs["6"]["runflow"][0]["verdict"] == "passed"


def test_what_has_ended_comes_from_the_cache(server: ComfyUI, sandbox: Sandbox) -> None:
    evaluation_id = submitted(server, sandbox, passed=True)
    prompt = get(evaluation_id)
    server.run(prompt)
    server.run(prompt)
    requests = len(sandbox.requests)
    history = server.run(prompt)
    assert "5" in history.cached
    assert len(sandbox.requests) == requests


def test_an_unknown_id_stops_with_its_code_whatever_the_policy(server: ComfyUI) -> None:
    said = failure(server, get(NOBODYS, if_not_judged="pass"))
    assert said.startswith("[EVALUATION_NOT_FOUND] ")
    assert NOBODYS in said


@pytest.mark.parametrize("ids", ["", "../runs/1", "a b"])
def test_what_is_no_id_is_refused_before_anything_is_sent(server: ComfyUI, sandbox: Sandbox, ids: str) -> None:
    requests = len(sandbox.requests)
    assert failure(server, get(ids)).startswith("[INVALID_INPUT] ")
    assert len(sandbox.requests) == requests


def test_a_failed_evaluation_stops_or_counts_as_the_person_chose(server: ComfyUI, sandbox: Sandbox) -> None:
    evaluation_id = submitted(server, sandbox, failure_code="processing_failed")
    assert failure(server, get(evaluation_id)).startswith("[EVALUATION_FAILED] ")
    history = server.run(get(evaluation_id, if_not_judged="pass"))
    assert texts(history, "5", 1)[0].lower() == "true"
    assert history.outputs["6"]["runflow"][0]["verdict"] == "unknown"


def test_waiting_ends_with_cancel(server: ComfyUI, sandbox: Sandbox) -> None:
    evaluation_id = submitted(server, sandbox, passed=True)
    sandbox.add_fault(Fault("GET", f"/v1/evaluations/{evaluation_id}", "hang", times=None))
    seen = len(sandbox.wait_for_requests("GET", "/v1/evaluations/.*", count=0))
    queued = server.post(get(evaluation_id))
    sandbox.wait_for_requests("GET", "/v1/evaluations/.*", count=seen + 1)
    server.interrupt_at_once(queued)


def under_way(server: ComfyUI, sandbox: Sandbox) -> str:
    """The id of a new evaluation that nobody waits for any more."""
    before = len(sandbox.evaluations)
    queued = server.post({**judged(photo(server)), **show("3", ["2", 4])})
    wait_until(lambda: len(sandbox.evaluations) > before)
    server.cancel(queued)
    server.wait(queued, check=False)
    return list(sandbox.evaluations)[-1]


# --- Send Feedback ------------------------------------------------------------------------------------


def test_feedback_is_what_the_api_has_and_cleared_means_null(server: ComfyUI, sandbox: Sandbox) -> None:
    evaluation_id = submitted(server, sandbox, passed=True)

    def rate(**inputs: Any) -> tuple[Any, Any]:
        history = server.run({**get(evaluation_id), **feedback(["5", 4], **inputs)})
        assert "7" in history.texts
        stored = sandbox.evaluations[evaluation_id].feedback
        return stored.get("feedback_is_positive"), stored.get("feedback_reason")

    assert rate(rating="none", reason="not sent") == (None, None)
    assert rate(rating="bad", reason="there are six fingers") == (False, "there are six fingers")
    assert rate(rating="good") == (True, None)
    assert rate(rating="clear", reason="dropped") == (None, None)


def test_every_evaluation_of_a_batch_gets_the_feedback(server: ComfyUI, sandbox: Sandbox) -> None:
    ids = [submitted(server, sandbox, passed=True) for _ in range(3)]
    history = server.run({**get("\n".join(ids)), **feedback(["5", 4], rating="good")})
    assert all(sandbox.evaluations[each].feedback["feedback_is_positive"] is True for each in ids)
    assert history.texts["7"][-1] == "good sent for 3 evaluations"


def test_a_local_verdict_is_skipped_and_that_is_said(server: ComfyUI, sandbox: Sandbox) -> None:
    requests = len(sandbox.requests)
    history = server.run({**judged(photo(server), judge="local"), **feedback(["2", 4], rating="good")})
    assert history.texts["7"][-1] == "nothing sent, 1 skipped: not judged by Runflow"
    assert len(sandbox.requests) == requests


def test_feedback_that_is_refused_says_so(server: ComfyUI, sandbox: Sandbox) -> None:
    evaluation_id = submitted(server, sandbox, passed=True)
    sandbox.add_fault(Fault("PATCH", kind="status", status=403))
    said = failure(server, {**get(evaluation_id), **feedback(["5", 4], rating="good")})
    assert said.startswith("[PERMISSION_DENIED] ")
    assert "0 of 1" in said


# --- Get Run ------------------------------------------------------------------------------------------


def test_a_run_gives_its_status_verdict_and_output(server: ComfyUI, sandbox: Sandbox) -> None:
    summary = {"passed": True, "status_code": "completed", "score": 0.9}
    run_id = sandbox.add_run(output={"images": ["https://example.invalid/a.png"]}, current_evaluation_summary=summary)
    status, passed, score, output, failed = texts(server.run(get_run(run_id)), "8", 5)
    assert (status, passed.lower(), float(score), failed) == ("succeeded", "true", 0.9, "")
    assert json.loads(output) == {"images": ["https://example.invalid/a.png"]}


@pytest.mark.parametrize("status", ["failed", "cancelled", "partial_succeeded"])
def test_ways_to_end_are_told_apart(server: ComfyUI, sandbox: Sandbox, status: str) -> None:
    run_id = sandbox.add_run(status, failure_code="NODE_FAILED", failure_message="node 7 ran out of memory")
    told, passed, score, output, failed = texts(server.run(get_run(run_id)), "8", 5)
    assert (told, passed.lower(), float(score), output) == (status, "false", 0.0, "null")
    assert failed == f"{status}: NODE_FAILED: node 7 ran out of memory"


def test_a_run_under_way_is_waited_for_or_asked_again(server: ComfyUI, sandbox: Sandbox) -> None:
    run_id = sandbox.add_run("succeeded", latency=3.0)
    first = server.run(get_run(run_id, wait=False))
    assert texts(first, "8", 1) == ["running"]
    assert texts(server.run(get_run(run_id)), "8", 1) == ["succeeded"]


def test_an_unknown_run_is_a_clear_error(server: ComfyUI) -> None:
    said = failure(server, get_run(NOBODYS))
    assert said.startswith("[RUN_NOT_FOUND] ")
    assert NOBODYS in said


def test_a_run_that_goes_on_beyond_the_time_out_says_so(server: ComfyUI, sandbox: Sandbox) -> None:
    run_id = sandbox.add_run("succeeded", latency=60.0)
    assert failure(server, get_run(run_id, timeout_s=1)).startswith("[RUN_TIMEOUT] ")


# --- Quality Report -----------------------------------------------------------------------------------


def card(image: list[Any], evaluation: list[Any], **inputs: Any) -> dict[str, Any]:
    return node("10", "RunflowVerdictCard", image=image, evaluation=evaluation, **inputs)


def batch(server: ComfyUI, count: int) -> dict[str, Any]:
    """Nodes 1x: a batch of ``count`` images; its link is ["19", 0]."""
    nodes: dict[str, Any] = {}
    link = ["11", 0]
    for number in range(count):
        nodes |= load_image(f"1{number + 1}", photo(server))
        if number:
            nodes |= node(f"b{number}", "ImageBatch", image1=link, image2=[f"1{number + 1}", 0])
            link = [f"b{number}", 0]
    return {**nodes, **node("19", "ImageScaleBy", image=link, upscale_method="nearest-exact", scale_by=1.0)}


def saved(server: ComfyUI, folder: str) -> dict[str, Path]:
    files = (server.base / "output" / folder).iterdir()
    return {file.suffix: file for file in sorted(files, reverse=True)}


def test_a_report_is_saved_as_cards_a_page_and_json(server: ComfyUI, sandbox: Sandbox) -> None:
    for score in (0.9, 0.3, 0.6):
        issues = [f"<script>alert({score})</script>"]
        sandbox.add_verdict(ScriptedVerdict(passed=score > 0.5, score=score, issues=issues))
    prompt = {
        **batch(server, 3),
        **evaluate("2", ["19", 0], generation_prompt="<script>a prompt</script> 手"),
        **card(["19", 0], ["2", 4], filename_prefix="cards/all", title="Autumn <b>"),
        **node("20", "PreviewImage", images=["10", 0]),
    }
    history = server.run(prompt)
    shown = history.outputs["10"]["images"]
    assert [one["filename"] for one in shown] == [f"all_{n:05}_.png" for n in (1, 2, 3)]
    assert {one["subfolder"] for one in shown} == {"cards"}
    files = saved(server, "cards")
    page = files[".html"].read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;a prompt&lt;/script&gt; 手" in page
    assert not re.search(r"https?://|//[a-z]", re.sub(r"base64,[^\"]*", "", page))
    records = json.loads(files[".json"].read_text("utf-8"))
    scores = [record["score"] for record in records["images"]]
    assert scores == sorted(scores)
    assert len(history.outputs["20"]["images"]) == 3
    with Image.open(files[".png"]) as picture:
        assert not getattr(picture, "text", {})
        assert np.asarray(picture.convert("RGB")).std() > 20


def test_a_client_sees_no_id_no_cost_and_no_prompt(server: ComfyUI, sandbox: Sandbox) -> None:
    sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.3, issues=["a wrist"], improved_prompt="a better secret"))
    prompt = {
        **judged(photo(server), generation_prompt="a secret prompt"),
        **card(["1", 0], ["2", 4], filename_prefix="client/one", audience="client"),
        **show("3", ["2", 4]),
    }
    evaluation_id = server.run(prompt).outputs["3"]["runflow"][0]["id"]
    files = saved(server, "client")
    for text in (files[".html"].read_text("utf-8"), files[".json"].read_text("utf-8")):
        assert "a wrist" in text
        for private in ("secret", evaluation_id, "0.10", "credits"):
            assert private not in text


def test_a_report_of_other_pixels_says_so(server: ComfyUI, sandbox: Sandbox) -> None:
    sandbox.add_verdict(ScriptedVerdict(passed=True))
    prompt = {
        **judged(photo(server)),
        **node("4", "ImageScaleBy", image=["1", 0], upscale_method="nearest-exact", scale_by=2.0),
        **card(["4", 0], ["2", 4], filename_prefix="other/one"),
    }
    server.run(prompt)
    assert "these are not the pixels that were judged" in saved(server, "other")[".html"].read_text("utf-8")


def test_verdicts_of_another_count_are_refused(server: ComfyUI) -> None:
    prompt = {**judged(photo(server), judge="local"), **batch(server, 2), **card(["19", 0], ["2", 4])}
    assert failure(server, prompt).startswith("[INVALID_INPUT] ")


@pytest.mark.parametrize("prefix", ["../outside", "/tmp/outside", "a/../../b"])
def test_nothing_is_saved_outside_the_output_folder(server: ComfyUI, prefix: str) -> None:
    prompt = {**judged(photo(server), judge="local"), **card(["1", 0], ["2", 4], filename_prefix=prefix)}
    assert failure(server, prompt).startswith("[INVALID_INPUT] filename_prefix: ")
    assert not (server.base / "outside_00001_.png").exists()
