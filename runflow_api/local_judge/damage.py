"""Checks for pictures that came apart: cut off, noise in a part, single wrong pixels, mosaics, scan lines, motion blur.

Each measure is one that sound pictures do not reach, drawings and pixel art included; what was measured on pictures
that the thresholds were not chosen on is in ``benchmarks/LOCAL_JUDGE.md``.
"""

from __future__ import annotations

import math

import numpy as np

from .checks import Check, Finding, confidence_of
from .pixels import Bytes, Floats, Pixels, gaussian, gradients, quantile_between

# --- cut off --------------------------------------------------------------------------------------

CUT_SHARE = 0.12
"""Of the height or width: a flat band at one edge that is at least so large."""

CUT_LEVELS = 2
"""The band's colours stay within so many of 255 levels: rounding and compression move them by one."""

CUT_STEP_ROWS = 32
"""Rows before the band that are looked at: a decoder stops within a row of blocks, so its border may be a staircase."""

CUT_DIFFERENT = 0.4
CUT_TEXTURED = 0.3
"""Shares of the border along which the picture must differ from the band, and be textured: not paper, not a drawing."""

OTHER_BAND = 0.3
"""An opposite band of at least this share of the first makes both the bars of a film."""


def cut_off(pixels: Pixels) -> Finding:
    """A flat band at one edge, against a textured picture: the lower half black, or a decode that stopped in grey."""
    check = Check("cut_off", "The picture goes on to its edges", weight=2, is_rare=True)
    if min(pixels.size) < 2 * CUT_STEP_ROWS:
        return check.unmeasured("the image is too small to look for a cut")
    views = {"bottom": pixels.rgb, "top": pixels.rgb[::-1]}
    turned = pixels.rgb.transpose(1, 0, 2)
    views |= {"right": turned, "left": turned[::-1]}
    bands = {name: _flat_rows(view) for name, view in views.items()}
    opposite = {"bottom": "top", "top": "bottom", "left": "right", "right": "left"}
    for name, view in views.items():
        rows, share = bands[name], bands[name] / len(view)
        is_bar = bands[opposite[name]] >= OTHER_BAND * rows
        if CUT_SHARE <= share < 1 and not is_bar and _ends_a_picture(view, rows):
            evidence = (f"flat over {share:.0%} from the {name}, at most {CUT_SHARE:.0%} beside a textured picture",)
            issue = f"cut off: {share:.0%} of the picture, from the {name}, is one flat colour"
            return check.failed(issue, evidence, 0.9)
    return check.passed("no edge ends in a flat band", confidence=0.9)


