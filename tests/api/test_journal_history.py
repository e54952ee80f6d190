"""Looking back over the journal, and what is old enough to be forgotten."""

from __future__ import annotations

import json
import os
import time
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from support.journals import VERDICT, Clock, ask, begin, complete, fail

from runflow_api.errors import InvalidInputError
from runflow_api.journal import journal
from runflow_api.journal.journal import Journal

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
