"""Regenerate until passed: what lies between Start and End runs again until its verdict passes.

End runs when an attempt has been made. It either gives its outputs, or expands into clones of the body and of
itself: the next attempt. A stand-in takes Start's place among the clones and holds nothing but the attempt's
prompt, seed, number and issues. So clones have the same cache signature at every queue, and attempts that were
made are not made again when more of them are allowed. What the attempts gave goes from End to End beside the
inputs, in a ``Handover``.

End's image and evaluation are lazy: ComfyUI runs End's ``check_lazy_status`` before the body, which is where a
loop that cannot work is refused, and where its cost is stated, before anything is paid.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Future
from decimal import Decimal
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ...runflow_api import background
from ...runflow_api.errors import InvalidInputError, RunflowError
from ...runflow_api.evaluation.verdict import BatchVerdict
from .. import _image_batch, _runtime
from .._schema import EvaluationType, LoopType, schema
from . import attempts as _attempts
from . import context as _place
from . import graph as _loop
from . import saved_metadata as _winners
from .attempts import (
    KEEP_WITH_KEEP,
    MAX_ATTEMPTS,
    NEXT_PROMPT,
    NEXT_SEED,
    NO_ATTEMPT,
    PROMPT_OUT,
    SEED_OUT,
    Attempt,
    History,
    LoopSettings,
    LoopState,
)
from .context import END, LoopContext

START, STAND_IN = "RunflowRegenerateStart", "RunflowRegenerateAttempt"
PRICE_WITHIN_S = 3.0
"""The price is one small request; a loop does not wait longer for a network that hangs."""
NOT_KEPT = "[ATTEMPTS_NOT_KEPT] Regenerate End: switch keep_attempts on to get the images of all attempts."
NOT_JUDGED = "[NOT_JUDGED] Regenerate End: nothing is connected to evaluation, so there is no verdict to pass on."
NO_EFFECT = (
    "is the same at every attempt: it depends on nothing that changes. Connect current_seed to your sampler's seed "
    f"and current_prompt to your text encoder{{kept}}. {NO_ATTEMPT}"
)
A_LIST = "gets a list of values, and a loop needs one. Make one batch of it before, or loop without it. {made}"
FOREIGN = (
    "does not come from this loop: every attempt would read the same verdict. Connect an Evaluate Image Quality "
    f"that judges the loop's image. {NO_ATTEMPT}"
)
SENDS_NOTHING = (
    "comes through node {node}, {why}: then the loop would end with nothing. "
    f"Connect what was judged to End, and put that node behind it. {NO_ATTEMPT}"
)
ELSEWHERE = f"Start is not in the same loop as End{{node}}: put both inside, or both outside. {NO_ATTEMPT}"
UNUSED = {
    PROMPT_OUT: "current_prompt does not reach the image: connect it to your text encoder, or set next_prompt to keep",
    SEED_OUT: "current_seed does not reach the image: connect it to your sampler's seed, or set next_seed to keep",
}

log = logging.getLogger("runflow_evaluate")

# --- the nodes ----------------------------------------------------------------------------------------


def _turn_outputs() -> list[io.Output]:
    return [
        LoopType.Output("loop", display_name="loop", tooltip="To Regenerate Until Passed: End."),
        io.String.Output("current_prompt", display_name="current_prompt", tooltip="This attempt's prompt."),
        io.Int.Output("current_seed", display_name="current_seed", tooltip="This attempt's seed."),
        io.Int.Output("attempt", display_name="attempt", tooltip="Which attempt this is, from 1."),
        io.String.Output(
            "previous_issues", display_name="previous_issues", tooltip="What was wrong with the attempt before."
        ),
        io.String.Output("original_prompt", display_name="original_prompt", tooltip="The prompt of attempt 1."),
    ]


class RunflowRegenerateStart(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id=START,
            display_name="Regenerate Until Passed: Start",
            description=(
                "What lies between Start and End runs again, with the improved prompt and the next seed, until its "
                "verdict passes. Connect current_prompt to your text encoder and current_seed to your sampler."
            ),
            inputs=[
                io.String.Input("prompt", multiline=True, dynamic_prompts=True, default="", tooltip="Of attempt 1."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=_loop.SEED_VALUES - 1,
                    # A seed that changes after every run would make, and pay for, new attempts at every Run.
                    control_after_generate=getattr(io, "ControlAfterGenerate", _Always).fixed,
                    tooltip="Of attempt 1. Keep it fixed: with another seed every Run makes and pays new attempts.",
                ),
            ],
            outputs=_turn_outputs(),
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # its output says its id: a Start of another workflow, though equal, is another one
        )

    @classmethod
    async def execute(cls, prompt, seed) -> io.NodeOutput:
        """Asynchronous nodes run first: so End refuses what cannot work before a sampler beside it runs."""
        turn = LoopState(cls.hidden.unique_id, prompt, seed % _loop.SEED_VALUES)
        return io.NodeOutput(turn, turn.prompt, turn.seed, 1, "", prompt)


class _Always:
    """Before ``io.ControlAfterGenerate`` existed a control could be had, but not its value, which the editor sets."""

    fixed = True


class RunflowRegenerateAttempt(io.ComfyNode):
    """Start's stand-in in the clones of attempt 2 and later. Not for people; made of constants only."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id=STAND_IN,
            display_name="Regenerate Until Passed: Attempt (internal)",
            description="Made by Regenerate Until Passed: End while it runs. There is no use for it in a workflow.",
            inputs=[
                io.String.Input("prompt"),
                io.Int.Input("seed", max=_loop.SEED_VALUES - 1),
                io.Int.Input("number"),
                io.String.Input("issues"),
                io.String.Input("original"),
            ],
            outputs=_turn_outputs(),
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,
            is_deprecated=True,  # out of the editor's search, on every version
            is_dev_only=True,
        )

    @classmethod
    def execute(cls, prompt, seed, number, issues, original) -> io.NodeOutput:
        return io.NodeOutput(LoopState(cls.hidden.unique_id, prompt, seed), prompt, seed, number, issues, original)


