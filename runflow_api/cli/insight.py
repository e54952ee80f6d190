"""``insight``: what the journal tells about settings and judges."""

from __future__ import annotations

import argparse
import time
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


def run(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> int:
    """Figures by one or two settings and every judge's agreement, as text, JSON, CSV or a document."""
    if args.days < 0:
        raise InvalidInputError("--days", "is below 0.")
    report.check_target(args.html)
    since = int(time.time() // DAY_S) - args.days + 1 if args.days else 0
    wanted = Filter(since, args.judge, args.task)
    costs = Costs(args.wrong_pass, args.wrong_rejection)
    shown = evaluator.journal().query(page.overview, args.by.split(","), wanted, costs)
    if args.html:
        write_page(args.html, report.html([], language=args.language, insight=section(shown, args.language)))
        terminal.say(f"Written: {args.html}")
    if args.csv:
        terminal.result(export.as_csv(shown).replace("\r\n", "\n").rstrip("\n"), record=shown)
    elif args.json or not args.html:
        terminal.result("\n".join(on_one_line(line) for line in export.lines(shown)), record=shown)
    return OK


def section_of_report(evaluator: Evaluator, language: str) -> dict[str, Any] | None:
    """What the journal tells, for the report of ``evaluate``; ``None`` where it tells nothing."""
    try:
        shown = evaluator.journal().query(page.overview, DEFAULT_BY, Filter(), Costs())
    except JournalError:
        return None
    return section(shown, language) if shown["whole"]["judged"] else None
