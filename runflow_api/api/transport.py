"""One request to Runflow, from bytes to a parsed answer: time-outs, retries, the shared rate limit.

Deciding (``should_retry``), delaying (``retry_delay``) and sending are separate, so that each can be
read and tested alone. What is sent is fixed before the first attempt: every resend carries the same
bytes and the same idempotency key.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.cookiejar
import io
import ipaddress
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pydantic
import requests
from pydantic_core import from_json, to_json
from requests.adapters import HTTPAdapter

from .. import errors
from .._version import VERSION
from ..settings.config import WHERE_TO_SET_THE_KEY, Config, is_loopback_host

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
"""Longest silence on an open connection. A slow answer that keeps coming is not silent."""
SHORTEST_TIMEOUT_S = 0.1
MAX_ATTEMPTS = 5
"""For server errors, network errors and unusable answers."""
NOT_COUNTED = frozenset({409, 429})
"""These say that the server works and will answer: they are waited out."""
IN_PROGRESS_S = 60.0
"""So long a resend is told 409 by a server that is still busy with the first send; longer, and it is for good."""
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 8.0
LONGEST_RETRY_AFTER_S = 30.0
"""A longer ``Retry-After`` is cut to this: nobody waits a day on a header's word."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
SHOWN_CHARACTERS = 300
"""How much of the API's own words an error quotes."""


@dataclass
class Deadline:
    """How long one logical call may go on, and who may end it.

    ``ends_at`` is a moment of ``time.monotonic``. ``cancelled`` is looked at before every send and
    during every wait; a call that hangs in the network is left behind by whoever set it.
    """

    ends_at: float = float("inf")
    cancelled: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def after(cls, seconds: float, cancelled: threading.Event | None = None) -> Deadline:
        return cls(time.monotonic() + seconds, cancelled or threading.Event())

    @property
    def remaining(self) -> float:
        return self.ends_at - time.monotonic()

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than the deadline. Raises ``Cancelled`` as soon as that is asked for."""
        if self.cancelled.wait(max(0.0, min(seconds, self.remaining))):
            raise errors.Cancelled


class RateLimiter:
    """One pause for everybody: a 429 to one request holds back all of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._closed_until = 0.0

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._closed_until = max(self._closed_until, self._clock() + seconds)

    def wait(self, deadline: Deadline) -> None:
        """Return when the pause is over or the deadline is reached."""
        while (left := self._closed_until - self._clock()) > 0 and deadline.remaining > 0:
            deadline.wait(left)


@dataclass(frozen=True)
class Outgoing:
    """What one logical call sends: the same bytes at every attempt."""

    method: str
    url: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    what: str = "the request"
    scope: str | None = None


@dataclass
class _Failure:
    """One attempt that gave no usable answer."""

    error: Refused
    said: str
    status: int | None = None
    retry_after: float | None = None


def should_retry(status: int | None, *, may_have_been_accepted: bool = False) -> bool:
    """Whether another attempt makes sense after ``status``; ``None`` means that no usable answer came.

    429, 5xx and network errors are retried, every other 4xx never. A 409 is final on a first send; on a
    resend it says that the first one was accepted or is in progress.
    """
    if status is None or status == 429 or status >= 500:
        return True
    return status == 409 and may_have_been_accepted


def retry_delay(
    attempt: int, retry_after: float | None = None, randomness: Callable[[], float] = random.random
) -> float:
    """Seconds before the next attempt: what the server asks for, else exponential with jitter.

    ``attempt`` counts from 0, ``randomness`` gives numbers from [0, 1).
    """
    if retry_after is not None:
        return min(retry_after, LONGEST_RETRY_AFTER_S)
    ceiling = min(FIRST_DELAY_S * 2.0 ** min(attempt, 16), LONGEST_DELAY_S)
    return ceiling * (0.5 + 0.5 * randomness())


def parse_retry_after(value: str | None, now: float) -> float | None:
    """``Retry-After`` in seconds from ``now`` (Unix time): a number or an HTTP date, else ``None``."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (TypeError, ValueError, OverflowError):
            return None
    return seconds if 0 <= seconds < float("inf") else None


class _Bearer(requests.auth.AuthBase):
    """Sets the key through requests' auth object, which ``.netrc`` cannot replace."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._config.require_key()}"
        return request


