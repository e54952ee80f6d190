"""An upload goes where Runflow says, but to no machine of the person's own network.

The host is resolved once: what is checked is what is connected to, so that no second answer of a name server can
lead elsewhere. The certificate must still be the host's.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy

from .. import errors

HTTPS_PORT = 443
UPLOAD_ADDRESS_REFUSED = "UPLOAD_ADDRESS_REFUSED"


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, as the system orders them. Raises ``OSError`` where there are none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_global


def address_error(reason: str) -> errors.InvalidResponseError:
    return errors.InvalidResponseError(
        f"The upload address that Runflow named was refused: {reason}.",
        code="UPLOAD_ADDRESS_REFUSED",
        cost="Nothing was uploaded.",
    )


class CheckedAddresses(HTTPAdapter):
    """Connects over https to the public addresses of a host only, and to exactly those that were looked at.

    Through a proxy it is the proxy that resolves; what resolves here to a private address is refused then, too.
    """

    def __init__(
        self,
        *,
        resolve: Callable[[str, int], list[str]] = resolve,
        is_allowed: Callable[[str], bool] = is_public,
    ) -> None:
        self._resolve = resolve
        self._is_allowed = is_allowed
        super().__init__(pool_connections=1, pool_maxsize=1)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        parts = urlsplit(str(request.url))
        host, port = parts.hostname or "", parts.port or HTTPS_PORT
        through_proxy = bool(select_proxy(str(request.url), kwargs.get("proxies") or {}))
        try:
            addresses = self._resolve(host, port)
        except OSError as error:
            if through_proxy:
                return super().send(request, *args, **kwargs)
            raise requests.exceptions.ConnectionError(error, request=request) from error
        self._check(addresses)
        if through_proxy:
            return super().send(request, *args, **kwargs)
        request.headers["Host"] = parts.netloc
        return self._send_to(addresses, host, port, request, *args, **kwargs)

    def _check(self, addresses: list[str]) -> None:
        if any(address.startswith(("198.18.", "198.19.")) for address in addresses):
            raise address_error(
                "on this machine its name leads to 198.18.0.0/15, which a VPN or proxy program such as Clash gives out "
                "(fake-IP)"
            )
        if not all(self._is_allowed(address) for address in addresses):
            raise address_error("it is not a public https address")

    def _send_to(
        self, addresses: list[str], host: str, port: int, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Try one address after the other, as a plain connection would; the body goes over the first that answers."""
        parts = urlsplit(str(request.url))
        for number, address in enumerate(addresses, 1):
            literal = f"[{address}]" if ":" in address else address
            request.url = urlunsplit(parts._replace(netloc=f"{literal}:{port}"))
            adapter = _NamedHost(host)
            try:
                return adapter.send(request, *args, **kwargs)
            except (requests.exceptions.ConnectTimeout, requests.exceptions.ConnectionError):
                if number == len(addresses) or _is_under_way(request):
                    raise
        raise AssertionError("unreachable: every host that resolves has an address")


def _is_under_way(request: requests.PreparedRequest) -> bool:
    """Whether a part of the body has left."""
    return hasattr(request.body, "tell") and request.body.tell() > 0  # type: ignore[union-attr]


class _NamedHost(HTTPAdapter):
    """Connects to an address, and wants the certificate of ``host``."""

    def __init__(self, host: str) -> None:
        self._host = host
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        named = {"server_hostname": self._host, "assert_hostname": self._host}
        super().init_poolmanager(connections, maxsize, block, **named, **pool_kwargs)
