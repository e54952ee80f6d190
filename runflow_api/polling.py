"""When to look at a pending evaluation next: the one schedule.

Looking more often costs requests, looking less often costs the person's time. The interval grows with
the time already waited, so that the lag after the verdict is ready stays a small share of the whole.
"""

from __future__ import annotations

FIRST_LOOK_S = 1.0
SHORTEST_INTERVAL_S = 0.8
SHARE_OF_ELAPSED = 0.06
"""Half of it is the mean lag as a share of the duration: 3 %."""
LONGEST_INTERVAL_S = 15.0


def next_delay(elapsed_s: float) -> float:
    """Seconds to wait before the next look, ``elapsed_s`` seconds after the evaluation was submitted."""
    if elapsed_s < FIRST_LOOK_S:
        return FIRST_LOOK_S - max(elapsed_s, 0.0)
    return min(max(SHORTEST_INTERVAL_S, SHARE_OF_ELAPSED * elapsed_s), LONGEST_INTERVAL_S)
