"""``get``, ``feedback``, ``run``, ``history`` and ``cost``: what was asked earlier, and what it cost."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from .. import image_files
from ..api.models import EVALUATION_EMBEDS, RUN_EMBEDS, RUN_TERMINAL, Evaluation, EvaluationSummary, JudgeOpinion
from ..evaluation import lookup
from ..evaluation.evaluator import Evaluator
from ..evaluation.question import require_choices
from ..evaluation.verdict import UNKNOWN, Policy, Verdict
from ..journal import views
from ..journal.journal import Row
from ..settings import locations
from .exit_codes import JUDGED_FAILED, NOT_JUDGED, OK
from .terminal import COLOURS, DIM, Painted, Terminal, on_one_line, plain, run_cancellable


def get(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> int:
    """Every id's verdict; exits as ``evaluate`` does."""
    ids, embed = _ids(args.ids), embeds(args.embed, EVALUATION_EMBEDS)
    # What stops a workflow must not keep the others' verdicts from being printed here.
    policy = Policy(args.min_score, "fail" if args.if_not_judged == "stop" else args.if_not_judged)
    work = lookup.evaluations(
        evaluator,
        ids,
        policy,
        wait=args.wait,
        timeout_s=args.timeout,
        embed=embed,
        report=terminal.show_progress,
    )
    verdicts = run_cancellable(work)
    for verdict in verdicts:
        terminal.result(*_verdict(verdict), record=_verdict_record(verdict))
    if args.if_not_judged == "stop" and any(verdict.outcome == UNKNOWN for verdict in verdicts):
        return NOT_JUDGED
    return OK if verdicts.passed else JUDGED_FAILED


def _ids(given: Iterable[str]) -> list[str]:
    """Each id once; a file stands for the evaluation that it says it was judged by."""
    return list(dict.fromkeys(map(image_files.evaluation_id, given)))


def embeds(given: str, known: Collection[str]) -> list[str]:
    """``a,b`` or ``all`` as names. Raises ``InvalidInputError`` for an unknown one."""
    names = [name.strip() for name in given.split(",") if name.strip()]
    if names == ["all"]:
        return sorted(known)
    require_choices("--embed", names, [*known, "all"])
    return names


def _verdict_record(verdict: Verdict) -> dict[str, Any]:
    evaluation = verdict.evaluation
    shown = verdict.to_ui()
    score = shown["score"] if evaluation.weighted_pass_rate is not None else None
    return {**shown, "score": score, "cost": _as_text(evaluation.cost), "answer": evaluation.to_json()}


def _verdict(verdict: Verdict) -> list[str | Painted]:
    evaluation = verdict.evaluation
    score = f" · {verdict.score:.2f}" if evaluation.weighted_pass_rate is not None else ""
    cost = f" · {plain(evaluation.cost)} credits" if evaluation.cost else ""
    practice = " · sandbox: practice, not Runflow" if verdict.is_practice else ""
    lines = [f" {evaluation.id}{score}{cost}{practice}", *verdict.issues, *verdict.notes]
    if evaluation.action and evaluation.action.improved_prompt:
        lines.append(f"improved prompt: {' '.join(evaluation.action.improved_prompt.split())}")
    said = "\n          ".join(on_one_line(line) for line in lines)
    judges = [Painted(f"\n          {on_one_line(_opinion(judge))}", DIM) for judge in evaluation.judges]
    return [Painted(f"{verdict.outcome:<9}", COLOURS[verdict.outcome]), said, *judges]


def _opinion(judge: JudgeOpinion) -> str:
    said = {True: "passed", False: "failed", None: "no verdict"}[judge.passed]
    sure = f", {judge.confidence:.0%} sure" if judge.confidence is not None else ""
    reasoning = f": {' '.join(judge.reasoning.split())}" if judge.reasoning else ""
    return f"{judge.name or 'a judge'} {said}{sure}{reasoning}"


