"""The sandbox over real HTTP, as any client meets it."""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import archive
import numpy as np
import pytest
import requests
from PIL import Image

from runflow_api.api.models import EVALUATION_EMBEDS, RUN_EMBEDS, Evaluation, Run
from runflow_api.cli import commands
from runflow_api.cli import sandbox as sandbox_command
from runflow_api.errors import InvalidInputError
from runflow_api.sandbox.app import Fault, Sandbox, ScriptedVerdict
from runflow_api.sandbox.faults import load_script, parse_fault

KEY = "rf_test_sandbox"
PIXELS = np.random.default_rng(7).integers(0, 256, (32, 48, 3), dtype=np.uint8)


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """A session with a key, and the few calls that most tests make."""

    def __init__(self, sandbox: Sandbox, session: requests.Session, key: str | None = KEY) -> None:
        self.sandbox, self.session, self.key = sandbox, session, key

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        headers.update(options.pop("headers", {}))
        options.setdefault("timeout", 10)
        return self.session.request(method, self.sandbox.url + path, headers=headers, allow_redirects=False, **options)

    def submit(self, key: str | None = None, timeout: float = 10, **fields: Any) -> requests.Response:
        body = {"generated_image_url": data_uri(), "task_type": "image_generation", **fields}
        headers = {"Idempotency-Key": key} if key else {}
        return self.call("POST", "/v1/evaluations", json=body, headers=headers, timeout=timeout)

    def get(self, evaluation_id: str, embed: str = "") -> dict[str, Any]:
        answer = self.call("GET", f"/v1/evaluations/{evaluation_id}", params={"embed": embed} if embed else {})
        assert answer.status_code == 200
        return dict(answer.json())

    def as_key(self, key: str | None) -> Client:
        return Client(self.sandbox, self.session, key)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as one:
        one.trust_env = False
        yield one


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    keys = {"rf_test_reader": {"evaluations:read"}, "rf_test_nothing": set[str]()}
    with Sandbox(latency=8.0, clock=clock, judge=says_passed, keys=keys) as one:
        yield one


@pytest.fixture
def client(sandbox: Sandbox, session: requests.Session) -> Client:
    return Client(sandbox, session)


def says_passed(image: Any, *, references: Any = (), prompt: str = "") -> Evaluation:
    """A judge that tells what it was given."""
    shapes = [list(one.shape) for one in (image, *references)]
    strengths = [f"shape {shape}" for shape in shapes] + [f"prompt {prompt}"]
    return Evaluation(overall_passed=True, weighted_pass_rate=0.75, top_strengths=strengths)


def encoded(pixels: Any = PIXELS, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def data_uri(data: bytes | None = None, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(encoded() if data is None else data).decode()}"


def error_fields(answer: requests.Response) -> list[str]:
    return [error["field"] for error in answer.json()["errors"]]


# --- serving --------------------------------------------------------------------------------------


def test_the_root_says_what_it_is_and_that_nothing_is_charged(client: Client) -> None:
    answer = client.as_key(None).call("GET", "/")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "sandbox" in answer.text and "Nothing is charged" in answer.text


def test_it_listens_on_loopback_only(sandbox: Sandbox) -> None:
    assert sandbox.url.startswith("http://127.0.0.1:")
    assert sandbox._server is not None and sandbox._server.server_address[0] == "127.0.0.1"


def test_one_connection_serves_many_requests(client: Client, sandbox: Sandbox) -> None:
    for _ in range(5):
        client.call("GET", "/v1/auth/me")
    assert client.submit(task_type="").status_code == 422
    assert client.call("GET", "/v1/nowhere").status_code == 404
    assert sandbox.connections == 1


def test_nothing_is_left_running_after_it_stopped() -> None:
    before = set(threading.enumerate())
    with Sandbox(faults=[Fault(kind="hang")]) as sandbox:
        with socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2]))) as hung:
            hung.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            sandbox.wait_for_requests("GET")
            sandbox.stop()
            assert hung.recv(1) == b""
    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]


def test_it_comes_back_at_the_same_address_with_its_state(client: Client, sandbox: Sandbox) -> None:
    url, evaluation_id = sandbox.url, client.submit().json()["id"]
    sandbox.stop()
    with pytest.raises(requests.ConnectionError):
        client.call("GET", "/")
    sandbox.start()
    assert sandbox.url == url
    assert client.get(evaluation_id)["id"] == evaluation_id


def test_an_address_before_the_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="not been started"):
        _ = Sandbox().url


def test_requests_are_recorded_without_the_key(client: Client, sandbox: Sandbox) -> None:
    client.submit(key="once", client_ref="mine")
    client.call("GET", "/v1/evaluations/x", params={"embed": "action"})
    submitted, read = sandbox.requests
    assert (submitted.method, submitted.path, submitted.status) == ("POST", "/v1/evaluations", 202)
    assert submitted.body["client_ref"] == "mine"
    assert submitted.header("Idempotency-Key") == "once"
    assert read.query == {"embed": ["action"]} and read.body is None and read.at >= submitted.at
    assert KEY not in repr(sandbox.requests)


def test_waiting_for_a_request_that_does_not_come_times_out(sandbox: Sandbox) -> None:
    with pytest.raises(TimeoutError, match="0 of 1 requests POST"):
        sandbox.wait_for_requests("POST", timeout=0.01)


def test_bodies_are_not_kept_where_that_is_asked_for(session: requests.Session, clock: Clock) -> None:
    with Sandbox(latency=0, judge=says_passed, keep_bodies=False) as sandbox:
        client = Client(sandbox, session)
        evaluation_id = client.submit().json()["id"]
        assert client.get(evaluation_id)["overall_passed"] is True
        assert sandbox.requests[0].body is None
        assert sandbox.evaluations[evaluation_id].image is None


# --- credentials ----------------------------------------------------------------------------------

ENDPOINTS = [
    ("POST", "/v1/evaluations"),
    ("GET", "/v1/evaluations/x"),
    ("PATCH", "/v1/evaluations/x/feedback"),
    ("GET", "/v1/evaluations/job-classes"),
    ("GET", "/v1/evaluations/statuses"),
    ("GET", "/v1/runs/x"),
    ("GET", "/v1/auth/me"),
    ("GET", "/v1/billing/balance"),
    ("POST", "/v1/asset-uploads"),
    ("POST", "/v1/asset-uploads/x/confirmations"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}])
