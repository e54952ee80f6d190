"""Which worker runs which test: the tests of one server stay together, so that it is started once."""

from __future__ import annotations

import os

from xdist.scheduler import LoadScopeScheduling

WITH_SERVERS = ("tests/browser/", "tests/graph/", "tests/nodes/")
"""Folders whose tests share servers, a browser or the loaded nodes."""
JOURNAL = "tests/api/test_journal"


class ByServer(LoadScopeScheduling):
    """All tests of one of these folders go to one worker, and so do those that empty the one database of
    RUNFLOW_TEST_JOURNAL_URL; every other test goes to the next worker that is free."""

    def _split_scope(self, nodeid: str) -> str:
        for folder in WITH_SERVERS:
            if nodeid.startswith(folder):
                return folder
        if nodeid.startswith(JOURNAL) and os.environ.get("RUNFLOW_TEST_JOURNAL_URL"):
            return JOURNAL
        return nodeid
