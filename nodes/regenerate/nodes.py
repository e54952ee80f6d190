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
from typing import Any

import comfy.utils
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ...runflow_api.errors import InvalidInputError
from ...runflow_api.evaluation.verdict import BatchVerdict
from ...runflow_api.prompt.graph import SEED_VALUES
from .. import _cards, _image_batch, _shown, _unjudged
from .._schema import EvaluationType, LoopType, schema
from . import context as loop_context
from . import saved_metadata
from .attempts import (
    MAX_ATTEMPTS,
    NEXT_PROMPT,
    NEXT_SEED,
    NO_ATTEMPT,
    NOTHING_WOULD_CHANGE,
    Attempt,
    History,
    LoopSettings,
    LoopState,
    next_attempt,
    notes,
)
from .checks import check_loop
from .context import LoopContext
from .saved_metadata import END

START, STAND_IN = "RunflowRegenerateStart", "RunflowRegenerateAttempt"
NOT_KEPT = "[ATTEMPTS_NOT_KEPT] Regenerate End: switch keep_attempts on to get the images of all attempts."
NOT_JUDGED = "[NOT_JUDGED] Regenerate End: nothing is connected to evaluation, so there is no verdict to pass on."
A_LIST = (
    "gets a list of {count} values, but a loop needs one. Make one batch of it before the loop, or loop without it. "
    "{consequence}"
)
ALREADY_GENERATED = "What ran before was generated once for each value."

log = logging.getLogger("runflow_evaluate")

# --- the nodes ----------------------------------------------------------------------------------------


def _state_outputs() -> list[io.Output]:
    return [
        LoopType.Output("loop", display_name="loop", tooltip="To Regenerate Until Passed: End."),
        io.String.Output("current_prompt", display_name="current_prompt", tooltip="This attempt's prompt."),
        io.Int.Output("current_seed", display_name="current_seed", tooltip="This attempt's seed."),
        io.Int.Output("attempt", display_name="attempt", tooltip="Which attempt this is, from 1."),
        io.String.Output(
            "previous_issues", display_name="previous_issues", tooltip="What was wrong with the previous attempt."
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
                "Everything between Start and End runs again, with the improved prompt and the next seed, until its "
                "verdict passes. Connect current_prompt to your text encoder and current_seed to your sampler."
            ),
            inputs=[
                io.String.Input(
                    "prompt", multiline=True, dynamic_prompts=True, default="", tooltip="The prompt of attempt 1."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=SEED_VALUES - 1,
                    # A seed that changes after every run would make, and pay for, new attempts at every Run.
                    control_after_generate=getattr(io, "ControlAfterGenerate", _ControlFallback).fixed,
                    tooltip=(
                        "The seed of attempt 1. Keep it fixed: if it changes, every Run makes new attempts and pays "
                        "for them."
                    ),
                ),
            ],
            outputs=_state_outputs(),
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # its output says its id: a Start of another workflow, though equal, is another one
        )

    @classmethod
    async def execute(cls, prompt, seed) -> io.NodeOutput:
        """Asynchronous nodes run first: so End refuses what cannot work before a sampler beside it runs."""
        state = LoopState(cls.hidden.unique_id, prompt, seed % SEED_VALUES)
        return io.NodeOutput(state, state.prompt, state.seed, 1, "", prompt)


class _ControlFallback:
    """Before ``io.ControlAfterGenerate`` existed a control could be had, but not its value, which the editor sets."""

    fixed = True


