"""Wait for what another thread, process or server does."""

from __future__ import annotations

import time
from collections.abc import Callable

from runflow_api.sandbox.app import Sandbox

AT_MOST_S = 60.0
"""Much longer than anything takes on a busy machine: only a test that fails waits for so long."""
LESS_THAN_ANY_HANG_S = 20.0
"""What does not wait for a server that hangs ends sooner, on any machine; what waits for it takes 30 s and more. How
soon is measured in `benchmarks/cancelling.py`."""
SOON_S = 0.2


def wait_until(condition: Callable[[], object], at_most: float = AT_MOST_S) -> None:
    """Return once ``condition()`` is true; AssertionError after ``at_most`` seconds."""
    ends = time.monotonic() + at_most
    while not condition():
        assert time.monotonic() < ends, f"it did not come within {at_most:.0f} s"
        time.sleep(0.02)


def judge_now(sandbox: Sandbox) -> None:
    """End the wait for everything that is under way: nothing depends on how long a machine takes for a step."""
    sandbox.latency = SOON_S
    for evaluation in sandbox.evaluations.values():
        evaluation.latency = min(evaluation.latency, SOON_S)
