"""From a tensor to a data URI: our way, ComfyUI's, a plain copy; and every encoder at hand, with its upload."""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Callable, Sequence

import comfy_conversion
import encoders
import numpy as np
import numpy.typing as npt
import pictures
from encoders import Encoder
from measure import in_turn, median, milliseconds, said, table
from pictures import Picture

from runflow_api import images
from runflow_api.api.client import encode_request
from runflow_api.evaluation.question import Options, Question, build_request

SIDES = {512: (3, 3), 1024: (3, 3), 2048: (2, 2), 4096: (1, 2)}
"""Side in px: pictures of each kind, rounds."""
ENCODER_SIDES = (1024, 2048)
ENCODER_COUNT, ENCODER_ROUNDS = 2, 2
GOAL, GOAL_SIDES = 5.0, (1024, 2048)
MBIT = (20, 100)
BASE64 = 4 / 3

Floats = npt.NDArray[np.float32]


def run(options: Namespace) -> str:
    kinds = pictures.found(options.photos, options.generated)
    counted = ", ".join(f"{len(files)} of kind {kind}" for kind, files in kinds.items())
    said_of = f"Pictures at hand: {counted}. {options.sources}".strip()
    parts = [said_of, _conversion(kinds, options), _encoders(kinds), _steps(kinds)]
    return "\n\n".join(parts)


def ours(image: Floats) -> str:
    """The path that an image takes: uint8, lossless, base64."""
    return images.data_uri(images.encode_lossless(images.to_pixels(image)))


# --- against ComfyUI ------------------------------------------------------------------------------


def _conversion(kinds: dict[str, list], options: Namespace) -> str:
    theirs = comfy_conversion.load(options.comfyui) if options.comfyui else None
    rows, exact = [], True
    for side, (count, rounds) in SIDES.items():
        chosen = pictures.squares(kinds, side, count)
        exact = exact and all(_is_exact(picture) for picture in chosen)
        taken = [_race(pictures.tensor_of(picture.pixels), theirs, rounds) for picture in chosen]
        rows.append(_conversion_row(side, chosen, taken))
    heading = "### Tensor to data URI\n"
    exactly = f"Decoded again, every pixel is the one that SaveImage would write: {'yes' if exact else '**no**'}."
    head = ["side", "pictures (enlarged)", "ComfyUI, ms", "this pack, ms", "plain copy, ms", "faster by", "goal ≥ 5 ×"]
    return "\n".join([heading, table(head, rows), "", exactly])


def _is_exact(picture: Picture) -> bool:
    encoded = images.encode_lossless(images.to_pixels(pictures.tensor_of(picture.pixels)))
    wanted = np.clip(255.0 * pictures.tensor_of(picture.pixels), 0, 255).astype(np.uint8)
    return np.array_equal(encoders.by_pillow(encoded.data), wanted)


def _race(image: Floats, theirs: Callable[[Floats], str] | None, rounds: int) -> dict[str, list[float]]:
    entrants: dict[str, Callable[[], object]] = {"ours": lambda: ours(image), "copy": image.copy}
    if theirs is not None:
        entrants["theirs"] = lambda: theirs(image)
    return in_turn(entrants, rounds)


def _conversion_row(side: int, chosen: Sequence[Picture], taken: list[dict[str, list[float]]]) -> list[str]:
    """Medians over pictures and rounds; the ratio is that of neighbours in time."""
    enlarged = sum(picture.enlarged for picture in chosen)
    middle = {name: median(seconds for each in taken for seconds in each[name]) for name in taken[0]}
    shown = [f"{side}²", f"{len(chosen)} ({enlarged})"]
    theirs = milliseconds(middle["theirs"]) if "theirs" in middle else "no ComfyUI given"
    shown += [theirs, milliseconds(middle["ours"]), milliseconds(middle["copy"])]
    if "theirs" not in middle:
        return [*shown, "", ""]
    ratio = median(a / b for each in taken for a, b in zip(each["theirs"], each["ours"], strict=True))
    return [*shown, f"{ratio:.1f} ×", said(ratio >= GOAL) if side in GOAL_SIDES else ""]


# --- every encoder, with its upload ---------------------------------------------------------------