def test_a_missing_or_wrong_key_is_a_401(client: Client, method: str, path: str, header: dict[str, str]) -> None:
    answer = client.as_key(None).call(method, path, headers=header)
    assert answer.status_code == 401
    assert answer.json() == {"code": "UNAUTHORIZED", "message": answer.json()["message"], "errors": []}


def test_a_key_without_the_scope_is_a_403_that_names_it(client: Client) -> None:
    reader, nothing = client.as_key("rf_test_reader"), client.as_key("rf_test_nothing")
    refused = reader.submit()
    assert refused.status_code == 403
    assert refused.json()["code"] == "PERMISSION_DENIED" and "evaluations:create" in refused.json()["message"]
    evaluation_id = client.submit().json()["id"]
    assert reader.get(evaluation_id)["id"] == evaluation_id
    assert "evaluations:read" in nothing.call("GET", f"/v1/evaluations/{evaluation_id}").json()["message"]
    patched = reader.call("PATCH", f"/v1/evaluations/{evaluation_id}/feedback", json={"is_positive": True})
    assert "evaluations:edit" in patched.json()["message"]


def test_the_account_confirms_the_key_and_its_scopes(client: Client) -> None:
    assert client.call("GET", "/v1/auth/me").json()["scopes"] == ["*"]
    assert client.as_key("rf_test_reader").call("GET", "/v1/auth/me").json()["scopes"] == ["evaluations:read"]


def test_evaluations_belong_to_the_organisation_that_submitted_them(client: Client) -> None:
    theirs = {"X-Organization-Id": str(uuid.uuid4())}
    body = {"generated_image_url": data_uri(), "task_type": "x"}
    answer = client.call("POST", "/v1/evaluations", json=body, headers=theirs).json()
    assert answer["org_id"] == theirs["X-Organization-Id"]
    assert client.call("GET", f"/v1/evaluations/{answer['id']}").status_code == 404
    assert client.call("GET", f"/v1/evaluations/{answer['id']}", headers=theirs).status_code == 200


def test_another_organisation_than_the_keys_is_refused(session: requests.Session) -> None:
    with Sandbox(org_id=str(uuid.uuid4())) as sandbox:
        client = Client(sandbox, session)
        answer = client.call("GET", "/v1/auth/me", headers={"X-Organization-Id": str(uuid.uuid4())})
        assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED")
        assert client.call("GET", "/v1/auth/me").json()["org_id"] == sandbox.org_id


# --- limits ---------------------------------------------------------------------------------------

TOO_LONG_TEXTS = {
    "task_type": 100,
    "task_description": 4_000,
    "generation_prompt": 10_000,
    "evaluation_instructions": 4_000,
    "client_ref": 255,
}


@pytest.mark.parametrize(("name", "limit"), TOO_LONG_TEXTS.items())
def test_a_text_may_be_as_long_as_its_limit_and_no_longer(client: Client, name: str, limit: int) -> None:
    assert client.submit(**{name: "é" * limit}).status_code == 202
    answer = client.submit(**{name: "é" * (limit + 1)})
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_ERROR")
    assert error_fields(answer) == [name]
    assert str(limit) in answer.json()["errors"][0]["message"]


REFUSED = [
    ({"task_type": ""}, "task_type"),
    ({"task_type": None}, "task_type"),
    ({"task_type": 7}, "task_type"),
    ({"unknown": 1}, "unknown"),
    ({"input_attributes": ["a"]}, "input_attributes"),
    ({"input_attributes": "{}"}, "input_attributes"),
    ({"run_id": "run-1"}, "run_id"),
    ({"job_class": "quick"}, "job_class"),
    ({"job_class": "fancy"}, "job_class"),
    ({"job_class": "x" * 51}, "job_class"),
    ({"callback_url": "http://example.com/hook"}, "callback_url"),
    ({"callback_url": "https://"}, "callback_url"),
    ({"callback_url": "https://example.com/" + "x" * 2_029}, "callback_url"),
    ({"generated_image_url": ""}, "generated_image_url"),
    ({"generated_image_url": "http://example.com/a.png"}, "generated_image_url"),
    ({"generated_image_url": "file:///etc/passwd"}, "generated_image_url"),
    ({"generated_image_url": "https://user:secret@example.com/a.png"}, "generated_image_url"),
    ({"generated_image_url": "runflow://assets/7"}, "generated_image_url"),
    ({"generated_image_url": f"runflow://assets/{uuid.uuid4()}"}, "generated_image_url"),
    ({"generated_image_url": "data:text/plain;base64,YWJj"}, "generated_image_url"),
    ({"generated_image_url": "data:image/png,abc"}, "generated_image_url"),
    ({"generated_image_url": "data:image/png;base64,a$b="}, "generated_image_url"),
    ({"generated_image_url": "data:image/png;base64,"}, "generated_image_url"),
    ({"reference_images": {"url": "https://example.com/a.png"}}, "reference_images"),
    ({"reference_images": [{"url": "https://example.com/a.png"}] * 5}, "reference_images"),
    ({"reference_images": [{"url": "https://example.com/a.png"}, {"url": "ftp://a"}]}, "reference_images[1].url"),
    ({"reference_images": [{"kind": "identity"}]}, "reference_images[0].url"),
    ({"reference_images": [{"url": "https://example.com/a.png", "weight": 1}]}, "reference_images[0].weight"),
]


@pytest.mark.parametrize(("fields", "name"), REFUSED)
def test_a_body_that_breaks_a_rule_is_a_422_that_names_the_field(
    client: Client, sandbox: Sandbox, fields: dict[str, Any], name: str
) -> None:
    answer = client.submit(**fields)
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_ERROR")
    assert error_fields(answer) == [name]
    assert sandbox.evaluations == {}


def test_every_field_at_fault_is_named_and_no_value_is_quoted(client: Client) -> None:
    answer = client.submit(task_type="", client_ref="s3cret" * 100, extra="s3cret")
    assert sorted(error_fields(answer)) == ["client_ref", "extra", "task_type"]
    assert "s3cret" not in answer.text


def test_a_missing_required_field_is_named(client: Client) -> None:
    answer = client.call("POST", "/v1/evaluations", json={})
    assert error_fields(answer) == ["generated_image_url", "task_type"]


def test_an_image_url_has_at_most_twelve_million_characters(client: Client) -> None:
    head = "data:image/png;base64,"
    room = (12_000_000 - len(head)) // 4 * 4
    assert client.submit(generated_image_url=head + "A" * room).status_code == 202
    answer = client.submit(generated_image_url=head + "A" * (room + 4))
    assert error_fields(answer) == ["generated_image_url"]
    assert "12000000" in answer.json()["errors"][0]["message"]


