"""What waiting costs: a hundred pending evaluations, and none."""

from __future__ import annotations

import threading
import time
from argparse import Namespace
from concurrent.futures import CancelledError
from contextlib import suppress

import api
import numpy as np
import pictures
from measure import said, table

from runflow_api import background
from runflow_api.evaluation.evaluator import Job
from runflow_api.evaluation.question import Options, Question

COUNT, GOAL = 100, 3.0
SETTLE_S, WINDOW_S = 20.0, 40.0
LONGER_S = 600.0


def run(_: Namespace) -> str:
    with api.running(LONGER_S) as sandbox:
        learned = ("learned, 60 s ± 20 %", _past())
        rows = [_idle(sandbox), _measured(sandbox, "first use", []), _measured(sandbox, *learned)]
    worst = max(row[1] for row in rows)
    head = ["", "of one core, %", "reads per second", "threads"]
    shown = [[row[0], f"{row[1]:.2f}", f"{row[2]:.1f}", row[3]] for row in rows]
    goal = f"Goal ≤ {GOAL:g} % of one core and no thread per poll: {said(worst <= GOAL)}."
    text = f"{COUNT} evaluations from {SETTLE_S:g} to {SETTLE_S + WINDOW_S:g} s after they were submitted."
    return f"{text}\n\n{table(head, shown)}\n\n{goal}"


def _past() -> list[float]:
    return [float(seconds) for seconds in np.random.default_rng(0).uniform(48, 72, 50)]


def _idle(sandbox: api.Api) -> list:
    with api.evaluator(sandbox):
        return ["none pending", *_watched(sandbox, WINDOW_S / 2)]


def _measured(sandbox: api.Api, name: str, past: list[float]) -> list:
    with api.evaluator(sandbox) as evaluator:
        if past:
            api.learn(evaluator, past)
        waiting = background.start(evaluator.evaluate(_job(name)))
        time.sleep(SETTLE_S)
        found = _watched(sandbox, WINDOW_S)
        waiting.cancel()
        with suppress(CancelledError):
            waiting.result(timeout=10)
        return [name, *found]


def _job(name: str) -> Job:
    base = pictures.squares(pictures.found([], []), 256, 1)[0].pixels
    batch = [np.roll(base, n, axis=1) for n in range(COUNT)]
    return Job(batch, Question(name), "runflow", options=Options(timeout_s=3600), prompt_token=name)


def _watched(sandbox: api.Api, seconds: float) -> tuple[float, float, int]:
    """(% of a core, requests per second, most threads) over that time."""
    requests, began, processor = len(sandbox.requests()), time.monotonic(), time.process_time()
    threads = 0
    while time.monotonic() - began < seconds:
        threads = max(threads, threading.active_count())
        time.sleep(0.25)
    took = time.monotonic() - began
    share = 100 * (time.process_time() - processor) / took
    return share, (len(sandbox.requests()) - requests) / took, threads
