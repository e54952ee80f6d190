"""Yes or no, read strictly: an answer that does not begin with one of the two is no answer.

A model that rambles, hedges ("yes, but …"), answers with both words, takes its answer back later, repeats itself
without end or is cut off has not measured anything. Guessing what it meant would turn babble into a verdict.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LONGEST_REASON = 240
LONGEST_ANSWER = 8_000
"""Characters. The question asks for one sentence beside yes or no; a model that writes a book does not answer it."""
_WORDS: dict[str, list[str]] = json.loads(Path(__file__).with_name("words.json").read_text("utf-8"))
YES, NO = frozenset(_WORDS["yes"]), frozenset(_WORDS["no"])
"""In English, German, Dutch and Nordic, French, Spanish, Italian, Portuguese, Polish, Czech, Russian, Ukrainian,
Turkish, Greek, Hungarian, Finnish, Romanian, Indonesian, Vietnamese, Arabic, Hebrew, Hindi, Thai, Korean, Japanese and
Chinese."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, which neither every terminal nor every database takes, and halves of a pair (a cut-off emoji),
which nothing can write."""
_KEYS = frozenset(_WORDS["labels"])
_FENCE = re.compile(r"^```(?:json)?\s*|\s*```$")
_JOINING = frozenset(_WORDS["joining"])
_THINKING = re.compile(r"<think>.*?</think>|<\|channel>thought.*?<channel\|>", re.DOTALL)
_OPEN_THINKING = re.compile(r"<think>|<\|channel>thought")
_TEMPLATE_MARKS = re.compile(r"<\|[^|<>]{1,40}\|>|<(?:end|start)_of_turn>|</?s>|<turn\|>")
_LABEL = re.compile(rf"^(?:{'|'.join(_WORDS['labels'])})\s*[:\uff1a]\s*", re.IGNORECASE)
_FIRST_WORD = re.compile(r"([^\W\d_]+(?:[\u0300-\u036f\u0900-\u0963\u0e00-\u0e7f]*[^\W\d_]*)*)")
_SENTENCE_MARKS = ".,;:!?\u2026\u3001\u3002\uff01\uff0c\uff0e\uff1a\uff1b\uff1f\u0964\u060c\u061b"
"""Of Latin, Chinese and Japanese, Hindi, Arabic."""
_DECORATION = " \t\r\n*_`#>\"'\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d\u300e\u300f()[]{}"
_CLOSING = "*_`\"'\u201d\u00bb\u300d\u300f)]}"
_ENDS_A_WORD = re.compile(rf"^\s*(?:$|[\n{_SENTENCE_MARKS}]|\s[-\u2013\u2014]|[-\u2013\u2014]\s)")
_HEDGE = re.compile(
    r"^(?:(?:i(?:['’]m| am)? )?(?:can ?not|can['’]t|am not able to|unable to|not sure|unsure|unclear|uncertain"
    r"|don['’]t know)\b|(?:let me|let['’]s|i['’]ll|i will)\b"
    r"|(?:it is |it's )?(?:impossible to|not possible to|hard to|difficult to) (?:tell|say|see|determine|judge)"
    rf"|{'|'.join(_WORDS['does_not_know'])})",
    re.IGNORECASE,
)
_RESERVATION = re.compile(
    rf"^(?:(?:{'|'.join(map(re.escape, _WORDS['reserving']))})(?!\w)|{'|'.join(_WORDS['reserving_begins'])})",
    re.IGNORECASE,
)
_MEANS_YES_IF = {
    "\u0442\u0430\u043a": re.compile(r"^\W*$|[\u0456\u0457\u0454\u0491]", re.IGNORECASE),
    "tak": re.compile(
        r"^[^\u00e1\u010d\u010f\u00e9\u011b\u00ed\u0148\u0159\u0161\u0165\u00fa\u016f\u00fd\u017e\u00e6\u00f8\u00e5\u00e4\u00f6]*$",
        re.IGNORECASE,
    ),
}
"""Yes in Ukrainian and in Polish; a word that begins any sentence ("so", "thanks") in Russian, Czech and Danish."""


_ENDS_A_SENTENCE = re.compile(r"[.!?\n\u2026\u3002\uff01\uff0e\uff1f\u0964]+")
_SEPARATES = re.compile(rf"[\s{_SENTENCE_MARKS}/|\-\u2013\u2014\u2022]+")
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\W_]+")
"""A word; of scripts without spaces, a character."""
_SAYS_IT_AGAIN = re.compile(
    rf"(?<!\w)(?:{'|'.join(_WORDS['labels'])})\s*(?:[:\uff1a=]|(?:{'|'.join(_WORDS['is'])})(?!\w)"
    r"|[\u662f\u4e3a\u70ba\u306f\uc740\ub294])"
    rf"[\s{re.escape(_DECORATION)}:\uff1a]*",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    rf"^(?:(?:{'|'.join(map(re.escape, _WORDS['corrects_itself']))})(?!\w)"
    rf"|{'|'.join(_WORDS['corrects_itself_begins'])})"
    rf"[\s{_SENTENCE_MARKS}\-\u2013\u2014]*",
    re.IGNORECASE,
)
ANSWERS_IN_A_ROW = 3
"""So often the same word as whole answer is no answer: people write "yes, yes" at most."""
SHORT_PHRASE, SHORT_REPEATS, LONG_REPEATS = 3, 6, 4
"""So often a phrase of fewer than ``SHORT_PHRASE`` words, or of more, follows itself in a model that is in a loop."""
LONGEST_PHRASE, MOST_TOKENS = 60, 4_096
_MARKS_WITHOUT_END = re.compile(r"([^\w\s])\1{39}")


class CutOff(str):
    """An answer that ended where the model had to stop, not where it wanted to. ``advice`` says what to do."""

    advice = ""

    @classmethod
    def of(cls, text: str, advice: str) -> CutOff:
        cut_off = cls(text)
        cut_off.advice = advice
        return cut_off


@dataclass(frozen=True)
class YesOrNo:
    """``is_yes`` is ``None`` where the model said neither; ``reason`` is what it said beside, on one line."""

    is_yes: bool | None
    reason: str


def read_answer(text: str) -> YesOrNo:
    """What the model answered to a question for yes or no."""
    spoken = spoken_text(text)
    if spoken is None:
        return YesOrNo(None, "the answer was cut off while the model was thinking")
    if isinstance(text, CutOff):
        return YesOrNo(None, _shortened(f"the answer was cut off{text.advice}: {spoken}"))
    if len(spoken) > LONGEST_ANSWER:
        return YesOrNo(None, _shortened(f"the answer has {len(spoken)} characters: {spoken}"))
    if repeats_itself(spoken):
        return YesOrNo(None, _shortened(f"the model repeats itself: {spoken}"))
    spoken = _without_json(spoken)
    plain = _LABEL.sub("", spoken.lstrip(_DECORATION)).lstrip(_DECORATION)
    word, rest = _first_word(plain)
    is_yes = True if word in YES else False if word in NO else None
    if word in _MEANS_YES_IF and not _MEANS_YES_IF[word].search(rest):
        is_yes = None
    said = rest.lstrip(f"{_DECORATION}{_SENTENCE_MARKS}-\u2013\u2014/|")
    if is_yes is None or not _stands_alone(rest) or _takes_it_back(said, is_yes):
        return YesOrNo(None, _shortened(spoken) or "the answer was empty")
    return YesOrNo(is_yes, _shortened(said))


def printable(text: str) -> str:
    """``text`` with a mark in the place of each character that cannot be kept or shown."""
    return _UNPRINTABLE.sub("\ufffd", text)


def spoken_text(text: str) -> str | None:
    """An answer without its thinking and its template's marks; ``None`` where the thinking never ended."""
    text = _THINKING.sub(" ", printable(text))
    _, closing, after = text.rpartition("</think>")  # some templates open the thinking themselves
    text = after if closing else text
    if _OPEN_THINKING.search(text):
        return None
    return _TEMPLATE_MARKS.sub(" ", text).strip()


