"""The journal: which row a request gets, and what becomes of it. Nothing is paid twice, nothing is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from support.journals import KEY, NOON, ORG, OTHER_KEY, PLENTY, VERDICT, Clock, ask, begin, complete, fail

from runflow_api.journal import journal
from runflow_api.journal.journal import Journal, JournalError, Limits, Row

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


GIVE_UP: dict[str, Callable[[Journal, Row], object]] = {
    "refused": lambda book, row: book.record_refusal(row, "UNAUTHORIZED"),
    "release": lambda book, row: book.release([row]),
    "abandon": lambda book, row: book.abandon(row),
}


@pytest.mark.parametrize("end", GIVE_UP)
def test_what_was_given_up_is_a_new_evaluation_at_the_next_ask(book: Journal, end: str) -> None:
    (first,) = begin(book)
    GIVE_UP[end](book, first)
    (again,) = begin(book)
    assert again.generation == 1 and again.is_new and again.idempotency_key != first.idempotency_key


@pytest.mark.parametrize("end", GIVE_UP)
def test_what_was_given_up_hides_no_verdict_that_was_paid_before(book: Journal, end: str) -> None:
    """Asked anew on purpose, and cancelled: the next Run takes the verdict that is there."""
    (first,) = begin(book)
    complete(book, first)
    for _ in range(2):
        (anew,) = begin(book, ask(reuse=False))
        assert anew.is_new
        GIVE_UP[end](book, anew)
    assert book.estimate([ask(prompt_token="p2")], PLENTY) == [False]
    (again,) = begin(book, ask(prompt_token="p2"))
    assert (again.id, again.state, again.is_new) == (first.id, "completed", False)


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
        writing = book.store.writing

        def late() -> Any:
            monkeypatch.undo()
            clock.at += 20 * 3_600
            book.prune(older_than_days=30, at_most=100)
            return writing()

        monkeypatch.setattr(book.store, "writing", late)
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
    assert not book.release([row])


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
    assert not book.release([row]) and book.get(row.id).state == "open"


def test_what_another_prompt_has_asked_for_is_not_released(book: Journal) -> None:
    (row,) = begin(book)
    begin(book, ask(prompt_token="p2"))
    assert not book.release([row]) and book.get(row.id).state == "open"


def test_a_closed_row_takes_no_body(book: Journal) -> None:
    (row,) = begin(book)
    assert book.release([row])
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
