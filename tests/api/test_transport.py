from __future__ import annotations

import socket
import threading
import time
from email.utils import formatdate

import pytest
from requests.structures import CaseInsensitiveDict
from support.evaluators import KEY, configuration, make_client
from support.waiting import LESS_THAN_ANY_HANG_S

from runflow_api import errors
from runflow_api.api.client import RunflowClient, encode_request
from runflow_api.api.models import EvaluationRequest
from runflow_api.api.transport import (
    LONGEST_DELAY_S,
    LONGEST_RETRY_AFTER_S,
    MAX_ATTEMPTS,
    Deadline,
    RateLimiter,
    Transport,
    parse_retry_after,
    retry_delay,
    should_retry,
)
from runflow_api.sandbox.app import Fault, Sandbox

BODY = encode_request(
    EvaluationRequest(generated_image_url="https://images.example/one.png", task_type="image_generation")
)
ACCOUNT = "/v1/auth/me"


@pytest.mark.parametrize(
    ("status", "may_have_been_accepted", "expected"),
    [
        (None, False, True),
        (429, False, True),
        (500, False, True),
        (503, True, True),
        (409, False, False),
        (409, True, True),
        (302, False, False),
        *((status, resend, False) for status in (400, 401, 402, 403, 404, 408, 410, 422) for resend in (False, True)),
    ],
)
def test_what_is_retried(status: int | None, may_have_been_accepted: bool, expected: bool) -> None:
    assert should_retry(status, may_have_been_accepted=may_have_been_accepted) is expected


def test_delays_grow_up_to_a_ceiling_and_keep_their_jitter() -> None:
    longest = [retry_delay(attempt, None, lambda: 1.0) for attempt in range(8)]
    shortest = [retry_delay(attempt, None, lambda: 0.0) for attempt in range(8)]
    assert longest == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]
    assert shortest == [delay / 2 for delay in longest]
    assert retry_delay(10_000, None, lambda: 1.0) == LONGEST_DELAY_S


def test_a_retry_after_is_honoured_but_nobody_waits_a_day() -> None:
    assert retry_delay(0, 3.0) == 3.0
    assert retry_delay(0, 86_400.0) == LONGEST_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("soon", None),
        ("", None),
        (formatdate(1_000_007, usegmt=True), 7.0),
        (formatdate(999_000, usegmt=True), None),
        ("Tue, 99 Foo 2026 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nonsense_is_nothing(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=1_000_000.0) == seconds


def test_server_errors_are_tried_five_times_and_then_told(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("GET", ACCOUNT, "status", times=None, status=503))
    with pytest.raises(errors.ServerError) as caught:
        make_client(sandbox).check_account()
    assert len(sandbox.requests) == MAX_ATTEMPTS == 5
    assert caught.value.attempts == ("HTTP 503",) * 5
    assert "Tried 5 times: HTTP 503 (5×)" in str(caught.value)


@pytest.mark.parametrize(
    "kind", ["html", "garbage", "not_utf8", "wrong_shape", "truncated", "drop_before", "drop_after"]
)
def test_one_unusable_answer_is_followed_by_a_usable_one(sandbox: Sandbox, kind: str) -> None:
    sandbox.add_fault(Fault("GET", ACCOUNT, kind))
    assert make_client(sandbox).check_account()
    assert len(sandbox.requests) == 2


@pytest.mark.parametrize("kind", ["html", "garbage", "not_utf8", "wrong_shape", "truncated", "drop_before"])
def test_answers_that_stay_unusable_become_an_error_of_the_pack(sandbox: Sandbox, kind: str) -> None:
    sandbox.add_fault(Fault("GET", ACCOUNT, kind, times=None))
    with pytest.raises((errors.InvalidResponseError, errors.NetworkError, errors.ServerError)) as caught:
        make_client(sandbox).check_account()
    assert len(caught.value.attempts) == MAX_ATTEMPTS


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.ValidationError),
        (401, errors.AuthenticationError),
        (402, errors.InsufficientCreditError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (422, errors.ValidationError),
    ],
)
@pytest.mark.parametrize("shape", ["status", "html"])
def test_a_refusal_is_final_whatever_its_body(
    sandbox: Sandbox, status: int, kind: type[errors.ApiError], shape: str
) -> None:
    sandbox.add_fault(Fault("GET", ACCOUNT, shape, times=None, status=status))
    with pytest.raises(kind) as caught:
        make_client(sandbox).check_account()
    assert len(sandbox.requests) == 1
    assert caught.value.status == status
    assert "<html" not in str(caught.value)


