"""The journal on a bad day: locked, full, deleted, damaged, and back again. Paid once and limited all the same."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.evaluators import judge, make_evaluator
from support.journals import waits_are_short
from support.pictures import picture
from support.waiting import AT_MOST_S, wait_until

from runflow_api import background, errors, images
from runflow_api.evaluation import bookkeeping, lookup
from runflow_api.evaluation.bookkeeping import Bookkeeper
from runflow_api.evaluation.evaluator import Evaluator, Job
from runflow_api.evaluation.question import Options, Question
from runflow_api.journal import store as journal_store
from runflow_api.journal.journal import Journal, JournalError, Limits, Request, Row, RowState
from runflow_api.sandbox.app import Fault, Sandbox

SUBMIT = "/v1/evaluations"
BASE_URL = "https://api.example"
TWO_A_DAY = {"RUNFLOW_MAX_EVALUATIONS_PER_DAY": "2"}
LONG = Question(generation_prompt="x" * 9_000)
"""A prompt that finds no room between the rows of a database."""


@pytest.fixture(autouse=True)
def comes_home_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookkeeping, "RETRY_S", 0.3)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Another process writes, and goes on writing; nobody waits long for it."""
    with closing(sqlite3.connect(directory / "sandbox" / "journal.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with waits_are_short():
            yield
        other.execute("ROLLBACK")


@contextmanager
def full(evaluator: Evaluator) -> Iterator[None]:
    """The disk has no room for another page of the journal."""
    engine, pages = evaluator.journal().store.engine, [1]

    def limit(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages[0]}")

    sa.event.listen(engine, "begin", limit)
    yield
    pages[0] = 1_000_000


def codes(evaluator: Evaluator, *images: Any, **asked: Any) -> str:
    """What judging ends with: "reused", "paid", or the error's code."""
    try:
        verdict = judge(evaluator, *images, **asked)
    except errors.RunflowError as error:
        return error.code
    return "reused" if verdict[0].reused else "paid"


def after_restart(sandbox: Sandbox, directory: Path, **environment: str) -> Evaluator:
    return make_evaluator(sandbox, directory, **environment)


def after_paying_and_restart(sandbox: Sandbox, directory: Path) -> Evaluator:
    """One that begins with a journal in which the first picture is paid, and has seen nothing itself."""
    before = make_evaluator(sandbox, directory)
    assert codes(before, picture(1), prompt_token="one") == "paid"
    before.close()
    return after_restart(sandbox, directory)


def delete_journal(directory: Path) -> None:
    for file in (directory / "sandbox").glob("journal.sqlite3*"):
        file.unlink()


def make_unreadable(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot_be_read(*_: Any) -> list[Row]:
        raise JournalError("It cannot be read.")

    for method in ("begin", "known"):
        monkeypatch.setattr(journal, method, cannot_be_read)


def states(directory: Path) -> list[str]:
    with Journal.open(None, directory / "sandbox") as journal:
        return [str(row.state) for row in journal.history(limit=500)]


# --- what must hold -------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["locked", "full"])
def test_with_a_limit_of_two_a_day_the_third_is_not_paid_whatever_the_journal_does(
    sandbox: Sandbox, tmp_path: Path, trouble: str
) -> None:
    evaluator = make_evaluator(sandbox, tmp_path, **TWO_A_DAY)
    assert [codes(evaluator, picture(n), question=LONG, prompt_token=str(n)) for n in (1, 2)] == ["paid", "paid"]
    with locked(tmp_path) if trouble == "locked" else full(evaluator):
        assert codes(evaluator, picture(1), question=LONG, prompt_token="again") == "reused"
        assert codes(evaluator, picture(3), question=LONG, prompt_token="third") == (
            "JOURNAL_UNUSABLE" if trouble == "locked" else "BUDGET_EXCEEDED"
        )
    assert codes(evaluator, picture(3), question=LONG, prompt_token="after") == "BUDGET_EXCEEDED"
    assert codes(evaluator, picture(2), question=LONG, prompt_token="after") == "reused"
    assert evaluator.bookkeeper.trouble == ""
    assert len(sandbox.bills) == 2
    evaluator.close()


def test_with_a_limit_a_full_disk_sends_nothing_and_is_used_again_when_there_is_room(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    evaluator = make_evaluator(sandbox, tmp_path, **TWO_A_DAY)
    assert codes(evaluator, picture(1), question=LONG) == "paid"
    with full(evaluator):
        with pytest.raises(JournalError, match=r"the disk is full\. .*Nothing was sent and nothing was paid"):
            judge(evaluator, picture(2), question=LONG)
        assert len(sandbox.bills) == 1
    assert codes(evaluator, picture(2), question=LONG) == "paid"
    assert codes(evaluator, picture(3), question=LONG) == "BUDGET_EXCEEDED"
    evaluator.close()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_deleted_journal_is_noticed_and_what_was_known_is_kept(sandbox: Sandbox, tmp_path: Path, what: str) -> None:
    evaluator = make_evaluator(sandbox, tmp_path, **TWO_A_DAY)
    assert [codes(evaluator, picture(n), prompt_token=str(n)) for n in (1, 2)] == ["paid", "paid"]
    if what == "folder":
        shutil.rmtree(tmp_path / "sandbox")
    else:
        delete_journal(tmp_path)
    assert codes(evaluator, picture(3), prompt_token="third") == "BUDGET_EXCEEDED"
    assert codes(evaluator, picture(1), prompt_token="again") == "reused"
    evaluator.close()
    restarted = after_restart(sandbox, tmp_path, **TWO_A_DAY)
    assert codes(restarted, picture(2), prompt_token="after") == "reused"
    assert codes(restarted, picture(3), prompt_token="after") == "BUDGET_EXCEEDED"
    assert len(sandbox.bills) == 2
    restarted.close()


def test_a_journal_that_is_deleted_while_a_row_is_begun_is_put_back_and_read(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarted = after_paying_and_restart(sandbox, tmp_path)

    def delete(*_: Any) -> list[Row]:
        delete_journal(tmp_path)
        restarted.journal().store.engine.dispose()  # whatever reads it next opens it
        raise JournalError("It cannot be opened.")

    with monkeypatch.context() as patched:
        patched.setattr(restarted.journal(), "begin", delete)
        assert codes(restarted, picture(1), prompt_token="two") == "reused"
    assert codes(restarted, picture(1), prompt_token="three") == "reused"
    assert len(sandbox.bills) == 1
    restarted.close()


def test_of_two_that_begin_the_same_none_begins_it_in_memory_while_the_journal_takes_the_other(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    journal, both_came = evaluator.journal(), threading.Event()
    really_begin, came = journal.begin, []

    def begin(*asked: Any) -> list[Row]:
        came.append(asked)
        if len(came) == 1:
            both_came.wait(1.0)  # unless the second one waits for this one
            return really_begin(*asked)
        both_came.set()
        raise JournalError("It is busy.")

    monkeypatch.setattr(journal, "begin", begin)
    asked = [background.call(codes, evaluator, picture(1), prompt_token=token) for token in ("one", "two")]
    assert {each.result(timeout=60) for each in asked} <= {"paid", "reused"}
    assert len(came) == 2
    assert len(sandbox.bills) == 1
    evaluator.close()


def test_what_was_never_sent_while_the_journal_could_not_be_read_hides_no_verdict(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarted = after_paying_and_restart(sandbox, tmp_path)

    def cannot_be_encoded(*_: Any) -> images.EncodedImage:
        raise errors.InvalidInputError("image", "It cannot be encoded.")

    with monkeypatch.context() as patched:
        make_unreadable(restarted.journal(), patched)
        patched.setattr(images, "encode_lossless", cannot_be_encoded)
        with pytest.raises(errors.InvalidInputError):
            judge(restarted, picture(1), prompt_token="two", judge="runflow")
    assert codes(restarted, picture(1), prompt_token="three") == "reused"
    assert len(sandbox.bills) == 1
    restarted.close()


def test_what_is_begun_while_the_journal_could_not_be_read_and_not_sent_yet_hides_no_verdict(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarted = after_paying_and_restart(sandbox, tmp_path)
    is_encoding, may_encode = threading.Event(), threading.Event()

    def cannot_be_encoded(*_: Any) -> images.EncodedImage:
        is_encoding.set()
        may_encode.wait(AT_MOST_S)
        raise errors.InvalidInputError("image", "It cannot be encoded.")

    with monkeypatch.context() as patched:
        make_unreadable(restarted.journal(), patched)
        patched.setattr(images, "encode_lossless", cannot_be_encoded)
        waiting = background.call(codes, restarted, picture(1), prompt_token="two", judge="runflow")
        assert is_encoding.wait(AT_MOST_S)
    assert codes(restarted, picture(1), prompt_token="three") == "reused"
    may_encode.set()
    assert waiting.result(AT_MOST_S) == "INVALID_INPUT"
    assert len(sandbox.bills) == 1
    restarted.close()


@pytest.mark.parametrize("is_released", ["in the journal", "in memory"])
def test_a_row_that_another_prompt_waits_for_is_not_closed_by_one_that_leaves(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_released: str
) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    bookkeeper, journal = evaluator.bookkeeper, evaluator.journal()
    leaving, waiting = (bookkeeper.begin([Request("a", "", None, "standard", token)]) for token in ("leaves", "waits"))

    def is_busy(*_: Any) -> int:
        raise JournalError("It is busy.")

    with monkeypatch.context() as patched:
        if is_released == "in memory":
            patched.setattr(journal, "release", is_busy)
        bookkeeper.release(leaving)
    bookkeeper.begin([Request("b", "", None, "standard", "another")])  # what was in memory comes home
    assert journal.get(waiting[0]).state == RowState.OPEN
    bookkeeper.release(waiting)
    assert journal.get(waiting[0]).state == RowState.REJECTED
    evaluator.close()


def test_a_journal_replaced_by_another_takes_in_what_this_process_knows(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    assert codes(evaluator, picture(1), prompt_token="one") == "paid"
    shutil.rmtree(tmp_path / "sandbox")
    other = make_evaluator(sandbox, tmp_path)
    assert codes(other, picture(2), prompt_token="two") == "paid"
    assert codes(evaluator, picture(3), prompt_token="three") == "paid"
    assert "deleted or replaced" in evaluator.bookkeeper.trouble
    assert [codes(evaluator, picture(n), prompt_token="again") for n in (1, 2, 3)] == ["reused"] * 3
    assert [codes(other, picture(n), prompt_token="again") for n in (1, 2, 3)] == ["reused"] * 3
    assert len(sandbox.bills) == 3
    for each in (evaluator, other):
        each.close()


# --- without a limit of one's own -----------------------------------------------------------------


def test_without_a_limit_evaluations_go_on_and_are_carried_over(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    assert codes(evaluator, picture(1), prompt_token="one") == "paid"
    with locked(tmp_path):
        got = judge(evaluator, picture(2), prompt_token="two")
        assert "locked" in evaluator.bookkeeper.trouble and "[JOURNAL_UNUSABLE]" in got.notes
        assert [codes(evaluator, picture(n), prompt_token="again") for n in (1, 2)] == ["reused", "reused"]
        assert evaluator.journal().spent_today().evaluations == 1
    assert codes(evaluator, picture(3), prompt_token="three") == "paid"
    assert evaluator.bookkeeper.trouble == ""
    assert evaluator.journal().spent_today().evaluations == 3
    evaluator.close()
    restarted = after_restart(sandbox, tmp_path)
    assert [codes(restarted, picture(n), prompt_token="later") for n in (1, 2, 3)] == ["reused"] * 3
    assert len(sandbox.bills) == 3
    restarted.close()


def test_what_was_kept_in_memory_comes_home_by_itself(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    evaluator.journal()
    with locked(tmp_path):
        assert codes(evaluator, picture(1)) == "paid"
    wait_until(lambda: states(tmp_path) == ["completed"])
    wait_until(lambda: evaluator.bookkeeper.trouble == "")  # said after it was written
    evaluator.close()


def test_a_journal_that_is_closed_takes_what_was_kept_in_memory(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    evaluator.journal()
    with locked(tmp_path):
        assert codes(evaluator, picture(1)) == "paid"
    evaluator.close()
    assert states(tmp_path) == ["completed"]


def test_a_journal_that_is_closed_while_it_is_locked_waits_for_what_was_kept_in_memory(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    evaluator.journal()
    with locked(tmp_path):
        assert codes(evaluator, picture(1)) == "paid"
        monkeypatch.setattr(journal_store, "BUSY_S", 60.0)
        closing_it = background.call(evaluator.close)
        time.sleep(0.6)  # longer than what comes again waits for
    closing_it.result(timeout=60)
    assert states(tmp_path) == ["completed"]


def test_nothing_is_sent_that_is_closed_before_it_can_be_noted(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt was cancelled and ComfyUI ends: the call that was left behind must not pay what nobody will know of."""
    evaluator = make_evaluator(sandbox, tmp_path)
    noting = Journal.fix_body

    def note_too_late(journal: Journal, *args: Any) -> bytes | None:
        evaluator.close()
        return noting(journal, *args)

    monkeypatch.setattr(Journal, "fix_body", note_too_late)
    judge(evaluator, picture(1), judge="runflow", if_not_judged="fail")
    assert sandbox.bills == []


def test_a_lock_between_submission_and_verdict_loses_neither(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.latency = 1.0
    evaluator = make_evaluator(sandbox, tmp_path, **TWO_A_DAY)
    evaluator.journal()
    sandbox.add_fault(Fault("POST", SUBMIT, "late", delay=0.5))
    future = background.start(evaluator.evaluate(Job([picture(1)], prompt_token="one")))
    sandbox.wait_for_requests("POST", SUBMIT, 1)
    with locked(tmp_path):
        assert future.result(timeout=60)[0].error is None
        assert codes(evaluator, picture(1), prompt_token="again") == "reused"
    evaluator.close()
    assert states(tmp_path) == ["completed"]
    restarted = after_restart(sandbox, tmp_path)
    assert codes(restarted, picture(1), prompt_token="later") == "reused"
    assert len(sandbox.bills) == 1
    restarted.close()


def test_a_body_that_cannot_be_noted_is_not_sent_where_there_is_a_limit(sandbox: Sandbox, tmp_path: Path) -> None:
    made = make_evaluator(sandbox, tmp_path, **TWO_A_DAY)
    books = made.bookkeeper
    (row,) = books.begin([Job([picture(1)], prompt_token="p").request("pixels", Decimal(1), BASE_URL)])
    with locked(tmp_path), pytest.raises(JournalError, match="Nothing was sent"):
        books.fix_body(row, b"body")
    assert books.fix_body(row, b"body") == b"body"
    made.close()


# --- damaged --------------------------------------------------------------------------------------


def damage(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / "sandbox" / "journal.sqlite3")) as journal:
        journal.execute(statement)
        journal.commit()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE runflow_answers SET packed = X'00' WHERE row_id = 2",
        "UPDATE runflow_answers SET packed = 'text' WHERE row_id = 2",
        "UPDATE runflow_answers SET packed = 7 WHERE row_id = 2",
        "DELETE FROM runflow_answers WHERE row_id = 2",
        "UPDATE runflow_evaluations SET state = 'nonsense' WHERE id = 2",
        "UPDATE runflow_evaluations SET idempotency_key = '' WHERE id = 2",
    ],
)
def test_a_damaged_row_is_read_again_for_free_and_named(sandbox: Sandbox, tmp_path: Path, statement: str) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    pictures = [picture(n) for n in range(3)]
    first = judge(evaluator, *pictures)
    damage(tmp_path, statement)
    again = judge(evaluator, *pictures, prompt_token="again")
    assert [each.evaluation.id for each in again] == [each.evaluation.id for each in first]
    assert [each.score for each in again] == [each.score for each in first]
    assert f"evaluation {first[1].evaluation.id} was damaged" in again.notes
    third = judge(evaluator, *pictures, prompt_token="third")
    assert all(each.reused for each in third) and "damaged" not in third.notes
    assert len(sandbox.bills) == 3
    evaluator.close()


def test_a_damaged_row_that_names_no_evaluation_is_begun_anew_and_goes_on_counting(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    pictures = [picture(n) for n in range(2)]
    judge(evaluator, *pictures)
    damage(tmp_path, "UPDATE runflow_evaluations SET evaluation_id = NULL, state = 'nonsense' WHERE id = 1")
    again = judge(evaluator, *pictures, prompt_token="again")
    assert "row 1 of the journal was damaged" in again.notes and again[1].reused
    assert len(sandbox.bills) == 3 and evaluator.journal().spent_today().evaluations == 3
    evaluator.close()


@pytest.mark.parametrize(
    "change",
    ["price = 'abc'", "price = 'NaN'", "cost = X'ff'", "generation_prompt = CAST(X'ff' AS TEXT)", "score = 'high'"],
)
def test_a_damaged_field_costs_nobody_anything(sandbox: Sandbox, tmp_path: Path, change: str) -> None:
    evaluator = make_evaluator(sandbox, tmp_path, RUNFLOW_MAX_CREDITS_PER_DAY="100")
    judge(evaluator, picture(1))
    damage(tmp_path, f"UPDATE runflow_evaluations SET {change}")
    assert codes(evaluator, picture(1), prompt_token="again") == "reused"
    assert codes(evaluator, picture(2), prompt_token="more") == "paid"
    assert len(evaluator.journal().history()) == 2
    evaluator.close()


# --- looking --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_looking_neither_waits_for_the_write_lock_nor_takes_it(sandbox: Sandbox, tmp_path: Path) -> None:
    limits = {"RUNFLOW_MAX_EVALUATIONS_PER_PROMPT": "100000", "RUNFLOW_MAX_EVALUATIONS_PER_DAY": "100000"}
    before = make_evaluator(sandbox, tmp_path, **limits)
    judge(before, picture(1))
    before.close()  # what a verdict leaves to be tidied up may still be under way, and does need the lock
    evaluator = make_evaluator(sandbox, tmp_path, **limits)
    asked = [(f"pixels {n}", Question(), Options()) for n in range(20_000)]
    with locked(tmp_path):
        estimate = background.start(evaluator.estimate(asked, "token")).result(timeout=60)
        assert (estimate.new, estimate.known) == (20_000, 0)
        journal = evaluator.journal()
        assert len(journal.history()) == journal.spent_today().evaluations == 1
        assert evaluator.bookkeeper.find_evaluation(str(journal.history()[0].evaluation_id)) is not None
        again = Journal.open(None, tmp_path / "sandbox")
        assert len(again.history()) == 1
        again.close()
    assert evaluator.bookkeeper.trouble == ""
    evaluator.close()


def test_an_estimate_refuses_what_beginning_would_refuse(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path, **TWO_A_DAY)
    asked = [(f"pixels {n}", Question(), Options()) for n in range(3)]
    with pytest.raises(errors.BudgetError, match=r"add 3 to the 0 used already; your limit is 2 evaluations per day"):
        background.start(evaluator.estimate(asked, "token")).result(timeout=60)
    evaluator.close()


# --- reservations ---------------------------------------------------------------------------------


def test_a_cancel_while_rows_are_reserved_leaves_none_open(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    entered, go_on = threading.Event(), threading.Event()
    begin = Journal.begin

    def slow(self: Journal, requests: Any, limits: Limits) -> Any:
        rows = begin(self, requests, limits)
        entered.set()
        go_on.wait(60)
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "begin", slow)
        future = background.start(evaluator.evaluate(Job([picture(1), picture(2)], prompt_token="one")))
        assert entered.wait(60)
        future.cancel()
        time.sleep(0.2)  # the coroutine is gone before its rows are there
        go_on.set()
        wait_until(lambda: states(tmp_path) == ["closed", "closed"])
    assert evaluator.journal().spent_today().evaluations == 0
    evaluator.close()


@pytest.fixture
def books(sandbox: Sandbox, tmp_path: Path) -> Iterator[Bookkeeper]:
    evaluator = make_evaluator(sandbox, tmp_path)
    yield evaluator.bookkeeper
    evaluator.close()


def request(prompt_token: str = "p1") -> Request:
    return Job([picture(1)], prompt_token=prompt_token).request("pixels", None, BASE_URL)


def test_what_a_second_node_of_the_same_prompt_waits_for_stays_reserved(books: Bookkeeper) -> None:
    (first,), (second,) = books.begin([request()]), books.begin([request()])
    assert first.id == second.id and books.has_other_askers(first)
    books.release([first])
    assert books.current(second).state == RowState.OPEN and not books.has_other_askers(second)
    books.release([second])
    assert books.current(second).state == RowState.REJECTED


def test_what_another_prompt_waits_for_becomes_that_prompts(books: Bookkeeper) -> None:
    (first,), (second,) = books.begin([request()]), books.begin([request("p2")])
    books.release([first])
    assert (books.current(second).state, books.current(second).prompt_token) == (RowState.OPEN, "p2")
    books.release([second])
    assert books.current(second).state == RowState.REJECTED
    assert books.journal().spent_today().evaluations == 0


def test_equal_images_of_a_batch_are_released_together(books: Bookkeeper) -> None:
    rows = books.begin([request(), request()])
    books.release(rows)
    assert books.current(rows[0]).state == RowState.REJECTED


def test_what_may_have_been_sent_is_not_released(books: Bookkeeper) -> None:
    (row,) = books.begin([request()])
    books.fix_body(row, b"body")
    books.release([row])
    assert books.current(row).state == RowState.OPEN


def test_a_release_that_finds_the_journal_locked_is_made_up_for(books: Bookkeeper, tmp_path: Path) -> None:
    (row,) = books.begin([request()])
    with locked(tmp_path):
        books.release([row])
    books.begin([request("another")])
    assert books.journal().get(row.id).state == RowState.REJECTED


def test_what_a_dead_process_reserved_and_never_sent_is_free_after_a_while(sandbox: Sandbox, tmp_path: Path) -> None:
    dead = make_evaluator(sandbox, tmp_path, **TWO_A_DAY)
    job = Job([picture(1)], prompt_token="p")
    unsent, sent = dead.bookkeeper.begin([job.request(pixels, None, dead.config.base_url) for pixels in ("a", "b")])
    dead.bookkeeper.fix_body(sent, b"body")
    dead.close()
    evaluator = make_evaluator(sandbox, tmp_path, **TWO_A_DAY)
    assert codes(evaluator, picture(3)) == "BUDGET_EXCEEDED"
    evaluator.close()
    damage(tmp_path, "UPDATE runflow_evaluations SET created_at = created_at - 3700")
    evaluator = make_evaluator(sandbox, tmp_path, **TWO_A_DAY)
    assert codes(evaluator, picture(3)) == "paid"
    now = evaluator.bookkeeper
    assert (now.current(unsent).state, now.current(sent).state) == (RowState.REJECTED, RowState.OPEN)
    evaluator.close()


# --- said once ------------------------------------------------------------------------------------


def test_one_bill_is_shown_once_for_several_nodes_with_one_question(sandbox: Sandbox, evaluator: Evaluator) -> None:
    jobs = [Job([picture(1)], prompt_token="one") for _ in range(3)]
    verdicts = [future.result(timeout=60)[0] for future in [background.start(evaluator.evaluate(job)) for job in jobs]]
    assert len({verdict.evaluation.id for verdict in verdicts}) == len(sandbox.bills) == 1
    assert sorted(verdict.reused for verdict in verdicts) == [False, True, True]


def test_a_rating_is_a_success_also_where_the_journal_is_busy(
    sandbox: Sandbox, evaluator: Evaluator, tmp_path: Path
) -> None:
    evaluation_id = str(judge(evaluator, picture(1))[0].evaluation.id)
    with locked(tmp_path):
        (now,) = background.start(lookup.feedback(evaluator, [evaluation_id], "good")).result(timeout=60)
    assert now.feedback_is_positive is True


def test_the_trouble_is_said_in_one_line_with_what_to_do(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox" / "journal.sqlite3").write_bytes(b"no database" * 1000)
    evaluator = make_evaluator(sandbox, tmp_path, **TWO_A_DAY)
    assert codes(evaluator, picture(1)) == "JOURNAL_UNUSABLE"
    trouble = evaluator.bookkeeper.trouble
    assert "Move it away" in trouble and "you have set a limit" in trouble and "\n" not in trouble
    (tmp_path / "sandbox" / "journal.sqlite3").unlink()
    assert codes(evaluator, picture(1)) == "paid" and evaluator.bookkeeper.trouble == ""
    evaluator.close()


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="takes the rights of another user, which only root can")
def test_a_deleted_journal_that_cannot_be_put_back_yet_is_put_back_later(sandbox: Sandbox) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        evaluator = make_evaluator(sandbox, folder, **TWO_A_DAY)
        assert [codes(evaluator, picture(n), prompt_token=str(n)) for n in (1, 2)] == ["paid", "paid"]
        shutil.rmtree(folder / "sandbox")
        with without_rights():
            assert codes(evaluator, picture(3), prompt_token="third") == "JOURNAL_UNUSABLE"
        assert codes(evaluator, picture(3), prompt_token="after") == "BUDGET_EXCEEDED"
        assert codes(evaluator, picture(1), prompt_token="after") == "reused"
        assert len(sandbox.bills) == 2
        evaluator.close()


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who may not write where the journal is; root may always write."""
    os.seteuid(65534)
    yield
    os.seteuid(0)
