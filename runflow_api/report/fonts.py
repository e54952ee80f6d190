"""Text in any language, drawn with Pillow: what can be drawn is, and what cannot is said to be missing.

Pillow's built-in font has little more than ASCII. For a word with other letters the fonts of the machine are asked
whether they have them. Where none has, a letter loses its accent, and what has no plain letter becomes ``[...]``,
never a row of empty boxes that looks as if it said something.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ImageDraw, ImageFont, features

MISSING = "[...]"
FALLBACKS = (
    "DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf", "segoeui.ttf", "arial.ttf",
    "Arial.ttf", "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc", "msyh.ttc", "YuGothM.ttc", "msgothic.ttc",
    "malgun.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "wqy-microhei.ttc",
    "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "Nirmala.ttf",
    "NotoSansThai-Regular.ttf", "seguisym.ttf",
)  # fmt: skip
"""Looked for in the system's font folders when the built-in font lacks a character."""
PREFERRED = {
    "zh": (
        "msyh.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "NotoSansCJK-Regular.ttc#2", "NotoSansSC-Regular.otf",
        "NotoSansCJKsc-Regular.otf", "SourceHanSansCN-Regular.otf", "wqy-microhei.ttc", "wqy-zenhei.ttc", "simhei.ttf",
        "DroidSansFallbackFull.ttf",
    ),
    "ja": (
        "YuGothM.ttc", "meiryo.ttc", "msgothic.ttc", "NotoSansCJK-Regular.ttc", "NotoSansJP-Regular.otf",
        "NotoSansCJKjp-Regular.otf", "SourceHanSansJP-Regular.otf", "ipaexg.ttf", "ipag.ttf", "Hiragino Sans GB.ttc",
    ),
}  # fmt: skip
"""Looked for first where the text is in that language: Chinese and Japanese draw the same characters differently.

``#2`` is the third face of a collection: of Noto Sans CJK the one for Simplified Chinese.
"""
PROBE_SIZE = 16
LONGEST = 10_000
"""Characters of a text that are looked at: far more than any card shows."""
SPELLED = str.maketrans({
    "–": "-", "—": "-", "\u2010": "-", "\u2011": "-", "·": "-", "\u00a0": " ", "…": "...", "•": "*", "×": "x",
    "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "\u2192": "->", "\u2265": ">=",
    "\u2264": "<=", "€": "EUR", "µ": "u", "ß": "ss", "ø": "o", "Ø": "O", "\u0142": "l", "\u0141": "L",
    "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE",
})  # fmt: skip
"""How a sign is written with ASCII, where no font has it."""
NOWHERE = "\U0010fffe"
"""A noncharacter: what a font draws for it, it draws for everything it lacks."""
_WIDE = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff"
_CLOSING = "\u3001\u3002\uff0c\uff0e\uff01\uff1f\uff1a\uff1b\uff09\u300d\u300f\u3011"
_UNITS = re.compile(rf"\s+|[{_WIDE}][{_CLOSING}]*|[^\s{_WIDE}]+")
"""Where a line may break: at blanks, and between the characters of scripts that are written without them, though not
before a comma, a full stop or a closing bracket."""
_SHAPED = re.compile(r"[\u0590-\u08ff\u0900-\u0dff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ufb1d-\ufdff\ufe70-\ufefe]")
"""Scripts whose letters join, stack or run from the right: without a shaping engine they would be wrong."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Run:
    """A piece of a line in one font; ``font`` is "" for the built-in one."""

    font: str
    text: str


def wrap(text: str, size: int, width: float, at_most: int, language: str = "") -> list[str]:
    """``text`` in lines of at most ``width`` pixels; where ``at_most`` lines are not enough, it ends in "..."."""
    lines: list[str] = []
    for paragraph in text[:LONGEST].splitlines() or [""]:
        lines += itertools.islice(_broken(drawable(paragraph, language), size, width, language), at_most + 1)
        if len(lines) > at_most:
            break
    if len(lines) <= at_most:
        return lines
    last = lines[at_most - 1]
    while last and length(f"{last}...", size, language) > width:
        last = last[:-1]
    return [*lines[: at_most - 1], f"{last.rstrip()}..."]


def drawable(text: str, language: str = "") -> str:
    """``text`` as it can be drawn here: simplified where it must be, ``[...]`` for what cannot even be that."""
    parts: list[str] = []
    for c in unicodedata.normalize("NFC", text):
        part = c if _font_for(c, language) is not None else _simplified(c, language)
        if part != MISSING or parts[-1:] != [MISSING]:
            parts.append(part)
    return "".join(parts)


def _simplified(c: str, language: str) -> str:
    plain = c.translate(SPELLED)
    if plain == c:
        plain = unicodedata.normalize("NFD", c)[0]
    return plain if plain != c and all(_font_for(each, language) is not None for each in plain) else MISSING


def is_complete(text: str, language: str = "") -> bool:
    """Whether every character of ``text`` can be drawn."""
    return all(_font_for(c, language) is not None for c in unicodedata.normalize("NFC", text))


def length(text: str, size: int, language: str = "") -> float:
    """Width in pixels."""
    return sum(_font(run.font, size).getlength(run.text) for run in runs(text, language))


def draw(
    canvas: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: str,
    *,
    bold: bool = False,
    language: str = "",
) -> None:
    """Draw one line whose first baseline is at ``at``; bold is drawn, since the built-in font has one weight."""
    x, y = at
    for run in runs(text, language):
        font = _font(run.font, size)
        for shift in (0.0, size / 40) if bold else (0.0,):
            canvas.text((x + shift, y), run.text, colour, font, "ls")
        x += font.getlength(run.text)


def runs(text: str, language: str = "") -> list[Run]:
    """A line in pieces of one font each: a word is in one font where any has all of it."""
    found: list[Run] = []
    for word in re.findall(r"\S+|\s+", text):
        font = found[-1].font if found and word.isspace() else _font_for_word(word, language)
        pieces = [Run(font, word)] if font is not None else [Run(_font_for(c, language) or "", c) for c in word]
        for piece in pieces:
            if found and piece.font == found[-1].font:
                found[-1] = Run(piece.font, found[-1].text + piece.text)
            else:
                found.append(piece)
    return found


def _broken(text: str, size: int, width: float, language: str) -> Iterator[str]:
    line = ""
    for unit in _UNITS.findall(" ".join(text.split())):
        if not line.strip() or length(line + unit, size, language) <= width:
            line += unit
        else:
            yield line.rstrip()
            line = unit.lstrip()
        while length(line, size, language) > width and len(line) > 1:
            places = range(len(line))
            fits = max(1, bisect.bisect_right(places, width, key=lambda n: length(line[:n], size, language)) - 1)
            yield line[:fits]
            line = line[fits:]
    if line.strip():
        yield line.rstrip()


# --- fonts --------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def _font(name: str, size: int) -> Font:
    file, _, face = name.partition("#")
    return ImageFont.truetype(file, size, int(face or 0)) if name else ImageFont.load_default(size)


@functools.lru_cache(maxsize=8192)
def _font_for(c: str, language: str) -> str | None:
    """The first font that has ``c``: "" is the built-in one, ``None`` says that none has."""
    if c.isspace() or unicodedata.category(c) in ("Cf", "Mn"):
        return ""
    if _SHAPED.match(c) and not features.check("raqm"):
        return None
    return next((name for name in ("", *_installed(language)) if _has(name, c)), None)


@functools.lru_cache(maxsize=4096)
def _font_for_word(word: str, language: str) -> str | None:
    """The first font that has all of ``word``; ``None`` where several are needed."""
    letters = [c for c in word if unicodedata.category(c) not in ("Cf", "Mn")]
    return next((name for name in ("", *_installed(language)) if all(_has(name, c) for c in letters)), None)


@functools.lru_cache(maxsize=8)
def _installed(language: str) -> tuple[str, ...]:
    """Those of ``PREFERRED`` and ``FALLBACKS`` that this machine has."""
    wanted = dict.fromkeys((*PREFERRED.get(language, ()), *FALLBACKS))
    return tuple(name for name in wanted if _opens(name))


def _opens(name: str) -> bool:
    try:
        _font(name, PROBE_SIZE)
    except (OSError, ValueError):
        return False
    return True


@functools.lru_cache(maxsize=16384)
def _has(name: str, c: str) -> bool:
    """Whether the font has a glyph for ``c``: Pillow cannot tell, so the drawings are compared."""
    return c.isspace() or _drawing(name, c) != _drawing(name, NOWHERE)


def _drawing(name: str, c: str) -> tuple[tuple[int, int], bytes]:
    mask = _font(name, PROBE_SIZE).getmask(c)
    return mask.size, bytes(mask)