def test_every_optional_field_may_be_null(client: Client) -> None:
    names = ("task_description", "generation_prompt", "evaluation_instructions", "input_attributes", "run_id")
    more = ("reference_images", "client_ref", "job_class", "callback_url")
    assert client.submit(**dict.fromkeys(names + more)).status_code == 202


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000])
def test_a_body_that_is_not_json_is_a_400(client: Client, raw: bytes) -> None:
    answer = client.call("POST", "/v1/evaluations", data=raw, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


def test_json_sent_as_something_else_is_a_400(client: Client) -> None:
    answer = client.call("POST", "/v1/evaluations", data=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 400 and "application/json" in answer.json()["message"]


def test_a_json_body_that_is_no_object_is_a_422(client: Client) -> None:
    answer = client.call("POST", "/v1/evaluations", json=["a"])
    assert answer.status_code == 422 and error_fields(answer) == ["body"]


def test_a_body_without_a_length_is_a_411(client: Client) -> None:
    answer = client.call("POST", "/v1/evaluations", data=iter([b"{}"]))
    assert answer.status_code == 411


def test_a_body_beyond_every_limit_is_a_413_before_it_is_read(client: Client) -> None:
    request = requests.Request("POST", client.sandbox.url + "/v1/evaluations").prepare()
    request.headers["Content-Length"] = "80000001"
    answer = client.session.send(request, timeout=60)
    assert answer.status_code == 413 and answer.headers["Connection"] == "close"


def test_an_unknown_id_is_a_404_with_its_own_code(client: Client) -> None:
    unknown = uuid.uuid4()
    assert client.call("GET", f"/v1/evaluations/{unknown}").json()["code"] == "EVALUATION_NOT_FOUND"
    assert client.call("GET", f"/v1/runs/{unknown}").json()["code"] == "RUN_NOT_FOUND"
    assert client.submit(run_id=str(unknown)).json()["code"] == "RUN_NOT_FOUND"
    feedback = client.call("PATCH", f"/v1/evaluations/{unknown}/feedback", json={"is_positive": True})
    assert (feedback.status_code, feedback.json()["code"]) == (404, "EVALUATION_NOT_FOUND")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_a_wrong_method_is_a_405_that_says_which_is_right(client: Client, method: str) -> None:
    answer = client.call(method, "/v1/evaluations")
    assert answer.status_code == 405 and answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("path", ["/v1/evaluations/x", "/v1/runs/x"])
def test_an_unknown_embed_is_a_422(client: Client, path: str) -> None:
    answer = client.call("GET", path, params={"embed": "model,everything"})
    assert answer.status_code == 422 and error_fields(answer) == ["embed"]
    assert "everything" in answer.json()["errors"][0]["message"]


# --- an evaluation's life -------------------------------------------------------------------------


def test_an_evaluation_is_pending_then_running_then_completed(client: Client, clock: Clock) -> None:
    submitted = client.submit()
    assert submitted.status_code == 202 and submitted.json()["status_code"] == "pending"
    evaluation_id = submitted.json()["id"]
    seen = []
    for moment in (1.9, 2.0, 7.9, 8.0, 100.0):
        clock.now = 1000.0 + moment
        seen.append(client.get(evaluation_id)["status_code"])
    assert seen == ["pending", "running", "running", "completed", "completed"]


def test_a_submission_is_answered_as_pending_even_where_there_is_no_latency(client: Client, sandbox: Sandbox) -> None:
    sandbox.latency = 0
    submitted = client.submit().json()
    assert (submitted["status_code"], submitted["completed_at"], submitted["cost"]) == ("pending", None, None)
    assert client.get(submitted["id"])["status_code"] == "completed"


def test_an_answer_has_every_field_of_the_reference_and_only_the_embeds_asked_for(client: Client, clock: Clock) -> None:
    plain = set(Evaluation.model_fields) - EVALUATION_EMBEDS | {"sandbox"}
    submitted = client.submit().json()
    assert set(submitted) == plain
    for clock.now in (1000.0, 1008.0):
        assert set(client.get(submitted["id"])) == plain
        assert set(client.get(submitted["id"], "judges, action")) == plain | {"judges", "action"}
        assert set(client.get(submitted["id"], ",".join(EVALUATION_EMBEDS))) == plain | EVALUATION_EMBEDS


def test_what_was_submitted_is_echoed_but_not_the_image(client: Client) -> None:
    run_id = client.sandbox.add_run()
    fields = {
        "task_type": "headshot",
        "task_description": "a portrait",
        "generation_prompt": "a man, smiling",
        "evaluation_instructions": "ignore the background",
        "input_attributes": {"style": {"name": "corporate"}},
        "run_id": run_id,
        "client_ref": "mine",
        "callback_url": "https://example.com/hook",
    }
    reference = {"url": data_uri(), "kind": "identity", "description": "him"}
    answer = client.submit(**fields, reference_images=[reference]).json()
    assert {name: answer[name] for name in fields} == fields
    assert answer["job_class_code"] == "standard"
    assert answer["generated_image_url"].startswith("https://")
    assert answer["reference_images"][0] == {**reference, "url": answer["reference_images"][0]["url"]}
    assert "data:" not in json.dumps(answer)


def test_moments_cost_and_duration_appear_when_it_has_ended(client: Client, clock: Clock) -> None:
    submitted = client.submit().json()
    assert [submitted[name] for name in ("completed_at", "cost", "eval_duration_ms")] == [None] * 3
    clock.now += 8
    ended = client.get(submitted["id"])
    assert ended["cost"] == "0.10" and ended["eval_duration_ms"] == 8000
    assert ended["submitted_at"] == submitted["submitted_at"] < ended["completed_at"]
    assert ended["completed_at"].endswith("Z")


def test_the_judge_gets_the_pixels_the_references_and_the_prompt(client: Client, clock: Clock) -> None:
    grey = data_uri(encoded(PIXELS[:, :, 0]))
    rgba = data_uri(encoded(np.dstack([PIXELS, PIXELS[:, :, :1]]), "WEBP", lossless=True), "image/webp")
    references = [{"url": grey}, {"url": "https://example.com/never-fetched.png"}, {"url": rgba}]
    evaluation_id = client.submit(generation_prompt="a cat", reference_images=references).json()["id"]
    clock.now += 8
    verdict = client.get(evaluation_id)
    shapes = ["shape [32, 48, 3]", "shape [32, 48, 1]", "shape [32, 48, 4]"]
    assert verdict["top_strengths"] == [*shapes, "prompt a cat"]
    assert (verdict["overall_passed"], verdict["weighted_pass_rate"]) == (True, 0.75)


def test_the_submitted_pixels_can_be_looked_at(client: Client) -> None:
    evaluation_id = client.submit().json()["id"]
    pixels = client.sandbox.evaluations[evaluation_id].pixels()
    assert pixels is not None and np.array_equal(pixels, PIXELS)


def test_sixteen_bit_grey_and_palettes_are_decoded(client: Client, clock: Clock) -> None:
    deep = np.full((8, 8), 65535, dtype=np.uint16)
    file = io.BytesIO()
    Image.fromarray(PIXELS).quantize(4).save(file, "PNG")
    ids = [client.submit(generated_image_url=data_uri(data)).json()["id"] for data in (encoded(deep), file.getvalue())]
    grey, palette = (client.sandbox.evaluations[one].pixels() for one in ids)
    assert grey is not None and grey.shape == (8, 8, 1) and grey.min() == 255
    assert palette is not None and palette.shape == (32, 48, 3)


def test_the_local_judge_judges_where_nothing_else_was_chosen(session: requests.Session) -> None:
    flat = np.zeros((300, 300, 3), dtype=np.uint8)
    with Sandbox(latency=0) as sandbox:
        client = Client(sandbox, session)
        evaluation_id = client.submit(generated_image_url=data_uri(encoded(flat))).json()["id"]
        verdict = client.get(evaluation_id, "judges,action,gate_failures")
    assert verdict["status_code"] == "completed" and verdict["overall_passed"] is False
    assert verdict["judges"] and all(judge["evaluation_id"] == evaluation_id for judge in verdict["judges"])
    assert Evaluation.model_validate(verdict).action is not None


@pytest.mark.parametrize("broken", ["generated_image_url", "reference_images"])
def test_an_undecodable_image_fails_as_invalid_media_and_is_not_billed(
    client: Client, sandbox: Sandbox, clock: Clock, broken: str
) -> None:
    uri = data_uri(encoded()[:60])
    fields = {broken: uri if broken == "generated_image_url" else [{"url": uri}]}
    evaluation_id = client.submit(**fields).json()["id"]
    clock.now += 8
    ended = client.get(evaluation_id)
    assert (ended["status_code"], ended["failure_code"]) == ("failed", "invalid_media")
    assert ended["overall_passed"] is None and ended["cost"] is None
    assert sandbox.bills == [] and sandbox.balance == 100


def test_an_https_image_is_not_fetched_and_gets_no_verdict(client: Client, clock: Clock) -> None:
    url = "https://example.com/a.png"
    evaluation_id = client.submit(generated_image_url=url).json()["id"]
    clock.now += 8
    ended = client.get(evaluation_id)
    assert (ended["status_code"], ended["overall_passed"], ended["weighted_pass_rate"]) == (
        "completed",
        None,
        None,
    )
    assert "not fetched in the sandbox" in ended["override_reason"]
    assert ended["generated_image_url"] == url


def test_feedback_is_set_and_cleared_and_its_reason_goes_with_it(client: Client) -> None:
    path = f"/v1/evaluations/{client.submit().json()['id']}/feedback"
    liked = client.call("PATCH", path, json={"is_positive": True, "reason": "sharp"}).json()
    assert (liked["feedback_is_positive"], liked["feedback_reason"]) == (True, "sharp")
    assert set(liked) == set(Evaluation.model_fields) - EVALUATION_EMBEDS | {"sandbox"}
    cleared = client.call("PATCH", path, json={"is_positive": None, "reason": "ignored"}).json()
    assert (cleared["feedback_is_positive"], cleared["feedback_reason"]) == (None, None)
    assert client.get(path.split("/")[3])["feedback_is_positive"] is None


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "is_positive"),
        ({"is_positive": "yes"}, "is_positive"),
        ({"is_positive": True, "reason": ""}, "reason"),
        ({"is_positive": True, "reason": "x" * 2_001}, "reason"),
        ({"is_positive": True, "stars": 5}, "stars"),
    ],
)
def test_feedback_that_breaks_a_rule_is_a_422(client: Client, body: dict[str, Any], name: str) -> None:
    path = f"/v1/evaluations/{client.submit().json()['id']}/feedback"
    assert error_fields(client.call("PATCH", path, json=body)) == [name]


