"""What one attempt met, as an error that says what happened: no answer, an unusable one, or a refusal.

Causes are told apart by the types of exceptions, never by their texts, which are in the person's language and in
the library's words. Whether anything was sent is known from the body: it is read as it goes out.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.request import getproxies

import pydantic
import requests
import urllib3.exceptions

from .. import errors
from ..errors import RunflowError
from ..settings.config import WHERE_TO_SET_THE_KEY, environment
from .models import Json, parse_json

T = TypeVar("T")

SHOWN_CHARACTERS = 300
"""How much of the API's own words an error quotes."""
CA_BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Where ``requests`` looks for certificates, in this order."""


@dataclass
class FailedAttempt:
    """One attempt that gave no usable answer.

    ``said`` names it in a list of attempts. ``not_accepted``: it is certain that Runflow did not act on it.
    ``is_final``: the next attempt would meet the same.
    """

    error: RunflowError
    said: str
    status: int | None = None
    retry_after: float | None = None
    not_accepted: bool = False
    is_final: bool = False


# --- no answer ----------------------------------------------------------------------------------------


def no_answer(error: Exception, *, nothing_sent: bool) -> FailedAttempt:
    """Name what went wrong in the network, without the address or header that requests puts into its text."""
    if (wrong := _wrong_setting(error)) is not None:
        wrong.__cause__ = error
        return FailedAttempt(wrong, "not sent", not_accepted=True, is_final=True)
    causes = list(_causes(error))
    found = next(each for each in _CAUSES if any(isinstance(cause, each.kinds) for cause in causes))
    said = found.said
    if any(isinstance(cause, (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)) for cause in causes):
        said = f"proxy: {said}"
    failure = errors.NetworkError(f"Runflow could not be reached ({said}).", code=found.code)
    failure.__cause__ = error
    return FailedAttempt(failure, said, not_accepted=nothing_sent)


def _wrong_setting(error: Exception) -> errors.ConfigurationError | None:
    """What stands in the way of every request, and no attempt can fix."""
    nothing = "Nothing was sent and nothing was paid."
    if isinstance(error, requests.exceptions.InvalidSchema):
        return errors.ConfigurationError(
            "The environment names a SOCKS proxy (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY), which Python cannot use yet.",
            code="PROXY_UNUSABLE",
            cost=nothing,
            advice="Install the package PySocks into ComfyUI's Python (python -m pip install pysocks), or unset the "
            "variable, and restart ComfyUI.",
        )
    if isinstance(error, _UNUSABLE_PROXY) and getproxies():  # our own addresses were checked before
        return errors.ConfigurationError(
            "The proxy that the environment names (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) is not a usable address.",
            code="PROXY_UNUSABLE",
            cost=nothing,
            advice="Correct the variable or unset it, and restart ComfyUI.",
        )
    name = next((name for name in CA_BUNDLE_VARIABLES if environment(name)), "")
    if name and (wrong := _wrong_certificates(error, environment(name))):
        return errors.ConfigurationError(
            f"{name} names TLS certificates that {wrong} ({environment(name)}).",
            code="CERTIFICATES_MISSING",
            cost=nothing,
            advice="Correct the variable or unset it, and restart ComfyUI.",
        )
    return None


def _wrong_certificates(error: Exception, bundle: str) -> str:
    """Why no connection can be checked with them; "" if that is not what is wrong."""
    if not os.path.exists(bundle):
        return "" if isinstance(error, requests.exceptions.RequestException) else "are not there"
    if os.path.isdir(bundle) or not isinstance(error, requests.exceptions.SSLError):
        return ""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(bundle)
    except OSError:  # an SSLError is one
        return "cannot be read, or hold no certificate"
    return ""


_UNUSABLE_PROXY = (
    requests.exceptions.InvalidURL,  # InvalidProxyURL is one
    urllib3.exceptions.LocationValueError,
    urllib3.exceptions.ProxySchemeUnknown,
)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and everything behind it, also what libraries hand on as an argument or ``reason``."""
    open_, seen = [error], set[int]()
    while open_:
        cause = open_.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
        open_ += [each for each in inner if isinstance(each, BaseException)]


@dataclass(frozen=True)
class _Cause:
    kinds: tuple[type[BaseException], ...]
    said: str
    code: str = "CONNECTION_FAILED"


_CAUSES = (
    _Cause((ssl.SSLError, requests.exceptions.SSLError), "TLS certificate or handshake refused", code="TLS_FAILED"),
    _Cause((socket.gaierror,), "host name not found"),
    _Cause((ConnectionRefusedError,), "connection refused"),
    _Cause((http.client.IncompleteRead, urllib3.exceptions.IncompleteRead), "answer cut off"),
    # Not urllib3's TimeoutError: every connection that could not be made is one.
    _Cause(
        (requests.exceptions.Timeout, urllib3.exceptions.ReadTimeoutError, TimeoutError, socket.timeout),
        "timed out",
        code="TIMEOUT",
    ),
    _Cause((ConnectionResetError, ConnectionAbortedError, BrokenPipeError), "connection dropped"),
    _Cause((requests.exceptions.ChunkedEncodingError,), "answer cut off"),
    _Cause((BaseException,), "connection failed"),
)
"""The most telling cause first. A reset that ends a TLS handshake is a TLS error; a cut-off answer is not a reset."""