@pytest.mark.parametrize("spelling", ["INSUFFICIENT_CREDIT", "INSUFFICIENT_CREDITS"])
def test_both_spellings_of_no_credit_are_one_code(sandbox: Sandbox, spelling: str) -> None:
    body = {"code": spelling, "message": "balance 0.02, price 0.10", "errors": []}
    sandbox.add_fault(Fault("GET", ACCOUNT, "status", status=402, body=body))
    with pytest.raises(errors.InsufficientCreditError) as caught:
        make_client(sandbox).check_account()
    assert caught.value.code == "INSUFFICIENT_CREDIT"
    assert "balance 0.02, price 0.10" in str(caught.value)


@pytest.mark.parametrize(
    "item", [{"field": "task_type", "message": "too long"}, {"loc": ["body", "task_type"], "msg": "too long"}]
)
def test_a_422_names_the_field(sandbox: Sandbox, item: dict[str, object]) -> None:
    body = {"code": "VALIDATION_ERROR", "message": "invalid", "errors": [item]}
    sandbox.add_fault(Fault("GET", ACCOUNT, "status", status=422, body=body))
    with pytest.raises(errors.ValidationError, match=r"task_type: too long"):
        make_client(sandbox).check_account()


def test_a_dropped_answer_to_a_submission_is_billed_once_and_resent_unchanged(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("POST", "/v1/evaluations", "drop_after", times=2))
    evaluation = make_client(sandbox).submit(BODY, idempotency_key="one-key")
    sent = [(CaseInsensitiveDict(each.headers)["Idempotency-Key"], each.body) for each in sandbox.requests]
    assert len(sent) == 3
    assert len({repr(each) for each in sent}) == 1
    assert list(sandbox.evaluations) == [evaluation.id]


def test_a_conflict_while_the_first_send_is_in_flight_is_waited_out(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("POST", "/v1/evaluations", "late", delay=1.0))
    evaluation = make_client(sandbox, read_timeout=0.3).submit(BODY, idempotency_key="one-key")
    assert list(sandbox.evaluations) == [evaluation.id]


def test_a_conflict_on_a_first_send_is_final_and_on_a_known_resend_is_not(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("POST", "/v1/evaluations", "status", status=409))
    with pytest.raises(errors.ConflictError):
        make_client(sandbox).submit(BODY, idempotency_key="one-key")
    sandbox.add_fault(Fault("POST", "/v1/evaluations", "status", status=409))
    assert make_client(sandbox).submit(BODY, idempotency_key="one-key", may_have_arrived=True).id


def test_a_server_that_says_conflict_for_good_is_not_asked_until_the_patience_ends(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("POST", "/v1/evaluations", "drop_after"))
    sandbox.add_fault(Fault("POST", "/v1/evaluations", "status", times=None, status=409))
    settings = configuration(sandbox)
    hurried = RunflowClient(settings, Transport(settings, delay=lambda *_: 0.01, in_progress_s=0.3))
    started = time.monotonic()
    with pytest.raises(errors.ConflictError) as caught:
        hurried.submit(BODY, idempotency_key="one-key", deadline=Deadline.after(600))
    assert time.monotonic() - started < LESS_THAN_ANY_HANG_S
    assert caught.value.may_have_been_accepted
    sandbox.clear_faults()
    assert hurried.submit(BODY, idempotency_key="one-key").id in sandbox.evaluations
    assert len(sandbox.evaluations) == 1


def test_a_refused_resend_is_told_as_one_although_the_time_ran_out_in_a_pause(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("POST", "/v1/evaluations", "drop_after"))
    sandbox.add_fault(Fault("POST", "/v1/evaluations", "status", times=None, status=409))
    settings = configuration(sandbox)

    def somebody_else_is_refused(attempt: int, _: float | None) -> float:
        if attempt == 1:
            transport.limiter.pause(30.0)
        return 0.01

    transport = Transport(settings, delay=somebody_else_is_refused)
    with pytest.raises(errors.ConflictError) as caught:
        RunflowClient(settings, transport).submit(BODY, idempotency_key="one-key", deadline=Deadline.after(1.0))
    assert caught.value.may_have_been_accepted


