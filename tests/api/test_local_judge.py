"""The embedded judge on pictures made here: a texture like a photograph, its damages, and what is not damage."""

from __future__ import annotations

import functools
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from runflow_api.api.models import Evaluation
from runflow_api.errors import InvalidInputError
from runflow_api.images import encode_lossless, to_pixels
from runflow_api.local_judge import judge as local_judge
from runflow_api.local_judge.pixels import quantile_between

GATES = ["non_finite", "flat_colour"]
RARE = ["cut_off", "white_noise", "single_pixels", "mosaic", "scan_lines", "motion_blur"]
FULL = [*GATES, "blur", "exposure", "contrast", "noise", "compression", "resolution", *RARE]


@functools.cache
def photograph(side: int = 512, *, seed: int = 7, colours: bool = True) -> np.ndarray:
    """Overlapping shaded objects with sharp outlines and 1/f texture in each, (side, side, 3) float32 of 0..1."""
    rng = np.random.default_rng(seed)
    picture = np.full((side, side, 3), 0.45, np.float32)
    for _ in range(60):
        mask = Image.new("L", (side, side))
        x, y, radius = rng.integers(0, side), rng.integers(0, side), rng.integers(side // 20, side // 4)
        ImageDraw.Draw(mask).ellipse([int(x - radius), int(y - radius), int(x + radius), int(y + radius)], fill=255)
        inside = np.asarray(mask, np.float32)[:, :, None] / 255
        tone = rng.uniform(0.05, 0.9, 3 if colours else 1).astype(np.float32)
        picture = picture * (1 - inside) + inside * tone
    shaded = picture + 0.05 * texture(side, rng)[:, :, None]
    finished = np.clip(shaded, 0, 1).astype(np.float32)
    finished.flags.writeable = False
    return finished


def texture(side: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of spectrum 1/f, mean 0, sigma 1, (side, side)."""
    down, across = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) / np.maximum(np.hypot(down, across), 1 / side)
    plane = np.fft.irfft2(spectrum, s=(side, side))
    return ((plane - plane.mean()) / plane.std()).astype(np.float32)


def drawing(side: int, draw: object, background: str = "white") -> np.ndarray:
    picture = Image.new("RGB", (side * 4, side * 4), background)
    draw(ImageDraw.Draw(picture), side * 4)  # type: ignore[operator]
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX), np.float32) / 255


def blurred(image: np.ndarray, share: float) -> np.ndarray:
    """Gaussian of a sigma given as a share of the width."""
    radius = share * image.shape[1]
    planes = [Image.fromarray(np.uint8(255 * plane)) for plane in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(p.filter(ImageFilter.GaussianBlur(radius))) for p in planes], axis=2) / np.float32(255)


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(255 * image)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), np.float32) / 255


def with_noise(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.clip(image + np.random.default_rng(1).normal(0, sigma, image.shape), 0, 1).astype(np.float32)


def with_nan(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    image[3, 5, 1] = np.nan
    return image


def failed(verdict: Evaluation) -> list[str | None]:
    return [one.name for one in verdict.judges if one.passed is False]


DAMAGES = {
    "blur": lambda x: blurred(x, 0.006),
    "underexposed": lambda x: x * np.float32(0.06),
    "overexposed": lambda x: np.clip(x * 5, 0, 1),
    "heavily compressed": lambda x: as_jpeg(x, 3),
    "noisy": lambda x: with_noise(x, 0.2),
    "broken": with_nan,
    "one flat colour": lambda x: np.full_like(x, 0.4),
    "low contrast": lambda x: 0.5 + (x - 0.5) * np.float32(0.03),
    "low resolution": lambda x: x[:200],
}


@pytest.mark.parametrize("side", [256, 512, 900])
def test_a_sharp_picture_passes_every_check(side):
    verdict = local_judge.judge(photograph(side))
    assert verdict.overall_passed is True and verdict.weighted_pass_rate == 1.0
    assert [one.name for one in verdict.judges] == FULL
    assert verdict.top_issues == [] and verdict.gate_failures == []


@pytest.mark.parametrize(("name", "damage"), DAMAGES.items())
def test_each_damage_fails_and_is_named(name, damage):
    verdict = local_judge.judge(damage(photograph()))
    assert verdict.overall_passed is False and verdict.weighted_pass_rate < 1.0
    assert any(issue.startswith(name) for issue in verdict.top_issues)


@pytest.mark.parametrize("side", [256, 512, 900])
def test_blur_is_measured_relative_to_the_size(side):
    picture = photograph(side)
    assert "blur" in failed(local_judge.judge(blurred(picture, 0.006)))
    assert "blur" not in failed(local_judge.judge(blurred(picture, 0.0008)))


def test_block_borders_are_found_off_the_grid():
    assert failed(local_judge.judge(as_jpeg(photograph(), 3)[3:, 5:])) == ["compression"]


@pytest.mark.parametrize("quality", [60, 90])
def test_an_ordinary_jpeg_passes(quality):
    assert local_judge.judge(as_jpeg(photograph(), quality)).overall_passed is True


def test_a_small_sharp_picture_is_not_blurred():
    assert failed(local_judge.judge(chessboard()[:128, :128])) == ["resolution"]


def test_a_gain_on_tones_with_gaps_is_named_with_its_step():
    night = photograph() ** 3 * np.float32(0.4)
    brightened = np.clip(np.floor(255 * night) / 255 * 5, 0, 1).astype(np.float32)
    (issue,) = local_judge.judge(brightened).top_issues
    assert issue.startswith("overexposed: tones pulled 5 levels apart")


# --- pictures that came apart -------------------------------------------------------------------------

PHOTOS = Path(__file__).resolve().parents[2] / "example_workflows" / "photos"
FIELD = ["chelsea.jpg", "coffee.jpg", "astronaut.jpg"]


def photo(name: str) -> np.ndarray:
    """A real photograph that no threshold was chosen on, (H, W, 3) float32 of 0..1."""
    return np.asarray(Image.open(PHOTOS / name).convert("RGB"), np.float32) / 255


def lower_half_black(x):
    x = x.copy()
    x[x.shape[0] // 2 :] = 0
    return x


def decode_cut_off_in_grey(x):
    x, row = x.copy(), x.shape[0] // 2 // 16 * 16
    x[row:, x.shape[1] // 3 :] = x[row + 16 :] = 128 / 255
    return x


def right_half_noise(x):
    x, half = x.copy(), x.shape[1] // 2
    x[:, half:] = np.random.default_rng(2).uniform(0, 1, x[:, half:].shape)
    return x


def mosaic(x):
    high, wide = (side // 64 * 64 for side in x.shape[:2])
    cells = x[:high, :wide].reshape(high // 64, 64, wide // 64, 64, 3).mean(axis=(1, 3))
    return cells.repeat(64, axis=0).repeat(64, axis=1)


def scan_lines(x):
    x = x.copy()
    x[::2] *= np.float32(0.5)
    return x


def moved(x):
    padded = np.pad(x, ((0, 0), (16, 15), (0, 0)), mode="edge").cumsum(axis=1)
    return ((padded[:, 31:] - padded[:, :-31]) / 31).astype(np.float32)


def salt_and_pepper(x):
    x, draw = x.copy(), np.random.default_rng(4).random(x.shape[:2])
    x[draw < 0.025], x[draw > 0.975] = 0, 1
    return x


CAME_APART = {
    "cut_off": [lower_half_black, decode_cut_off_in_grey],
    "white_noise": [right_half_noise, lambda x: with_noise(x, 0.1)],
    "exposure": [lambda x: x * np.float32(0.15)],
    "contrast": [lambda x: 0.5 + (x - 0.5) * np.float32(0.08)],
    "mosaic": [mosaic],
    "scan_lines": [scan_lines, lambda x: scan_lines(x.swapaxes(0, 1))],
    "motion_blur": [moved, lambda x: moved(x.swapaxes(0, 1))],
    "single_pixels": [salt_and_pepper],
}


@pytest.mark.parametrize("name", FIELD)
@pytest.mark.parametrize("check", CAME_APART)
def test_a_photograph_that_came_apart_fails_and_whole_it_passes(name, check):
    assert local_judge.judge(photo(name)).top_issues == []
    for damage in CAME_APART[check]:
        assert check in failed(local_judge.judge(damage(photo(name))))


def test_what_is_rare_counts_only_where_it_is_found():
    weights = {one.name: one.weight for one in local_judge.judge(scan_lines(photo("coffee.jpg"))).judges}
    assert weights["scan_lines"] == 2 and weights["mosaic"] == 0


# --- what is not a defect --------------------------------------------------------------------------


def logo(draw, side):
    draw.ellipse([side * 0.3, side * 0.3, side * 0.7, side * 0.7], fill="black")
    draw.rectangle([side * 0.45, side * 0.2, side * 0.55, side * 0.8], fill=(220, 30, 40))


def line_art(draw, side):
    for step in range(1, 12):
        draw.arc([side * step / 30, side * step / 40, side * 0.9, side * 0.8], 0, 360, fill="black", width=side // 150)


def flat_illustration(draw, side):
    for step, colour in enumerate(["#ffcc00", "#ff3366", "#00ccff", "#ff9900"]):
        draw.polygon([(side * step / 4, 0), (side, side * step / 4), (side / 2, side)], fill=colour)


def depth_map() -> np.ndarray:
    down, across = np.mgrid[0:512, 0:512] / 512
    near = np.where(np.hypot(down - 0.5, across - 0.5) < 0.25, 0.9, 0.15 + 0.4 * down)
    return near[:, :, None].astype(np.float32)


def gradient() -> np.ndarray:
    ramp = np.linspace(0.2, 0.6, 512, dtype=np.float32)
    return np.broadcast_to(ramp[None, :, None], (512, 512, 3)).copy()


def night() -> np.ndarray:
    picture = photograph() * np.float32(0.08)
    picture[100:130, 200:220] = 0.95
    return picture


def shallow_focus() -> np.ndarray:
    picture = photograph()
    soft = blurred(picture, 0.02)
    soft[180:330, 180:330] = picture[180:330, 180:330]
    return soft


def product_on_white() -> np.ndarray:
    picture = np.ones((512, 512, 3), np.float32)
    picture[160:350, 140:380] = photograph()[160:350, 140:380]
    return picture


def pixel_art(scale: int) -> np.ndarray:
    cells = np.random.default_rng(3).choice([0.1, 0.3, 0.6, 0.9], (512 // scale, 512 // scale, 3))
    return cells.repeat(scale, axis=0).repeat(scale, axis=1).astype(np.float32)


def saturated() -> np.ndarray:
    """Every hue at full strength: a channel is at its end everywhere, and nothing is blown out."""
    across = np.linspace(0, 6, 512, dtype=np.float32)
    hues = np.clip(np.abs((across[:, None] + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return np.broadcast_to(hues.astype(np.float32), (512, 512, 3)).copy()


def sparse_lettering(draw, side):
    for step in range(3):
        draw.text((side * 0.1, side * (0.1 + step * 0.2)), "a few words", fill="black", font_size=side // 40)


def blue_on_black(draw, side):
    draw.ellipse([side * 0.2, side * 0.2, side * 0.8, side * 0.8], fill=(0, 0, 255))


def letterbox() -> np.ndarray:
    picture = photograph().copy()
    picture[:80] = picture[-80:] = 0
    return picture


def horizon(draw, side):
    draw.rectangle([0, 0, side, side * 0.6], fill="#88bbee")
    draw.rectangle([0, side * 0.6, side, side], fill="#558844")


def chessboard() -> np.ndarray:
    return ((np.indices((512, 512)) // 32).sum(axis=0) % 2)[:, :, None].astype(np.float32)


NO_DEFECTS = {
    "saturated colour": saturated,
    "sparse lettering": lambda: drawing(512, sparse_lettering),
    "blue on black": lambda: drawing(512, blue_on_black, "black"),
    "the bars of a film": letterbox,
    "a flat horizon": lambda: drawing(512, horizon),
    "a chessboard": chessboard,
    "logo on white": lambda: drawing(512, logo),
    "line art": lambda: drawing(512, line_art),
    "white on black": lambda: 1 - drawing(512, line_art),
    "flat illustration": lambda: drawing(512, flat_illustration),
    "depth map": depth_map,
    "gradient": gradient,
    "night": night,
    "shallow focus": shallow_focus,
    "product on white": product_on_white,
    "pixel art of 8 px": lambda: pixel_art(8),
    "pixel art of 4 px": lambda: pixel_art(4),
    "black and white": lambda: photograph(colours=False)[:, :, :1],
    "film grain": lambda: with_noise(photograph(), 0.04),
}


@pytest.mark.parametrize(("name", "make"), NO_DEFECTS.items())
def test_what_is_no_defect_passes(name, make):
    assert local_judge.judge(make()).top_issues == [], name


def test_a_mostly_transparent_logo_passes_whatever_its_colour():
    shape = 1 - drawing(512, logo)[:, :, :1]
    for tone in (0.0, 1.0):
        assert local_judge.judge(np.concatenate([np.full((512, 512, 3), tone), shape], axis=2)).top_issues == []


def test_an_underexposed_cut_out_fails_though_its_backdrop_is_bright():
    alpha = np.zeros((512, 512, 1), np.float32)
    alpha[100:400, 100:400] = 1
    dark = np.concatenate([photograph() * np.float32(0.06), alpha], axis=2)
    assert "exposure" in failed(local_judge.judge(dark))


def test_an_image_that_is_transparent_everywhere_is_flat():
    verdict = local_judge.judge(np.concatenate([photograph(), np.zeros((512, 512, 1))], axis=2))
    assert verdict.top_issues == ["one flat colour: every pixel is transparent"]


# --- gates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("checks", ["broken", "full"])
def test_one_value_that_is_not_finite_is_a_gate_failure(value, checks):
    picture = photograph(64).copy()
    picture[10, 20, 2] = value
    verdict = local_judge.judge(picture, checks=checks)
    assert [gate.module for gate in verdict.gate_failures] == ["non_finite"]
    assert verdict.weighted_pass_rate == 0.0 and verdict.judges[0].evidence == ["1 of 12288 values", "in channel 2"]


def test_broken_asks_for_nothing_but_the_gates():
    verdict = local_judge.judge(blurred(photograph(), 0.02), checks="broken")
    assert verdict.overall_passed is True and [one.name for one in verdict.judges] == GATES


def test_broken_takes_less_than_the_encoding_that_follows():
    picture = photograph(1024)
    pixels = to_pixels(picture)
    judging = min(seconds(local_judge.judge, picture, checks="broken") for _ in range(5))
    assert judging < min(seconds(encode_lossless, pixels) for _ in range(5))


def seconds(function: Callable[..., object], *arguments: object, **options: object) -> float:
    started = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - started


def test_values_outside_the_range_are_clipped_as_a_saved_image_would_be():
    assert failed(local_judge.judge(photograph(64) + 7)) == ["flat_colour"]
    assert local_judge.judge(photograph() * np.float32(1.02)).overall_passed is True


# --- robustness -----------------------------------------------------------------------------------

SHAPES = [(1, 1, 1), (1, 1, 4), (1, 700, 3), (700, 1, 3), (7, 9, 1), (15, 900, 3), (16, 16, 3), (64, 64, 4)]
FILLS = {"noise": None, "nan": np.nan, "infinity": np.inf, "huge": 1e38, "zero": 0.0, "negative": -5.0}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS.keys())
def test_no_array_of_a_valid_shape_raises(shape, fill):
    values = np.random.default_rng(0).random(shape) if fill is None else np.full(shape, fill)
    for image in (values.astype(np.float32), values.astype(np.float64)):
        verdict = local_judge.judge(image, references=[image])
        assert verdict.status_code == "completed" and 0 <= (verdict.weighted_pass_rate or 0) <= 1
        json.dumps(verdict.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8)), np.zeros((8, 8, 2)), np.zeros((0, 8, 3)), np.zeros((1, 8, 8, 3)), np.zeros((8, 8, 3), int)],
)
def test_an_array_of_another_kind_is_refused_with_its_name(image):
    with pytest.raises(InvalidInputError, match=r"^\[INVALID_INPUT\] image: "):
        local_judge.judge(image)
    with pytest.raises(InvalidInputError, match=r"references\[0\]"):
        local_judge.judge(photograph(64), references=[image])


def test_the_verdict_is_the_same_every_time_and_the_image_untouched():
    picture = with_noise(photograph(), 0.2)
    kept = picture.copy()
    first, second = (local_judge.judge(picture).to_json() | {"eval_duration_ms": 0} for _ in range(2))
    assert first == second and np.array_equal(picture, kept)


def test_uint8_and_its_floats_get_the_same_verdict():
    levels = np.uint8(255 * photograph())
    # half a level up, so that truncation gives the level back
    floats = (levels.astype(np.float32) + 0.5) / 255
    assert local_judge.judge(levels).judges == local_judge.judge(floats).judges


# --- what is written down -------------------------------------------------------------------------


def test_a_failed_judge_says_what_it_measured():
    verdict = local_judge.judge(blurred(photograph(), 0.006))
    blur = next(one for one in verdict.judges if one.name == "blur")
    (issue,) = blur.issues
    assert (issue.category, issue.subcategory, issue.detail) == ("pixels", "blur", verdict.top_issues[0])
    assert "px" in (blur.reasoning or "") and len(blur.evidence) == 2 and 0.5 <= (blur.confidence or 0) <= 1
    assert verdict.action and verdict.action.failure_summary == issue.detail


def test_the_evaluation_is_free_and_has_no_id():
    verdict = local_judge.judge(photograph())
    assert (verdict.id, verdict.cost, verdict.status_code) == (None, 0, "completed")
    assert (verdict.eval_duration_ms or 0) > 0 and any(text.startswith("sharp") for text in verdict.top_strengths)


def test_the_more_fails_the_lower_the_score():
    picture = photograph()
    dark = picture * np.float32(0.06)
    scores = [local_judge.judge(image).weighted_pass_rate for image in (picture, dark, dark * 0.5, dark[:200] * 0.5)]
    assert scores == sorted(scores, key=lambda score: -(score or 0)) and scores[0] > scores[1] > scores[3]


def test_a_prompt_gets_what_the_failed_checks_ask_for_once():
    image = with_noise(photograph(), 0.2)
    improved = local_judge.judge(image, prompt="a red bicycle.").action.improved_prompt
    assert improved == "a red bicycle, clean, noise-free image"
    assert local_judge.judge(image, prompt=improved).action.improved_prompt == improved


@pytest.mark.parametrize("damage", ["broken", "one flat colour", "low resolution"])
def test_a_prompt_stays_where_no_prompt_could_mend_it(damage):
    verdict = local_judge.judge(DAMAGES[damage](photograph()), prompt="a cat, ")
    assert verdict.action.primary_action == "regenerate" and verdict.action.improved_prompt == "a cat, "


def test_a_prompt_stays_where_nothing_failed_and_where_there_is_none():
    kept = local_judge.judge(photograph(), prompt="a cat, ").action
    assert (kept.primary_action, kept.improved_prompt, kept.failure_summary) == ("keep", "a cat, ", None)
    assert local_judge.judge(with_noise(photograph(), 0.2)).action.improved_prompt == ""


@pytest.mark.parametrize("share", [0.0, 0.2, 0.75, 0.9, 1.0])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_a_quantile_is_that_of_numpy(count: int, share: float) -> None:
    values = np.random.default_rng(count).normal(size=count).astype(np.float32)
    assert quantile_between(values, share) == pytest.approx(np.quantile(values, share), rel=1e-6)


# --- references -----------------------------------------------------------------------------------


def test_a_near_duplicate_of_a_reference_is_reported_and_never_fails():
    picture = photograph(600)
    smaller = np.asarray(Image.fromarray(np.uint8(255 * picture)).resize((300, 300)), np.float32) / 255
    verdict = local_judge.judge(picture, references=[photograph(seed=8), as_jpeg(smaller, 60)])
    similarity = verdict.judges[-1]
    assert similarity.name == "reference_similarity" and similarity.weight == 0 and verdict.overall_passed is True
    assert similarity.reasoning == "Nearly the same pixels as reference 2."


def test_another_picture_is_no_near_duplicate():
    verdict = local_judge.judge(photograph(), references=[photograph(seed=8), np.full((64, 64, 1), np.nan)])
    assert verdict.judges[-1].reasoning == "No near-duplicate of a reference." and verdict.overall_passed is True


def test_no_verdict_speaks_of_content():
    texts = [json.dumps(local_judge.judge(damage(photograph())).to_json()).lower() for damage in DAMAGES.values()]
    for word in ("person", "face", "hand", "identity", "subject", "prompt adherence"):
        assert not any(word in text for text in texts)
