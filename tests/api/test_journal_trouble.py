"""A journal that others could read, and one that cannot be used: told in words that a person can act on."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.journals import (
    KEY,
    ORG,
    PLENTY,
    VERDICT,
    ask,
    begin,
    child_environment,
    complete,
    fail,
    posix,
    waits_are_short,
)

from runflow_api.errors import RunflowError
from runflow_api.insight import page
from runflow_api.insight.agreement import Costs
from runflow_api.insight.value import Filter
from runflow_api.journal import begin as journal_begin
from runflow_api.journal import errors as journal_errors
from runflow_api.journal.journal import Journal, JournalError, Row

# --- rights ---------------------------------------------------------------------------------------


@posix
def test_everything_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with Journal.open(None, tmp_path / "new" / "private") as book:
            book.fix_body(begin(book)[0], b"body")
            made = [path for path in (tmp_path / "new" / "private").rglob("*")]
            rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made}
    finally:
        os.umask(old)
    assert {"journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm", "spool"} <= set(rights)
    assert rights.pop("spool") == 0o700 == stat.S_IMODE((tmp_path / "new" / "private").stat().st_mode)
    assert set(rights.values()) == {0o600} and len(rights) == 4


@posix
def test_a_journal_that_others_could_read_is_tightened(tmp_path: Path) -> None:
    Journal.open(None, tmp_path).close()
    (tmp_path / "journal.sqlite3").chmod(0o644)
    Journal.open(None, tmp_path).close()
    assert stat.S_IMODE((tmp_path / "journal.sqlite3").stat().st_mode) == 0o600


# --- trouble --------------------------------------------------------------------------------------


def calls(book: Journal, row: Row) -> dict[str, Callable[[], object]]:
    """Every method that touches the journal."""
    return {
        "account": lambda: book.account(KEY, None),
        "learn_account": lambda: book.learn_account(KEY, ORG),
        "begin": lambda: begin(book, ask("new")),
        "known": lambda: book.known([ask("new")]),
        "estimate": lambda: book.estimate([ask("new")], PLENTY),
        "fix_body": lambda: book.fix_body(row, b"body"),
        "body": lambda: book.body(row),
        "record_submission": lambda: book.record_submission(row, "ev-1", ORG),
        "record_result": lambda: fail(book, row),
        "record_refusal": lambda: book.record_refusal(row, "UNAUTHORIZED"),
        "release": lambda: book.release([row]),
        "abandon": lambda: book.abandon(row),
        "askers": lambda: book.askers(row),
        "record_feedback": lambda: book.record_feedback("ev-1", True, None),
        "get": lambda: book.get(row.id),
        "find_evaluation": lambda: book.find_evaluation("ev-1"),
        "query": lambda: book.query(page.overview, ["checkpoint"], Filter(), Costs()),
        "durations": lambda: book.durations("standard"),
        "spent_today": lambda: book.spent_today(),
        "spent_for": lambda: book.spent_for("p1"),
        "history": lambda: book.history(),
        "per_day": lambda: book.per_day(7),
        "release_left_behind": lambda: book.release_left_behind(3_600.0),
        "rows_by_key": lambda: book.rows_by_key({row.idempotency_key}),
        "take_over": lambda: book.take_over([(row, {"p2"}, b"body")], "org:1"),
        "record_free": lambda: book.record_free([ask("free", account="free:local")], [VERDICT]),
        "rate": lambda: book.rate(row.id, True),
        "prune": lambda: book.prune(older_than_days=1, at_most=1),
    }


ASK_NOTHING = {"rides_out_s", "pace", "payer", "expect_many"}
"""Answered without the database; what `pace` gives asks it by itself (test_pace.py)."""

# Releasing what was left behind writes if there is something to close. Pruning forgets what a prompt has used up.
WRITES = {
    "learn_account",
    "begin",
    "fix_body",
    "record_submission",
    "record_result",
    "record_refusal",
    "release",
    "abandon",
    "record_feedback",
    "take_over",
    "record_free",
    "rate",
    "prune",
}


def test_the_table_of_calls_is_complete(book: Journal) -> None:
    public = {name for name in vars(Journal) if not name.startswith("_")}
    assert set(calls(book, begin(book)[0])) == public - {"open", "in_memory", "close"} - ASK_NOTHING


def test_every_method_says_that_a_journal_is_damaged(tmp_path: Path) -> None:
    with Journal.open(None, tmp_path) as book:
        (row,) = begin(book)
    with Journal.open(None, tmp_path) as book:
        book.store.engine.pool.dispose()
        (tmp_path / "journal.sqlite3").write_bytes(b"\xff" * 65_536)
        for name, call in calls(book, row).items():
            with pytest.raises(JournalError, match=r"^\[JOURNAL_UNUSABLE\] .*damaged. Move it away"):
                call()
                pytest.fail(name)


def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite3"
    file.write_text("somebody's letter, which is much longer than a header of SQLite" * 100)
    with pytest.raises(JournalError, match="damaged"):
        Journal.open(None, tmp_path)
    assert file.read_text().startswith("somebody's letter")


def test_every_write_says_that_the_journal_is_locked(tmp_path: Path) -> None:
    with Journal.open(None, tmp_path) as book, closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as other:
        (row,) = begin(book)
        other.execute("BEGIN IMMEDIATE")
        for name, call in calls(book, row).items():
            if name not in WRITES:
                call()
                continue
            with waits_are_short(), pytest.raises(JournalError, match="another program has kept it locked for 10 s"):
                call()
                pytest.fail(name)
        other.rollback()
        assert begin(book)[0].id == row.id, "it goes on when the lock is gone"


def test_a_thread_does_not_wait_for_ever_for_another(tmp_path: Path) -> None:
    with Journal.open(None, tmp_path) as book:
        assert book.store.write_lock is not None
        with book.store.write_lock, waits_are_short(), pytest.raises(JournalError, match="locked"):
            begin(book)


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """As a user who may read ``folder`` and not write it; root may always write."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


