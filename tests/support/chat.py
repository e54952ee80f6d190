"""A server that speaks OpenAI's chat protocol, or breaks it: for tests of the judge that is a vision model."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer:
    """A server that speaks the chat protocol; ``reply`` is called with the handler, ``received`` keeps bodies."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.reply: Callable[[BaseHTTPRequestHandler], None] = lambda handler: said(handler, "Yes. A cat.")
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                chat.received.append(json.loads(body))
                chat.headers.append(dict(self.headers))
                chat.paths.append(self.path)
                chat.reply(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> ChatServer:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def answer_with(
    handler: BaseHTTPRequestHandler, status: int, data: bytes, length: int | None = None, **headers: str
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def said(handler: BaseHTTPRequestHandler, content: Any) -> None:
    answer_with(
        handler, 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()
    )