# --- money ----------------------------------------------------------------------------------------


def test_the_price_is_reserved_at_submission_and_charged_at_completion(
    client: Client, sandbox: Sandbox, clock: Clock
) -> None:
    evaluation_id = client.submit().json()["id"]
    assert sandbox.bills == [] and sandbox.balance == 100
    assert client.call("GET", "/v1/billing/balance").json()["reserved"] == "0.10"
    clock.now += 8
    assert sandbox.bills == [(evaluation_id, Decimal("0.10"))]
    assert sandbox.balance == Decimal("99.90")
    assert client.call("GET", "/v1/billing/balance").json()["balance"] == "99.90"


def test_the_price_is_frozen_at_submission(client: Client, sandbox: Sandbox, clock: Clock) -> None:
    evaluation_id = client.submit().json()["id"]
    sandbox.price = Decimal("5")
    assert client.call("GET", "/v1/evaluations/job-classes").json()[0]["price"] == "5"
    clock.now += 8
    assert client.get(evaluation_id)["cost"] == "0.10"


def test_too_little_credit_is_a_402_and_counts_what_is_reserved(session: requests.Session, clock: Clock) -> None:
    with Sandbox(latency=8, price="0.10", balance="0.25", clock=clock, judge=says_passed) as sandbox:
        client = Client(sandbox, session)
        assert [client.submit().status_code for _ in range(3)] == [202, 202, 402]
        answer = client.submit(key="later")
        assert answer.json()["code"] == "INSUFFICIENT_CREDIT" and len(sandbox.evaluations) == 2


def test_a_reservation_comes_back_when_the_evaluation_fails_unbilled(session: requests.Session, clock: Clock) -> None:
    with Sandbox(latency=8, balance="0.10", clock=clock, judge=says_passed) as sandbox:
        client = Client(sandbox, session)
        assert client.submit(generated_image_url=data_uri(b"no image")).status_code == 202
        assert client.submit(key="again").status_code == 402
        clock.now += 8
        assert client.submit(key="again").status_code == 202


