"""How well the optional reader tells right texts from wrong ones, on pictures made here: ``benchmarks/TEXT.md``.

    python benchmarks/text_reading.py --fonts DIR [--pictures 100] [--seed 1] [--half held-out] [--sizes 24 32 48 72]

Each picture holds four texts in random fonts, sizes and colours on photographs, gradients and flat colour, half of
them on signs that are turned, in perspective, blurred and compressed. Each text is right or has one wrong letter. The
fonts are halved by their family's name: thresholds were chosen on one half with other texts (``tuning``), what is
reported is the other half (``held-out``).
"""

from __future__ import annotations

import argparse
import hashlib
import random
import string
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from runflow_api.local_judge import text  # noqa: E402
from runflow_api.local_judge.judge import judge  # noqa: E402

SIDE = 1024
SIZES = (24, 32, 48, 72, 110)
"""Font sizes in pixels: at 24, capitals are about 17 px high."""
PHOTOS = sorted((ROOT / "example_workflows" / "photos").glob("*.jpg"))
TEXTS = {
    "tuning": [
        "Grand Opening", "Summer Sale", "Keep Out", "Fresh Juice", "Library Hours", "Platform Nine",
        "Happy Birthday",
        "Boiler Room", "Ticket Office", "Second Floor", "Bakery", "Wet Paint", "Quiet Please", "Open Sunday",
    ],
    "held-out": [
        "Fish Market", "Midnight Express", "Coffee and Cake", "No Parking", "Welcome Home", "River Street", "Jazz Club",
        "Exit Only", "Happy New Year", "Vintage Books", "Moonlight Motel", "Flower Shop", "Keep Left", "World Tour",
        "Handmade Soap", "Blue Whale", "Quick Fix Garage", "Just Married", "Pizza", "Laundry", "Voyage",
        "Zebra Crossing",
        "Road Closed Ahead", "The Green Dragon", "Museum", "Best Before June", "Danger High Voltage", "Level 42",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    wanted: str
    drawn: str
    size: int
    family: str
    is_sign: bool

    @property
    def is_right(self) -> bool:
        return self.wanted == self.drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fonts", type=Path, required=True, help="a folder of TrueType and OpenType fonts")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--half", choices=sorted(TEXTS), default="held-out")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="font sizes in pixels, ascending")
    parser.add_argument("--save", type=Path, help="write the pictures that were misjudged to this folder")
    arguments = parser.parse_args()
    fonts = usable_fonts(arguments.fonts, arguments.half)
    families = {family for _, family in fonts}
    print(
        f"{len(fonts)} fonts of {len(families)} families, {arguments.pictures} pictures of four texts, {arguments.half}"
    )
    results: list[tuple[Shown, bool, str]] = []
    seconds = []
    for number in range(arguments.pictures):
        chance = random.Random(f"{arguments.seed} {arguments.half} {number}")
        picture, shown = draw_picture(chance, fonts, TEXTS[arguments.half], arguments.sizes)
        started = time.process_time()
        findings = text.check_texts(np.asarray(picture), [each.wanted for each in shown])
        seconds.append(time.process_time() - started)
        for each, finding in zip(shown, findings, strict=True):
            results.append((each, bool(finding.passed), finding.text))
            if finding.passed != each.is_right:
                where = " on a sign" if each.is_sign else ""
                print(f"  {each.size} px {each.family}{where}: drawn “{each.drawn}”: {finding.text}")
                if arguments.save:
                    arguments.save.mkdir(parents=True, exist_ok=True)
                    picture.save(arguments.save / f"{number}.png")
    report(results)
    print(
        f"CPU time for each picture of {SIDE} x {SIDE}: median {np.median(seconds):.2f} s, longest {max(seconds):.2f} s"
    )
    print(f"the other local checks: {other_checks_s(picture):.3f} s")
    report_without_text()


