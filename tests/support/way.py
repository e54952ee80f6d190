"""Which of the pack's own frames lead to a request, counted on a real one.

Where it is sent, the sending thread's stack is looked at, and every coroutine of the pack that waits for it.
Imports nothing of the pack, nor of the tests: a server under test loads it, too.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

OWN = ("runflow_api", "nodes")
BESIDE = {"report_progress"}
"""Coroutines that run beside the way, and lead nowhere."""

Frame = tuple[str, str]
_waiting: list[Callable[[list[Frame]], object]] = []


def frames() -> list[Frame]:
    """(file, function) of every own frame: those that wait on event loops, then this thread's, outermost first."""
    suspended = [each.cr_frame for each in gc.get_objects() if inspect.iscoroutine(each) and each.cr_frame is not None]
    sending, frame = [], sys._getframe()
    while frame is not None:
        sending.append(frame)
        frame = frame.f_back
    named = [_name(each.f_code.co_filename, each.f_code.co_name) for each in [*suspended, *reversed(sending)]]
    return [each for each in named if each is not None and each[1] not in BESIDE]


def _name(file: str, function: str) -> Frame | None:
    folders = Path(file).parts[:-1]
    for index in range(len(folders) - 1, 0, -1):
        if folders[index] in OWN and Path(*folders[:index], "runflow_api").is_dir():
            return str(Path(*Path(file).parts[index:])), function
    return None


def at_next_submission(tell: Callable[[list[Frame]], object]) -> None:
    """``tell`` gets the frames that lead to the next submission that this process sends."""
    if not hasattr(sys, "_runflow_way"):
        sys._runflow_way = True  # type: ignore[attr-defined]
        sys.addaudithook(_hear)
    _waiting.append(tell)


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event == "http.client.send" and _waiting:
        data = arguments[1]
        if isinstance(data, bytes) and data.startswith(b"POST /v1/evaluations "):
            _waiting.pop()(frames())


@contextmanager
def recorded() -> Iterator[list[Frame]]:
    """Holds, after the first submission that is sent inside, the frames that led to it."""
    found: list[Frame] = []
    at_next_submission(found.extend)
    yield found
