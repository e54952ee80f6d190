"""Which worker runs which test: the tests of one server stay together, so that it is started once."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

WITH_SERVERS = ("tests/browser/", "tests/graph/", "tests/nodes/")
"""Folders whose tests share servers, a browser or the loaded nodes."""


class ByServer(LoadScopeScheduling):
    """All tests of one of these folders go to one worker; every other test goes to the next one that is free."""

    def _split_scope(self, nodeid: str) -> str:
        for folder in WITH_SERVERS:
            if nodeid.startswith(folder):
                return folder
        return nodeid