@pytest.mark.parametrize(
    ("code", "billed"),
    [("invalid_media", 0), ("dispatch_failed", 0), ("processing_failed", 1), ("timed_out", 1)],
)
def test_a_failure_is_billed_where_processing_had_started(
    client: Client, sandbox: Sandbox, clock: Clock, code: Any, billed: int
) -> None:
    sandbox.add_verdict(ScriptedVerdict(failure_code=code))
    evaluation_id = client.submit().json()["id"]
    clock.now += 8
    ended = client.get(evaluation_id)
    assert (ended["status_code"], ended["failure_code"]) == ("failed", code)
    assert len(sandbox.bills) == billed and (ended["cost"] is not None) == bool(billed)


def test_prices_and_statuses_are_listed(client: Client) -> None:
    classes = client.call("GET", "/v1/evaluations/job-classes").json()
    assert [(one["code"], one["price"], one["is_active"]) for one in classes] == [
        ("standard", "0.10", True),
        ("quick", "0.10", False),
    ]
    statuses = client.call("GET", "/v1/evaluations/statuses").json()
    assert [one["code"] for one in statuses] == ["pending", "running", "completed", "failed"]


# --- idempotency ----------------------------------------------------------------------------------


def test_a_replayed_key_returns_the_same_evaluation_and_bills_once(
    client: Client, sandbox: Sandbox, clock: Clock
) -> None:
    first = client.submit(key="one", client_ref="a")
    clock.now += 8
    assert client.get(first.json()["id"])["status_code"] == "completed"
    replayed = client.submit(key="one", client_ref="a")
    assert replayed.status_code == 202 and replayed.json() == first.json()
    assert len(sandbox.evaluations) == len(sandbox.bills) == 1


def test_the_same_body_written_differently_is_the_same_body(client: Client) -> None:
    body = {"task_type": "x", "generated_image_url": data_uri()}
    headers = {"Idempotency-Key": "one", "Content-Type": "application/json"}
    forms = (json.dumps(body), json.dumps(dict(reversed(body.items())), indent=2))
    ids = {client.call("POST", "/v1/evaluations", data=form, headers=headers).json()["id"] for form in forms}
    assert len(ids) == 1


def test_a_key_used_with_another_body_is_a_conflict(client: Client, sandbox: Sandbox) -> None:
    client.submit(key="one", client_ref="a")
    answer = client.submit(key="one", client_ref="b")
    assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT")
    assert len(sandbox.evaluations) == 1


def test_without_a_key_every_submission_is_new(client: Client, sandbox: Sandbox) -> None:
    assert client.submit().json()["id"] != client.submit().json()["id"]
    assert len(sandbox.evaluations) == 2


def test_another_api_key_does_not_meet_the_first_ones_idempotency_keys(session: requests.Session) -> None:
    with Sandbox(judge=says_passed, keys={"rf_test_other": {"evaluations:create"}}) as sandbox:
        client = Client(sandbox, session)
        first, second = client.submit(key="one"), client.as_key("rf_test_other").submit(key="one")
        assert first.json()["id"] != second.json()["id"]


def test_a_refused_submission_leaves_its_key_free(client: Client) -> None:
    assert client.submit(key="one", run_id=str(uuid.uuid4())).status_code == 404
    assert client.submit(key="one").status_code == 202


def test_a_key_whose_first_request_is_still_handled_is_a_conflict(client: Client, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("POST", "/v1/evaluations", "late", delay=0.5))
    with pytest.raises(requests.ReadTimeout):
        client.submit(key="one", timeout=0.1)
    busy = client.submit(key="one")
    assert (busy.status_code, busy.json()["code"]) == (409, "CONFLICT")
    replayed = until(lambda: client.submit(key="one"), lambda answer: answer.status_code == 202)
    assert list(sandbox.evaluations) == [replayed.json()["id"]]


def test_many_submissions_with_one_key_at_once_make_one_evaluation(sandbox: Sandbox) -> None:
    def submit() -> None:
        with requests.Session() as session:
            statuses.append(Client(sandbox, session).submit(key="one").status_code)

    statuses: list[int] = []
    threads = [threading.Thread(target=submit) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 16 and set(statuses) <= {202, 409} and 202 in statuses
    assert len(sandbox.evaluations) == 1


def until(ask: Callable[[], Any], enough: Callable[[Any], bool], seconds: float = 10) -> Any:
    """Ask again and again until the answer is good."""
    deadline = time.monotonic() + seconds
    while not enough(answer := ask()):
        assert time.monotonic() < deadline, answer
    return answer


# --- uploads --------------------------------------------------------------------------------------


def start_upload(client: Client, data: bytes, mime: str = "image/png") -> tuple[str, str]:
    body = {"filename": "a.png", "mime_type": mime, "size_bytes": len(data)}
    answer = client.call("POST", "/v1/asset-uploads", json=body)
    assert answer.status_code == 201
    return answer.json()["asset_id"], answer.json()["upload_url"]


def put(url: str, data: bytes, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.put(url, data=data, headers={"Content-Type": "image/png", **headers}, timeout=60)


def confirm(client: Client, asset_id: str) -> requests.Response:
    return client.call("POST", f"/v1/asset-uploads/{asset_id}/confirmations", json={})


def test_an_uploaded_and_confirmed_asset_is_judged(client: Client, clock: Clock) -> None:
    asset_id, url = start_upload(client, encoded())
    assert put(url, encoded()).status_code == 200
    assert confirm(client, asset_id).status_code == 200
    evaluation_id = client.submit(generated_image_url=f"runflow://assets/{asset_id}").json()["id"]
    clock.now += 8
    assert client.get(evaluation_id)["top_strengths"][0] == "shape [32, 48, 3]"
    assert client.get(evaluation_id)["generated_image_url"].startswith("https://")


def test_an_asset_that_was_not_confirmed_cannot_be_submitted(client: Client) -> None:
    asset_id, url = start_upload(client, encoded())
    assert confirm(client, asset_id).status_code == 409
    assert put(url, encoded()).status_code == 200
    assert error_fields(client.submit(generated_image_url=f"runflow://assets/{asset_id}")) == ["generated_image_url"]


def test_the_upload_address_refuses_credentials_and_what_was_not_announced(client: Client) -> None:
    asset_id, url = start_upload(client, encoded())
    assert put(url, encoded(), Authorization=f"Bearer {KEY}").status_code == 400
    assert put(url, encoded(), **{"Content-Type": "image/webp"}).status_code == 403
    assert put(url, encoded() + b"x").status_code == 400
    assert put(url[:-1] + "~", encoded()).status_code == 403
    assert confirm(client, asset_id).status_code == 409


def test_an_upload_may_be_repeated_until_it_is_confirmed(client: Client) -> None:
    asset_id, url = start_upload(client, encoded())
    assert [put(url, encoded()).status_code for _ in range(2)] == [200, 200]
    assert [confirm(client, asset_id).status_code for _ in range(2)] == [200, 200]
    assert put(url, encoded()).status_code == 403
    assert confirm(client, str(uuid.uuid4())).status_code == 404


def test_upload_addresses_cannot_be_guessed_from_ids(client: Client) -> None:
    (asset_id, first), (_, second) = start_upload(client, b"x"), start_upload(client, b"x")
    assert first != second and asset_id not in first and len(first.rpartition("/")[2]) >= 43


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"filename": "x" * 501}, "filename"),
        ({"size_bytes": 0}, "size_bytes"),
        ({"size_bytes": 52_428_801}, "size_bytes"),
        ({"size_bytes": True}, "size_bytes"),
        ({"mime_type": "png"}, "mime_type"),
        ({"folder": "x"}, "folder"),
    ],
)
def test_an_upload_that_breaks_a_limit_is_a_422(client: Client, fields: dict[str, Any], name: str) -> None:
    body = {"filename": "a.png", "mime_type": "image/png", "size_bytes": 52_428_800, **fields}
    assert error_fields(client.call("POST", "/v1/asset-uploads", json=body)) == [name]


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_has_every_field_of_the_reference_and_only_the_embeds_asked_for(client: Client) -> None:
    run_id = client.sandbox.add_run(output={"images": []}, node_runs=[{"id": "n"}])
    plain = set(Run.model_fields) - RUN_EMBEDS
    answer = client.call("GET", f"/v1/runs/{run_id}").json()
    assert set(answer) == plain and answer["status_code"] == "succeeded" and answer["output"] == {"images": []}
    embedded = client.call("GET", f"/v1/runs/{run_id}?embed=node_runs,logs").json()
    assert (embedded["node_runs"], embedded["logs"]) == ([{"id": "n"}], [])


