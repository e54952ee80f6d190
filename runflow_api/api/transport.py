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
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from pydantic_core import to_json
from requests.adapters import HTTPAdapter

from .. import errors
from .._version import VERSION
from ..errors import RunflowError
from ..settings.config import Config, is_loopback_host
from .failed_attempts import FailedAttempt, HttpAnswer, no_answer, parse_retry_after, read_answer
from .models import parse_json
from .upload_address import UPLOAD_ADDRESS_REFUSED, CheckedAddresses, address_error

__all__ = ["Deadline", "Outgoing", "RateLimiter", "Transport", "parse_retry_after", "retry_delay", "should_retry"]

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

    @property
    def share(self) -> float | None:
        """How many requests per second this process may send; ``None`` if nothing limits them."""
        return None

    def wait(self, deadline: Deadline) -> None:
        """Return when the pause is over or the deadline is reached."""
        while (left := self._closed_until - self._clock()) > 0 and deadline.remaining > 0:
            deadline.wait(left)


@dataclass(frozen=True)
class Outgoing:
    """What one logical call sends: the same bytes at every attempt.

    ``path`` is below the base URL; an address in its place is where an upload goes, never with the key.
    ``what`` names it in errors, ``scope`` is what the key needs for it.
    """

    method: str
    path: str
    body: bytes | None = None
    content_type: str = "application/json"
    query: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    what: str = "the request"
    scope: str | None = None
    with_key: bool = True

    @property
    def is_upload(self) -> bool:
        return not self.path.startswith("/")


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
    """Seconds before the next attempt: what the server asks for, otherwise exponential with jitter.

    ``attempt`` counts from 0, ``randomness`` gives numbers from [0, 1).
    """
    if retry_after is not None:
        return min(retry_after, LONGEST_RETRY_AFTER_S)
    ceiling = min(FIRST_DELAY_S * 2.0 ** min(attempt, 16), LONGEST_DELAY_S)
    return ceiling * (0.5 + 0.5 * randomness())


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
    attempt, to connect and between two bytes; ``in_progress_s`` is how long a 409 on a resend is waited out;
    ``uploads`` connects to where uploads go.
    """

    def __init__(
        self,
        config: Config,
        *,
        delay: Callable[[int, float | None], float] = retry_delay,
        timeouts: tuple[float, float] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
        in_progress_s: float = IN_PROGRESS_S,
        uploads: HTTPAdapter | None = None,
    ) -> None:
        self.config = config
        self.limiter = RateLimiter()
        self._delay = delay
        self._timeouts = timeouts
        self._in_progress_s = in_progress_s
        self._session = _session(config)
        self._uploads = _session(config)
        if not config.is_loopback:
            self._uploads.mount("https://", uploads or CheckedAddresses())

    def close(self) -> None:
        self._session.close()
        self._uploads.close()

    def send(
        self,
        outgoing: Outgoing,
        parse: Callable[[Any], T] | None,
        deadline: Deadline,
        *,
        may_have_arrived: bool = False,
    ) -> T:
        """One logical call; ``parse`` turns the JSON into a record or raises ``ValueError``.

        ``may_have_arrived``: an earlier process sent these bytes already, so that the first send of this
        one is a resend. Raises the errors of ``errors.py``, each with what every attempt met, and whether one
        of them may have been accepted.
        """
        progress = _Attempts(outgoing.what, may_have_arrived, self._in_progress_s)
        while True:
            self.limiter.wait(deadline)
            if deadline.cancelled.is_set():
                raise errors.Cancelled
            if deadline.remaining <= 0:
                raise progress.error
            body = io.BytesIO(outgoing.body or b"")
            try:
                result = read_answer(self._exchange(outgoing, body, deadline), parse, outgoing.what, outgoing.scope)
            except errors.InvalidResponseError as error:
                said = "an answer too large or too slow"
                result = FailedAttempt(error, said, is_final=error.code == UPLOAD_ADDRESS_REFUSED)
            except (OSError, urllib3.exceptions.HTTPError) as error:
                result = no_answer(error, nothing_sent=body.tell() == 0)
            if not isinstance(result, FailedAttempt):
                return result
            delay = self._delay(progress.count, result.retry_after)
            if progress.is_over(result, delay, deadline):
                raise progress.error
            if result.status == 429:
                self.limiter.pause(delay)
            deadline.wait(delay)

    def put_file(self, url: str, data: bytes, mime_type: str, deadline: Deadline) -> None:
        """Upload ``data`` where the API said, without the key.

        The address must be https and public; on a loopback base URL also http on loopback.
        """
        parts = urlsplit(url)
        is_local = self.config.is_loopback and is_loopback_host(parts.hostname or "")
        if not parts.hostname or not (parts.scheme == "https" or (is_local and parts.scheme == "http")):
            raise address_error("it is not a public https address")
        outgoing = Outgoing("PUT", url, data, mime_type, what="the image upload")
        self.send(outgoing, None, deadline)

    def server_time(self, deadline: Deadline) -> float | None:
        """The server's clock (Unix time, whole seconds), ``None`` if it does not tell. No key is sent.

        Raises ``NetworkError`` if nobody answers.
        """
        outgoing = Outgoing("GET", "/", what="the server's clock", with_key=False)
        try:
            answer = self._exchange(outgoing, io.BytesIO(), deadline)
            return email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
        except OSError as error:
            raise no_answer(error, nothing_sent=True).error from error
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def _exchange(self, outgoing: Outgoing, body: io.BytesIO, deadline: Deadline) -> HttpAnswer:
        """Send once and read the whole answer. ``body`` is where it stands as far as it was sent."""
        left = max(deadline.remaining, SHORTEST_TIMEOUT_S)
        session = self._uploads if outgoing.is_upload else self._session
        with session.request(
            outgoing.method,
            outgoing.path if outgoing.is_upload else self.config.base_url + outgoing.path,
            params=dict(outgoing.query),
            # As a file it is sent piece by piece, and the time-out is of each: a slow line may take its time.
            data=body if outgoing.body else outgoing.body,
            headers=self._headers(outgoing),
            auth=_Bearer(self.config) if outgoing.with_key and not outgoing.is_upload else _NoAuth(),
            timeout=(min(self._timeouts[0], left), min(self._timeouts[1], left)),
            allow_redirects=False,
            stream=True,
        ) as response:
            data = bytearray()
            for chunk in response.iter_content(CHUNK_BYTES):
                data += chunk
                if len(data) > MAX_ANSWER_BYTES or deadline.remaining <= 0:
                    raise errors.InvalidResponseError(f"The answer to {outgoing.what} was too large or too slow.")
            return HttpAnswer(response.status_code, response.headers, self._without_key(bytes(data)))

    def _headers(self, outgoing: Outgoing) -> dict[str, str]:
        headers = {} if outgoing.body is None else {"Content-Type": outgoing.content_type}
        if outgoing.idempotency_key:
            headers["Idempotency-Key"] = outgoing.idempotency_key
        if self.config.organization_id and not outgoing.is_upload:
            headers["X-Organization-Id"] = self.config.organization_id
        return headers

    def _without_key(self, data: bytes) -> bytes:
        """An answer that repeats the key, as it is or escaped as JSON may be, without it."""
        key = self.config.api_key.get_secret_value().encode() if self.config.api_key else b""
        if not key:
            return data
        if b"\\u" in data:
            with contextlib.suppress(ValueError, RecursionError):  # no JSON: then nothing in it is escaped
                plain = to_json(parse_json(data))
                data = plain if key in plain else data
        return data.replace(key, b"***")


class _Attempts:
    """What the attempts of one call met so far, and whether to go on."""

    def __init__(self, what: str, may_have_arrived: bool, in_progress_s: float) -> None:
        self._may_have_been_accepted = may_have_arrived
        self._in_progress_s = in_progress_s
        self._said: list[str] = []
        self._counted = 0
        self._conflicts_end = float("inf")
        self._latest: RunflowError = errors.NetworkError(f"The time for {what} was used up.", code="TIMEOUT")

    @property
    def count(self) -> int:
        return len(self._said)

    @property
    def error(self) -> RunflowError:
        """What the last attempt met, with what the others did."""
        self._latest.attempts = tuple(self._said)
        return self._latest

    def is_over(self, failed: FailedAttempt, delay: float, deadline: Deadline) -> bool:
        """Take note of one more, after which the next would come in ``delay`` seconds."""
        self._said.append(failed.said)
        self._latest = failed.error
        self._counted += failed.status not in NOT_COUNTED
        ends = deadline.ends_at
        if failed.status == 409:
            self._conflicts_end = min(self._conflicts_end, time.monotonic() + self._in_progress_s)
            ends = min(ends, self._conflicts_end)
        retry = should_retry(failed.status, may_have_been_accepted=self._may_have_been_accepted)
        self._may_have_been_accepted |= not failed.not_accepted
        self._latest.may_have_been_accepted = self._may_have_been_accepted
        is_late = ends - time.monotonic() <= delay
        return failed.is_final or not retry or self._counted >= MAX_ATTEMPTS or is_late


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