class RunflowRegenerateEnd(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id=END,
            display_name="Regenerate Until Passed: End",
            description=(
                "Looks at the verdict of the attempt: passed, it comes out; else the next attempt is made, up to "
                "max_attempts, and the best one comes out. Every attempt is one paid evaluation per image, where "
                "Runflow judges."
            ),
            inputs=[
                LoopType.Input("loop", tooltip="From Regenerate Until Passed: Start."),
                io.Image.Input("image", lazy=True, tooltip="What the attempt made; a batch is kept whole."),
                EvaluationType.Input(
                    "evaluation", optional=True, lazy=True, tooltip="Of this image. Without it: one attempt."
                ),
                io.Int.Input("max_attempts", optional=True, default=3, min=1, max=MAX_ATTEMPTS),
                io.Combo.Input(
                    "next_prompt",
                    options=list(NEXT_PROMPT),
                    optional=True,
                    default="improved",
                    tooltip="improved: the prompt that the verdict suggests, where it suggests one.",
                ),
                io.Combo.Input(
                    "next_seed",
                    options=list(NEXT_SEED),
                    optional=True,
                    default="increment",
                    tooltip="random: follows from Start's seed, so that the same workflow makes the same attempts.",
                ),
                io.Boolean.Input(
                    "stop_on_pass",
                    optional=True,
                    default=True,
                    tooltip="Off: make and pay all attempts, and take the best one.",
                ),
                io.Boolean.Input(
                    "keep_attempts", optional=True, default=False, tooltip="Keep all images for attempt_images."
                ),
            ],
            outputs=[
                io.Image.Output("best_image", display_name="best_image"),
                io.Boolean.Output("passed", display_name="passed"),
                io.Float.Output("score", display_name="score", tooltip="Of the best attempt; its lowest, 0 to 1."),
                io.String.Output("issues", display_name="issues", tooltip="What is wrong with the best attempt."),
                io.String.Output("final_prompt", display_name="final_prompt", tooltip="That made the best image."),
                io.Int.Output("final_seed", display_name="final_seed", tooltip="That made the best image."),
                io.Int.Output("attempts", display_name="attempts", tooltip="How many were made."),
                EvaluationType.Output("best_evaluation", display_name="best_evaluation"),
                io.Image.Output(
                    "attempt_images", display_name="attempt_images", tooltip="All attempts, with keep_attempts on."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            enable_expand=True,
            is_input_list=True,  # or ComfyUI would run End, and pay, once for each value of a list
        )

    @classmethod
    def validate_inputs(cls, next_prompt=("improved",), next_seed=("increment",)) -> bool | str:
        """Refused already when the workflow is queued."""
        return f"[INVALID_INPUT] {KEEP_WITH_KEEP}" if next_prompt[0] == next_seed[0] == "keep" else True

    @classmethod
    def fingerprint_inputs(cls, **_inputs) -> str:
        return _place.fingerprint()

    @classmethod
    async def check_lazy_status(cls, loop, image=(None,), evaluation=(None,), **settings) -> list[str]:
        """Runs before the body: refuse what cannot work, say what the attempt may cost, then ask for its image."""
        place = LoopContext.of(cls)
        if image[0] is None:
            await _before_attempt(place, _turn(loop, NO_ATTEMPT), _rules(settings))
        return [name for name in ("image", "evaluation") if name in place.inputs]

    @classmethod
    async def execute(cls, loop, image, evaluation=(None,), **settings) -> io.NodeOutput:
        place, rules, turn = LoopContext.of(cls), _rules(settings), _turn(loop)
        history = _history(place, turn)
        made = await _made(place, history, turn, _only("image", image), _verdicts(evaluation))
        history.add(made, rules)
        history.recall(rules)
        _show(place, history, rules)
        following = _attempts.following(history, rules)
        if isinstance(following, LoopState):
            return _expanded(place, history, following)
        return _finished(place, history, rules, following)


def _rules(settings: dict[str, Any]) -> LoopSettings:
    return LoopSettings(**{name: _only(name, values) for name, values in settings.items()})


def _only(name: str, values: Any, made: str = "What ran before was generated, and paid, once for each value.") -> Any:
    """The value of an input, which ComfyUI gives as a list."""
    if len(values) != 1:
        raise InvalidInputError(name, A_LIST.format(made=made))
    return values[0]


def _turn(values: Any, *made: str) -> LoopState:
    turn = _only("loop", values, *made)
    if not isinstance(turn, LoopState):
        raise InvalidInputError("loop", f"must come from Regenerate Until Passed: Start. {NO_ATTEMPT}")
    return turn


def _verdicts(values: Any) -> BatchVerdict | None:
    verdict = _only("evaluation", values)
    if not isinstance(verdict, BatchVerdict | None):
        raise InvalidInputError("evaluation", "must come from Evaluate Image Quality.")
    return verdict


# --- before an attempt --------------------------------------------------------------------------------


async def _before_attempt(place: LoopContext, turn: LoopState, rules: LoopSettings) -> None:
    body = place.body(turn)
    if place.handover is not None:
        place.say_on_start(body, f"attempt {place.handover.number} of {place.most(rules)}")
        return
    rules.check()
    _refuse(place, body, rules)
    place.retract(body)
    for warning in place.warnings(body):
        log.warning("Regenerate End %s: %s.", place.node_id, warning)
    cost = await _worst_case(place, body, rules)
    unused = _unused(place, body, rules) if cost else []
    for warning in unused:
        log.warning("Regenerate End %s: %s.", place.node_id, warning)
    place.say_on_start(body, " · ".join([f"attempt 1 of {place.most(rules)}", *([cost] if cost else []), *unused]))


def _unused(place: LoopContext, body: _loop.Body, rules: LoopSettings) -> list[str]:
    """What is to change from attempt to attempt, and would not change the image."""
    in_vain = rules.changing - place.reaching(body) if place.most(rules) > 1 else set()
    return [said for socket, said in UNUSED.items() if socket in in_vain]


def _refuse(place: LoopContext, body: _loop.Body, rules: LoopSettings) -> None:
    """Everything that is wrong with how the loop is wired, before the first attempt."""
    if body.start not in place.graph:
        raise InvalidInputError("loop", ELSEWHERE.format(node=""))
    lists = place.lists()
    for name in ("image", "evaluation"):
        if _loop.link(place.inputs.get(name)) in lists:
            raise InvalidInputError(name, A_LIST.format(made=NO_ATTEMPT))
    if place.most(rules) > 1:
        if (inner := place.without_start(body)) is not None:
            raise InvalidInputError("loop", ELSEWHERE.format(node=f" {inner}, which is inside this loop"))
        _refuse_equal_attempts(place, body, rules)
        _refuse_blocked_attempts(place, body)


def _refuse_equal_attempts(place: LoopContext, body: _loop.Body, rules: LoopSettings) -> None:
    read = place.reaching(body)
    if not read & rules.changing:
        kept = [name for name, socket in (("prompt", PROMPT_OUT), ("seed", SEED_OUT)) if socket in read]
        kept_now = "".join(f"; the {name} is connected, but next_{name} is keep" for name in kept)
        raise InvalidInputError("image", NO_EFFECT.format(kept=kept_now))
    evaluation = _loop.link(place.inputs["evaluation"])
    if evaluation is not None and evaluation[0] not in body.nodes:
        raise InvalidInputError("evaluation", FOREIGN)


def _refuse_blocked_attempts(place: LoopContext, body: _loop.Body) -> None:
    """ComfyUI does not run an End whose image is blocked, and says nothing: no other attempt would be made."""
    for name in ("image", "evaluation"):
        for node, why in place.senders_of_nothing(body, name):
            raise InvalidInputError(name, SENDS_NOTHING.format(node=node, why=why))


async def _worst_case(place: LoopContext, body: _loop.Body, rules: LoopSettings) -> str:
    """ "at most 3 evaluations, 0.30 credits …": what all attempts may cost, as far as that is known."""
    counts, most = place.paid_evaluations(body), place.most(rules)
    evaluations = sum(counts.values()) * most
    if not evaluations:
        return ""
    prices = {job_class: await _price(job_class) for job_class in counts}
    credits = ""
    if None not in prices.values():
        credits = f", {sum(prices[job_class] * count for job_class, count in counts.items()) * most:f} credits"
    limit = _runtime.settings().max_evaluations_per_prompt
    stopped = f" · your limit of {limit} for one prompt would end it before" if evaluations > limit else ""
    return f"at most {evaluations} evaluations{credits} for each image of a batch{stopped}"


async def _price(job_class: str | None) -> Decimal | None:
    """The price of one evaluation in credits; ``None`` where it cannot be known, or not soon."""
    if job_class is None:
        return None
    try:
        return await run_with_timeout(background.call(lambda: _runtime.evaluator().prices.price(job_class)))
    except RunflowError as error:
        log.info("The price of an evaluation is not known: %s", error)
        return None


async def run_with_timeout(answer: Future[Any]) -> Any:
    """The answer, ``None`` where it takes too long; Cancel is heard meanwhile."""
    waiting, give_up = asyncio.wrap_future(answer), time.monotonic() + PRICE_WITHIN_S
    while not waiting.done() and time.monotonic() < give_up:
        comfy.model_management.throw_exception_if_processing_interrupted()
        await asyncio.wait({waiting}, timeout=_runtime.LOOK_FOR_CANCEL_S)
    return waiting.result() if waiting.done() else None


# --- after an attempt ---------------------------------------------------------------------------------


def _history(place: LoopContext, turn: LoopState) -> History:
    history = place.handover.take() if place.handover else None
    if history is not None:
        return history
    body = place.body(turn)
    return History(body, turn, place.inputs_identity(), place.output_nodes(body), place.reaching(body))


async def _made(
    place: LoopContext, history: History, turn: LoopState, image: torch.Tensor, verdict: BatchVerdict | None
) -> Attempt:
    if verdict is not None:
        _image_batch.check_count(image, verdict)
    number = len(history.made) + 1
    hashes = await _image_batch.pixel_hashes(image)
    return Attempt(
        number, turn, image, verdict, hashes, place.winners_inside(history.body, number), history.output_nodes
    )


def _show(place: LoopContext, history: History, rules: LoopSettings) -> None:
    """ "attempt 2 of 4 · 0.41 · hands" on Start, and the attempt's image on End."""
    made, most = history.latest, place.most(rules)
    said = [f"attempt {made.number} of {most}"]
    if made.verdict is not None:
        said += [f"{made.verdict.score:.2f}", *(made.verdict.issues.splitlines()[:1] or [made.verdict.outcome])]
    place.say_on_start(history.body, " · ".join(said))
    if made.image is not None:
        place.preview(made.image, made.number, most)


def _expanded(place: LoopContext, history: History, turn: LoopState) -> io.NodeOutput:
    stand_in = {
        "class_type": STAND_IN,
        "inputs": {
            "prompt": turn.prompt,
            "seed": turn.seed,
            "number": len(history.made) + 1,
            "issues": history.latest.verdict.issues,
            "original": history.first.prompt,
        },
    }
    expansion, end = place.expansion(history, stand_in)
    return io.NodeOutput(*([end, index] for index in range(len(RunflowRegenerateEnd.RETURN_TYPES))), expand=expansion)


def _finished(place: LoopContext, history: History, rules: LoopSettings, reason: str) -> io.NodeOutput:
    history.drop_images(rules)
    best, verdict = history.best, history.best.verdict
    place.publish(history)
    if best is not history.latest:
        place.preview(best.image, len(history.made), place.most(rules))
    summary = _summary(place, history, rules, reason)
    place.say(_in_a_line(history, summary))
    return io.NodeOutput(
        best.image,
        best.passed,
        best.score,
        verdict.issues if verdict else reason,
        best.turn.prompt,
        best.turn.seed,
        len(history.made),
        verdict or ExecutionBlocker(NOT_JUDGED),
        _same_size(history) if rules.keep_attempts else ExecutionBlocker(NOT_KEPT),
        ui={"runflow": [each.to_ui() for each in verdict or ()], _winners.KEY: [summary]},
    )


def _summary(place: LoopContext, history: History, rules: LoopSettings, reason: str) -> dict[str, Any]:
    """The loop as the graph's panel and API clients read it: every attempt, the winner's number, why it ended."""
    other = ["other pixels were judged than those that came out"] if history.best.others_were_judged else []
    return {
        **place.names(history.body),
        "attempts": [made.to_json() for made in history.made],
        "winner": history.best.number,
        "reason": reason,
        "warnings": [*other, *_attempts.notes(history, rules), *place.warnings(history.body)],
    }


def _in_a_line(history: History, summary: dict[str, Any]) -> str:
    best = history.best
    judged = [best.verdict.outcome, f"{best.verdict.score:.2f}"] if best.verdict else []
    reason = [summary["reason"]] if summary["reason"] not in judged else []
    out = f"attempt {best.number} of {len(history.made)} came out"
    return " · ".join([out, *judged, *reason, *summary["warnings"]])


def _same_size(history: History) -> torch.Tensor:
    """All attempts as one batch of the best one's size, and of the channels that all have."""
    attempts = [_image_batch.batch(made.image) for made in history.made]
    height, width = _image_batch.batch(history.best.image).shape[1:3]
    channels = min(image.shape[-1] for image in attempts)

    def fitted(image: torch.Tensor) -> torch.Tensor:
        if image.shape[1:3] != (height, width):
            scaled = comfy.utils.common_upscale(image.movedim(-1, 1), width, height, "bilinear", "disabled")
            image = scaled.movedim(1, -1)
        return image[..., :channels]

    return torch.cat([fitted(image) for image in attempts])
