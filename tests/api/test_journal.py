"""The journal: nothing is paid twice, nothing is lost, nothing leaks, whoever else is writing and whatever dies."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st

from runflow_api.errors import BudgetError, InvalidInputError, RunflowError
from runflow_api.journal import errors as journal_errors
from runflow_api.journal import journal, migrations, schema
from runflow_api.journal import store as journal_store
from runflow_api.journal.journal import Journal, JournalError, Limits, Request, Row

ROOT = Path(__file__).resolve().parents[2]
KEY, OTHER_KEY, ORG = "rf_live_key_number_one_0001", "rf_live_key_number_two_0002", "org-1"
NOON = 20_000 * 86_400 + 43_200.0
"""2024-10-04 12:00 UTC."""
PLENTY = Limits(per_prompt=100_000, per_day=100_000)
VERDICT = {"id": "ev-1", "status_code": "completed", "overall_passed": True, "weighted_pass_rate": 0.9, "cost": "0.5"}
SERVER = os.environ.get("RUNFLOW_TEST_JOURNAL_URL", "")
STORES = ["file", "memory", *(["server"] if SERVER else [])]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX rights and signals")


class Clock:
    def __init__(self, at: float = NOON) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORES)
def book(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    """An empty journal: in SQLite's file, in memory, and where RUNFLOW_TEST_JOURNAL_URL says."""
    if request.param == "memory":
        opened = Journal.in_memory(now=clock)
    else:
        opened = Journal.open(emptied(request.param), tmp_path, now=clock)
    with opened:
        yield opened


def emptied(store: str) -> str | None:
    """The URL of a shared store, with no journal in it."""
    if store == "file":
        return None
    engine = sa.create_engine(SERVER)
    with engine.begin() as connection:
        for table in sa.inspect(connection).get_table_names():
            if table.startswith("runflow_"):
                connection.execute(sa.text(f"DROP TABLE {table}"))
    engine.dispose()
    return SERVER


def ask(name: str = "a", **changes: Any) -> Request:
    plain = Request(request_hash=name, account="org:1", price=Decimal("0.5"), job_class="standard", prompt_token="p1")
    return replace(plain, **changes)


def begin(book: Journal, *asks: Request, limits: Limits = PLENTY) -> list[Row]:
    return book.begin(list(asks) or [ask()], limits)


def complete(book: Journal, row: Row, **changes: Any) -> Row:
    answer = {**VERDICT, "id": f"ev-{row.id}", **changes}
    book.record_submission(row, answer["id"], ORG)
    return book.record_result(row, answer, completed=True, cost=answer["cost"], failure_code=None, duration_s=8.0)


def fail(book: Journal, row: Row) -> Row:
    return book.record_result(row, {}, completed=False, cost="0.5", failure_code="JUDGE_DOWN", duration_s=3.0)


# --- which row an ask gets ------------------------------------------------------------------------


def test_a_new_request_gets_a_row_with_a_key_of_its_own(book: Journal) -> None:
    first, second = begin(book, ask("a"), ask("b"))
    assert (first.state, first.generation, first.is_new, first.spooled) == ("open", 0, True, False)
    assert first.created_at == NOON and first.price == Decimal("0.5") and first.cost is None
    assert first.idempotency_key != second.idempotency_key


def test_an_open_request_is_joined_whoever_asks(book: Journal) -> None:
    (first,) = begin(book)
    (again,) = begin(book, ask(prompt_token="p2", reuse=False))
    assert (again.id, again.idempotency_key, again.is_new) == (first.id, first.idempotency_key, False)


def test_equal_asks_of_one_batch_share_a_row(book: Journal) -> None:
    rows = begin(book, ask(), ask("b"), ask(), limits=Limits(per_prompt=2, per_day=2))
    assert rows[0] == rows[2] and rows[0].is_new and rows[1].id != rows[0].id


def test_a_finished_verdict_is_reused_in_another_prompt(book: Journal) -> None:
    (first,) = begin(book)
    complete(book, first)
    (again,) = begin(book, ask(prompt_token="p2"))
    assert (again.id, again.state, again.outcome, again.is_new) == (first.id, "completed", "passed", False)
    assert again.answer is not None and again.answer["weighted_pass_rate"] == 0.9


def test_a_null_verdict_is_reused_too(book: Journal) -> None:
    (first,) = begin(book)
    complete(book, first, overall_passed=None, weighted_pass_rate=None)
    (again,) = begin(book)
    assert (again.id, again.outcome, again.score) == (first.id, "unknown", None)


def test_without_reuse_a_finished_verdict_is_asked_for_again(book: Journal) -> None:
    (first,) = begin(book)
    complete(book, first)
    second, twin = begin(book, ask(reuse=False), ask(reuse=False))
    assert second.generation == 1 and second.is_new and twin.id == second.id
    assert second.idempotency_key != first.idempotency_key


