from __future__ import annotations

from decimal import Decimal

import pytest

from runflow_api.api.models import Evaluation
from runflow_api.errors import EvaluationTimeoutError
from runflow_api.evaluation.issues import MOST_ISSUE_CHARACTERS
from runflow_api.evaluation.verdict import (
    FAILED,
    LOCAL,
    LOCAL_PASSED,
    MODEL,
    NO_SCORE,
    NO_VERDICT,
    PASSED,
    PERSON,
    PREFLIGHT,
    RUNFLOW,
    UNKNOWN,
    BatchVerdict,
    Policy,
    Subject,
    Verdict,
    from_evaluation,
    not_asked,
    not_judged,
    total_cost,
)

SUBJECT = Subject("a cat", "0" * 64)


def answer(**fields: object) -> Evaluation:
    return Evaluation.model_validate(
        {"id": "e1", "status_code": "completed", "overall_passed": True, "weighted_pass_rate": 0.9, **fields}
    )


def verdict(policy: Policy | None = None, *, judge: str = RUNFLOW, **fields: object) -> Verdict:
    return from_evaluation(answer(**fields), policy or Policy(), SUBJECT, judge=judge)


@pytest.mark.parametrize(
    ("passed", "score", "min_score", "outcome"),
    [
        (True, 0.9, 0.0, PASSED),
        (True, 0.9, 0.9, PASSED),
        (True, 0.9, 0.91, FAILED),
        (True, None, 0.0, PASSED),
        (True, None, 0.1, FAILED),
        (False, 1.0, 0.0, FAILED),
        (False, 1.0, 0.5, FAILED),
        (None, 1.0, 0.0, UNKNOWN),
        (None, None, 0.5, UNKNOWN),
    ],
)
def test_who_passes(passed: bool | None, score: float | None, min_score: float, outcome: str) -> None:
    got = verdict(Policy(min_score), overall_passed=passed, weighted_pass_rate=score)
    assert got.outcome == outcome
    assert got.passed is (outcome == PASSED)


@pytest.mark.parametrize("if_not_judged", ["stop", "fail", "pass"])
def test_a_null_verdict_never_passes(if_not_judged) -> None:
    got = verdict(Policy(0.0, if_not_judged), overall_passed=None)
    assert (got.outcome, got.passed) == (UNKNOWN, False)
    assert NO_VERDICT in got.issues


def test_a_missing_score_is_zero_and_said() -> None:
    got = verdict(weighted_pass_rate=None)
    assert (got.score, got.issues) == (0.0, (NO_SCORE,))


@pytest.mark.parametrize("score", [1.5, -0.1, 85.0])
def test_a_score_outside_its_range_is_no_score(score: float) -> None:
    got = verdict(Policy(0.5), weighted_pass_rate=score)
    assert (got.outcome, got.score) == (FAILED, 0.0)
    assert f"({score:g} is not between 0 and 1)" in got.issues[0]


@pytest.mark.parametrize(
    ("score", "minimum", "line"),
    [
        (0.8, 0.85, "score 0.80, below your 0.85"),
        (0.8499, 0.85, "score 0.8499, below your 0.8500"),
        (0.0, 0.5, "score 0.00, below your 0.50"),
    ],
)
def test_issues_say_that_the_minimum_was_missed(score: float, minimum: float, line: str) -> None:
    assert line in verdict(Policy(minimum), weighted_pass_rate=score).issues


def test_issues_are_top_issues_then_gates_then_failed_judges_without_duplicates() -> None:
    got = verdict(
        overall_passed=False,
        top_issues=["six fingers", "blurry"],
        gate_failures=[{"module": "face", "reason": "two faces"}, {"output_key": "image", "reason": None}],
        judges=[
            {"name": "anatomy", "passed": False, "issues": [{"detail": "Six fingers."}, {"detail": "bent\nwrist"}]},
            {"name": "style", "passed": True, "issues": [{"detail": "not said: it passed"}]},
            {"name": "light", "passed": False, "reasoning": "too dark", "issues": None},
            {"name": "text", "passed": False, "issues": [{"category": "text", "subcategory": "spelling"}]},
        ],
    )
    assert got.issues == (
        "six fingers",
        "blurry",
        "face: two faces",
        "image: failed",
        "anatomy: bent wrist",
        "light: too dark",
        "text: text / spelling",
    )


def test_nothing_to_say_is_empty() -> None:
    assert verdict().issues == ()


@pytest.mark.parametrize("action", [None, {}, {"improved_prompt": None}, {"improved_prompt": ""}])
def test_without_an_improvement_the_prompt_comes_back(action: object) -> None:
    assert verdict(action=action).improved_prompt == "a cat"


def test_the_actions_prompt_is_the_improved_one() -> None:
    assert verdict(action={"improved_prompt": "a cat, five toes"}).improved_prompt == "a cat, five toes"


def test_a_local_verdict_says_that_it_is_local() -> None:
    passed = verdict(judge=LOCAL)
    assert (passed.issues, passed.notes) == ((), (LOCAL_PASSED,))
    assert "content not judged" in passed.summary
    failed = verdict(judge=LOCAL, overall_passed=False)
    assert "content not judged" in failed.notes[-1]
    assert failed.to_ui()["judge"] == "local"


