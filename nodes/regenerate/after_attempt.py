"""After an attempt: what came out of it, the expansion into the next one, or the end of the loop."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any

import comfy.utils
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ...runflow_api.errors import InvalidInputError
from ...runflow_api.evaluation.verdict import BatchVerdict
from .. import _image_batch, _unjudged
from ..routing import BLOCKED
from . import saved_metadata
from .attempts import Attempt, History, LoopSettings, LoopState, notes
from .context import LoopContext
from .repair import BestImage

STAND_IN = "RunflowRegenerateAttempt"
NOT_REACHED = "did not reach End: a node of it failed, blocked what End reads, or was stopped"
NOT_KEPT = "[ATTEMPTS_NOT_KEPT] Regenerate End: switch keep_attempts on to get the images of all attempts."
NOT_JUDGED = "[NOT_JUDGED] Regenerate End: nothing is connected to evaluation, so there is no verdict to pass on."

log = logging.getLogger("runflow_evaluate")
_expecting: set[asyncio.Task[None]] = set()
"""An event loop holds its tasks weakly."""


async def read_attempt(context: LoopContext, history: History, state: LoopState, image: Any, verdict: Any) -> Attempt:
    """What came out of the body. A verdict of some images of a clip counts for all of them."""
    pictures = _image_batch.check_images("image", image)
    if not isinstance(verdict, BatchVerdict | None):
        raise InvalidInputError("evaluation", "must come from Evaluate Image Quality.")
    number, loop = len(history.attempts) + 1, history.loop
    hashes = await _image_batch.pixel_hashes(pictures)
    inside = context.best_inside(loop.body, number)
    begun = history.begun or history.first.begun.get(loop.body.end)
    seconds = 0.0 if begun is None else time.monotonic() - begun
    attempt = Attempt(number, state, pictures, verdict, hashes, inside, loop.output_nodes, seconds=seconds)
    return history.compared_with_before(attempt)


def show(context: LoopContext, history: History, settings: LoopSettings) -> None:
    """ "attempt 2 of 4 · repairs attempt 1 · 0.41 · lost: hands · blurred" on Start, and the image on End."""
    attempt, most = history.latest, context.max_attempts(settings)
    parts = [f"attempt {attempt.number} of {most}", *_repairs(attempt.repairs)]
    if attempt.verdict is not None:
        first_issue = attempt.verdict.issues.splitlines()[:1]
        parts += [f"{attempt.verdict.score:.2f}", *attempt.changes.texts]
        parts += first_issue or [str(attempt.verdict.outcome)]
    context.say_on_start(history.loop.body, " · ".join(parts))
    if attempt.image is not None:
        context.preview(attempt.image, attempt.number, most)


def _repairs(number: int) -> list[str]:
    return [f"repairs attempt {number}"] if number else []


def expand_into_next(context: LoopContext, history: History, state: LoopState, outputs: int) -> io.NodeOutput:
    """The clones of the next attempt, whose End gives each of the ``outputs``."""
    number, best = len(history.attempts) + 1, history.best
    history.best_image = BestImage.of(best.image, best.hashes) if state.best else BestImage()
    history.begun = time.monotonic()
    stand_in = {
        "class_type": STAND_IN,
        "inputs": {
            "prompt": state.prompt,
            "seed": state.seed,
            "number": number,
            "issues": history.latest.issues_for_the_next,
            "original": history.first.prompt,
            "best_number": state.best,
            "best": history.best_image,
            "repair": state.repair_prompt,
        },
    }
    context.forget_progress(history.loop.body)
    context.add_attempt_metadata(history.loop.body, state, number)
    if history.rescue_task is None:
        history.rescue_task = asyncio.create_task(_save_unfinished_best(context, history))
    expansion, end = context.expansion(history, stand_in)
    return io.NodeOutput(*([end, index] for index in range(outputs)), expand=expansion)


def expect_first_attempt(context: LoopContext, state: LoopState) -> None:
    """Say on End, where the prompt ends before the first attempt has reached it, that there is nothing.

    ComfyUI runs no node whose input is blocked, and calls that a success.
    """
    reached = state.waiting[context.node_id] = asyncio.Event()
    _expecting.add(task := asyncio.create_task(_say_if_unreached(context, reached)))
    task.add_done_callback(_expecting.discard)


def first_attempt_reached(context: LoopContext, state: LoopState) -> None:
    if (reached := state.waiting.pop(context.node_id, None)) is not None:
        reached.set()


async def _say_if_unreached(context: LoopContext, reached: asyncio.Event) -> None:
    try:
        await reached.wait()
    except asyncio.CancelledError:
        context.let_end_run_again()
        context.say(f"attempt 1 {NOT_REACHED}")
        raise


async def _save_unfinished_best(context: LoopContext, history: History) -> None:
    """Save the best attempt where the loop has no end, and say so.

    A node of a later attempt may raise, or block what End reads: then ComfyUI never runs that End. When a prompt ends,
    however it ends, ComfyUI closes its event loop, which cancels what still waits in it.
    """
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        history.best_image.drop()
        if history.attempts and not history.has_ended:
            context.let_end_run_again()
            _keep_best(context, history)
        raise


def _keep_best(context: LoopContext, history: History) -> None:
    best, count = history.best, len(history.attempts)
    context.publish_best(history)
    pictures = _image_batch.pictures(best.image) if best.image is not None else []
    where = _unjudged.save(pictures, _unjudged.BEST_FOLDER, context.dynprompt.original_prompt, context.extra_pnginfo)
    text = f"attempt {count + 1} {NOT_REACHED} · attempt {best.number} of {count} is the best so far · {where}"
    log.warning("Regenerate End %s: %s", context.node_id, text)
    context.say(text)


def finish(context: LoopContext, history: History, settings: LoopSettings, reason: str) -> io.NodeOutput:
    """End's outputs: the best attempt's, and why the loop ended."""
    history.has_ended = True
    if history.rescue_task is not None:
        history.rescue_task.cancel()
    history.drop_images(settings)
    best, verdict = history.best, history.best.verdict
    context.publish_best(history)
    if best is not history.latest:
        context.preview(best.image, len(history.attempts), context.max_attempts(settings))
    summary = _summary(context, history, settings, reason)
    passed = [attempt.image for attempt in history.passes(settings) if attempt.image is not None]
    context.say(_in_a_line(history, summary))
    return io.NodeOutput(
        best.image,
        best.passed,
        best.score,
        "\n".join([*verdict.issues.splitlines(), *(f"lost: {line}" for line in best.changes.lost)])
        if verdict
        else reason,
        best.state.prompt,
        best.state.seed,
        len(history.attempts),
        replace(verdict, attempts=tuple(each.compared for each in history.attempts))
        if verdict
        else ExecutionBlocker(NOT_JUDGED),
        _one_batch([each.image for each in history.attempts], best.image)
        if settings.keep_attempts
        else ExecutionBlocker(NOT_KEPT),
        _one_batch(passed, best.image) if passed else BLOCKED,
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
        "warnings": [
            *other,
            *notes(history, settings),
            *_resized_outputs(history, settings),
            *context.warnings(history.loop.body),
        ],
    }


def _resized_outputs(history: History, settings: LoopSettings) -> list[str]:
    """Which outputs are one batch of attempts that have not the same size, or not all an alpha channel."""
    if history.best.image is None:
        return []
    best = _image_batch.batch(history.best.image).shape[1:]
    collected = {"passed_images": history.passes(settings)}
    if settings.keep_attempts:
        collected["attempt_images"] = history.attempts
    lines = []
    for output, attempts in collected.items():
        shapes = {_image_batch.batch(each.image).shape[1:] for each in attempts if each.image is not None}
        if {shape[:2] for shape in shapes} - {best[:2]}:
            lines.append(f"{output} have different sizes and were resized to {best[1]}×{best[0]}, that of the best")
        if len({shape[2] for shape in shapes}) > 1:
            lines.append(f"{output} have lost their transparency: not all of them have one")
    return lines


def _in_a_line(history: History, summary: dict[str, Any]) -> str:
    best = history.best
    judged = [str(best.verdict.outcome), f"{best.verdict.score:.2f}"] if best.verdict else []
    reason = [summary["reason"]] if summary["reason"] not in judged else []
    out = f"attempt {best.number} of {len(history.attempts)} came out"
    return " · ".join([out, *_repairs(best.repairs), *judged, *best.changes.texts, *reason, *summary["warnings"]])


def _one_batch(attempts: list[torch.Tensor | None], best: torch.Tensor | None) -> torch.Tensor:
    """The images of attempts as one batch of the best one's size, and of the channels that all have."""
    batches = [_image_batch.batch(image) for image in attempts if image is not None]
    height, width = _image_batch.batch(batches[-1] if best is None else best).shape[1:3]
    channels = min(images.shape[-1] for images in batches)

    def fitted(images: torch.Tensor) -> torch.Tensor:
        if images.shape[1:3] != (height, width):
            scaled = comfy.utils.common_upscale(images.movedim(-1, 1), width, height, "bilinear", "disabled")
            images = scaled.movedim(1, -1)
        return images[..., :channels]

    return torch.cat([fitted(images) for images in batches])