@pytest.mark.parametrize("retry_after", [None, "0", "absurd", "-5", "soon", "date:0", "date:-3600"])
def test_rate_limits_are_waited_out_however_they_are_announced(sandbox: Sandbox, retry_after: str | None) -> None:
    sandbox.add_fault(Fault("GET", ACCOUNT, "status", times=12, status=429, retry_after=retry_after))
    assert make_client(sandbox).check_account()
    assert len(sandbox.requests) == 13


def test_a_rate_limit_that_never_ends_ends_with_the_patience(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("GET", ACCOUNT, "status", times=None, status=429))
    started = time.monotonic()
    with pytest.raises(errors.RunflowError, match=r"HTTP 429 \(\d+×\)"):
        make_client(sandbox).check_account(deadline=Deadline.after(0.5))
    assert time.monotonic() - started < LESS_THAN_ANY_HANG_S


def test_a_rate_limit_holds_everybody_back() -> None:
    now = [100.0]
    limiter = RateLimiter(clock=lambda: now[0])
    limiter.pause(5.0)
    limiter.pause(2.0)
    held = threading.Event()
    held.set()
    with pytest.raises(errors.Cancelled):
        limiter.wait(Deadline(cancelled=held))
    now[0] = 105.0
    limiter.wait(Deadline(cancelled=held))


def test_a_connection_that_never_answers_times_out_with_its_code(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("GET", ACCOUNT, "hang", times=None))
    with pytest.raises(errors.NetworkError) as caught:
        make_client(sandbox, read_timeout=0.1).check_account()
    assert caught.value.code == "TIMEOUT"
    assert caught.value.attempts == ("timed out",) * MAX_ATTEMPTS


def test_patience_ends_a_hanging_connection_before_its_time_out(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("GET", ACCOUNT, "hang", times=None))
    started = time.monotonic()
    with pytest.raises(errors.NetworkError):
        make_client(sandbox, read_timeout=30).check_account(deadline=Deadline.after(0.3))
    assert time.monotonic() - started < LESS_THAN_ANY_HANG_S


def test_a_redirect_is_not_followed_and_the_key_stays(sandbox: Sandbox) -> None:
    with Sandbox() as elsewhere:
        location = elsewhere.url + ACCOUNT
        sandbox.add_fault(Fault("GET", ACCOUNT, "redirect", times=None, status=307, location=location))
        with pytest.raises(errors.InvalidResponseError) as caught:
            make_client(sandbox).check_account()
        assert caught.value.code == "REDIRECT_REFUSED"
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("url", "said"),
    [("https://runflow.invalid", "host name not found"), ("http://127.0.0.1:9", "connection refused")],
)
def test_an_unreachable_server_is_named_by_what_is_wrong(url: str, said: str) -> None:
    settings = configuration(None, RUNFLOW_BASE_URL=url, RUNFLOW_API_KEY="rf_test_key")
    client = RunflowClient(settings, Transport(settings, delay=lambda *_: 0.0, timeouts=(1.0, 1.0)))
    with pytest.raises(errors.NetworkError) as caught:
        client.check_account()
    assert set(caught.value.attempts) == {said}
    assert str(caught.value).startswith("[CONNECTION_FAILED] ")


def test_a_server_without_a_trusted_certificate_gets_no_key(sandbox: Sandbox) -> None:
    port = sandbox.url.rsplit(":", 1)[1]  # speaks http: no TLS handshake succeeds
    settings = configuration(None, RUNFLOW_BASE_URL=f"https://127.0.0.1:{port}", RUNFLOW_API_KEY="rf_test_key")
    client = RunflowClient(settings, Transport(settings, delay=lambda *_: 0.0, timeouts=(1.0, 1.0)))
    with pytest.raises(errors.NetworkError) as caught:
        client.check_account()
    assert caught.value.code == "TLS_FAILED"
    assert not any("Authorization" in request.headers for request in sandbox.requests)


