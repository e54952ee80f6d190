"""Whether an evaluation belongs to the images given with it: one verdict for each, of these pixels."""

from __future__ import annotations

import asyncio

import torch

from ..runflow_api import background, images
from ..runflow_api.errors import InvalidInputError
from ..runflow_api.evaluation.verdict import BatchVerdict
from . import _runtime

OTHER_PIXELS = "these are not the pixels that were judged"


def batch(image: torch.Tensor) -> torch.Tensor:
    """An IMAGE as [B, H, W, C]; some nodes give a single image without its first axis."""
    return image.unsqueeze(0) if image.ndim == 3 else image


def check_count(image: torch.Tensor, evaluation: BatchVerdict) -> None:
    """Refuse verdicts that cannot be these images': a verdict must never land on another image."""
    if len(evaluation) != len(batch(image)):
        raise InvalidInputError(
            "evaluation",
            f"holds {len(evaluation)} verdicts, but {len(batch(image))} images are given with it. Connect the batch "
            "that was judged, before anything selects, splits or merges it.",
        )


async def pixel_hashes(image: torch.Tensor) -> tuple[str, ...]:
    """One hash of the uint8 pixels for each image, as evaluations carry them. Made beside the event loop."""
    pictures = _runtime.arrays(image)
    hashing = background.call(lambda: tuple(images.pixel_hash(images.to_pixels(each)) for each in pictures))
    return await asyncio.wrap_future(hashing)


def differ(hashes: tuple[str, ...], evaluation: BatchVerdict) -> bool:
    """Whether other pixels were judged, for example before an upscaler. That is allowed, and said."""
    judged = (verdict.subject.pixel_hash for verdict in evaluation)
    return any(theirs and mine != theirs for mine, theirs in zip(hashes, judged, strict=True))
