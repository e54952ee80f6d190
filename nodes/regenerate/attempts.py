"""The attempts of one loop: what was made, which is the best, and what comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ...runflow_api.errors import InvalidInputError
from ...runflow_api.evaluation.question import LONGEST, require_choice
from ...runflow_api.evaluation.verdict import (
    SEE_CONTENT,
    UNKNOWN,
    BatchVerdict,
    Verdict,
    credits_text,
    order_of_judge,
    total_cost,
)
from .graph import Body, Graph, next_seed

LOOP_OUT, PROMPT_OUT, SEED_OUT, ATTEMPT_OUT, ISSUES_OUT, ORIGINAL_OUT = range(6)
"""Start's outputs, which its stand-in has in the same order."""
MAX_ATTEMPTS = 20
NEXT_PROMPT, NEXT_SEED = ("improved", "keep"), ("increment", "random", "keep")
NO_ATTEMPT = "No attempt was made."
NOTHING_WOULD_CHANGE = (
    "next_prompt keep with next_seed keep makes the same attempt again. Set next_seed to increment, or next_prompt "
    f"to improved. {NO_ATTEMPT}"
)
LONGEST_PROMPT = LONGEST["generation_prompt"]
MAX_PREVIOUS_ISSUES, MAX_PREVIOUS_CHARACTERS = 12, 1_000
"""Of previous_issues, which people join to the next prompt: more does not help a model, and has to be judged too."""


@dataclass(frozen=True)
class LoopState:
    """What the loop socket carries: prompt and seed of an attempt. ``start`` is the id of Start or of its stand-in.

    ``memory`` is Start's: what was made, for each End. ComfyUI has Start's outputs in its cache for as long as
    neither Start changes nor /free is called, and what it has of clones for a shorter time: by default a recent
    ComfyUI drops them as soon as the next prompt runs.
    """

    start: str
    prompt: str
    seed: int
    memory: dict[str, RememberedAttempts] = field(default_factory=dict, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt,
            "seed": self.seed,
            "seed_digits": str(self.seed),  # a number of more than 53 bits loses some in JavaScript
        }


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
            raise InvalidInputError("next_seed", NOTHING_WOULD_CHANGE)

    @property
    def changing(self) -> set[int]:
        """Start's outputs that differ from attempt to attempt."""
        changing = {ATTEMPT_OUT, ISSUES_OUT}
        changing |= {PROMPT_OUT} if self.next_prompt != "keep" else set()
        return changing | ({SEED_OUT} if self.next_seed != "keep" else set())


