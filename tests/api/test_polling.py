"""When a pending evaluation is looked at: properties of the schedule, whatever was learned."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.evaluators import judge, make_client
from support.pictures import picture

from runflow_api import background
from runflow_api.evaluation import polling
from runflow_api.evaluation.evaluator import Evaluator, Job
from runflow_api.sandbox.app import Sandbox

absurd = st.one_of(st.floats(), st.sampled_from([0.0, -1.0, 1e-300, 1e300, math.inf, -math.inf, math.nan]))
sane = st.floats(0.01, 86_400)
pasts = st.lists(st.one_of(absurd, sane), max_size=60)
elapsed_times = st.floats(-1e6, 1e6)


@given(elapsed_times, pasts, st.integers(1, 10_000))
def test_the_next_look_is_neither_at_once_nor_too_far_away(elapsed: float, past: list[float], pending: int) -> None:
    delay = polling.next_delay(elapsed, polling.window(past), pending)
    assert 0 < delay <= max(polling.LONGEST_INTERVAL_S, pending / polling.READS_PER_SECOND)


@given(st.floats(0, 7_200), pasts)
def test_looking_ends_soon_after_the_verdict_is_ready_whatever_was_learned(ready: float, past: list[float]) -> None:
    expected, moment, looks = polling.window(past), 0.0, 0
    while moment < ready:
        moment += polling.next_delay(moment, expected)
        looks += 1
    assert moment - ready <= max(polling.SHORTEST_INTERVAL_S, 0.2 * moment, polling.FIRST_LOOK_S)
    assert looks <= 40 + ready / polling.SHORTEST_IN_WINDOW_S


@given(st.lists(sane, min_size=5, max_size=60), st.randoms())
def test_the_window_holds_most_of_what_it_was_learned_from_in_any_order(past: list[float], random) -> None:
    window = polling.window(past)
    assert window is not None and 0 < window.opens < window.closes
    inside = [each for each in past if window.opens <= each <= window.closes]
    assert len(inside) >= 0.9 * len(past)
    random.shuffle(past)
    assert polling.window(past) == window


@pytest.mark.parametrize("past", [[], [8.0] * 4, [math.nan] * 9, [math.inf] * 9, [-3.0] * 9, [0.0] * 9, [1e12] * 9])
def test_too_little_or_absurd_knowledge_is_none(past: list[float]) -> None:
    assert polling.window(past) is None


def test_absurd_durations_among_good_ones_change_nothing() -> None:
    assert polling.window([8.0] * 20 + [math.nan, -1.0, 0.0, 1e12]) == polling.window([8.0] * 20)


def test_one_outlier_in_twenty_moves_no_window() -> None:
    assert polling.window([8.0] * 20 + [0.1, 500.0]) == polling.window([8.0] * 22)


def test_known_durations_are_looked_for_closely_and_not_long_before() -> None:
    expected = polling.window([60.0] * 20)
    assert expected is not None
    assert polling.next_delay(30.0, expected) > polling.next_delay(30.0)
    assert polling.next_delay(expected.opens, expected) < polling.next_delay(expected.opens)
    assert polling.next_delay(expected.closes + 1, expected) == polling.next_delay(expected.closes + 1)


def test_many_pending_evaluations_share_one_rate() -> None:
    assert polling.next_delay(5.0, None, 100) == pytest.approx(100 / polling.READS_PER_SECOND)
    assert polling.next_delay(5.0, None, 8) == polling.next_delay(5.0)


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:07.250Z", 7.25),
        ("2026-01-01T00:00:00.500+00:00", "2026-01-01T01:00:03+01:00", 2.5),
        ("2026-01-01T00:00:07Z", "2026-01-01T00:00:00Z", None),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", None),
        ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", None),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:07", None),
        ("yesterday", "2026-01-01T00:00:00Z", None),
        (None, None, None),
        ("", "", None),
    ],
)
def test_seconds_between_two_times_of_the_api(start: str | None, end: str | None, seconds: float | None) -> None:
    assert polling.seconds_between(start, end) == seconds


@given(st.text(), st.text())
def test_no_text_of_the_api_breaks_the_reading_of_times(start: str, end: str) -> None:
    assert polling.seconds_between(start, end) is None or polling.seconds_between(start, end) > 0


def test_an_evaluator_learns_from_what_runflow_says_evaluations_took(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.latency = 0.25
    asked: list[tuple[polling.Window | None, int]] = []

    def next_delay(_: float, expected: polling.Window | None, pending: int) -> float:
        asked.append((expected, pending))
        return 0.6  # far beyond the latency: what is learned must not be when we looked

    made = make_client(sandbox)
    evaluator = Evaluator(made.config, tmp_path, client=made, next_delay=next_delay)
    judge(evaluator, *(picture(seed) for seed in range(5)))
    assert {expected for expected, _ in asked} == {None}
    assert max(pending for _, pending in asked) == 5
    judge(evaluator, picture(9), prompt_token="another")
    (expected,) = {expected for expected, _ in asked[5:]} - {None}
    assert expected == polling.Window(*map(pytest.approx, (0.2, 0.3)), typical=0.25, slow=0.25)
    evaluator.close()


def test_an_evaluation_picked_up_again_is_as_old_as_it_is(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.latency = 30.0
    made, ages = make_client(sandbox), []
    now = [1_000_000.0]

    def evaluator(next_delay) -> Evaluator:
        return Evaluator(made.config, tmp_path, client=made, next_delay=next_delay, now=lambda: now[0])

    first = evaluator(lambda *_: 30.0)
    background.start(first.evaluate(Job([picture()], judge="runflow", wait=False))).result(timeout=60)
    now[0] += 500.0

    def note(elapsed: float, *_: object) -> float:
        ages.append(elapsed)
        sandbox.clock = lambda: 1e9
        return 0.01

    second = evaluator(note)
    judge(second, picture())
    assert 500 <= ages[0] < 510
    assert second.journal().durations("standard") == [pytest.approx(30.0)]
    first.close()
    second.close()
