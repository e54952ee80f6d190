"""Which worker runs which test, and in what order: the tests of one server stay together, so that it is started once,
and what takes long begins first, so that no worker is still busy with it long after the others have ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xdist.scheduler import LoadScopeScheduling

TOGETHER = (
    "tests/graph/regenerate/",
    "tests/graph/",
    "tests/browser/test_browser.py",
    "tests/browser/",
    "tests/nodes/",
    "tests/js/",
)
"""What shares servers, a browser, the loaded nodes or installed packages; the first that fits counts. The folders with
servers are parts of their own: together they would keep one worker busy long after the others have ended."""
LONG = ("tests/api/test_paid_once.py", "tests/api/test_fuzz.py", "tests/api/test_ray.py", "tests/api/test_fleet.py")
"""Tests of half a minute and more, most of which is waiting."""


def place_in_line(nodeid: str) -> int:
    """What stays together comes first, then the long tests, then all others as they were collected."""
    in_line = TOGETHER + LONG
    return next((place for place, part in enumerate(in_line) if nodeid.startswith(part)), len(in_line))


class ByServer(LoadScopeScheduling):
    """All tests of a part that stays together go to one worker; every other test goes to the next one that is free."""

    def __init__(self, config: Any, log: Callable[..., None] | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # as they were put in line

    def _split_scope(self, nodeid: str) -> str:
        return next((part for part in TOGETHER if nodeid.startswith(part)), nodeid)
