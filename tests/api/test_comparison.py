"""Attempts at the same picture, compared line by line."""

from __future__ import annotations

from typing import Any

from runflow_api.api.models import Evaluation, JudgeOpinion
from runflow_api.evaluation.comparison import AttemptLines, Changes, compare, line_names, lines_of
from runflow_api.evaluation.verdict import RUNFLOW, BatchVerdict, Policy, Subject, from_evaluation
from runflow_api.report import html as report


def judged(*images: dict[str, bool | None]) -> BatchVerdict:
    def one(lines: dict[str, bool | None]) -> Any:
        opinions = [JudgeOpinion(name=name, passed=passed) for name, passed in lines.items()]
        evaluation = Evaluation(status_code="completed", overall_passed=False, weighted_pass_rate=0.5, judges=opinions)
        return from_evaluation(evaluation, Policy(), Subject(), judge=RUNFLOW)

    return BatchVerdict(tuple(map(one, images)))


def test_a_line_of_a_batch_passes_if_it_does_in_every_image() -> None:
    lines = lines_of(
        judged({"hands": True, "face": True, "light": None}, {"hands": False, "face": True, "light": True})
    )
    assert lines == {"hands": False, "face": True, "light": None}
    assert lines_of(None) == {}


def test_what_was_not_measured_is_neither_gained_nor_lost() -> None:
    before = {"hands": True, "face": False, "light": None, "text": True, "only before": True}
    after = {"hands": False, "face": True, "light": True, "text": None, "only after": False}
    assert compare(before, after) == Changes(gained=("face",), lost=("hands",))
    assert compare(before, after).texts == ("lost: hands", "gained: face")
    assert compare({}, after) == Changes()


def test_the_report_of_a_loop_names_what_each_attempt_gained_and_lost() -> None:
    first = AttemptLines(1, "failed", 0.5, {"five fingers": True, "<face>": False})
    second = AttemptLines(2, "failed", 0.4, {"five fingers": False, "new": True}, 1, Changes((), ("five fingers",)))
    assert line_names([first, second]) == ["five fingers", "<face>", "new"]
    page = report.html([], attempts=[first, second])
    assert "lost: five fingers" in page and "changed attempt 1" in page
    assert "&lt;face&gt;" in page and "<face>" not in page
    assert "five fingers" not in report.html([], attempts=[first, second], audience="client")
    assert "five fingers" not in report.html([], attempts=[first]), "one attempt is compared with nothing"
