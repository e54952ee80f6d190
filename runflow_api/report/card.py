"""A verdict as a picture: the image on the left, what was said about it beside it. Drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from ..evaluation.verdict import FAILED, PASSED, UNKNOWN, Verdict
from . import fonts
from .html import Audience, cost, issues_of, judged_by, strengths_of
from .labels import LANGUAGES, Labels, labels

WIDTH, MARGIN, GAP = 1320, 40, 40
PICTURE = 640
"""Widest and tallest the image is drawn; small ones are not enlarged beyond twice their size."""
COLUMN = WIDTH - 2 * MARGIN - PICTURE - GAP
SHORTEST = 560
SMOOTH = 4
"""Pillow draws curves without smoothing: they are drawn this much larger, and reduced."""
LINES = {"title": 2, "name": 2, "issue": 3, "prompt": 6}
MOST_ISSUES, MOST_STRENGTHS = 8, 4
INK, SOFT, LINE, PAGE, PANEL = "#1c2230", "#667085", "#e3e6ec", "#ffffff", "#f2f4f7"
TONES = {PASSED: "#16794a", FAILED: "#c0283a", UNKNOWN: "#96690b"}
BULLET = 8


@dataclass
class _Column:
    """Text laid out from the top down, to be drawn once its height is known."""

    left: int
    y: float
    language: str
    texts: list[tuple[float, float, str, int, str, bool]] = field(default_factory=list)
    dots: list[tuple[float, float, str]] = field(default_factory=list)
    incomplete: bool = False

    def write(
        self, text: str, size: int, colour: str = INK, *, bold: bool = False, lines: int = 1, indent: int = 0
    ) -> None:
        self.incomplete = self.incomplete or not fonts.is_complete(text, self.language)
        for line in fonts.wrap(text, size, COLUMN - indent, lines, self.language):
            self.y += round(size * 1.38)
            self.texts.append((self.left + indent, self.y, line, size, colour, bold))

    def bullet(self, text: str, colour: str) -> None:
        top = self.y
        self.write(text, 20, lines=LINES["issue"], indent=22)
        self.dots.append((self.left + 4, top + round(20 * 1.38) - 7 - BULLET // 2, colour))
        self.y += 3

    def heading(self, text: str) -> None:
        self.y += 20
        self.write(text.upper(), 15, SOFT)
        self.y += 4


def language_of(wanted: str) -> str:
    """``wanted``, one of ``LANGUAGES``, where the fonts of this machine have its letters, else English."""
    letters = "".join(vars(labels(wanted)).values())
    return wanted if fonts.is_complete(letters, wanted) else LANGUAGES[0]


def draw(
    image: Image.Image,
    verdict: Verdict,
    *,
    name: str = "",
    title: str = "",
    audience: Audience = "internal",
    language: str = LANGUAGES[0],
) -> Image.Image:
    """The card of one image, RGB, ``WIDTH`` pixels wide and as high as it needs; ``language`` as of ``language_of``."""
    picture = _fitted(image)
    column = _laid_out(verdict, name, title, audience, language)
    height = round(max(picture.height + 2 * MARGIN, column.y + MARGIN, SHORTEST))
    card = Image.new("RGB", (WIDTH, height), PAGE)
    canvas = ImageDraw.Draw(card)
    _draw_picture(card, canvas, picture, TONES[verdict.outcome])
    _draw_verdict(card, canvas, verdict, language)
    for x, y, colour in column.dots:
        _pill(card, (x, y, x + BULLET, y + BULLET), colour)
    for x, y, text, size, colour, bold in column.texts:
        fonts.draw(canvas, (x, y), text, size, colour, bold=bold, language=language)
    return card


def same_size(cards: Sequence[Image.Image]) -> list[Image.Image]:
    """All as high as the highest: ComfyUI's batches hold images of one size."""
    height = max(card.height for card in cards)
    return [card if card.height == height else _extended(card, height) for card in cards]