class RunflowRegenerateAttempt(io.ComfyNode):
    """Start's stand-in in the clones of attempt 2 and later. Not for people; made of constants only."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id=STAND_IN,
            display_name="Regenerate Until Passed: Attempt (internal)",
            description="Made by Regenerate Until Passed: End while it runs. You do not need it in a workflow.",
            inputs=[
                io.String.Input("prompt"),
                io.Int.Input("seed", max=SEED_VALUES - 1),
                io.Int.Input("number"),
                io.String.Input("issues"),
                io.String.Input("original"),
            ],
            outputs=_state_outputs(),
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
                "Looks at the verdict of the attempt. If it passed, its image comes out. Otherwise the next attempt is "
                "made, up to max_attempts; if none passes, the best image comes out. If Runflow judges, every attempt "
                "is one paid evaluation per image."
            ),
            inputs=[
                LoopType.Input("loop", tooltip="From Regenerate Until Passed: Start."),
                io.Image.Input("image", lazy=True, tooltip="What the attempt made; a batch stays together."),
                EvaluationType.Input(
                    "evaluation",
                    optional=True,
                    lazy=True,
                    tooltip="The verdict of this image. If not connected: one attempt.",
                ),
                io.Int.Input("max_attempts", optional=True, default=3, min=1, max=MAX_ATTEMPTS),
                io.Combo.Input(
                    "next_prompt",
                    options=list(NEXT_PROMPT),
                    optional=True,
                    default="improved",
                    tooltip="improved: the prompt that the verdict suggests, if it suggests one.",
                ),
                io.Combo.Input(
                    "next_seed",
                    options=list(NEXT_SEED),
                    optional=True,
                    default="increment",
                    tooltip="random: derived from Start's seed, so that the same workflow makes the same attempts.",
                ),
                io.Boolean.Input(
                    "stop_on_pass",
                    optional=True,
                    default=True,
                    tooltip="Off: make and pay for all attempts, and take the best one.",
                ),
                io.Boolean.Input(
                    "keep_attempts", optional=True, default=False, tooltip="Keep all images for attempt_images."
                ),
            ],
            outputs=[
                io.Image.Output("best_image", display_name="best_image"),
                io.Boolean.Output("passed", display_name="passed"),
                io.Float.Output(
                    "score",
                    display_name="score",
                    tooltip="The score of the best attempt, 0 to 1; the lowest of its batch.",
                ),
                io.String.Output("issues", display_name="issues", tooltip="What is wrong with the best attempt."),
                io.String.Output(
                    "final_prompt", display_name="final_prompt", tooltip="The prompt that made the best image."
                ),
                io.Int.Output("final_seed", display_name="final_seed", tooltip="The seed that made the best image."),
                io.Int.Output("attempts", display_name="attempts", tooltip="How many were made."),
                EvaluationType.Output("best_evaluation", display_name="best_evaluation"),
                io.Image.Output(
                    "attempt_images",
                    display_name="attempt_images",
                    tooltip="The images of all attempts, if keep_attempts is on.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            enable_expand=True,
            is_input_list=True,  # or ComfyUI would run End, and pay, once for each value of a list
        )

    @classmethod
    def validate_inputs(cls, next_prompt=("improved",), next_seed=("increment",)) -> bool | str:
        """Refused already when the workflow is queued."""
        return f"[INVALID_INPUT] {NOTHING_WOULD_CHANGE}" if next_prompt[0] == next_seed[0] == "keep" else True

    @classmethod
    def fingerprint_inputs(cls, **_inputs) -> str:
        return loop_context.fingerprint()

    @classmethod
    async def check_lazy_status(cls, loop, image=(None,), evaluation=(None,), **settings) -> list[str]:
        """Runs before the body: refuse what cannot work, say what the attempt may cost, then ask for its image."""
        context = LoopContext.of(cls)
        if image[0] is None:
            with _shown.panel() as panel:
                state, loop_settings = _state(loop, NO_ATTEMPT), _settings(settings)
                number, attempts = 1, context.max_attempts(loop_settings)
                if context.handover is None:
                    await check_loop(context, state, loop_settings)
                else:
                    number = context.handover.number
                    context.say_on_start(context.body(state), f"attempt {number} of {attempts}")
                panel.waiting("attempt", attempt=number, attempts=attempts)
        return [name for name in ("image", "evaluation") if name in context.inputs]

    @classmethod
    async def execute(cls, loop, image, evaluation=(None,), **settings) -> io.NodeOutput:
        with _shown.panel() as panel:
            context, state, loop_settings = LoopContext.of(cls), _state(loop), _settings(settings)
            history = context.handover.take() if context.handover else None
            history = history or History(context.loop(state), state)
            history.add(await _read_attempt(context, history, state, image, evaluation), loop_settings)
            history.reuse_remembered(loop_settings)
            _show(context, history, loop_settings)
            next_or_reason = next_attempt(history, loop_settings)
            if isinstance(next_or_reason, LoopState):
                return _expand_into_next(context, history, next_or_reason)
            finished = _finish(context, history, loop_settings, next_or_reason)
            verdict = history.latest.verdict
            panel.done(
                finished.ui["runflow"], finished.ui[saved_metadata.KEY][0], verdict.min_score if verdict else 0.0
            )
        if history.best.verdict is not None and history.best.image is not None:
            finished.ui |= await _cards.ui_of(history.best.verdict, _image_batch.pictures(history.best.image))
        return finished


def _settings(inputs: dict[str, Any]) -> LoopSettings:
    return LoopSettings(**{name: _single_value(name, values) for name, values in inputs.items()})


def _single_value(name: str, values: Any, consequence: str = ALREADY_GENERATED) -> Any:
    """The value of an input, which ComfyUI gives as a list; one that went through a list of one is fine."""
    if len(values) != 1:
        raise InvalidInputError(name, A_LIST.format(count=len(values), consequence=consequence))
    return values[0]


def _state(values: Any, *consequence: str) -> LoopState:
    state = _single_value("loop", values, *consequence)
    if not isinstance(state, LoopState):
        raise InvalidInputError("loop", f"must come from Regenerate Until Passed: Start. {NO_ATTEMPT}")
    return state


# --- after an attempt ---------------------------------------------------------------------------------


async def _read_attempt(
    context: LoopContext, history: History, state: LoopState, image: Any, evaluation: Any
) -> Attempt:
    """What came out of the body. A verdict of some images of a clip counts for all of them."""
    pictures = _image_batch.check_images("image", _single_value("image", image))
    verdict = _single_value("evaluation", evaluation)
    if not isinstance(verdict, BatchVerdict | None):
        raise InvalidInputError("evaluation", "must come from Evaluate Image Quality.")
    number, loop = len(history.attempts) + 1, history.loop
    hashes = await _image_batch.pixel_hashes(pictures)
    inside = context.best_inside(loop.body, number)
    return Attempt(number, state, pictures, verdict, hashes, inside, loop.output_nodes)


def _show(context: LoopContext, history: History, settings: LoopSettings) -> None:
    """ "attempt 2 of 4 · 0.41 · hands" on Start, and the attempt's image on End."""
    attempt, most = history.latest, context.max_attempts(settings)
    parts = [f"attempt {attempt.number} of {most}"]
    if attempt.verdict is not None:
        first_issue = attempt.verdict.issues.splitlines()[:1]
        parts += [f"{attempt.verdict.score:.2f}", *(first_issue or [str(attempt.verdict.outcome)])]
    context.say_on_start(history.loop.body, " · ".join(parts))
    if attempt.image is not None:
        context.preview(attempt.image, attempt.number, most)


