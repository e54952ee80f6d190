"""Text in the picture: whether what stands in quotation marks can be read there. Optional.

What is installed with the extra ``[text]`` reads: RapidOCR (Apache-2.0) on onnxruntime (MIT), whose weights (PP-OCRv6
small, Apache-2.0) come inside the wheel, so that nothing is downloaded and nothing leaves the machine. A text is
compared letter for letter; upper and lower case, spaces and punctuation are the picture's own. How often that is
right, and where it falls short, is in ``benchmarks/TEXT.md``.
"""

from __future__ import annotations

import functools
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..background import NativeCalls
from .checks import Check, Finding
from .pixels import Bytes

INSTALL = "pip install runflow-evaluate[text]"
LONGEST_TEXT = 120
"""Characters of a quotation that is looked for; longer ones are speech or a quoted prompt."""
RETRY_SHARE = 0.34
"""Share of wrong letters up to which the place is looked at again, enlarged."""
RETRY_HEIGHTS = (48, 72)
"""Pixels to which the lines of a near miss are enlarged or reduced."""
REDUCED = 0.5
"""Of its size: another look at the whole picture for a text that was not found whole. Large letters fall apart."""
MARGIN = 0.4
"""Of the height of a line, that is cut out around it."""
MISSING_SPACE = 3
"""More letters than these, joined to the text on one side, are a neighbour word whose space was not seen."""
GARBLED_BELOW = 0.75
"""Confidence below which a line that was found as text cannot be read."""
GARBLED_HEIGHT = 16
GARBLED_LETTERS = 3

_QUOTED = re.compile(
    r"""["\uff02]([^"\uff02\n]+)["\uff02]|“([^“”\n]+)”|„([^„“”\n]+)[“”]|”([^”\n]+)”|«([^«»\n]+)»|»([^«»\n]+)«|‹([^‹›\n]+)›"""
    r"""|\u300c([^\u300c\u300d\n]+)\u300d|\u300e([^\u300e\u300f\n]+)\u300f|\u300a([^\u300a\u300b\n]+)\u300b|(?<!\w)'([^'\n]+)'(?!\w)|(?<!\w)‘([^‘’\n]+)’(?!\w)"""
)
_REFUSED = re.compile(
    r"\b(?:no|not|without|never|remove|avoid)\s+(?:(?:the|any|a)\s+)?(?:(?:text|words?|letters?|sign)\s+)?$", re.I
)

log = logging.getLogger("runflow_evaluate")


@dataclass(frozen=True)
class Line:
    """A line as it was read, its corners (4, 2) in pixels (x, y) and how sure the reader is, 0 to 1."""

    text: str
    corners: Any
    confidence: float

    @property
    def height(self) -> float:
        return float(np.hypot(*(self.corners[3] - self.corners[0])))


@dataclass(frozen=True)
class Match:
    """The likest place to a wanted text: what stands there, in how many letters it differs, and in which lines."""

    read: str
    distance: int
    lines: tuple[Line, ...] = ()


def _distance(match: Match) -> int:
    return match.distance


def wanted_texts(*sources: str) -> list[str]:
    """What stands in quotation marks in prompt and instructions, in order, each once; not where it must be absent."""
    found = (each for source in sources for each in _quotations(source))
    return list(dict.fromkeys(text for text in found if _letters(text)))


def _quotations(source: str) -> Iterator[str]:
    for match in _QUOTED.finditer(source):
        text = next(group for group in match.groups() if group is not None).strip()
        if len(text) <= LONGEST_TEXT and not _REFUSED.search(source[: match.start()]):
            yield text


def check_texts(rgb: Bytes, wanted: Sequence[str]) -> list[Finding]:
    """One finding for each wanted text, and one for text that nobody asked for. ``rgb``: uint8 (H, W, 1 or 3)."""
    try:
        reader = _reader()
    except ModuleNotFoundError:
        return _not_read(wanted, INSTALL)
    except ImportError as error:
        return _not_read(wanted, f"the reader cannot be loaded ({error})")
    lines = reader.read(rgb)
    if not wanted:
        return [_garbled(lines)]
    matches = [best_match(text, lines) for text in wanted]
    if any(_is_not_whole(text, match) for text, match in zip(wanted, matches, strict=True)):
        smaller = reader.read_reduced(rgb)
        matches = [_whole(text, match, smaller) for text, match in zip(wanted, matches, strict=True)]
    return [
        _check_text(reader, rgb, match, number, text)
        for number, (text, match) in enumerate(zip(wanted, matches, strict=True), 1)
    ]


def _near(text: str) -> float:
    """In how many letters a place may differ that is looked at again."""
    return max(1, RETRY_SHARE * len(_letters(text)))


def _is_not_whole(text: str, match: Match) -> bool:
    return match.distance > _near(text)


