"""Yes or no, read strictly: an answer that does not begin with one of the two is no answer.

A model that rambles, hedges, answers with both words or is cut off while it thinks has not measured anything.
Guessing what it meant would turn babble into a verdict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_REASON = 240
YES = frozenset(
    # English, German, Dutch and Nordic, French, Spanish, Italian, Portuguese, Polish, Czech, Russian, Ukrainian,
    # Turkish, Greek, Hungarian; Finnish, Romanian, Indonesian, Vietnamese, Arabic, Hebrew, Hindi, Thai, Korean,
    # Japanese, Chinese
    "yes ja oui sí si sì sim tak ano да так evet ναι igen "
    "kyllä da ya có نعم כן हाँ हां ใช่ 예 네 はい 是 是的 对 對".split()
)
NO = frozenset(
    "no nein nee nej nei non não nie ne нет ні hayır όχι nem "
    "ei nu tidak không لا לא नहीं ไม่ ไม่ใช่ 아니요 아니오 아뇨 いいえ 否 不 不是 没有 沒有".split()
)

_THINKING = re.compile(r"<think>.*?</think>|<\|channel>thought.*?<channel\|>", re.DOTALL)
_OPEN_THINKING = re.compile(r"<think>|<\|channel>thought")
_TEMPLATE_MARKS = re.compile(r"<\|[^|<>]{1,40}\|>|<(?:end|start)_of_turn>|</?s>|<turn\|>")
_LABEL = re.compile(r"^(?:(?:short )?answer|antwort|réponse|respuesta|ответ|回答|答案|答)\s*[:：]\s*", re.IGNORECASE)
_FIRST_WORD = re.compile(r"([^\W\d_]+(?:[\u0300-\u036f\u0900-\u0963\u0e00-\u0e7f]*[^\W\d_]*)*)", re.UNICODE)
_DECORATION = " \t\r\n*_`#>\"'“”„«»「」『』()[]{}"
_JOINING = frozenset("or and but oder und aber ou et mais o y pero и или но".split())
_ENDS_A_WORD = re.compile(r"^\s*(?:$|[\n.,;:!?。、，；：！．…।،؛]|\s[-–—]|[-–—]\s)")
_HEDGE = re.compile(
    r"^(?:(?:i(?:'m| am)? )?(?:can ?not|can't|am not able to|unable to|not sure|unsure|unclear|uncertain|don't know)\b"
    r"|(?:it is |it's )?(?:impossible to|not possible to|hard to|difficult to) (?:tell|say|see|determine|judge)"
    r"|无法|不确定|不清楚|看不清|わかりません|判断できません|不明)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """``is_yes`` is ``None`` where the model said neither; ``reason`` is what it said beside, on one line."""

    is_yes: bool | None
    reason: str


def read_answer(text: str) -> Answer:
    """What the model answered to a question for yes or no."""
    spoken = spoken_text(text)
    if spoken is None:
        return Answer(None, "the answer was cut off while the model was thinking")
    plain = _LABEL.sub("", spoken.lstrip(_DECORATION)).lstrip(_DECORATION)
    word, rest = _first_word(plain)
    is_yes = True if word in YES else False if word in NO else None
    said = rest.lstrip(_DECORATION + ".,;:!?。、，；：！．…।،؛-–—/|")
    if is_yes is None or not _stands_alone(rest) or _takes_it_back(said, is_yes):
        return Answer(None, _shortened(spoken) or "the answer was empty")
    return Answer(is_yes, _shortened(said))


def spoken_text(text: str) -> str | None:
    """An answer without its thinking and its template's marks; ``None`` where the thinking never ended."""
    text = _THINKING.sub(" ", text)
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
    return bool(_ENDS_A_WORD.match(rest.lstrip("*_`\"'”»」』)]}")))


def _takes_it_back(said: str, is_yes: bool) -> bool:
    """Whether what follows is the other answer, or says that the model does not know."""
    word, rest = _first_word(said)
    if word in _JOINING:
        word, rest = _first_word(rest.lstrip(_DECORATION))
    opposite = word in (NO if is_yes else YES) and _stands_alone(rest)
    return opposite or bool(_HEDGE.match(said))


def _shortened(text: str) -> str:
    line = " ".join(text.split()).strip(_DECORATION)
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"