class _NoAuth(requests.auth.AuthBase):
    """Sends no credentials, not even those of ``.netrc``."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class Transport:
    """Sends requests to one base URL with one key. Safe to use from several threads.

    ``delay`` gives the seconds before an attempt, as ``retry_delay`` does; ``timeouts`` are those of one
    attempt, to connect and between two bytes; ``in_progress_s`` is how long a 409 on a resend is waited out.
    """

    def __init__(
        self,
        config: Config,
        *,
        delay: Callable[[int, float | None], float] = retry_delay,
        timeouts: tuple[float, float] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
        in_progress_s: float = IN_PROGRESS_S,
    ) -> None:
        self.config = config
        self.limiter = RateLimiter()
        self._delay = delay
        self._timeouts = timeouts
        self._in_progress_s = in_progress_s
        self._session = _session(config)

    def close(self) -> None:
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        parse: Callable[[Any], T],
        deadline: Deadline,
        *,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        may_have_arrived: bool = False,
        what: str = "the request",
        scope: str | None = None,
    ) -> T:
        """One logical call to the API; ``parse`` turns the JSON into a record or raises ``ValueError``.

        ``may_have_arrived``: an earlier process sent these bytes already, so that the first send of this
        one is a resend. Raises the errors of ``errors.py``, each with what was tried.
        """
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        if self.config.organization_id:
            headers["X-Organization-Id"] = self.config.organization_id
        outgoing = Outgoing(method, self.config.base_url + path, body, headers, query or {}, what, scope)
        auth = _Bearer(self.config)
        return self._persist(outgoing, deadline, lambda data: parse(_json(data)), auth, may_have_arrived)

    def put_file(self, url: str, data: bytes, mime_type: str, deadline: Deadline) -> None:
        """Upload ``data`` where the API said, without the key.

        The address must be https and public; on a loopback base URL also http on loopback.
        """
        self._check_upload_address(url)
        outgoing = Outgoing("PUT", url, data, {"Content-Type": mime_type}, what="the image upload")
        self._persist(outgoing, deadline, lambda _: None, _NoAuth(), False)

    def server_time(self, deadline: Deadline) -> float | None:
        """The server's clock (Unix time, whole seconds), ``None`` where it does not tell. No key is sent.

        Raises ``NetworkError`` where nobody answers.
        """
        outgoing = Outgoing("GET", self.config.base_url + "/", what="the server's clock")
        try:
            _, headers, _ = self._exchange(outgoing, deadline, _NoAuth())
            return email.utils.parsedate_to_datetime(headers["Date"]).timestamp()
        except requests.exceptions.RequestException as error:
            raise _no_answer(error).error from error
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def _persist(
        self,
        outgoing: Outgoing,
        deadline: Deadline,
        parse: Callable[[bytes], T],
        auth: requests.auth.AuthBase,
        may_have_been_accepted: bool,
    ) -> T:
        attempts: list[str] = []
        counted = 0
        conflicts_end = float("inf")
        latest: Refused | None = None
        while True:
            self.limiter.wait(deadline)
            if deadline.cancelled.is_set():
                raise errors.Cancelled
            if deadline.remaining <= 0:
                raise _with_history(latest or _out_of_time(outgoing.what), attempts)
            outcome = self._attempt(outgoing, deadline, parse, auth)
            if not isinstance(outcome, _Failure):
                return outcome
            attempts.append(outcome.said)
            latest = outcome.error
            if isinstance(latest, errors.ApiError):
                latest.may_have_been_accepted = may_have_been_accepted
            counted += outcome.status not in NOT_COUNTED
            ends = deadline.ends_at
            if outcome.status == 409:
                conflicts_end = min(conflicts_end, time.monotonic() + self._in_progress_s)
                ends = min(ends, conflicts_end)
            delay = self._delay(len(attempts) - 1, outcome.retry_after)
            exhausted = counted >= MAX_ATTEMPTS or ends - time.monotonic() <= delay
            if exhausted or not should_retry(outcome.status, may_have_been_accepted=may_have_been_accepted):
                raise _with_history(latest, attempts)
            may_have_been_accepted = may_have_been_accepted or outcome.said not in NEVER_ACTED_ON
            if outcome.status == 429:
                self.limiter.pause(delay)
            deadline.wait(delay)

    def _attempt(
        self, outgoing: Outgoing, deadline: Deadline, parse: Callable[[bytes], T], auth: requests.auth.AuthBase
    ) -> T | _Failure:
        try:
            status, headers, data = self._exchange(outgoing, deadline, auth)
        except requests.exceptions.RequestException as error:
            return _no_answer(error)
        except errors.InvalidResponseError as error:
            return _Failure(error, "an answer too large or too slow")
        if status < 200:  # such as early hints, which no answer followed
            failure = errors.InvalidResponseError(f"Runflow gave no final answer (HTTP {status}).")
            return _Failure(failure, f"HTTP {status}")
        if status < 300:
            return _read(parse, data, status)
        if status < 400:
            text = f"Runflow answered {outgoing.what} with a redirect, which is not followed: the key stays here."
            redirect = errors.InvalidResponseError(text, code="REDIRECT_REFUSED")
            return _Failure(redirect, f"redirect {status}", status)
        retry_after = parse_retry_after(headers.get("Retry-After"), time.time())
        return _Failure(_refusal(status, data, outgoing), f"HTTP {status}", status, retry_after)

    def _exchange(
        self, outgoing: Outgoing, deadline: Deadline, auth: requests.auth.AuthBase
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send once and read the whole answer, with every trace of the key taken out of it."""
        left = max(deadline.remaining, SHORTEST_TIMEOUT_S)
        with self._session.request(
            outgoing.method,
            outgoing.url,
            params=dict(outgoing.query),
            # As a file it is sent piece by piece, and the time-out is of each: a slow line may take its time.
            data=io.BytesIO(outgoing.body) if outgoing.body else outgoing.body,
            headers=dict(outgoing.headers),
            auth=auth,
            timeout=(min(self._timeouts[0], left), min(self._timeouts[1], left)),
            allow_redirects=False,
            stream=True,
        ) as response:
            data = bytearray()
            for chunk in response.iter_content(CHUNK_BYTES):
                data += chunk
                if len(data) > MAX_ANSWER_BYTES or deadline.remaining <= 0:
                    raise errors.InvalidResponseError(f"The answer to {outgoing.what} was too large or too slow.")
            return response.status_code, response.headers, self._without_key(bytes(data))

    def _without_key(self, data: bytes) -> bytes:
        """An answer that repeats the key, as it is or escaped as JSON may be, without it."""
        key = self.config.api_key.get_secret_value().encode() if self.config.api_key else b""
        if not key:
            return data
        if b"\\u" in data:
            with contextlib.suppress(ValueError, RecursionError):  # no JSON: then nothing in it is escaped
                plain = to_json(_json(data))
                data = plain if key in plain else data
        return data.replace(key, b"***")

    def _check_upload_address(self, url: str) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if self.config.is_loopback and is_loopback_host(host) and parts.scheme in ("http", "https"):
            return
        if parts.scheme != "https" or not host or not _is_public(host):
            raise errors.InvalidResponseError(
                "Runflow named an upload address that is not a public https address. Nothing was uploaded.",
                code="UPLOAD_ADDRESS_REFUSED",
            )