@posix
def test_a_read_only_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Journal.open(None, folder).close()
        for path in (folder / "journal.sqlite3", folder / "spool"):
            path.chmod(0o444 if path.is_file() else 0o555)
        folder.chmod(0o555)
        try:
            with without_rights(folder), pytest.raises(JournalError, match=r"cannot be read|cannot be opened"):
                Journal.open(None, folder)
            with without_rights(folder), pytest.raises(JournalError, match="cannot be"):
                Journal.open(None, folder / "new")
        finally:
            folder.chmod(0o755)


@posix
def test_a_spool_that_may_not_be_written_is_told() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Journal.open(None, folder) as book:
            (row,) = begin(book)
            folder.chmod(0o755)
            (folder / "spool").chmod(0o555)
            with without_rights(folder), pytest.raises(JournalError, match="cannot be read or written"):
                book.fix_body(row, b"body")
            (folder / "spool").chmod(0o700)
            assert book.fix_body(row, b"body") == b"body"


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from runflow_api.journal.journal import Request, Journal, JournalError, Limits
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Journal.open(None, Path(sys.argv[1])) as book:
    (row,) = book.begin([Request("a", "org:1", None, "standard", "p")], Limits(9, 9))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    assert book.fix_body(row, bytes(1_000_000)) == bytes(1_000_000), "it is sent all the same, and noted"
    asks = [Request(str(i), "org:1", None, "standard", "p", generation_prompt="x" * 9_000) for i in range(200)]
    try:
        book.begin(asks, Limits(999, 999))
    except JournalError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert book.fix_body(row, bytes(1_000_000)) == bytes(1_000_000) and len(book.history()) == 1
    assert book.fix_body(row, b"other bytes") is None and book.get(row.id).spooled
