"""The words of a report in each of its languages, from ``texts/<language>.json`` beside this file: pip installs them.

Numbers take the place ``{n}``. What judges say stays as they said it.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("en", "zh", "ja")
"""As ComfyUI calls them in its setting ``Comfy.Locale``; the first is the one everything falls back to."""
FOLDER = Path(__file__).parent / "texts"


@dataclass(frozen=True)
class Labels:
    """Headlines, labels and sentences: plain text, neither HTML nor anything that HTML would have to escape."""

    title: str
    image: str
    passed: str
    failed: str
    unknown: str
    count_passed: str
    count_failed: str
    count_unknown: str
    mean_score: str
    credits: str
    runflow: str
    sandbox: str
    local: str
    preflight: str
    off: str
    no_picture: str
    no_score: str
    issues: str
    strengths: str
    prompt: str
    improved_prompt: str
    judges: str
    judge_passed: str
    judge_failed: str
    judge_unknown: str
    evaluation: str
    cost: str
    time: str
    seconds: str
    reused: str
    more: str
    incomplete: str
    show: str
    all: str
    folder: str
    attempts: str
    repairs: str
    lost: str
    gained: str
    insight: str
    by_setting: str
    over_time: str
    verdicts: str
    pass_rate: str
    attempts_per_kept: str
    credits_per_kept: str
    agreement: str
    good_and_bad: str
    agrees: str
    wrong_passes: str
    wrong_rejections: str
    finding: str
    not_enough: str
    no_better_than_chance: str
    better_than_chance: str
    proposed: str
    gate_rejected: str
    gate_preflight: str
    unknown_setting: str
    too_few: str
    all_tasks: str
    sort: str
    worst_first: str
    best_first: str
    by_name: str

    def of(self, name: str) -> str:
        """The word for a code: an outcome, a judge."""
        return str(getattr(self, name))


@functools.cache
def labels(language: str) -> Labels:
    """One of ``LANGUAGES``; ``TypeError`` for a file that misses a text or has one too many."""
    return Labels(**json.loads((FOLDER / f"{language}.json").read_text("utf-8")))
