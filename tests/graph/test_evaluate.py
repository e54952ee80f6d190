"""Evaluate → Show Verdict in a real ComfyUI, against the sandbox over real HTTP."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.pictures import picture
from support.prompts import details, evaluate, load_image, node, options, outputs_as_text, reference, show
from support.server import ComfyUI, PromptFailed
from support.waiting import judge_now, wait_until

from runflow_api import images
from runflow_api.sandbox.app import Fault, Sandbox, ScriptedVerdict

SUBMIT = "/v1/evaluations"
_seeds = itertools.count(1)


def photo(server: ComfyUI, channels: int = 3) -> str:
    """A new picture in the server's input folder; its name."""
    seed = next(_seeds)
    pixels = images.to_pixels(picture(seed, channels=channels))
    name = f"photo-{seed}.png"
    Image.fromarray(pixels).save(server.base / "input" / name)
    return name


def gate(name: str, **inputs: Any) -> dict[str, Any]:
    return {**load_image("1", name), **evaluate("2", ["1", 0], **inputs), **show("3", ["2", 4])}


def verdict(history: Any, node_id: str = "3") -> dict[str, Any]:
    (only,) = history.outputs[node_id]["runflow"]
    return only


def failure(server: ComfyUI, prompt: dict[str, Any]) -> str:
    with pytest.raises(PromptFailed) as caught:
        server.run(prompt)
    (error,) = caught.value.history.errors
    return error["exception_message"].strip()


def test_the_five_outputs_come_out_with_nothing_but_an_image(server: ComfyUI, sandbox: Sandbox) -> None:
    sandbox.add_verdict(
        ScriptedVerdict(
            passed=False,
            score=0.41,
            issues=["six fingers on the left hand"],
            improved_prompt="a hand with five fingers",
            gate_failures=[{"module": "face", "reason": "two faces"}],
            judges=[{"name": "anatomy", "passed": False, "issues": ["a bent wrist"]}],
        )
    )
    before = len(sandbox.requests)
    history = server.run({**gate(photo(server)), **outputs_as_text("2", 4)})
    assert [history.outputs[f"2-{n}"]["text"] for n in range(4)] == [
        ["False"],
        ["0.41"],
        ["six fingers on the left hand\nface: two faces\nanatomy: a bent wrist"],
        ["a hand with five fingers"],
    ]
    shown = verdict(history)
    assert shown == verdict(history, "2")
    assert (shown["judge"], shown["verdict"], shown["cost"], shown["reused"]) == ("runflow", "failed", "0.10", False)
    made = sandbox.requests[before:]
    assert [each.query for each in made if each.method == "GET"][-1] == {"embed": ["judges,action,gate_failures"]}
    assert all(each.query == {} for each in made[:-1])


@pytest.mark.parametrize("channels", [3, 4])
def test_the_image_that_arrives_has_exactly_the_pixels_of_the_graph(
    server: ComfyUI, sandbox: Sandbox, channels: int
) -> None:
    name = photo(server, channels)
    prompt = {**gate(name), **node("4", "SaveImage", images=["1", 0], filename_prefix=f"same-{channels}")}
    history = server.run(prompt)
    (saved,) = history.outputs["4"]["images"]
    written = np.asarray(Image.open(server.base / "output" / saved["filename"]))
    assert np.array_equal(sandbox.evaluations[verdict(history)["id"]].pixels(), written)


def test_a_batch_gets_a_verdict_for_each_image_in_order(server: ComfyUI, sandbox: Sandbox) -> None:
    names = [photo(server), photo(server)]
    prompt = {
        **load_image("a", names[0]),
        **load_image("b", names[1]),
        **node("c", "ImageBatch", image1=["a", 0], image2=["b", 0]),
        **evaluate("2", ["c", 0]),
        **show("3", ["2", 4]),
    }
    shown = server.run(prompt).outputs["3"]["runflow"]
    for name, each in zip(names, shown, strict=True):
        sent = sandbox.evaluations[each["id"]].pixels()
        assert np.array_equal(sent, np.asarray(Image.open(server.base / "input" / name)))


