"""What must be right, as questions with yes or no for an answer.

Each line of *What must be right* is one requirement, and that the image shows the prompt is one more. The
wording of the questions is fixed: in a loop the same questions are asked at every attempt, so that attempts
compare line by line, and a remembered verdict answers exactly what would be asked today (``WORDING``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InvalidInputError

WORDING = 1
"""Raised with every change of a text below: a verdict is remembered for one wording."""
MAX_REQUIREMENTS = 32
"""Each one is a question of its own, and takes the model seconds."""
SHOWS_THE_PROMPT = "shows what the prompt asks for"

_BULLET = re.compile(
    r"^\s*(?:[•·\u30fb\u2023\u2610\u2611\u2713\u2714\u2460-\u2473]\s*|[(\uff08]?\d{1,2}[\u3001\uff0e\uff09]\s*"
    r"|(?:[-*+–—]|\(?\d{1,2}[.):])\s+)"
)
"""Of a list, also as it is written in Chinese, Japanese and Korean: in circles, in full width, in brackets."""
_RULE = re.compile(r"^[-–—=_*#~.·\s]*$")
_ANSWER = "Begin your answer with the one word yes or no, then a full stop, then one short sentence on what you see."


@dataclass(frozen=True)
class Requirement:
    """``text`` as the person wrote it, ``question`` as the model is asked."""

    text: str
    question: str


def requirements_of(instructions: str, prompt: str) -> list[Requirement]:
    """The requirements in their order: first the lines of ``instructions``, then the prompt, each once.

    Raises ``InvalidInputError`` for more lines than anybody would wait for.
    """
    lines = [_without_bullet(line) for line in instructions.splitlines() if not _RULE.match(line)]
    lines = list(dict.fromkeys(filter(None, lines)))
    if len(lines) > MAX_REQUIREMENTS:
        raise InvalidInputError(
            "evaluation_instructions",
            f"has {len(lines)} lines; a vision model is asked one question for each, at most {MAX_REQUIREMENTS}.",
        )
    found = [Requirement(line, _requirement_question(line)) for line in lines]
    if prompt.strip():
        found.append(Requirement(SHOWS_THE_PROMPT, _prompt_question(prompt.strip())))
    return found


def rewrite_question(prompt: str, failed: list[str]) -> str:
    """Ask for a prompt that would meet what failed, and change nothing else. ``failed``: one line each."""
    complaints = "\n".join(f"- {_harmless(line)}" for line in failed)
    return (
        f"This prompt made the image:\n\n“{_harmless(prompt.strip())}”\n\n"
        f"The image is wrong in these points:\n{complaints}\n\n"
        "Rewrite the prompt so that the next image is right in these points. Keep everything else, and keep the "
        "language of the prompt. Answer with the new prompt only."
    )


def _requirement_question(line: str) -> str:
    return f"Look at the image. This is required of it:\n\n“{_harmless(line)}”\n\nIs that so in the image? {_ANSWER}"


def _prompt_question(prompt: str) -> str:
    return (
        f"Look at the image. It was made from this prompt:\n\n“{_harmless(prompt)}”\n\n"
        f"Does the image show everything that the prompt asks for? {_ANSWER}"
    )


def _without_bullet(line: str) -> str:
    return " ".join(_BULLET.sub("", line, count=1).split())


def _harmless(text: str) -> str:
    """Without the brackets of which models build the marks of their templates, such as the end of a turn."""
    return text.replace("<", "‹").replace(">", "›")