@dataclass(frozen=True)
class Attempt:
    """One attempt: what it was made from, and what came out. ``hashes`` stay when the image is dropped."""

    number: int
    state: LoopState
    image: torch.Tensor | None
    verdict: BatchVerdict | None
    hashes: tuple[str, ...]
    inside: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What loops inside the body chose in this attempt, for the metadata."""
    output_nodes: frozenset[str] = frozenset()
    """What previewed and saved in this attempt, by the identity of each."""
    remembered: bool = False
    """Made in an earlier run: nothing of it was made or paid again."""

    @property
    def rank(self) -> tuple[bool, bool, bool, int, float]:
        """By whether the content was judged, then what passed, then what was judged, then by judge, then by score.

        A score is compared with those of the same judge only, and one of the local judge says nothing about content.
        """
        counts = self.passed or self.outcome != UNKNOWN
        order = max((order_of_judge(each.judge) for each in self.verdict or ()), default=len(SEE_CONTENT))
        sees_content = counts and order < len(SEE_CONTENT)
        return sees_content, self.passed, self.outcome != UNKNOWN, -order, self.score

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
        """Whether pixels were judged that are not among these, for example before an upscaler."""
        judged = {each.subject.pixel_hash for each in self.verdict or ()} - {""}
        return not judged <= set(self.hashes)

    @property
    def cost(self) -> str:
        """What this run paid for it in credits, "" if nobody knows."""
        return "0" if self.remembered else credits_text(total_cost(self.verdict or ()))

    @property
    def issues_for_the_next(self) -> str:
        """What was wrong, as the next attempt may read it: whole lines, and few enough to stand in a prompt."""
        lines = self.verdict.issues.splitlines()[:MAX_PREVIOUS_ISSUES] if self.verdict else []
        while lines and len("\n".join(lines)) > MAX_PREVIOUS_CHARACTERS:
            lines = lines[:-1] if len(lines) > 1 else [f"{lines[0][: MAX_PREVIOUS_CHARACTERS - 1]}…"]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """As the panel shows it and API clients read it."""
        return {**self.recipe(), "cost": self.cost, "members": [_member(each) for each in self.verdict or ()]}

    def recipe(self) -> dict[str, Any]:
        """How it was made and what was said of it, for the metadata of what is saved."""
        verdict = self.verdict
        return {
            "attempt": self.number,
            **self.state.to_json(),
            "verdict": str(self.outcome),
            "passed": self.passed,
            "score": self.score,
            "issues": verdict.issues.splitlines() if verdict else [],
            "images": list(self.hashes),
            "evaluation_ids": [each.evaluation.id for each in verdict or () if each.evaluation.id],
        }


def _member(verdict: Verdict) -> dict[str, Any]:
    """One judged image of an attempt, for those who look at it or rate it."""
    return {
        "id": verdict.evaluation.id,
        "image": verdict.subject.pixel_hash,
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
    attempts: list[Attempt]
    beyond: list[Attempt]


@dataclass(frozen=True)
class Loop:
    """What stays the same at every attempt, worked out once.

    ``graph`` holds the nodes beside the first attempt, ``body`` those of it that are repeated. ``identity`` is that of
    ``RememberedAttempts``. ``output_nodes`` preview and save in each attempt. ``reaching`` are Start's outputs that the
    image depends on.
    """

    graph: Graph
    body: Body
    identity: str
    output_nodes: frozenset[str]
    reaching: frozenset[int]


class History:
    """The attempts so far. Images: of the best and of the latest one, and of all only if they are kept."""

    def __init__(self, loop: Loop, first: LoopState) -> None:
        self.loop, self.first = loop, first
        self.attempts: list[Attempt] = []
        self.has_ended = False
        self.rescue_task: asyncio.Task[None] | None = None
        """Saves the best attempt if the prompt ends before the loop does."""
        remembered = first.memory.get(loop.body.end)
        if remembered is not None and remembered.identity == loop.identity:
            self._beyond = [*remembered.attempts, *remembered.beyond]
        else:
            self._beyond = []
        first.memory[loop.body.end] = RememberedAttempts(loop.identity, self.attempts, self._beyond)

    @property
    def best(self) -> Attempt:
        return best_of(self.attempts)

    @property
    def latest(self) -> Attempt:
        return self.attempts[-1]

    @property
    def repeated(self) -> bool:
        return len(self.attempts) > 1 and self.attempts[-2].hashes == self.latest.hashes

    def would_change(self, state: LoopState) -> bool:
        """Whether an image made from ``state`` can be another one than the latest."""
        now = self.latest.state
        changed = {ATTEMPT_OUT, ISSUES_OUT}
        changed |= {PROMPT_OUT} if state.prompt != now.prompt else set()
        changed |= {SEED_OUT} if state.seed != now.seed else set()
        return bool(changed & self.loop.reaching)

    def add(self, attempt: Attempt, settings: LoopSettings) -> None:
        """One more, in the place of the one that was made from the same before."""
        same = bool(self._beyond) and self._beyond[0].hashes == attempt.hashes
        self._beyond[:] = self._beyond[1:] if same else []
        self.attempts.append(attempt)
        self.drop_images(settings, but_for=attempt)

    def drop_images(self, settings: LoopSettings, but_for: Attempt | None = None) -> None:
        """Drop the images that nobody asks for any more."""
        if settings.keep_attempts:
            return
        needed = {id(self.best), id(best_of([*self.attempts, *self._beyond])), id(but_for)}
        for attempts in (self.attempts, self._beyond):
            attempts[:] = [each if id(each) in needed else replace(each, image=None) for each in attempts]

    def reuse_remembered(self, settings: LoopSettings) -> None:
        """Add the attempts that were made before and would be made again, if what is needed of them is at hand."""
        fresh, remembered = len(self.attempts), list(self._beyond)
        while self._beyond and self.loop.output_nodes <= self._beyond[0].output_nodes:
            state = next_attempt(self, settings)
            known = self._beyond[0].state
            if not isinstance(state, LoopState) or (state.prompt, state.seed) != (known.prompt, known.seed):
                break
            self.attempts.append(replace(self._beyond.pop(0), remembered=True))
        if any(each.image is None for each in (self.attempts if settings.keep_attempts else [self.best])):
            self.attempts[fresh:], self._beyond[:] = [], remembered


def best_of(attempts: Iterable[Attempt]) -> Attempt:
    """The best; of equals the earliest."""
    return max(attempts, key=lambda attempt: attempt.rank)


class Handover:
    """Carries a history to the next End, once.

    It lies in a graph that outlives the prompt (ComfyUI's progress registry keeps it), and holds no image then.
    """

    def __init__(self, history: History) -> None:
        self.loop, self.number = history.loop, len(history.attempts) + 1
        self._history: History | None = history

    def take(self) -> History | None:
        history, self._history = self._history, None
        return history


def next_attempt(history: History, settings: LoopSettings) -> LoopState | str:
    """The prompt and seed of the next attempt, or why there is none."""
    latest, verdict, number = history.latest, history.latest.verdict, history.latest.number
    if verdict is None:
        return "not judged, nothing is connected to evaluation"
    if verdict.outcome == UNKNOWN:
        codes = dict.fromkeys(f" [{each.error.code}]" for each in verdict if each.error)
        return f"nobody judged attempt {number}{''.join(codes)}"
    if verdict.passed and settings.stop_on_pass:
        return "passed"
    if number >= settings.max_attempts:
        return "all attempts made"
    if history.repeated:
        return f"attempt {number} is the same as attempt {number - 1}"
    seed = next_seed(settings.next_seed, history.first.seed, latest.state.seed, number + 1)
    state = LoopState("", _next_prompt(latest, settings), seed)
    if not history.would_change(state):
        same = (state.prompt, state.seed) == (latest.state.prompt, latest.state.seed)
        why = "no other prompt was suggested and the seed is kept" if same else "what changes does not reach the image"
        return f"{why}: the next attempt would be the same"
    return state


def _next_prompt(attempt: Attempt, settings: LoopSettings) -> str:
    """The improvement, if there is one that can be judged."""
    kept = settings.next_prompt == "keep" or len(attempt.suggestion) > LONGEST_PROMPT
    return attempt.state.prompt if kept else attempt.suggestion or attempt.state.prompt


def notes(history: History, settings: LoopSettings) -> list[str]:
    """What the attempts changed in vain, and what was suggested in vain."""
    lines = []
    for name, socket in (("prompt", PROMPT_OUT), ("seed", SEED_OUT)):
        changed = {getattr(attempt.state, name) for attempt in history.attempts}
        if len(changed) > 1 and socket not in history.loop.reaching:
            lines.append(f"the {name} of the attempts changed, but current_{name} does not reach the image")
    for attempt in history.attempts[:-1] if settings.next_prompt != "keep" else []:
        if (length := len(attempt.suggestion)) > LONGEST_PROMPT:
            lines.append(
                f"the prompt suggested after attempt {attempt.number} has {length} characters, but Runflow takes at "
                f"most {LONGEST_PROMPT}: it was not used"
            )
    best = history.best
    if best.verdict is not None and len(best.verdict) != len(best.hashes):
        lines.append(f"{len(best.verdict)} images were judged for the {len(best.hashes)} that came out")
    return lines