def _expand_into_next(context: LoopContext, history: History, state: LoopState) -> io.NodeOutput:
    number = len(history.attempts) + 1
    stand_in = {
        "class_type": STAND_IN,
        "inputs": {
            "prompt": state.prompt,
            "seed": state.seed,
            "number": number,
            "issues": history.latest.issues_for_the_next,
            "original": history.first.prompt,
        },
    }
    context.forget_progress(history.loop.body)
    context.add_attempt_metadata(history.loop.body, state, number)
    if history.rescue_task is None:
        history.rescue_task = asyncio.create_task(_save_unfinished_best(context, history))
    expansion, end = context.expansion(history, stand_in)
    outputs = ([end, index] for index in range(len(RunflowRegenerateEnd.RETURN_TYPES)))
    return io.NodeOutput(*outputs, expand=expansion)


async def _save_unfinished_best(context: LoopContext, history: History) -> None:
    """Save the best attempt where the loop has no end, and say so.

    A node of a later attempt may raise, or block what End reads: then ComfyUI never runs that End. When a prompt ends,
    however it ends, ComfyUI closes its event loop, which cancels what still waits in it.
    """
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if history.attempts and not history.has_ended:
            _keep_best(context, history)
        raise


def _keep_best(context: LoopContext, history: History) -> None:
    best, count = history.best, len(history.attempts)
    context.publish_best(history)
    pictures = _image_batch.pictures(best.image) if best.image is not None else []
    where = _unjudged.save(pictures, _unjudged.BEST_FOLDER, context.dynprompt.original_prompt, context.extra_pnginfo)
    text = (
        f"attempt {count + 1} did not reach End: a node of it failed, blocked what End reads, or was stopped · "
        f"attempt {best.number} of {count} is the best so far · {where}"
    )
    log.warning("Regenerate End %s: %s", context.node_id, text)
    context.say(text)


