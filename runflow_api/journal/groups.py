"""Calls that come at the same time are done in one transaction, so that many rows cost little more than one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from ..errors import RunflowError
from .errors import JournalError

A = TypeVar("A")
T = TypeVar("T")

LARGEST = 200
"""Calls of one group: what others wait for stays short."""


@dataclass(eq=False)
class _Call(Generic[A, T]):
    argument: A
    names: frozenset[Hashable]
    kind: Hashable
    answer: T | None = None
    error: Exception | None = None
    is_done: bool = False


class Groups(Generic[A, T]):
    """Threads that call while another one is at work wait for it, and then one of them does the work of all.

    ``work`` takes the arguments of one group, does all of it or nothing, and gives the answer to each: a value, or an
    error that concerns it alone. The first one waits ``gather_s`` seconds for others to come, by default not at all.
    """

    def __init__(self, work: Callable[[Sequence[A]], Sequence[T | RunflowError]]) -> None:
        self.gather_s = 0.0
        self._work = work
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: list[_Call[A, T]] = []

    def do(self, argument: A, names: Iterable[Hashable], kind: Hashable = None) -> T:
        """The answer of ``work``, or its error. Calls that share one of these ``names``, or are of different kinds, are
        never in one group: they are done one after the other, as they came.
        """
        call: _Call[A, T] = _Call(argument, frozenset(names), kind)
        with self._lock:
            self._waiting.append(call)
        with self._turn:
            while not call.is_done:
                if self.gather_s:
                    time.sleep(self.gather_s)
                self._do(self._next())
        if call.error is not None:
            raise call.error
        answer: Any = call.answer
        return answer  # type: ignore[no-any-return]

    def _next(self) -> list[_Call[A, T]]:
        """The one that has waited longest, and what can be done with it."""
        with self._lock:
            group: list[_Call[A, T]] = []
            taken: set[Hashable] = set()
            for call in self._waiting:
                if len(group) < LARGEST and call.kind == self._waiting[0].kind and not taken & call.names:
                    group.append(call)
                taken |= call.names  # also of those that wait: nothing overtakes what came before it
            self._waiting = [call for call in self._waiting if call not in group]
            return group

    def _do(self, group: list[_Call[A, T]]) -> None:
        try:
            answers = self._work([call.argument for call in group])
        except RunflowError as error:
            with self._lock:
                if _concerns_all(error):
                    # Whoever came meanwhile would wait as long, one after the other, to hear the same.
                    group, self._waiting = group + self._waiting, []
                elif len(group) > 1:  # each alone, to find which of them it is
                    for call in group:
                        call.kind = call
                    group, self._waiting = [], group + self._waiting
            for call in group:
                call.error, call.is_done = _copy_of(error), True
        except BaseException as error:
            for call in group:
                call.error = JournalError(f"The journal cannot be used: {type(error).__name__}. Run again.")
                call.is_done = True
            raise
        else:
            for call, answer in zip(group, answers, strict=True):
                if isinstance(answer, RunflowError):
                    call.error = answer
                else:
                    call.answer = answer
                call.is_done = True


def _concerns_all(error: RunflowError) -> bool:
    """Whether it is the database that cannot be used, and not something about one of the calls."""
    cause = error.__cause__
    is_of_one = cause is not None and not isinstance(cause, (OperationalError, InterfaceError, OSError))
    return isinstance(error, JournalError) and not is_of_one


def _copy_of(error: RunflowError) -> RunflowError:
    """One for each thread, because raising adds a traceback. Its cause is a ``JournalError``: nobody waits again."""
    if not isinstance(error, JournalError):
        return error
    copy = JournalError(error.message)
    copy.__cause__ = error
    return copy