def test_netrc_cannot_replace_the_key(sandbox: Sandbox, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    client = make_client(sandbox)
    client.transport._session.trust_env = True
    assert client.check_account()  # the sandbox answers 401 to any other credentials


def test_a_proxy_of_the_environment_never_sees_a_loopback_key(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert make_client(sandbox).check_account()


def test_a_key_that_the_server_echoes_is_taken_out_of_its_answer(sandbox: Sandbox) -> None:
    body = {"code": "UNAUTHORIZED", "message": f"unknown key {KEY}", "errors": [KEY]}
    sandbox.add_fault(Fault("GET", ACCOUNT, "status", status=401, body=body))
    with pytest.raises(errors.AuthenticationError) as caught:
        make_client(sandbox).check_account()
    assert KEY not in str(caught.value) + repr(caught.value.details)
    assert "unknown key ***" in str(caught.value)


def test_a_key_that_the_server_echoes_escaped_is_taken_out_too(sandbox: Sandbox) -> None:
    escaped = "".join(f"\\u{ord(character):04x}" for character in KEY)
    body = f'{{"code": "UNAUTHORIZED", "message": "unknown key {escaped}", "errors": []}}'
    sandbox.add_fault(Fault("GET", ACCOUNT, "status", status=401, body=body))
    with pytest.raises(errors.AuthenticationError, match=r"unknown key \*\*\*"):
        make_client(sandbox).check_account()


def test_a_slow_line_may_take_its_time_for_an_upload() -> None:
    """The time-out is of each piece: a whole body may take longer than a connection may."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    received = threading.Event()

    def read_slowly() -> None:
        connection, _ = listener.accept()
        total = 0
        while total < 600_000:
            total += len(connection.recv(8_192))
            time.sleep(0.02)
        received.set()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        connection.close()

    thread = threading.Thread(target=read_slowly)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    settings = configuration(None, RUNFLOW_BASE_URL=url, RUNFLOW_API_KEY="rf_test_key")
    transport = Transport(settings, timeouts=(0.6, 5.0))
    transport.put_file(url + "/put", b"x" * 600_000, "image/webp", Deadline.after(30))
    assert received.is_set()
    thread.join()
    listener.close()
    transport.close()


def test_the_organisation_and_the_version_are_sent(sandbox: Sandbox) -> None:
    make_client(sandbox, RUNFLOW_ORGANIZATION_ID="5a9d0b0c-0000-4000-8000-000000000009").check_account()
    headers = CaseInsensitiveDict(sandbox.requests[0].headers)
    assert headers["X-Organization-Id"] == "5a9d0b0c-0000-4000-8000-000000000009"
    assert headers["User-Agent"].startswith("comfyui-runflow-evaluate/")


def test_many_calls_share_one_connection(sandbox: Sandbox) -> None:
    client = make_client(sandbox)
    for _ in range(10):
        client.check_account()
    assert sandbox.connections == 1


def test_a_cancelled_call_sends_nothing_more(sandbox: Sandbox) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(errors.Cancelled):
        make_client(sandbox).check_account(deadline=Deadline(cancelled=cancelled))
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://uploads.example/put",
        "https://10.0.0.7/put",
        "https://127.0.0.1/put",
        "https://[::1]/put",
        "https://169.254.169.254/latest",
        "file:///etc/passwd",
        "https:///nothing",
    ],
)
def test_an_upload_goes_to_no_private_or_plain_address(url: str) -> None:
    settings = configuration(None, RUNFLOW_API_KEY="rf_test_key")
    with pytest.raises(errors.InvalidResponseError) as caught:
        Transport(settings).put_file(url, b"bytes", "image/webp", Deadline.after(1))
    assert caught.value.code == "UPLOAD_ADDRESS_REFUSED"


def test_a_text_that_was_cut_inside_an_emoji_is_read(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("GET", "/v1/auth/me", "garbage", body=b'{"name": "a hand \\ud83d", "left": 1.5}'))
    assert make_client(sandbox).check_account() == {"name": "a hand ?", "left": 1.5}
    assert len(sandbox.requests) == 1