@pytest.mark.parametrize(("if_not_judged", "passed"), [("fail", False), ("pass", True), ("stop", False)])
def test_what_nobody_judged_stays_unknown_whatever_it_counts_as(if_not_judged, passed: bool) -> None:
    error = EvaluationTimeoutError("no verdict", evaluation_ids=["e1"])
    got = not_judged(error, Policy(0.0, if_not_judged), SUBJECT, judge=RUNFLOW, evaluation=Evaluation(id="e1"))
    assert (got.outcome, got.passed, got.score, got.improved_prompt) == (UNKNOWN, passed, 0.0, "a cat")
    assert got.issues == ("not judged: [EVALUATION_TIMEOUT] no verdict",)
    assert got.to_ui()["id"] == "e1"


def test_asking_nobody_passes_and_costs_nothing() -> None:
    got = not_asked(SUBJECT)
    assert (got.outcome, got.passed, got.cost, got.issues) == (UNKNOWN, True, 0, ())


def test_a_batch_passes_when_all_do_and_is_as_good_as_its_worst() -> None:
    good = verdict(weighted_pass_rate=0.9, cost="0.10", top_issues=["a little soft"])
    bad = verdict(overall_passed=False, weighted_pass_rate=0.3, cost="0.20", action={"improved_prompt": "better"})
    lowest = verdict(weighted_pass_rate=0.2, cost="0.1", action={"improved_prompt": "not this one: it passed"})
    batch = BatchVerdict((good, bad, lowest))
    assert (batch.passed, batch.score, batch.outcome, batch.improved_prompt) == (False, 0.2, FAILED, "better")
    assert batch.issues == "image 1: a little soft"
    assert total_cost(batch) == Decimal("0.40")
    assert BatchVerdict((good, good)).passed


def test_one_image_does_not_number_its_issues() -> None:
    assert BatchVerdict((verdict(top_issues=["soft"]),)).issues == "soft"


def test_one_unknown_image_makes_the_batch_unknown() -> None:
    unknown = verdict(overall_passed=None)
    assert BatchVerdict((verdict(), verdict(overall_passed=False), unknown)).outcome == UNKNOWN


def test_a_reused_verdict_costs_nothing_again() -> None:
    got = from_evaluation(answer(cost="0.10"), Policy(), SUBJECT, judge=RUNFLOW, reused=True)
    assert (got.cost, got.reused) == (0, True)
    assert "reused, nothing paid" in got.summary


def test_unknown_costs_stay_unknown() -> None:
    assert total_cost([verdict(cost=None)]) is None
    assert total_cost([verdict(cost=None), verdict(cost="0.30")]) == Decimal("0.30")
    assert total_cost([verdict(cost="NaN")]) is None


def test_issues_hold_what_is_wrong_and_notes_how_it_was_judged() -> None:
    got = from_evaluation(answer(top_issues=["soft"]), Policy(), SUBJECT, judge=RUNFLOW, notes=["a lossy copy", "x\ny"])
    assert (got.issues, got.notes) == (("soft",), ("a lossy copy", "x y"))
    assert got.to_ui()["notes"] == ["a lossy copy", "x y"]
    assert "a lossy copy" in got.summary
    batch = BatchVerdict((got, verdict()))
    assert (batch.issues, batch.notes) == ("image 1: soft", "image 1: a lossy copy\nimage 1: x y")
    assert batch.summary.count("a lossy copy") == 1


def test_two_hundred_issues_leave_room_for_a_prompt() -> None:
    issues = [f"{number}: {'a long story ' * 20}" for number in range(200)]
    got = BatchVerdict((verdict(overall_passed=False, top_issues=issues),))
    lines = got.issues.splitlines()
    assert len(got.issues) <= MOST_ISSUE_CHARACTERS + 20
    assert lines[0] == issues[0].strip()
    assert lines[-1] == f"and {200 - len(lines) + 1} more"
    assert len(got[0].issues) == 200


def test_one_endless_issue_is_cut() -> None:
    got = BatchVerdict((verdict(overall_passed=False, top_issues=["x" * 30_000, "six fingers"]),))
    assert len(got.issues) < MOST_ISSUE_CHARACTERS
    assert got.issues.endswith("six fingers")


def test_scores_of_different_judges_do_not_compare() -> None:
    """Noise has 0.83 of the local judge: what Runflow or a person has passed goes first, whatever its score."""
    batch = BatchVerdict(
        (
            verdict(judge=LOCAL, weighted_pass_rate=0.99),
            verdict(judge=RUNFLOW, weighted_pass_rate=0.60),
            verdict(judge=MODEL, weighted_pass_rate=1.0),
            verdict(judge=PERSON, weighted_pass_rate=None),
            verdict(judge=RUNFLOW, weighted_pass_rate=0.70),
            verdict(judge=RUNFLOW, weighted_pass_rate=1.0, overall_passed=False),
            verdict(judge=PREFLIGHT, weighted_pass_rate=0.0, overall_passed=False),
            not_judged(EvaluationTimeoutError("late", evaluation_ids=[]), Policy(0.0, "fail"), SUBJECT, judge=RUNFLOW),
        )
    )
    assert batch.ranked == (3, 4, 1, 2, 0, 5, 6, 7)
