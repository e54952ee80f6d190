"""Act on a verdict: Quality Switch, Generate or Repair, Split Passed / Failed, Pick Best Image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..runflow_api.evaluation.verdict import FAILED, PREFLIGHT, UNKNOWN, BatchVerdict
from ..runflow_api.prompt.classes import REPAIR_SWITCH
from . import _image_batch, _runtime
from ._schema import EvaluationType, schema

BLOCKED = ExecutionBlocker(None)
"""Blocks what hangs on an output, and says nothing: an empty side is not an error."""
_UNCONNECTED = object()
FIRST_REPAIR = 2
"""The first attempt that has an image to repair."""
MAX_REPAIR_FROM = 100


class RunflowVerdictSwitch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowVerdictSwitch",
            display_name="Quality Switch",
            description=(
                "Sends on one of two inputs, depending on a verdict. Only the input that is sent on runs. If it is not "
                "connected, the nodes after the output do not run."
            ),
            inputs=[
                io.Boolean.Input("passed", default=True, tooltip="From Evaluate Image Quality."),
                io.AnyType.Input("on_pass", optional=True, lazy=True, tooltip="Sent on if the image passed."),
                io.AnyType.Input("on_fail", optional=True, lazy=True, tooltip="Sent on if it did not."),
            ],
            outputs=[io.AnyType.Output("output", display_name="output")],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def check_lazy_status(cls, passed, **sides) -> list[str]:
        """Only the side that is sent on; asking for an input that is not connected would be an error."""
        return [name for name in [_side(passed)] if name in sides]

    @classmethod
    def execute(cls, passed, on_pass=_UNCONNECTED, on_fail=_UNCONNECTED) -> io.NodeOutput:
        chosen = on_pass if passed else on_fail
        verdict = "passed" if passed else "failed"
        if chosen is _UNCONNECTED:
            _say(cls, f"{verdict} · {_side(passed)} is not connected, nothing sent on")
            return io.NodeOutput(BLOCKED)
        _say(cls, f"{verdict} · {_side(passed)} sent on")
        return io.NodeOutput(chosen)


class RunflowRepairSwitch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id=REPAIR_SWITCH,
            display_name="Generate or Repair",
            description=(
                "In a loop: the first attempt makes a new image (generate), later ones change the best image so far "
                "(repair). Only the input that is sent on runs. Connect best_so_far and repair_prompt of Regenerate "
                "Until Passed: Start to what makes repair."
            ),
            inputs=[
                io.Int.Input(
                    "attempt", force_input=True, tooltip="From Regenerate Until Passed: Start, which counts from 1."
                ),
                io.AnyType.Input("generate", optional=True, lazy=True, tooltip="Sent on if it is to be made anew."),
                io.AnyType.Input("repair", optional=True, lazy=True, tooltip="Sent on from repair_from on."),
                io.Int.Input(
                    "repair_from",
                    optional=True,
                    default=FIRST_REPAIR,
                    min=FIRST_REPAIR,
                    max=MAX_REPAIR_FROM,
                    tooltip="The first attempt that repairs. If larger, more new images are made first.",
                ),
            ],
            outputs=[io.AnyType.Output("output", display_name="output")],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def check_lazy_status(cls, attempt, repair_from=FIRST_REPAIR, **sides) -> list[str]:
        """Only the side that is sent on; asking for an input that is not connected would be an error."""
        return [name for name in [_work(attempt, repair_from)] if name in sides]

    @classmethod
    def execute(cls, attempt, generate=_UNCONNECTED, repair=_UNCONNECTED, repair_from=FIRST_REPAIR) -> io.NodeOutput:
        chosen = _work(attempt, repair_from)
        value = repair if chosen == "repair" else generate
        if value is _UNCONNECTED:
            _say(cls, f"attempt {attempt} · {chosen} is not connected, nothing sent on")
            return io.NodeOutput(BLOCKED)
        _say(cls, f"attempt {attempt} · {chosen} sent on")
        return io.NodeOutput(value)


class RunflowSplitByVerdict(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowSplitByVerdict",
            display_name="Split Passed / Failed",
            description=(
                "Divides a batch by the verdict of each image. An output without images sends nothing, and the nodes "
                "after it do not run: neither a black nor a rejected image is sent in its place."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The batch that was judged."),
                EvaluationType.Input("evaluation", tooltip="The verdicts of this batch, from Evaluate Image Quality."),
            ],
            outputs=[
                io.Image.Output("passed_images", display_name="passed_images"),
                io.Image.Output("failed_images", display_name="failed_images"),
                io.Image.Output(
                    "unjudged_images",
                    display_name="unjudged_images",
                    tooltip="Images that nobody judged, unless if_not_judged counts them as passed.",
                ),
                io.Int.Output("passed_count", display_name="passed_count"),
                io.Int.Output("failed_count", display_name="failed_count"),
                io.Int.Output("unjudged_count", display_name="unjudged_count"),
                EvaluationType.Output("passed_evaluation", display_name="passed_evaluation"),
                EvaluationType.Output("failed_evaluation", display_name="failed_evaluation"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, image, evaluation) -> io.NodeOutput:
        image = _image_batch.check_images("image", image)
        note = await _checked(image, evaluation)
        groups = positions_by_verdict(evaluation)
        counts = zip((len(group) for group in groups), ("passed", "failed", "not judged"), strict=True)
        said = [f"{count} {name}" + ("" if count else ", nothing sent on") for count, name in counts]
        _say(cls, " · ".join([*said, *note]))
        return io.NodeOutput(
            *(_images(image, group) for group in groups),
            *(len(group) for group in groups),
            *(_verdicts(evaluation, group) for group in groups[:2]),
        )


class RunflowPickBest(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowPickBest",
            display_name="Pick Best Image",
            description=(
                "Picks the best image of a batch: one that passed before one that did not, then the highest score. "
                "It picks one even if none passed; to avoid that, put Split Passed / Failed before it."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The batch that was judged."),
                EvaluationType.Input("evaluation", tooltip="The verdicts of this batch, from Evaluate Image Quality."),
            ],
            outputs=[
                io.Image.Output("picked_image", display_name="picked_image"),
                io.Int.Output("best_index", display_name="best_index", tooltip="Its position in the batch, from 0."),
                io.Float.Output("best_score", display_name="best_score"),
                io.Image.Output(
                    "ranked_images", display_name="ranked_images", tooltip="The whole batch, best image first."
                ),
                EvaluationType.Output("best_evaluation", display_name="best_evaluation"),
                EvaluationType.Output("ranked_evaluation", display_name="ranked_evaluation"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, image, evaluation) -> io.NodeOutput:
        image = _image_batch.check_images("image", image)
        note = await _checked(image, evaluation)
        judges = {each.judge for each in evaluation if each.outcome != UNKNOWN and each.judge != PREFLIGHT}
        if len(judges) > 1:
            note.append(f"judged by {', '.join(sorted(judges))}: scores of different judges do not compare")
        ranked = evaluation.ranked
        best = evaluation[ranked[0]]
        _say(cls, " · ".join([f"image {ranked[0] + 1} of {len(ranked)}", best.outcome, f"{best.score:.2f}", *note]))
        return io.NodeOutput(
            _images(image, ranked[:1]),
            ranked[0],
            best.score,
            _images(image, ranked),
            evaluation.select(ranked[:1]),
            evaluation.select(ranked),
        )


def positions_by_verdict(evaluation: BatchVerdict) -> tuple[list[int], list[int], list[int]]:
    """The positions of what passed, what failed, and what nobody judged and does not count as passed."""
    passed = [index for index, verdict in enumerate(evaluation) if verdict.passed]
    failed = [i for i, verdict in enumerate(evaluation) if not verdict.passed and verdict.outcome == FAILED]
    unjudged = [i for i, verdict in enumerate(evaluation) if not verdict.passed and verdict.outcome != FAILED]
    return passed, failed, unjudged


def _side(passed: bool) -> str:
    return "on_pass" if passed else "on_fail"


def _work(attempt: int, repair_from: int) -> str:
    return "repair" if attempt >= max(repair_from, FIRST_REPAIR) else "generate"


async def _checked(image: torch.Tensor, evaluation: BatchVerdict) -> list[str]:
    """What must be said about images and verdicts that come together; an error if they cannot belong together."""
    _image_batch.check_count(image, evaluation)
    hashes = await _image_batch.pixel_hashes(image)
    return [_image_batch.OTHER_PIXELS] if _image_batch.differ(hashes, evaluation) else []


def _images(image: torch.Tensor, indices: Sequence[int]) -> torch.Tensor | ExecutionBlocker:
    return _image_batch.batch(image)[list(indices)] if indices else BLOCKED


def _verdicts(evaluation: BatchVerdict, indices: Sequence[int]) -> BatchVerdict | ExecutionBlocker:
    return evaluation.select(indices) if indices else BLOCKED


def _say(node: type[io.ComfyNode], text: str) -> None:
    """On the node in the editor: in later attempts of a loop a clone of it runs."""
    node_id, dynprompt = node.hidden.unique_id, node.hidden.dynprompt
    _runtime.NodeProgress(dynprompt.get_display_node_id(node_id) if dynprompt else node_id).text(text)