def test_a_failed_evaluation_is_not_resubmitted_in_the_same_prompt(book: Journal) -> None:
    (first,) = begin(book)
    fail(book, first)
    (again,) = begin(book)
    assert (again.id, again.outcome, again.failure_code) == (first.id, "error", "JUDGE_DOWN")
    (next_prompt,) = begin(book, ask(prompt_token="p2"))
    assert next_prompt.generation == 1 and next_prompt.is_new


def test_every_prompt_that_waited_for_a_failed_evaluation_counts_as_having_asked(book: Journal) -> None:
    (first,) = begin(book)
    for prompt in ("p2", "p3", "p2"):
        begin(book, ask(prompt_token=prompt))
    fail(book, first)
    for prompt in ("p1", "p2", "p3"):
        assert begin(book, ask(prompt_token=prompt))[0].id == first.id
    assert begin(book, ask(prompt_token="p4"))[0].is_new


@pytest.mark.parametrize("end", ["refused", "release", "abandon"])
def test_what_was_given_up_is_a_new_evaluation_at_the_next_ask(book: Journal, end: str) -> None:
    (first,) = begin(book)
    give_up: dict[str, Callable[[], object]] = {
        "refused": lambda: book.record_refusal(first, "UNAUTHORIZED"),
        "release": lambda: book.release(first),
        "abandon": lambda: book.abandon(first),
    }
    give_up[end]()
    (again,) = begin(book)
    assert again.generation == 1 and again.is_new and again.idempotency_key != first.idempotency_key


def test_another_accounts_rows_are_not_reused(book: Journal) -> None:
    (first,) = begin(book)
    complete(book, first)
    assert begin(book, ask(account="org:2"))[0].is_new


# --- accounts -------------------------------------------------------------------------------------


def test_a_configured_organisation_is_the_account(book: Journal) -> None:
    assert book.account(KEY, ORG) == book.account(OTHER_KEY, ORG) != book.account(KEY, None)


def test_the_key_is_nowhere_in_the_journal(tmp_path: Path) -> None:
    with Journal.open(None, tmp_path) as book:
        account = book.account(KEY, None)
        begin(book, ask(account=account))
        book.learn_account(KEY, ORG)
        held = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert ORG.encode() in held and KEY.encode() not in held and KEY not in account


def test_two_journals_hash_a_key_differently() -> None:
    with Journal.in_memory() as one, Journal.in_memory() as other:
        assert one.account(KEY, None) != other.account(KEY, None)


def test_rows_begun_before_the_organisation_was_known_are_found_after(book: Journal) -> None:
    (row,) = begin(book, ask(account=book.account(KEY, None)))
    book.learn_account(KEY, ORG)
    assert book.account(KEY, None) == book.account(OTHER_KEY, ORG) == book.get(row.id).account
    assert begin(book, ask(account=book.account(OTHER_KEY, ORG)))[0].id == row.id


def test_who_still_holds_the_provisional_account_finds_the_moved_row(book: Journal) -> None:
    provisional = book.account(KEY, None)
    (row,) = begin(book, ask(account=provisional))
    book.learn_account(KEY, ORG)
    assert begin(book, ask(account=provisional))[0].id == row.id


def test_the_organisations_own_row_stays_in_front_of_a_moved_one(book: Journal) -> None:
    known = book.account(OTHER_KEY, ORG)
    (own,) = begin(book, ask(account=known))
    begin(book, ask(account=book.account(KEY, None)))
    book.learn_account(KEY, ORG)
    book.learn_account(KEY, ORG)
    assert begin(book, ask(account=known))[0].id == own.id


def test_a_moved_verdict_goes_in_front_of_a_row_that_has_none(book: Journal) -> None:
    known = book.account(OTHER_KEY, ORG)
    (own,) = begin(book, ask(account=known))
    fail(book, own)
    (paid,) = begin(book, ask(account=book.account(KEY, None)))
    complete(book, paid)
    book.learn_account(KEY, ORG)
    (found,) = begin(book, ask(account=known, prompt_token="p2"))
    assert (found.id, found.generation) == (paid.id, 1)


# --- one evaluation's life ------------------------------------------------------------------------


def test_the_first_body_is_the_one_that_is_sent(book: Journal) -> None:
    (row,) = begin(book)
    assert book.body(row) is None
    assert book.fix_body(row, b"first") == b"first"
    assert book.fix_body(row, b"second") == b"first" == book.body(row)
    assert book.get(row.id).spooled


