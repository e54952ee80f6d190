"""What the pack's nodes share: the category, the socket types, the inputs and outputs of those that give verdicts."""

import dataclasses
import functools
import inspect
from collections.abc import Sequence

from comfy_api.latest import io

from ..runflow_api.evaluation.question import MAX_TIMEOUT_S
from ..runflow_api.evaluation.verdict import WITHOUT_A_PERSON, BatchVerdict

EvaluationType = io.Custom("RUNFLOW_EVALUATION")
ReferencesType = io.Custom("RUNFLOW_REFERENCES")
OptionsType = io.Custom("RUNFLOW_OPTIONS")
JudgeModelType = io.Custom("RUNFLOW_JUDGE_MODEL")
LoopType = io.Custom("RUNFLOW_LOOP")

SEARCH_ALIASES = ["quality", "judge", "score", "check", "retry", "regenerate", "hands", "best of"]
_KNOWN = {field.name for field in dataclasses.fields(io.Schema)}


def schema(**arguments) -> io.Schema:
    """An ``io.Schema`` in the pack's category, less the arguments that this ComfyUI does not know yet."""
    arguments = {"category": "Runflow/Evaluation", "search_aliases": SEARCH_ALIASES, **arguments}
    return io.Schema(**{name: value for name, value in arguments.items() if name in _KNOWN})


_KNOWS_ADVANCED = "advanced" in inspect.signature(io.String.Input.__init__).parameters


def advanced() -> dict[str, bool]:
    """For an input that few people need: newer editors fold it away."""
    return {"advanced": True} if _KNOWS_ADVANCED else {}


@functools.cache
def loop_boundary(kind: type) -> str | None:
    """ "start" or "end" for the ends of ComfyUI's own loops, which came with 0.38 and say so in their schema."""
    described = kind.GET_SCHEMA() if hasattr(kind, "GET_SCHEMA") else None
    return getattr(described, "loop_boundary", None)


def min_score_input() -> io.Float.Input:
    return io.Float.Input(
        "min_score",
        optional=True,
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="A passing image must also reach this score; 0 leaves it to the judge.",
    )


def if_not_judged_input(choices: Sequence[str] = WITHOUT_A_PERSON) -> io.Combo.Input:
    asks = " Or ask you in the editor, which then decides." if "ask" in choices else ""
    return io.Combo.Input(
        "if_not_judged",
        options=list(choices),
        optional=True,
        default="stop",
        tooltip=(
            "If nobody gives a verdict (outage, time-out, failed evaluation, credit or a limit used up): stop the "
            f"workflow, count the image as failed, or count it as passed.{asks}"
        ),
    )


def timeout_input(tooltip: str) -> io.Int.Input:
    return io.Int.Input(
        "timeout_s", optional=True, default=600, min=1, max=MAX_TIMEOUT_S, tooltip=tooltip, **advanced()
    )


def verdict_outputs() -> list[io.Output]:
    """The five outputs of a node that gives a verdict; ``verdict_result`` fills them."""
    return [
        io.Boolean.Output("passed", display_name="passed", tooltip="Whether every image passed."),
        io.Float.Output("score", display_name="score", tooltip="The lowest score of the batch, 0 to 1."),
        io.String.Output("issues", display_name="issues", tooltip="What is wrong, one line each."),
        io.String.Output(
            "improved_prompt",
            display_name="improved_prompt",
            tooltip="A prompt that would do better, or the generation prompt if there is none.",
        ),
        EvaluationType.Output("evaluation", display_name="evaluation", tooltip="The whole verdict of each image."),
    ]


def verdict_result(verdict: BatchVerdict) -> io.NodeOutput:
    return io.NodeOutput(
        verdict.passed,
        verdict.score,
        verdict.issues,
        verdict.improved_prompt,
        verdict,
        ui={"runflow": [each.to_ui() for each in verdict]},
    )
