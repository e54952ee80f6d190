"""The fault table: every operation of the client, every kind of trouble. Each ends well, or in a coded error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.evaluators import make_client
from support.pictures import picture

from runflow_api import images
from runflow_api.api.client import RunflowClient, encode_request
from runflow_api.api.models import EvaluationRequest
from runflow_api.api.transport import MAX_ATTEMPTS, Deadline
from runflow_api.errors import RunflowError
from runflow_api.sandbox.app import Fault, Sandbox

ID = "[0-9a-f-]{36}"
BODY = encode_request(EvaluationRequest(generated_image_url="https://images.example/a.png", task_type="headshot"))
SMALL = images.encode_lossless(images.to_pixels(picture(0, 16, 16)))

Call = Callable[[RunflowClient, dict[str, str], Deadline], Any]
OPERATIONS: dict[str, tuple[str, str, Call]] = {
    "submit": ("POST", "/v1/evaluations", lambda c, _, p: c.submit(BODY, idempotency_key="k", deadline=p).id),
    "poll": ("GET", f"/v1/evaluations/{ID}", lambda c, ids, p: c.get_evaluation(ids["evaluation"], deadline=p).id),
    "ask for an upload": ("POST", "/v1/asset-uploads", lambda c, _, p: c.upload_asset(SMALL, deadline=p)),
    "upload": ("PUT", "/.*", lambda c, _, p: c.upload_asset(SMALL, deadline=p)),
    "confirm": ("POST", f"/v1/asset-uploads/{ID}/confirmations", lambda c, _, p: c.upload_asset(SMALL, deadline=p)),
    "feedback": (
        "PATCH",
        f"/v1/evaluations/{ID}/feedback",
        lambda c, ids, p: c.set_feedback(ids["evaluation"], False, "six fingers", deadline=p).feedback_reason,
    ),
    "run": ("GET", f"/v1/runs/{ID}", lambda c, ids, p: c.get_run(ids["run"], deadline=p).id),
    "prices": ("GET", "/v1/evaluations/job-classes", lambda c, _, p: c.job_classes(deadline=p)[0].price),
    "balance": ("GET", "/v1/billing/balance", lambda c, _, p: c.balance(deadline=p)["balance"]),
}
FAULTS: dict[str, dict[str, Any]] = {
    "dropped before acting": {"kind": "drop_before"},
    "dropped after acting": {"kind": "drop_after"},
    "500": {"kind": "status", "status": 500},
    "503 with Retry-After": {"kind": "status", "status": 503, "retry_after": "0"},
    "429": {"kind": "status", "status": 429},
    "429 with seconds": {"kind": "status", "status": 429, "retry_after": "0"},
    "429 with a date": {"kind": "status", "status": 429, "retry_after": "date:0"},
    "429 with nonsense": {"kind": "status", "status": 429, "retry_after": "tomorrow"},
    "HTML 502": {"kind": "html"},
    "garbage": {"kind": "garbage"},
    "not UTF-8": {"kind": "not_utf8"},
    "truncated": {"kind": "truncated"},
    "never answers": {"kind": "hang"},
}
HARMLESS_FOR_AN_UPLOAD = {"garbage", "not UTF-8", "truncated"}
"""Nobody needs the body of the answer to a PUT."""


@pytest.fixture
def ids(sandbox: Sandbox) -> dict[str, str]:
    evaluation = make_client(sandbox).submit(BODY, idempotency_key="before").id
    return {"evaluation": str(evaluation), "run": sandbox.add_run()}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_trouble_that_passes_is_not_noticed(sandbox: Sandbox, ids: dict[str, str], operation: str, fault: str) -> None:
    method, path, call = OPERATIONS[operation]
    sandbox.add_fault(Fault(method, path, times=2, **FAULTS[fault]))
    client = make_client(sandbox, read_timeout=0.3)
    assert call(client, ids, Deadline.after(20))
    assert sandbox.evaluations.keys() >= {ids["evaluation"]}
    assert len(sandbox.evaluations) <= 2  # a submission that was repeated is one evaluation
    client.close()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_trouble_that_stays_is_a_coded_error_that_says_what_was_tried(
    sandbox: Sandbox, ids: dict[str, str], operation: str, fault: str
) -> None:
    method, path, call = OPERATIONS[operation]
    if operation == "upload" and fault in HARMLESS_FOR_AN_UPLOAD:
        return
    sandbox.add_fault(Fault(method, path, times=None, **FAULTS[fault]))
    before = len(sandbox.requests)
    client = make_client(sandbox, read_timeout=0.1)
    with pytest.raises(RunflowError) as caught:
        call(client, ids, Deadline.after(1.0 if "429" in fault else 30.0))
    assert str(caught.value).startswith(f"[{caught.value.code}] ")
    assert "Tried " in str(caught.value)
    if "429" not in fault:
        matching = [each for each in sandbox.requests[before:] if each.method == method and each.fault]
        assert len(matching) == MAX_ATTEMPTS
    client.close()