def test_a_body_spooled_on_another_machine_is_waited_for(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    with Journal.open(url, tmp_path / "here") as here, Journal.open(url, tmp_path / "there") as there:
        (row,) = begin(here)
        assert here.fix_body(row, b"body") == b"body"
        assert there.fix_body(row, b"other") is None and there.body(row) is None
        assert list((tmp_path / "there" / "spool").iterdir()) == []


@pytest.mark.parametrize("lost", ["elsewhere", "deleted"])
def test_a_body_that_is_not_here_may_be_made_anew_where_it_is_the_same(tmp_path: Path, lost: str) -> None:
    url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    with Journal.open(url, tmp_path / "here") as here, Journal.open(url, tmp_path / "there") as there:
        (row,) = begin(here)
        here.fix_body(row, b"body")
        for file in (tmp_path / "here" / "spool").iterdir():
            file.unlink()
        book = there if lost == "elsewhere" else here
        assert book.body(row) is None
        assert book.fix_body(row, b"body") == b"body" and book.fix_body(row, b"other") is None
        book.record_submission(row, "ev-1", ORG)
        assert book.fix_body(row, b"body") is None


def test_a_body_that_is_being_written_is_not_pruned_by_a_clock_that_jumps(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(None, tmp_path, now=clock) as book:
        (row,) = begin(book)
        fix = book._change

        def late(*arguments: Any, **values: Any) -> bool:
            clock.at += 20 * 3_600
            book.prune(older_than_days=30, at_most=100)
            return fix(*arguments, **values)

        monkeypatch.setattr(book, "_change", late)
        assert book.fix_body(row, b"body") == b"body" == book.body(row)


def test_an_id_makes_the_body_superfluous(tmp_path: Path) -> None:
    with Journal.open(None, tmp_path) as book:
        (row,) = begin(book)
        book.fix_body(row, b"body")
        assert book.record_submission(row, "ev-1", ORG).evaluation_id == "ev-1"
        assert list((tmp_path / "spool").iterdir()) == []
        assert book.fix_body(row, b"again") is None and not book.get(row.id).spooled
        assert list((tmp_path / "spool").iterdir()) == []


def test_the_first_id_wins(book: Journal) -> None:
    (row,) = begin(book)
    book.record_submission(row, "ev-1", ORG)
    assert book.record_submission(row, "ev-2", ORG).evaluation_id == "ev-1"


def test_the_first_terminal_answer_wins(book: Journal) -> None:
    (row,) = begin(book)
    first = complete(book, row)
    late = book.record_result(row, {"id": "x"}, completed=False, cost="9", failure_code="LATE", duration_s=1.0)
    assert late == first and late.answer == first.answer and late.cost == Decimal("0.5")


def test_an_answer_that_comes_with_the_submit_needs_no_id_before(book: Journal) -> None:
    (row,) = begin(book)
    book.fix_body(row, b"body")
    done = book.record_result(row, VERDICT, completed=True, cost="0.5", failure_code=None, duration_s=None)
    assert (done.evaluation_id, done.state, done.spooled, done.duration_s) == ("ev-1", "completed", False, None)


def test_a_whole_answer_comes_back_as_it_was(book: Journal) -> None:
    answer = {**VERDICT, "text": "naïve ☃ \ud800 \0", "deep": [{"a": [None, 1.5, "x" * 100_000]}]}
    (row,) = begin(book)
    book.record_result(row, answer, completed=True, cost="0.5", failure_code=None, duration_s=1.0)
    assert book.get(row.id).answer == answer


def test_a_refusal_does_not_close_what_another_process_got_taken(book: Journal) -> None:
    (row,) = begin(book)
    book.record_submission(row, "ev-1", ORG)
    assert book.record_refusal(row, "UNAUTHORIZED").state == "open"
    assert book.abandon(row).state == "open"
    assert not book.release(row)


def test_an_id_opens_a_closed_row_again_because_it_is_billed(book: Journal) -> None:
    (row,) = begin(book)
    book.record_refusal(row, "UNAUTHORIZED")
    assert book.spent_today().evaluations == 0
    assert book.record_submission(row, "ev-1", ORG).state == "open"
    assert book.spent_today().evaluations == 1


def test_an_answer_to_an_abandoned_row_is_kept_with_its_cost(book: Journal) -> None:
    (row,) = begin(book)
    assert book.abandon(row).state == "abandoned"
    assert complete(book, row).cost == Decimal("0.5")


def test_a_body_that_may_have_been_sent_is_not_released(book: Journal) -> None:
    (row,) = begin(book)
    book.fix_body(row, b"body")
    assert not book.release(row) and book.get(row.id).state == "open"


def test_what_another_prompt_has_asked_for_is_not_released(book: Journal) -> None:
    (row,) = begin(book)
    begin(book, ask(prompt_token="p2"))
    assert not book.release(row) and book.get(row.id).state == "open"


def test_a_closed_row_takes_no_body(book: Journal) -> None:
    (row,) = begin(book)
    assert book.release(row)
    assert book.fix_body(row, b"body") is None


def test_an_evaluation_is_found_by_its_id(book: Journal) -> None:
    (row,) = begin(book)
    book.record_submission(row, "ev-1", ORG)
    found = book.find_evaluation("ev-1")
    assert found is not None and found.id == row.id and found.org_id == ORG
    assert book.find_evaluation("ev-2") is None


def test_a_row_that_is_gone_is_an_error_that_says_so(book: Journal) -> None:
    with pytest.raises(JournalError, match="no row 12345"):
        book.get(12345)


@pytest.mark.parametrize("cost", ["NaN", "-1", "1e400", "1e-400", "a lot", "", "Infinity", None, "9" * 40])
def test_a_cost_that_is_none_leaves_the_quoted_price_standing(book: Journal, cost: str | None) -> None:
    (row,) = begin(book)
    assert complete(book, row, cost=cost).cost is None
    assert book.spent_today().credits == Decimal("0.5")


@pytest.mark.parametrize("score", [True, "0.9", float("nan"), float("inf"), None, 10**400])
def test_a_score_that_is_none_is_not_shown_as_one(book: Journal, score: Any) -> None:
    (row,) = begin(book)
    assert complete(book, row, weighted_pass_rate=score, overall_passed="yes").outcome == "unknown"
    assert book.get(row.id).score is None


# --- the budget -----------------------------------------------------------------------------------


def test_a_batch_over_the_prompts_limit_is_refused_whole(book: Journal) -> None:
    begin(book, ask("a"))
    with pytest.raises(BudgetError) as told:
        begin(book, ask("b"), ask("c"), limits=Limits(per_prompt=2, per_day=100))
    text = str(told.value)
    assert text.startswith("[BUDGET_EXCEEDED] This would add 2 to the 1 used already; your limit is 2 evaluations per")
    assert "RUNFLOW_MAX_EVALUATIONS_PER_PROMPT" in text and "Settings → Runflow Evaluate" in text
    assert "Nothing was sent and nothing was paid" in text
    assert len(book.history()) == 1


def test_a_prompts_limit_counts_what_the_prompt_inserted_only(book: Journal) -> None:
    begin(book, ask("a"), ask("b"))
    limits = Limits(per_prompt=1, per_day=100)
    rows = begin(book, ask("a", prompt_token="p2"), ask("c", prompt_token="p2"), limits=limits)
    assert [row.is_new for row in rows] == [False, True]


def test_what_exists_already_is_given_however_used_up_the_budget_is(book: Journal) -> None:
    (row,) = begin(book)
    assert begin(book, limits=Limits(per_prompt=0, per_day=0, credits_per_day=Decimal(0)))[0].id == row.id


def test_a_preview_says_what_would_be_new_and_reserves_nothing(book: Journal) -> None:
    (row,) = begin(book)
    assert book.preview([ask(prompt_token="p2"), ask("b", prompt_token="p2")], PLENTY) == [False, True]
    with pytest.raises(BudgetError, match="add 2 to the 1 used"):
        book.preview([ask("b"), ask("c")], Limits(per_prompt=2, per_day=9))
    assert [found.id for found in book.history()] == [row.id] and book.spent_today().evaluations == 1
    fail(book, row)
    assert begin(book, ask(prompt_token="p2"))[0].is_new, "looking is not asking"


def test_the_days_limit_holds_over_prompts_and_ends_with_the_day(book: Journal, clock: Clock) -> None:
    limits = Limits(per_prompt=20, per_day=2)
    begin(book, ask("a"), ask("b", prompt_token="p2"), limits=limits)
    with pytest.raises(BudgetError, match=r"add 1 to the 2 .* limit is 2 evaluations per day .*EVALUATIONS_PER_DAY"):
        begin(book, ask("c", prompt_token="p3"), limits=limits)
    clock.at += 43_200
    assert begin(book, ask("c", prompt_token="p3"), limits=limits)[0].is_new


def test_a_refused_or_released_row_gives_its_budget_back(book: Journal) -> None:
    limits = Limits(per_prompt=1, per_day=1, credits_per_day=Decimal("0.5"))
    book.record_refusal(begin(book, ask("a"), limits=limits)[0], "INSUFFICIENT_CREDIT")
    book.release(begin(book, ask("b"), limits=limits)[0])
    assert begin(book, ask("c"), limits=limits)[0].is_new


def test_an_abandoned_row_still_counts_because_it_may_have_been_billed(book: Journal) -> None:
    book.abandon(begin(book)[0])
    assert book.spent_today() == journal.Spend(1, Decimal("0.5"))


def test_credits_count_the_cost_where_known_else_the_price(book: Journal) -> None:
    first, _ = begin(book, ask("a", price=Decimal("0.1")), ask("b", price=Decimal("0.2")))
    complete(book, first, cost="0.7")
    limits = Limits(100, 100, credits_per_day=Decimal("1.0"))
    assert begin(book, ask("c", price=Decimal("0.1")), limits=limits)[0].is_new
    with pytest.raises(BudgetError, match=r"add 0\.1 to the 1\.0 used already; your limit is 1\.0 credits per day"):
        begin(book, ask("d", price=Decimal("0.1")), limits=limits)


def test_credits_are_summed_exactly(book: Journal) -> None:
    begin(book, *(ask(str(i), price=Decimal("0.1")) for i in range(30)), ask("z", price=Decimal("1e-20")))
    assert book.spent_today().credits == Decimal("3.00000000000000000001")


@pytest.mark.parametrize("price", [None, Decimal("NaN"), Decimal(-1)])
def test_an_unknown_price_is_refused_under_a_limit_of_credits(book: Journal, price: Decimal | None) -> None:
    with pytest.raises(BudgetError, match=r"price of 1 of 2 .*RUNFLOW_MAX_CREDITS_PER_DAY"):
        begin(book, ask("a"), ask("b", price=price), limits=Limits(9, 9, credits_per_day=Decimal(100)))
    assert book.history() == []
    begin(book, ask("b", price=price))
    assert book.spent_today() == journal.Spend(1, Decimal(0), unpriced=1)


@pytest.mark.parametrize("at", [0.0, -1e12, 1e15, NOON - 10 * 86_400])
def test_a_clock_that_jumps_raises_nothing(book: Journal, clock: Clock, at: float) -> None:
    (row,) = begin(book)
    clock.at = at
    begin(book, ask("b"))
    complete(book, row)
    assert book.spent_today().evaluations == 1
    assert book.per_day(3)[-1].evaluations == 1
    assert book.prune(older_than_days=30, at_most=100) >= 0


# --- looking back ---------------------------------------------------------------------------------


def test_history_pages_newest_first(book: Journal) -> None:
    rows = begin(book, *(ask(str(i)) for i in range(5)))
    page = book.history(limit=2)
    following = book.history(before=page[-1].id, limit=10)
    assert [row.id for row in [*page, *following]] == [row.id for row in reversed(rows)]


def test_history_is_filtered_by_outcome(book: Journal) -> None:
    rows = dict(zip(journal.OUTCOMES, begin(book, *(ask(name) for name in journal.OUTCOMES)), strict=True))
    complete(book, rows["passed"])
    complete(book, rows["failed"], overall_passed=False)
    complete(book, rows["unknown"], overall_passed=None)
    fail(book, rows["error"])
    book.record_refusal(rows["closed"], "FORBIDDEN")
    book.abandon(rows["abandoned"])
    for outcome, row in rows.items():
        assert [(found.id, found.outcome) for found in book.history(outcome=outcome)] == [(row.id, outcome)]
    with pytest.raises(InvalidInputError):
        book.history(outcome="'; DROP TABLE")


def test_history_is_searched_as_plain_text(book: Journal) -> None:
    rows = begin(book, ask("a", generation_prompt="A 100% RED fox"), ask("b", generation_prompt="a blue 1000 fox"))
    complete(book, rows[1])
    assert [row.id for row in book.history(search="red FOX")] == [rows[0].id]
    assert [row.id for row in book.history(search="100%")] == [rows[0].id]
    assert [row.id for row in book.history(search=f"ev-{rows[1].id}")] == [rows[1].id]
    assert len(book.history(search="fox")) == 2 and book.history(search="cat") == []


def test_durations_come_newest_first_and_by_job_class(book: Journal) -> None:
    rows = begin(book, *(ask(str(i)) for i in range(4)), ask("z", job_class="other"))
    for seconds, row in zip((1.0, 2.0, float("nan"), 3.0, 9.0), rows, strict=True):
        book.record_result(row, VERDICT, completed=True, cost=None, failure_code=None, duration_s=seconds)
    assert book.durations("standard") == [3.0, 2.0, 1.0]
    assert book.durations("standard", limit=1) == [3.0] and book.durations("none") == []


def test_per_day_totals_show_empty_days_too(book: Journal, clock: Clock) -> None:
    first, _, third = begin(book, ask("a"), ask("b"), ask("c"))
    complete(book, first, cost="0.25")
    book.record_refusal(third, "FORBIDDEN")
    clock.at += 2 * 86_400
    begin(book, ask("d"))
    assert book.per_day(3) == [
        journal.DayTotal(date(2024, 10, 4), 2, 1, 1, Decimal("0.75")),
        journal.DayTotal(date(2024, 10, 5), 0, 0, 0, Decimal(0)),
        journal.DayTotal(date(2024, 10, 6), 1, 0, 0, Decimal("0.5")),
    ]


def test_prompts_can_be_kept_out_of_the_journal(tmp_path: Path) -> None:
    secret = "a very private fox"
    with Journal.open(None, tmp_path, keep_prompts=False) as book:
        (row,) = begin(book, ask(generation_prompt=secret))
        complete(book, row, generation_prompt=secret, run={"input": {"prompt": secret}}, top_issues=["x"])
        found = book.get(row.id)
    assert found.generation_prompt == "" and found.answer is not None and found.answer["top_issues"] == ["x"]
    assert secret not in json.dumps(found.answer)


@pytest.mark.parametrize("text", ["\ud800 lone surrogate", "a\0b", "☃" * 50_000])
def test_no_text_is_too_strange(book: Journal, text: str) -> None:
    strange = ask(text[:64], generation_prompt=text, prompt_token=text[:40], job_class=text[:40], account=text[:40])
    (row,) = begin(book, strange)
    assert begin(book, strange)[0].id == row.id
    assert book.record_submission(row, f"ev{text[:20]}", text[:20]).evaluation_id
    assert book.find_evaluation(f"ev{text[:20]}") is not None
    book.history(search=text[:20])


# --- pruning --------------------------------------------------------------------------------------


def test_pruning_takes_old_rows_with_their_answers(book: Journal, clock: Clock) -> None:
    (old,) = begin(book, ask("old"))
    begin(book, ask("old", prompt_token="p2"))
    complete(book, old)
    clock.at += 40 * 86_400
    (young,) = begin(book, ask("young"))
    assert book.prune(older_than_days=30, at_most=100) == 1
    assert [row.id for row in book.history()] == [young.id]
    assert begin(book, ask("old"))[0].id not in (old.id, young.id)


def test_pruning_by_count_keeps_the_newest_and_never_today_nor_the_young_and_open(book: Journal, clock: Clock) -> None:
    done, waiting = begin(book, ask("done"), ask("waiting"))
    complete(book, done)
    clock.at += 86_400
    today = begin(book, *(ask(f"today-{i}") for i in range(3)))
    assert book.prune(older_than_days=30, at_most=1) == 1
    assert {row.id for row in book.history()} == {waiting.id, *(row.id for row in today)}
    clock.at += 86_400
    assert book.prune(older_than_days=30, at_most=1) == 1, "the one that waits is not young any more"


def test_pruning_takes_orphans_and_bodies_that_cannot_be_resent(tmp_path: Path) -> None:
    clock = Clock(time.time())
    with Journal.open(None, tmp_path, now=clock) as book:
        (row,) = begin(book)
        book.fix_body(row, b"body")
        orphan = tmp_path / "spool" / "999-orphan.body"
        orphan.write_bytes(b"x")
        book.prune(older_than_days=30, at_most=100)
        clock.at += 7_200
        book.prune(older_than_days=30, at_most=100)
        assert orphan.exists(), "it may be somebody's write under way, whatever our clock says"
        os.utime(orphan, (time.time() - 7_200,) * 2)
        book.prune(older_than_days=30, at_most=100)
        assert not orphan.exists() and book.body(row) == b"body"
        clock.at += 3 * 86_400
        for file in (tmp_path / "spool").iterdir():
            os.utime(file, (time.time() - 3 * 86_400,) * 2)
        book.prune(older_than_days=30, at_most=100)
        assert book.body(row) is None and book.get(row.id).spooled, "it may have been sent, and still says so"
        assert list((tmp_path / "spool").iterdir()) == []


# --- several processes ----------------------------------------------------------------------------

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


def child_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


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
        assert [one.wait(30), two.wait(30)] == [0, 0]
    return results


@pytest.fixture(params=[store for store in STORES if store != "memory"])
def shared_url(request: pytest.FixtureRequest) -> str | None:
    return emptied(request.param)


def test_two_processes_asking_the_same_get_the_same_rows(tmp_path: Path, shared_url: str | None) -> None:
    seen = [entry for entries in both(tmp_path, "race", shared_url) for entry in entries]
    assert len(seen) == 80
    for hash_ in {entry[0] for entry in seen}:
        mine = [entry for entry in seen if entry[0] == hash_]
        assert len({tuple(entry[1:2] + entry[3:]) for entry in mine}) == 1, "one row, one key, one body"
        assert 1 <= sum(entry[2] for entry in mine)
    with Journal.open(shared_url, tmp_path) as book:
        assert len(book.history(limit=500)) == len({entry[0] for entry in seen}) == 21
        assert len(list((tmp_path / "spool").iterdir())) == 21


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
        assert process.wait(30) == -signal.SIGKILL
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
        latest, blind = journal.latest, [True]

        def late(*arguments: Any) -> Row | None:
            return None if blind and blind.pop() else latest(*arguments)

        monkeypatch.setattr(journal, "latest", late)
        assert begin(book)[0].id == row.id and not blind


# --- whatever happens, in whatever order ----------------------------------------------------------

HAPPENINGS = ("begin", "begin without reuse", "spool", "submit", "complete", "fail", "refuse", "abandon", "reopen")


@hypothesis.settings(max_examples=60, deadline=None, database=None)
@hypothesis.given(
    happenings=st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 2), st.integers(0, 1)), max_size=40)
)
def test_no_order_of_events_makes_two_of_one(happenings: list[tuple[str, int, int]]) -> None:
    """Of one request at most one row is under way, its key and its bytes never change, and the sums agree."""
    with tempfile.TemporaryDirectory() as name:
        book = Journal.open(None, Path(name), now=Clock())
        fixed: dict[int, tuple[str, bytes | None]] = {}
        held: dict[int, Row] = {}
        try:
            for number, (what, request, prompt) in enumerate(happenings):
                if what == "reopen":
                    book.close()
                    book = Journal.open(None, Path(name), now=Clock())
                elif what.startswith("begin"):
                    asked = ask(str(request), prompt_token=f"p{prompt}", reuse=what == "begin")
                    held[request] = begin(book, asked)[0]
                elif request in held:
                    happen(book, held[request], what, str(number).encode(), fixed)
                rows = book.history(limit=500)
                unfinished = [row.request_hash for row in rows if row.state == "open"]
                assert len(unfinished) == len(set(unfinished))
                assert all(fixed.get(row.id, (row.idempotency_key,))[0] == row.idempotency_key for row in rows)
                counted = [row for row in rows if row.state != "closed"]
                assert book.spent_today() == journal.Spend(len(counted), Decimal("0.5") * len(counted))
        finally:
            book.close()


