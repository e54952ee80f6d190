"""A verdict from a vision model that the person has: one question for each requirement, and what came back.

Everything is asked in one order and at one wording, so that the same image, question and model give the same
verdict. What the model does not answer with yes or no is unmeasured and counts neither way; where nothing was
measured there is no verdict. The reasons are the model's own and are never dressed up as Runflow's.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from ..api.models import Action, Evaluation, JudgeIssue, JudgeOpinion
from ..errors import NotJudgedError
from ..images import PixelImage
from .answers import CutOff, YesOrNo, read_answer, repeats_itself, spoken_text
from .requirements import WORDING, Requirement, requirements_of, rewrite_question

LONGEST_NAME = 80
"""Characters of a requirement that name its opinion."""
LONGEST_PROMPT = 10_000
KEPT_WORDS = 0.4
"""Share of the prompt's words that a rewrite keeps at least; below, it is another prompt."""


class VisionModel(Protocol):
    """A model that looks at one image and answers one question in words."""

    @property
    def name(self) -> str:
        """What people call it: "qwen3vl_8b", "gemma3:12b"."""

    @property
    def where(self) -> str:
        """Where it runs, as in "on this machine" or "at models.example.org"."""

    @property
    def identity(self) -> str:
        """What makes its answers differ from another one's: verdicts are remembered for it."""

    def answer(self, image: PixelImage, question: str) -> str:
        """The model's words about an image, uint8 (H, W, 1, 3 or 4). Blocks.

        Raises ``NotJudgedError`` where it cannot answer now, ``ConfigurationError`` where it never will.
        """


@dataclass(frozen=True)
class _Opinion:
    requirement: Requirement
    answer: YesOrNo

    @property
    def issue(self) -> str:
        """What is wrong, or was not measured, on one line."""
        text, reason = self.requirement.text, self.answer.reason
        if self.answer.is_yes is None:
            return f"not measured: {text} (neither yes nor no: {reason})"
        return f"{text}: {reason}" if reason else f"{text}: no"


def judge(model: VisionModel, image: PixelImage, *, prompt: str = "", instructions: str = "") -> Evaluation:
    """Ask ``model`` about one image, uint8 (H, W, C), and write down what it said as an ``Evaluation``.

    ``weighted_pass_rate`` is the share of yes among the measured requirements, ``overall_passed`` whether none of
    them is no; both ``None`` where none was measured. ``action.improved_prompt`` is the model's rewrite of
    ``prompt`` against what failed only. Raises ``NotJudgedError`` where there is nothing to ask about, and
    whatever ``model.answer`` raises.
    """
    started = time.perf_counter()
    requirements = requirements_of(instructions, prompt)
    if not requirements:
        raise NotJudgedError(
            "There is nothing to ask a vision model: no prompt and nothing that must be right.",
            cost="Nothing was paid.",
            advice="Connect generation_prompt, or write in “What must be right” what the image has to show.",
            code="NOTHING_TO_ASK",
        )
    opinions = [_Opinion(each, read_answer(model.answer(image, each.question))) for each in requirements]
    failed = [opinion for opinion in opinions if opinion.answer.is_yes is False]
    improved = _rewrite(model, image, prompt, failed) if failed and prompt.strip() else prompt
    return _evaluation(model, opinions, prompt, improved, (time.perf_counter() - started) * 1000)


def question_hash(model: VisionModel, pixel_hash: str, prompt: str, instructions: str) -> str:
    """What a verdict is remembered under: the image, what is asked, who is asked, and in which words."""
    asked = [each.question for each in requirements_of(instructions, prompt)]
    fields = ["model", WORDING, model.identity, pixel_hash, asked]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _rewrite(model: VisionModel, image: PixelImage, prompt: str, failed: Sequence[_Opinion]) -> str:
    """The model's own better prompt; ``prompt`` where what it wrote is not a rewrite of it."""
    answer = model.answer(image, rewrite_question(prompt, [opinion.issue for opinion in failed]))
    written = "" if isinstance(answer, CutOff) else spoken_text(answer) or ""
    improved = "" if repeats_itself(written) else " ".join(written.split()).strip("\"'“”„«»`* ")
    old, new = _words(prompt), _words(improved)
    is_rewrite = len(old & new) >= KEPT_WORDS * len(old) and len(improved) <= min(
        LONGEST_PROMPT, 1000 + 4 * len(prompt)
    )
    return improved if improved and is_rewrite else prompt


def _words(text: str) -> set[str]:
    """The words of a text; of scripts without spaces, the characters."""
    return set(re.findall(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\W_]+", text.casefold()))


def _evaluation(
    model: VisionModel,
    opinions: Sequence[_Opinion],
    prompt: str,
    improved: str,
    milliseconds: float,
) -> Evaluation:
    failed = [opinion for opinion in opinions if opinion.answer.is_yes is False]
    unmeasured = [opinion for opinion in opinions if opinion.answer.is_yes is None]
    measured = len(opinions) - len(unmeasured)
    action = Action(
        primary_action="regenerate" if failed else "keep" if measured else "review",
        failure_summary="; ".join(opinion.issue for opinion in failed) or None,
        improved_prompt=improved,
    )
    evaluation = Evaluation(
        status_code="completed",
        overall_passed=not failed if measured else None,
        weighted_pass_rate=round((measured - len(failed)) / measured, 4) if measured else None,
        top_issues=[opinion.issue for opinion in [*failed, *unmeasured]],
        top_strengths=[opinion.requirement.text for opinion in opinions if opinion.answer.is_yes],
        judges=[_judge_opinion(opinion) for opinion in opinions],
        action=action,
        primary_action_code=action.primary_action,
        generation_prompt=prompt,
        eval_duration_ms=round(milliseconds, 3),
        cost=Decimal(0),
    )
    assert evaluation.model_extra is not None  # unknown fields are kept
    evaluation.model_extra["judged_by"] = f"{model.name} {model.where}"
    return evaluation


def _judge_opinion(opinion: _Opinion) -> JudgeOpinion:
    text, answer = opinion.requirement.text, opinion.answer
    issue = JudgeIssue(category="content", detail=answer.reason or f"{text}: no")
    return JudgeOpinion(
        name=text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…",
        description=text,
        category="content",
        passed=answer.is_yes,
        weight=1,
        reasoning=answer.reason or None,
        issues=[issue] if answer.is_yes is False else [],
    )
