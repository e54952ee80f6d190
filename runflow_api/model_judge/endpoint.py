"""A vision model behind an address that speaks OpenAI's chat protocol: Ollama, LM Studio, vLLM, llama.cpp.

The address comes from the configuration only, never from a workflow, and is https or on this machine: the image,
the prompt and the key go there. One request for each question, greedy and not streamed. Redirects are not
followed, an answer is read up to ``MAX_ANSWER_BYTES``, and nothing outlives the deadline.

Source of the protocol: OpenAI's API reference, "Create chat completion", as far as those servers share it.
"""

from __future__ import annotations

import io
import json
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests
from PIL import Image

from .. import errors
from ..images import EncodedImage, PixelImage, data_uri
from ..settings.config import is_loopback_host
from .answers import CutOff, printable
from .connection import EndingConnections

CONNECT_TIMEOUT_S = 10.0
BUSY = frozenset({429, 503})
"""The server is there but not ready, as while it loads the model: asked again until the deadline."""
BUSY_PAUSE_S = 1.0
MAX_ANSWER_BYTES = 1024 * 1024
MAX_TOKENS = 1024
"""Room for a model that thinks before it answers; one that does not stops after a sentence."""
LONGEST_SIDE = 1536
"""Pixels. Larger images are reduced to this: the models themselves look at less."""
CUT_OFF = frozenset({"length", "max_tokens", "model_length", "content_filter", "abort"})
"""What servers give for ``finish_reason`` where the model had more to say."""
SHOWN_CHARACTERS = 200
SHORTEST_SECRET = 8
"""Characters. Shorter keys are the placeholders of local servers, and words that an answer may hold."""
_WHAT_TO_SET = "Check RUNFLOW_MODEL_URL, RUNFLOW_MODEL_NAME and RUNFLOW_MODEL_KEY."


