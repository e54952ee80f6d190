"""What ``evaluate`` says of its images: a line or a JSON object for each, the totals, and the report."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ..api.models import JudgeOpinion
from ..errors import RunflowError
from ..evaluation.question import ImageUrl
from ..evaluation.verdict import OFF, RUNFLOW, Verdict
from ..report import html as report
from .sources import Item
from .terminal import COLOURS, DIM, Painted, on_one_line

LONGEST_PROMPT = 160
"""Characters of a prompt beside a verdict; the JSON and the report have all of it."""
INDENT = " " * 10


def line_of(item: Item, *, wait: bool, said_at_the_end: str = "") -> list[str | Painted]:
    """Verdict, name, score, time, cost and evaluation id; below them notes, issues and the prompt."""
    assert item.verdict is not None
    verdict = replace(item.verdict, notes=tuple(note for note in item.verdict.notes if note != said_at_the_end))
    submitted = not wait and is_submitted(verdict)
    outcome = "submitted" if submitted else verdict.outcome
    about = [] if submitted else [verdict.summary.partition(" · ")[2]]
    head = [f" {on_one_line(item.name)}", *about, verdict.evaluation.id or ""]
    below = [*item.notes, *(() if submitted else verdict.issues)]  # the summary has the verdict's notes
    prompt = " ".join(item.question.generation_prompt.split())
    if prompt and verdict.judge == RUNFLOW:
        cut = prompt if len(prompt) <= LONGEST_PROMPT else f"{prompt[: LONGEST_PROMPT - 1]}…"
        below.append(f"prompt: {cut}")
    first = Painted(f"{outcome:<9}", COLOURS[verdict.outcome])
    more = [Painted(f"\n{INDENT}{on_one_line(line)}", DIM) for line in below]
    return [first, " · ".join(part for part in head if part), *more]


def is_submitted(verdict: Verdict | None) -> bool:
    """Whether Runflow has it and has not ended it."""
    return verdict is not None and verdict.error is None and not verdict.evaluation.is_terminal


def record_of(item: Item) -> dict[str, Any]:
    """The JSON object of one image. ``score`` is null if none was given."""
    verdict = item.verdict
    assert verdict is not None
    scored = verdict.evaluation.weighted_pass_rate is not None and verdict.error is None
    return {
        "file": item.name,
        **verdict.to_ui(),
        "score": verdict.score if scored else None,
        "judges": [_opinion(judge) for judge in verdict.evaluation.judges],
        "status": verdict.evaluation.status_code if verdict.judge != OFF else None,
        "generation_prompt": item.question.generation_prompt,
        "no_prompt": item.no_prompt or None,
        "notes": [*item.notes, *verdict.notes],
    }


def _opinion(judge: JudgeOpinion) -> dict[str, Any]:
    return {
        "name": judge.name,
        "category": judge.category,
        "passed": judge.passed,
        "confidence": judge.confidence,
        "weight": judge.weight,
        "reasoning": judge.reasoning,
        "evidence": judge.evidence,
        "issues": [issue.detail for issue in judge.issues if issue.detail],
    }


# --- the report ---------------------------------------------------------------------------------------


class ReportNotSavedError(RunflowError):
    """The report could not be written; the verdicts are not lost."""

    code = "REPORT_NOT_SAVED"


def write_report(items: Sequence[Item], args: argparse.Namespace, insight: Mapping[str, Any] | None = None) -> int:
    """Write the report of every image that has a verdict; how many that are. Raises ``ReportNotSavedError``.

    ``insight``: what the journal tells, for a section of the report.
    """
    judged = [item for item in items if item.verdict is not None]
    names = _names(judged) if args.audience == "internal" else [_short_name(item) for item in judged]
    entries = [_entry(item, name, args.report) for item, name in zip(judged, names, strict=True)]
    page = report.html(entries, title=args.title, audience=args.audience, language=args.language, insight=insight)
    write_page(args.report, page)
    return len(entries)


def write_page(path: Path, page: str) -> None:
    """Raises ``ReportNotSavedError``."""
    try:
        report.write(path, page)
    except OSError as error:
        raise ReportNotSavedError(
            f"{path} could not be written ({error.strerror or type(error).__name__}).",
            cost="The verdicts are not lost: run the same command again, and nothing is paid for twice.",
        ) from error


def _entry(item: Item, name: str, target: Path) -> report.Entry:
    assert item.verdict is not None
    is_file = isinstance(item.source, Path)
    folder = str(PurePosixPath(name).parent) if is_file else "://"
    link = _link(item.source, target) if isinstance(item.source, Path) else ""
    return report.Entry(name, item.verdict, item.thumbnail, item.size, "" if folder == "." else folder, link)


def _names(items: Sequence[Item]) -> list[str]:
    """Files by their path from the folder that all of them are in; addresses without what signs them."""
    paths = [item.source.absolute() for item in items if isinstance(item.source, Path)]
    try:
        common = os.path.commonpath([path.parent for path in paths]) if paths else ""
    except ValueError:  # on several drives of Windows
        common = ""
    return [
        item.source.absolute().relative_to(common).as_posix()
        if common and isinstance(item.source, Path)
        else _without_query(item)
        for item in items
    ]


def _short_name(item: Item) -> str:
    """Without the folder, which may name a customer."""
    return item.source.name if isinstance(item.source, Path) else _without_query(item)


def _without_query(item: Item) -> str:
    return item.name.partition("?")[0] if isinstance(item.source, ImageUrl) else item.name


def _link(path: Path, target: Path) -> str:
    """The image's address, seen from the report: relative, so that both may be moved together."""
    try:
        relative = os.path.relpath(path.absolute(), target.absolute().parent)
    except ValueError:  # on another drive of Windows
        return path.absolute().as_uri()
    return quote(Path(relative).as_posix().encode("utf-8", "surrogateescape"))
