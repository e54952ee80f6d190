"""Figures for other programs: a table as CSV, and lines of text for a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
UNKNOWN = "unknown"
_FORMULAS = tuple("=+-@\t\r")
COLUMNS = (
    "evaluations", "judged", "passed", "pass_rate", "pass_rate_low", "pass_rate_high", "mean_score", "mean_score_low",
    "mean_score_high", "attempts_per_kept", "attempts_per_kept_low", "attempts_per_kept_high", "credits",
    "credits_per_kept", "unpriced", "enough", "images",
)  # fmt: skip


def as_csv(shown: Json) -> str:
    """The groups of an ``overview`` as RFC 4180 says; no cell can be taken for a formula."""
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow([*shown["by"], *COLUMNS])
    for group in shown["groups"]:
        table.writerow([*(_cell(value) for value in group["values"]), *(_figure(group, name) for name in COLUMNS)])
    return written.getvalue()


def _cell(value: str | None) -> str:
    text = UNKNOWN if value is None else value
    return f"'{text}" if text.startswith(_FORMULAS) else text


def _figure(group: Json, name: str) -> Any:
    rate, score, attempts = group["pass_rate"], group["score"], group["attempts_per_kept"]
    of_parts = {
        "pass_rate": rate["share"],
        "pass_rate_low": rate["low"],
        "pass_rate_high": rate["high"],
        "mean_score": score["mean"],
        "mean_score_low": score["low"],
        "mean_score_high": score["high"],
        "attempts_per_kept": attempts["value"],
        "attempts_per_kept_low": attempts["low"],
        "attempts_per_kept_high": attempts["high"],
    }
    value = of_parts[name] if name in of_parts else group[name]
    return round(value, 6) if isinstance(value, float) else value


def lines(shown: Json) -> Iterator[str]:
    """An ``overview`` for a terminal."""
    whole, saved = shown["whole"], shown["saved"]
    yield f"{_counted(whole['judged'], 'verdict')}, {share(whole['pass_rate'])} passed · {whole['credits']} credits"
    credits = f", about {saved['credits']} credits" if float(saved["credits"] or 0) else ""
    rejected = _counted(saved["rejected"], "image")
    yield f"the gate: {rejected} rejected, {saved['preflight']} failed before paying{credits}"
    yield ""
    yield f"by {', '.join(shown['by'])}:"
    for group in shown["groups"]:
        name = " · ".join(UNKNOWN if value is None else value for value in group["values"])
        yield f"  {name[-60:]:<60}  {_group(group)}"
    if shown["agreement"]:
        yield ""
        yield "agreement with you:"
    for each in shown["agreement"]:
        yield f"  {agreed(each)}"


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _group(group: Json) -> str:
    attempts, score = group["attempts_per_kept"]["value"], group["score"]["mean"]
    parts = [
        f"{share(group['pass_rate'])} of {group['judged']} passed",
        f"mean score {score:.2f}" if score is not None else "",
        f"{attempts:.1f} attempts per kept image" if attempts is not None else "",
        f"{group['credits_per_kept']} credits per kept image" if float(group["credits_per_kept"] or 0) else "",
        "" if group["enough"] else "too few to be a finding",
    ]
    return " · ".join(part for part in parts if part)


def share(rate: Json) -> str:
    """A share with its interval: "62 % (55–69 %)"."""
    if rate["share"] is None:
        return "none"
    return f"{rate['share'] * 100:.0f} % ({rate['low'] * 100:.0f}–{rate['high'] * 100:.0f} %)"


def agreed(each: Json) -> str:
    """One judge's agreement in a line."""
    task = "all tasks" if each["task"] is None else each["task"] or "task unknown"
    head = f"{each['judge']}, {task}: {each['good']} good, {each['bad']} bad rated"
    if each["finding"] == "not_enough":
        return f"{head}; not enough: {each['missing']} more"
    said = [
        head,
        f"agrees {share(each['agreement'])}",
        f"wrong passes {share(each['wrong_passes'])}",
        f"wrong rejections {share(each['wrong_rejections'])}",
    ]
    if each["finding"] == "no_better_than_chance":
        said.append("no better than chance")
    if (proposed := each["proposal"]) is not None:
        said.append(
            f"proposed min_score {proposed['min_score']:g}: would have passed {proposed['passed']} and rejected "
            f"{proposed['rejected']}, {proposed['wrong_passes']} and {proposed['wrong_rejections']} of them wrongly"
        )
    return " · ".join(said)
