"""The attempts of one loop: what was made, which is the best, and what comes next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ...runflow_api.errors import InvalidInputError
from ...runflow_api.evaluation.question import LONGEST, require_choice
from ...runflow_api.evaluation.verdict import UNKNOWN, BatchVerdict, Verdict, credits_text, total_cost
from .. import _image_batch
from . import graph as _loop

LOOP_OUT, PROMPT_OUT, SEED_OUT, ATTEMPT_OUT, ISSUES_OUT, ORIGINAL_OUT = range(6)
"""Start's outputs, which its stand-in has in the same order."""
MAX_ATTEMPTS = 20
NEXT_PROMPT, NEXT_SEED = ("improved", "keep"), ("increment", "random", "keep")
NO_ATTEMPT = "No attempt was made."
KEEP_WITH_KEEP = (
    "next_prompt keep with next_seed keep makes the same attempt again. Set next_seed to increment, or next_prompt "
    f"to improved. {NO_ATTEMPT}"
)
LONGEST_PROMPT = LONGEST["generation_prompt"]


@dataclass(frozen=True)
class LoopState:
    """What the loop socket carries: whose turn it is. ``start`` is the id of Start or of its stand-in.

    ``memory`` is Start's: what was made, for each End. ComfyUI has Start's outputs in its cache for as long as
    neither Start changes nor /free is called, and what it has of clones for a shorter time: by default a recent
    ComfyUI drops them as soon as the next prompt runs.
    """

    start: str
    prompt: str
    seed: int
    memory: dict[str, RememberedAttempts] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class LoopSettings:
    """End's settings."""

    max_attempts: int = 3
    next_prompt: str = "improved"
    next_seed: str = "increment"
    stop_on_pass: bool = True
    keep_attempts: bool = False

    def check(self) -> None:
        """Refuse what cannot work. ComfyUI checks no linked value and, on 0.3.75, no choice."""
        require_choice("next_prompt", self.next_prompt, NEXT_PROMPT)
        require_choice("next_seed", self.next_seed, NEXT_SEED)
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
class Attempt:
    """One attempt: what it was made from, and what came out. ``hashes`` stay when the image is let go of."""

    number: int
    turn: LoopState
    image: torch.Tensor | None
    verdict: BatchVerdict | None
    hashes: tuple[str, ...]
    inside: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What loops inside the body chose in this attempt, for the metadata."""
    output_nodes: frozenset[str] = frozenset()
    """What previewed and saved in this attempt, by the identity of each."""
    recalled: bool = False
    """Made in an earlier run: nothing of it was made or paid again."""

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """What passed, then what was judged, then by score."""
        return self.passed, self.outcome != UNKNOWN, self.score

    @property
    def passed(self) -> bool:
        return self.verdict is not None and self.verdict.passed

    @property
    def score(self) -> float:
        return self.verdict.score if self.verdict else 0.0

    @property
    def outcome(self) -> str:
        return self.verdict.outcome if self.verdict else UNKNOWN

    @property
    def suggestion(self) -> str:
        """The improvement of the worst image's prompt, "" for none: then it repeats what Evaluate was given."""
        worst = self.verdict.worst if self.verdict else None
        return "" if worst is None or worst.improved_prompt == worst.subject.prompt else worst.improved_prompt

    @property
    def others_were_judged(self) -> bool:
        return self.verdict is not None and _image_batch.differ(self.hashes, self.verdict)

    @property
    def cost(self) -> str:
        """What this run paid for it in credits, "" where nobody knows."""
        return "0" if self.recalled else credits_text(total_cost(self.verdict or ()))

    def to_json(self) -> dict[str, Any]:
        """As the panel shows it and API clients read it."""
        members = [_member(each, image) for each, image in zip(self.verdict or (), self.hashes, strict=False)]
        return {**self.recipe(), "cost": self.cost, "members": members}

    def recipe(self) -> dict[str, Any]:
        """How it was made and what was said of it, for the metadata of what is saved."""
        verdict = self.verdict
        return {
            "attempt": self.number,
            "prompt": self.turn.prompt,
            "seed": self.turn.seed,
            "seed_digits": str(self.turn.seed),  # a number of more than 53 bits loses some in JavaScript
            "verdict": self.outcome,
            "passed": self.passed,
            "score": self.score,
            "issues": verdict.issues.splitlines() if verdict else [],
            "images": list(self.hashes),
            "evaluation_ids": [each.evaluation.id for each in verdict or () if each.evaluation.id],
        }


def _member(verdict: Verdict, image: str) -> dict[str, Any]:
    """One image of an attempt, for those who look at it or rate it."""
    return {
        "id": verdict.evaluation.id,
        "image": image,
        "verdict": str(verdict.outcome),
        "score": verdict.score,
        "judge": verdict.judge,
        "cost": credits_text(verdict.cost),
    }


