"""Several machines on one journal in PostgreSQL: each has a directory of its own, and any of them may die."""

from __future__ import annotations

import functools
import math
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import postgres
from support.evaluators import judge, make_evaluator
from support.journals import begin, child_environment
from support.pictures import picture
from support.postgres import Postgres
from support.process import free_port
from support.waiting import wait_until

from runflow_api import errors, images
from runflow_api.insight import page
from runflow_api.journal import errors as journal_errors
from runflow_api.journal import store as journal_store
from runflow_api.journal.journal import Journal, JournalError
from runflow_api.sandbox.app import Fault, Sandbox

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("worker.py")
SUBMIT = "/v1/evaluations"
WORKERS, COMMON, OWN, KILLS = 3, 6, 6, 3
QUESTIONS = COMMON + WORKERS * OWN
SEED = 18
STARTS_S = 240
"""A process on a busy machine may take so long to start."""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that may be stopped, so that it is nobody else's."""
    if postgres.programs() is None:
        pytest.skip(postgres.NOT_HERE)
    running = Postgres()
    yield running
    running.remove()


@pytest.fixture
def url(server: Postgres) -> str:
    return server.new_database()


class Machine:
    """A process that judges numbered pictures; its directory dies with it, as a machine's disk may."""

    def __init__(self, sandbox: Sandbox, url: str, directory: Path, numbers: list[int], limit: int = QUESTIONS) -> None:
        command = [sys.executable, WORKER, sandbox.url, directory, directory.name, *map(str, numbers)]
        settings = {"RUNFLOW_TEST_CHILD_URL": url, "RUNFLOW_TEST_CHILD_LIMIT": str(limit)}
        environment = {**child_environment(), **settings}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def answers(self) -> dict[int, str]:
        """The evaluation of each picture, once all are there."""
        lines = self.process.communicate(timeout=STARTS_S)[0].splitlines()[1:]
        assert self.process.returncode == 0
        return {int(number): evaluation for number, evaluation in map(str.split, lines)}

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def has_made(sandbox: Sandbox, enough: int) -> bool:
    return len(sandbox.evaluations) >= enough


def test_machines_that_die_and_a_server_that_restarts_lose_nothing_and_pay_nothing_twice(
    server: Postgres, url: str, tmp_path: Path
) -> None:
    """The limit is as many evaluations as there are questions: one too many would be refused."""
    chance = random.Random(SEED)
    common = list(range(COMMON))
    asked = [common + list(range(100 * n, 100 * n + OWN)) for n in range(1, WORKERS + 1)]
    with Sandbox(latency=0.3, balance="1000") as sandbox:
        for kind in ("drop_after", "late", "status"):
            sandbox.add_fault(Fault("POST", SUBMIT, kind, times=3, after_skip=2, delay=0.3 if kind == "late" else None))
        machines = [Machine(sandbox, url, tmp_path / f"m{n}", numbers) for n, numbers in enumerate(asked)]
        for number in range(KILLS):
            enough = QUESTIONS * (number + 1) // (KILLS + 2)
            wait_until(functools.partial(has_made, sandbox, enough), at_most=STARTS_S)
            victim = chance.randrange(WORKERS)
            machines[victim].kill()
            machines[victim] = Machine(sandbox, url, tmp_path / f"replacement{number}", asked[victim])
            if number == 0:
                server.stop("immediate")
                server.start()
        answers = [machine.answers() for machine in machines]
        assert [sorted(each) for each in answers] == [sorted(numbers) for numbers in asked]
        assert len({tuple(each[number] for number in common) for each in answers}) == 1, "one verdict for all machines"
        paid = Counter(images.pixel_hash(stored.pixels()) for stored in sandbox.evaluations.values())
        assert len(sandbox.bills) == len(paid) == QUESTIONS and set(paid.values()) == {1}
    assert _bodies(url) == 0, "what was taken needs no body any more"