def happen(book: Journal, row: Row, what: str, body: bytes, fixed: dict[int, tuple[str, bytes | None]]) -> None:
    if what == "spool":
        sent = book.fix_body(row, body)
        before = fixed.setdefault(row.id, (row.idempotency_key, sent))[1]
        assert sent in (before, None)
    elif book.get(row.id).state == "open":
        {
            "submit": lambda: book.record_submission(row, f"ev-{row.id}", ORG),
            "complete": lambda: complete(book, row),
            "fail": lambda: fail(book, row),
            "refuse": lambda: book.record_refusal(row, "UNAUTHORIZED"),
            "abandon": lambda: book.abandon(row),
        }[what]()


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
        "preview": lambda: book.preview([ask("new")], PLENTY),
        "spool": lambda: book.fix_body(row, b"body"),
        "body": lambda: book.body(row),
        "submitted": lambda: book.record_submission(row, "ev-1", ORG),
        "finished": lambda: fail(book, row),
        "refused": lambda: book.record_refusal(row, "UNAUTHORIZED"),
        "release": lambda: book.release(row),
        "abandon": lambda: book.abandon(row),
        "askers": lambda: book.askers(row),
        "rated": lambda: book.record_feedback("ev-1", True, None),
        "get": lambda: book.get(row.id),
        "find_evaluation": lambda: book.find_evaluation("ev-1"),
        "durations": lambda: book.durations("standard"),
        "spent_today": lambda: book.spent_today(),
        "history": lambda: book.history(),
        "per_day": lambda: book.per_day(7),
        "prune": lambda: book.prune(older_than_days=1, at_most=1),
    }