def _finish(context: LoopContext, history: History, settings: LoopSettings, reason: str) -> io.NodeOutput:
    history.has_ended = True
    if history.rescue_task is not None:
        history.rescue_task.cancel()
    history.drop_images(settings)
    best, verdict = history.best, history.best.verdict
    context.publish_best(history)
    if best is not history.latest:
        context.preview(best.image, len(history.attempts), context.max_attempts(settings))
    summary = _summary(context, history, settings, reason)
    context.say(_in_a_line(history, summary))
    return io.NodeOutput(
        best.image,
        best.passed,
        best.score,
        verdict.issues if verdict else reason,
        best.state.prompt,
        best.state.seed,
        len(history.attempts),
        verdict or ExecutionBlocker(NOT_JUDGED),
        _same_size(history) if settings.keep_attempts else ExecutionBlocker(NOT_KEPT),
        ui={"runflow": [each.to_ui() for each in verdict or ()], saved_metadata.KEY: [summary]},
    )


def _summary(context: LoopContext, history: History, settings: LoopSettings, reason: str) -> dict[str, Any]:
    """The loop as the graph's panel and API clients read it: every attempt, the winner's number, why it ended."""
    other = ["other pixels were judged than those that came out"] if history.best.others_were_judged else []
    return {
        **context.names(history.loop.body),
        "attempts": [attempt.to_json() for attempt in history.attempts],
        "winner": history.best.number,
        "reason": reason,
        "warnings": [*other, *notes(history, settings), *context.warnings(history.loop.body)],
    }


def _in_a_line(history: History, summary: dict[str, Any]) -> str:
    best = history.best
    judged = [str(best.verdict.outcome), f"{best.verdict.score:.2f}"] if best.verdict else []
    reason = [summary["reason"]] if summary["reason"] not in judged else []
    out = f"attempt {best.number} of {len(history.attempts)} came out"
    return " · ".join([out, *judged, *reason, *summary["warnings"]])


def _same_size(history: History) -> torch.Tensor:
    """All attempts as one batch of the best one's size, and of the channels that all have."""
    batches = [_image_batch.batch(attempt.image) for attempt in history.attempts if attempt.image is not None]
    best = history.best.image
    height, width = _image_batch.batch(batches[-1] if best is None else best).shape[1:3]
    channels = min(images.shape[-1] for images in batches)

    def fitted(images: torch.Tensor) -> torch.Tensor:
        if images.shape[1:3] != (height, width):
            scaled = comfy.utils.common_upscale(images.movedim(-1, 1), width, height, "bilinear", "disabled")
            images = scaled.movedim(1, -1)
        return images[..., :channels]

    return torch.cat([fitted(images) for images in batches])
