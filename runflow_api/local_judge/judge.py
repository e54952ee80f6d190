"""The embedded judge: measurements on the pixels of one image, no key and no network.

It knows whether an image is broken, blurred, badly exposed, noisy or crushed by compression. It does not
know what the image shows, and never says so: every reason speaks of pixels. The measures are published
ones, named where they are used; each threshold stands beside its rule. How often they are right on
photographs and generated images they were not tuned on is in ``benchmarks/LOCAL_JUDGE.md``.

One path: ``judge`` looks for what makes an image unusable (``_broken``), then prepares it once
(``_Pixels``), then asks each check for a ``_Finding``, then writes the findings down as the same
``Evaluation`` that the API gives.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..api.models import Action, Evaluation, EvaluationStatus, GateFailure, JudgeIssue, JudgeOpinion
from ..errors import InvalidInputError

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

WORK_SIDE = 512
"""Blur is measured with the square root of the area near this many pixels, so that 256 and 4096 px compare."""

BAND_ROWS = 256
"""Rows converted at a time: a 4096 x 4096 float image never gets a second whole copy."""


@dataclass(frozen=True)
class _Finding:
    """What one check found. ``passed`` is None where there was nothing to measure."""

    check: _Check
    passed: bool | None
    text: str
    evidence: tuple[str, ...] = ()
    confidence: float = 1.0
    remedy: str = ""
    strength: bool = False


@dataclass(frozen=True)
class _Check:
    """One question to the pixels, and the three ways to answer it."""

    name: str
    description: str
    weight: float = 1.0
    gate: bool = False

    def passed(
        self, text: str, evidence: tuple[str, ...] = (), confidence: float = 1.0, *, strength: bool = False
    ) -> _Finding:
        return _Finding(self, True, text, evidence, confidence, strength=strength)

    def failed(
        self, issue: str, evidence: tuple[str, ...] = (), confidence: float = 1.0, *, remedy: str = ""
    ) -> _Finding:
        """``remedy`` is what a prompt can ask for; empty where no prompt mends it."""
        return _Finding(self, False, issue, evidence, confidence, remedy=remedy)

    def unmeasured(self, text: str) -> _Finding:
        return _Finding(self, None, text, confidence=0.0)


def judge(
    image: Array,
    *,
    checks: Literal["broken", "full"] = "full",
    references: Sequence[Array] = (),
    prompt: str = "",
) -> Evaluation:
    """Judge the pixels of one image; the verdict is the same for the same input.

    ``image`` is (height, width, channels) with 1, 3 or 4 channels: floats of 0..1, read as ComfyUI's
    SaveImage writes them (``clip(255 * x, 0, 255)`` truncated to a byte), or uint8. ``checks="broken"`` looks
    only for values that are not finite and for one flat colour. ``references`` are images of the same
    form; whether one of them is nearly the same picture is reported and never fails.

    ``weighted_pass_rate`` is the weighted share of the passed checks, and 0 where a gate (not finite, flat)
    failed. ``action.improved_prompt`` is ``prompt`` with what the failed checks ask for.

    Raises ``InvalidInputError`` for arrays of another shape or kind, never for the values in them.
    """
    started = time.perf_counter()
    _validate("image", image)
    for index, reference in enumerate(references):
        _validate(f"references[{index}]", reference)
    findings = _broken(image)
    if checks == "full" and all(finding.passed for finding in findings):
        pixels = _prepare(image)
        findings += [check(pixels) for check in _CHECKS]
        if references:
            findings.append(_near_duplicate(pixels, references))
    return _evaluation(findings, prompt, (time.perf_counter() - started) * 1000)


def _validate(field: str, image: Array) -> None:
    shape = getattr(image, "shape", None)
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.size == 0:
        raise InvalidInputError(field, f"needs an array (height, width, 1, 3 or 4 channels), got shape {shape}")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise InvalidInputError(field, f"needs floats of 0..1 or uint8, got {image.dtype}")


# --- gates: what makes an image unusable ----------------------------------------------------------

FLAT_LEVELS = 2
"""A channel that stays within so many of 255 levels is flat: rounding and compression move it by one."""


def _broken(image: Array) -> list[_Finding]:
    """Two passes over the memory: minimum and maximum carry every NaN and infinity along."""
    low, high = _range(image)
    finite = bool(np.isfinite(low).all() and np.isfinite(high).all())
    findings = [_finiteness(image, finite)]
    if finite:
        findings.append(_flatness(low, high))
    return findings


def _range(image: Array) -> tuple[Array, Array]:
    """Lowest and highest value of each channel. Columns first: that runs along the memory."""
    rows = image.reshape(image.shape[0], -1)
    low, high = (reduce(rows, axis=0).reshape(-1, image.shape[2]) for reduce in (np.min, np.max))
    return np.min(low, axis=0), np.max(high, axis=0)


def _finiteness(image: Array, finite: bool) -> _Finding:
    check = _Check("non_finite", "Every value is a finite number", gate=True)
    if finite:
        return check.passed("all values are finite numbers")
    wrong = ~np.isfinite(image)
    channels = ", ".join(str(channel) for channel in np.flatnonzero(wrong.any(axis=(0, 1))))
    count = int(wrong.sum())
    evidence = (f"{count} of {image.size} values", f"in channel {channels}")
    return check.failed(f"broken: {count} of {image.size} values are not finite (NaN or infinity)", evidence)


def _flatness(low: Array, high: Array) -> _Finding:
    check = _Check("flat_colour", "The image is more than one flat colour", gate=True)
    first, last = (_to_levels(levels).astype(int) for levels in (low, high))
    spread, hidden = int((last - first).max()), len(last) == 4 and last[3] == 0
    measured = f"values span {spread} of 255 levels"
    evidence = (f"{measured}, more than {FLAT_LEVELS}",)
    if hidden:
        return check.failed("one flat colour: every pixel is transparent", evidence)
    if spread <= FLAT_LEVELS:
        colour = ", ".join(str(level) for level in last)
        return check.failed(f"one flat colour: every pixel is ({colour}) of 255", evidence)
    return check.passed(measured, evidence)


# --- preparing ------------------------------------------------------------------------------------

OPAQUE = 128
"""Alpha from which a pixel counts as visible."""


@dataclass(frozen=True)
class _Pixels:
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
    def side(self) -> float:
        """Side of the square of the same area, in pixels: what relative widths refer to."""
        return math.sqrt(self.luma.size)


def _to_levels(values: Array) -> Bytes:
    """0..1 to 0..255 as ComfyUI's ``SaveImage`` does it (nodes.py): clipped, then truncated."""
    if values.dtype == np.uint8:
        return values
    unit = np.clip(values, 0.0, 1.0).astype(np.float32, copy=False)
    return (unit * np.float32(255)).astype(np.uint8)