# Pruning is none of them where there is nothing to forget.
WRITES = {
    "learn_account",
    "begin",
    "preview",
    "spool",
    "submitted",
    "finished",
    "refused",
    "release",
    "abandon",
    "rated",
}


def test_the_table_of_calls_is_complete(book: Journal) -> None:
    public = {name for name in vars(Journal) if not name.startswith("_")}
    assert set(calls(book, begin(book)[0])) == public - {"open", "in_memory", "close"}


def test_every_method_says_that_a_journal_is_damaged(tmp_path: Path) -> None:
    with Journal.open(None, tmp_path) as book:
        (row,) = begin(book)
    with Journal.open(None, tmp_path) as book:
        book._store.engine.pool.dispose()
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


def test_every_write_says_that_the_journal_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_store, "BUSY_S", 0.05)
    with Journal.open(None, tmp_path) as book, closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as other:
        (row,) = begin(book)
        other.execute("BEGIN IMMEDIATE")
        for name, call in calls(book, row).items():
            if name not in WRITES:
                call()
                continue
            with pytest.raises(JournalError, match="another process has kept it locked"):
                call()
                pytest.fail(name)
        other.rollback()
        assert begin(book)[0].id == row.id, "it goes on when the lock is gone"


def test_a_thread_does_not_wait_for_ever_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_store, "BUSY_S", 0.05)
    with Journal.open(None, tmp_path) as book:
        assert book._store.write_lock is not None
        with book._store.write_lock, pytest.raises(JournalError, match="locked"):
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
            with without_rights(folder), pytest.raises(JournalError, match=r"may not be|cannot be opened"):
                Journal.open(None, folder)
            with without_rights(folder), pytest.raises(JournalError, match="may not be"):
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
            with without_rights(folder), pytest.raises(JournalError, match="may not be read or written"):
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
    try:
        book.fix_body(row, bytes(1_000_000))
    except JournalError as error:
        print(error)
    asks = [Request(str(i), "org:1", None, "standard", "p", generation_prompt="x" * 9_000) for i in range(200)]
    try:
        book.begin(asks, Limits(999, 999))
    except JournalError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert book.fix_body(row, b"body") == b"body" and len(book.history()) == 1