def test_a_run_runs_until_its_latency_is_over(client: Client, clock: Clock) -> None:
    summary = {"passed": False, "status_code": "completed", "score": 0.4}
    run_id = client.sandbox.add_run("failed", latency=3, failure_code="oom", current_evaluation_summary=summary)
    waiting = client.call("GET", f"/v1/runs/{run_id}").json()
    clock.now += 3
    ended = client.call("GET", f"/v1/runs/{run_id}").json()
    assert (waiting["status_code"], waiting["failure_code"]) == ("running", None)
    assert (ended["status_code"], ended["failure_code"]) == ("failed", "oom")
    assert waiting["current_evaluation_summary"] is None and ended["current_evaluation_summary"] == summary


def test_a_runs_summary_needs_the_scope_to_read_evaluations(client: Client) -> None:
    run_id = client.sandbox.add_run(current_evaluation_summary={"passed": True})
    path = f"/v1/runs/{run_id}"
    assert client.as_key("rf_test_reader").call("GET", path).json()["current_evaluation_summary"] == {"passed": True}
    assert client.as_key("rf_test_nothing").call("GET", path).json()["current_evaluation_summary"] is None


def test_an_evaluations_run_can_be_embedded(client: Client) -> None:
    run_id = client.sandbox.add_run()
    with_run, without = client.submit(run_id=run_id).json()["id"], client.submit().json()["id"]
    assert client.get(with_run, "run")["run"]["id"] == run_id
    assert client.get(without, "run")["run"] is None


def test_a_run_field_that_does_not_exist_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(TypeError, match="colour"):
        sandbox.add_run(colour="red")


# --- scripted verdicts ----------------------------------------------------------------------------


def test_scripted_verdicts_go_to_new_evaluations_in_order_and_then_the_judge_again(
    client: Client, sandbox: Sandbox, clock: Clock
) -> None:
    for score in (0.1, 0.2):
        sandbox.add_verdict(ScriptedVerdict(passed=False, score=score))
    ids = [client.submit(key=key).json()["id"] for key in ("a", "a", "b", "c")]
    clock.now += 8
    assert [client.get(one)["weighted_pass_rate"] for one in ids] == [0.1, 0.1, 0.2, 0.75]


def test_a_scripted_verdict_says_everything_that_a_verdict_can_say(
    client: Client, sandbox: Sandbox, clock: Clock
) -> None:
    issues = ["six fingers", {"category": "anatomy", "detail": "thumb"}]
    sandbox.add_verdict(
        ScriptedVerdict(
            passed=False,
            issues=["six fingers on the left hand"],
            strengths=["light"],
            improved_prompt="five fingers",
            latency=1.5,
            judges=[{"name": "Hands", "passed": False, "issues": issues}],
            gate_failures=[{"module": "nsfw", "reason": "no"}],
            extra={"overall_mood": "gloomy"},
        )
    )
    evaluation_id = client.submit().json()["id"]
    clock.now += 1.5
    answer = client.get(evaluation_id, "judges,action,gate_failures")
    verdict = Evaluation.model_validate(answer)
    assert (verdict.overall_passed, verdict.weighted_pass_rate) == (False, 0.0)
    assert (verdict.top_issues, verdict.top_strengths) == (["six fingers on the left hand"], ["light"])
    assert verdict.action is not None and verdict.action.improved_prompt == "five fingers"
    assert [issue.detail for issue in verdict.judges[0].issues] == ["six fingers", "thumb"]
    assert verdict.judges[0].issues[0].evaluation_judge_id == verdict.judges[0].id
    assert verdict.gate_failures[0].reason == "no" and answer["overall_mood"] == "gloomy"
    assert "judges" not in client.get(evaluation_id) and "action" not in client.get(evaluation_id)


def test_a_null_verdict_completes_and_is_billed(client: Client, sandbox: Sandbox, clock: Clock) -> None:
    sandbox.add_verdict(ScriptedVerdict(null=True))
    evaluation_id = client.submit().json()["id"]
    clock.now += 8
    ended = client.get(evaluation_id)
    assert (ended["status_code"], ended["overall_passed"], ended["weighted_pass_rate"]) == (
        "completed",
        None,
        None,
    )
    assert len(sandbox.bills) == 1


