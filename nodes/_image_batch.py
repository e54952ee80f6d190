"""IMAGE values as nodes meet them, and whether an evaluation belongs to the images given with it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import torch

from ..runflow_api import background, images
from ..runflow_api.errors import InvalidInputError
from ..runflow_api.evaluation.verdict import BatchVerdict

OTHER_PIXELS = "these are not the pixels that were judged"


def check_images(name: str, value: Any) -> torch.Tensor:
    """The IMAGE of the input ``name`` as [B, H, W, C]. Raises ``InvalidInputError`` for what other packs may send."""
    if not isinstance(value, torch.Tensor):
        kind = "nothing (None)" if value is None else f"a {type(value).__name__}"
        raise InvalidInputError(name, f"gets {kind} instead of an image. Look at the node that it comes from.")
    if value.ndim not in (3, 4):
        raise InvalidInputError(name, f"has {value.ndim} dimensions; an IMAGE has batch, height, width, channels.")
    return batch(value)


def batch(image: torch.Tensor) -> torch.Tensor:
    """An IMAGE as [B, H, W, C]; some nodes give a single image without its first axis."""
    return image.unsqueeze(0) if image.ndim == 3 else image


def arrays(image: torch.Tensor) -> list[np.ndarray]:
    """An IMAGE as B float arrays (H, W, C), without a copy where it is in main memory."""
    whole = batch(image)
    if not whole.is_floating_point() or whole.dtype == torch.bfloat16:
        whole = whole.float()
    return [picture.detach().cpu().numpy() for picture in whole]


def pictures(image: torch.Tensor) -> list[images.Picture]:
    """An IMAGE as B pictures, whose uint8 pixels and hash are made when they are first asked for."""
    return [images.Picture(array) for array in arrays(image)]


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
    return await asyncio.wrap_future(background.call(_hashes, pictures(image)))


def _hashes(judged: list[images.Picture]) -> tuple[str, ...]:
    return tuple(picture.hash for picture in judged)


def differ(hashes: tuple[str, ...], evaluation: BatchVerdict) -> bool:
    """Whether other pixels were judged, for example before an upscaler. That is allowed, and said."""
    judged = (verdict.subject.pixel_hash for verdict in evaluation)
    return any(theirs and mine != theirs for mine, theirs in zip(hashes, judged, strict=True))
