"""What stands in the way is told apart by types, in any language; whether anything was sent, by the body."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import urllib3.exceptions
from support.evaluators import configuration, judge, make_evaluator
from support.pictures import picture

from runflow_api import errors, images
from runflow_api.api.client import RunflowClient
from runflow_api.api.failed_attempts import no_answer
from runflow_api.api.transport import MAX_ATTEMPTS, Deadline, Outgoing, Transport
from runflow_api.api.upload_address import CheckedAddresses
from runflow_api.evaluation.evaluator import Evaluator
from runflow_api.evaluation.question import Options
from runflow_api.evaluation.verdict import FAILED, PASSED
from runflow_api.sandbox.app import Fault, Sandbox

FOREIGN = "in einer anderen Sprache"


def wrapped(cause: Exception) -> requests.exceptions.ConnectionError:
    """As requests and urllib3 hand an error of the system on."""
    try:
        raise urllib3.exceptions.NewConnectionError(None, FOREIGN) from cause  # type: ignore[arg-type]
    except urllib3.exceptions.NewConnectionError as error:
        return requests.exceptions.ConnectionError(urllib3.exceptions.MaxRetryError(None, "/", error))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (wrapped(ConnectionRefusedError(errno.ECONNREFUSED, FOREIGN)), "CONNECTION_FAILED", "connection refused"),
        (wrapped(socket.gaierror(socket.EAI_NONAME, FOREIGN)), "CONNECTION_FAILED", "host name not found"),
        (wrapped(TimeoutError(errno.ETIMEDOUT, FOREIGN)), "TIMEOUT", "timed out"),
        (wrapped(OSError(errno.ENETUNREACH, FOREIGN)), "CONNECTION_FAILED", "connection failed"),
        (requests.exceptions.ReadTimeout(FOREIGN), "TIMEOUT", "timed out"),
        (
            requests.exceptions.SSLError(ssl.SSLCertVerificationError(FOREIGN)),
            "TLS_FAILED",
            "TLS certificate or handshake refused",
        ),
        (
            requests.exceptions.ConnectionError(
                urllib3.exceptions.ProtocolError(FOREIGN, ConnectionResetError(errno.ECONNRESET, FOREIGN))
            ),
            "CONNECTION_FAILED",
            "connection dropped",
        ),
        (
            requests.exceptions.ConnectionError(
                urllib3.exceptions.ProtocolError(FOREIGN, http.client.RemoteDisconnected(FOREIGN))
            ),
            "CONNECTION_FAILED",
            "connection dropped",
        ),
        (
            requests.exceptions.ChunkedEncodingError(
                urllib3.exceptions.ProtocolError(FOREIGN, urllib3.exceptions.IncompleteRead(3, 9))
            ),
            "CONNECTION_FAILED",
            "answer cut off",
        ),
        (
            requests.exceptions.ProxyError(wrapped(ConnectionRefusedError(FOREIGN))),
            "CONNECTION_FAILED",
            "proxy: connection refused",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_causes_are_told_apart_in_any_language(error: Exception, code: str, said: str) -> None:
    failed = no_answer(error, nothing_sent=True)
    assert (failed.error.code, failed.said) == (code, said)
    assert FOREIGN not in str(failed.error)


# --- nothing was sent -----------------------------------------------------------------------------------


def submitted(tmp_path: Path, url: str, **environment: str) -> errors.RunflowError:
    """What judging one image ends in, if nobody can be reached."""
    settings = configuration(None, RUNFLOW_BASE_URL=url, RUNFLOW_API_KEY="rf_test_key", **environment)
    transport = Transport(settings, delay=lambda *_: 0.0, timeouts=(1.0, 1.0))
    evaluator = Evaluator(settings, tmp_path, client=RunflowClient(settings, transport))
    try:
        with pytest.raises(errors.RunflowError) as caught:
            judge(evaluator, picture(0, 64, 64), judge="runflow")
    finally:
        evaluator.close()
    return caught.value


def nothing_is_reserved(tmp_path: Path) -> bool:
    settings = configuration(None, RUNFLOW_API_KEY="rf_test_key")
    journal = Evaluator(settings, tmp_path).journal()
    return journal.spent_today().evaluations == 0


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_server_that_is_down_gets_nothing_and_reserves_nothing(tmp_path: Path) -> None:
    error = submitted(tmp_path, f"http://127.0.0.1:{closed_port()}")
    assert error.attempts == ("connection refused",) * MAX_ATTEMPTS
    assert "Runflow accepted nothing and nothing was paid" in str(error)
    assert "may have been accepted" not in str(error)
    assert nothing_is_reserved(tmp_path)


def test_a_host_that_is_not_found_gets_nothing(tmp_path: Path) -> None:
    error = submitted(tmp_path, "https://runflow.invalid")
    assert "Runflow accepted nothing and nothing was paid" in str(error)
    assert nothing_is_reserved(tmp_path)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_that_are_not_there_are_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "nowhere.pem"))
    error = submitted(tmp_path, "https://runflow.invalid")
    assert isinstance(error, errors.ConfigurationError)
    assert str(error).startswith(f"[CERTIFICATES_MISSING] {variable} names TLS certificates that are not there")
    assert "nothing was paid" in str(error)
    assert len(error.attempts) == 1
    assert nothing_is_reserved(tmp_path)


@pytest.mark.parametrize("held", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nMIIB\n"])
def test_a_file_without_certificates_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bytes
) -> None:
    (tmp_path / "bundle.pem").write_bytes(held)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "bundle.pem"))
    failed = no_answer(requests.exceptions.SSLError(ssl.SSLError(FOREIGN)), nothing_sent=True)
    assert str(failed.error).startswith("[CERTIFICATES_MISSING] REQUESTS_CA_BUNDLE names TLS certificates that cannot")
    assert (failed.is_final, failed.not_accepted) == (True, True)


def test_a_refused_handshake_is_not_laid_to_good_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    assert no_answer(requests.exceptions.SSLError(ssl.SSLError(FOREIGN)), nothing_sent=True).error.code == "TLS_FAILED"


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:99999", "http://127.0.0.1:abc", "ftp://127.0.0.1:9", "http://[::1", "http://a b:9",
              "http://m\u00fcnchen..example:9", "http://", "user:p#w@127.0.0.1:9"]
)  # fmt: skip
def test_a_proxy_that_is_no_address_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    error = submitted(tmp_path, "https://runflow.invalid")
    assert (error.code, len(error.attempts)) == ("PROXY_UNUSABLE", 1)
    assert "nothing was paid" in str(error)
    assert nothing_is_reserved(tmp_path)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_socks_proxy_that_python_cannot_use_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv(variable, "socks5://somebody:secret@127.0.0.1:9")
    monkeypatch.setitem(__import__("sys").modules, "socks", None)
    error = submitted(tmp_path, "https://runflow.invalid")
    if error.code == "PROXY_UNUSABLE":  # PySocks may be installed: then the proxy refuses the connection
        assert "PySocks" in str(error)
        assert len(error.attempts) == 1
    assert "Runflow accepted nothing and nothing was paid" in str(error)
    assert "secret" not in str(error)
    assert nothing_is_reserved(tmp_path)


def test_a_proxy_that_is_down_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed_port()}")
    error = submitted(tmp_path, "https://runflow.invalid")
    assert set(error.attempts) == {"proxy: connection refused"}
    assert "Runflow accepted nothing and nothing was paid" in str(error)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def answer_with(listener: socket.socket, act: Callable[[socket.socket], None], times: int) -> threading.Thread:
    def serve() -> None:
        for _ in range(times):
            connection, _ = listener.accept()
            with connection:
                act(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_a_server_that_took_the_body_and_hung_up_may_have_accepted_it(tmp_path: Path, listener: socket.socket) -> None:
    answer_with(listener, lambda connection: connection.recv(100_000), MAX_ATTEMPTS)
    error = submitted(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert "may have been accepted; nothing is paid for twice" in str(error)
    assert not nothing_is_reserved(tmp_path)


# --- where uploads go -----------------------------------------------------------------------------------


def test_the_host_of_an_upload_is_resolved_once_and_connected_to_where_it_was_checked(listener: socket.socket) -> None:
    answers, seen = [["127.0.0.1"], ["10.0.0.7"]], list[bytes]()  # the second answer would lead elsewhere
    answer_with(listener, lambda connection: seen.append(connection.recv(100_000)), MAX_ATTEMPTS)
    adapter = CheckedAddresses(resolve=lambda *_: answers.pop(0) if len(answers) > 1 else ["127.0.0.1"],
                               is_allowed=lambda address: address == "127.0.0.1")  # fmt: skip
    settings = configuration(None, RUNFLOW_API_KEY="rf_test_key")
    transport = Transport(settings, delay=lambda *_: 0.0, timeouts=(1.0, 1.0), uploads=adapter)
    url = f"https://uploads.example:{listener.getsockname()[1]}/put"
    with pytest.raises(errors.NetworkError) as caught:
        transport.put_file(url, b"bytes", "image/webp", Deadline.after(5))
    assert caught.value.code == "TLS_FAILED"  # it spoke to the address that was checked, which speaks no TLS
    assert b"uploads.example" in seen[0]  # the name that the certificate must have
    assert b"bytes" not in b"".join(seen)


@pytest.mark.parametrize("address", ["198.18.0.9", "198.19.255.1", "10.0.0.7", "fe80::1%eth0"])
def test_an_upload_to_no_public_address_is_refused_in_words_that_tell_why(address: str) -> None:
    settings = configuration(None, RUNFLOW_API_KEY="rf_test_key")
    transport = Transport(settings, uploads=CheckedAddresses(resolve=lambda *_: [address]))
    with pytest.raises(errors.InvalidResponseError) as caught:
        transport.put_file("https://uploads.example/put", b"bytes", "image/webp", Deadline.after(5))
    assert caught.value.code == "UPLOAD_ADDRESS_REFUSED"
    assert ("fake-IP" in str(caught.value)) is address.startswith("198.1")
    assert len(caught.value.attempts) == 1


def test_where_the_upload_address_is_refused_a_lossy_copy_is_judged_and_told(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_URL_CHARACTERS", 30_000)
    monkeypatch.setattr(images.encode_lossy, "__defaults__", (30_000,))
    body = {"asset_id": "5a9d0b0c-0000-4000-8000-000000000001", "upload_url": "https://198.18.0.9/put"}
    sandbox.add_fault(Fault("POST", "/v1/asset-uploads", "garbage", times=None, body=body))
    monkeypatch.setattr(Transport, "put_file", refuse_fake_ip)
    got = judge(make_evaluator(sandbox, tmp_path), picture(), options=Options(upload="auto"))
    assert got.outcome in (PASSED, FAILED)
    assert "lossy copy" in got.notes
    assert "fake-IP" in got.notes
    assert got.issues == ""


def refuse_fake_ip(transport: Transport, url: str, data: bytes, mime_type: str, deadline: Deadline) -> None:
    """A sandbox is on this machine, where uploads may go to this machine: refused as elsewhere."""
    elsewhere = configuration(None, RUNFLOW_API_KEY="rf_test_key")
    Transport(elsewhere).send(_put(url, data, mime_type), None, deadline)


def _put(url: str, data: bytes, mime_type: str) -> Outgoing:
    return Outgoing("PUT", url, data, mime_type, what="the image upload")
