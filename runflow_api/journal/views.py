"""Journal rows as the web page reads them: plain JSON of bounded size, with no field that could hold a secret."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .budget import FREE
from .journal import DayTotal, JournalError, Row

MAX_TEXT, MAX_LINES, MAX_JUDGES = 8_000, 100, 60
"""Far above what the API sends; a row must not make a page of gigabytes."""
LINE_PROMPT = 300
"""How much of a prompt a line of the history shows."""


def line(row: Row) -> dict[str, Any]:
    """One line of the history."""
    answer = _answer(row)
    return {
        "row": row.id,
        "id": row.evaluation_id,
        "outcome": row.outcome,
        "score": row.score,
        "cost": _amount(row),
        "seconds": row.duration_s,
        "created_at": row.created_at,
        "prompt": row.generation_prompt[:LINE_PROMPT],
        "image": row.pixel_hash,
        "issue": next(iter(_texts(answer.get("top_issues"))), ""),
        "failure": row.failure_code,
        "judge": row.account.removeprefix(FREE) if row.account.startswith(FREE) else "runflow",
        "judged_by": _text(answer.get("judged_by")),
        "practice": bool(answer.get("sandbox")),
        "feedback": feedback(answer),
        "prompt_id": row.prompt_token,
    }


COLUMNS = ("created_at", "id", "outcome", "score", "cost", "seconds", "feedback", "issue", "failure", "prompt")


def as_csv(lines: Iterable[Mapping[str, Any]]) -> str:
    """Lines of the history as RFC 4180 says, for spreadsheets: no cell can be taken for a formula."""
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(COLUMNS)
    table.writerows([_cell(name, each[name]) for name in COLUMNS] for each in lines)
    return written.getvalue()


def _cell(name: str, value: Any) -> Any:
    if name == "created_at":
        return datetime.fromtimestamp(value, timezone.utc).isoformat()
    if name == "feedback":
        return "" if value["rating"] == "none" else value["rating"]
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def detail(row: Row) -> dict[str, Any]:
    """Everything that one evaluation says, grouped as the panel shows it."""
    answer = _answer(row)
    action = _object(answer.get("action"))
    return {
        **line(row),
        "prompt": _text(row.generation_prompt),
        "issues": _texts(answer.get("top_issues")),
        "strengths": _texts(answer.get("top_strengths")),
        "judges": [_judge(judge) for judge in _objects(answer.get("judges"))[:MAX_JUDGES]],
        "gates": [_gate(gate) for gate in _objects(answer.get("gate_failures"))[:MAX_JUDGES]],
        "action": _text(action.get("primary_action") or answer.get("primary_action_code")),
        "summary": _text(action.get("failure_summary")),
        "improved_prompt": _text(action.get("improved_prompt")),
        "reason": _text(answer.get("override_reason")),
        "job_class": row.job_class,
    }


def day(total: DayTotal) -> dict[str, Any]:
    """One UTC day of the chart; amounts are decimal text."""
    return {
        "date": total.date.isoformat(),
        "evaluations": total.evaluations,
        "judged": total.judged,
        "passed": total.passed,
        "credits": f"{total.credits:f}",
    }


def _judge(judge: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": _text(judge.get("name")),
        "category": _text(judge.get("category")),
        "passed": judge.get("passed") if isinstance(judge.get("passed"), bool) else None,
        "confidence": _number(judge.get("confidence")),
        "weight": _number(judge.get("weight")),
        "reasoning": _text(judge.get("reasoning")),
        "evidence": _texts(judge.get("evidence")),
        "issues": [_issue(issue) for issue in _objects(judge.get("issues"))[:MAX_LINES]],
    }


def _issue(issue: Mapping[str, Any]) -> dict[str, str]:
    kind = " / ".join(part for part in (_text(issue.get("category")), _text(issue.get("subcategory"))) if part)
    return {"kind": kind, "detail": _text(issue.get("detail"))}


def _gate(gate: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(gate.get(name)) for name in ("output_key", "module", "reason")}


def feedback(answer: Mapping[str, Any]) -> dict[str, Any]:
    positive = answer.get("feedback_is_positive")
    rating = {True: "good", False: "bad"}.get(positive, "none") if isinstance(positive, bool) else "none"
    return {"rating": rating, "reason": _text(answer.get("feedback_reason"))}


def _amount(row: Row) -> str | None:
    return None if row.cost is None else f"{row.cost:f}"


def _answer(row: Row) -> dict[str, Any]:
    """A damaged answer loses its details, not the whole page."""
    try:
        return row.answer or {}
    except JournalError:
        return {}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> Sequence[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    lines: Iterable[Any] = value if isinstance(value, list) else ()
    return [_text(each) for each in lines if isinstance(each, str)][:MAX_LINES]


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