def test_a_verdict_may_come_without_a_score(client: Client, sandbox: Sandbox, clock: Clock) -> None:
    sandbox.add_verdict(ScriptedVerdict(score=None))
    evaluation_id = client.submit().json()["id"]
    clock.now += 8
    ended = client.get(evaluation_id, "action")
    assert (ended["overall_passed"], ended["weighted_pass_rate"], ended["action"]) == (True, None, None)


# --- faults ---------------------------------------------------------------------------------------


def test_a_status_fault_answers_in_the_apis_error_shape_and_does_not_act(client: Client, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("POST", "/v1/evaluations", "status"))
    answer = client.submit()
    assert answer.status_code == 503 and answer.json()["errors"] == [] and answer.json()["code"]
    assert sandbox.evaluations == {} and sandbox.requests[0].fault == "status"
    assert client.submit().status_code == 202


def test_a_status_fault_can_act_first(client: Client, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(kind="status", status=500, acts=True))
    assert client.submit(key="one").status_code == 500
    assert [client.submit(key="one").json()["id"]] == list(sandbox.evaluations)


@pytest.mark.parametrize(("asked", "sent"), [(None, None), ("2", "2"), ("absurd", "999999999999"), ("soon", "soon")])
def test_retry_after_is_sent_as_scripted(client: Client, asked: str | None, sent: str | None) -> None:
    client.sandbox.add_fault(Fault(status=429, retry_after=asked))
    answer = client.submit()
    assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMITED")
    assert answer.headers.get("Retry-After") == sent


def test_retry_after_can_be_a_date_some_seconds_from_now(client: Client) -> None:
    client.sandbox.add_fault(Fault(status=429, retry_after="date:100"))
    date = parsedate_to_datetime(client.submit().headers["Retry-After"])
    assert 90 < date.timestamp() - time.time() <= 100


@pytest.mark.parametrize(("kind", "evaluations"), [("drop_before", 0), ("drop_after", 1)])
def test_a_dropped_connection_has_acted_or_not(client: Client, kind: Any, evaluations: int) -> None:
    client.sandbox.add_fault(Fault("POST", "/v1/evaluations", kind))
    with pytest.raises(requests.ConnectionError):
        client.submit(key="one")
    assert len(client.sandbox.evaluations) == evaluations
    assert client.submit(key="one").status_code == 202
    assert len(client.sandbox.evaluations) == 1
    assert client.sandbox.requests[0].status is None


def test_a_hang_never_answers_and_ends_when_the_sandbox_stops(client: Client, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("GET", "/v1/auth/me", "hang"))
    failures: list[Exception] = []

    def ask() -> None:
        try:
            client.call("GET", "/v1/auth/me", timeout=60)
        except requests.RequestException as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    sandbox.wait_for_requests("GET", "/v1/auth/me")
    thread.join(0.2)
    assert thread.is_alive()
    sandbox.stop()
    thread.join(60)
    assert not thread.is_alive() and isinstance(failures[0], requests.ConnectionError)


def test_a_hung_upload_does_not_even_take_the_body(client: Client, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("POST", "/v1/evaluations", "hang_upload"))
    with pytest.raises((requests.ConnectionError, requests.Timeout)):
        client.submit(timeout=0.3, generation_prompt="x" * 60_000_000)
    assert sandbox.requests[0].body is None and sandbox.evaluations == {}


def test_a_slow_answer_is_whole_in_the_end(client: Client, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(kind="slow", delay=0.4))
    started = time.monotonic()
    answer = client.submit()
    assert answer.status_code == 202 and answer.json()["status_code"] == "pending"
    assert time.monotonic() - started >= 0.4 and len(sandbox.evaluations) == 1


def test_a_truncated_answer_breaks_in_the_middle_after_acting(client: Client, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(kind="truncated"))
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        client.submit()
    assert len(sandbox.evaluations) == 1


def test_a_proxys_page_is_html(client: Client) -> None:
    client.sandbox.add_fault(Fault(kind="html", status=504))
    answer = client.submit()
    assert answer.status_code == 504 and answer.headers["Content-Type"] == "text/html"
    assert "<html>" in answer.text and client.sandbox.evaluations == {}


def test_garbage_comes_with_the_real_status_after_acting(client: Client) -> None:
    client.sandbox.add_fault(Fault(kind="garbage"))
    answer = client.submit()
    assert answer.status_code == 202 and len(client.sandbox.evaluations) == 1
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_bytes_that_are_not_utf8_claim_to_be_json(client: Client) -> None:
    client.sandbox.add_fault(Fault(kind="not_utf8"))
    answer = client.submit()
    assert answer.headers["Content-Type"] == "application/json"
    with pytest.raises(UnicodeDecodeError):
        answer.content.decode()


@pytest.mark.parametrize(("body", "read"), [(None, ["not", "an", "object"]), ('"text"', "text"), ([], []), (7, 7)])
def test_a_wrong_shape_is_json_that_is_no_object(client: Client, body: Any, read: Any) -> None:
    client.sandbox.add_fault(Fault(kind="wrong_shape", body=body))
    assert client.submit().json() == read


def test_a_redirect_points_where_the_script_says(client: Client) -> None:
    client.sandbox.add_fault(Fault(kind="redirect", status=307, location="https://other.example/v1"))
    answer = client.submit()
    assert (answer.status_code, answer.headers["Location"]) == (307, "https://other.example/v1")
    assert client.sandbox.evaluations == {}


def test_a_fault_spares_the_first_hits_some_and_is_then_used_up(client: Client) -> None:
    client.sandbox.add_fault(Fault("GET", "/v1/auth/.*", "status", times=2, after_skip=1, status=500))
    seen = [client.call("GET", "/v1/auth/me").status_code for _ in range(5)]
    assert seen == [200, 500, 500, 200, 200]


def test_a_fault_without_times_stays_until_it_is_cleared(client: Client) -> None:
    client.sandbox.add_fault(Fault(kind="status", times=None))
    assert {client.call("GET", "/").status_code for _ in range(4)} == {503}
    client.sandbox.clear_faults()
    assert client.call("GET", "/").status_code == 200


def test_faults_apply_in_order_and_only_to_their_method_and_whole_path(client: Client) -> None:
    for status in (500, 502):
        client.sandbox.add_fault(Fault("GET", "/v1/auth/me", status=status))
    assert client.call("GET", "/v1/billing/balance").status_code == 200
    assert client.call("POST", "/v1/auth/me").status_code == 405
    assert client.call("GET", "/v1/auth/me/more").status_code == 404
    assert [client.call("GET", "/v1/auth/me").status_code for _ in range(3)] == [500, 502, 200]


