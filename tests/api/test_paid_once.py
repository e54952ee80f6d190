"""Bills = distinct logical evaluations, whatever happens in between."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import numpy as np
from support.evaluators import make_client
from support.pictures import picture

from runflow_api import background, images
from runflow_api.errors import RunflowError
from runflow_api.evaluation.evaluator import Evaluator, Job
from runflow_api.evaluation.question import Options
from runflow_api.evaluation.verdict import BatchVerdict
from runflow_api.sandbox.app import Fault, Sandbox

WORKER = Path(__file__).with_name("worker.py")
STEPS = 2_000
QUESTIONS = 150
SEED = 20_261_122
LONGER_S, STUCK_S = 120, 60
"""No wait may go on until its time-out: nothing here takes so long."""
SUBMIT, READ = "/v1/evaluations", "/v1/evaluations/[0-9a-f-]{36}"
PICTURES = [picture(seed, 32, 32) for seed in range(QUESTIONS)]


def by_picture(sandbox: Sandbox) -> Counter[str]:
    """How many evaluations the server made of each picture."""
    return Counter(images.pixel_hash(stored.pixels()) for stored in sandbox.evaluations.values())


class Life:
    """One person's months with the pack: requests, faults, cancels, crashes and clocks that jump."""

    def __init__(self, sandbox: Sandbox, directory: Path, seed: int) -> None:
        self.sandbox, self.directory = sandbox, directory
        self.chance = random.Random(seed)
        self.clock_is_off_by = 0.0
        self.running: list[tuple[int, Future[BatchVerdict]]] = []
        self.answers = Counter[str]()
        self.evaluator = self.start()

    def start(self) -> Evaluator:
        client = make_client(
            self.sandbox,
            read_timeout=0.2,
            RUNFLOW_MAX_EVALUATIONS_PER_DAY="1000000",
            RUNFLOW_MAX_EVALUATIONS_PER_PROMPT="100000",
        )
        return Evaluator(
            client.config,
            self.directory,
            client=client,
            next_delay=lambda *_: 0.01,
            now=lambda: time.time() + self.clock_is_off_by,
        )

    def step(self, number: int) -> None:
        what = self.chance.choices(["ask", "fault", "cancel", "crash", "jump", "wait"], [60, 15, 8, 2, 5, 10])[0]
        getattr(self, what)(number)

    def ask(self, number: int) -> None:
        self.ask_about(self.chance.randrange(QUESTIONS), number)

    def ask_about(self, question: int, number: int) -> None:
        job = Job([PICTURES[question]], options=Options(timeout_s=LONGER_S), prompt_token=str(number))
        self.running.append((question, background.start(self.evaluator.evaluate(job))))

    def fault(self, _: int) -> None:
        """Sometimes trouble, sometimes so much that every attempt meets it."""
        kind = self.chance.choice(
            ["drop_before", "drop_after", "status", "html", "garbage", "truncated", "wrong_shape", "late", "hang"]
        )
        times = self.chance.choice([1, 1, 2, 6])
        status = self.chance.choice([500, 503, 429]) if kind == "status" else None
        delay = 0.4 if kind == "late" else None
        method, path = self.chance.choice([("POST", SUBMIT), ("GET", READ)])
        self.sandbox.add_fault(Fault(method, path, kind, times=times, status=status, delay=delay))

    def cancel(self, _: int) -> None:
        if self.running:
            self.chance.choice(self.running)[1].cancel()

    def crash(self, _: int) -> None:
        """The process goes on without its memory: only the journal is left."""
        for _question, future in self.running:
            future.cancel()
        self.wait(0)
        self.evaluator.close()
        self.evaluator = self.start()

    def jump(self, _: int) -> None:
        self.clock_is_off_by = self.chance.uniform(-1, 1) * self.chance.choice([60, 3_600, 20 * 3_600]) / 2

    def wait(self, _: int) -> None:
        for question, future in self.running:
            self.note(question, future)
        self.running = []

    def note(self, question: int, future: Future[BatchVerdict]) -> None:
        try:
            verdict = future.result(timeout=STUCK_S)[0]
        except CancelledError:
            self.answers["cancelled"] += 1
        except RunflowError as error:
            self.answers[error.code] += 1
        else:
            self.answers["verdict"] += 1
            stored = self.sandbox.evaluations[str(verdict.evaluation.id)]
            assert np.array_equal(stored.pixels(), images.to_pixels(PICTURES[question]))

    def settle(self) -> None:
        """Peace at last: everything that was ever asked gets its verdict."""
        self.wait(0)
        self.sandbox.clear_faults()
        for question in range(QUESTIONS):
            self.ask_about(question, 10**6 + question)
        self.wait(0)


def test_two_thousand_random_steps_pay_every_logical_evaluation_once(tmp_path: Path) -> None:
    with Sandbox(latency=0.02, balance="100000", keep_bodies=True) as sandbox:
        life = Life(sandbox, tmp_path, seed=SEED)
        for number in range(STEPS):
            life.step(number)
            if len(life.running) > 12:
                life.wait(number)
        life.settle()
        life.evaluator.close()
        assert set(by_picture(sandbox).values()) == {1}, life.answers
        assert len(sandbox.bills) == len(sandbox.evaluations) == QUESTIONS
        assert life.answers["verdict"] > QUESTIONS
        assert life.answers["cancelled"] > 10
        assert len(life.answers) > 3  # errors did come out on the way


def worker(sandbox: Sandbox, directory: Path, token: str, numbers: list[int]) -> subprocess.Popen[str]:
    command: list[Any] = [sys.executable, WORKER, sandbox.url, directory, token, *map(str, numbers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_with_twenty_equal_and_twenty_own_requests_each_lose_and_repeat_none(tmp_path: Path) -> None:
    with Sandbox(latency=0.2, balance="1000") as sandbox:
        asked = [list(range(20)) + list(range(100, 120)), list(range(20)) + list(range(200, 220))]
        started = [worker(sandbox, tmp_path, f"p{n}", numbers) for n, numbers in enumerate(asked)]
        printed = [process.communicate(timeout=120)[0].splitlines()[1:] for process in started]
        assert [process.returncode for process in started] == [0, 0]
        answers = [dict(line.split() for line in lines) for lines in printed]
        assert [len(each) for each in answers] == [40, 40]
        assert {n: answers[0][n] for n in map(str, range(20))} == {n: answers[1][n] for n in map(str, range(20))}
        assert len(sandbox.bills) == len(set(by_picture(sandbox))) == 60


def test_processes_that_are_killed_at_any_moment_pay_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(3)
    numbers = list(range(12))
    with Sandbox(latency=0.3) as sandbox:
        sandbox.add_fault(Fault("POST", SUBMIT, "drop_after", times=4))
        sandbox.add_fault(Fault("POST", SUBMIT, "late", times=4, delay=0.5))
        for attempt in range(8):
            process = worker(sandbox, tmp_path, f"p{attempt}", numbers)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.5))  # the moment of the kill is the point
            process.kill()
            process.communicate()
        last = worker(sandbox, tmp_path, "last", numbers)
        assert len(last.communicate(timeout=60)[0].splitlines()) == 1 + len(numbers)
        assert set(by_picture(sandbox).values()) == {1}
        assert len(sandbox.bills) == len(numbers)
