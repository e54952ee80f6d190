from __future__ import annotations

import json
from decimal import Decimal

import pytest
from support.evaluators import make_client
from support.pictures import picture

from runflow_api import images
from runflow_api.api.client import encode_request
from runflow_api.api.models import EvaluationRequest
from runflow_api.errors import InvalidInputError, InvalidResponseError, NotFoundError, PermissionDeniedError
from runflow_api.sandbox.app import Fault, Sandbox, ScriptedVerdict

BODY = encode_request(EvaluationRequest(generated_image_url="https://images.example/a.png", task_type="headshot"))


@pytest.fixture
def evaluation_id(sandbox: Sandbox) -> str:
    return str(make_client(sandbox).submit(BODY, idempotency_key="k").id)


def test_a_submission_is_pending_and_has_an_id(sandbox: Sandbox) -> None:
    evaluation = make_client(sandbox).submit(BODY, idempotency_key="k")
    assert evaluation.status_code == "pending"
    assert not evaluation.is_terminal
    assert evaluation.job_class_code == "standard"


def test_feedback_is_set_changed_and_cleared(sandbox: Sandbox, evaluation_id: str) -> None:
    client = make_client(sandbox)
    assert client.set_feedback(evaluation_id, True).feedback_is_positive is True
    down = client.set_feedback(evaluation_id, False, "six fingers")
    assert (down.feedback_is_positive, down.feedback_reason) == (False, "six fingers")
    cleared = client.clear_feedback(evaluation_id)
    assert (cleared.feedback_is_positive, cleared.feedback_reason) == (None, None)
    assert sandbox.requests[-1].body == {"is_positive": None, "reason": None}


def test_embeds_are_asked_for_in_one_list(sandbox: Sandbox) -> None:
    sandbox.latency = 0.0
    sandbox.add_verdict(
        ScriptedVerdict(passed=False, judges=[{"name": "hands", "passed": False}], improved_prompt="better")
    )
    client = make_client(sandbox)
    found = client.submit(BODY, idempotency_key="k")
    bare = client.get_evaluation(str(found.id))
    full = client.get_evaluation(str(found.id), embed=["judges", "action"])
    assert (bare.judges, bare.action) == ([], None)
    assert full.judges[0].name == "hands"
    assert full.action is not None and full.action.improved_prompt == "better"


def test_a_run_is_read_with_its_embeds(sandbox: Sandbox) -> None:
    run_id = sandbox.add_run("partial_succeeded")
    run = make_client(sandbox).get_run(run_id, embed=["node_runs", "logs"])
    assert (run.id, run.status_code, run.is_terminal) == (run_id, "partial_succeeded", True)


def test_what_does_not_exist_is_not_found(sandbox: Sandbox) -> None:
    missing = "3c90c3cc-0d44-4b50-8888-8dd25736052a"
    for call in (make_client(sandbox).get_evaluation, make_client(sandbox).get_run):
        with pytest.raises(NotFoundError):
            call(missing)


@pytest.mark.parametrize("bad", ["", "..", "../billing/balance", "a/b", "a?b", "a b", "é", "x" * 129])
def test_an_id_is_no_path(sandbox: Sandbox, bad: str) -> None:
    client = make_client(sandbox)
    for call in (client.get_evaluation, client.get_run, client.clear_feedback):
        with pytest.raises(InvalidInputError):
            call(bad)
    assert sandbox.requests == []


def test_another_evaluations_answer_is_not_taken_for_this_ones(sandbox: Sandbox, evaluation_id: str) -> None:
    other = {"id": "3c90c3cc-0d44-4b50-8888-8dd25736052a", "status_code": "completed", "overall_passed": True}
    sandbox.add_fault(Fault("GET", "/v1/evaluations/.*", "garbage", times=None, body=other))
    with pytest.raises(InvalidResponseError):
        make_client(sandbox).get_evaluation(evaluation_id)


def test_prices_statuses_account_and_balance_are_read(sandbox: Sandbox) -> None:
    client = make_client(sandbox)
    assert {known.code: known.price for known in client.job_classes()}["standard"] == Decimal("0.10")
    assert {status["code"] for status in client.statuses()} >= {"pending", "running", "completed", "failed"}
    assert client.check_account()
    assert "balance" in client.balance()


@pytest.mark.parametrize(
    "answer",
    [
        [{"code": "standard", "price": "0.10"}],
        {"data": [{"code": "standard", "price": "0.10"}], "total": 1},
        {"items": [{"job_class_code": "standard", "price_credits": "0.10"}]},
        [{"id": "standard", "price": {"amount": "0.10", "currency": "credits"}}],
        [{"code": "standard", "cost": "0.10", "extra": None}],
    ],
)
def test_prices_are_read_from_the_shapes_that_apis_use(sandbox: Sandbox, answer: object) -> None:
    sandbox.add_fault(Fault("GET", "/v1/evaluations/job-classes", "garbage", body=answer))
    assert [(known.code, known.price) for known in make_client(sandbox).job_classes()] == [
        ("standard", Decimal("0.10"))
    ]


def test_a_key_without_the_scope_is_told_which_one_it_needs() -> None:
    with Sandbox(keys={"rf_reader": {"evaluations:read"}}) as sandbox:
        client = make_client(sandbox, RUNFLOW_API_KEY="rf_reader")
        with pytest.raises(PermissionDeniedError, match="evaluations:create"):
            client.submit(BODY, idempotency_key="k")


def test_an_uploaded_image_is_an_asset(sandbox: Sandbox) -> None:
    encoded = images.encode_lossless(images.to_pixels(picture()))
    address = make_client(sandbox).upload_asset(encoded)
    assert address.startswith("runflow://assets/")
    asked, put, confirmed = sandbox.requests
    assert asked.body == {"filename": "image.webp", "mime_type": "image/webp", "size_bytes": len(encoded.data)}
    assert put.headers["content-type"] == "image/webp"
    assert "authorization" not in put.headers
    assert confirmed.path.endswith("/confirmations")


def test_a_confirmation_without_a_body_is_one(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("POST", ".*/confirmations", "garbage", status=200, body=""))
    encoded = images.encode_lossless(images.to_pixels(picture(0, 16, 16)))
    assert make_client(sandbox).upload_asset(encoded).startswith("runflow://assets/")
    assert len(sandbox.requests) == 3


def test_a_body_is_compact_utf_8_json_of_what_was_given() -> None:
    attributes = {"größe": 10**40, "none": None, "list": [1.5, True, {"x": None}], "line": 'a\n\u2028"\\'}
    asked = EvaluationRequest(
        generated_image_url="https://images.example/ä.png", task_type="日本", input_attributes=attributes
    )
    body = encode_request(asked)
    assert json.loads(body) == {
        "generated_image_url": "https://images.example/ä.png",
        "task_type": "日本",
        "input_attributes": attributes,
    }
    assert body.startswith('{"generated_image_url":"https://images.example/ä.png","task_type":"日本",'.encode())
