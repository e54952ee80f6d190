"""Regenerate until passed: what lies between Start and End runs again until its verdict passes.

End runs when an attempt has been made. It either gives its outputs, or expands into clones of the body and of
itself: the next attempt. A stand-in takes Start's place among the clones and holds nothing but the attempt's
prompt, seed, number and issues, and the best image so far if it is asked for. So clones have the same cache
signature at every queue, and attempts that were made are not made again when more of them are allowed. What the
attempts gave goes from End to End beside the inputs, in a ``Handover``.

End's image and evaluation are lazy: ComfyUI runs End's ``check_lazy_status`` before the body, which is where a
loop that cannot work is refused, and where its cost is stated, before anything is paid.
"""

from __future__ import annotations

import time
from typing import Any

from comfy_api.latest import io

from ...runflow_api.errors import InvalidInputError
from ...runflow_api.prompt.graph import SEED_VALUES
from .. import _cards, _image_batch, _shown
from .._schema import EvaluationType, LoopType, schema
from ..routing import BLOCKED
from . import context as loop_context
from . import saved_metadata
from .after_attempt import (
    STAND_IN,
    expand_into_next,
    expect_first_attempt,
    finish,
    first_attempt_reached,
    read_attempt,
    show,
)
from .attempts import (
    MAX_ATTEMPTS,
    NEXT_PROMPT,
    NEXT_SEED,
    NO_ATTEMPT,
    NOTHING_WOULD_CHANGE,
    History,
    LoopSettings,
    LoopState,
    next_attempt,
)
from .checks import check_loop
from .context import LoopContext
from .repair import BestImage
from .saved_metadata import END

START = "RunflowRegenerateStart"
A_LIST = (
    "gets a list of {count} values, but a loop needs one.{source} Make one batch or one text of it, or loop without "
    "it. {consequence}"
)
ENDS_IN_A_LIST = (
    "attempt {number} does not count: it is a list of {count} values, but a loop needs one.{source} Make one batch or "
    "one text of it"
)
MAYBE_FOR_EACH = "What comes before End may have run once for each value."


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
        io.Image.Output(
            "best_so_far",
            display_name="best_so_far",
            tooltip="The best image so far, to repair it; attempt 1 has none. To Generate or Repair, through an edit.",
        ),
        io.String.Output(
            "repair_prompt",
            display_name="repair_prompt",
            tooltip="What to change in best_so_far and what to keep, for a model that edits images.",
        ),
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
        return io.NodeOutput(state, state.prompt, state.seed, 1, "", prompt, BLOCKED, "")


class _ControlFallback:
    """Before ``io.ControlAfterGenerate`` existed a control could be had, but not its value, which the editor sets."""

    fixed = True


class RunflowRegenerateAttempt(io.ComfyNode):
    """Start's stand-in in the clones of attempt 2 and later. Not for people; its inputs are never links."""

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
                io.Int.Input("best_number"),
                io.String.Input("best"),
                io.String.Input("repair"),
            ],
            outputs=_state_outputs(),
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,
            is_deprecated=True,  # out of the editor's search, on every version
            is_dev_only=True,
        )

    @classmethod
    def execute(cls, prompt, seed, number, issues, original, best_number, best, repair) -> io.NodeOutput:
        state = LoopState(cls.hidden.unique_id, prompt, seed, best_number, repair)
        image = best.image if isinstance(best, BestImage) else None
        return io.NodeOutput(state, prompt, seed, number, issues, original, BLOCKED if image is None else image, repair)


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
                io.Int.Input(
                    "passes_wanted",
                    optional=True,
                    default=1,
                    min=1,
                    max=MAX_ATTEMPTS,
                    tooltip="Make attempts until so many have passed; their images come out as passed_images.",
                ),
                io.Int.Input(
                    "give_up_after",
                    optional=True,
                    default=0,
                    min=0,
                    max=MAX_ATTEMPTS,
                    tooltip="End after so many attempts in a row that were no better. 0: never.",
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
                io.Image.Output(
                    "passed_images",
                    display_name="passed_images",
                    tooltip="All images of up to passes_wanted attempts that passed. If none passed, nothing is sent.",
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
                consequence = NO_ATTEMPT if context.handover is None else MAYBE_FOR_EACH
                state, loop_settings = _state(loop, consequence), _settings(context, settings, consequence)
                number, attempts = 1, context.max_attempts(loop_settings)
                if context.handover is None:
                    await check_loop(context, state, loop_settings)
                    state.begun[context.node_id] = time.monotonic()
                    expect_first_attempt(context, state)
                else:
                    number = context.handover.number
                    context.say_on_start(context.body(state), f"attempt {number} of {attempts}")
                panel.waiting("attempt", attempt=number, attempts=attempts)
        return [name for name in ("image", "evaluation") if name in context.inputs]

    @classmethod
    async def execute(cls, loop, image, evaluation=(None,), **settings) -> io.NodeOutput:
        with _shown.panel() as panel:
            context, state = LoopContext.of(cls), _state(loop)
            loop_settings = _settings(context, settings)
            first_attempt_reached(context, state)
            history = context.handover.take() if context.handover else None
            next_or_reason: LoopState | str
            if history is not None and (count := max(len(image), len(evaluation))) > 1:
                next_or_reason = _ends_in_a_list(context, len(history.attempts) + 1, count)
            else:
                pictures = _single_value("image", image, context.where_lists_come_from("image"))
                verdict = _single_value("evaluation", evaluation, context.where_lists_come_from("evaluation"))
                history = history or History(context.loop(state), state)
                history.add(await read_attempt(context, history, state, pictures, verdict), loop_settings)
                history.reuse_remembered(loop_settings)
                show(context, history, loop_settings)
                next_or_reason = next_attempt(history, loop_settings)
            if isinstance(next_or_reason, LoopState):
                return expand_into_next(context, history, next_or_reason, len(cls.RETURN_TYPES))
            finished = finish(context, history, loop_settings, next_or_reason)
            verdict = history.latest.verdict
            panel.done(
                finished.ui["runflow"], finished.ui[saved_metadata.KEY][0], verdict.min_score if verdict else 0.0
            )
        if history.best.verdict is not None and history.best.image is not None:
            finished.ui |= await _cards.ui_of(history.best.verdict, _image_batch.pictures(history.best.image))
        return finished


def _settings(context: LoopContext, inputs: dict[str, Any], consequence: str = MAYBE_FOR_EACH) -> LoopSettings:
    return LoopSettings(
        **{
            name: _single_value(name, values, context.where_lists_come_from(name), consequence)
            for name, values in inputs.items()
        }
    )


def _single_value(name: str, values: Any, source: str = "", consequence: str = MAYBE_FOR_EACH) -> Any:
    """The value of an input, which ComfyUI gives as a list; one that went through a list of one is fine."""
    if len(values) != 1:
        raise InvalidInputError(name, A_LIST.format(count=len(values), source=source, consequence=consequence))
    return values[0]


def _ends_in_a_list(context: LoopContext, number: int, count: int) -> str:
    """Why the loop ends with the best attempt before this one: what came before is paid, and is not lost."""
    source = context.where_lists_come_from("image", "evaluation")
    return ENDS_IN_A_LIST.format(number=number, count=count, source=source)


def _state(values: Any, consequence: str = MAYBE_FOR_EACH) -> LoopState:
    state = _single_value("loop", values, consequence=consequence)
    if not isinstance(state, LoopState):
        raise InvalidInputError("loop", f"must come from Regenerate Until Passed: Start. {NO_ATTEMPT}")
    return state