def _extended(card: Image.Image, height: int) -> Image.Image:
    taller = Image.new("RGB", (card.width, height), PAGE)
    taller.paste(card, (0, 0))
    ImageDraw.Draw(taller).rectangle((0, 0, MARGIN // 4, height), fill=card.getpixel((0, card.height - 1)))
    ImageDraw.Draw(taller).rectangle((MARGIN, 0, MARGIN + PICTURE - 1, height), fill=PANEL)
    taller.paste(card.crop((MARGIN, 0, MARGIN + PICTURE, card.height)), (MARGIN, (height - card.height) // 2))
    return taller


def _fitted(image: Image.Image) -> Image.Image:
    shown = image.convert("RGBA") if image.mode in ("RGBA", "LA", "P") else image.convert("RGB")
    scale = min(PICTURE / shown.width, PICTURE / shown.height, 2.0)
    size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
    return shown.resize(size, Image.Resampling.LANCZOS)


def _draw_picture(card: Image.Image, canvas: ImageDraw.ImageDraw, picture: Image.Image, tone: str) -> None:
    canvas.rectangle((0, 0, MARGIN // 4, card.height), fill=tone)
    canvas.rectangle((MARGIN, 0, MARGIN + PICTURE - 1, card.height), fill=PANEL)
    at = (MARGIN + (PICTURE - picture.width) // 2, (card.height - picture.height) // 2)
    card.paste(picture, at, picture if picture.mode == "RGBA" else None)


def _laid_out(verdict: Verdict, name: str, title: str, audience: Audience, language: str) -> _Column:
    said = labels(language)
    column = _Column(MARGIN + PICTURE + GAP, MARGIN + 104, language)
    column.write(" ".join(title.split()) or said.title, 28, bold=True, lines=LINES["title"])
    column.y += 4
    column.write(" · ".join(part for part in (name, judged_by(verdict, said)) if part), 17, SOFT, lines=LINES["name"])
    _list(column, said.issues, issues_of(verdict, audience), MOST_ISSUES, TONES[verdict.outcome], said)
    _list(column, said.strengths, strengths_of(verdict, audience), MOST_STRENGTHS, TONES[PASSED], said)
    if audience == "internal":
        _internal(column, verdict, said)
    if column.incomplete:
        column.y += 14
        column.write(said.incomplete, 14, SOFT, lines=3)
    return column


def _list(column: _Column, name: str, lines: Sequence[str], most: int, colour: str, said: Labels) -> None:
    if not lines:
        return
    column.heading(name)
    for line in lines[:most]:
        column.bullet(line, colour)
    if len(lines) > most:
        column.write(said.more.format(n=len(lines) - most), 17, SOFT, indent=22)


def _internal(column: _Column, verdict: Verdict, said: Labels) -> None:
    prompt, improved = verdict.subject.prompt, verdict.improved_prompt
    for name, text in ((said.prompt, prompt), (said.improved_prompt, improved if improved != prompt else "")):
        if text.strip():
            column.heading(name)
            column.write(text, 18, lines=LINES["prompt"])
    facts = " · ".join(part for part in (verdict.evaluation.id or "", cost(verdict, said)) if part)
    if facts:
        column.y += 18
        column.write(facts, 15, SOFT, lines=2)


def _pill(card: Image.Image, box: tuple[float, float, float, float], colour: str) -> None:
    """A rectangle with round ends."""
    left, top, right, bottom = (round(edge) for edge in box)
    size = max(right - left, bottom - top), bottom - top
    mask = Image.new("L", (size[0] * SMOOTH, size[1] * SMOOTH))
    corners = (0, 0, mask.width - 1, mask.height - 1)
    ImageDraw.Draw(mask).rounded_rectangle(corners, mask.height // 2, fill=255)
    card.paste(Image.new("RGB", size, colour), (left, top), mask.resize(size, Image.Resampling.BOX))


def _draw_verdict(card: Image.Image, canvas: ImageDraw.ImageDraw, verdict: Verdict, language: str) -> None:
    """Badge, score and bar, at the top of the column."""
    said = labels(language)
    left, top, tone = MARGIN + PICTURE + GAP, MARGIN, TONES[verdict.outcome]
    word = said.of(verdict.outcome)
    right = left + fonts.length(word, 28, language) + 48
    _pill(card, (left, top, right, top + 52), tone)
    fonts.draw(canvas, (left + 24, top + 36), word, 28, PAGE, bold=True, language=language)
    if verdict.evaluation.weighted_pass_rate is None:
        fonts.draw(canvas, (right + 20, top + 35), said.no_score, 22, SOFT, language=language)
        return
    fonts.draw(canvas, (right + 20, top + 39), f"{verdict.score:.2f}", 38, INK, bold=True)
    _pill(card, (left, top + 74, left + COLUMN, top + 84), LINE)
    if verdict.score > 0:
        _pill(card, (left, top + 74, left + COLUMN * verdict.score, top + 84), tone)