"""


@posix
def test_a_full_disk_is_told_and_nothing_half_written_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("[JOURNAL_UNUSABLE]") == 2, done.stdout
    assert [file.read_bytes() for file in (tmp_path / "spool").iterdir()] == [b"body"]


def test_a_closed_journal_says_so_and_opens_nothing(book: Journal) -> None:
    (row,) = begin(book)
    book.close()
    for call in calls(book, row).values():
        with pytest.raises(JournalError, match="is closed"):
            call()


def test_closing_waits_for_nobody_and_leaves_no_connection(tmp_path: Path) -> None:
    inside, go_on, failed = threading.Event(), threading.Event(), list[BaseException]()

    class Slow(list[Request]):
        def __iter__(self) -> Iterator[Request]:
            inside.set()
            go_on.wait(10)
            return super().__iter__()

    book = Journal.open(None, tmp_path)

    def work() -> None:
        try:
            book.begin(Slow([ask()]), PLENTY)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(10)
    book.close()
    go_on.set()
    thread.join()
    assert failed == [] and book._store.engine.pool.checkedout() == 0 and book._store.engine.pool.checkedin() == 0
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
        (PermissionError(errno.EACCES, "Zugriff verweigert"), "may not be read or written"),
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
        ("attempt to write a readonly database", "may not be read or written"),
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


# --- schema ---------------------------------------------------------------------------------------


def made_with(file: Path, steps: tuple[migrations.Migration, ...]) -> None:
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        migrations.migrate(connection, steps)
    engine.dispose()


@pytest.mark.parametrize("version", range(len(migrations.MIGRATIONS) + 1))
def test_a_journal_of_every_older_schema_opens_with_its_rows(tmp_path: Path, version: int) -> None:
    file = tmp_path / "journal.sqlite3"
    if version:
        made_with(file, migrations.MIGRATIONS[:version])
        with closing(sqlite3.connect(file)) as old:
            old.executescript(ROWS_OF_SCHEMA_1)
    with Journal.open(None, tmp_path) as book:
        assert [row.request_hash for row in book.history()] == (["old"] if version else [])
        (row,) = begin(book, ask("old"))
        assert row.is_new == (version == 0)
        assert book.account(KEY, None).startswith("key:")


ROWS_OF_SCHEMA_1 = """
INSERT INTO runflow_evaluations (account, request_hash, generation, idempotency_key, state, evaluation_id,
    prompt_token, job_class, pixel_hash, generation_prompt, day, created_at, price, cost, passed, score)
