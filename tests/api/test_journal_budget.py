"""The person's limits, and the sums that they are compared with."""

from __future__ import annotations

from decimal import Decimal

import pytest
from support.journals import NOON, PLENTY, Clock, ask, begin, complete, fail

from runflow_api.errors import BudgetError
from runflow_api.journal import journal
from runflow_api.journal.journal import Journal, Limits

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
    assert book.estimate([ask(prompt_token="p2"), ask("b", prompt_token="p2")], PLENTY) == [False, True]
    with pytest.raises(BudgetError, match="add 2 to the 1 used"):
        book.estimate([ask("b"), ask("c")], Limits(per_prompt=2, per_day=9))
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
    book.release(begin(book, ask("b"), limits=limits))
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