def test_nine_evaluations_of_one_prompt_wait_together(server: ComfyUI, sandbox: Sandbox) -> None:
    sandbox.latency = 600.0
    prompt = {}
    for number in range(9):
        prompt |= {
            **load_image(f"{number}1", photo(server)),
            **evaluate(f"{number}2", [f"{number}1", 0]),
            **show(f"{number}3", [f"{number}2", 4]),
        }
    before = len(sandbox.evaluations)
    prompt_id = server.post(prompt)
    wait_until(lambda: len(sandbox.evaluations) == before + 9)  # none of them has a verdict yet
    judge_now(sandbox)
    assert server.wait(prompt_id).status == "success"


def test_the_node_says_what_it_does_and_the_last_line_stays(server: ComfyUI, sandbox: Sandbox) -> None:
    sandbox.latency = 2.5
    history = server.run(gate(photo(server)))
    *waiting, last = history.texts["2"]
    assert any("waiting for the verdict" in text for text in waiting)
    assert verdict(history)["verdict"] in last
    assert "0.10 credits" in last
    assert len(history.progress("2")) >= 2


def test_a_null_verdict_never_passes(server: ComfyUI, sandbox: Sandbox) -> None:
    for if_not_judged in ("stop", "fail", "pass"):
        sandbox.add_verdict(ScriptedVerdict(null=True))
        shown = verdict(server.run(gate(photo(server), if_not_judged=if_not_judged)))
        assert (shown["verdict"], shown["passed"]) == ("unknown", False)


def test_a_failed_evaluation_counts_as_decided_and_is_asked_again_at_the_next_queue(
    server: ComfyUI, sandbox: Sandbox
) -> None:
    prompt = gate(photo(server), if_not_judged="pass")
    sandbox.add_verdict(ScriptedVerdict(failure_code="processing_failed"))
    shown = verdict(server.run(prompt))
    assert (shown["verdict"], shown["passed"], shown["error"]) == ("unknown", True, "EVALUATION_FAILED")
    assert "processing_failed" in shown["issues"][0]
    assert verdict(server.run(prompt))["verdict"] in ("passed", "failed")
    assert "2" in server.run(prompt).cached


def test_a_stop_names_the_failure_and_saves_the_image(server: ComfyUI, sandbox: Sandbox) -> None:
    name = photo(server)
    sandbox.add_verdict(ScriptedVerdict(failure_code="processing_failed"))
    said = failure(server, gate(name))
    assert said.startswith("[EVALUATION_FAILED] ")
    assert "processing_failed" in said
    saved = server.base / "output" / said.rsplit("Saved to output/", 1)[1].rstrip(".")
    assert np.array_equal(np.asarray(Image.open(saved)), np.asarray(Image.open(server.base / "input" / name)))


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (401, "UNAUTHORIZED", "RUNFLOW_API_KEY"),
        (402, "INSUFFICIENT_CREDIT", "credit balance"),
        (403, "PERMISSION_DENIED", "evaluations:create"),
        (422, "VALIDATION_ERROR", "task_type: too long"),
    ],
)
def test_a_refusal_is_sent_once_and_says_what_to_do(
    server: ComfyUI, sandbox: Sandbox, status: int, code: str, advice: str
) -> None:
    body = {"code": code, "message": "no", "errors": [{"field": "task_type", "message": "too long"}]}
    sandbox.add_fault(Fault("POST", SUBMIT, "status", times=None, status=status, body=body))
    before = len(sandbox.requests)
    said = failure(server, gate(photo(server)))
    assert said.startswith(f"[{code}] ")
    assert advice in said
    assert len(sandbox.requests) == before + 1


def test_a_wrong_choice_is_refused_by_name_before_anything_is_sent(server: ComfyUI, sandbox: Sandbox) -> None:
    before = len(sandbox.requests)
    for inputs in ({"judge": "nobody"}, {"if_not_judged": "shrug"}):
        with pytest.raises(PromptFailed, match=next(iter(inputs))):
            server.run(gate(photo(server), **inputs))
    for limits, name in (
        ({"timeout_s": 0}, "timeout_s"),
        ({"run_id": "no-uuid"}, "run_id"),
        ({"input_attributes": "[1]"}, "input_attributes"),
        ({"callback_url": "https://collector.example/hook"}, "callback_url"),
        ({"upload": "carrier pigeon"}, "upload"),
    ):
        with pytest.raises(PromptFailed, match=name):
            server.run({**gate(photo(server), options=["9", 0]), **options("9", **limits)})
    assert len(sandbox.requests) == before


