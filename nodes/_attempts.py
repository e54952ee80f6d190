"""The attempts of one loop: what was made, which is the best, and what comes next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..runflow_api import request
from ..runflow_api.errors import InvalidInputError
from ..runflow_api.verdict import UNKNOWN, BatchVerdict
from . import _loop, _members

LOOP_OUT, PROMPT_OUT, SEED_OUT, ATTEMPT_OUT, ISSUES_OUT, ORIGINAL_OUT = range(6)
"""Start's outputs, which its stand-in has in the same order."""
MAX_ATTEMPTS = 20
NEXT_PROMPT, NEXT_SEED = ("improved", "keep"), ("increment", "random", "keep")
NOTHING_PAID = "Nothing was generated or paid."
KEEP_WITH_KEEP = (
    "next_prompt keep with next_seed keep makes the same attempt again. Set next_seed to increment, or next_prompt "
    f"to improved. {NOTHING_PAID}"
)


@dataclass(frozen=True)
class Turn:
    """What the loop socket carries: whose turn it is. ``start`` is the id of Start or of its stand-in.

    ``memory`` is Start's: what was made, for each End. ComfyUI has Start's outputs in its cache for as long as
    neither Start changes nor /free is called, and what it has of clones for a shorter time: by default a recent
    ComfyUI drops them as soon as the next prompt runs.
    """

    start: str
    prompt: str
    seed: int
    memory: dict[str, tuple[str, list[Made]]] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Rules:
    """End's settings."""

    max_attempts: int = 3
    next_prompt: str = "improved"
    next_seed: str = "increment"
    stop_on_pass: bool = True
    keep_attempts: bool = False

    def check(self) -> None:
        """Refuse what cannot work. ComfyUI checks no linked value and, on 0.3.75, no choice."""
        request.chosen("next_prompt", self.next_prompt, NEXT_PROMPT)
        request.chosen("next_seed", self.next_seed, NEXT_SEED)
        if not 1 <= self.max_attempts <= MAX_ATTEMPTS:
            raise InvalidInputError("max_attempts", f"{self.max_attempts} is not between 1 and {MAX_ATTEMPTS}.")
        if self.next_prompt == self.next_seed == "keep":
            raise InvalidInputError("next_seed", KEEP_WITH_KEEP)

    @property
    def changing(self) -> set[int]:
        """Start's outputs that differ from attempt to attempt."""
        changing = {ATTEMPT_OUT, ISSUES_OUT}
        changing |= {PROMPT_OUT} if self.next_prompt != "keep" else set()
        return changing | ({SEED_OUT} if self.next_seed != "keep" else set())


@dataclass(frozen=True)
class Made:
    """One attempt: what it was made from, and what came out. ``hashes`` stay when the image is let go of."""

    number: int
    turn: Turn
    image: torch.Tensor | None
    verdict: BatchVerdict | None
    hashes: tuple[str, ...]
    inside: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What loops inside the body chose in this attempt, for the metadata."""

    @property
    def rank(self) -> tuple[bool, float]:
        return (self.verdict.passed, self.verdict.score) if self.verdict else (False, 0.0)

    @property
    def others_were_judged(self) -> bool:
        return self.verdict is not None and _members.differ(self.hashes, self.verdict)

    def to_json(self) -> dict[str, Any]:
        verdict = self.verdict
        return {
            "attempt": self.number,
            "prompt": self.turn.prompt,
            "seed": self.turn.seed,
            "seed_digits": str(self.turn.seed),  # a number of more than 53 bits loses some in JavaScript
            "verdict": verdict.outcome if verdict else UNKNOWN,
            "passed": bool(verdict and verdict.passed),
            "score": verdict.score if verdict else 0.0,
            "issues": verdict.issues.splitlines() if verdict else [],
            "images": list(self.hashes),
            "evaluation_ids": [each.evaluation.id for each in verdict or () if each.evaluation.id],
        }


class History:
    """The attempts so far. Images: of the best and of the latest one, and of all only where they are kept.

    ``identity`` names what an attempt is made with, besides its prompt and seed: with another one all are new.
    """

    def __init__(self, body: _loop.Body, first: Turn, identity: str) -> None:
        self.body, self.first = body, first
        self.made: list[Made] = []
        known_with, known = first.memory.get(body.end, ("", []))
        self._known = known if known_with == identity else []
        first.memory[body.end] = (identity, self.made)

    @property
    def best(self) -> Made:
        return max(self.made, key=lambda made: made.rank)  # the earliest of equals

    @property
    def latest(self) -> Made:
        return self.made[-1]

    @property
    def repeated(self) -> bool:
        return len(self.made) > 1 and self.made[-2].hashes == self.latest.hashes

    def add(self, made: Made, rules: Rules) -> None:
        self.made.append(made)
        self.let_go(rules, but_for=made)

    def let_go(self, rules: Rules, but_for: Made | None = None) -> None:
        """Drop the images that nobody asks for any more."""
        needed = {id(self.best), id(but_for)}
        if not rules.keep_attempts:
            self.made[:] = [made if id(made) in needed else replace(made, image=None) for made in self.made]

    def recall(self, rules: Rules) -> None:
        """Add the attempts that were made before and would be made again, if what is needed of them is at hand."""
        fresh = list(self.made)
        for made in self._known[1:] if self._known[:1] and self._known[0].hashes == self.latest.hashes else []:
            turn = following(self, rules)
            if not isinstance(turn, Turn) or (turn.prompt, turn.seed) != (made.turn.prompt, made.turn.seed):
                break
            self.made.append(made)
        if any(made.image is None for made in (self.made if rules.keep_attempts else [self.best])):
            self.made[:] = fresh
        self._known = []


class Handover:
    """Carries a history to the next End, once.

    It lies in a graph that outlives the prompt (ComfyUI's progress registry keeps it), and holds no image then.
    """

    def __init__(self, history: History) -> None:
        self.body, self.number = history.body, len(history.made) + 1
        self._history: History | None = history

    def take(self) -> History | None:
        history, self._history = self._history, None
        return history


def following(history: History, rules: Rules) -> Turn | str:
    """The prompt and seed of the next attempt, or why there is none."""
    made, verdict, number = history.latest, history.latest.verdict, history.latest.number
    if verdict is None:
        return "not judged, nothing is connected to evaluation"
    if verdict.outcome == UNKNOWN:
        return f"nobody judged attempt {number}"
    if verdict.passed and rules.stop_on_pass:
        return "passed"
    if number >= rules.max_attempts:
        return "all attempts made"
    if history.repeated:
        return f"attempt {number} came out like attempt {number - 1}"
    seed = _loop.next_seed(rules.next_seed, history.first.seed, made.turn.seed, number + 1)
    turn = Turn("", _next_prompt(made, rules), seed)
    if (turn.prompt, turn.seed) == (made.turn.prompt, made.turn.seed):
        return "no other prompt was suggested and the seed is kept: the next attempt would be the same"
    return turn


def _next_prompt(made: Made, rules: Rules) -> str:
    """The improvement, where there is one. Where not, ``improved_prompt`` repeats what Evaluate was given."""
    worst = made.verdict.worst
    if rules.next_prompt == "keep" or worst.improved_prompt == worst.subject.prompt:
        return made.turn.prompt
    return worst.improved_prompt