@dataclass
class RememberedAttempts:
    """The attempts that are remembered for an End, and beyond them those that fewer attempts left out.

    ``identity`` names what they are made with, besides prompt and seed: with another one all are new.
    """

    identity: str
    made: list[Attempt]
    beyond: list[Attempt]


class History:
    """The attempts so far. Images: of the best and of the latest one, and of all only where they are kept.

    ``identity`` is that of ``RememberedAttempts``. ``output_nodes`` preview and save in each attempt. ``reaching`` are
    Start's outputs that the image depends on.
    """

    def __init__(
        self, body: _loop.Body, first: LoopState, identity: str, output_nodes: frozenset[str], reaching: frozenset[int]
    ) -> None:
        self.body, self.first, self.output_nodes, self.reaching = body, first, output_nodes, reaching
        self.made: list[Attempt] = []
        known = first.memory.get(body.end)
        self._beyond = [*known.made, *known.beyond] if known and known.identity == identity else []
        first.memory[body.end] = RememberedAttempts(identity, self.made, self._beyond)

    @property
    def best(self) -> Attempt:
        return max(self.made, key=lambda made: made.rank)  # the earliest of equals

    @property
    def latest(self) -> Attempt:
        return self.made[-1]

    @property
    def repeated(self) -> bool:
        return len(self.made) > 1 and self.made[-2].hashes == self.latest.hashes

    def would_change(self, turn: LoopState) -> bool:
        """Whether an image made from ``turn`` can be another one than the latest."""
        now = self.latest.turn
        changed = {ATTEMPT_OUT, ISSUES_OUT}
        changed |= {PROMPT_OUT} if turn.prompt != now.prompt else set()
        changed |= {SEED_OUT} if turn.seed != now.seed else set()
        return bool(changed & self.reaching)

    def add(self, made: Attempt, rules: LoopSettings) -> None:
        """One more, in the place of the one that was made from the same before."""
        same = bool(self._beyond) and self._beyond[0].hashes == made.hashes
        self._beyond[:] = self._beyond[1:] if same else []
        self.made.append(made)
        self.drop_images(rules, but_for=made)

    def drop_images(self, rules: LoopSettings, but_for: Attempt | None = None) -> None:
        """Drop the images that nobody asks for any more."""
        if rules.keep_attempts:
            return
        best_known = max([*self.made, *self._beyond], key=lambda made: made.rank)
        needed = {id(self.best), id(best_known), id(but_for)}
        for attempts in (self.made, self._beyond):
            attempts[:] = [made if id(made) in needed else replace(made, image=None) for made in attempts]

    def recall(self, rules: LoopSettings) -> None:
        """Add the attempts that were made before and would be made again, if what is needed of them is at hand."""
        fresh, known = len(self.made), list(self._beyond)
        while self._beyond and self.output_nodes <= self._beyond[0].output_nodes:
            turn = following(self, rules)
            made = self._beyond[0].turn
            if not isinstance(turn, LoopState) or (turn.prompt, turn.seed) != (made.prompt, made.seed):
                break
            self.made.append(replace(self._beyond.pop(0), recalled=True))
        if any(made.image is None for made in (self.made if rules.keep_attempts else [self.best])):
            self.made[fresh:], self._beyond[:] = [], known


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


def following(history: History, rules: LoopSettings) -> LoopState | str:
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
    turn = LoopState("", _next_prompt(made, rules), seed)
    if not history.would_change(turn):
        same = (turn.prompt, turn.seed) == (made.turn.prompt, made.turn.seed)
        why = "no other prompt was suggested and the seed is kept" if same else "what changes does not reach the image"
        return f"{why}: the next attempt would be the same"
    return turn


def _next_prompt(made: Attempt, rules: LoopSettings) -> str:
    """The improvement, where there is one that can be judged."""
    kept = rules.next_prompt == "keep" or len(made.suggestion) > LONGEST_PROMPT
    return made.turn.prompt if kept else made.suggestion or made.turn.prompt


def notes(history: History, rules: LoopSettings) -> list[str]:
    """What the attempts changed in vain, and what was suggested in vain."""
    said = []
    for name, socket in (("prompt", PROMPT_OUT), ("seed", SEED_OUT)):
        changed = {getattr(made.turn, name) for made in history.made}
        if len(changed) > 1 and socket not in history.reaching:
            said.append(f"the {name} of the attempts changed, but current_{name} does not reach the image")
    for made in history.made[:-1] if rules.next_prompt != "keep" else []:
        if (length := len(made.suggestion)) > LONGEST_PROMPT:
            said.append(
                f"the prompt suggested after attempt {made.number} has {length} characters, and Runflow takes "
                f"{LONGEST_PROMPT}: it was not used"
            )
    return said