# --- an answer ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HttpAnswer:
    """``data`` is the whole body, without the key should it be in there."""

    status: int
    headers: Mapping[str, str]
    data: bytes


def read_answer(
    answer: HttpAnswer, parse: Callable[[Any], T] | None, what: str, scope: str | None = None
) -> T | FailedAttempt:
    """What the answer holds, or why that cannot be said. Without ``parse`` nobody needs its body."""
    status = answer.status
    if status < 200:  # such as early hints, which no answer followed
        return FailedAttempt(
            errors.InvalidResponseError(f"Runflow gave no final answer (HTTP {status})."), f"HTTP {status}"
        )
    if status < 300:
        return _parsed(parse, answer) if parse else None  # type: ignore[return-value]
    if status < 400:
        text = f"Runflow answered {what} with a redirect, which is not followed, so that the key is not sent elsewhere."
        redirect = errors.InvalidResponseError(text, code="REDIRECT_REFUSED")
        return FailedAttempt(redirect, f"redirect {status}", status)
    retry_after = parse_retry_after(answer.headers.get("Retry-After"), time.time())
    refused = refusal(status, answer.data, what, scope)
    return FailedAttempt(refused, f"HTTP {status}", status, retry_after, not_accepted=status < 500)


def _parsed(parse: Callable[[Any], T], answer: HttpAnswer) -> T | FailedAttempt:
    try:
        return parse(parse_json(answer.data))
    except (ValueError, RecursionError) as error:
        shape = isinstance(error, pydantic.ValidationError)
        said = "an answer of the wrong format" if shape else "an answer that is not JSON"
        failure = errors.InvalidResponseError(f"Runflow gave {said} (HTTP {answer.status}).")
        failure.__cause__ = error
        return FailedAttempt(failure, said)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """``Retry-After`` in seconds from ``now`` (Unix time): a number or an HTTP date, otherwise ``None``."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (TypeError, ValueError, OverflowError):
            return None
    return seconds if 0 <= seconds < float("inf") else None


# --- a refusal ----------------------------------------------------------------------------------------

_BY_STATUS: dict[int, type[errors.ApiError]] = {
    401: errors.AuthenticationError,
    402: errors.InsufficientCreditError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    429: errors.RateLimitError,
}


def refusal(status: int, data: bytes, what: str, scope: str | None = None) -> errors.ApiError:
    """The API's no as an error that says what to do. A body that is not the API's is not quoted.

    ``scope`` is what the key needs for it. What it cost is for the caller to say, who knows what was sent before.
    """
    kind = _BY_STATUS.get(status, errors.ServerError if status >= 500 else errors.ValidationError)
    body = _error_body(data)
    code, said = body.get("code"), body.get("message")
    stable = code if isinstance(code, str) and code.replace("_", "").isalnum() and len(code) <= 64 else None
    found = body.get("errors")
    details = found[:10] if isinstance(found, list) else []
    texts = [_detail(item) for item in details]
    text = f"Runflow refused {what} (HTTP {status})" + (f": {_short(said)}" if isinstance(said, str) and said else ".")
    return kind(
        text + (f" Fields: {'; '.join(texts)}." if texts else ""),
        status=status,
        code=kind.code if kind is errors.InsufficientCreditError else stable,  # the API spells it in two ways
        details=texts,
        fields=[field for item in details if (field := _field(item))],
        advice=_advice(kind, status, scope),
    )


def _advice(kind: type[errors.ApiError], status: int, scope: str | None) -> str:
    if kind is errors.AuthenticationError:
        return f"Check your API key: {WHERE_TO_SET_THE_KEY}."
    if kind is errors.PermissionDeniedError and scope:
        return f"The key needs the scope {scope}."
    if kind is errors.InsufficientCreditError:
        return "The credit balance of your Runflow organisation does not cover this: top it up."
    if status in (400, 422):
        return "Correct the input and run again."
    return ""


def _error_body(data: bytes) -> Json:
    """The body of an error; empty if it is not the API's JSON."""
    try:
        body = parse_json(data)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _detail(item: Any) -> str:
    """One entry of ``errors[]``: ``{field, message}``, ``{loc, msg}`` or plain text."""
    if not isinstance(item, dict):
        return _short(str(item))
    where = ".".join(_place(item))
    said = str(item.get("message") or item.get("msg") or item.get("code") or "")
    return _short(f"{where}: {said}" if where and said else where or said or str(item))


def _field(item: Any) -> str:
    """The field of the request that an entry of ``errors[]`` is about; "" if it names none."""
    parts = [part for part in ".".join(_place(item)).replace("[", ".").split(".") if part and part != "body"]
    return parts[0] if parts else ""


def _place(item: Any) -> list[str]:
    where = (item.get("field") or item.get("loc") or item.get("path") or "") if isinstance(item, dict) else ""
    return [str(part) for part in where] if isinstance(where, list) else [str(where)] if where else []


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
