"""When to look at a pending evaluation next: the one schedule.

Looking more often costs requests, looking less often costs the person's time. So it looks often when verdicts have
come lately, rarely before that, and where nothing is known the interval grows with the time already waited: the lag
after the verdict is ready stays a small share of the whole. What was learned may be wrong: it never makes the
interval longer than a share of the time waited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

FIRST_LOOK_S = 1.0
SHORTEST_INTERVAL_S = 0.8
SHARE_OF_ELAPSED = 0.058
"""Half of it is the mean lag as a share of the duration: just under 3 %, the request itself included."""
LONGEST_INTERVAL_S = 15.0

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


@dataclass(frozen=True)
class Window:
    """When verdicts came lately, in seconds after the submission."""

    opens: float
    closes: float


def window(durations: Sequence[float]) -> Window | None:
    """What past durations (seconds) promise; ``None`` for too few. Order and absurd values do not matter."""
    sane = sorted(seconds for seconds in durations if 0 < seconds <= LONGEST_DURATION_S)
    if len(sane) < ENOUGH_DURATIONS:
        return None
    outliers = int(OUTLIERS * len(sane))
    return Window(sane[outliers] * (1 - MARGIN), sane[-1 - outliers] * (1 + MARGIN))


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
    """Seconds between two ISO 8601 times of the API; ``None`` where they say nothing sane."""
    try:
        begun, ended = (datetime.fromisoformat(str(text).replace("Z", "+00:00")) for text in (start, end))
        seconds = (ended - begun).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if 0 < seconds <= LONGEST_DURATION_S else None
