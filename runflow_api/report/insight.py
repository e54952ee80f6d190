"""What the journal tells, as a section of a report and as a document of its own. As safe as the report itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ..insight import plots
from ..insight.export import share
from .labels import LANGUAGES, Labels, labels

Json = Mapping[str, Any]
MAX_GROUPS = 24


def section(shown: Json, language: str = LANGUAGES[0]) -> dict[str, Any]:
    """What a template shows of an ``overview`` (``insight/page.py``): plots, and tables of texts."""
    said = labels(language)
    grid = len(shown["by"]) > 1
    draw = plots.grid if grid else plots.bars
    return {
        "headline": said.by_setting.format(n=", ".join(shown["by"])),
        "plot": Markup(draw(shown["groups"], said.unknown_setting)),  # its texts are escaped there
        "over_time": Markup(plots.over_time(shown["days"])),
        "too_few": said.too_few.format(n=shown["enough"]),
        "groups": [_group(group, said) for group in shown["groups"][:MAX_GROUPS]],
        "has_credits": any(float(group["credits"]) for group in shown["groups"]),
        "saved": [
            said.gate_rejected.format(n=shown["saved"]["rejected"]),
            said.gate_preflight.format(n=shown["saved"]["preflight"]),
        ],
        "agreement": [_agreement(each, said) for each in shown["agreement"]],
    }


def _group(group: Json, said: Labels) -> dict[str, str]:
    attempts = group["attempts_per_kept"]["value"]
    return {
        "name": " \u00b7 ".join(said.unknown_setting if value is None else value for value in group["values"]),
        "judged": str(group["judged"]),
        "rate": share(group["pass_rate"]) if group["judged"] else "",
        "attempts": "" if attempts is None else f"{attempts:.1f}",
        "credits": group["credits_per_kept"] or "",
    }


def _agreement(each: Json, said: Labels) -> dict[str, str]:
    task = said.all_tasks if each["task"] is None else each["task"] or said.unknown_setting
    proposed = each["proposal"]
    finding = said.not_enough.format(n=each["missing"]) if each["missing"] else said.of(each["finding"])
    if proposed is not None:
        finding = f"{finding} \u00b7 {said.proposed.format(n=format(proposed['min_score'], 'g'))}"
    return {
        "judge": f"{each['judge']} \u00b7 {task}",
        "rated": f"{each['good']}, {each['bad']}",
        **{name: _share(each[key]) for name, key in _SHARES.items()},
        "finding": finding,
    }


_SHARES = {"agrees": "agreement", "wrong_passes": "wrong_passes", "wrong_rejections": "wrong_rejections"}


def _share(rate: Json) -> str:
    return "" if rate["share"] is None else share(rate)
