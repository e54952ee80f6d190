"""The checks of the local judge: each asks the pixels one question and gives a ``Finding``.

The measures are published ones, named where they are used; each threshold stands beside its rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .pixels import (
    BLUR_MIN_SIDE,
    FLAT_LEVELS,
    Array,
    Bytes,
    Floats,
    Pixels,
    gaussian,
    gradient,
    quantile,
    quantile_between,
    to_levels,
)


@dataclass(frozen=True)
class Finding:
    """What one check found. ``passed`` is None if there was nothing to measure."""

    check: Check
    passed: bool | None
    text: str
    evidence: tuple[str, ...] = ()
    confidence: float = 1.0
    remedy: str = ""
    strength: bool = False
    said: bool = False
    """Whether it stands among the issues although nothing failed."""

    @property
    def weight(self) -> float:
        """What it counts in the score."""
        return 0.0 if self.passed and self.check.is_rare else self.check.weight


@dataclass(frozen=True)
class Check:
    """One question to the pixels, and the ways to answer it."""

    name: str
    description: str
    weight: float = 1.0
    gate: bool = False
    is_rare: bool = False
    """A damage so rare that its absence says nothing: it counts in the score only if it is found."""

    def passed(
        self, text: str, evidence: tuple[str, ...] = (), confidence: float = 1.0, *, strength: bool = False
    ) -> Finding:
        return Finding(self, True, text, evidence, confidence, strength=strength)

    def failed(
        self, issue: str, evidence: tuple[str, ...] = (), confidence: float = 1.0, *, remedy: str = ""
    ) -> Finding:
        """``remedy`` is what a prompt can ask for; empty if no prompt fixes it."""
        return Finding(self, False, issue, evidence, confidence, remedy=remedy)

    def unmeasured(self, text: str) -> Finding:
        return Finding(self, None, text, confidence=0.0)

    def reported(self, text: str) -> Finding:
        """Not measured, and worth saying all the same."""
        return Finding(self, None, text, confidence=0.0, said=True)


def confidence_of(value: float, threshold: float) -> float:
    """0.5 at the threshold, 1 where the value is half or twice of it."""
    return round(0.5 + 0.5 * min(1.0, abs(math.log2(max(value, 1e-9) / threshold))), 2)


# --- gates: what makes an image unusable ----------------------------------------------------------


def find_broken(image: Array) -> list[Finding]:
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


def _finiteness(image: Array, finite: bool) -> Finding:
    check = Check("non_finite", "Every value is a finite number", gate=True)
    if finite:
        return check.passed("all values are finite numbers")
    wrong = ~np.isfinite(image)
    channels = ", ".join(str(channel) for channel in np.flatnonzero(wrong.any(axis=(0, 1))))
    count = int(wrong.sum())
    evidence = (f"{count} of {image.size} values", f"in channel {channels}")
    return check.failed(f"broken: {count} of {image.size} values are not finite (NaN or infinity)", evidence)


def _flatness(low: Array, high: Array) -> Finding:
    check = Check("flat_colour", "The image is more than one flat colour", gate=True)
    first, last = (to_levels(levels).astype(int) for levels in (low, high))
    spread, hidden = int((last - first).max()), len(last) == 4 and last[3] == 0
    measured = f"values span {spread} of 255 levels"
    evidence = (f"{measured}, more than {FLAT_LEVELS}",)
    if hidden:
        return check.failed("one flat colour: every pixel is transparent", evidence)
    if spread <= FLAT_LEVELS:
        colour = ", ".join(str(level) for level in last)
        return check.failed(f"one flat colour: every pixel is ({colour}) of 255", evidence)
    return check.passed(measured, evidence)


# --- blur ---

REBLUR_SIGMA = 1.5
"""Sigma of the second blur, in averaged pixels: between a sharp edge (about 0.5) and a blurred one (3)."""

BLUR_EDGE_SHARE = 0.01
"""Share of the pixels, strongest gradients first, that count as edges: in a portrait with a blurred
background those are the ones in focus."""

BLUR_EDGE_LEVELS = 3.0
"""Levels a pixel below which a gradient is rounding or a smooth ramp, not an edge."""

BLUR_SHARPEST = 0.75
"""Quantile of the edges, by narrowness, whose width counts: one sharp quarter of the edges is enough."""

BLUR_MAX_SIGMA = 0.0029
"""Of the side. In the tuning set 97 % of the sharp pictures measured below 0.0018, and 97 % of those blurred by 0.006
of the width above 0.0043."""

BLUR_MIN_SIGMA_PX = 0.9
"""The sharpest edge that pixels can show measures 0.6, so that no picture is blurred for being small."""

EDGE_RISE = 2.56
"""A Gaussian edge climbs from 10 % to 90 % over so many sigmas."""


def _blur(pixels: Pixels, ease: float) -> Finding:
    """Edge width by re-blurring: Zhuo and Sim, "Defocus map estimation from a single image", 2011.

    An edge of width s, blurred again by a known width b, loses the factor sqrt(1 + (b / s)**2) of its
    gradient; that factor at the strongest edges gives their width.
    """
    check = Check("blur", "The finest edges are narrow", weight=2)
    sigma = _edge_sigma(pixels.work)
    if sigma is None:
        return check.passed("no edges to measure a width on", confidence=0.5)
    width, relative = sigma * pixels.factor * EDGE_RISE, sigma * pixels.factor / pixels.side
    limit = max(BLUR_MAX_SIGMA * ease, BLUR_MIN_SIGMA_PX / pixels.side)
    evidence = (
        f"finest edges rise over {width:.1f} px",
        f"sigma {relative:.2%} of the image side, at most {limit:.2%}",
    )
    confidence = confidence_of(relative, limit)
    if relative > limit:
        issue = f"blurred: finest detail {width:.0f} px wide"
        return check.failed(issue, evidence, confidence, remedy="sharp focus, crisp fine detail")
    return check.passed(f"sharp: finest detail {width:.1f} px wide", evidence, confidence, strength=True)


def _edge_sigma(work: Floats) -> float | None:
    """Blur of the sharpest edges as the sigma of a Gaussian in averaged pixels; None if there are no edges."""
    if min(work.shape) < BLUR_MIN_SIDE:
        return None
    before, after = gradient(work), gradient(gaussian(work, REBLUR_SIGMA))
    edges = before >= max(BLUR_EDGE_LEVELS, quantile_between(before, 1 - BLUR_EDGE_SHARE))
    if not edges.any():
        return None
    ratio = quantile_between(before[edges] / np.maximum(after[edges], 1e-3), BLUR_SHARPEST)
    return REBLUR_SIGMA / math.sqrt(max(ratio * ratio - 1, 1e-4))


# --- exposure, contrast ---

DARK_TOP = 0.16
"""Of 1. An image whose brightest 0.1 %, in their strongest channel, stay below it uses a sixth of the range; a night
has lights in it, and blue on black is not dark."""

WHITE_LEVEL = 250
"""From here a channel is clipped: lossy files move white by a few levels."""

CLIPPED_LOWEST = 64
"""A pixel whose weakest channel is below is a saturated colour, not one cut off at white."""

PAPER_LEVEL = 240
"""A pixel with all channels above is white. White may be a background, so it says nothing on its own."""

CLIPPED_SHARE = 0.40
COLOUR_CLIPPED_SHARE = 0.12
"""Clipped parts of the image, and of what is not white: if one channel of a colour is cut off, detail was.
Logos, line art and products on white are clipped in white only."""

DRAWN_GRADIENTS = (0.75, 60.0)
"""Levels a pixel. If half of what is not white is flatter, pure colours are drawn, not blown out; if half is
steeper, it is text or line art."""

LETTERING_GRADIENT = 30.0
"""Levels a pixel, on a nearly white page: where half of the rest is steeper, it is lettering, and nothing was lost."""

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


def _exposure(pixels: Pixels, ease: float) -> Finding:
    check = Check("exposure", "Tones are neither crushed into black nor cut off at white", weight=2)
    darkest, most_clipped = DARK_TOP / ease, CLIPPED_SHARE * ease
    highest, lowest = pixels.tones.max(axis=1), pixels.tones.min(axis=1)
    top = quantile(highest, 0.999) / 255
    cut = (highest >= WHITE_LEVEL) & (lowest >= CLIPPED_LOWEST)
    clipped, gain = float(cut.mean()), _gain(highest)
    evidence = (
        f"brightest 0.1 % at {top:.2f} of 1, at least {darkest:.2f}",
        f"{clipped:.0%} with a channel clipped at white; {most_clipped:.0%} and more fits a white background only",
    )
    if top < darkest:
        issue = f"underexposed: nothing brighter than {top:.0%} of white"
        return check.failed(issue, evidence, confidence_of(top, darkest), remedy="bright, well exposed, even lighting")
    remedy = "balanced exposure, detail kept in the highlights"
    stretched = float((highest >= WHITE_LEVEL).mean())
    if gain and stretched >= STRETCHED_SHARE * ease:
        issue = f"overexposed: tones pulled {gain} levels apart, {stretched:.0%} of the picture clipped at white"
        return check.failed(issue, evidence, 0.9, remedy=remedy)
    if clipped >= most_clipped and _is_blown_out(pixels, cut, lowest):
        issue = f"overexposed: {clipped:.0%} of the picture clipped at white"
        return check.failed(issue, evidence, confidence_of(clipped, most_clipped), remedy=remedy)
    confidence = min(confidence_of(top, darkest), 0.9)
    return check.passed(f"brightest tones at {top:.0%} of white, {clipped:.0%} clipped", evidence, confidence)


def _is_blown_out(pixels: Pixels, cut: Array, lowest: Bytes) -> bool:
    """Whether next to nothing is left, or much of what is not white has channels cut off, and it is not a drawing."""
    coloured = lowest < PAPER_LEVEL
    share = float(cut[coloured].mean()) if coloured.any() else 0.0
    is_blank = quantile(pixels.luma, 1 - BLANK_SHARE) >= WHITE_LEVEL
    if (share < COLOUR_CLIPPED_SHARE and not is_blank) or min(pixels.work.shape) < BLUR_MIN_SIDE:
        return False
    plane = pixels.luma.astype(np.float32) if is_blank else pixels.work  # averaging would wash thin lettering out
    inner = plane[1:-1, 1:-1]
    left = gradient(plane)[(inner > 255 - PAPER_LEVEL) & (inner < WHITE_LEVEL)]
    steepest = DRAWN_GRADIENTS[1] if not is_blank else LETTERING_GRADIENT
    if left.size == 0:
        return is_blank and not bool((inner <= 255 - PAPER_LEVEL).any())
    return DRAWN_GRADIENTS[0] <= float(np.median(left)) <= steepest


def _gain(tones: Bytes) -> int:
    """Levels between neighbouring tones if they are evenly spaced as after a gain, otherwise 0."""
    counts = np.bincount(tones, minlength=256)[1:WHITE_LEVEL]
    used = np.flatnonzero(counts > max(3.0, 1e-4 * float(counts.sum())))
    if counts.sum() < GAIN_MIN_PIXELS or len(used) < GAIN_MIN_TONES:
        return 0
    steps = np.diff(used)
    step = int(np.median(steps))
    regular = float((np.abs(steps - step) <= 1).mean())
    return step if GAIN_STEPS[0] <= step <= GAIN_STEPS[1] and regular >= GAIN_REGULAR else 0


CONTRAST_MIN_DARK = 0.05
"""Of 1, for 99 % of the luma. This alone holds for what is underexposed, which is said by itself."""

CONTRAST_MIN = 0.085
"""Of 1, in the channel that spans most. Fog, soft gradients and a night with its lights span more."""


def _contrast(pixels: Pixels, ease: float) -> Finding:
    check = Check("contrast", "The tones span a visible range")
    spread, least = (quantile(pixels.luma, 0.995) - quantile(pixels.luma, 0.005)) / 255, CONTRAST_MIN_DARK
    if quantile(pixels.tones.max(axis=1), 0.999) >= DARK_TOP * 255:
        channels = [pixels.tones[:, channel] for channel in range(pixels.tones.shape[1])]
        spread = max(quantile(each, 0.999) - quantile(each, 0.001) for each in channels) / 255
        least = CONTRAST_MIN
    least /= ease
    evidence = (f"nearly all tones within {spread:.2f} of 1, at least {least:.3f}",)
    confidence = confidence_of(spread, least)
    if spread < least:
        issue = f"low contrast: the tones span {spread:.1%} of the range"
        return check.failed(issue, evidence, confidence, remedy="clear tonal contrast")
    return check.passed(f"contrast: tones span {spread:.0%} of the range", evidence, confidence, strength=True)


# --- noise ---

NOISE_PATCH = 16
"""Pixels: small enough to lie between textures, large enough for a mean of 196 values."""

NOISE_MAX_PATCHES = 64
"""Patches a side that are looked at."""

NOISE_QUIET = 0.20
"""Quantile of the patches, quietest first: noise is everywhere, texture is not."""

NOISE_MAX_SIGMA = 0.062
"""Of 1. Grass and gravel measured up to 0.036, film grain of sigma 0.05 up to 0.054."""


def _noise(pixels: Pixels, ease: float) -> Finding:
    """Noise of the quiet patches: Immerkaer, "Fast noise variance estimation", 1996, patch by patch."""
    check = Check("noise", "The quietest areas are free of strong noise", weight=2)
    patches = _patches(pixels.luma)
    if not patches.size:
        return check.unmeasured("the image is too small to measure noise")
    sigma = quantile_between(_noise_sigmas(patches), NOISE_QUIET) / 255
    limit = NOISE_MAX_SIGMA * ease
    evidence = (f"noise of the quiet areas {sigma:.3f} of 1, at most {limit:.3f}",)
    confidence = confidence_of(sigma, limit)
    if sigma > limit:
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


# --- compression ---

BLOCK = 8
"""Pixels of a JPEG block."""

BLOCK_MIN_SIDE = 64
BLOCK_LINES = 512
"""Lines that are looked at, spread evenly."""

BLOCK_MAX_RATIO = 2.0
"""In the tuning set untouched pictures measured up to 1.4, JPEG quality 30 mostly below 1.9, quality 3 mostly
above 2.2."""


def _compression(pixels: Pixels, ease: float) -> Finding:
    """Blocking: steps on the 8 px grid against steps beside it, after Wang, Bovik and Evans (2000).

    The grid is looked for at every offset, so a crop hides nothing.
    """
    check = Check("compression", "No visible 8 px block pattern of heavy compression", weight=2)
    luma = pixels.luma
    if min(pixels.size) < BLOCK_MIN_SIDE:
        return check.unmeasured("the image is too small to measure blocking")
    down, across = (max(1, side // BLOCK_LINES) for side in pixels.size)
    ratio = min(_grid_ratio(_column_steps(lines)) for lines in (luma[::down], luma[:, ::across].T))
    limit = BLOCK_MAX_RATIO * ease
    measured = f"steps on the 8 px grid {ratio:.2f} times those beside it"
    evidence = (f"{measured}, at most {limit:.2f}",)
    confidence = confidence_of(ratio, limit)
    if ratio > limit and not _enlarged(pixels.rgb[::down]):
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


# --- resolution ---

MIN_SHORT_SIDE = 256
"""Pixels. Below, an image is a thumbnail."""


def _resolution(pixels: Pixels, ease: float) -> Finding:
    least = round(MIN_SHORT_SIDE / ease)
    check = Check("resolution", f"The short side has at least {least} px")
    height, width = pixels.size
    evidence = (
        f"{width} x {height} px, the short side at least {least}",
        f"{width * height / 1e6:.2f} megapixels",
    )
    if min(pixels.size) < least:
        issue = f"low resolution: {width} x {height} px, the short side is below {least} px"
        return check.failed(issue, evidence)
    return check.passed(f"resolution: {width} x {height} px", evidence, strength=True)


CHECKS: dict[str, Callable[[Pixels, float], Finding]] = {
    "blur": _blur,
    "exposure": _exposure,
    "contrast": _contrast,
    "noise": _noise,
    "compression": _compression,
    "resolution": _resolution,
}
EASE = {"strict": 0.7, "normal": 1.0, "lenient": 1.6}
"""What every limit is multiplied by, or divided by where it is a least. What was measured was measured at 1; grain,
bokeh and night shots that somebody wants lie up to half beyond that."""
