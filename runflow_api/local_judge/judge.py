"""The embedded judge: measurements on the pixels of one image, no key and no network.

It knows whether an image is broken, blurred, badly exposed, noisy or crushed by compression. It does not
know what the image shows, and never says so: every reason speaks of pixels. How often it is right on
photographs and generated images it was not tuned on is in ``benchmarks/LOCAL_JUDGE.md``.

One path: ``judge`` looks for what makes an image unusable (``checks.find_broken``), then prepares it once
(``pixels.Pixels``), then asks each check for a ``Finding``, then writes the findings down as the same
``Evaluation`` that the API gives.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from ..api.models import Action, Evaluation, EvaluationStatus, GateFailure, JudgeIssue, JudgeOpinion
from ..errors import InvalidInputError
from ..settings.config import Strictness
from . import damage, text
from .checks import CHECKS, EASE, Finding, find_broken
from .pixels import Array, prepare
from .references import near_duplicate


def judge(
    image: Array,
    *,
    checks: Literal["broken", "full"] = "full",
    references: Sequence[Array] = (),
    prompt: str = "",
    instructions: str = "",
    reads_text: bool = False,
    strictness: Strictness = "normal",
    per_check: Mapping[Any, str] = MappingProxyType({}),
) -> Evaluation:
    """Judge the pixels of one image; the verdict is the same for the same input.

    ``image`` is (height, width, channels) with 1, 3 or 4 channels: floats of 0..1, read as ComfyUI's
    SaveImage writes them (``clip(255 * x, 0, 255)`` truncated to a byte), or uint8. ``checks="broken"`` looks
    only for values that are not finite and for one flat colour. ``references`` are images of the same
    form; whether one of them is nearly the same picture is reported and never fails. With ``reads_text``, and
    where the optional reader is installed, what stands in quotation marks in ``prompt`` or ``instructions`` must be
    readable in the picture; that takes seconds, where the other checks take a tenth of one.

    ``strictness`` widens or narrows the limits; ``per_check`` does for one check by its name, or turns it "off".

    ``weighted_pass_rate`` is the weighted share of the passed checks, rare damages counted if they are found, and 0
    if a gate (not finite, flat) failed. ``action.improved_prompt`` is ``prompt`` with what the failed checks ask
    for.

    Raises ``InvalidInputError`` for arrays of another shape or kind, never for the values in them.
    """
    started = time.perf_counter()
    _validate("image", image)
    for index, reference in enumerate(references):
        _validate(f"references[{index}]", reference)
    findings = find_broken(image)
    if checks == "full" and all(finding.passed for finding in findings):
        pixels = prepare(image)
        wanted = {name: per_check.get(name, strictness) for name in CHECKS}
        findings += [CHECKS[name](pixels, EASE[level]) for name, level in wanted.items() if level != "off"]
        damages = [check(pixels) for check in damage.CHECKS]
        findings += [each for each in damages if per_check.get(each.check.name) != "off"]
        if references:
            findings.append(near_duplicate(pixels, references))
        if reads_text and per_check.get("text") != "off":
            findings += text.check_texts(pixels.rgb, text.wanted_texts(prompt, instructions))
    return _evaluation(findings, prompt, (time.perf_counter() - started) * 1000)


def _validate(field: str, image: Array) -> None:
    shape = getattr(image, "shape", None)
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.size == 0:
        raise InvalidInputError(field, f"needs an array (height, width, 1, 3 or 4 channels), got shape {shape}")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise InvalidInputError(field, f"needs floats of 0..1 or uint8, got {image.dtype}")


def _evaluation(findings: Sequence[Finding], prompt: str, milliseconds: float) -> Evaluation:
    failed = [finding for finding in findings if finding.passed is False]
    action = Action(
        primary_action="regenerate" if failed else "keep",
        failure_summary="; ".join(finding.text for finding in failed) or None,
        improved_prompt=_improved(prompt, [finding.remedy for finding in failed]),
    )
    return Evaluation(
        status_code=EvaluationStatus.COMPLETED,
        overall_passed=not failed,
        weighted_pass_rate=_pass_rate(findings),
        top_issues=[finding.text for finding in [*failed, *(each for each in findings if each.said)]],
        top_strengths=[finding.text for finding in findings if finding.strength],
        judges=[_judge(finding) for finding in findings],
        gate_failures=[GateFailure(module=f.check.name, reason=f.text) for f in failed if f.check.gate],
        action=action,
        primary_action_code=action.primary_action,
        generation_prompt=prompt,
        eval_duration_ms=round(milliseconds, 3),
        cost=Decimal(0),
    )


def _pass_rate(findings: Sequence[Finding]) -> float:
    """Weighted share of the passed checks among the measured ones; a failed gate leaves nothing worth a share."""
    measured = [finding for finding in findings if finding.passed is not None]
    if any(finding.check.gate and not finding.passed for finding in measured):
        return 0.0
    return round(sum(f.weight for f in measured if f.passed) / sum(f.weight for f in measured), 4)


def _judge(finding: Finding) -> JudgeOpinion:
    issue = JudgeIssue(category="pixels", subcategory=finding.check.name, detail=finding.text)
    return JudgeOpinion(
        name=finding.check.name,
        description=finding.check.description,
        category="pixels",
        passed=finding.passed,
        confidence=finding.confidence,
        weight=finding.weight,
        reasoning=f"{finding.text[0].upper()}{finding.text[1:]}.",
        evidence=list(finding.evidence),
        issues=[issue] if finding.passed is False else [],
    )


def _improved(prompt: str, remedies: Sequence[str]) -> str:
    """The prompt with what it does not ask for yet; if there is no prompt there is nothing to improve."""
    if not prompt.strip():
        return prompt
    for remedy in remedies:
        if remedy.lower() not in prompt.lower():
            prompt = f"{prompt.rstrip().rstrip('.,')}, {remedy}"
    return prompt