def test_a_fault_can_hit_the_upload_itself(client: Client) -> None:
    _, url = start_upload(client, encoded())
    client.sandbox.add_fault(Fault("PUT", "/uploads/.*", "status", status=500))
    assert [put(url, encoded()).status_code for _ in range(2)] == [500, 200]


@pytest.mark.parametrize("options", [{"path": "("}, {"kind": "explode"}, {"retry_after": "date:soon"}])
def test_a_fault_that_makes_no_sense_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Fault(**options)


def test_a_delay_comes_before_the_fault(client: Client) -> None:
    client.sandbox.add_fault(Fault(kind="status", delay=0.2))
    started = time.monotonic()
    assert client.submit().status_code == 503
    assert time.monotonic() - started >= 0.2


# --- command line ---------------------------------------------------------------------------------


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    sandbox_command.add_arguments(parser)
    return parser.parse_args(words)


def test_a_fault_on_the_command_line_is_read() -> None:
    assert parse_fault("POST /v1/evaluations drop_after x1") == Fault("POST", "/v1/evaluations", "drop_after")
    text = "GET /v1/.* status always status=429 retry_after=2 delay=0.5 skip=3"
    expected = Fault("GET", "/v1/.*", "status", None, 3, 429, "2", 0.5)
    assert parse_fault(text) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("POST /v1", "METHOD PATH KIND"),
        ("POST /v1 explode", "kind"),
        ("POST /v1 status y2", "y2"),
        ("POST /v1 status status=1", "status"),
        ("POST /v1 status colour=red", "colour"),
        ("POST ( status", "regular expression"),
    ],
)
def test_a_fault_that_cannot_be_read_is_named(text: str, named: str) -> None:
    with pytest.raises(InvalidInputError, match=r"\[INVALID_INPUT\] --fault") as caught:
        parse_fault(text)
    assert named in str(caught.value)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_script_holds_verdicts_faults_and_runs(tmp_path: Path) -> None:
    entries = {
        "verdicts": [{"passed": False, "score": 0.3, "issues": ["six fingers"]}, {"null": True}],
        "faults": [{"method": "GET", "kind": "status", "status": 429, "retry_after": 2, "times": None}],
        "runs": [{"status_code": "failed"}],
    }
    script = load_script(write(tmp_path / "script.json", "\ufeff" + json.dumps(entries)))  # as Notepad saves it
    assert script.verdicts == [ScriptedVerdict(False, 0.3, ["six fingers"]), ScriptedVerdict(null=True)]
    assert script.faults == [Fault("GET", kind="status", status=429, retry_after="2", times=None)]
    assert script.runs == [{"status_code": "failed"}]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "not JSON"),
        ("[]", "body"),
        ('{"verdict": []}', "verdict"),
        ('{"verdicts": [{}, {"passed": 3}]}', "verdicts[1].passed"),
        ('{"verdicts": [{"failure_code": "boredom"}]}', "verdicts[0].failure_code"),
        ('{"faults": [{"kind": "explode"}]}', "faults[0].kind"),
        ('{"faults": [{"path": "("}]}', "faults[0]"),
        ('{"faults": [{"after_skip": -1}]}', "faults[0].after_skip"),
        ('{"runs": [{}, {"colour": 1}]}', "runs[1]"),
    ],
)
def test_a_script_that_cannot_be_used_names_the_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, named: str
) -> None:
    path = write(tmp_path / "script.json", text)
    assert commands.main(["sandbox", "--port", "0", "--script", str(path)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("[INVALID_INPUT] --script") and named in said.err and said.out == ""


def test_a_script_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"missing\.json cannot be read"):
        load_script(tmp_path / "missing.json")


def test_a_taken_port_is_an_error_that_says_what_to_do(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["sandbox", "--port", sandbox.url.rpartition(":")[2]]) == 2
    assert "--port" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--key", "rf_live_abc"],
        ["--key", "a b"],
        ["--latency", "-1"],
        ["--port", "65536"],
        ["--price", "free"],
        ["--balance", "NaN"],
    ],
)
def test_options_that_make_no_sense_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(*words)
    assert words[0] in capsys.readouterr().err


def test_an_archive_without_the_sandbox_says_where_it_is(tmp_path: Path) -> None:
    shipped = tmp_path / "pack"
    archive.unpack(shipped)
    command = [sys.executable, "-m", "runflow_api", "sandbox"]
    done = subprocess.run(command, cwd=shipped, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("[SANDBOX_NOT_INSTALLED]") and "pip install runflow-evaluate" in done.stderr


@contextlib.contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, ended with Ctrl-C."""
    environment = {**os.environ, "PYTHONPATH": str(Path(sandbox_command.__file__).parents[2])}
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    with subprocess.Popen(
        [sys.executable, "-m", "runflow_api", "sandbox", "--port", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        creationflags=flags,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            break
    return said


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_what_to_set_then_one_line_per_request_then_what_was_charged(
    ending: signal.Signals,
) -> None:
    with (
        running("--latency", "0", "--fault", "GET /v1/auth/me status x1") as process,
        requests.Session() as session,
    ):
        session.trust_env = False
        block = read_until(process, "Ctrl-C ends")
        url = block.partition("RUNFLOW_BASE_URL=")[2].split()[0]
        assert f"export RUNFLOW_BASE_URL={url} RUNFLOW_API_KEY={KEY}" in block
        assert f'$env:RUNFLOW_BASE_URL = "{url}"; $env:RUNFLOW_API_KEY = "{KEY}"' in block
        session.headers["Authorization"] = f"Bearer {KEY}"
        assert session.get(url + "/v1/auth/me", timeout=60).status_code == 503
        body = {"generated_image_url": data_uri(), "task_type": "secret task"}
        assert session.post(url + "/v1/evaluations", json=body, timeout=60).status_code == 202
        lines = read_until(process, "POST")
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", ending))
        ending = process.stdout.read() if process.stdout else ""
        code = process.wait(60)
    assert "GET    /v1/auth/me  503" in lines and "POST   /v1/evaluations  202" in lines
    assert KEY not in lines and "secret task" not in lines
    if os.name != "nt":  # Ctrl-Break, all that one process can send another on Windows, just ends it
        assert code == 0 and '1 evaluations, 0.10 credits "charged"' in ending
