"""Text in any language, drawn with Pillow: what can be drawn is drawn, and what cannot is marked as missing.

A line is drawn with one font: Pillow's built-in one, which has little more than ASCII, otherwise the first font of the
machine that has all its letters. If none has, a letter loses its accent, and what has no plain letter becomes
``[...]``, never a row of empty boxes that looks like text.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator

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
"""How a sign is written with ASCII, if no font has it."""
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
    composed = unicodedata.normalize("NFC", text)
    font = _font_for(_letters(composed), language)
    parts: list[str] = []
    for c in composed:
        part = c if _has(font, c) else _simplified(c, font)
        if part != MISSING or parts[-1:] != [MISSING]:
            parts.append(part)
    return "".join(parts)


def _simplified(c: str, font: str) -> str:
    plain = c.translate(SPELLED)
    if plain == c:
        plain = unicodedata.normalize("NFD", c)[0]
    return plain if plain != c and all(_has(font, each) for each in plain) else MISSING


def is_complete(text: str, language: str = "") -> bool:
    """Whether every character of ``text`` can be drawn."""
    letters = _letters(text)
    font = _font_for(letters, language)
    return all(_has(font, c) for c in letters)


def length(text: str, size: int, language: str = "") -> float:
    """Width in pixels."""
    return _font(_font_for(_letters(text), language), size).getlength(text)


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
    font = _font(_font_for(_letters(text), language), size)
    for shift in (0.0, size / 40) if bold else (0.0,):
        canvas.text((x + shift, y), text, colour, font, "ls")


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


def _letters(text: str) -> frozenset[str]:
    return frozenset(unicodedata.normalize("NFC", text))


@functools.lru_cache(maxsize=8192)
def _font_for(letters: frozenset[str], language: str) -> str:
    """The first font that has all letters, otherwise the one that has most; "" is the built-in one."""
    fonts = ("", *_installed(language))
    missing = [sum(not _has(name, c) for c in letters) for name in fonts]
    return fonts[missing.index(min(missing))]


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
    if c.isspace() or unicodedata.category(c) in ("Cf", "Mn"):
        return True
    if _SHAPED.match(c) and not features.check("raqm"):
        return False
    return _drawing(name, c) != _drawing(name, NOWHERE)


def _drawing(name: str, c: str) -> tuple[tuple[int, int], bytes]:
    mask = _font(name, PROBE_SIZE).getmask(c)
    return mask.size, bytes(mask)
