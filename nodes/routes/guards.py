"""Who may ask: an allowed ``Host``, ComfyUI's own page for a change, this machine for key and limits.

A page of another site can make its own name point to this machine, but it can change neither the ``Host`` nor the
``Origin`` nor the ``Sec-Fetch-Site`` that browsers send. A proxy in front of ComfyUI can change ``Host``.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

from ...runflow_api.settings import config

MAX_BODY = 16 * 1024
MAX_PROMPT = 8 * 1024 * 1024
"""Of a request that holds a whole prompt."""
MAX_SHOWN_OF_A_HOST = 80
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")
"""A proxy on this machine makes every visitor look like this machine; these headers give it away."""

HOST_NOT_ALLOWED = (
    "ComfyUI was opened as {name!r}, a name that is not known here: any website could point one of its names at this "
    "machine. If it is yours, set the environment variable RUNFLOW_WEB_HOSTS to {allow} and restart ComfyUI, or add it "
    "to the list web_hosts in the pack's config.json."
)
OTHER_ORIGIN = (
    "This changes something, so it is accepted from ComfyUI's own page only, but it came from {origin!r} to {host!r}. "
    "If there is a proxy in between, let it pass on the name (nginx: proxy_set_header Host $http_host), or set the "
    "environment variable RUNFLOW_WEB_HOSTS to {allow} and restart ComfyUI."
)
THIS_MACHINE_ONLY = (
    "Key and limits can be changed only on the machine that ComfyUI runs on, with ComfyUI opened as localhost or "
    "127.0.0.1. To change them from here too (a pod, a container, behind a proxy), set the environment variable "
    "RUNFLOW_WEB_REMOTE_SETTINGS to true, or web_remote_settings to true in the pack's config.json. The key can also "
    "be set as the environment variable RUNFLOW_API_KEY."
)


class Refused(Exception):
    """A request that is not answered: the HTTP status, a stable code and a sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def check_host(host: str, allowed: tuple[str, ...]) -> None:
    """Refuse a name that is neither an address, nor this machine, nor configured (``web_hosts``)."""
    name = split(host).hostname or ""
    if not is_allowed(name, allowed):
        shown = (name or host)[:MAX_SHOWN_OF_A_HOST]
        raise Refused(403, "HOST_NOT_ALLOWED", HOST_NOT_ALLOWED.format(name=shown, allow=_to_allow(shown)))


def check_same_origin(headers: Mapping[str, str], allowed: tuple[str, ...]) -> None:
    """Refuse a change that another site's page may have sent."""
    site, origin, host = headers.get("Sec-Fetch-Site"), headers.get("Origin"), headers.get("Host", "")
    if site in (None, "same-origin", "none") and (origin is None or _is_own_page(origin, site, headers, allowed)):
        return
    name = split(origin or "", is_origin=True).hostname or ""
    shown, to = (origin or str(site))[:MAX_SHOWN_OF_A_HOST], host[:MAX_SHOWN_OF_A_HOST]
    raise Refused(403, "OTHER_ORIGIN", OTHER_ORIGIN.format(origin=shown, host=to, allow=_to_allow(name or "its name")))


def _is_own_page(origin: str, site: str | None, headers: Mapping[str, str], allowed: tuple[str, ...]) -> bool:
    """Whether a page of this origin was loaded from this ComfyUI, also through a proxy with a ``Host`` of its own."""
    if is_same_host(origin, headers.get("Host", "")):
        return True
    if not is_allowed(split(origin, is_origin=True).hostname or "", allowed):
        return False
    return site == "same-origin" or is_same_host(origin, headers.get("X-Forwarded-Host", ""))


def is_same_host(origin: str, host: str) -> bool:
    """Whether ``Origin`` and ``Host`` name one server, as ComfyUI compares them: a port counts if both have one."""
    theirs, ours = split(origin, is_origin=True), split(host)
    if theirs.hostname is None or theirs.hostname != ours.hostname:
        return False
    return theirs.port == ours.port or None in (theirs.port, ours.port)


def is_allowed(name: str, allowed: tuple[str, ...]) -> bool:
    """Whether the name of a host is this machine, an address, or configured: ``name`` or ``*.suffix``."""
    return config.is_loopback_host(name) or is_address(name) or config.is_host_among(name, allowed)


def is_address(name: str) -> bool:
    """Whether ``name`` is an IP address, which no rebinding can fake."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_this_machine(peer: str | None, headers: Mapping[str, str]) -> bool:
    """Whether the page is open on this machine. A proxy may stand here that says nothing of its visitors but a name."""
    named = [
        split(headers.get("Host", "")),
        *(split(headers[n], is_origin=True) for n in ("Origin", "Referer") if n in headers),
    ]
    return (
        config.is_loopback_host((peer or "").removeprefix("::ffff:"))
        and not any(name in headers for name in FORWARDED)
        and all(config.is_loopback_host(each.hostname or "") for each in named)
    )


def split(value: str, is_origin: bool = False) -> SplitResult:
    """The parts of a ``Host`` or of an ``Origin``; of what is neither, no parts."""
    try:
        parts = urlsplit(value.lower() if is_origin else f"//{value.lower()}")
        _ = parts.port, parts.hostname  # raise ValueError, as urlsplit does for [::1 without its end
        return parts
    except ValueError:
        return urlsplit("")


def _to_allow(name: str) -> str:
    """ "abc.proxy.example, or *.proxy.example for all names of that kind"."""
    kind = name.partition(".")[2]
    return f"{name}, or *.{kind} for all names of that kind" if "." in kind else name


async def json_body(request: web.Request, most: int = MAX_BODY) -> dict[str, Any]:
    """The request's JSON object, of at most ``most`` bytes."""
    if request.content_type != "application/json":
        raise Refused(415, "NOT_JSON", "Send JSON.")
    raw = await request.content.read(most + 1)
    while len(raw) <= most and (more := await request.content.read(most + 1)):
        raw += more
    if len(raw) > most:
        raise Refused(413, "TOO_LARGE", f"At most {most} bytes.")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "NOT_JSON", "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise Refused(400, "NOT_JSON", "The body must be one JSON object.")
    return body