def report(results: list[tuple[Shown, bool, str]]) -> None:
    groups: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for shown, passed, _ in results:
        for group in ("all", f"{shown.size} px", "on signs" if shown.is_sign else "plain"):
            groups[group].append((shown.is_right, passed))
    print("| | right texts that pass | texts with one wrong letter that fail |\n| --- | --- | --- |")
    for group, rows in sorted(groups.items()):
        right = [passed for is_right, passed in rows if is_right]
        wrong = [not passed for is_right, passed in rows if not is_right]
        print(f"| {group} | {share(right)} | {share(wrong)} |")


def share(hits: list[bool]) -> str:
    return f"{sum(hits)} of {len(hits)} ({sum(hits) / max(1, len(hits)):.1%})"


def report_without_text() -> None:
    """What is said about photographs in which nobody wrote."""
    said = {path.name: text.check_texts(np.asarray(Image.open(path).convert("RGB")), [])[0] for path in PHOTOS}
    for name, finding in said.items():
        print(f"  {name}: {finding.text}")


def other_checks_s(picture: Image.Image) -> float:
    pixels = np.asarray(picture)
    started = time.process_time()
    judge(pixels)
    return time.process_time() - started


def usable_fonts(folder: Path, half: str) -> list[tuple[Path, str]]:
    """The fonts of one half that have Latin letters people can read: no symbols, no other scripts."""
    kept = []
    for path in sorted([*folder.rglob("*.ttf"), *folder.rglob("*.otf")]):
        try:
            font = ImageFont.truetype(str(path), 40)
        except OSError:
            continue
        family, style = font.getname()
        no_text = any(
            word in f"{family} {style}"
            for word in ("Symbol", "Awesome", "Music", "Keyboard", "Initials", "Math", "Emoji")
        )
        if family is None or no_text or not has_latin(font):
            continue
        is_tuning = hashlib.sha256(family.split()[0].encode()).digest()[0] % 2 == 0
        if is_tuning == (half == "tuning"):
            kept.append((path, family))
    return kept


def has_latin(font: ImageFont.FreeTypeFont) -> bool:
    """Whether its letters are its own and differ: a missing glyph looks like every other missing one."""
    looks = {bytes(font.getmask(letter)) for letter in "aegkmwzAEGKMWZ"}
    return len(looks) == 14 and bytes(font.getmask("a")) != bytes(font.getmask("\uffff"))


def draw_picture(
    chance: random.Random, fonts: list[tuple[Path, str]], texts: list[str], sizes: Sequence[int]
) -> tuple[Image.Image, list[Shown]]:
    picture = background(chance)
    shown = []
    by_family = defaultdict(list)
    for path, family in fonts:
        by_family[family.split()[0]].append((path, family))
    for quarter, wanted in enumerate(chance.sample(texts, 4)):
        drawn = wanted if chance.random() < 0.5 else with_one_wrong_letter(chance, wanted)
        path, family = chance.choice(by_family[chance.choice(sorted(by_family))])
        size, is_sign = chance.choice(sizes), chance.random() < 0.5
        while (font := ImageFont.truetype(str(path), size)).getlength(drawn) > 0.86 * SIDE:
            size = sizes[sizes.index(size) - 1]
        place = 20 + quarter * SIDE // 4
        (draw_sign if is_sign else draw_plain)(chance, picture, drawn, font, place)
        shown.append(Shown(wanted, drawn, size, family, is_sign))
    return compressed(chance, picture), shown


def with_one_wrong_letter(chance: random.Random, wanted: str) -> str:
    place = chance.choice([index for index, letter in enumerate(wanted) if letter.isalpha()])
    others = [letter for letter in string.ascii_lowercase if letter != wanted[place].lower()]
    letter = chance.choice(others)
    return wanted[:place] + (letter.upper() if wanted[place].isupper() else letter) + wanted[place + 1 :]


