"""An evaluation's parts as text for sockets and reports."""

from __future__ import annotations

from ..api.models import Evaluation, JudgeOpinion

_COLUMNS = ("judge", "category", "passed", "confidence", "weight", "reasoning", "evidence", "issues")


def judges_table(evaluation: Evaluation) -> str:
    """Every judge's opinion as a Markdown table; empty if there is none."""
    if not evaluation.judges:
        return ""
    rows = [_COLUMNS, tuple("---" for _ in _COLUMNS), *(_row(judge) for judge in evaluation.judges)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def gate_failures(evaluation: Evaluation) -> str:
    """One failed gate per line: where, which check, why."""
    lines = [
        ": ".join(part for part in (gate.output_key, gate.module, gate.reason) if part)
        for gate in evaluation.gate_failures
    ]
    return "\n".join(" ".join(line.split()) for line in lines)


def _row(judge: JudgeOpinion) -> tuple[str, ...]:
    issues = (
        ": ".join(
            part for part in (" / ".join(filter(None, (issue.category, issue.subcategory))), issue.detail) if part
        )
        for issue in judge.issues
    )
    passed = {True: "yes", False: "no", None: "no verdict"}[judge.passed]
    numbers = ("" if n is None else f"{n:g}" for n in (judge.confidence, judge.weight))
    texts = (judge.reasoning or "", "; ".join(judge.evidence), "; ".join(issues))
    return tuple(_cell(text) for text in (judge.name or "", judge.category or "", passed, *numbers, *texts))


def _cell(text: str) -> str:
    """Text that cannot leave its cell: no line breaks, no bare bars."""
    return " ".join(text.split()).replace("|", "\\|")
