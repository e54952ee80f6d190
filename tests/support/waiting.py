"""Wait for what another thread, process or server does."""

from __future__ import annotations

import time
from collections.abc import Callable

AT_MOST_S = 60.0
"""Much longer than anything takes on a busy machine: only a test that fails waits for so long."""


def wait_until(condition: Callable[[], object], at_most: float = AT_MOST_S) -> None:
    """Return once ``condition()`` is true; AssertionError after ``at_most`` seconds."""
    ends = time.monotonic() + at_most
    while not condition():
        assert time.monotonic() < ends, f"it did not come within {at_most:.0f} s"
        time.sleep(0.02)
