"""The lines of what is wrong with an image, as a verdict, a loop and a report show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..api.models import Evaluation, JudgeIssue, JudgeOpinion

MOST_ISSUE_CHARACTERS = 4_000
"""All issues of a batch as one text: a loop joins them to a prompt, which may have 10,000."""
LONGEST_ISSUE = 1_000


def issue_lines(evaluation: Evaluation) -> Iterator[str]:
    """Top issues, then gate failures, then the failed judges' issues in detail."""
    yield from evaluation.top_issues
    said = {_folded(line) for line in evaluation.top_issues}
    for gate in evaluation.gate_failures:
        if _folded(gate.reason or "") not in said:
            yield _joined(gate.module or gate.output_key, gate.reason or "failed")
    for judge in evaluation.judges:
        if judge.passed is False:
            yield from _judge_lines(judge, said)


def _judge_lines(judge: JudgeOpinion, said: set[str]) -> Iterator[str]:
    details = [_detail(issue) for issue in judge.issues]
    for detail in details or [judge.reasoning or "failed"]:
        if _folded(detail) not in said:
            yield _joined(judge.name, detail)


def _detail(issue: JudgeIssue) -> str:
    kind = " / ".join(part for part in (issue.category, issue.subcategory) if part)
    return issue.detail or kind or "failed"


def _joined(name: str | None, text: str) -> str:
    return f"{name}: {text}" if name else text


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".")


def distinct(lines: Iterable[str]) -> tuple[str, ...]:
    """Each line once and on one line: a line break inside an issue would make two of it."""
    kept: dict[str, str] = {}
    for line in lines:
        text = " ".join(line.split())
        if text:
            kept.setdefault(_folded(text), text)
    return tuple(kept.values())


def cut(text: str, longest: int) -> str:
    """``text``, at most so many characters of it."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def bounded(lines: Sequence[str]) -> list[str]:
    """The first lines that fit into ``MOST_ISSUE_CHARACTERS``, and a last one that counts the others."""
    kept, room = list[str](), MOST_ISSUE_CHARACTERS
    for number, line in enumerate(lines):
        line = cut(line, LONGEST_ISSUE)
        room -= len(line) + 1
        if room < 0:
            return [*kept, f"and {len(lines) - number} more"]
        kept.append(line)
    return kept
