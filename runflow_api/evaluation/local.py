"""What is judged on this machine: everything where the local judge is asked, and before paying what is not worth it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy.typing as npt

from ..images import Picture
from ..settings.config import Config
from .job import BatchItem
from .question import ImageUrl, require_finite
from .verdict import LOCAL, PREFLIGHT, Policy, Verdict, from_evaluation


def judge_locally(item: BatchItem, config: Config) -> Verdict:
    """The local judge's verdict. Blocks."""
    from ..local_judge import judge as local_judge  # not needed if Runflow judges

    assert isinstance(item.image, Picture)  # addresses are refused by validate
    batch = item.batch
    pictures = [each.picture for each in batch.job.question.references]
    references = [picture.pixels for picture in pictures if picture is not None]
    evaluation = local_judge.judge(
        _judged(item.image),
        references=references,
        prompt=item.subject.prompt,
        instructions=batch.job.question.evaluation_instructions,
        reads_text=True,
        strictness=config.local_strictness,
        per_check=config.local_checks,
    )
    return from_evaluation(evaluation, batch.job.policy, item.subject, judge=LOCAL, seconds=batch.seconds)


def preflight(item: BatchItem, config: Config) -> Verdict | None:
    """A failed verdict for an image that is not worth paying for, otherwise ``None``. Blocks.

    Raises ``InvalidInputError`` for values that are not numbers, if preflight is off.
    """
    from ..local_judge import judge as local_judge

    job, image = item.batch.job, item.image
    if isinstance(image, ImageUrl):
        return None
    if job.options.preflight == "off":
        require_finite(image, job.name_of(item.index))
        return None
    evaluation = local_judge.judge(
        _judged(image),
        checks=job.options.preflight,
        prompt=item.subject.prompt,
        strictness=config.local_strictness,
        per_check=config.local_checks,
    )
    if evaluation.overall_passed:
        return None
    evaluation = evaluation.model_copy(update={"weighted_pass_rate": 0.0, "cost": Decimal(0)})
    return from_evaluation(evaluation, Policy(), item.subject, judge=PREFLIGHT, seconds=item.batch.seconds)


def _judged(picture: Picture) -> npt.NDArray[Any]:
    """Its pixels, which are made already; values that are not numbers can be seen only in what was given."""
    return picture.pixels if picture.is_finite else picture.array
