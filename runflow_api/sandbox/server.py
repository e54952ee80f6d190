"""The sandbox's side of HTTP: connections, requests, answers, and the faults in between."""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, NoReturn, Protocol
from urllib.parse import parse_qs

from .faults import Fault
from .validation import LARGEST_BODY, HttpError, Response, parse_json

DRIPS = 20
JOIN_S = 5.0
POLL_S = 0.02


class Stopped(Exception):
    """The sandbox stops while a request waits: its connection closes without an answer."""


@dataclass
class RequestRecord:
    """One request as it arrived. ``headers`` have lower-case names, and Authorization is masked."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    at: float
    body: Any = None
    """Parsed where it is JSON, otherwise bytes; ``None`` for no body, or if bodies are not kept."""
    status: int | None = None
    """What was answered; ``None`` while it is under way, and where the connection closed without an answer."""
    fault: str | None = None
    seconds: float | None = None

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())


def _do_not_pause() -> None:
    """What a request does that meets no fault of the kind ``delay``."""


@dataclass(frozen=True)
class Request:
    """A request with its body read, and a valid key where its route needs one."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    body: bytes
    key: str = ""
    pause: Callable[[], None] = _do_not_pause

    def json(self) -> Any:
        if not self.headers.get("content-type", "").lower().startswith("application/json"):
            raise HttpError(400, "The Content-Type must be application/json.")
        return parse_json(self.body)


class Route(NamedTuple):
    """``path`` is a regex whose groups are given to ``action`` after the application and the request."""

    method: str
    path: str
    action: Callable[..., Response]
    scope: str | None = None
    needs_key: bool = True


def find_route(routes: Sequence[Route], method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """The route for a request and the groups of its path. Raises ``HttpError`` 404 or 405."""
    found = [(route, match) for route in routes if (match := re.fullmatch(route.path, path))]
    for route, match in found:
        if route.method == method:
            return route, match.groups()
    if not found:
        raise HttpError(404, "There is nothing at this path.")
    allowed = ", ".join(sorted({route.method for route, _ in found}))
    raise HttpError(405, f"{method} is not allowed here.", headers={"Allow": allowed})


class Application(Protocol):
    """What the server needs of the sandbox."""

    @property
    def keep_bodies(self) -> bool: ...

    def take_fault(self, method: str, path: str) -> Fault | None: ...

    def arrived(self, record: RequestRecord) -> None: ...

    def answered(self, record: RequestRecord) -> None: ...

    def answer(self, request: Request) -> Response: ...


class Server(ThreadingHTTPServer):
    """A thread per connection, all daemons; ``stop`` closes the connections and joins the threads."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = os.name != "nt"  # on Windows it would let two servers share the port

    def __init__(self, sandbox: Application, port: int) -> None:
        self.sandbox = sandbox
        self.stopping = threading.Event()
        self.connections = 0
        self._open: dict[Any, threading.Thread] = {}
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)
        self._loop = threading.Thread(target=self.serve_forever, args=(POLL_S,), daemon=True)
        self._loop.start()

    def server_bind(self) -> None:
        """As ``HTTPServer``, without its look-up of the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        arguments = (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=arguments, daemon=True)
        with self._lock:
            self.connections += 1
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._lock:
            self._open.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is not an event; anything else is a bug, and is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            still_open = list(self._open.items())
        for connection, _ in still_open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in (self._loop, *(thread for _, thread in still_open)):
            thread.join(JOIN_S)


class Handler(BaseHTTPRequestHandler):
    """Reads a request, lets the sandbox answer it, and puts the scripted fault in between."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version = "RunflowSandbox"
    sys_version = ""
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: whoever wants lines passes ``on_request``."""

    def _serve(self) -> None:
        sandbox, record = self.server.sandbox, self._record()
        fault = sandbox.take_fault(self.command, record.path)
        record.fault = fault.kind if fault else None
        try:
            record.status = self._exchange(record, fault)
        except (Stopped, ConnectionError):
            self.close_connection = True
        finally:
            sandbox.answered(record)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve

    def _record(self) -> RequestRecord:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        if "authorization" in headers:
            headers["authorization"] = "***"
        return RequestRecord(self.command, path, parse_qs(query), headers, time.monotonic())

    def _exchange(self, record: RequestRecord, fault: Fault | None) -> int | None:
        """Returns the status that was sent, if one was."""
        sandbox = self.server.sandbox
        if fault and fault.kind == "hang_upload":
            sandbox.arrived(record)
            self._hang()
        try:
            raw = self._read_body()
        except HttpError as refusal:
            self.close_connection = True  # what was not read cannot be skipped
            sandbox.arrived(record)
            return self._send(refusal.answer())
        record.body = _parsed(raw) if sandbox.keep_bodies else None
        sandbox.arrived(record)
        request = self._request(record, raw, fault)
        return self._misbehave(request, fault) if fault else self._send(sandbox.answer(request))

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            raise HttpError(411, "Send a Content-Length.")
        if not re.fullmatch(r"[0-9]{1,12}", length):
            raise HttpError(400, "The Content-Length is not a number.")
        if int(length) > LARGEST_BODY:
            raise HttpError(413, f"A body has at most {LARGEST_BODY} bytes.")
        raw = self.rfile.read(int(length))
        if len(raw) < int(length):
            raise ConnectionAbortedError("the client left in the middle of its request")
        return raw

    def _request(self, record: RequestRecord, raw: bytes, fault: Fault | None) -> Request:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(record.method, record.path, record.query, headers, raw)
        if fault and fault.kind == "late":
            return replace(request, pause=functools.partial(self._wait, fault.seconds))
        return request

    def _misbehave(self, request: Request, fault: Fault) -> int | None:
        if fault.kind not in ("late", "slow"):
            self._wait(fault.delay or 0)
        answer = self.server.sandbox.answer(request) if fault.does_act else None
        if fault.kind in ("drop_before", "drop_after"):
            self.close_connection = True
            return None
        if fault.kind == "hang":
            self._hang()
        if fault.kind in ("truncated", "slow", "late"):
            return self._mangle(fault, answer or self.server.sandbox.answer(request))
        return self._send(fault.distort(answer))

    def _mangle(self, fault: Fault, answer: Response) -> int | None:
        """Send the real answer, but not as it should be."""
        answer = replace(answer, headers={**answer.headers, **fault.headers()})
        if fault.kind == "late":
            return self._send(answer)
        if fault.kind == "truncated":
            self.close_connection = True
            return self._send(answer, answer.body[: len(answer.body) // 2])
        return self._drip(answer, fault.seconds)

    def _drip(self, answer: Response, seconds: float) -> int:
        self._send(answer, b"")
        size = max(1, -(-len(answer.body) // DRIPS))
        for start in range(0, len(answer.body), size):
            self._wait(seconds / DRIPS)
            self.wfile.write(answer.body[start : start + size])
        return answer.status

    def _hang(self) -> NoReturn:
        self.server.stopping.wait()
        raise Stopped

    def _wait(self, seconds: float) -> None:
        if seconds and self.server.stopping.wait(seconds):
            raise Stopped

    def _send(self, answer: Response, body: bytes | None = None) -> int:
        """``body``, where given, is sent in place of the answer's, under the answer's Content-Length."""
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body if body is None else body)
        return answer.status


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return raw