def test_another_machine_finishes_what_a_dead_one_had_sent(url: str, tmp_path: Path) -> None:
    with Sandbox(latency=0.05) as sandbox:
        sandbox.add_fault(Fault("POST", SUBMIT, "late", delay=0.6))
        first = Machine(sandbox, url, tmp_path / "first", [7])
        sandbox.wait_for_requests("POST", SUBMIT, timeout=STARTS_S)
        first.kill()
        second = Machine(sandbox, url, tmp_path / "second", [7])
        assert set(second.answers().values()) == set(sandbox.evaluations)
        sent = [request for request in sandbox.requests if request.method == "POST"]
        assert len({request.headers["idempotency-key"] for request in sent}) == len(sandbox.bills) == 1
        assert all(request.body == sent[0].body for request in sent), "what the dead one had made"


def _bodies(url: str) -> int:
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table("runflow_bodies"):
                return 0
            return connection.scalar(sa.text("SELECT COUNT(*) FROM runflow_bodies")) or 0
    finally:
        engine.dispose()


def test_a_server_that_restarts_is_waited_for_and_one_that_stays_away_stops_what_would_be_paid(
    server: Postgres, url: str, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other machines share the journal: nothing is begun from memory, though no limit was set. Looking back says so."""
    evaluator = make_evaluator(sandbox, tmp_path, RUNFLOW_JOURNAL_URL=url)
    try:
        assert judge(evaluator, picture(1)).passed
        server.stop("fast")
        server.start()
        assert judge(evaluator, picture(2)).passed
        server.stop("immediate")
        monkeypatch.setattr(journal_errors, "LOOK_S", 0.5)
        monkeypatch.setattr(journal_store, "RIDE_OUT_S", math.inf)
        book = evaluator.journal()
        for look in (book.history, book.spent_today, functools.partial(book.query, page.to_rate)):
            with pytest.raises(JournalError, match="does not answer"):
                look()
        evaluator.journal().store.be_quick(True)
        with pytest.raises(
            errors.RunflowError, match=r"\[JOURNAL_UNUSABLE\].*does not answer.*Other machines share it"
        ):
            judge(evaluator, picture(3))
        server.start()
        assert judge(evaluator, picture(3)).passed
    finally:
        evaluator.close()
    assert len(sandbox.bills) == 3


def test_looking_back_at_a_server_that_takes_connections_and_never_answers_says_so(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_errors, "LOOK_ANSWERED_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        url = f"postgresql://tests@127.0.0.1:{frozen.getsockname()[1]}/journal?connect_timeout=0"
        evaluator = make_evaluator(sandbox, tmp_path, RUNFLOW_JOURNAL_URL=url)
        with pytest.raises(JournalError, match="has not answered"):
            evaluator.journal()


def test_many_that_open_a_new_database_at_once_make_its_tables_once(url: str, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from runflow_api.journal.journal import Journal; "
    code += "Journal.open(sys.argv[1], Path(sys.argv[2])).close()"
    children = [
        subprocess.Popen([sys.executable, "-c", code, url, tmp_path / str(number)], env=child_environment())
        for number in range(4)
    ]
    assert [child.wait(STARTS_S) for child in children] == [0, 0, 0, 0]
    with Journal.open(url, tmp_path) as book:
        assert begin(book)[0].is_new


def test_a_database_that_cannot_be_used_says_what_to_do(server: Postgres, url: str, tmp_path: Path) -> None:
    with free_port() as port:
        nowhere = url.replace(f":{server.port}/", f":{port}/")
        for wrong, said in ((nowhere, "does not answer"), (f"{url}_gone", "there is no such database")):
            with pytest.raises(JournalError, match=said):
                Journal.open(wrong, tmp_path)


def test_a_missing_driver_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(JournalError, match=r"runflow-evaluate\[postgresql\]"):
        Journal.open("postgresql+psycopg://somebody:secret@127.0.0.1/journal", tmp_path)
