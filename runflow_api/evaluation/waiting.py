"""Waiting: the one loop that looks until something has ended, and what is said meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .. import errors
from ..api.models import Evaluation, Run
from ..api.transport import Deadline
from .failures import OUTAGES

GRACE_S = 0.5
"""A call that ends by its own time-out does so first, with a better error."""
LAST_LOOK_S = 0.25
"""The last look begins so long before the time is up."""
TICK_S = 1.0

T = TypeVar("T")
R = TypeVar("R", Evaluation, Run)


@dataclass
class Progress:
    """Where a batch is, for a line of text and a bar."""

    total: int
    judged: set[int] = field(default_factory=set)
    submitted: int = 0
    trouble: str = ""
    started: float = field(default_factory=time.monotonic)
    what: str = "the verdict"

    @property
    def text(self) -> str:
        parts = ["submitting" if self.submitted < self.total else f"waiting for {self.what}"]
        parts.append(f"{time.monotonic() - self.started:.0f} s")
        if self.total > 1:
            parts.append(f"{len(self.judged)} of {self.total} judged")
        if self.trouble:
            parts.append(self.trouble)
        return " \u00b7 ".join(parts)


Report = Callable[[Progress], None]


async def report_progress(progress: Progress, report: Report) -> None:
    while True:
        report(progress)
        await asyncio.sleep(TICK_S)


@dataclass
class Watched(Generic[R]):
    """``latest`` is ``None`` where nothing was seen; ``trouble`` is what the last look met, if it was no answer."""

    latest: R | None = None
    trouble: errors.RunflowError | None = None


async def poll_until_terminal(
    look: Callable[[R | None], Awaitable[R]],
    deadline: Deadline,
    progress: Progress,
    *,
    first_delay: float,
    next_delay: Callable[[], float],
) -> Watched[R]:
    """Look until it has ended or the time is up; an outage is waited out.

    ``look`` is given what was seen last. Its other errors are raised.
    """
    seen: Watched[R] = Watched()
    delay = first_delay
    while (left := deadline.remaining - LAST_LOOK_S) > 0:
        await asyncio.sleep(min(delay, left))
        try:
            seen.latest = await with_deadline(deadline, look(seen.latest))
        except OUTAGES as error:
            if error.code == "REDIRECT_REFUSED":
                raise
            seen.trouble = error
            progress.trouble = f"Runflow does not answer ({error.code}), still waiting"
        else:
            seen.trouble, progress.trouble = None, ""
            if seen.latest.is_terminal:
                break
        delay = next_delay()
    return seen


async def with_deadline(deadline: Deadline, work: Awaitable[T], cost: str = "") -> T:
    """Wait for ``work`` no longer than patience lasts: a server that drips its answer is left behind.

    ``cost`` is what the error says about money then.
    """
    try:
        return await asyncio.wait_for(work, max(deadline.remaining, 0.0) + GRACE_S)
    except asyncio.TimeoutError as error:
        text = f"Runflow did not finish its answer in the time that timeout_s allows.{cost}"
        raise errors.NetworkError(text, code="TIMEOUT", attempts=("timed out",)) from error
