"""A batch against one after the other; what it needs of the processor, connections and threads; a 429 in between."""

from __future__ import annotations

import threading
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor

import api
import numpy as np
import pictures
from measure import median, said, table
from pictures import Pixels

LATENCY_S = 5.0
COUNTS, ROUNDS = (1, 4, 16, 64), 3
SIDE = 1024
GOAL_COUNT, GOAL = 16, 1.15
WHOLE = ("processor, ms", "connections", "threads")
WATCH_S = 0.05


def run(options: Namespace) -> str:
    batch = _distinct(options, max(COUNTS))
    with api.running(LATENCY_S) as sandbox:
        measured = {count: [] for count in COUNTS}
        for number in range(ROUNDS):
            for count in COUNTS:
                measured[count].append(_judged(sandbox, batch[:count], f"round {number} of {count}"))
        refused = _refused(sandbox, batch[:GOAL_COUNT])
    one = median(each["seconds"] for each in measured[1])
    rows = [_row(count, measured[count], one) for count in COUNTS]
    ratio = median(each["seconds"] for each in measured[GOAL_COUNT]) / one
    head = ["images", "seconds", "of one evaluation", "one after the other", *WHOLE]
    return "\n\n".join(
        [
            f"{SIDE}² pictures, each a verdict after {LATENCY_S:g} s, an empty journal each time, medians of {ROUNDS}. "
            "Threads are those of the whole process; for memory see what is said of encodings at once.",
            table(head, rows),
            f"Goal for {GOAL_COUNT}: ≤ {GOAL} × one evaluation; {ratio:.2f} ×, {said(ratio <= GOAL)}. The processor "
            "time is the pack's own, nearly all of it WebP; the sandbox needs its own on the same cores, and so does "
            "what else runs on them. On cores that are free it is spent in parallel, two pictures at a time.",
            refused,
        ]
    )


def _distinct(options: Namespace, count: int) -> list[Pixels]:
    """Shifted copies: pictures that are equal would be asked about once."""
    known = [each.pixels for each in pictures.squares(pictures.found(options.photos, options.generated), SIDE, 4)]
    return [np.roll(known[n % len(known)], 7 * n, axis=1) for n in range(count)]


def _judged(sandbox: api.Api, batch: list[Pixels], prompt: str) -> dict[str, float]:
    images = [pictures.tensor_of(pixels) for pixels in batch]
    connections, processor = sandbox.connections(), time.process_time()
    with api.evaluator(sandbox) as evaluator, ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        working = pool.submit(api.judge, evaluator, images, prompt)
        threads = 0
        while not working.done():
            threads = max(threads, threading.active_count())
            time.sleep(WATCH_S)
        assert working.result().passed
        seconds = time.monotonic() - began
    opened = sandbox.connections() - connections
    processor = 1e3 * (time.process_time() - processor)
    return {"seconds": seconds, **dict(zip(WHOLE, (processor, opened, threads), strict=True))}


def _row(count: int, rounds: list[dict[str, float]], one: float) -> list[str]:
    middle = {name: median(each[name] for each in rounds) for name in rounds[0]}
    whole = [f"{middle[name]:.0f}" for name in WHOLE]
    return [str(count), f"{middle['seconds']:.2f}", f"{middle['seconds'] / one:.2f} ×", f"{count * one:.0f} s", *whole]


def _refused(sandbox: api.Api, batch: list[Pixels]) -> str:
    """A rate limit that refuses twelve requests of the batch."""
    sandbox.add_fault(method="*", path="/v1/evaluations.*", status=429, retry_after="1", after_skip=4, times=12)
    took = _judged(sandbox, batch, "with 429")["seconds"]
    said_of = f"{len(batch)} images took {took:.1f} s and all were judged."
    return f"With 12 answers of 429 (`Retry-After: 1`) among them, {said_of}"