def _prepare(image: Array) -> _Pixels:
    height, width, channels = image.shape
    rgb = np.empty((height, width, 1 if channels == 1 else 3), np.uint8)
    luma = np.empty((height, width), np.uint8)
    factor = _work_factor(height, width)
    backdrop = _backdrop(image[::factor, ::factor]) if channels == 4 else 0
    for top in range(0, height, BAND_ROWS):
        band = slice(top, top + BAND_ROWS)
        levels = _to_levels(image[band])
        rgb[band] = _flatten(levels, backdrop) if channels == 4 else levels
        luma[band] = _luma(rgb[band])
    tones = _visible(rgb[::factor, ::factor], image[::factor, ::factor])
    return _Pixels(rgb, luma, _shrink(luma, factor), tones, factor)


def _work_factor(height: int, width: int) -> int:
    """A whole number, so that averaging moves no edge; long strips keep their short side."""
    wanted = max(1, round(math.sqrt(height * width) / WORK_SIDE))
    return max(1, min(wanted, height // BLUR_MIN_SIDE, width // BLUR_MIN_SIDE))


def _luma(rgb: Bytes) -> Bytes:
    """ITU-R BT.601 luma in integers, (..., 3) uint8 to (...) uint8; grey stays as it is."""
    if rgb.shape[-1] == 1:
        return rgb[..., 0]
    red, green, blue = (rgb[..., channel].astype(np.uint16) for channel in range(3))
    return ((red * 77 + green * 150 + blue * 29 + 128) >> 8).astype(np.uint8)


def _backdrop(sample: Array) -> int:
    """White behind dark content and black behind light content: a cut-out is judged as it would be shown."""
    levels = _to_levels(sample)
    opacity = levels[:, :, 3].astype(np.float32)
    mean = float((_luma(levels[:, :, :3]) * opacity).sum() / max(1.0, float(opacity.sum())))
    return 255 if mean < 128 else 0


def _flatten(levels: Bytes, backdrop: int) -> Bytes:
    opacity = levels[:, :, 3:].astype(np.uint16)
    return ((levels[:, :, :3] * opacity + np.uint16(backdrop) * (255 - opacity) + 127) // 255).astype(np.uint8)


def _visible(rgb: Bytes, sample: Array) -> Bytes:
    """Colours of the visible pixels, (n, 1 or 3); a silhouette of one tone is taken with its backdrop."""
    everything = rgb.reshape(-1, rgb.shape[2])
    if sample.shape[2] != 4:
        return everything
    levels = _to_levels(sample).reshape(-1, 4)
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


# --- blur -----------------------------------------------------------------------------------------

BLUR_MIN_SIDE = 16
"""Pixels of the short side below which nothing is measured."""

REBLUR_SIGMA = 1.5
"""Sigma of the second blur, in averaged pixels: between a sharp edge (about 0.5) and a blurred one (3)."""

BLUR_EDGE_SHARE = 0.01
"""Share of the pixels, strongest gradients first, that count as edges: in a portrait with a blurred
background those are the ones in focus."""

BLUR_EDGE_LEVELS = 3.0
"""Levels a pixel below which a gradient is rounding or a smooth ramp, not an edge."""

BLUR_SHARPEST = 75
"""Percentile of the edges, by narrowness, whose width counts: one sharp quarter of the edges is enough."""

BLUR_MAX_SIGMA = 0.0029
"""Of the side. In the tuning set 97 % of the sharp pictures measured below 0.0018, and 97 % of those blurred by 0.006
of the width above 0.0043."""

EDGE_RISE = 2.56
"""A Gaussian edge climbs from 10 % to 90 % over so many sigmas."""


def _blur(pixels: _Pixels) -> _Finding:
    """Edge width by re-blurring: Zhuo and Sim, "Defocus map estimation from a single image", 2011.

    An edge of width s, blurred again by a known width b, loses the factor sqrt(1 + (b / s)**2) of its
    gradient; that factor at the strongest edges gives their width.
    """
    check = _Check("blur", "The finest edges are narrow", weight=2)
    sigma = _edge_sigma(pixels.work)
    if sigma is None:
        return check.passed("no edges to measure a width on", confidence=0.5)
    width, relative = sigma * pixels.factor * EDGE_RISE, sigma * pixels.factor / pixels.side
    evidence = (
        f"finest edges rise over {width:.1f} px",
        f"sigma {relative:.2%} of the image side, at most {BLUR_MAX_SIGMA:.2%}",
    )
    confidence = _confidence(relative, BLUR_MAX_SIGMA)
    if relative > BLUR_MAX_SIGMA:
        issue = f"blurred: finest detail {width:.0f} px wide"
        return check.failed(issue, evidence, confidence, remedy="sharp focus, crisp fine detail")
    return check.passed(f"sharp: finest detail {width:.1f} px wide", evidence, confidence, strength=True)


def _edge_sigma(work: Floats) -> float | None:
    """Blur of the sharpest edges as the sigma of a Gaussian in averaged pixels; None where there are no edges."""
    if min(work.shape) < BLUR_MIN_SIDE:
        return None
    before, after = _gradient(work), _gradient(_gaussian(work, REBLUR_SIGMA))
    edges = before >= max(BLUR_EDGE_LEVELS, float(np.quantile(before, 1 - BLUR_EDGE_SHARE)))
    if not edges.any():
        return None
    ratio = float(np.percentile(before[edges] / np.maximum(after[edges], 1e-3), BLUR_SHARPEST))
    return REBLUR_SIGMA / math.sqrt(max(ratio * ratio - 1, 1e-4))


def _gradient(plane: Floats) -> Floats:
    """Length of the gradient by central differences, in levels a pixel, (H - 2, W - 2)."""
    across = (plane[1:-1, 2:] - plane[1:-1, :-2]) * 0.5
    down = (plane[2:, 1:-1] - plane[:-2, 1:-1]) * 0.5
    return np.asarray(np.hypot(across, down), np.float32)


def _gaussian(plane: Floats, sigma: float) -> Floats:
    """Separable Gaussian, borders repeated, same shape."""
    reach = math.ceil(3 * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(plane, [(reach, reach) if axis == side else (0, 0) for side in (0, 1)], mode="edge")
        shifts = (padded.take(range(i, i + plane.shape[axis]), axis=axis) for i in range(len(taps)))
        plane = np.asarray(sum(tap * shift for tap, shift in zip(taps, shifts, strict=True)), np.float32)
    return plane


# --- exposure, contrast ---------------------------------------------------------------------------

DARK_TOP = 0.12
"""Of 1. An image whose brightest 0.1 % stays below it uses an eighth of the range; a night has lights in it."""

WHITE_LEVEL = 250
"""From here a channel is clipped: lossy files move white by a few levels."""

PAPER_LEVEL = 240
"""A pixel with all channels above is white. White may be a background, so it says nothing on its own."""

CLIPPED_SHARE = 0.40
COLOUR_CLIPPED_SHARE = 0.12
"""Clipped parts of the image, and of what is not white: where one channel of a colour is cut off, detail was.
Logos, line art and products on white are clipped in white only."""

DRAWN_GRADIENTS = (0.75, 60.0)
"""Levels a pixel. Where half of what is not white is flatter, pure colours are drawn, not blown out; where half is
steeper, it is text or line art."""

BLANK_SHARE = 0.985
"""White part above which next to nothing is left to see, not even a small logo."""

STRETCHED_SHARE = 0.08
"""Clipped part that is enough where the tones below white have been pulled apart by a gain."""

GAIN_STEPS = (3, 12)
GAIN_MIN_TONES = 12
GAIN_REGULAR = 0.9
GAIN_MIN_PIXELS = 2000
"""A gain on 8-bit tones leaves a comb of evenly spaced tones, here 3 to 12 levels apart (Stamm and Liu,
"Forensic detection of image manipulation using statistical intrinsic fingerprints", 2010). Palettes have few tones,
unevenly spaced. A gain on continuous tones leaves no comb: then only the clipped shares count."""


def _exposure(pixels: _Pixels) -> _Finding:
    check = _Check("exposure", "Tones are neither crushed into black nor cut off at white", weight=2)
    top = _quantile(_luma(pixels.tones), 0.999) / 255
    highest, lowest = pixels.tones.max(axis=1), pixels.tones.min(axis=1)
    clipped, gain = float((highest >= WHITE_LEVEL).mean()), _gain(highest)
    evidence = (
        f"brightest 0.1 % at {top:.2f} of 1, at least {DARK_TOP:.2f}",
        f"{clipped:.0%} with a channel clipped at white; {CLIPPED_SHARE:.0%} and more suits a white background only",
    )
    if top < DARK_TOP:
        issue = f"underexposed: nothing brighter than {top:.0%} of white"
        return check.failed(issue, evidence, _confidence(top, DARK_TOP), remedy="bright, well exposed, even lighting")
    remedy = "balanced exposure, detail kept in the highlights"
    if gain and clipped >= STRETCHED_SHARE:
        issue = f"overexposed: tones pulled {gain} levels apart, {clipped:.0%} of the picture clipped at white"
        return check.failed(issue, evidence, 0.9, remedy=remedy)
    if clipped >= CLIPPED_SHARE and (_blank(pixels.luma) or _blown_colours(pixels, highest, lowest)):
        issue = f"overexposed: {clipped:.0%} of the picture clipped at white"
        return check.failed(issue, evidence, _confidence(clipped, CLIPPED_SHARE), remedy=remedy)
    confidence = min(_confidence(top, DARK_TOP), 0.9)
    return check.passed(f"brightest tones at {top:.0%} of white, {clipped:.0%} clipped", evidence, confidence)


def _blank(luma: Bytes) -> bool:
    return _quantile(luma, 1 - BLANK_SHARE) >= WHITE_LEVEL


def _blown_colours(pixels: _Pixels, highest: Bytes, lowest: Bytes) -> bool:
    """Whether much of what is not white has a channel cut off, and is no drawing."""
    coloured = lowest < PAPER_LEVEL
    share = float((highest[coloured] >= WHITE_LEVEL).mean()) if coloured.any() else 0.0
    if share < COLOUR_CLIPPED_SHARE or min(pixels.work.shape) < BLUR_MIN_SIDE:
        return False
    inner = pixels.work[1:-1, 1:-1]
    drawn = _gradient(pixels.work)[(inner > 255 - PAPER_LEVEL) & (inner < WHITE_LEVEL)]
    return drawn.size > 0 and DRAWN_GRADIENTS[0] <= float(np.median(drawn)) <= DRAWN_GRADIENTS[1]


def _gain(tones: Bytes) -> int:
    """Levels between neighbouring tones where they are evenly spaced as after a gain, else 0."""
    counts = np.bincount(tones, minlength=256)[1:WHITE_LEVEL]
    used = np.flatnonzero(counts > max(3.0, 1e-4 * float(counts.sum())))
    if counts.sum() < GAIN_MIN_PIXELS or len(used) < GAIN_MIN_TONES:
        return 0
    steps = np.diff(used)
    step = int(np.median(steps))
    regular = float((np.abs(steps - step) <= 1).mean())
    return step if GAIN_STEPS[0] <= step <= GAIN_STEPS[1] and regular >= GAIN_REGULAR else 0


CONTRAST_MIN = 0.05
"""Of 1. Fog and soft gradients span more than this; below, a picture reads as an empty area."""


def _contrast(pixels: _Pixels) -> _Finding:
    check = _Check("contrast", "The tones span a visible range")
    spread = (_quantile(pixels.luma, 0.995) - _quantile(pixels.luma, 0.005)) / 255
    evidence = (f"99 % of the tones within {spread:.2f} of 1, at least {CONTRAST_MIN:.2f}",)
    confidence = _confidence(spread, CONTRAST_MIN)
    if spread < CONTRAST_MIN:
        issue = f"low contrast: the tones span {spread:.1%} of the range"
        return check.failed(issue, evidence, confidence, remedy="clear tonal contrast")
    return check.passed(f"contrast: tones span {spread:.0%} of the range", evidence, confidence, strength=True)


def _quantile(levels: Bytes, share: float) -> int:
    """Quantile of uint8 values by their histogram."""
    counts = np.cumsum(np.bincount(levels.ravel(), minlength=256))
    return int(np.searchsorted(counts, share * float(counts[-1])))


# --- noise ----------------------------------------------------------------------------------------

NOISE_PATCH = 16
"""Pixels: small enough to lie between textures, large enough for a mean of 196 values."""

NOISE_MAX_PATCHES = 64
"""Patches a side that are looked at."""

NOISE_QUIET = 20
"""Percentile of the patches, quietest first: noise is everywhere, texture is not."""

NOISE_MAX_SIGMA = 0.062
"""Of 1. Grass and gravel measured up to 0.036, film grain of sigma 0.05 up to 0.054."""


def _noise(pixels: _Pixels) -> _Finding:
    """Noise of the quiet patches: Immerkaer, "Fast noise variance estimation", 1996, patch by patch."""
    check = _Check("noise", "The quietest areas are free of strong noise", weight=2)
    patches = _patches(pixels.luma)
    if not patches.size:
        return check.unmeasured("the image is too small to measure noise")
    sigma = float(np.percentile(_noise_sigmas(patches), NOISE_QUIET)) / 255
    evidence = (f"noise of the quiet areas {sigma:.3f} of 1, at most {NOISE_MAX_SIGMA:.3f}",)
    confidence = _confidence(sigma, NOISE_MAX_SIGMA)
    if sigma > NOISE_MAX_SIGMA:
        issue = f"noisy: noise of {sigma:.0%} of the range even in the quietest areas"
        return check.failed(issue, evidence, confidence, remedy="clean, noise-free image")
    return check.passed(f"clean: noise of {sigma:.1%} of the range", evidence, confidence, strength=True)


def _noise_sigmas(patches: Floats) -> Floats:
    """Sigma of each patch (n, 16, 16), in levels: mean absolute response to Immerkaer's 3 x 3 mask."""
    rows = patches[:, :-2] - 2 * patches[:, 1:-1] + patches[:, 2:]
    mask = rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    return np.asarray(np.abs(mask).mean(axis=(1, 2)) * (math.sqrt(math.pi / 2) / 6), np.float32)


def _patches(luma: Bytes) -> Floats:
    """Up to about 64 x 64 patches, spread evenly, (n, 16, 16) float32; n = 0 for tiny images."""
    rows, columns = luma.shape[0] // NOISE_PATCH, luma.shape[1] // NOISE_PATCH
    grid = luma[: rows * NOISE_PATCH, : columns * NOISE_PATCH].reshape(rows, NOISE_PATCH, columns, NOISE_PATCH)
    down, across = max(1, rows // NOISE_MAX_PATCHES), max(1, columns // NOISE_MAX_PATCHES)
    patches = grid[::down, :, ::across].swapaxes(1, 2)
    return patches.reshape(-1, NOISE_PATCH, NOISE_PATCH).astype(np.float32)


# --- compression ----------------------------------------------------------------------------------

BLOCK = 8
"""Pixels of a JPEG block."""

BLOCK_MIN_SIDE = 64
BLOCK_LINES = 512
"""Lines that are looked at, spread evenly."""

BLOCK_MAX_RATIO = 2.0
"""In the tuning set untouched pictures measured up to 1.4, JPEG quality 30 mostly below 1.9, quality 3 mostly
above 2.2."""


def _compression(pixels: _Pixels) -> _Finding:
    """Blocking: steps on the 8 px grid against steps beside it, after Wang, Bovik and Evans (2000).

    The grid is looked for at every offset, so a crop hides nothing.
    """
    check = _Check("compression", "No visible 8 px block pattern of heavy compression", weight=2)
    luma = pixels.luma
    if min(pixels.size) < BLOCK_MIN_SIDE:
        return check.unmeasured("the image is too small to measure blocking")
    down, across = (max(1, side // BLOCK_LINES) for side in pixels.size)
    ratio = min(_grid_ratio(_column_steps(lines)) for lines in (luma[::down], luma[:, ::across].T))
    measured = f"steps on the 8 px grid {ratio:.2f} times those beside it"
    evidence = (f"{measured}, at most {BLOCK_MAX_RATIO:.2f}",)
    confidence = _confidence(ratio, BLOCK_MAX_RATIO)
    if ratio > BLOCK_MAX_RATIO and not _enlarged(pixels.rgb[::down]):
        issue = f"heavily compressed: steps on an 8 px grid {ratio:.1f} times those beside it"
        return check.failed(issue, evidence, confidence, remedy="clean image without compression artifacts")
    return check.passed(measured, evidence, confidence)


def _column_steps(plane: Bytes) -> Floats:
    """Mean step between neighbouring columns at each of eight offsets, ascending, (8,) in levels."""
    steps = np.abs(np.diff(plane.astype(np.int16), axis=1)).mean(axis=0)
    return np.asarray(np.sort(steps[: len(steps) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(axis=0)), np.float32)


def _grid_ratio(steps: Floats) -> float:
    """Steps at the strongest offset over those at the second strongest; half a level keeps flat areas from counting."""
    return float((steps[-1] + 0.5) / (steps[-2] + 0.5))


def _enlarged(rgb: Bytes) -> bool:
    """Whether each 8 px square has one exact colour, as in enlarged pixel art; JPEG leaves its waves in some."""
    return all(_column_steps(rgb[:, :, channel])[-2] == 0 for channel in range(rgb.shape[2]))


# --- resolution, references -----------------------------------------------------------------------

MIN_SHORT_SIDE = 256
"""Pixels. Below, an image is a thumbnail."""


def _resolution(pixels: _Pixels) -> _Finding:
    check = _Check("resolution", f"The short side has at least {MIN_SHORT_SIDE} px")
    height, width = pixels.size
    evidence = (
        f"{width} x {height} px, the short side at least {MIN_SHORT_SIDE}",
        f"{width * height / 1e6:.2f} megapixels",
    )
    if min(pixels.size) < MIN_SHORT_SIDE:
        issue = f"low resolution: {width} x {height} px, the short side is below {MIN_SHORT_SIDE} px"
        return check.failed(issue, evidence)
    return check.passed(f"resolution: {width} x {height} px", evidence, strength=True)


HASH_SIDE = 16
DUPLICATE_BITS = 0.10
"""Share of differing hash bits; those of unrelated pictures differ in a third to a half."""

DUPLICATE_LEVELS = 16.0
"""Mean difference of the small copies, of 255."""


def _near_duplicate(pixels: _Pixels, references: Sequence[Array]) -> _Finding:
    """Difference hash (N. Krawetz, "Kind of like that", 2013) and difference of small copies.

    Reported, never failing; it says nothing about who or what is shown.
    """
    check = _Check("reference_similarity", "Whether the pixels nearly equal a reference (information)", weight=0)
    own = _thumbnail(pixels.rgb)
    apart = [_difference(own, _thumbnail(_prepare(_finite(reference)).rgb)) for reference in references]
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


_CHECKS: tuple[Callable[[_Pixels], _Finding], ...] = (
    _blur, _exposure, _contrast, _noise, _compression, _resolution,
)  # fmt: skip


# --- writing it down ------------------------------------------------------------------------------


def _confidence(value: float, threshold: float) -> float:
    """0.5 at the threshold, 1 where the value is half or twice of it."""
    return round(0.5 + 0.5 * min(1.0, abs(math.log2(max(value, 1e-9) / threshold))), 2)


def _evaluation(findings: Sequence[_Finding], prompt: str, milliseconds: float) -> Evaluation:
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
        top_issues=[finding.text for finding in failed],
        top_strengths=[finding.text for finding in findings if finding.strength],
        judges=[_judge(finding) for finding in findings],
        gate_failures=[GateFailure(module=f.check.name, reason=f.text) for f in failed if f.check.gate],
        action=action,
        primary_action_code=action.primary_action,
        generation_prompt=prompt,
        eval_duration_ms=round(milliseconds, 3),
        cost=Decimal(0),
    )


def _pass_rate(findings: Sequence[_Finding]) -> float:
    """Weighted share of the passed checks among the measured ones; a failed gate leaves nothing worth a share."""
    measured = [finding for finding in findings if finding.passed is not None]
    if any(finding.check.gate and not finding.passed for finding in measured):
        return 0.0
    return round(sum(f.check.weight for f in measured if f.passed) / sum(f.check.weight for f in measured), 4)


def _judge(finding: _Finding) -> JudgeOpinion:
    issue = JudgeIssue(category="pixels", subcategory=finding.check.name, detail=finding.text)
    return JudgeOpinion(
        name=finding.check.name,
        description=finding.check.description,
        category="pixels",
        passed=finding.passed,
        confidence=finding.confidence,
        weight=finding.check.weight,
        reasoning=f"{finding.text[0].upper()}{finding.text[1:]}.",
        evidence=list(finding.evidence),
        issues=[issue] if finding.passed is False else [],
    )


def _improved(prompt: str, remedies: Sequence[str]) -> str:
    """The prompt with what it does not ask for yet; where there is no prompt there is nothing to improve."""
    if not prompt.strip():
        return prompt
    for remedy in remedies:
        if remedy.lower() not in prompt.lower():
            prompt = f"{prompt.rstrip().rstrip('.,')}, {remedy}"
    return prompt
