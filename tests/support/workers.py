"""Which worker runs which test: the tests of one server stay together, so that it is started once."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

WITH_SERVERS = (
    "tests/graph/regenerate/",
    "tests/graph/",
    "tests/browser/test_browser.py",
    "tests/browser/",
    "tests/nodes/",
)
"""What shares servers, a browser or the loaded nodes; the first that fits counts. Each part is worth servers of its
own: together they would keep one worker busy long after the others have ended."""


class ByServer(LoadScopeScheduling):
    """All tests of one of these parts go to one worker; every other test goes to the next one that is free."""

    def _split_scope(self, nodeid: str) -> str:
        for part in WITH_SERVERS:
            if nodeid.startswith(part):
                return part
        return nodeid
