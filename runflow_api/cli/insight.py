"""``insight``: what the journal tells about settings and judges."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError
from ..evaluation.evaluator import Evaluator
from ..insight import export, page
from ..insight.agreement import Costs
from ..insight.value import Filter
from ..journal.journal import JournalError
from ..journal.schema import DAY_S
from ..report import html as report
from ..report.insight import section
from .exit_codes import OK
from .results import write_page
from .terminal import Terminal, on_one_line

DEFAULT_BY = ("checkpoint",)
STANDARD_OUTPUT = Path("-")


def run(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> int:
    """Figures by one or two settings and every judge's agreement, as text, JSON, CSV or a document."""
    if args.days < 0:
        raise InvalidInputError("--days", "is below 0.")
    to_file = None if args.html == STANDARD_OUTPUT else args.html
    if to_file and to_file.suffix.lower() not in (".html", ".htm"):
        raise InvalidInputError("--html", f"{to_file} does not end in .html.")
    report.check_target(to_file, option="--html")
    since = int(time.time() // DAY_S) - args.days + 1 if args.days else 0
    wanted = Filter(since, args.judge, args.task)
    costs = Costs(args.wrong_pass, args.wrong_rejection)
    shown = evaluator.journal().query(page.overview, args.by.split(","), wanted, costs)
    document = report.html([], language=args.language, insight=section(shown, args.language)) if args.html else ""
    if to_file:
        write_page(to_file, document)
        terminal.say(f"Written: {to_file}")
    if args.csv:
        terminal.result(export.as_csv(shown).replace("\r\n", "\n").rstrip("\n"), record=shown)
    elif document and not to_file:
        terminal.result(document, record=shown)
    elif args.json or not to_file:
        terminal.result("\n".join(on_one_line(line) for line in export.lines(shown)), record=shown)
    return OK


def section_of_report(evaluator: Evaluator, language: str) -> dict[str, Any] | None:
    """What the journal tells, for the report of ``evaluate``; ``None`` where it tells nothing."""
    try:
        shown = evaluator.journal().query(page.overview, DEFAULT_BY, Filter(), Costs())
    except JournalError:
        return None
    return section(shown, language) if shown["whole"]["judged"] else None