def feedback(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> int:
    """Set or clear the rating of every id."""
    ids = _ids(args.ids)
    for set_ in run_cancellable(lookup.feedback(evaluator, ids, args.rating, args.reason)):
        terminal.result(f"{args.rating:<5} {set_.id}", record=rating_record(set_))
    return OK


def rating_record(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "id": evaluation.id,
        "feedback_is_positive": evaluation.feedback_is_positive,
        "feedback_reason": evaluation.feedback_reason,
    }


def run(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> int:
    """One run. Exits 0 if it succeeded, 1 where it failed, in part or as a whole, 3 while it is under way."""
    embed = embeds(args.embed, RUN_EMBEDS)
    work = lookup.run(
        evaluator,
        args.id,
        wait=args.wait,
        timeout_s=args.timeout,
        embed=embed,
        report=terminal.show_progress,
    )
    found = run_cancellable(work)
    summary, failure = found.current_evaluation_summary, lookup.run_failure(found)
    cost = f" · {plain(found.cost)} credits" if found.cost else ""
    lines = [f"{found.status_code} · {found.id} · {_summary(summary)}{cost}"]
    lines += [failure] if failure else []
    lines += [json.dumps(found.output, ensure_ascii=False, indent=2)] if found.output is not None else []
    terminal.result("\n".join(lines), record=found.to_json())
    if found.status_code not in RUN_TERMINAL:
        return NOT_JUDGED
    return OK if found.status_code == "succeeded" else JUDGED_FAILED


def _summary(summary: EvaluationSummary | None) -> str:
    if summary is None:
        return "not evaluated"
    score = f" {summary.score:.2f}" if summary.score is not None else ""
    return {True: "passed", False: "failed", None: "no verdict"}[summary.passed] + score


def history(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> int:
    """A page of the journal."""
    rows = evaluator.journal().history(
        before=args.before,
        limit=args.limit,
        outcome=args.outcome,
        search=image_files.evaluation_id(args.search),
        sort=args.sort,
    )
    for row in rows:
        terminal.result(*_row(row), record=_row_record(row))
    if not rows:
        terminal.say("Nothing here.")
    elif len(rows) == args.limit and args.sort == "newest":
        terminal.say(f"More: --before {rows[-1].id}")
    return OK


def _row(row: Row) -> list[str | Painted]:
    when = _moment(row.created_at).astimezone().strftime("%Y-%m-%d %H:%M")
    amount = row.cost if row.cost is not None else row.price
    rest = [
        "    " if row.score is None else f"{row.score:.2f}",
        f"{'' if amount is None else plain(amount):>8}",
        row.evaluation_id or row.failure_code or "",
        *(["practice"] if views.line(row)["practice"] else []),
        on_one_line(" ".join(row.generation_prompt.split())[:60]),
    ]
    outcome = Painted(f"{row.outcome:<9}", COLOURS.get(row.outcome, DIM))
    return [f"{row.id:>6}  {when}  ", outcome, f"  {'  '.join(rest)}".rstrip()]


def _row_record(row: Row) -> dict[str, Any]:
    return {
        "row": row.id,
        "created_at": _moment(row.created_at).isoformat(),
        "outcome": row.outcome,
        "score": row.score,
        "cost": _as_text(row.cost),
        "price": _as_text(row.price),
        "evaluation_id": row.evaluation_id,
        "failure_code": row.failure_code,
        "job_class": row.job_class,
        "seconds": row.duration_s,
        "generation_prompt": row.generation_prompt,
        "practice": views.line(row)["practice"],
    }


def _as_text(amount: Decimal | None) -> str | None:
    """For JSON, which knows no decimals."""
    return None if amount is None else f"{amount:f}"


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def cost(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> int:
    """Spend per day, limits, prices and balance."""
    journal, settings = evaluator.journal(), evaluator.config
    for day in journal.per_day(args.days):
        said = f"{day.date}  {day.evaluations:>5} evaluations  {day.passed:>5} passed  {plain(day.credits):>10} credits"
        terminal.result(
            said, record={"day": str(day.date), "evaluations": day.evaluations, "credits": str(day.credits)}
        )
    today = journal.spent_today()
    limit = settings.max_credits_per_day
    credits_limit = "none" if limit is None else f"{plain(today.credits)} of {plain(limit)}"
    terminal.result(
        f"limits per day (UTC): {today.evaluations} of {settings.max_evaluations_per_day} evaluations, "
        f"credits {credits_limit}",
        record={
            "limit": {
                "evaluations": settings.max_evaluations_per_day,
                "credits": None if limit is None else float(limit),
            },
            "used": today.evaluations,
        },
    )
    if settings.api_key is None:
        terminal.say(f"Prices and balance need a key: {locations.command_line()} key set")
        return OK
    for known in evaluator.client.job_classes():
        terminal.result(
            f"price of {known.code}: {'not known' if known.price is None else plain(known.price)}",
            record={"job_class": known.to_json()},
        )
    balance = evaluator.client.balance()
    terminal.result(f"balance: {_balance(balance)}", record={"balance": balance})
    return OK


def _balance(answer: dict[str, Any]) -> str:
    """The amount under the names that APIs use for it; the shape is not in the reference."""
    names = ("balance", "credits", "available", "amount")
    found = next((answer[name] for name in names if isinstance(answer.get(name), str | int | float)), None)
    return json.dumps(answer, ensure_ascii=False) if found is None else f"{found} credits"
