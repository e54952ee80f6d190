"""Pictures to judge, made of numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def picture(seed: int = 0, height: int = 288, width: int = 320, channels: int = 3) -> npt.NDArray[np.float32]:
    """A picture with detail at every scale, (height, width, channels) float32 from 0 to 1."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, channels))
    for size in (2, 6, 24, 96, max(height, width)):
        rows, columns = -(-height // size), -(-width // size)
        coarse = rng.random((rows, columns, channels)).repeat(size, 0).repeat(size, 1)[:height, :width]
        total += coarse * size**0.5
    total -= total.min()
    return (total / total.max()).astype(np.float32)