def _whole(text: str, match: Match, smaller: Sequence[Line]) -> Match:
    """What was not found whole, as it was read in the reduced picture, if that is nearer."""
    if not _is_not_whole(text, match):
        return match
    return min(match, best_match(text, smaller), key=_distance)


def _check_text(reader: Reader, rgb: Bytes, match: Match, number: int, text: str) -> Finding:
    name = "text" if number == 1 else f"text_{number}"
    check = Check(name, f"The words “{text}” can be read", weight=2)
    if 0 < match.distance <= _near(text):
        again = (best_match(text, reader.read_again(rgb, match.lines, height)) for height in RETRY_HEIGHTS)
        match = min([match, *again], key=_distance)
    evidence = (f"read: “{match.read}”", f"{match.distance} of {len(_letters(text))} letters differ")
    if match.distance == 0:
        return check.passed(f"the words “{text}” can be read", evidence, strength=True)
    remedy = f"the words “{text}”, spelled exactly and clearly readable"
    if match.distance >= len(_letters(text)) or not match.read:
        return check.failed(f"text missing: “{text}” is not in the picture", evidence[1:], remedy=remedy)
    letters = "letter differs" if match.distance == 1 else "letters differ"
    issue = f"text wrong: “{text}” reads “{match.read}” ({match.distance} {letters})"
    return check.failed(issue, evidence, remedy=remedy)


def _garbled(lines: Sequence[Line]) -> Finding:
    """Reported, never failing: what a reader cannot read may be far away, or another script."""
    check = Check("text", "Whether there is text that cannot be read (information)", weight=0)
    unreadable = [
        line.text
        for line in lines
        if line.confidence < GARBLED_BELOW
        and line.height >= GARBLED_HEIGHT
        and len(_letters(line.text)) >= GARBLED_LETTERS
    ]
    if unreadable:
        return check.reported(f"garbled text that was not asked for: “{'”, “'.join(unreadable[:3])}”")
    readable = [line.text for line in lines if line.confidence >= GARBLED_BELOW]
    return check.passed(f"text reads “{'”, “'.join(readable[:3])}”" if readable else "no text that cannot be read")


def _not_read(wanted: Sequence[str], why: str) -> list[Finding]:
    if not wanted:
        return []
    _say_once(f"What stands in quotation marks can be looked for in the picture with the optional reader: {why}")
    check = Check("text", f"The words “{wanted[0]}” can be read", weight=2)
    return [check.unmeasured(f"text in the picture was not read: {why}")]


@functools.cache
def _say_once(text: str) -> None:
    log.warning("%s", text)


# --- reading --------------------------------------------------------------------------------------


_run_options: list[Any] = []
"""Of the runs of every reader's models: how they are told to end."""


def _stop_reading() -> None:
    for options in _run_options:
        options.terminate = True


_calls = NativeCalls(_stop_reading)
"""The reader's libraries: they are not known to be safe in several threads."""


class Reader:
    """RapidOCR, loaded once; one picture at a time."""

    def __init__(self) -> None:
        import onnxruntime  # type: ignore[import-untyped, import-not-found, unused-ignore]
        from rapidocr import RapidOCR  # type: ignore[import-untyped, import-not-found, unused-ignore]

        self._engine: Any = RapidOCR(params={"Global.log_level": "critical", "Global.text_score": 0.3})
        _load_models(self._engine)
        options = onnxruntime.RunOptions()
        for part in vars(self._engine).values():
            session = getattr(getattr(part, "session", None), "session", None)
            if isinstance(session, onnxruntime.InferenceSession):
                session.run = functools.partial(session.run, run_options=options)
        _run_options.append(options)

    def read(self, rgb: Bytes) -> list[Line]:
        """Every line that was found, from top to bottom. ``rgb``: uint8 (H, W, 1 or 3)."""
        bgr = np.ascontiguousarray(np.broadcast_to(rgb, (*rgb.shape[:2], 3))[:, :, ::-1])
        with _calls.alone():
            found = self._engine(bgr)
        if found.txts is None or found.boxes is None:
            return []
        rows = zip(found.txts, found.boxes, found.scores, strict=True)
        return [Line(text, np.asarray(corners, float), float(score)) for text, corners, score in rows]

    def read_again(self, rgb: Bytes, lines: Sequence[Line], height: int) -> list[Line]:
        """The place of these lines, cut out and brought to ``height`` px a line: another look at a near miss."""
        return self.read(_cut_out(rgb, lines, height)) if lines else []

    def read_reduced(self, rgb: Bytes) -> list[Line]:
        """The whole picture at ``REDUCED`` of its size, on a ground of the old size: the reader enlarges small ones."""
        height, width = rgb.shape[:2]
        size = (max(8, round(width * REDUCED)), max(8, round(height * REDUCED)))
        whole = np.ascontiguousarray(np.broadcast_to(rgb, (height, width, 3)))
        ground = np.empty_like(whole)
        ground[:] = whole.mean(axis=(0, 1)).astype(np.uint8)
        ground[: size[1], : size[0]] = np.asarray(Image.fromarray(whole).resize(size, Image.Resampling.LANCZOS))
        return [replace(line, corners=line.corners / REDUCED) for line in self.read(ground)]