"""


@posix
def test_a_full_disk_is_told_and_nothing_half_written_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("[JOURNAL_UNUSABLE]") == 1, done.stdout
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_closed_journal_says_so_and_opens_nothing(book: Journal) -> None:
    (row,) = begin(book)
    book.close()
    for call in calls(book, row).values():
        with pytest.raises(JournalError, match="is closed"):
            call()


def test_closing_waits_for_nobody_and_leaves_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, go_on, failed = threading.Event(), threading.Event(), list[BaseException]()
    reserve = journal_begin.reserve

    def slow(*arguments: Any) -> None:
        inside.set()
        go_on.wait(60)
        reserve(*arguments)

    monkeypatch.setattr(journal_begin, "reserve", slow)
    book = Journal.open(None, tmp_path)

    def work() -> None:
        try:
            begin(book)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(60)
    book.close()
    go_on.set()
    thread.join()
    assert failed == [] and book.store.engine.pool.checkedout() == 0 and book.store.engine.pool.checkedin() == 0
    with Journal.open(None, tmp_path) as again:
        assert len(again.history()) == 1


@pytest.mark.parametrize(
    "url", ["postgresql://me:hunter2@", "no url at all hunter2", "sqlite://", "sqlite:///:memory:"]
)
def test_a_url_that_cannot_be_is_refused_without_repeating_it(url: str, tmp_path: Path) -> None:
    with pytest.raises(JournalError) as told:
        Journal.open(url, tmp_path)
    shown = f"{told.value}{told.value.__cause__}"
    assert "hunter2" not in shown and "me:" not in shown


def test_a_database_without_a_driver_or_a_server_is_told_without_its_password(tmp_path: Path) -> None:
    for url in ("mysql+asyncmy://me:hunter2@127.0.0.1:1/x?password=hunter2", "nonsense://me:hunter2@h/x"):
        with pytest.raises(JournalError) as told:
            Journal.open(url, tmp_path)
        assert "hunter2" not in f"{told.value}{told.value.__cause__}"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "Auf dem Datenträger ist kein Platz"), "disk is full"),
        (PermissionError(errno.EACCES, "Zugriff verweigert"), "cannot be read or written"),
        (OSError("something with rf_live_abc in it"), "OSError"),
        (OverflowError("Python int too large"), "OverflowError"),
    ],
)
def test_each_trouble_with_a_file_has_its_remedy(error: BaseException, told: str) -> None:
    shown = str(journal_errors.to_journal_error(error, "here"))
    assert told in shown and "rf_live" not in shown and shown.startswith("[JOURNAL_UNUSABLE]")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("database is locked", "locked"),
        ("attempt to write a readonly database", "cannot be read or written"),
        ("unable to open database file", "cannot be opened"),
        ("database or disk is full", "disk is full"),
        ("file is not a database", "damaged"),
        ("database disk image is malformed", "damaged"),
        ("something with rf_live_abc in it", "OperationalError"),
    ],
)
def test_each_trouble_with_the_database_has_its_remedy(text: str, told: str) -> None:
    shown = str(
        journal_errors.to_journal_error(sa.exc.OperationalError("SELECT ?", ("rf_live_abc",), OSError(text)), "here")
    )
    assert told in shown and "rf_live" not in shown and shown.startswith("[JOURNAL_UNUSABLE]")


def test_a_journal_error_is_one_of_the_packs_own() -> None:
    assert issubclass(JournalError, RunflowError)


def test_an_answer_that_cannot_be_kept_is_told_and_changes_nothing(book: Journal) -> None:
    (row,) = begin(book)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for answer in ({"x": deep}, {"x": object()}):
        with pytest.raises(JournalError, match="cannot be kept"):
            book.record_result(row, answer, completed=True, cost=None, failure_code=None, duration_s=None)
    assert book.get(row.id).state == "open"


def test_a_damaged_answer_is_told_when_it_is_read(book: Journal) -> None:
    row = replace(complete(book, begin(book)[0]), packed=b"not zlib")
    with pytest.raises(JournalError, match="damaged"):
        print(row.answer)