def background(chance: random.Random) -> Image.Image:
    kind = chance.choice(["photo", "photo", "gradient", "flat"])
    if kind == "photo":
        photo = Image.open(chance.choice(PHOTOS)).convert("RGB")
        return photo.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    colours = np.array([[chance.randrange(256) for _ in range(3)] for _ in range(2)], float)
    if kind == "flat":
        colours[1] = colours[0]
    ramp = np.linspace(0, 1, SIDE)[:, None, None]
    levels = colours[0] * (1 - ramp) + colours[1] * ramp
    return Image.fromarray(np.broadcast_to(levels, (SIDE, SIDE, 3)).astype(np.uint8))


def contrasting(chance: random.Random, behind: np.ndarray) -> tuple[int, int, int]:
    """A colour at a contrast of at least 4.5:1 to the mean behind it, as for text that people are to read."""
    while True:
        colour = tuple(chance.randrange(256) for _ in range(3))
        bright, dark = sorted((luminance(np.array(colour)), luminance(behind)), reverse=True)
        if (bright + 0.05) / (dark + 0.05) >= 4.5:
            return colour  # type: ignore[return-value]
        if chance.random() < 0.05:
            return (255, 255, 255) if luminance(behind) < 0.18 else (0, 0, 0)


def luminance(colour: np.ndarray) -> float:
    linear = (colour / 255) ** 2.2
    return float(linear @ [0.2126, 0.7152, 0.0722])


def draw_plain(chance: random.Random, picture: Image.Image, drawn: str, font: ImageFont.FreeTypeFont, top: int) -> None:
    left = chance.randrange(20, max(21, SIDE - 20 - round(font.getlength(drawn))))
    box = font.getbbox(drawn)
    region = picture.crop((left, top, left + int(box[2]), top + int(box[3])))
    colour = contrasting(chance, np.asarray(region, float).reshape(-1, 3).mean(axis=0))
    brush = ImageDraw.Draw(picture)
    outline = 0 if np.asarray(region, float).std() < 30 else max(1, font.size // 16)  # as people do on busy pictures
    edge = (0, 0, 0) if luminance(np.array(colour)) > 0.18 else (255, 255, 255)
    brush.text((left, top), drawn, font=font, fill=colour, stroke_width=outline, stroke_fill=edge)


def draw_sign(chance: random.Random, picture: Image.Image, drawn: str, font: ImageFont.FreeTypeFont, top: int) -> None:
    board = tuple(chance.randrange(256) for _ in range(3))
    left_of_text, above, right, below = (int(edge) for edge in font.getbbox(drawn))
    pad = max(8, font.size // 3)
    width, height = right - left_of_text + 2 * pad, below - above + 2 * pad
    sign = Image.new("RGBA", (width, height), (*board, 255))
    colour = contrasting(chance, np.array(board, float))
    ImageDraw.Draw(sign).text((pad - left_of_text, pad - above), drawn, font=font, fill=(*colour, 255))
    slant = chance.uniform(0.0, 0.12) * height
    corners = [(0, slant), (0, height - slant * chance.random()), (width, height), (width, 0)]
    sign = sign.transform(
        sign.size, Image.Transform.QUAD, [value for corner in corners for value in corner], Image.Resampling.BICUBIC
    )
    sign = sign.rotate(chance.uniform(-6, 6), Image.Resampling.BICUBIC, expand=True)
    sign = sign.filter(ImageFilter.GaussianBlur(chance.uniform(0, font.size / 60)))
    left = chance.randrange(0, max(1, SIDE - sign.width))
    picture.paste(sign, (left, min(top, SIDE - sign.height)), sign)


def compressed(chance: random.Random, picture: Image.Image) -> Image.Image:
    noise = np.random.default_rng(chance.randrange(2**32)).normal(0, chance.uniform(0, 5), (SIDE, SIDE, 1))
    noisy = Image.fromarray(np.clip(np.asarray(picture, float) + noise, 0, 255).astype(np.uint8))
    buffer = BytesIO()
    noisy.save(buffer, "JPEG", quality=chance.randrange(75, 96))
    return Image.open(buffer).convert("RGB")


if __name__ == "__main__":
    main()
