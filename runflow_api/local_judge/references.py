"""Whether an image is nearly the same picture as one of its references: reported, never failing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .checks import Check, Finding
from .pixels import Array, Bytes, Floats, Pixels, prepare

HASH_SIDE = 16
DUPLICATE_BITS = 0.10
"""Share of differing hash bits; those of unrelated pictures differ in a third to a half."""

DUPLICATE_LEVELS = 16.0
"""Mean difference of the small copies, of 255."""


def near_duplicate(pixels: Pixels, references: Sequence[Array]) -> Finding:
    """Difference hash (N. Krawetz, "Kind of like that", 2013) and difference of small copies.

    Reported, never failing; it says nothing about who or what is shown.
    """
    check = Check("reference_similarity", "Whether the pixels nearly equal a reference (information)", weight=0)
    own = _thumbnail(pixels.rgb)
    apart = [_difference(own, _thumbnail(prepare(_finite(reference)).rgb)) for reference in references]
    same = [str(i + 1) for i, (bits, levels) in enumerate(apart) if _close(bits, levels)]
    evidence = tuple(
        f"reference {i + 1}: {bits:.0%} of the pattern differs, {levels:.0f} of 255 levels apart"
        for i, (bits, levels) in enumerate(apart)
    )
    text = f"nearly the same pixels as reference {', '.join(same)}" if same else "no near-duplicate of a reference"
    return check.passed(text, evidence)


def _close(bits: float, levels: float) -> bool:
    return bits <= DUPLICATE_BITS and levels <= DUPLICATE_LEVELS


def _finite(image: Array) -> Array:
    return image if image.dtype == np.uint8 else np.nan_to_num(image, nan=0.0)


def _thumbnail(rgb: Bytes) -> Floats:
    """Means over a raster, (16, 17, 3) float32."""
    picture = Image.fromarray(rgb[:, :, 0] if rgb.shape[2] == 1 else rgb).convert("RGB")
    return np.asarray(picture.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX), np.float32)


def _difference(one: Floats, other: Floats) -> tuple[float, float]:
    """Share of differing hash bits, and mean difference in levels."""
    bits = [np.diff(thumbnail.mean(axis=2), axis=1) > 1 for thumbnail in (one, other)]
    return float((bits[0] != bits[1]).mean()), float(np.abs(one - other).mean())