def test_references_and_options_reach_the_api(server: ComfyUI, sandbox: Sandbox) -> None:
    prompt = {
        **gate(photo(server), references=["6", 0], options=["7", 0], evaluation_instructions="the same coat"),
        **load_image("4", photo(server)),
        **reference("5", image=["4", 0], kind="identity"),
        **reference("6", url="https://images.example/coat.png", kind="garment", references=["5", 0]),
        **options("7", input_attributes='{"style": "plain"}', client_ref="mine"),
    }
    server.run(prompt)
    body = next(each.body for each in reversed(sandbox.requests) if each.method == "POST")
    assert [each["kind"] for each in body["reference_images"]] == ["identity", "garment"]
    assert (body["input_attributes"], body["client_ref"]) == ({"style": "plain"}, "mine")


def test_a_reference_is_an_image_or_a_url(server: ComfyUI) -> None:
    prompt = {**gate(photo(server), references=["5", 0]), **reference("5")}
    assert failure(server, prompt).startswith("[INVALID_INPUT] references:")


def test_details_give_the_rest_of_the_answer(server: ComfyUI, sandbox: Sandbox) -> None:
    sandbox.add_verdict(
        ScriptedVerdict(
            passed=False,
            score=0.2,
            strengths=["good light"],
            judges=[{"name": "anatomy", "passed": False, "confidence": 0.9, "reasoning": "six | fingers"}],
            gate_failures=[{"output_key": "image", "module": "face", "reason": "two faces"}],
            failure_summary="the hand is wrong",
            action_code="regenerate",
        )
    )
    prompt = {**gate(photo(server)), **details("4", ["2", 4]), **outputs_as_text("4", 9)}
    history = server.run(prompt)
    texts = [history.outputs[f"4-{n}"]["text"][0] for n in range(9)]
    assert texts[0] == verdict(history)["id"]
    assert texts[1:3] == ["completed", "good light"]
    assert "| anatomy |" in texts[3]
    assert "six \\| fingers" in texts[3]
    assert texts[4:8] == ["image: face: two faces", "regenerate", "the hand is wrong", "0.10"]
    assert '"weighted_pass_rate": 0.2' in texts[8]


def test_queueing_again_pays_nothing(server: ComfyUI, sandbox: Sandbox) -> None:
    prompt = gate(photo(server))
    server.run(prompt)
    paid = len(sandbox.bills)
    assert {"1", "2", "3"} >= server.run(prompt).cached >= {"1", "2"}
    prompt["2"]["inputs"]["min_score"] = 0.01  # another rule: the node runs, the verdict is known
    assert verdict(server.run(prompt))["reused"]
    assert len(sandbox.bills) == paid


def test_without_reuse_every_queue_pays(server: ComfyUI, sandbox: Sandbox) -> None:
    prompt = {**gate(photo(server), options=["9", 0]), **options("9", reuse=False)}
    ids = {verdict(server.run(prompt))["id"] for _ in range(2)}
    assert len(ids) == 2


# --- without a key --------------------------------------------------------------------------------------


def test_without_a_key_the_local_judge_answers_and_says_so(comfyui: ComfyUI) -> None:
    shown = verdict(comfyui.run(gate(photo(comfyui))))
    assert (shown["judge"], shown["cost"]) == ("local", "0")
    assert "content not judged" in " ".join(shown["notes"])


def test_without_a_key_content_is_not_guessed(comfyui: ComfyUI) -> None:
    said = failure(comfyui, gate(photo(comfyui), evaluation_instructions="count the fingers"))
    assert said.startswith("[NEEDS_RUNFLOW_KEY] ")
    assert "needs a Runflow key (Settings → Runflow Evaluate, or" in said
    assert "set judge to local for pixel checks only" in said
    shown = verdict(comfyui.run(gate(photo(comfyui), evaluation_instructions="count", if_not_judged="pass")))
    assert (shown["verdict"], shown["passed"]) == ("unknown", True)


def test_without_a_key_runflow_says_how_to_set_it(comfyui: ComfyUI) -> None:
    said = failure(comfyui, gate(photo(comfyui), judge="runflow", if_not_judged="pass"))
    assert said.startswith("[MISSING_API_KEY] RUNFLOW_API_KEY is not set")


def test_off_passes_and_asks_nobody(comfyui: ComfyUI) -> None:
    shown = verdict(comfyui.run(gate(photo(comfyui), judge="off")))
    assert (shown["judge"], shown["verdict"], shown["passed"]) == ("off", "unknown", True)