def _flat_rows(view: Bytes) -> int:
    """Rows from the end of ``view`` (H, W, C) that are within ``CUT_LEVELS`` of its last one."""
    last = view[-1].astype(np.int16)
    if int(np.ptp(last, axis=0).max()) > CUT_LEVELS:
        return 0
    colour = np.median(last, axis=0)
    step = max(1, view.shape[1] // 256)
    apart = np.abs(view[::-1, ::step].astype(np.int16) - colour).max(axis=(1, 2))
    return len(view) if (apart <= CUT_LEVELS).all() else int(np.argmax(apart > CUT_LEVELS))


def _ends_a_picture(view: Bytes, rows: int) -> bool:
    """Whether what is before the band differs from it nearly everywhere along the border, and is textured."""
    end = len(view) - rows
    before = view[max(0, end - CUT_STEP_ROWS) : max(1, end - CUT_STEP_ROWS // 2)].astype(np.int16)
    colour = np.median(view[-1].astype(np.int16), axis=0)
    different = float((np.abs(before - colour).max(axis=2) > 4 * CUT_LEVELS).mean())
    textured = float((np.abs(np.diff(before, axis=1)).max(axis=2) > 0).mean())
    return different >= CUT_DIFFERENT and textured >= CUT_TEXTURED


# --- noise in a part, single wrong pixels ---------------------------------------------------------

WHITE_PATCH = 16
WHITE_SIGMA = 20.0
"""Levels a patch must vary by: flat areas have no texture to tell from noise."""

WHITE_CORRELATION = 0.2
"""Between neighbouring pixels: that of textures is higher, also of grass and gravel."""

WHITE_SHARE = 0.06
"""Of the patches."""


def noise_in_a_part(pixels: Pixels) -> Finding:
    """Patches whose neighbouring pixels have nothing to do with each other: white noise, as a broken latent gives."""
    check = Check("white_noise", "Neighbouring pixels belong together", weight=2, is_rare=True)
    plane = pixels.green
    rows, columns = plane.shape[0] // WHITE_PATCH, plane.shape[1] // WHITE_PATCH
    if rows * columns < 16:
        return check.unmeasured("the image is too small to look for noise in a part of it")
    down, across = max(1, rows // 64), max(1, columns // 64)
    grid = plane[: rows * WHITE_PATCH, : columns * WHITE_PATCH].reshape(rows, WHITE_PATCH, columns, WHITE_PATCH)
    patches = grid[::down, :, ::across].swapaxes(1, 2).reshape(-1, WHITE_PATCH, WHITE_PATCH).astype(np.float32)
    patches = patches - patches.mean(axis=(1, 2), keepdims=True)
    power = (patches * patches).mean(axis=(1, 2)) + 1e-6
    beside = (patches[:, :, 1:] * patches[:, :, :-1]).mean(axis=(1, 2)) / power
    below = (patches[:, 1:] * patches[:, :-1]).mean(axis=(1, 2)) / power
    white = (np.sqrt(power) >= WHITE_SIGMA) & (np.maximum(np.abs(beside), np.abs(below)) < WHITE_CORRELATION)
    share = float(white.mean())
    evidence = (f"{share:.1%} of the patches are white noise, at most {WHITE_SHARE:.0%}",)
    if share > WHITE_SHARE:
        return check.failed(
            f"noisy: in {share:.0%} of the picture neighbouring pixels have nothing in common", evidence, 0.9
        )
    return check.passed("no part is noise", evidence, 0.9)


OUTLIER_LEVELS = 70
OUTLIER_SHARE = 0.010
"""Of the pixels. Stars and sparkles are fewer; what 5 % of salt and pepper leaves alone is about 3 %."""


def single_pixels(pixels: Pixels) -> Finding:
    """Pixels at an end of the range that none of the eight around them comes near: salt and pepper."""
    check = Check("single_pixels", "No pixels that stand alone", weight=2, is_rare=True)
    height, width = pixels.size
    if min(height, width) < 16:
        return check.unmeasured("the image is too small to look for single pixels")
    step = max(1, height // 1024)
    share = max(_alone(pixels.rgb[:, :, channel], step) for channel in range(pixels.rgb.shape[2]))
    evidence = (f"{share:.2%} of the pixels stand alone, at most {OUTLIER_SHARE:.0%}",)
    if share > OUTLIER_SHARE:
        issue = f"noisy: {share:.1%} of the pixels are single black or white ones"
        return check.failed(issue, evidence, confidence_of(share, OUTLIER_SHARE), remedy="clean, noise-free image")
    return check.passed("no single pixels", evidence, confidence_of(max(share, 1e-4), OUTLIER_SHARE))


def _alone(plane: Bytes, step: int) -> float:
    """Share of the pixels of every ``step``-th row that are extreme and unlike all eight neighbours."""
    centre = plane[1:-1:step, 1:-1].astype(np.int16)
    rows = len(centre)
    nearest = np.full(centre.shape, 255, np.int16)
    for down in (0, 1, 2):
        for across in (0, 1, 2):
            if (down, across) != (1, 1):
                row = plane[down : down + (rows - 1) * step + 1 : step, across : across + centre.shape[1]]
                np.minimum(nearest, np.abs(row.astype(np.int16) - centre), out=nearest)
    extreme = (centre <= 3) | (centre >= 252)
    return float((extreme & (nearest > OUTLIER_LEVELS)).mean())


# --- mosaics, scan lines --------------------------------------------------------------------------

CELL_MIN = 20
"""Pixels: smaller cells are those of pixel art."""

CELLS_MIN = 25
"""Fewer are a colour chart."""

CELL_COLOURS = 0.7
"""Colours for each cell: a sprite has a palette, a photograph behind a mosaic has nearly one for each."""


def mosaic(pixels: Pixels) -> Finding:
    """Large square cells of one colour each, with nearly as many colours: a picture behind a mosaic."""
    check = Check("mosaic", "No large cells of one colour", weight=2, is_rare=True)
    cells = [_cell(np.abs(np.diff(view.astype(np.int16), axis=1)).max(axis=2)) for view in _both_ways(pixels.rgb)]
    if cells[0] is None or cells[1] is None:
        return check.passed("no large cells of one colour", confidence=0.9)
    (left, wide), (top, high) = cells[0], cells[1]
    middles = pixels.rgb[top % high + high // 2 :: high, left % wide + wide // 2 :: wide]
    colours = len(np.unique(middles.reshape(-1, middles.shape[2]), axis=0))
    count = middles.shape[0] * middles.shape[1]
    measured = f"cells of {wide} x {high} px, {colours} colours in {count}"
    if count >= CELLS_MIN and colours >= CELL_COLOURS * count:
        return check.failed(f"pixelated: {measured}", (measured,), 0.9, remedy="fine detail")
    return check.passed(measured, confidence=0.7)


def _both_ways(rgb: Bytes) -> tuple[Bytes, Bytes]:
    return rgb, rgb.transpose(1, 0, 2)


def _cell(steps: np.ndarray) -> tuple[int, int] | None:
    """(first border, distance) where what changes along a row does so at regular columns only, in pixels."""
    changes = (steps[:: max(1, len(steps) // 256)] > 2).mean(axis=0)
    borders = np.flatnonzero(changes > 0.02)
    if not 3 <= len(borders) <= steps.shape[1] // CELL_MIN or changes.sum() == 0:
        return None
    gaps = np.diff(borders)
    distance = int(np.median(gaps))
    if distance < CELL_MIN or (np.abs(gaps / distance - np.round(gaps / distance)) * distance > 1.01).any():
        return None
    return int(borders[0]) + 1, distance


LINES_PERIOD = 10
"""Pixels, at most: slower waves are content, such as blinds or lines of text."""

LINES_STRIPS = 12
LINES_LEVELS = 2.5
"""Amplitude of one wave, in levels."""

LINES_RATIO = 60.0
"""Power of the wave over that of a usual one."""


def scan_lines(pixels: Pixels) -> Finding:
    """One fine wave of rows, or columns, over the whole picture: lines of a broken decode or an interlaced source."""
    check = Check("scan_lines", "No fine lines across the whole picture", weight=2, is_rare=True)
    if min(pixels.size) < 128:
        return check.unmeasured("the image is too small to look for lines")
    amplitude, period, name = max((*_wave(pixels.luma), "rows"), (*_wave(pixels.luma.T), "columns"))
    if amplitude > 0:
        measured = f"{name} darker and lighter every {period:.1f} px, by {amplitude:.0f} levels"
        return check.failed(f"scan lines: {measured}", (measured,), 0.9, remedy="clean image without lines")
    return check.passed("no fine lines", confidence=0.9)


def _wave(plane: Bytes) -> tuple[float, float]:
    """Amplitude in levels and period in rows of a wave that is in nearly every strip; (0, 0) if there is none."""
    strips = np.array_split(plane, LINES_STRIPS, axis=1)
    rows = np.stack([strip.mean(axis=1, dtype=np.float32) for strip in strips])
    curved = rows[:, 1:-1] - (rows[:, :-2] + rows[:, 2:]) / 2
    window = np.hanning(curved.shape[1]).astype(np.float32)
    power = np.abs(np.fft.rfft(curved * window, axis=1)) ** 2
    first = math.ceil(curved.shape[1] / LINES_PERIOD)
    slow, fast = power[:, 2:first], power[:, first:]
    peak = int(np.argmax(fast.sum(axis=0)))
    usual = np.median(fast, axis=1) + 1e-9
    if slow.size and float((slow.max(axis=1) / usual >= LINES_RATIO).mean()) >= 0.5:
        return 0.0, 0.0  # an overtone of something larger that repeats: squares, blinds, lines of text
    near = fast[:, max(0, peak - 1) : peak + 2].max(axis=1)
    frequency = (peak + first) / curved.shape[1]
    gain = 1 - math.cos(2 * math.pi * frequency)
    amplitude = float(np.median(np.sqrt(near))) * 2 / float(window.sum()) / max(gain, 1e-3)
    strong = float((near / usual >= LINES_RATIO).mean())
    return (amplitude, 1 / frequency) if strong >= 0.8 and amplitude >= LINES_LEVELS else (0.0, 0.0)


# --- motion blur ----------------------------------------------------------------------------------

MOTION_SIGMA = 0.0027
"""Of the side: how wide the sharpest edges of one direction may be. Sound pictures measured below 0.0022."""

MOTION_RATIO = 1.35
"""Over those of the sharpest direction: a picture that is soft all over is blurred, not moved."""

MOTION_EDGES = 200
MOTION_TEXTURE = 0.55
"""Levels a pixel that half of the picture must change by: drawings and depth maps have few edges, in few directions."""

RE_BLUR = 1.5


def motion_blur(pixels: Pixels) -> Finding:
    """Edges across one direction that are all wide, while those across another are sharp."""
    check = Check("motion_blur", "Edges are narrow in every direction", weight=2, is_rare=True)
    sigmas = _sigmas_by_direction(pixels.work)
    if len(sigmas) < 2:
        return check.unmeasured("there are edges in one direction only, or none")
    widest, narrowest = (pick(sigmas) * pixels.factor / pixels.side for pick in (max, min))
    evidence = (f"edges of sigma {narrowest:.2%} to {widest:.2%} of the image side, by direction",)
    if widest > MOTION_SIGMA and widest > MOTION_RATIO * narrowest:
        issue = f"motion blur: edges {widest / narrowest:.1f} times wider in one direction than in another"
        return check.failed(issue, evidence, 0.8, remedy="sharp focus, no motion blur")
    return check.passed("edges are as narrow in every direction", evidence, 0.8)


def _sigmas_by_direction(work: Floats) -> list[float]:
    """The blur of the sharpest edges across each of four directions, as in ``checks.edge_sigma``."""
    if min(work.shape) < 64:
        return []
    across, down = gradients(work)
    length = np.hypot(across, down)
    if float(np.median(length)) < MOTION_TEXTURE:
        return []
    after = np.hypot(*gradients(gaussian(work, RE_BLUR)))
    angle = np.arctan2(down, across)
    edges = length >= max(3.0, quantile_between(length, 0.90))
    sigmas = []
    for direction in range(4):
        off = np.abs(np.angle(np.exp(2j * (angle - direction * math.pi / 4)))) / 2
        chosen = edges & (off < math.pi / 16)
        if int(chosen.sum()) < MOTION_EDGES:
            continue
        ratio = quantile_between(length[chosen] / np.maximum(after[chosen], 1e-3), 0.75)
        sigmas.append(RE_BLUR / math.sqrt(max(ratio * ratio - 1, 1e-4)))
    return sigmas


CHECKS = (cut_off, noise_in_a_part, single_pixels, mosaic, scan_lines, motion_blur)