VALUES ('org:1', 'old', 0, 'key', 'completed', 'ev-1',
    'p0', 'standard', '', 'a fox', 20000, 1728000000.0, '0.5', '0.5', 1, 0.9);
"""


def test_the_tables_in_use_are_those_the_migrations_make(tmp_path: Path) -> None:
    Journal.open(None, tmp_path).close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'journal.sqlite3'}")
    made = sa.MetaData()
    made.reflect(engine)
    engine.dispose()
    used = {table.name: set(table.columns.keys()) for table in schema.SCHEMA.sorted_tables}
    found = {table.name: set(table.columns.keys()) for table in made.sorted_tables}
    assert found.pop(migrations.VERSION_TABLE) == {"version"} and found.pop("sqlite_sequence", None) is None
    assert used == found


def test_a_later_migration_runs_once_and_keeps_the_rows(tmp_path: Path) -> None:
    def add_note(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE runflow_evaluations ADD COLUMN note TEXT"))

    with Journal.open(None, tmp_path) as book:
        begin(book)
    file = tmp_path / "journal.sqlite3"
    for _ in range(2):
        made_with(file, (*migrations.MIGRATIONS, add_note))
    with closing(sqlite3.connect(file)) as now:
        assert now.execute("SELECT note FROM runflow_evaluations").fetchall() == [(None,)]
        versions = [number for (number,) in now.execute("SELECT version FROM runflow_schema_version ORDER BY 1")]
    assert versions == [*range(1, len(migrations.MIGRATIONS) + 2)]


def test_a_migration_that_fails_leaves_the_schema_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(connection: sa.Connection) -> None:
        connection.execute(sa.text("CREATE TABLE runflow_half (x INTEGER)"))
        raise OSError("power")

    with Journal.open(None, tmp_path) as book:
        begin(book)
    steps = (*migrations.MIGRATIONS, breaks)
    monkeypatch.setattr(journal_store, "migrate", lambda connection: migrations.migrate(connection, steps))
    with pytest.raises(JournalError):
        Journal.open(None, tmp_path)
    monkeypatch.undo()
    with Journal.open(None, tmp_path) as book:
        assert len(book.history()) == 1
    with closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as now:
        assert now.execute("SELECT name FROM sqlite_master WHERE name = 'runflow_half'").fetchall() == []


def test_a_newer_schema_is_refused_and_left_untouched(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite3"
    Journal.open(None, tmp_path).close()
    (tmp_path / "spool").rmdir()
    with closing(sqlite3.connect(file)) as newer:
        newer.execute("INSERT INTO runflow_schema_version VALUES (99)")
        newer.commit()
    before = file.read_bytes()
    with pytest.raises(JournalError, match=r"newer version of this pack \(schema 99, known here \d+\). Update"):
        Journal.open(None, tmp_path)
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["journal.sqlite3"]
