"""One image, prepared once for all checks, and the arithmetic on planes of pixels that they share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

WORK_SIDE = 512
"""Blur is measured with the square root of the area near this many pixels, so that 256 and 4096 px compare."""

BAND_ROWS = 256
"""Rows converted at a time: a 4096 x 4096 float image never gets a second whole copy."""

FLAT_LEVELS = 2
"""A channel that stays within so many of 255 levels is flat: rounding and compression move it by one."""

BLUR_MIN_SIDE = 16
"""Pixels of the short side below which nothing is measured."""

OPAQUE = 128
"""Alpha from which a pixel counts as visible."""


@dataclass(frozen=True)
class Pixels:
    """One image, prepared once, all in 0..255.

    ``rgb`` (H, W, 1 or 3) and ``luma`` (H, W) are uint8 at full size, transparency laid on a backdrop;
    ``work`` (h, w) float32 is the luma averaged over ``factor`` x ``factor`` pixels; ``tones`` (n, 1 or 3) uint8
    are the colours of every ``factor``-th visible pixel.
    """

    rgb: Bytes
    luma: Bytes
    work: Floats
    tones: Bytes
    factor: int

    @property
    def size(self) -> tuple[int, int]:
        return self.luma.shape[0], self.luma.shape[1]

    @property
    def green(self) -> Bytes:
        """The channel that noise is measured in: luma averages the noise of three channels away."""
        return np.asarray(self.rgb[:, :, min(1, self.rgb.shape[2] - 1)])

    @property
    def side(self) -> float:
        """Side of the square of the same area, in pixels: what relative widths refer to."""
        return math.sqrt(self.luma.size)


def to_levels(values: Array) -> Bytes:
    """0..1 to 0..255 as ComfyUI's ``SaveImage`` does it (nodes.py): clipped, then truncated."""
    if values.dtype == np.uint8:
        return values
    unit = np.clip(values, 0.0, 1.0).astype(np.float32, copy=False)
    return (unit * np.float32(255)).astype(np.uint8)


def prepare(image: Array) -> Pixels:
    height, width, channels = image.shape
    rgb = np.empty((height, width, 1 if channels == 1 else 3), np.uint8)
    luma = np.empty((height, width), np.uint8)
    factor = _work_factor(height, width)
    backdrop = _backdrop(image[::factor, ::factor]) if channels == 4 else 0
    for top in range(0, height, BAND_ROWS):
        band = slice(top, top + BAND_ROWS)
        levels = to_levels(image[band])
        rgb[band] = _flatten(levels, backdrop) if channels == 4 else levels
        luma[band] = to_luma(rgb[band])
    tones = _visible(rgb[::factor, ::factor], image[::factor, ::factor])
    return Pixels(rgb, luma, _shrink(luma, factor), tones, factor)


def _work_factor(height: int, width: int) -> int:
    """A whole number, so that averaging moves no edge; long strips keep their short side."""
    wanted = max(1, round(math.sqrt(height * width) / WORK_SIDE))
    return max(1, min(wanted, height // BLUR_MIN_SIDE, width // BLUR_MIN_SIDE))


def to_luma(rgb: Bytes) -> Bytes:
    """ITU-R BT.601 luma in integers, (..., 3) uint8 to (...) uint8; grey stays as it is."""
    if rgb.shape[-1] == 1:
        return rgb[..., 0]
    red, green, blue = (rgb[..., channel].astype(np.uint16) for channel in range(3))
    return ((red * 77 + green * 150 + blue * 29 + 128) >> 8).astype(np.uint8)


def _backdrop(sample: Array) -> int:
    """White behind dark content and black behind light content: a cut-out is judged as it would be shown."""
    levels = to_levels(sample)
    opacity = levels[:, :, 3].astype(np.float32)
    mean = float((to_luma(levels[:, :, :3]) * opacity).sum() / max(1.0, float(opacity.sum())))
    return 255 if mean < 128 else 0


def _flatten(levels: Bytes, backdrop: int) -> Bytes:
    opacity = levels[:, :, 3:].astype(np.uint16)
    return ((levels[:, :, :3] * opacity + np.uint16(backdrop) * (255 - opacity) + 127) // 255).astype(np.uint8)


def _visible(rgb: Bytes, sample: Array) -> Bytes:
    """Colours of the visible pixels, (n, 1 or 3); a silhouette of one tone is taken with its backdrop."""
    everything = rgb.reshape(-1, rgb.shape[2])
    if sample.shape[2] != 4:
        return everything
    levels = to_levels(sample).reshape(-1, 4)
    shown = levels[levels[:, 3] >= OPAQUE, :3]
    return shown if shown.size and int(np.ptp(shown, axis=0).max()) > FLAT_LEVELS else everything


def _shrink(plane: Bytes, factor: int) -> Floats:
    """Mean of every factor x factor pixels, (H // factor, W // factor) float32."""
    if factor == 1:
        return plane.astype(np.float32)
    height, width = plane.shape[0] // factor, plane.shape[1] // factor
    cut = plane[: height * factor, : width * factor].reshape(height, factor, width * factor)
    rows = cut.sum(axis=1, dtype=np.uint32).reshape(height, width, factor)
    return np.asarray(rows.sum(axis=2) / np.float32(factor * factor), np.float32)


def gradient(plane: Floats) -> Floats:
    """Length of the gradient by central differences, in levels a pixel, (H - 2, W - 2)."""
    return np.asarray(np.hypot(*gradients(plane)), np.float32)


def gradients(plane: Floats) -> tuple[Floats, Floats]:
    """Central differences across and down, in levels a pixel, each (H - 2, W - 2)."""
    across = (plane[1:-1, 2:] - plane[1:-1, :-2]) * np.float32(0.5)
    down = (plane[2:, 1:-1] - plane[:-2, 1:-1]) * np.float32(0.5)
    return across, down


def gaussian(plane: Floats, sigma: float) -> Floats:
    """Separable Gaussian, borders repeated, same shape."""
    reach = math.ceil(3 * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(plane, [(reach, reach) if axis == side else (0, 0) for side in (0, 1)], mode="edge")
        shifts = (padded.take(range(i, i + plane.shape[axis]), axis=axis) for i in range(len(taps)))
        plane = np.asarray(sum(tap * shift for tap, shift in zip(taps, shifts, strict=True)), np.float32)
    return plane


def quantile(levels: Bytes, share: float) -> int:
    """Quantile of uint8 values by their histogram."""
    counts = np.cumsum(np.bincount(levels.ravel(), minlength=256))
    return int(np.searchsorted(counts, share * float(counts[-1])))


def quantile_between(values: npt.NDArray[np.floating[Any]], share: float) -> float:
    """Quantile of at least one number, linear between the two that are nearest, as ``np.quantile``.

    Since numpy 2.3 that one calls C++ which lets other threads run, and must not return while Python shuts down: a
    ComfyUI that is ended meanwhile would abort.
    """
    at = share * (values.size - 1)
    low, high = math.floor(at), math.ceil(at)
    ordered = np.partition(values, (low, high), axis=None)
    return float(ordered[low] + (at - low) * (ordered[high] - ordered[low]))
