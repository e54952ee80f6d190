"""Calls that come at the same time share a transaction, and nothing but that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from support.journals import ORG, ask, begin, complete

from runflow_api.errors import BudgetError, RunflowError
from runflow_api.journal.groups import Groups
from runflow_api.journal.journal import Journal, JournalError, Limits, Row, Spend

PATIENCE_S = 120
MANY = 30


class AllAtOnce:
    """Holds up the first call of ``groups`` until ``count`` others wait, so that these are one group."""

    def __init__(self, groups: Groups[Any, Any], count: int) -> None:
        self._groups, self._count = groups, count
        self._work, groups._work = groups._work, self
        self.sizes: list[int] = []

    def __call__(self, arguments: Sequence[Any]) -> Sequence[Any]:
        if not self.sizes:
            ends = time.monotonic() + PATIENCE_S
            while len(self._groups._waiting) < self._count and time.monotonic() < ends:
                time.sleep(0.001)
        self.sizes.append(len(arguments))
        return self._work(arguments)


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """What each of them gives or raises, called at once, but queued in this order."""
    results: list[Any] = [None] * len(calls)

    def work(number: int) -> None:
        try:
            results[number] = calls[number]()
        except RunflowError as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    return results


def test_many_that_begin_at_once_share_a_transaction_and_a_question_asked_twice_is_begun_once(book: Journal) -> None:
    together = AllAtOnce(book._beginning, MANY - 1)
    commits: list[sa.Connection] = []
    sa.event.listen(book.store.engine, "commit", commits.append)
    asked = [ask(str(number // 2), prompt_token=f"p{number % 2}") for number in range(MANY)]
    rows: list[Row] = [row for (row,) in in_threads(*(lambda each=each: begin(book, each) for each in asked))]
    assert sorted(together.sizes) == [1, MANY // 2 - 1, MANY // 2] and len(commits) <= 6
    assert [row.request_hash for row in rows] == [each.request_hash for each in asked]
    assert [row.asked_by for row in rows] == [each.prompt_token for each in asked]
    for number in range(0, MANY, 2):
        pair = rows[number : number + 2]
        assert pair[0].id == pair[1].id and sorted(row.is_new for row in pair) == [False, True]
        assert book.askers(pair[0]) == 2


def test_many_at_the_edge_of_a_limit_get_exactly_what_is_left(book: Journal) -> None:
    begin(book, ask("before"))
    AllAtOnce(book._beginning, MANY - 1)
    limits = Limits(per_prompt=MANY, per_day=MANY, credits_per_day=Decimal("6.4"))
    calls = [lambda number=number: begin(book, ask(str(number)), limits=limits) for number in range(MANY)]
    results = in_threads(*calls)
    won = [row for each in results if isinstance(each, list) for row in each]
    assert len(won) == 11 and sum(isinstance(each, BudgetError) for each in results) == MANY - 11
    assert book.spent_today() == Spend(12, Decimal("6.0"))


def test_what_is_recorded_at_once_is_kept_and_a_row_that_is_gone_harms_no_other(book: Journal) -> None:
    rows = begin(book, *(ask(str(number)) for number in range(6)))
    gone = replace(rows[5], id=rows[5].id + 1_000)
    fixing = AllAtOnce(book._fixing, 5)
    fixed = in_threads(*(lambda row=row: book.fix_body(row, row.request_hash.encode()) for row in [*rows[:5], gone]))
    assert fixed[:5] == [row.request_hash.encode() for row in rows[:5]] and fixing.sizes == [1, 5]
    assert isinstance(fixed[5], JournalError) and "pruned" in str(fixed[5])
    AllAtOnce(book._submitting, 3)
    AllAtOnce(book._settling, 1)
    recorded = in_threads(
        *(lambda row=row: book.record_submission(row, f"ev-{row.id}", ORG) for row in rows[:3]),
        lambda: book.record_refusal(rows[3], "UNAUTHORIZED"),
        lambda: book.abandon(rows[4]),
        lambda: book.record_submission(gone, "ev-gone", ORG),
    )
    assert [row.state for row in recorded[:5]] == ["open", "open", "open", "closed", "abandoned"]
    assert all(row == book.get(row.id) and not row.spooled for row in recorded[:5])
    assert "pruned" in str(recorded[5]) and book.find_evaluation("ev-gone") is None
    AllAtOnce(book._settling, 3)
    done = in_threads(*(lambda row=row: complete(book, row) for row in [*rows[:3], rows[2]]))
    assert [row.outcome for row in done] == ["passed"] * 4 and done[2] == done[3]
    assert all(row == book.get(row.id) and row.answer == book.get(row.id).answer for row in done)
    assert book.spent_today() == Spend(5, Decimal("2.5"))


def test_an_error_of_one_call_is_its_own_and_what_is_wrong_with_the_database_is_told_to_all_who_wait() -> None:
    def work(numbers: Sequence[int]) -> list[int]:
        if "down" in trouble:
            raise JournalError("The database is away.")
        if 3 in numbers:
            raise BudgetError("Three is too many.")
        return [10 * number for number in numbers]

    trouble: set[str] = set()
    groups = Groups(work)
    together = AllAtOnce(groups, 5)
    answers = in_threads(*(lambda number=number: groups.do(number, {number}) for number in range(6)))
    assert [each for each in answers if isinstance(each, int)] == [0, 10, 20, 40, 50]
    assert isinstance(answers[3], BudgetError) and together.sizes[1] == 5

    trouble.add("down")
    together.sizes.clear()
    told = in_threads(*(lambda number=number: groups.do(number, {number}) for number in range(6)))
    assert together.sizes == [1], "nobody waits for it again"
    assert {str(each) for each in told} == {"[JOURNAL_UNUSABLE] The database is away."}
    assert len({id(each) for each in told}) == 6, "each may add to its own"


def test_calls_about_the_same_are_done_one_after_the_other_and_kinds_are_kept_apart() -> None:
    done: list[list[str]] = []

    def work(words: Sequence[str]) -> Sequence[str]:
        done.append(list(words))
        return words

    groups: Groups[str, str] = Groups(work)
    inside, go_on = threading.Event(), threading.Event()

    def hold(words: Sequence[str]) -> Sequence[str]:
        inside.set()
        go_on.wait(PATIENCE_S)
        groups._work = work
        return words

    groups._work = hold
    queue = [("held", "x", 0), ("one", "a", 0), ("two", "b", 0), ("three", "a", 0), ("four", "c", 1), ("five", "a", 0)]
    threads = []
    for count, (word, name, kind) in enumerate(queue):
        threads.append(threading.Thread(target=groups.do, args=(word, {name}, kind)))
        threads[-1].start()
        inside.wait(PATIENCE_S)
        while len(groups._waiting) < count:
            time.sleep(0.001)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert done == [["one", "two"], ["three"], ["four"], ["five"]]
