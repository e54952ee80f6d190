"""The attempts of one loop: what was made, which is the best, and what comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ...runflow_api.errors import InvalidInputError
from ...runflow_api.evaluation.comparison import NO_CHANGES, AttemptLines, Changes, compare, lines_of
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
from ...runflow_api.prompt.graph import Body, Graph, next_seed
from .repair import BestImage, few_lines, repair_prompt

LOOP_OUT, PROMPT_OUT, SEED_OUT, ATTEMPT_OUT, ISSUES_OUT, ORIGINAL_OUT, BEST_OUT, REPAIR_OUT = range(8)
"""Start's outputs, which its stand-in has in the same order."""
MAX_ATTEMPTS = 100
NEXT_PROMPT, NEXT_SEED = ("improved", "keep"), ("increment", "random", "keep")
NO_ATTEMPT = "No attempt was made."
NOTHING_WOULD_CHANGE = (
    "next_prompt keep with next_seed keep makes the same attempt again. Set next_seed to increment, or next_prompt "
    f"to improved. {NO_ATTEMPT}"
)
LONGEST_PROMPT = LONGEST["generation_prompt"]


@dataclass(frozen=True)
class LoopState:
    """What the loop socket carries: prompt and seed of an attempt. ``start`` is the id of Start or of its stand-in.

    ``best`` is the attempt whose image it may begin with, and ``repair_prompt`` what to change in that: 0 and "" at the
    first attempt, and if the loop does not ask for them.
    ``memory`` is Start's: what was made, for each End. ComfyUI has Start's outputs in its cache for as long as
    neither Start changes nor /free is called, and what it has of clones for a shorter time: by default a recent
    ComfyUI drops them as soon as the next prompt runs.
    """

    start: str
    prompt: str
    seed: int
    best: int = 0
    repair_prompt: str = ""
    begun: dict[str, float] = field(default_factory=dict, compare=False, repr=False)
    """When the first attempt of each End was begun."""
    waiting: dict[str, asyncio.Event] = field(default_factory=dict, compare=False, repr=False)
    """Set when the first attempt of an End has reached it."""
    memory: dict[str, RememberedAttempts] = field(default_factory=dict, compare=False, repr=False)

    @property
    def recipe(self) -> tuple[str, int, int, str]:
        """All that makes the attempt another one than the one before."""
        return self.prompt, self.seed, self.best, self.repair_prompt

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
    passes_wanted: int = 1
    give_up_after: int = 0

    def check(self) -> None:
        """Refuse what cannot work. ComfyUI checks no linked value and, on 0.3.75, no choice."""
        require_choice("next_prompt", self.next_prompt, NEXT_PROMPT)
        require_choice("next_seed", self.next_seed, NEXT_SEED)
        for name, least in (("max_attempts", 1), ("passes_wanted", 1), ("give_up_after", 0)):
            if not least <= (number := getattr(self, name)) <= MAX_ATTEMPTS:
                raise InvalidInputError(name, f"{number} is not between {least} and {MAX_ATTEMPTS}.")
        if self.stop_on_pass and self.passes_wanted > self.max_attempts:
            raise InvalidInputError(
                "passes_wanted",
                f"{self.passes_wanted} cannot pass in {self.max_attempts} attempts. Set max_attempts to "
                f"{self.passes_wanted} or more. {NO_ATTEMPT}",
            )
        if self.next_prompt == self.next_seed == "keep":
            raise InvalidInputError("next_seed", NOTHING_WOULD_CHANGE)

    @property
    def changing(self) -> set[int]:
        """Start's outputs that differ from attempt to attempt."""
        changing = {ATTEMPT_OUT, ISSUES_OUT, BEST_OUT, REPAIR_OUT}
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
    repairs: int = 0
    """The attempt whose image was changed, 0 if it was made anew."""
    changes: Changes = NO_CHANGES
    """Against the attempt that it repairs, otherwise against the one before."""
    seconds: float = 0.0
    """How long it took to make and to judge."""

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
    def lines(self) -> dict[str, bool | None]:
        return lines_of(self.verdict)

    @property
    def compared(self) -> AttemptLines:
        """Its place in the comparison of all attempts."""
        return AttemptLines(self.number, str(self.outcome), self.score, self.lines, self.repairs, self.changes)

    @property
    def issues_for_the_next(self) -> str:
        """What was wrong, as the next attempt may read it: whole lines, and few enough to stand in a prompt."""
        return "\n".join(few_lines(self.verdict.issues.splitlines() if self.verdict else []))

    def to_json(self) -> dict[str, Any]:
        """As the panel shows it and API clients read it."""
        return {
            **self.recipe(),
            **self.compared.to_json(),
            "cost": self.cost,
            "seconds": round(self.seconds, 2),
            "members": [_member(each) for each in self.verdict or ()],
        }

    def recipe(self) -> dict[str, Any]:
        """How it was made and what was said of it, for the metadata of what is saved."""
        verdict = self.verdict
        return {
            "attempt": self.number,
            **self.state.to_json(),
            "repairs": self.repairs,
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
        "practice": verdict.is_practice,
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
    image depends on, ``read`` those that anything of the body reads. ``repair_from`` is the first attempt that changes
    the best image, 0 if none does.
    """

    graph: Graph
    body: Body
    identity: str
    output_nodes: frozenset[str]
    reaching: frozenset[int]
    read: frozenset[int]
    repair_from: int


class History:
    """The attempts so far. Images: of the best and the latest one and of passes that are wanted; of all if kept."""

    def __init__(self, loop: Loop, first: LoopState) -> None:
        self.loop, self.first = loop, first
        self.attempts: list[Attempt] = []
        self.has_ended = False
        self.rescue_task: asyncio.Task[None] | None = None
        """Saves the best attempt if the prompt ends before the loop does."""
        self.best_image = BestImage()
        """What the attempt that is being made begins with."""
        self.begun: float | None = None
        """When it was begun; ``None`` for the first, see ``LoopState``."""
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

    def passes(self, settings: LoopSettings) -> list[Attempt]:
        """What passed, in the order in which it was made; of more than are wanted the best."""
        return best_passes(self.attempts, settings.passes_wanted)

    @property
    def repeated(self) -> bool:
        return len(self.attempts) > 1 and self.attempts[-2].hashes == self.latest.hashes

    def would_change(self, state: LoopState) -> bool:
        """Whether an image made from ``state`` can be another one than the latest."""
        now = self.latest.state
        changed = {ATTEMPT_OUT, ISSUES_OUT}
        changed |= {PROMPT_OUT} if state.prompt != now.prompt else set()
        changed |= {SEED_OUT} if state.seed != now.seed else set()
        changed |= {BEST_OUT} if state.best != now.best else set()
        changed |= {REPAIR_OUT} if state.repair_prompt != now.repair_prompt else set()
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
        everything, wanted = [*self.attempts, *self._beyond], settings.passes_wanted
        passed = [*best_passes(self.attempts, wanted), *best_passes(everything, wanted)]
        needed = {id(each) for each in (self.best, best_of(everything), but_for, *passed)}
        for attempts in (self.attempts, self._beyond):
            attempts[:] = [each if id(each) in needed else replace(each, image=None) for each in attempts]

    def reuse_remembered(self, settings: LoopSettings) -> None:
        """Add the attempts that were made before and would be made again, if what is needed of them is at hand."""
        fresh, remembered = len(self.attempts), list(self._beyond)
        while self._beyond and self.loop.output_nodes <= self._beyond[0].output_nodes:
            state = next_attempt(self, settings)
            if not isinstance(state, LoopState) or state.recipe != self._beyond[0].state.recipe:
                break
            self.attempts.append(replace(self._beyond.pop(0), remembered=True))
        needed = self.attempts if settings.keep_attempts else [self.best, *self.passes(settings)]
        if any(each.image is None for each in needed):
            self.attempts[fresh:], self._beyond[:] = [], remembered

    def compared_with_before(self, attempt: Attempt) -> Attempt:
        """The attempt with what it gained and lost against the one that it repairs, otherwise the one before."""
        repairs = attempt.state.best if 0 < self.loop.repair_from <= attempt.number else 0
        before = self.attempts[(repairs or attempt.number - 1) - 1].lines if self.attempts else {}
        return replace(attempt, repairs=repairs, changes=compare(before, attempt.lines))

    def repair(self) -> tuple[int, str]:
        """What a repair begins with, as far as the loop reads it: the best attempt's number, and what to change in it.

        What an earlier repair of the same image lost is to be kept.
        """
        best, read = self.best, self.loop.read
        lost = [line for each in self.attempts if each.repairs == best.number for line in each.changes.lost]
        text = repair_prompt(best.verdict, best.state.prompt, dict.fromkeys(lost)) if REPAIR_OUT in read else ""
        return best.number if BEST_OUT in read else 0, text

    @property
    def attempts_in_vain(self) -> int:
        """How many were made since the last one that was better than all before it, or passed."""
        last = max((each.number for each in self.attempts if each.passed), default=0)
        return self.latest.number - max(self.best.number, last)


def best_passes(attempts: Iterable[Attempt], most: int) -> list[Attempt]:
    """The best of those that passed, at most so many, in their order; the same image once, however often it came."""
    passed: dict[tuple[str, ...], Attempt] = {}
    for each in attempts:
        if each.passed:
            passed.setdefault(each.hashes, each)
    numbers = {each.number for each in sorted(passed.values(), key=_rank, reverse=True)[:most]}
    return [each for each in passed.values() if each.number in numbers]


def _rank(attempt: Attempt) -> tuple[bool, bool, bool, int, float]:
    return attempt.rank


def best_of(attempts: Iterable[Attempt]) -> Attempt:
    """The best; of equals the earliest."""
    return max(attempts, key=_rank)


class Handover:
    """Carries a history to the next End, once.

    It lies in a graph that outlives the prompt (ComfyUI's progress registry keeps it), and holds no image then.
    """

    def __init__(self, history: History) -> None:
        self.loop, self.number = history.loop, len(history.attempts) + 1
        self._history: History | None = history

    def take(self) -> History | None:
        history, self._history = self._history, None
        if history is not None:
            history.best_image.drop()
        return history


def next_attempt(history: History, settings: LoopSettings) -> LoopState | str:
    """The prompt and seed of the next attempt, or why there is none."""
    latest, verdict, number = history.latest, history.latest.verdict, history.latest.number
    if verdict is None:
        return "not judged, nothing is connected to evaluation"
    if verdict.outcome == UNKNOWN:
        codes = dict.fromkeys(f" [{each.error.code}]" for each in verdict if each.error)
        return f"nobody judged attempt {number}{''.join(codes)}"
    passes, wanted = len(history.passes(settings)), settings.passes_wanted
    if settings.stop_on_pass and passes >= wanted:
        return "passed" if wanted == 1 else f"{passes} passed, as many as wanted"
    missing = f", {passes} of {wanted} wanted passed" if wanted > 1 and passes < wanted else ""
    if number >= settings.max_attempts:
        return f"all attempts made{missing}"
    if history.repeated:
        return f"attempt {number} is the same as attempt {number - 1}{missing}"
    if 0 < settings.give_up_after <= history.attempts_in_vain:
        return f"given up, nothing better in {history.attempts_in_vain} attempts{missing}"
    seed = next_seed(settings.next_seed, history.first.seed, latest.state.seed, number + 1)
    state = LoopState("", _next_prompt(latest, settings), seed, *history.repair())
    if not history.would_change(state):
        same = (state.prompt, state.seed) == (latest.state.prompt, latest.state.seed)
        why = "no other prompt was suggested and the seed is kept" if same else "what changes does not reach the image"
        return f"{why}: the next attempt would be the same"
    return state


def _next_prompt(attempt: Attempt, settings: LoopSettings) -> str:
    """The improvement, if there is one that can be judged. A prompt that passed is kept if more are wanted."""
    kept = settings.next_prompt == "keep" or len(attempt.suggestion) > LONGEST_PROMPT
    kept = kept or (attempt.passed and settings.stop_on_pass)
    return attempt.state.prompt if kept else attempt.suggestion or attempt.state.prompt


def notes(history: History, settings: LoopSettings) -> list[str]:
    """What the attempts changed in vain, and what was suggested in vain."""
    lines = []
    for name, socket in (("prompt", PROMPT_OUT), ("seed", SEED_OUT)):
        changed = {getattr(attempt.state, name) for attempt in history.attempts}
        if len(changed) > 1 and not {socket, BEST_OUT} & history.loop.reaching:  # a repair changes without it too
            lines.append(f"the {name} of the attempts changed, but current_{name} does not reach the image")
    for attempt in history.attempts[:-1] if settings.next_prompt != "keep" else []:
        if (length := len(attempt.suggestion)) > LONGEST_PROMPT:
            lines.append(
                f"the prompt suggested after attempt {attempt.number} has {length} characters, but Runflow takes at "
                f"most {LONGEST_PROMPT}: it was not used"
            )
    wanted = settings.passes_wanted
    if wanted > 1 and any(each.repairs and history.attempts[each.repairs - 1].passed for each in history.attempts):
        lines.append("attempts after a pass changed the image that passed: the passed images are alike")
    best = history.best
    if best.verdict is not None and len(best.verdict) != len(best.hashes):
        lines.append(f"{len(best.verdict)} images were judged for the {len(best.hashes)} that came out")
    return lines
