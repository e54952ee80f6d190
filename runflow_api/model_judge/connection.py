"""A connection that ends when its time is over, whatever trickles in.

The time-outs of a socket are of each read, so a server that sends one byte of its headers now and then holds a call
for ever. Here the socket itself is shut down at the deadline, which ends every read.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection


class EndingConnections(HTTPAdapter):
    """For a ``requests.Session`` whose calls all end at ``ends_at``, a moment of ``time.monotonic``."""

    def __init__(self, ends_at: float) -> None:
        self._ends_at = ends_at
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._has_ended = threading.Event()
        super().__init__()

    @property
    def has_ended(self) -> bool:
        """Whether a call was cut off: then what it read may look whole and is not."""
        return self._has_ended.is_set()

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Around a call, reading its answer included."""
        timer = threading.Timer(max(0.0, self._ends_at - time.monotonic()), self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> PoolManager:
        manager: PoolManager = super().proxy_manager_for(*args, **kwargs)
        self._watch(manager)
        return manager

    def _watch(self, manager: PoolManager) -> None:
        """Let each connection of ``manager`` tell its socket."""
        told = self._tell

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                told(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                told(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    def _tell(self, connected: Any) -> None:
        if isinstance(connected, socket.socket):
            self._sockets.add(connected)
        if self.has_ended:
            self._end()

    def _end(self) -> None:
        self._has_ended.set()
        for each in list(self._sockets):
            with contextlib.suppress(OSError):  # it is closed already
                # Not the method of a TLS socket, which would take the TLS away from under whoever reads.
                socket.socket.shutdown(each, socket.SHUT_RDWR)