def _first_word(text: str) -> tuple[str, str]:
    found = _FIRST_WORD.match(text)
    if found is None:
        return "", text
    return found.group(1).casefold(), text[found.end() :]


def _stands_alone(rest: str) -> bool:
    """Whether the word is an answer, not the begin of another phrase: "no idea", "yes or no"."""
    return bool(_ENDS_A_WORD.match(rest.lstrip(_CLOSING)))


def _takes_it_back(said: str, is_yes: bool) -> bool:
    """Whether what follows is the other answer, or says that the model does not know."""
    word, rest = _first_word(said)
    if word in _JOINING:
        word, rest = _first_word(rest.lstrip(_DECORATION))
    opposite = word in (NO if is_yes else YES) and _stands_alone(rest)
    if opposite or _HEDGE.match(said) or (is_yes and _RESERVATION.match(said)):
        return True
    return any(_contradicts(sentence, is_yes) for sentence in _ENDS_A_SENTENCE.split(said))


def _contradicts(sentence: str, is_yes: bool) -> bool:
    """Whether a sentence after the answer is the other answer: "No", "Wait, no", "So the answer is no", "But …"."""
    said = sentence.strip(_DECORATION)
    corrected = _CORRECTION.sub("", said)
    again = _SAYS_IT_AGAIN.search(said)
    for begin in (said, corrected, said[again.end() :] if again else ""):
        word, rest = _first_word(begin.lstrip(_DECORATION))
        if word in (NO if is_yes else YES) and _stands_alone(rest):
            return True
    return is_yes and (corrected != said or bool(_RESERVATION.match(said)))


