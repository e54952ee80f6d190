"""The sandbox in a process of its own, so that its work is not counted as ours, and an evaluator that asks it."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from measure import ROOT  # noqa: F401  (puts the repository on the path)

from runflow_api import background
from runflow_api.evaluation.evaluator import Evaluator, Job
from runflow_api.evaluation.question import Options, Question
from runflow_api.evaluation.verdict import BatchVerdict
from runflow_api.journal.journal import Limits, Request
from runflow_api.sandbox.app import DEFAULT_KEY, Fault, Sandbox, ScriptedVerdict
from runflow_api.settings import config

MOST = 100_000
"""Evaluations of one sandbox."""


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; ``at`` is of the monotonic clock, which all processes share."""

    method: str
    path: str
    at: float
    embeds: bool
    body_bytes: int


class Api:
    """A running sandbox that answers at once and whose verdict is ready after ``latency`` seconds."""

    def __init__(self, url: str, pipe: Connection) -> None:
        self.url, self._pipe = url, pipe

    def requests(self) -> list[Seen]:
        return self._ask("requests")

    def connections(self) -> int:
        return self._ask("connections")

    def set_latency(self, seconds: float) -> None:
        self._ask("latency", seconds)

    def add_fault(self, **fault: Any) -> None:
        self._ask("fault", fault)

    def _ask(self, what: str, given: Any = None) -> Any:
        self._pipe.send((what, given))
        return self._pipe.recv()


@contextmanager
def running(latency: float = 5.0) -> Iterator[Api]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, latency), daemon=True)
    process.start()
    try:
        yield Api(here.recv(), here)
    finally:
        here.send(("stop", None))
        process.join()


def _serve(pipe: Connection, latency: float) -> None:
    # A scripted verdict needs no look at the pixels: decoding them would take the processor from what is measured.
    scripted = [ScriptedVerdict(passed=True, score=0.9)] * MOST
    with Sandbox(latency=latency, balance="1000000", verdicts=scripted, keep_bodies=False) as sandbox:
        pipe.send(sandbox.url)
        while (message := pipe.recv())[0] != "stop":
            pipe.send(_answer(sandbox, *message))


def _answer(sandbox: Sandbox, what: str, given: Any) -> Any:
    if what == "latency":
        sandbox.latency = given
    elif what == "fault":
        sandbox.add_fault(Fault(**given))
    elif what == "connections":
        return sandbox.connections
    elif what == "requests":
        return [
            Seen(each.method, each.path, each.at, bool(each.query), int(each.header("content-length") or 0))
            for each in sandbox.requests
        ]
    return None


@contextmanager
def evaluator(api: Api, directory: Path | None = None, **keywords: Any) -> Iterator[Evaluator]:
    """An evaluator as ComfyUI would have it, with a journal of its own and room for any number of images."""
    limits = {f"RUNFLOW_MAX_EVALUATIONS_PER_{of}": "100000" for of in ("PROMPT", "DAY")}
    environment = {"RUNFLOW_BASE_URL": api.url, "RUNFLOW_API_KEY": DEFAULT_KEY, **limits}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        made = Evaluator(config.load(None, environment), directory or Path(temporary), **keywords)
        try:
            yield made
        finally:
            made.close()


def learn(evaluator: Evaluator, durations: list[float]) -> None:
    """Put evaluations that took so many seconds into the journal."""
    journal = evaluator.journal()
    asks = [Request(f"learned {n}", "nobody", None, Options().job_class, "learned") for n in range(len(durations))]
    for row, seconds in zip(journal.begin(asks, Limits(len(asks), len(asks))), durations, strict=True):
        journal.record_result(row, {}, completed=True, cost=None, failure_code=None, duration_s=seconds)


def judge(evaluator: Evaluator, pictures: list[Any], prompt: str = "", timeout_s: int = 600) -> BatchVerdict:
    """Judge a batch and wait for it. ``prompt`` makes the same pictures another request."""
    job = Job(pictures, Question(prompt), "runflow", options=Options(timeout_s=timeout_s), prompt_token=prompt)
    return background.start(evaluator.evaluate(job)).result()
