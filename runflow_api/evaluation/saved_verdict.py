"""What a saved image says about its own verdict, in a text chunk of the file. Written by Save Judged Images.

Whoever has the file can have changed it, so it is told as what the file says, and only of the very pixels that it
names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from ..api.models import Evaluation, EvaluationStatus
from .question import LONGEST, Options, Question
from .verdict import RUNFLOW, Outcome, Policy, Subject, Verdict, from_evaluation

CHUNK = "runflow_verdict"
MAX_CHARACTERS = 200_000
MAX_ISSUES = 100
MAX_TEXT = 4_000
AS_SAVED = "as the file says; nobody was asked again"


@dataclass(frozen=True)
class SavedVerdict:
    """What a file says. ``pixel_hash`` is of the file's own pixels, ``judged_hash`` of those that were judged.

    ``is_practice``: the sandbox said it, which judges no content.
    """

    evaluation_id: str
    outcome: Outcome
    score: float | None
    judge: str
    prompt: str
    issues: tuple[str, ...]
    pixel_hash: str
    judged_hash: str
    is_practice: bool = False

    @property
    def text(self) -> str:
        """ "passed 0.90 by runflow (evaluation …)"."""
        score = "" if self.score is None else f" {self.score:.2f}"
        named = f" (evaluation {self.evaluation_id})" if self.evaluation_id else ""
        other = "" if self.judged_hash in ("", self.pixel_hash) else ", other pixels than these were judged"
        practice = ", practice in the sandbox" if self.is_practice else ""
        return f"{self.outcome}{score} by {self.judge}{named}{practice}{other}"

    def answers(self, question: Question, options: Options, has_prompt: bool) -> bool:
        """Whether this is the verdict of that question, as far as a file tells what was asked: the prompt.

        Without ``has_prompt`` nobody knows another prompt than the file's. What it does not tell, nobody may have asked
        for: instructions, references, another kind of task.
        """
        is_prompt = not has_prompt or self.prompt.strip() == question.generation_prompt.strip()
        is_plain = replace(question, generation_prompt="") == Question()
        return is_prompt and is_plain and not options.input_attributes and options.job_class == Options.job_class

    def verdict(self, policy: Policy, prompt: str) -> Verdict:
        """The same as a verdict by the rules of ``policy``; nothing is paid for it."""
        said = Evaluation(
            id=self.evaluation_id or None,
            status_code=EvaluationStatus.COMPLETED,
            overall_passed={Outcome.PASSED: True, Outcome.FAILED: False}.get(self.outcome),
            weighted_pass_rate=self.score,
            top_issues=list(self.issues),
            cost=Decimal(0),
        )
        if self.is_practice:
            said = said.model_copy(update={"sandbox": True})
        subject = Subject(self.prompt or prompt, self.pixel_hash)
        return from_evaluation(said, policy, subject, judge=self.judge, reused=True, notes=[AS_SAVED])


def record(verdict: Verdict, pixel_hash: str) -> dict[str, Any]:
    """What a file says about the image in it, whose pixels have this hash: plain JSON without a secret."""
    shown = verdict.to_ui()
    kept = ("id", "verdict", "passed", "judge", "judged_by", "issues", "improved_prompt", "cost", "error")
    has_score = verdict.evaluation.weighted_pass_rate is not None
    return {
        **{name: shown[name] for name in kept},
        "score": verdict.score if has_score else None,
        "min_score": verdict.min_score,
        "prompt": verdict.subject.prompt,
        "image": pixel_hash,
        "judged_image": verdict.subject.pixel_hash,
        "practice": verdict.is_practice,
    }


def parse(text: Any) -> SavedVerdict | None:
    """What a chunk says; ``None`` for what no Save Judged Images has written."""
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("verdict") not in list(map(str, Outcome)):
        return None
    score, issues = said.get("score"), said.get("issues")
    is_score = isinstance(score, int | float) and not isinstance(score, bool) and 0.0 <= score <= 1.0
    return SavedVerdict(
        evaluation_id=_text(said, "id"),
        outcome=Outcome(said["verdict"]),
        score=float(score) if is_score and score is not None else None,
        judge=_text(said, "judge") or RUNFLOW,
        prompt=_text(said, "prompt", LONGEST["generation_prompt"]),
        issues=tuple(
            each[:MAX_TEXT]
            for each in (issues if isinstance(issues, list) else [])[:MAX_ISSUES]
            if isinstance(each, str)
        ),
        pixel_hash=_text(said, "image"),
        judged_hash=_text(said, "judged_image"),
        is_practice=said.get("practice") is True,
    )


def _text(said: Mapping[str, Any], name: str, longest: int = MAX_TEXT) -> str:
    value = said.get(name)
    return value[:longest] if isinstance(value, str) else ""