def _encoders(kinds: dict[str, list]) -> str:
    parts = ["### Encoding and uploading, every lossless encoder at hand"]
    for side in ENCODER_SIDES:
        parts.append(_encoders_at(side, pictures.squares(kinds, side, ENCODER_COUNT)))
    parts.append(
        "The sum is the encoding and the time its base64 text takes at that many Mbit/s upload. Encoders marked ✗ "
        "write formats that the API is not known to take. All on one thread; quality is effort, nothing is lost. "
        "“This pack” is WebP at method 0, quality 0; “PNG by numpy” filters with numpy (average) and deflates as named."
    )
    return "\n\n".join(parts)


def _encoders_at(side: int, chosen: Sequence[Picture]) -> str:
    known = [each for each in encoders.available() if _works(each, chosen[0])]
    seconds: dict[str, list[float]] = {_name(each): [] for each in known}
    sizes: dict[str, list[int]] = {_name(each): [] for each in known}
    for picture in chosen:
        taken = in_turn({_name(each): _call(each, picture) for each in known}, ENCODER_ROUNDS)
        for each in known:
            seconds[_name(each)].append(median(taken[_name(each)]))
            sizes[_name(each)].append(len(each.encode(picture.pixels)))
    rows = [_encoder_row(each, seconds[_name(each)], sizes[_name(each)]) for each in known]
    rows.sort(key=lambda row: row[-2])
    taken_by_api = [row for row in rows if "✗" not in row[0]]
    best = [min(taken_by_api, key=lambda row, column=column: row[column])[0] for column in (-2, -1)]
    verdict = "; ".join(f"at {rate} Mbit/s: {name}" for rate, name in zip(MBIT, best, strict=True))
    head = [f"{side}² · encoder", "ms", "MB", *(f"sum at {rate} Mbit/s, ms" for rate in MBIT)]
    figures = [[f"{1e3 * total:.0f}" for total in row[3:]] for row in rows]
    shown = [[row[0], milliseconds(row[1]), f"{row[2]:.2f}", *sums] for row, sums in zip(rows, figures, strict=True)]
    return f"{table(head, shown)}\n\nLeast sum of what the API takes, {verdict}."


def _encoder_row(each: Encoder, seconds: list[float], sizes: list[int]) -> list:
    """Means over the pictures: what a person with many pictures would wait."""
    took, size = statistics.mean(seconds), statistics.mean(sizes)
    return [_name(each), took, size / 1e6, *(took + BASE64 * size * 8 / (rate * 1e6) for rate in MBIT)]


def _works(each: Encoder, picture: Picture) -> bool:
    """Whether it loses nothing here; one that does, or fails, is left out and said."""
    try:
        exact = np.array_equal(np.asarray(each.decode(each.encode(picture.pixels))), picture.pixels)
    except Exception as error:  # a package may be broken in any way: the others go on
        print(f"left out, it does not run here: {_name(each)} ({type(error).__name__}: {error})")
        return False
    if not exact:
        print(f"left out, it is not lossless: {_name(each)}")
    return exact


def _name(each: Encoder) -> str:
    return f"{each.package} {each.name}{'' if each.accepted else ' ✗'}".replace("Pillow this", "this")


def _call(each: Encoder, picture: Picture) -> Callable[[], bytes]:
    return lambda: each.encode(picture.pixels)


# --- where each millisecond goes ------------------------------------------------------------------


def _steps(kinds: dict[str, list]) -> str:
    rows = []
    for side in ENCODER_SIDES:
        taken: dict[str, list[float]] = {}
        for picture in pictures.squares(kinds, side, 3):
            for name, seconds in in_turn(_step_calls(picture), 5).items():
                taken.setdefault(name, []).append(median(seconds))
        rows.append([f"{side}²", *(milliseconds(median(seconds)) for seconds in taken.values())])
        names = list(taken)
    return "### Where each millisecond goes\n\n" + table(["ms", *names], rows)


def _step_calls(picture: Picture) -> dict[str, Callable[[], object]]:
    image = pictures.tensor_of(picture.pixels)
    pixels = images.to_pixels(image)
    encoded = images.encode_lossless(pixels)
    uri = images.data_uri(encoded)
    asked = build_request(uri, [], Question("a prompt"), Options())
    return {
        "to uint8, with the look for NaN": lambda: images.to_pixels(image),
        "SHA-256": lambda: images.pixel_hash(pixels),
        "WebP": lambda: images.encode_lossless(pixels),
        "base64": lambda: images.data_uri(encoded),
        "JSON body": lambda: encode_request(asked),
    }
