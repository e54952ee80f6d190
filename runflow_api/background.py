"""Where waiting happens: one event loop in one daemon thread, and daemon threads for blocking calls.

ComfyUI makes a new event loop for every prompt, a synchronous node blocks it, and at its end it joins the
threads of asyncio's own executors. So nothing here belongs to a prompt's loop, and a call that hangs in
the network holds neither the queue nor ComfyUI's exit: whoever waits for it walks away.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Call: TypeAlias = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]

WORKER = "runflow-worker"
IDLE_S = 5.0
"""How long a thread waits for more to do before it ends."""
EXIT_WAIT_S = 30.0
"""How long an exit waits at most for a native call that was told to end, which takes 0.1 s as a rule. Then the process
aborts; only a machine that is busy with something else gets there."""

_loops: list[asyncio.AbstractEventLoop] = []
_starting = threading.Lock()
_idle: list[SimpleQueue[Call]] = []
"""Where each thread that has nothing to do is given its next call."""


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


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Run a blocking function in a daemon thread that does nothing else meanwhile."""
    future: Future[T] = Future()
    try:
        calls = _idle.pop()
    except IndexError:
        calls = SimpleQueue()
        threading.Thread(target=_work, args=(calls,), name=WORKER, daemon=True).start()
    calls.put((future, function, args, kwargs))
    return future


def is_busy() -> bool:
    """Whether a call is under way in some thread."""
    return sum(thread.name == WORKER for thread in threading.enumerate()) > len(_idle)


def _work(calls: SimpleQueue[Call]) -> None:
    """What a thread does: the call that it was started for, and those that come soon after. To start one for each call
    would take longer than most of the calls.
    """
    job: Call | None = calls.get()
    while job:
        future, function, args, kwargs = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # handed to whoever waits
                future.set_exception(error)
        del job, future, function, args, kwargs  # an idle thread keeps no pixels
        job = _next(calls)


def _next(calls: SimpleQueue[Call]) -> Call | None:
    _idle.append(calls)
    try:
        return calls.get(timeout=IDLE_S)
    except Empty:
        try:
            _idle.remove(calls)
        except ValueError:  # at this very moment it was given one
            return calls.get()
        return None


class Workers:
    """At most ``slots`` blocking calls at a time, each in a daemon thread.

    A cancelled call gives its slot back at once; its thread, should it hang, is left behind.
    ``among``: each call takes one of their slots, too.
    """

    def __init__(self, slots: int, *, among: Workers | None = None) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._shared: AbstractAsyncContextManager[None] = among._slots if among else nullcontext()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._slots, self._shared:
            return await asyncio.wrap_future(call(function, *args, **kwargs))


class NativeCalls:
    """Calls into a library written in C++, one at a time, none of which returns while Python shuts down.

    Python then ends a thread that asks for the interpreter where it stands, and C++ on its stack aborts the process:
    ComfyUI would end with an error. So an exit calls ``stop``, which makes the call under way end soon, and waits for
    it; no other call begins, and what came back goes no further, because what was done by half must not be judged.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._turn = threading.Lock()
        self._exiting = threading.Event()
        atexit.register(self._end)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The call is made inside; it waits for the one before."""
        try:
            with self._turn:
                yield
        finally:
            if self._exiting.is_set():
                threading.Event().wait()  # for ever: the process ends

    def _end(self) -> None:
        self._exiting.set()
        if self._turn.acquire(blocking=False):  # and kept
            return
        self._stop()
        self._turn.acquire(timeout=EXIT_WAIT_S)