def repeats_itself(text: str) -> bool:
    """Whether the model is in a loop: one answer, or one phrase, again and again."""
    answers = [each.strip(_DECORATION).casefold() for each in _SEPARATES.split(text[: MOST_TOKENS * 8])]
    first = [each for each in answers if each][:ANSWERS_IN_A_ROW]
    if len(first) == ANSWERS_IN_A_ROW and len(set(first)) == 1 and first[0] in YES | NO:
        return True
    if _MARKS_WITHOUT_END.search(text):
        return True
    words = [match.group().casefold() for match in itertools.islice(_TOKEN.finditer(text), MOST_TOKENS)]
    return any(_repeats(words, length) for length in range(1, min(LONGEST_PHRASE, len(words) // LONG_REPEATS) + 1))


def _repeats(words: Sequence[str], length: int) -> bool:
    """Whether a phrase of ``length`` words follows itself as often as no answer to a question needs."""
    wanted = length * ((SHORT_REPEATS if length < SHORT_PHRASE else LONG_REPEATS) - 1)
    same = 0
    for before, word in zip(words, words[length:], strict=False):
        same = same + 1 if word == before else 0
        if same >= wanted:
            return True
    return False


def _without_json(text: str) -> str:
    """``{"answer": "yes", "reason": "…"}``, which some models write unasked, as "yes. …"; other texts as they are."""
    unfenced = _FENCE.sub("", text).strip()
    if not unfenced.startswith("{"):
        return text
    try:
        fields = json.loads(unfenced)
    except (ValueError, RecursionError):
        return text
    words = [("yes" if value else "no") if isinstance(value, bool) else value for value in fields.values()]
    if not words or not all(isinstance(word, str) for word in words) or next(iter(fields)).casefold() not in _KEYS:
        return text
    return ". ".join(words)


def _shortened(text: str) -> str:
    line = " ".join(text.split()).strip(_DECORATION)
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"