def _session(config: Config) -> requests.Session:
    session = requests.Session()
    # Proxies of the environment are honoured, but not for a server on this machine.
    session.trust_env = not config.is_loopback
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    session.headers["User-Agent"] = f"comfyui-runflow-evaluate/{VERSION}"
    session.headers["Accept"] = "application/json"
    adapter = HTTPAdapter(pool_connections=4, pool_maxsize=config.concurrency)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _is_public(host: str) -> bool:
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return True  # not resolved here: a proxy may, and otherwise the connection fails by itself
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_global for address in addresses)


def _json(data: bytes) -> Any:
    # pydantic's parser bounds the depth and refuses NaN and invalid UTF-8. An empty body, as a 204 has it, is null:
    # enough where nothing is read from it, and of the wrong shape elsewhere.
    if not data:
        return None
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError:
        if b"\\u" not in data:
            raise
        return from_json(_without_halves(data), allow_inf_nan=False)


def _without_halves(data: bytes) -> bytes:
    """JSON with a question mark for each half of a character: a text that was cut inside an emoji has one."""
    return json.dumps(json.loads(data), ensure_ascii=False).encode("utf-8", errors="replace")


def _read(parse: Callable[[bytes], T], data: bytes, status: int) -> T | _Failure:
    try:
        return parse(data)
    except (ValueError, RecursionError) as error:
        shape = isinstance(error, pydantic.ValidationError)
        said = "an answer of the wrong shape" if shape else "an answer that is not JSON"
        failure = errors.InvalidResponseError(f"Runflow gave {said} (HTTP {status}).")
        failure.__cause__ = error
        return _Failure(failure, said)


def never_arrived(error: errors.RunflowError) -> bool:
    """Whether it is certain that no attempt was acted on."""
    return set(error.attempts) <= NEVER_ACTED_ON


