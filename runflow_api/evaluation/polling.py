"""Waiting for what is under way at Runflow: the one loop that fetches until it has ended, and its one schedule.

Looking more often costs requests, looking less often costs the person's time. So it looks often when verdicts have
come lately, rarely before that, and where nothing is known the interval grows with the time already waited: the lag
after the verdict is ready stays a small share of the whole. What was learned may be wrong: it never makes the
interval longer than a share of the time waited.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from .. import errors
from ..api.models import Evaluation, Run
from ..api.transport import Deadline
from ..errors import RunflowError
from .failures import OUTAGES

KNOWN_FOR_S = 5.0
"""So long it is not asked again how long evaluations take: a run asks for every row."""
FIRST_LOOK_S = 1.0
SHORTEST_INTERVAL_S = 0.8
SHARE_OF_ELAPSED = 0.058
"""Half of it is the mean lag as a share of the duration: just under 3 %, the request itself included."""
LONGEST_INTERVAL_S = 15.0

TYPICAL_S = 15.0
"""Where nothing is known: a bar is half-way after so many seconds."""
ENOUGH_DURATIONS = 5
LONGEST_DURATION_S = 86_400.0
"""The longest ``timeout_s``: what took longer was not watched."""
OUTLIERS = 0.05
"""Share of the durations that is ignored at either end."""
MARGIN = 0.2
"""The window is so much wider than the durations. A duration is noted when it was seen, so without looking before
the shortest one, evaluations that have become faster would never be noticed."""
LOOKS_IN_WINDOW = 12
SHORTEST_IN_WINDOW_S = 0.4
SHARE_BEFORE_WINDOW = 0.2

READS_PER_SECOND = 20
"""All pending evaluations together: a hundred of them would keep a core and the rate limit busy. Each of sixteen, which
is a large batch, is looked at as often as one alone."""

GRACE_S = 0.5
"""A call that ends by its own time-out does so first, with a better error."""
LAST_LOOK_S = 0.25
"""The last look begins so long before the time is up."""
REPORT_EVERY_S = 1.0

T = TypeVar("T")
R = TypeVar("R", Evaluation, Run)


# --- the schedule -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """When verdicts came lately, in seconds after the submission: half of them by ``typical``, nine of ten by ``slow``.

    Between ``opens`` and ``closes`` it is worth looking often.
    """

    opens: float
    closes: float
    typical: float = 0.0
    slow: float = 0.0


def window(durations: Sequence[float]) -> Window | None:
    """What past durations (seconds) promise; ``None`` for too few. Order and absurd values do not matter."""
    sane = sorted(seconds for seconds in durations if 0 < seconds <= LONGEST_DURATION_S)
    if len(sane) < ENOUGH_DURATIONS:
        return None
    outliers = int(OUTLIERS * len(sane))
    opens, closes = sane[outliers] * (1 - MARGIN), sane[-1 - outliers] * (1 + MARGIN)
    return Window(opens, closes, typical=sane[len(sane) // 2], slow=sane[len(sane) * 9 // 10])


class UsualDurations:
    """When verdicts of a class of jobs came lately, as ``look_up`` knows their durations in seconds."""

    def __init__(self, look_up: Callable[[str], Sequence[float] | None]) -> None:
        self._look_up = look_up
        self._known: dict[str, tuple[float, Window]] = {}

    def of(self, job_class: str) -> Window | None:
        """``None`` if too few are known. Blocks."""
        looked_at, usual = self._known.get(job_class, (0.0, None))
        if usual is None or time.monotonic() - looked_at > KNOWN_FOR_S:
            usual = window(self._look_up(job_class) or [])
            if usual is not None:
                self._known[job_class] = time.monotonic(), usual
        return usual


def share_done(elapsed_s: float, expected: Window | None) -> float:
    """How full a bar is, 0 to 1 and never full: half at the typical duration, nine tenths at a slow one."""
    if expected is None or not 0 < expected.typical <= expected.slow:
        return elapsed_s / (elapsed_s + TYPICAL_S)
    if elapsed_s <= expected.typical:
        return 0.5 * elapsed_s / expected.typical
    if elapsed_s <= expected.slow:
        return 0.5 + 0.4 * (elapsed_s - expected.typical) / (expected.slow - expected.typical)
    return 1.0 - 0.1 * expected.slow / elapsed_s


def next_delay(elapsed_s: float, expected: Window | None = None, pending: int = 1) -> float:
    """Seconds to wait before the next look, ``elapsed_s`` seconds after the evaluation was submitted.

    ``pending``: how many evaluations are being looked at in turn, this one included.
    """
    elapsed_s = max(elapsed_s, 0.0)
    delay = _unlearned(elapsed_s)
    if expected is not None and elapsed_s < expected.opens:
        delay = max(delay, SHARE_BEFORE_WINDOW * elapsed_s)
        delay = max(min(delay, expected.opens - elapsed_s), SHORTEST_IN_WINDOW_S)
    elif expected is not None and elapsed_s < expected.closes:
        fine = (expected.closes - expected.opens) / LOOKS_IN_WINDOW
        delay = max(min(delay, fine), SHORTEST_IN_WINDOW_S)
    return max(min(delay, LONGEST_INTERVAL_S), pending / READS_PER_SECOND)


def _unlearned(elapsed_s: float) -> float:
    if elapsed_s < FIRST_LOOK_S:
        return FIRST_LOOK_S - elapsed_s
    return max(SHORTEST_INTERVAL_S, SHARE_OF_ELAPSED * elapsed_s)


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Seconds between two ISO 8601 times of the API; ``None`` if they make no sense."""
    try:
        begun, ended = (datetime.fromisoformat(str(text).replace("Z", "+00:00")) for text in (start, end))
        seconds = (ended - begun).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if 0 < seconds <= LONGEST_DURATION_S else None


