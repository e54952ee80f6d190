"""Several processes and threads on one journal, whatever dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.journals import ask, begin, child_environment, complete, posix

from runflow_api.journal import begin as journal_begin
from runflow_api.journal import journal
from runflow_api.journal.journal import Journal, Row

# --- several processes ----------------------------------------------------------------------------

pytestmark = pytest.mark.slow

CHILD = """
import json, os, signal, sys, threading
from decimal import Decimal
from pathlib import Path
from runflow_api.errors import BudgetError
from runflow_api.journal.journal import Request, Journal, Limits

where, name, mode = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
url = os.environ.get("RUNFLOW_TEST_CHILD_URL") or None

def ask(hash):
    return Request(hash, "org:1", Decimal("0.5"), "standard", "prompt of " + name)

def at_once(jobs):
    start, results = threading.Barrier(len(jobs)), [None] * len(jobs)
    def run(i, job):
        start.wait()
        results[i] = job()
    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return results

def say(value):
    print(json.dumps(value), flush=True)

def race(book):
    def one(hash):
        (row,) = book.begin([ask(hash)], Limits(100, 1000))
        return [hash, row.id, row.is_new, row.idempotency_key, book.fix_body(row, (name + hash).encode()).decode()]
    hashes = ["same"] * 20 + [f"different-{i}" for i in range(20)]
    return at_once([lambda hash=hash: one(hash) for hash in hashes])

def spend(book):
    def one(i):
        try:
            return book.begin([ask(f"{name}-{i}")], Limits(100, 10, Decimal("4")))[0].is_new
        except BudgetError:
            return False
    return at_once([lambda i=i: one(i) for i in range(20)])

class DiesInTheMiddle(list):
    def __iter__(self):
        yield ask("a")
        os.kill(os.getpid(), signal.SIGKILL)

def live(book, until):
    if until == "inserting":
        book.begin(DiesInTheMiddle([1]), Limits(100, 1000))
    (row,) = book.begin([ask("a")], Limits(100, 1000))
    if until in ("spooled", "submitted"):
        book.fix_body(row, b"the first body")
    if until == "submitted":
        book.record_submission(row, "ev-1", None)
    return row.idempotency_key

say("ready")
sys.stdin.readline()
with Journal.open(url, where) as book:
    say({"race": race, "spend": spend}.get(mode, lambda book: live(book, mode))(book))
    sys.stdin.readline()
"""


@contextmanager
def child(where: Path, name: str, mode: str, url: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process of its own on the same journal; it starts at its first line of input and ends with the second."""
    environment = {**child_environment(), "RUNFLOW_TEST_CHILD_URL": url or ""}
    command = [sys.executable, "-W", "error", "-c", CHILD, str(where), name, mode]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def both(where: Path, mode: str, url: str | None = None) -> list[Any]:
    with child(where, "one", mode, url) as one, child(where, "two", mode, url) as two:
        assert [hear(one), hear(two)] == ["ready", "ready"]
        say(one)
        say(two)
        results = [hear(one), hear(two)]
        say(one)
        say(two)
        assert [one.wait(60), two.wait(60)] == [0, 0]
    return results


def test_two_processes_asking_the_same_get_the_same_rows(tmp_path: Path, shared_url: str | None) -> None:
    seen = [entry for entries in both(tmp_path, "race", shared_url) for entry in entries]
    assert len(seen) == 80
    for hash_ in {entry[0] for entry in seen}:
        mine = [entry for entry in seen if entry[0] == hash_]
        assert len({tuple(entry[1:2] + entry[3:]) for entry in mine}) == 1, "one row, one key, one body"
        assert 1 <= sum(entry[2] for entry in mine)
    with Journal.open(shared_url, tmp_path) as book:
        assert len(book.history(limit=500)) == len({entry[0] for entry in seen}) == 21
        kept = [body for _, _, body in book.rows_by_key({entry[3] for entry in seen})]
        assert len(kept) == 21 and None not in kept, "and every body is there"


def test_two_processes_at_the_budgets_edge_do_not_overshoot(tmp_path: Path, shared_url: str | None) -> None:
    won = [entry for entries in both(tmp_path, "spend", shared_url) for entry in entries]
    assert won.count(True) == 8
    with Journal.open(shared_url, tmp_path) as book:
        assert book.spent_today() == journal.Spend(8, Decimal("4.0"))


@posix
@pytest.mark.parametrize("moment", ["inserting", "begun", "spooled", "submitted"])
def test_a_killed_process_leaves_what_it_had_done(tmp_path: Path, moment: str) -> None:
    with child(tmp_path, "one", moment) as process:
        assert hear(process) == "ready"
        say(process)
        key = None if moment == "inserting" else hear(process)
        if key:
            process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    with Journal.open(None, tmp_path) as book:
        (row,) = begin(book)
        assert row.is_new == (moment == "inserting")
        assert (row.idempotency_key == key) == (moment != "inserting")
        assert row.evaluation_id == ("ev-1" if moment == "submitted" else None)
        if moment != "submitted":
            mine = b"the first body" if moment == "spooled" else b"another encoder's body"
            assert book.fix_body(row, b"another encoder's body") == mine


def test_threads_share_a_journal(book: Journal) -> None:
    start, rows = threading.Barrier(16), list[Row]()

    def work(number: int) -> None:
        start.wait()
        (row,) = begin(book, ask(str(number % 4)))
        book.fix_body(row, b"body")
        complete(book, row)
        rows.append(book.get(row.id))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 16 and len({row.id for row in rows}) == 4 == len(book.history())


def test_who_collides_where_nobody_locks_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.open(None, tmp_path) as book:
        (row,) = begin(book)
        latest, blind = journal_begin.latest, [True]

        def late(*arguments: Any, **keywords: Any) -> dict[Any, Row]:
            return {} if blind and blind.pop() else latest(*arguments, **keywords)

        monkeypatch.setattr(journal_begin, "latest", late)
        assert begin(book)[0].id == row.id and not blind