REFUSED, NOT_RESOLVED, NOT_TRUSTED = "connection refused", "host name not found", "TLS certificate or handshake refused"
NEVER_ACTED_ON = frozenset({REFUSED, NOT_RESOLVED, NOT_TRUSTED, "HTTP 429"})
"""There was no connection to send anything over, or the request was turned away at the door."""


def _no_answer(error: requests.exceptions.RequestException) -> _Failure:
    """Name what went wrong in the network, without the address or header that requests puts into its text."""
    code, said = "CONNECTION_FAILED", "connection failed"
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        code, said = "TLS_FAILED", NOT_TRUSTED
    elif isinstance(error, requests.exceptions.ProxyError):
        said = "proxy failed"
    elif isinstance(error, requests.exceptions.Timeout) or "timed out" in text:
        code, said = "TIMEOUT", "timed out"
    elif "NameResolution" in text or "getaddrinfo" in text or "Name or service" in text:
        said = NOT_RESOLVED
    elif "refused" in text:
        said = REFUSED
    elif isinstance(error, requests.exceptions.ChunkedEncodingError) or "IncompleteRead" in text:
        said = "answer cut off"
    elif "reset" in text or "RemoteDisconnected" in text or "aborted" in text:
        said = "connection dropped"
    failure = errors.NetworkError(f"Runflow could not be reached ({said}).", code=code)
    failure.__cause__ = error
    return _Failure(failure, said)


_BY_STATUS: dict[int, type[errors.ApiError]] = {
    401: errors.AuthenticationError,
    402: errors.InsufficientCreditError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    429: errors.RateLimitError,
}


def _refusal(status: int, data: bytes, outgoing: Outgoing) -> errors.ApiError:
    """The API's no as an error that says what to do. A body that is not the API's is not quoted."""
    kind = _BY_STATUS.get(status, errors.ServerError if status >= 500 else errors.ValidationError)
    code, said, details = _error_body(data)
    if kind is errors.InsufficientCreditError:
        code = kind.code  # the API spells it in two ways
    text = f"Runflow refused {outgoing.what} (HTTP {status})" + (f": {said}" if said else ".")
    if details:
        text += " Fields: " + "; ".join(details) + "."
    return kind(f"{text} {_advice(kind, status, outgoing)}".strip(), status=status, code=code, details=details)


def _advice(kind: type[errors.ApiError], status: int, outgoing: Outgoing) -> str:
    """What to do. What it cost is for the caller to say, who knows what was sent before."""
    if kind is errors.AuthenticationError:
        return f"Check your API key: {WHERE_TO_SET_THE_KEY}."
    if kind is errors.PermissionDeniedError and outgoing.scope:
        return f"The key needs the scope {outgoing.scope}."
    if kind is errors.InsufficientCreditError:
        return "The credit balance of your Runflow organisation does not cover it: top it up."
    if status in (400, 422):
        return "Correct the input and run again."
    return ""


def _error_body(data: bytes) -> tuple[str | None, str, list[str]]:
    """(code, message, per-field texts) of an error body; empty where it is not the API's JSON."""
    try:
        body = _json(data)
    except (ValueError, RecursionError):
        return None, "", []
    if not isinstance(body, dict):
        return None, "", []
    code, message, items = body.get("code"), body.get("message"), body.get("errors")
    stable = code if isinstance(code, str) and code.replace("_", "").isalnum() and len(code) <= 64 else None
    details = [_detail(item) for item in items[:10]] if isinstance(items, list) else []
    return stable, _short(message) if isinstance(message, str) else "", details


def _detail(item: Any) -> str:
    """One entry of ``errors[]``: ``{field, message}``, ``{loc, msg}`` or plain text."""
    if not isinstance(item, dict):
        return _short(str(item))
    where = item.get("field") or item.get("loc") or item.get("path") or ""
    where = ".".join(str(part) for part in where) if isinstance(where, list) else str(where)
    said = str(item.get("message") or item.get("msg") or item.get("code") or "")
    return _short(f"{where}: {said}" if where and said else where or said or str(item))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _out_of_time(what: str) -> errors.NetworkError:
    return errors.NetworkError(f"The time for {what} was used up.", code="TIMEOUT")


Refused = errors.ApiError | errors.NetworkError | errors.InvalidResponseError
Tried = TypeVar("Tried", bound=Refused)


def _with_history(error: Tried, attempts: list[str]) -> Tried:
    error.attempts = tuple(attempts)
    return error
