"""How long the pages of insight take over a journal of 100,000 verdicts."""

from __future__ import annotations

import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from measure import median, said, table
from support.judged_images import JUDGES, keep_judged, multiply

from runflow_api.insight import page
from runflow_api.insight.agreement import Costs
from runflow_api.insight.value import Filter
from runflow_api.journal.journal import Journal

ROWS, COPIES, ROUNDS, GOAL_S = 100_000, 50, 7, 0.3
PAGES = {
    "by checkpoint, as it opens": ["checkpoint"],
    "by judge": ["judge"],
    "by prompt": ["prompt"],
    "checkpoint × sampler": ["checkpoint", "sampler"],
}


def run(_: Namespace) -> str:
    with tempfile.TemporaryDirectory() as folder:
        count = ROWS // COPIES // len(JUDGES)
        keep_judged(Path(folder), count, rated=150)
        with Journal.open(None, Path(folder)) as book:
            multiply(book, COPIES)
            taken = {
                name: _seconds(lambda by=by: page.overview(book.store, by, Filter(), Costs()))  # type: ignore[misc]
                for name, by in PAGES.items()
            }
            taken["images to rate"] = _seconds(lambda: page.to_rate(book.store))
            rows = page.overview(book.store, ["judge"], Filter(), Costs())["whole"]["evaluations"]
    lines = [[name, f"{1000 * seconds:.0f}"] for name, seconds in taken.items()]
    worst = max(taken.values())
    return "\n\n".join(
        [
            f"Milliseconds, median of {ROUNDS}; {rows:,} verdicts on {rows // len(JUDGES):,} images.",
            table(["", "ms"], lines),
            f"Goal: each within {1000 * GOAL_S:.0f} ms: {said(worst <= GOAL_S)}.",
        ]
    )


def _seconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        work()
        taken.append(time.monotonic() - began)
    return median(taken)
