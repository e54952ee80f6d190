"""What the sandbox may be told to do: faults and verdicts, from Python, a script or the command line."""

from __future__ import annotations

import email.utils
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import pydantic
from pydantic import ConfigDict, Field, TypeAdapter

from ..api.models import Json
from ..errors import InvalidInputError
from .validation import HttpError, Response, field_errors

T = TypeVar("T")

FaultKind = Literal[
    "status", "html", "redirect", "garbage", "not_utf8", "wrong_shape", "drop_before", "drop_after", "truncated",
    "slow", "late", "hang", "hang_upload",
]  # fmt: skip
FailureCode = Literal["invalid_media", "dispatch_failed", "processing_failed", "timed_out"]
BILLED_FAILURES = frozenset({"processing_failed", "timed_out"})
"""Failures after processing had started: the API charges those, and no others."""

_ACTING = frozenset({"drop_after", "truncated", "slow", "late", "garbage", "not_utf8", "wrong_shape"})
DEFAULT_DELAY_S = 1.0
_DEFAULT_STATUS = {"status": 503, "html": 502, "redirect": 302}
_ABSURD_RETRY_AFTER = "999999999999"


@dataclass(frozen=True)
class Fault:
    """What goes wrong with requests of ``method`` (``*``: any) whose whole path matches the regex ``path``.

    ``kind``:

    - ``status``: an error in the API's shape, ``status`` (503)
    - ``html``: a proxy's page, ``status`` (502)
    - ``redirect``: ``status`` (302) to ``location``
    - ``garbage``, ``not_utf8``, ``wrong_shape``: the real answer's status with bytes that are not JSON, not
      UTF-8, or JSON that is not an object
    - ``drop_before``, ``drop_after``: the connection closes without an answer, before or after acting
    - ``truncated``: half of the real answer, then the connection closes
    - ``slow``: the real answer, dripped over ``delay`` seconds (1)
    - ``late``: acts only after ``delay`` seconds; meanwhile its idempotency key is in flight
    - ``hang``: reads the request and never answers; ``hang_upload``: does not even read the body. Both end
      when the sandbox stops

    The first ``after_skip`` matching requests are spared, then ``times`` are hit (``None``: all). ``delay``
    comes before the others. ``acts`` says whether the request is carried out before things go wrong; unset,
    it follows from the kind (``status``, ``html``, ``redirect``, ``drop_before`` and the hangs do not act).
    What sends the real answer always acts.
    ``retry_after`` is sent as it is, but for ``absurd`` (some 30,000 years) and ``date:S`` (the HTTP date S
    seconds from now). ``body`` replaces the answer's: text and bytes as they are, everything else as JSON.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    method: str = "*"
    path: str = ".*"
    kind: FaultKind = "status"
    times: Annotated[int, Field(ge=1)] | None = 1
    after_skip: Annotated[int, Field(ge=0)] = 0
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    retry_after: str | None = None
    delay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    body: Any = None
    location: str = "https://elsewhere.invalid/"
    acts: bool | None = None

    def __post_init__(self) -> None:
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(f"path is no regular expression: {error}") from error
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"kind is one of {', '.join(get_args(FaultKind))}")
        self.headers()  # raises ValueError for a date that is none

    def matches(self, method: str, path: str) -> bool:
        return self.method.upper() in ("*", method) and re.fullmatch(self.path, path) is not None

    @property
    def seconds(self) -> float:
        """How long ``slow`` and ``late`` take."""
        return DEFAULT_DELAY_S if self.delay is None else self.delay

    @property
    def does_act(self) -> bool:
        return self.kind in _ACTING if self.acts is None else self.acts

    def headers(self) -> dict[str, str]:
        headers = {"Location": self.location} if self.kind == "redirect" else {}
        if self.retry_after is not None:
            headers["Retry-After"] = _retry_after(self.retry_after)
        return headers

    def distort(self, answer: Response | None) -> Response:
        """What is sent in place of ``answer`` (``None``: the request was not carried out)."""
        status = self.status or _DEFAULT_STATUS.get(self.kind) or (answer.status if answer else 200)
        content_type, body = _DISTORTED[self.kind](status)
        if self.body is not None:
            body = _raw(self.body)
        return Response(status, body, content_type, self.headers())


def _retry_after(value: str) -> str:
    if value.startswith("date:"):
        moment = time.time() + float(value.removeprefix("date:"))
        return email.utils.formatdate(moment, usegmt=True)
    return _ABSURD_RETRY_AFTER if value == "absurd" else value


def _raw(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _page(status: int) -> tuple[str, bytes]:
    text = f"<!DOCTYPE html><html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    return "text/html", text.encode()


def _json_error(status: int) -> tuple[str, bytes]:
    return "application/json", HttpError(status, f"A scripted {status} of the sandbox.").answer().body


_DISTORTED: dict[str, Callable[[int], tuple[str, bytes]]] = {
    "status": _json_error,
    "html": _page,
    "redirect": lambda status: ("text/plain", b"elsewhere"),
    "garbage": lambda status: ("application/json", b"%PDF-1.4 \x00\x01\x02 {not json"),
    "not_utf8": lambda status: ("application/json", b'{"id": "caf\xe9 \xff\xfe"}'),
    "wrong_shape": lambda status: ("application/json", b'["not", "an", "object"]'),
}


@dataclass(frozen=True)
class ScriptedVerdict:
    """The verdict of one new evaluation, in place of the local judge's.

    ``score`` "auto" is 1.0 when passed and 0.0 when not; ``None`` is not a score. ``null``: completed without
    a verdict or a score. ``failure_code``: the evaluation fails. ``latency``: seconds, in place of the
    sandbox's. ``judges`` and ``gate_failures`` are objects with the fields of the reference; a judge's
    issues may be plain text. ``extra`` overrides any field of the answer, known or not.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    passed: bool = True
    score: Annotated[float, Field(allow_inf_nan=False)] | Literal["auto"] | None = "auto"
    issues: Sequence[str] = ()
    strengths: Sequence[str] = ()
    improved_prompt: str | None = None
    failure_summary: str | None = None
    action_code: str | None = None
    override_reason: str | None = None
    latency: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    failure_code: FailureCode | None = None
    null: bool = False
    judges: Sequence[Mapping[str, Any]] = ()
    gate_failures: Sequence[Mapping[str, Any]] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def answer(self) -> Json:
        """The fields of the answer that a verdict sets, embeds included; ids are left to the sandbox."""
        code = self.action_code or ("accept" if self.passed else "regenerate")
        action = {
            "primary_action": code,
            "failure_summary": self.failure_summary or "; ".join(self.issues) or None,
            "improved_prompt": self.improved_prompt,
        }
        return {
            "overall_passed": None if self.null else self.passed,
            "weighted_pass_rate": None if self.null else self._score(),
            "override_reason": self.override_reason,
            "top_issues": list(self.issues),
            "top_strengths": list(self.strengths),
            "primary_action_code": code,
            "judges": [_with_issue_objects(judge) for judge in self.judges],
            "gate_failures": [dict(failure) for failure in self.gate_failures],
            "action": None if self.passed and self.improved_prompt is None else action,
            **self.extra,
        }

    def _score(self) -> float | None:
        return float(self.passed) if self.score == "auto" else self.score


