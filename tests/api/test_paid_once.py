"""Bills = distinct logical evaluations, whatever happens in between."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from support.evaluators import make_client
from support.journals import shorten_waits
from support.pictures import picture

from runflow_api import background, images
from runflow_api.errors import RunflowError
from runflow_api.evaluation import bookkeeping
from runflow_api.evaluation.evaluator import Evaluator, Job
from runflow_api.evaluation.question import Options
from runflow_api.evaluation.verdict import BatchVerdict
from runflow_api.sandbox.app import Fault, Sandbox

WORKER = Path(__file__).with_name("worker.py")
STEPS = 2_000
QUESTIONS = 150
LIMIT = 100
BAD_DAY_S = 0.6
PLENTY_OF_PAGES = 1_000_000
SEED = 20_261_122
LONGER_S, STUCK_S = 120, 60
"""No wait may go on until its time-out: nothing here takes so long."""
SUBMIT, READ = "/v1/evaluations", "/v1/evaluations/[0-9a-f-]{36}"
PICTURES = [picture(seed, 32, 32) for seed in range(QUESTIONS)]


def by_picture(sandbox: Sandbox) -> Counter[str]:
    """How many evaluations the server made of each picture."""
    return Counter(images.pixel_hash(stored.pixels()) for stored in sandbox.evaluations.values())


class Disk:
    """Where journals in files are, with room for ``pages`` of each."""

    def __init__(self) -> None:
        self.pages = PLENTY_OF_PAGES

    def __enter__(self) -> Disk:
        sa.event.listen(sa.Engine, "begin", self.limit)
        return self

    def __exit__(self, *_: object) -> None:
        sa.event.remove(sa.Engine, "begin", self.limit)

    def limit(self, connection: sa.Connection) -> None:
        if connection.engine.url.database:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {self.pages}")


class Life:
    """One person's months with the pack: requests, faults, cancels, crashes, and a journal that has bad days.

    With a ``limit`` of evaluations per day nothing may pass it, whatever happens, and the clock stands still for it.
    Without, evaluations go on from memory while the journal cannot be used: what a crash then takes is lost, so the
    journal is well again before one.
    """

    def __init__(self, sandbox: Sandbox, directory: Path, seed: int, limit: int | None = None) -> None:
        self.sandbox, self.directory, self.limit = sandbox, directory, limit
        self.chance = random.Random(seed)
        self.clock_is_off_by = 0.0
        self.running: list[tuple[int, Future[BatchVerdict]]] = []
        self.answers = Counter[str]()
        self.bad_days: list[threading.Thread] = []
        self.waits = pytest.MonkeyPatch()
        self.disk = Disk()
        self.evaluator = self.start()

    def start(self) -> Evaluator:
        limits = {"RUNFLOW_MAX_EVALUATIONS_PER_PROMPT": "100000"}
        if self.limit is not None:
            limits["RUNFLOW_MAX_EVALUATIONS_PER_DAY"] = str(self.limit)
        client = make_client(self.sandbox, read_timeout=0.2, **limits)
        return Evaluator(
            client.config,
            self.directory,
            client=client,
            next_delay=lambda *_: 0.01,
            now=lambda: time.time() + self.clock_is_off_by,
        )

    def step(self, number: int) -> None:
        steps = {"ask": 60, "fault": 15, "cancel": 8, "hurry": 4, "crash": 2, "wait": 10}
        steps |= {"lock": 2, "fill": 2, "delete": 1, "damage": 3}
        if self.limit is None:
            steps["jump"] = 5
        what = self.chance.choices(list(steps), list(steps.values()))[0]
        getattr(self, what)(number)

    def ask(self, number: int) -> None:
        self.ask_about(self.chance.randrange(QUESTIONS), number)

    def ask_about(self, question: int, number: int) -> None:
        job = Job([PICTURES[question]], options=Options(timeout_s=LONGER_S), prompt_token=str(number))
        self.running.append((question, background.start(self.evaluator.evaluate(job))))

    def hurry(self, number: int) -> None:
        """Cancelled while its row is being reserved."""
        self.ask(number)
        self.running[-1][1].cancel()

    def lock(self, _: int) -> None:
        """Another process writes for longer than anybody waits."""
        if not self.file.exists():
            return
        ready = threading.Event()

        def hold() -> None:
            with closing(sqlite3.connect(self.file, isolation_level=None, timeout=5)) as other:
                other.execute("BEGIN IMMEDIATE")
                ready.set()
                time.sleep(BAD_DAY_S)  # longer than the evaluator waits
                other.execute("ROLLBACK")

        self.have_a_bad_day(hold)
        ready.wait(60)

    def fill(self, _: int) -> None:
        """The disk has no room, and then has."""
        self.disk.pages = 1

        def empty() -> None:
            time.sleep(BAD_DAY_S)  # for so long there is no room
            self.disk.pages = PLENTY_OF_PAGES

        self.have_a_bad_day(empty)

    def delete(self, number: int) -> None:
        """Somebody tidies up while the journal is open; the next evaluation notices."""
        self.recover()
        self.evaluator.journal()
        for file in self.file.parent.glob("journal.sqlite3*"):
            file.unlink(missing_ok=True)
        self.ask(number)
        self.wait(number)

    def damage(self, _: int) -> None:
        """One verdict in the journal cannot be read any more."""
        if not self.file.exists():
            return
        finished = "SELECT id FROM runflow_evaluations WHERE state = 'completed' ORDER BY id"
        with closing(sqlite3.connect(self.file, timeout=10)) as journal:
            if not journal.execute("SELECT 1 FROM sqlite_master WHERE name = 'runflow_answers'").fetchall():
                return  # the disk was full when the file was made
            ids = [row_id for (row_id,) in journal.execute(finished)]
            if ids:
                row_id = self.chance.choice(ids)
                journal.execute("UPDATE runflow_answers SET packed = X'0badc0de' WHERE row_id = ?", (row_id,))
                journal.commit()

    def have_a_bad_day(self, what: Callable[[], None]) -> None:
        shorten_waits(self.waits)
        self.bad_days.append(threading.Thread(target=what))
        self.bad_days[-1].start()

    def recover(self) -> None:
        for day in self.bad_days:
            day.join()
        self.bad_days = []
        self.waits.undo()

    @property
    def file(self) -> Path:
        return self.directory / "sandbox" / "journal.sqlite3"

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
        if self.limit is None:
            self.recover()
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
        self.recover()
        self.sandbox.clear_faults()
        for question in range(QUESTIONS):
            self.ask_about(question, 10**6 + question)
        self.wait(0)


@pytest.fixture
def comes_home_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookkeeping, "RETRY_S", 0.2)


def live(life: Life) -> None:
    with life.disk:
        for number in range(STEPS):
            life.step(number)
            if len(life.running) > 12:
                life.wait(number)
        life.settle()
        life.evaluator.close()


@pytest.mark.slow
@pytest.mark.usefixtures("comes_home_soon")
def test_two_thousand_random_steps_pay_every_logical_evaluation_once(tmp_path: Path) -> None:
    with Sandbox(latency=0.02, balance="100000", keep_bodies=True) as sandbox:
        life = Life(sandbox, tmp_path, seed=SEED)
        live(life)
        assert set(by_picture(sandbox).values()) == {1}, life.answers
        assert len(sandbox.bills) == len(sandbox.evaluations) == QUESTIONS
        assert life.answers["verdict"] > QUESTIONS
        assert life.answers["cancelled"] > 10
        assert len(life.answers) > 3  # errors did come out on the way


@pytest.mark.slow
@pytest.mark.usefixtures("comes_home_soon")
def test_two_thousand_random_steps_never_pass_a_limit(tmp_path: Path) -> None:
    with Sandbox(latency=0.02, balance="100000", keep_bodies=True) as sandbox:
        life = Life(sandbox, tmp_path, seed=SEED + 1, limit=LIMIT)
        live(life)
        assert set(by_picture(sandbox).values()) == {1}, life.answers
        assert len(sandbox.bills) == len(sandbox.evaluations) == LIMIT, life.answers
        assert life.answers["BUDGET_EXCEEDED"] >= QUESTIONS - LIMIT
        assert life.answers["JOURNAL_UNUSABLE"] > 0


def worker(sandbox: Sandbox, directory: Path, token: str, numbers: list[int]) -> subprocess.Popen[str]:
    command: list[Any] = [sys.executable, WORKER, sandbox.url, directory, token, *map(str, numbers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
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


@pytest.mark.slow
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