def _load_models(engine: Any) -> None:
    """RapidOCR loads them when it first needs them, which cannot be told to end. It has methods for it that are not
    promised; where they are gone, a word is read, which takes two seconds more."""
    loaders = [getattr(engine, f"_load_{part}_model", None) for part in ("det", "cls", "rec")]
    if all(loaders):
        for load in loaders:
            load()  # type: ignore[misc]
    else:
        engine(_a_word())


def _a_word() -> Bytes:
    picture = Image.new("RGB", (240, 80), "white")
    ImageDraw.Draw(picture).text((40, 15), "WORD", fill="black", font=ImageFont.load_default(48))
    return np.asarray(picture)


def _reader() -> Reader:
    with _calls.alone():  # importing C++ is a call too
        import onnxruntime  # type: ignore[import-untyped, import-not-found, unused-ignore]  # noqa: F401
    with _calls.alone():
        import rapidocr  # type: ignore[import-untyped, import-not-found, unused-ignore]  # noqa: F401
    with _calls.alone():
        return _loaded()


@functools.cache
def _loaded() -> Reader:
    return Reader()


def _cut_out(rgb: Bytes, lines: Sequence[Line], height: int) -> Bytes:
    """What is around these lines, so large that the highest of them is ``height`` px high."""
    corners = np.concatenate([line.corners for line in lines])
    highest = max(1.0, *(line.height for line in lines))
    left, top = np.maximum(corners.min(axis=0) - MARGIN * highest, 0).astype(int)
    right, bottom = np.ceil(corners.max(axis=0) + MARGIN * highest).astype(int)
    part = np.ascontiguousarray(np.broadcast_to(rgb, (*rgb.shape[:2], 3))[top:bottom, left:right])
    scale = height / highest
    size = (max(8, round(part.shape[1] * scale)), max(8, round(part.shape[0] * scale)))
    return np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BICUBIC))


# --- comparing ------------------------------------------------------------------------------------


def best_match(wanted: str, lines: Sequence[Line]) -> Match:
    """The part of what was read that is likest to ``wanted``, which may run over several lines."""
    target = _letters(wanted)
    read = [letter for number, line in enumerate(lines) for letter in _placed_letters(number, line.text)]
    if not read:
        return Match("", len(target))
    distance, start, end = min(_places(target, read))
    numbers = sorted({letter.line for letter in read[start:end]})
    parts = []
    for number in numbers:
        there = [letter.index for letter in read[start:end] if letter.line == number]
        parts.append(lines[number].text[there[0] : there[-1] + 1])
    return Match(" ".join(parts), min(distance, len(target)), tuple(lines[number] for number in numbers))


@dataclass(frozen=True)
class _Letter:
    """A letter that was read: folded, in which line and where, and whether a word begins with it."""

    letter: str
    line: int
    index: int
    begins: bool


def _letters(text: str) -> str:
    """What is compared: letters and digits, in one case and one width."""
    return "".join(letter.letter for letter in _placed_letters(0, text))


def _placed_letters(line: int, text: str) -> Iterable[_Letter]:
    begins = True
    for index, character in enumerate(unicodedata.normalize("NFC", text)):
        folded = unicodedata.normalize("NFKC", character).casefold()
        for letter in folded:
            if letter.isalnum():
                yield _Letter(letter, line, index, begins)
                begins = False
        begins = begins or (not any(letter.isalnum() for letter in folded) and character not in "'’-")


def _places(target: str, read: Sequence[_Letter]) -> Iterator[tuple[int, int, int]]:
    """(letters that differ, start, end) of the likest place that ends at each letter read.

    Edit distance of a text within a longer one (P. Sellers, 1980); letters that are joined to the place without
    a space belong to it, and differ.
    """
    above = [(0, start) for start in range(len(read) + 1)]
    for row, wanted in enumerate(target, 1):
        here = [(row, 0)]
        for column, letter in enumerate(read, 1):
            other = above[column - 1][0] + (wanted != letter.letter), above[column - 1][1]
            missing = above[column][0] + 1, above[column][1]
            added = here[column - 1][0] + 1, here[column - 1][1]
            here.append(min(other, missing, added, key=lambda each: each[0]))
        above = here
    for end, (distance, start) in enumerate(above):
        if end > start:
            yield distance + _joined_before(read, start) + _joined_after(read, end), start, end


def _joined_before(read: Sequence[_Letter], start: int) -> int:
    count = 0
    while start - count > 0 and not read[start - count].begins:
        count += 1
    return count if count <= MISSING_SPACE else 0


def _joined_after(read: Sequence[_Letter], end: int) -> int:
    count = 0
    while end + count < len(read) and not read[end + count].begins:
        count += 1
    return count if count <= MISSING_SPACE else 0