def _with_issue_objects(judge: Mapping[str, Any]) -> Json:
    issues = [{"detail": issue} if isinstance(issue, str) else dict(issue) for issue in judge.get("issues") or ()]
    return {**judge, "issues": issues}


@dataclass(frozen=True)
class Script:
    """The file of ``--script``: verdicts in order, faults, and runs (the arguments of ``Sandbox.add_run``)."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    verdicts: list[ScriptedVerdict] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    runs: list[Json] = field(default_factory=list)


def load_script(path: Path) -> Script:
    """Read a script. Raises ``InvalidInputError`` that names the file, or the entry and its field."""
    try:
        payload = json.loads(path.read_bytes())  # UTF-8 or UTF-16, with or without a byte order mark
    except OSError as error:
        raise InvalidInputError("--script", f"{path.name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInputError("--script", f"{path.name} is not JSON: {error}.") from error
    return _from_outside(Script, payload, "--script")


def _from_outside(kind: type[T], payload: Any, where: str) -> T:
    try:
        return TypeAdapter(kind).validate_python(payload)
    except pydantic.ValidationError as error:
        faults = "; ".join(f"{name}: {text}" for name, text in field_errors(error))
        raise InvalidInputError(where, faults) from None


def parse_fault(text: str) -> Fault:
    """``METHOD PATH KIND [xN | always] [status=N] [retry_after=V] [delay=S] [skip=N] [location=URL]``."""
    words = text.split()
    if len(words) < 3:
        raise InvalidInputError("--fault", f"{text!r} is not METHOD PATH KIND [xN] [name=value ...].")
    payload: Json = {"method": words[0], "path": words[1], "kind": words[2]}
    for word in words[3:]:
        payload.update(_fault_option(text, word))
    return _from_outside(Fault, payload, f"--fault {text!r}")


def _fault_option(text: str, word: str) -> Json:
    if word == "always":
        return {"times": None}
    if re.fullmatch(r"x[0-9]{1,6}", word):
        return {"times": int(word[1:])}
    name, equals, value = word.partition("=")
    if not equals:
        raise InvalidInputError("--fault", f"{text!r}: {word!r} is neither xN, always nor name=value.")
    return {"after_skip" if name == "skip" else name: value}


class Faults:
    """The scripted faults, in order; the first that matches and is not used up applies."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._lock = threading.Lock()
        self._entries: list[tuple[Fault, list[int]]] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._entries.append((fault, [0]))

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault, seen in self._entries:
                if not fault.matches(method, path):
                    continue
                seen[0] += 1
                hits = seen[0] - fault.after_skip
                if hits > 0 and (fault.times is None or hits <= fault.times):
                    return fault
        return None
