"""Cost per image from 10 to 10,000 images of one session, as a table and as a plot."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import api
import numpy as np
import pictures
from measure import HERE, table

MARKS = (10, 30, 100, 300, 1_000, 3_000, 10_000)
QUICK_MARKS = MARKS[:4]
BATCH, SIDE = 10, 256
PLOT = HERE / "growth.png"


def run(options: Namespace) -> str:
    measured = _measured(QUICK_MARKS if options.quick else MARKS)
    rows = [[f"{count:,}", *(f"{value:.1f}" for value in values)] for count, *values in measured]
    first, last = measured[1], measured[-1]
    drawn = _plot(measured)
    text = (
        f"{SIDE}² pictures in batches of {BATCH}, one journal, a sandbox that has the verdict at once: what remains is "
        "the pack's own work and three requests. Each row is the images since the row above."
    )
    head = ["images so far", "ms per image", "processor ms per image", "memory, MB over the start"]
    change = f"from {first[2]:.1f} to {last[2]:.1f} ms"
    flat = f"From {first[0]} to {last[0]:,} images the processor time of one goes {change}."
    return "\n\n".join(filter(None, [text, table(head, rows), flat, drawn]))


def _measured(marks: tuple[int, ...]) -> list[tuple[int, float, float, float]]:
    """(images so far, ms and processor ms of each since the mark before, MB)."""
    base = pictures.squares(pictures.found([], []), SIDE, 1)[0].pixels
    found, count, before = [], 0, _resident()
    with api.running(latency=0.0) as sandbox, api.evaluator(sandbox, next_delay=lambda *_: 0.0) as evaluator:
        for mark in marks:
            began, processor, since = time.perf_counter(), time.process_time(), count
            while count < mark:
                api.judge(evaluator, [_distinct(base, count + n) for n in range(BATCH)], f"batch {count}")
                count += BATCH
            each = count - since
            took, used = time.perf_counter() - began, time.process_time() - processor
            found.append((count, 1e3 * took / each, 1e3 * used / each, (_resident() - before) / 1e6))
    return found


def _resident() -> int:
    """Bytes in memory now; 0 if the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def _distinct(base: pictures.Pixels, number: int) -> pictures.Pixels:
    changed = base.copy()
    changed[0, 0], changed[0, 1, 0] = (number >> 16, number >> 8 & 255, number & 255), 1
    return np.ascontiguousarray(changed)


def _plot(measured: list[tuple[int, float, float, float]]) -> str:
    """A picture of the table, where matplotlib is installed."""
    try:
        import matplotlib
    except ImportError:
        return ""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts, took, used, _ = zip(*measured, strict=True)
    figure, axes = pyplot.subplots(figsize=(6, 3), dpi=80)
    axes.plot(counts, took, "o-", label="time")
    axes.plot(counts, used, "s--", label="processor")
    axes.set(xscale="log", ylim=(0, 1.3 * max(took)), xlabel="images of the session", ylabel="ms per image")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, PLOT)
    pyplot.close(figure)
    return f"![Cost per image against the number of images]({PLOT.name})"


def _save(figure: Any, file: Path) -> None:
    figure.tight_layout()
    figure.savefig(file, metadata={"Software": None})
