"""The records keep what they do not know and refuse to guess what they do."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runflow_api.api import models
from runflow_api.api.models import Evaluation, Record, Run


def records() -> list[type[Record]]:
    return [kind for kind in vars(models).values() if isinstance(kind, type) and issubclass(kind, Record)]


@pytest.mark.parametrize("kind", [kind for kind in records() if kind is not models.AssetUpload])
def test_every_field_may_be_null_or_absent(kind: type[Record]) -> None:
    assert kind.model_validate({})
    assert kind.model_validate({name: None for name in kind.model_fields})


def test_unknown_fields_and_values_survive_the_way_through() -> None:
    answer = {
        "id": "e1",
        "status_code": "paused",
        "a_new_field": {"deep": [1, None]},
        "judges": [{"name": "hands", "issues": [{"detail": "six", "new": True}], "newer": 1}],
        "action": {"improved_prompt": "x", "newest": []},
    }
    evaluation = Evaluation.model_validate(answer)
    assert evaluation.to_json() == answer
    assert not evaluation.is_terminal


def test_the_answer_comes_back_as_it_came_also_where_it_was_null() -> None:
    answer = {"id": "e1", "overall_passed": None, "cost": "0.10", "eval_duration_ms": 1200.0}
    assert Evaluation.model_validate(answer).to_json() == answer


def test_amounts_stay_exact_even_where_a_number_comes() -> None:
    assert Evaluation.model_validate({"cost": "0.100000000000000001"}).cost == Decimal("0.100000000000000001")
    assert Evaluation.model_validate({"cost": 0.1}).cost == Decimal("0.1")


@pytest.mark.parametrize("absurd", ["NaN", "Infinity", "-0.10", -1, True, "1e400", "1e-400", "much", [], {"amount": 1}])
def test_an_absurd_amount_is_unknown_and_is_kept_as_it_came(absurd: Any) -> None:
    evaluation = Evaluation.model_validate({"id": "e1", "cost": absurd})
    assert evaluation.cost is None
    assert evaluation.to_json() == {"id": "e1", "cost": absurd}
    assert models.JobClass.model_validate({"price": absurd}).price is None


@pytest.mark.parametrize("status", ["pending", "running", "completed", "failed"])
def test_a_known_status_is_one_of_the_enum_and_any_other_stays_text(status: str) -> None:
    assert Evaluation.model_validate({"status_code": status}).status_code is models.EvaluationStatus(status)
    assert Evaluation.model_validate({"status_code": "paused"}).status_code == "paused"
    assert f"{models.EvaluationStatus(status)}" == status


def test_objects_among_texts_cost_neither_the_texts_nor_their_own() -> None:
    issues = ["six fingers", {"detail": "two noses", "severity": 2}, {"new": 1}, None, 7]
    evaluation = Evaluation.model_validate({"top_issues": issues, "top_strengths": [{"text": "sharp"}]})
    assert (evaluation.top_issues, evaluation.top_strengths) == (["six fingers", "two noses", "7"], ["sharp"])
    assert evaluation.to_json()["top_issues"] == issues


@pytest.mark.parametrize("value", ["true", "yes", 1, 0, "passed", [], {}])
def test_a_verdict_is_never_guessed_from_another_type(value: Any) -> None:
    with pytest.raises(pydantic.ValidationError):
        Evaluation.model_validate({"overall_passed": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "high", []])
def test_a_score_is_a_number(value: Any) -> None:
    with pytest.raises(pydantic.ValidationError):
        Evaluation.model_validate({"weighted_pass_rate": value})


@pytest.mark.parametrize(
    ("field", "odd", "reads_as"),
    [
        ("eval_duration_ms", "soon", None),
        ("top_issues", "six fingers", []),
        ("top_issues", [{"text": "six fingers"}], ["six fingers"]),
        ("judges", {"hands": False}, []),
        ("action", "regenerate", None),
        ("attempt_number", 1.5, None),
    ],
)
def test_a_field_of_the_wrong_type_costs_nobody_the_verdict(field: str, odd: Any, reads_as: Any) -> None:
    answer = {"id": "e1", "status_code": "completed", "overall_passed": True, field: odd}
    evaluation = Evaluation.model_validate(answer)
    assert evaluation.overall_passed is True
    assert getattr(evaluation, field) == reads_as
    assert evaluation.to_json() == answer


def test_one_odd_judge_leaves_the_rest_of_it_and_the_others() -> None:
    judges = [{"name": "hands", "passed": False, "confidence": "high"}, {"name": "light", "passed": True}]
    evaluation = Evaluation.model_validate({"judges": judges})
    assert [(judge.name, judge.passed, judge.confidence) for judge in evaluation.judges] == [
        ("hands", False, None),
        ("light", True, None),
    ]
    assert evaluation.to_json() == {"judges": judges}


def test_parents_and_runs_are_records_too() -> None:
    evaluation = Evaluation.model_validate(
        {"parent_evaluation": {"id": "p"}, "run": {"node_runs": [{"state_code": "new"}], "logs": None}}
    )
    assert evaluation.parent_evaluation is not None and evaluation.parent_evaluation.id == "p"
    assert evaluation.run is not None and evaluation.run.node_runs[0]["state_code"] == "new"


@pytest.mark.parametrize(
    ("status", "terminal"),
    [
        ("queued", False),
        ("succeeded", True),
        ("partial_succeeded", True),
        ("cancelled", True),
        ("new", False),
        (None, False),
    ],
)
def test_a_run_ends_in_one_of_four_ways(status: str | None, terminal: bool) -> None:
    assert Run(status_code=status).is_terminal is terminal


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(sorted(Evaluation.model_fields)), JSON, max_size=12))
def test_any_json_is_a_record_or_a_validation_error(answer: dict[str, Any]) -> None:
    try:
        evaluation = Evaluation.model_validate(answer)
    except pydantic.ValidationError:
        return
    assert evaluation.overall_passed in (True, False, None)