class ChatEndpoint:
    """A ``VisionModel`` at ``url`` (as in the configuration); all its answers together take at most ``timeout_s``.

    ``cancelled`` ends a call that waits for a busy server. A call that hangs in the network ends by its time-out.
    """

    def __init__(
        self,
        url: str,
        name: str,
        key: str = "",
        *,
        timeout_s: float = 600.0,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.name = name
        self._url = completions_url(url)
        self._host = urlsplit(self._url).hostname or ""
        self._timeout_s = timeout_s
        self._ends_at = time.monotonic() + timeout_s
        self._cancelled = cancelled or threading.Event()
        self._connections = EndingConnections(self._ends_at)
        self._session = requests.Session()
        self._session.mount("https://", self._connections)
        self._session.mount("http://", self._connections)
        self._session.trust_env = not is_loopback_host(self._host)  # no proxy on the way to this machine
        self._session.auth = _Bearer(key)
        self._key = key
        self._encoded: tuple[PixelImage, str] | None = None

    @property
    def where(self) -> str:
        return "on this machine" if is_loopback_host(self._host) else f"at {self._host}"

    @property
    def identity(self) -> str:
        return json.dumps(["chat", self._url, self.name, MAX_TOKENS, LONGEST_SIDE])

    def answer(self, image: PixelImage, question: str) -> str:
        """The model's words. Raises ``NotJudgedError`` or ``ConfigurationError`` with a code that begins MODEL_."""
        body = self._body(image, question)
        while True:
            status, data = self._post(body)
            if status not in BUSY or time.monotonic() + BUSY_PAUSE_S >= self._ends_at:
                return self._read(status, data)
            if self._cancelled.wait(BUSY_PAUSE_S):
                raise errors.Cancelled

    def close(self) -> None:
        self._session.close()

    def _body(self, image: PixelImage, question: str) -> bytes:
        if self._encoded is None or self._encoded[0] is not image:
            self._encoded = (image, _data_uri(image))
        content = [
            {"type": "image_url", "image_url": {"url": self._encoded[1]}},
            {"type": "text", "text": question},
        ]
        messages = [{"role": "user", "content": content}]
        settings = {"temperature": 0, "seed": 0, "max_tokens": MAX_TOKENS, "stream": False}
        return json.dumps({"model": self.name, "messages": messages, **settings}).encode()

    def _post(self, body: bytes) -> tuple[int, bytes]:
        """(status, at most ``MAX_ANSWER_BYTES``); whatever goes wrong on the way has one code."""
        left = max(0.1, self._ends_at - time.monotonic())
        try:
            with (
                self._connections.ending(),
                self._session.post(
                    self._url,
                    data=body,
                    headers={"Content-Type": "application/json", "Accept": "application/json"},
                    timeout=(min(CONNECT_TIMEOUT_S, left), left),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                status, data = response.status_code, self._bounded(response)
        except requests.Timeout as error:
            raise self._too_slow() from error
        except (requests.RequestException, OSError) as error:
            if self._connections.has_ended or time.monotonic() >= self._ends_at:
                raise self._too_slow() from error
            raise self._trouble(
                f"cannot be reached or hung up ({type(error).__name__}).",
                f"Is its server running? {_WHAT_TO_SET}",
                code="MODEL_UNREACHABLE",
            ) from error
        if self._connections.has_ended:  # what was cut off may read like an answer
            raise self._too_slow()
        return status, data

    def _bounded(self, response: requests.Response) -> bytes:
        data = bytearray()
        for chunk in response.iter_content(16 * 1024):
            data += chunk
            if len(data) > MAX_ANSWER_BYTES:
                raise self._unusable(f"it is longer than {MAX_ANSWER_BYTES // 1024} KB")
            if self._cancelled.is_set():
                raise errors.Cancelled
            if time.monotonic() > self._ends_at:
                raise self._too_slow()
        return bytes(data)

    def _read(self, status: int, data: bytes) -> str:
        said = f"(HTTP {status}: {self._error_text(data)})"
        if status in (401, 403):
            raise self._misconfigured(f"refused the key {said}.", _WHAT_TO_SET, code="MODEL_REFUSED")
        if status in (400, 404, 405, 422) or 300 <= status < 400:
            advice = f"Does the server know this model, and does the model take images? {_WHAT_TO_SET}"
            if status == 404:
                raise self._misconfigured(f"is not there {said}.", advice, code="MODEL_NOT_FOUND")
            raise self._misconfigured(f"does not take the question {said}.", advice, code="MODEL_REFUSED")
        if status != 200:
            advice = "It may have run out of memory: a smaller model, or a smaller image, may do."
            raise self._trouble(f"failed {said}.", advice, code="MODEL_FAILED")
        return self._content(data)

    def _content(self, data: bytes) -> str:
        """The answer's words. An error that comes with status 200 is one, whatever stands beside it."""
        try:
            answer = json.loads(data)
            choice = answer["choices"][0]
            content = choice["message"]["content"]
            is_error = answer.get("error") or choice.get("finish_reason") == "error"
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise self._unusable(f"“{self._error_text(data)}”") from error
        words = _joined(content) if isinstance(content, list) else content or ""
        if is_error or not isinstance(words, str):
            raise self._unusable(f"“{self._error_text(data)}”")
        words = self._without_key(words)
        ended = str(choice.get("finish_reason") or "").casefold()
        return CutOff.of(words, f" by its server ({ended})") if ended in CUT_OFF else words

    def _error_text(self, data: bytes) -> str:
        """The server's own words, on one line and short."""
        text = self._without_key(data.decode("utf-8", "replace"))[:4096]
        try:
            answer: Any = json.loads(text)
            error = (answer.get("error") or answer) if isinstance(answer, dict) else text
            text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
        except (ValueError, RecursionError):
            pass
        line = " ".join(printable(self._without_key(text)).split())
        return (line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}…") or "no words"

    def _without_key(self, text: str) -> str:
        """For servers that repeat what they were sent."""
        return text.replace(self._key, "(the key)") if len(self._key) >= SHORTEST_SECRET else text

    def _too_slow(self) -> errors.RunflowError:
        return self._trouble(
            f"did not answer within {self._timeout_s:.4g} s.",
            "Raise timeout_s, or take a smaller model.",
            code="MODEL_TIMEOUT",
        )

    def _unusable(self, what: str) -> errors.RunflowError:
        return self._trouble(
            f"gave an answer that is not one of a chat server: {what}.", _WHAT_TO_SET, code="MODEL_ANSWER_UNUSABLE"
        )

    def _trouble(self, what: str, advice: str, *, code: str) -> errors.RunflowError:
        text = f"The vision model {self.name} {self.where} {what}"
        return errors.NotJudgedError(text, code=code, cost="Nothing was paid.", advice=advice)

    def _misconfigured(self, what: str, advice: str, *, code: str) -> errors.RunflowError:
        text = f"The vision model {self.name} {self.where} {what}"
        return errors.ConfigurationError(text, code=code, cost="Nothing was paid.", advice=advice)


class _Bearer(requests.auth.AuthBase):
    """Through requests' auth object, so that a ``.netrc`` does not replace the key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _joined(parts: list[Any]) -> str | None:
    """The text of an answer in parts, as some servers give it, without what the model thought; ``None`` where a part
    is not one of text."""
    texts = []
    for part in parts:
        kind, text = (part.get("type", "text"), part.get("text")) if isinstance(part, dict) else ("", None)
        if kind in ("thinking", "reasoning"):
            continue
        if kind not in ("text", "output_text") or not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)


def completions_url(url: str) -> str:
    """Where questions go: an address without a path means the usual ``/v1``."""
    base = url.rstrip("/").removesuffix("/chat/completions")
    if not urlsplit(base).path.strip("/"):
        base = f"{base}/v1"
    return f"{base}/chat/completions"


def _data_uri(pixels: PixelImage) -> str:
    """As PNG, which every server reads, and no larger than ``LONGEST_SIDE``; transparency laid on white."""
    picture = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("RGB")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return data_uri(EncodedImage(buffer.getvalue(), "image/png"))
