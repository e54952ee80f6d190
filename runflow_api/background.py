"""Where waiting happens: one event loop in one daemon thread, and daemon threads for blocking calls.

ComfyUI makes a new event loop for every prompt, a synchronous node blocks it, and at its end it joins the
threads of asyncio's own executors. So nothing here belongs to a prompt's loop, and a call that hangs in
the network holds neither the queue nor ComfyUI's exit: whoever waits for it walks away.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

IDLE_THREAD_LIVES_S = 10.0


_loops: list[asyncio.AbstractEventLoop] = []
_starting = threading.Lock()


def loop() -> asyncio.AbstractEventLoop:
    """The event loop of this process, started on first use, by whichever thread that is, and never stopped."""
    with _starting:
        if not _loops:
            _loops.append(asyncio.new_event_loop())
            threading.Thread(target=_loops[0].run_forever, name="runflow-loop", daemon=True).start()
        return _loops[0]


def start(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on the background loop; cancelling the future cancels the coroutine."""
    return asyncio.run_coroutine_threadsafe(work, loop())


def call(function: Callable[..., T], *args: Any) -> Future[T]:
    """Run a blocking function in a daemon thread."""
    return _threads.submit(functools.partial(function, *args))


class Workers:
    """At most ``slots`` blocking calls at a time, each in a daemon thread.

    A cancelled call gives its slot back at once. Its thread, should it hang, is left behind: it is not
    idle, so the next call gets another one.
    """

    def __init__(self, slots: int) -> None:
        self._slots = asyncio.Semaphore(slots)

    async def run(self, function: Callable[[], T]) -> T:
        async with self._slots:
            return await asyncio.wrap_future(call(function))


class _DaemonThreads:
    """Threads on demand that serve one call after another and end when they have been idle for a while."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._calls.put(functools.partial(_settle, future, call))
        with self._lock:
            needs_thread = self._idle == 0
            if not needs_thread:
                self._idle -= 1
        if needs_thread:
            threading.Thread(target=self._serve, name="runflow-worker", daemon=True).start()
        return future

    def _serve(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=IDLE_THREAD_LIVES_S)
            except queue.Empty:
                with self._lock:
                    if self._idle:  # otherwise a call was promised to this thread
                        self._idle -= 1
                        return
                continue
            call()
            del call
            with self._lock:
                self._idle += 1


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # handed to whoever waits
        future.set_exception(error)
    else:
        future.set_result(result)


_threads = _DaemonThreads()