# --- the loop -----------------------------------------------------------------------------------------


@dataclass
class Progress:
    """Where a batch is, for a line of text and a bar."""

    total: int
    judged: set[int] = field(default_factory=set)
    past_submission_count: int = 0
    trouble: str = ""
    started: float = field(default_factory=time.monotonic)
    what: str = "the verdict"
    phase: str = "judging"
    """What the page says in words: judging, answering (a model), asking (a person)."""
    expected: Window | None = None
    """How long verdicts took lately, if that is known."""

    @property
    def seconds(self) -> float:
        """How long it has been under way."""
        return time.monotonic() - self.started

    @property
    def left(self) -> str:
        """ "about 12 s left", by how long verdicts took lately; "" if that is not known, or is over."""
        usual = self.expected
        if usual is None or self.past_submission_count < self.total or not 0 < usual.typical <= usual.slow:
            return ""
        if self.seconds > usual.slow:
            return "longer than usual"
        until = usual.typical if self.seconds < usual.typical else usual.slow
        return f"about {until - self.seconds:.0f} s left"

    @property
    def text(self) -> str:
        parts = ["submitting" if self.past_submission_count < self.total else f"waiting for {self.what}"]
        parts.append(f"{self.seconds:.0f} s")
        parts += [self.left] if self.left else []
        if self.total > 1:
            parts.append(f"{len(self.judged)} of {self.total} judged")
        if self.trouble:
            parts.append(self.trouble)
        return " \u00b7 ".join(parts)


Report = Callable[[Progress], None]


def report_nothing(_: Progress) -> None:
    """For callers that show no progress."""


async def report_progress(progress: Progress, report: Report) -> None:
    """Report about once a second, until cancelled."""
    while True:
        report(progress)
        await asyncio.sleep(REPORT_EVERY_S)


@dataclass
class Polled(Generic[R]):
    """What was fetched.

    ``latest`` is ``None`` if nothing was; ``trouble`` is what the last fetch met, if it was no answer;
    ``is_whole``: ``latest`` holds what is embedded, too.
    """

    latest: R | None = None
    trouble: RunflowError | None = None
    is_whole: bool = False


async def poll_until_terminal(
    fetch: Callable[[bool], Awaitable[R]],
    deadline: Deadline,
    progress: Progress,
    *,
    next_delay: Callable[[], float],
    first_delay: float = 0.0,
    whole_first: bool = False,
) -> Polled[R]:
    """Fetch until it has ended or the time is up; an outage is waited out, other errors are raised.

    ``fetch(True)`` gets what is embedded, too: in the last fetch only, so that the others stay small, and with
    ``whole_first`` in the first. If the last one fails, what is known already is not thrown away for it.
    """
    polled: Polled[R] = Polled()
    delay, whole = first_delay, whole_first
    while (left := deadline.remaining - LAST_LOOK_S) > 0:
        await asyncio.sleep(min(delay, left))
        try:
            polled.latest = await with_deadline(deadline, fetch(whole))
        except OUTAGES as error:
            if error.code == "REDIRECT_REFUSED":
                raise
            polled.trouble = error
            progress.trouble = f"Runflow does not answer ({error.code}), still waiting"
        else:
            polled.trouble, progress.trouble, polled.is_whole = None, "", whole
            if polled.latest.is_terminal:
                break
            whole = False
        delay = next_delay()
    if polled.latest is not None and polled.latest.is_terminal and not polled.is_whole:
        try:
            whole_answer = await with_deadline(deadline, fetch(True))
            if whole_answer.is_terminal:
                polled.latest, polled.is_whole = whole_answer, True
        except RunflowError as error:
            polled.trouble = error
    return polled


async def with_deadline(deadline: Deadline, work: Awaitable[T]) -> T:
    """Wait for ``work`` no longer than the deadline: a server that drips its answer is left behind."""
    try:
        return await asyncio.wait_for(work, time_left(deadline))
    except asyncio.TimeoutError as error:
        raise too_slow() from error


def time_left(deadline: Deadline) -> float:
    """How long whoever waits for a call with this deadline waits: a little longer than the call itself may take."""
    return max(deadline.remaining, 0.0) + GRACE_S


def too_slow() -> errors.NetworkError:
    return errors.NetworkError(
        "Runflow did not finish its answer in the time that timeout_s allows.", code="TIMEOUT", attempts=("timed out",)
    )
