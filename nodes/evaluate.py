"""Ask for a verdict: Evaluate Image Quality, and the options that few people need."""

import asyncio
from dataclasses import fields, replace
from typing import Any

import torch
from comfy_api.latest import io

from ..runflow_api import background
from ..runflow_api.errors import InvalidInputError
from ..runflow_api.evaluation.question import JUDGES, PREFLIGHTS, UPLOADS, Options, Question
from ..runflow_api.evaluation.verdict import IF_NOT_JUDGED, BatchVerdict, Policy
from . import _cache_key, _image_batch, _image_list, _runtime, _shown
from ._ask import Editor
from ._schema import (
    JudgeModelType,
    OptionsType,
    ReferencesType,
    advanced,
    if_not_judged_input,
    min_score_input,
    schema,
    timeout_input,
    verdict_outputs,
    verdict_result,
)
from ._unjudged import save_unjudged
from .regenerate.context import is_between_start_and_end, is_later_attempt, list_source


class RunflowEvaluateImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowEvaluateImage",
            display_name="Evaluate Image Quality",
            description=(
                "Judges every image of a batch and says whether it passed, its score, what is wrong, and a prompt that "
                "would do better. Asks Runflow if a key is configured (each image is one paid evaluation), otherwise a "
                "vision model of your own, otherwise checks the pixels on this machine. It runs only if you add Show "
                "Verdict or connect an output."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The images to judge; each image of a batch gets its own verdict."),
                io.String.Input(
                    "generation_prompt",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="The prompt that made the image; the judge checks whether the image follows it.",
                ),
                io.String.Input(
                    "evaluation_instructions",
                    display_name="What must be right",
                    optional=True,
                    multiline=True,
                    placeholder="What must be right",  # otherwise frontend 1.32 shows the id
                    default="",
                    tooltip=(
                        "In your own words, one requirement per line. Needs a Runflow key or a vision model. With "
                        "local, words in quotation marks are looked for in the picture if the optional reader is "
                        "installed."
                    ),
                ),
                io.Combo.Input(
                    "judge",
                    options=list(JUDGES),
                    optional=True,
                    default="auto",
                    tooltip=(
                        "auto: Runflow if a key is configured, otherwise your own vision model, otherwise local. "
                        "runflow: needs a key, costs credits. local: checks the pixels on this machine, free, does not "
                        "judge content. off: asks nobody, everything passes. model: your own vision model, free. "
                        "person: asks you in the editor."
                    ),
                ),
                min_score_input(),
                if_not_judged_input(IF_NOT_JUDGED),
                io.String.Input(
                    "task_type",
                    optional=True,
                    default="image_generation",
                    tooltip="What kind of generation made the image, such as image_generation or headshot.",
                    **advanced(),
                ),
                io.String.Input(
                    "task_description",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="A longer description of the task; Runflow plans the evaluation with it.",
                    **advanced(),
                ),
                ReferencesType.Input("references", optional=True, tooltip="Up to 4 images to compare with."),
                OptionsType.Input("options", optional=True, tooltip="From Evaluation Options."),
                JudgeModelType.Input(
                    "judge_model", optional=True, tooltip="From Judge with My Model: a vision model of your own."
                ),
            ],
            outputs=verdict_outputs(),
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.dynprompt],
        )

    @classmethod
    def fingerprint_inputs(cls, judge=None, **visible) -> str:
        return _cache_key.fingerprint(judge, {"judge": judge, **visible})

    @classmethod
    def check_lazy_status(cls, image, judge="auto", options=None, **inputs) -> list[str]:
        """No input is lazy. ComfyUI calls this for every value of a list before it runs the node for the first."""
        _image_list.collect(image, _question(inputs), options or Options(), judge)
        return []

    @classmethod
    async def execute(
        cls,
        image,
        generation_prompt="",
        evaluation_instructions="",
        judge="auto",
        min_score=0.0,
        if_not_judged="stop",
        task_type="image_generation",
        task_description="",
        references=None,
        options=None,
        judge_model=None,
    ) -> io.NodeOutput:
        with _shown.panel() as panel:
            panel.waiting("starting")
            images = _image_batch.check_images("image", image)
            listed, is_later = _image_list.collected(), is_later_attempt(cls)
            loop_error = _list_in_loop_error(cls, len(listed.values))
            if loop_error and not is_later:
                raise loop_error
            question = Question(
                generation_prompt=generation_prompt,
                evaluation_instructions=evaluation_instructions,
                task_type=task_type,
                task_description=task_description,
                references=references or (),
            )
            policy = Policy(min_score, if_not_judged)
            keeps_attempts = is_later and (if_not_judged == "stop" or loop_error is not None)
            if keeps_attempts:  # the loop ends with the best of them, where to stop would lose them
                policy = replace(policy, if_not_judged="fail")
            verdict = await _runtime.judge(
                cls,
                images,
                question,
                judge=judge,
                policy=policy,
                options=options or Options(),
                model=judge_model.bind() if judge_model else None,
                person=Editor(cls.hidden.unique_id),
                image_settings=_image_settings(cls),
                refused=loop_error or await listed.broken_limit(_runtime.running_prompt()),
                waiting=panel.waiting,
            )
            panel.done([each.to_ui() for each in verdict], min_score=min_score)
        if keeps_attempts:
            await _save_unjudged(cls, images, verdict)
        if loop_error is None:
            _cache_key.rerun_if_unjudged(verdict, cls)
        return verdict_result(verdict)


def _list_in_loop_error(node: type[io.ComfyNode], count: int) -> InvalidInputError | None:
    """Why a list of so many images is not paid for; ``None`` for one image, or outside of a loop."""
    if count < 2 or not is_between_start_and_end(node):
        return None
    return InvalidInputError("image", _image_list.IN_A_LOOP.format(count=count, source=list_source(node)))


def _image_settings(node: type[io.ComfyNode]) -> Any:
    """The settings that made the image, as the graph that runs tells them; in a loop those of this attempt."""
    from ..runflow_api.insight import image_settings
    from ..runflow_api.insight.saved_prompt import link_of

    graph, node_id = node.hidden.dynprompt, node.hidden.unique_id
    nodes = {name: graph.get_node(name) for name in graph.all_node_ids()}
    return image_settings.of_graph(nodes, link_of(nodes[node_id]["inputs"].get("image")), is_running=True)


def _question(inputs: dict[str, Any]) -> Question:
    """The question that these inputs make; one whose link gives nothing keeps its default."""
    names = {field.name for field in fields(Question)}
    return Question(**{name: value for name, value in inputs.items() if name in names and value is not None})


async def _save_unjudged(node: type[io.ComfyNode], images: torch.Tensor, verdict: BatchVerdict) -> None:
    pictures = [picture for picture, each in zip(_image_batch.pictures(images), verdict, strict=True) if each.error]
    await asyncio.wrap_future(background.call(save_unjudged, pictures, node))


class RunflowEvaluationOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowEvaluationOptions",
            display_name="Evaluation Options",
            description=(
                "Settings that few workflows need: attributes, the run it belongs to, time-out, reuse, preflight."
            ),
            inputs=[
                io.String.Input(
                    "input_attributes",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="A JSON object that is shown to the judges, such as a style or a target group.",
                ),
                io.String.Input(
                    "run_id", optional=True, default="", tooltip="One of your Runflow runs (UUID).", **advanced()
                ),
                io.String.Input(
                    "client_ref",
                    optional=True,
                    default="",
                    tooltip="Your own label, returned with the verdict.",
                    **advanced(),
                ),
                io.String.Input(
                    "job_class",
                    optional=True,
                    default="standard",
                    tooltip="The class that sets the price.",
                    **advanced(),
                ),
                io.String.Input(
                    "callback_url",
                    optional=True,
                    default="",
                    tooltip="Receives a signed callback; its host must be allowed in the pack's configuration.",
                    **advanced(),
                ),
                timeout_input(
                    "How long to wait for a verdict. A verdict that takes longer is picked up at the next Run."
                ),
                io.Boolean.Input(
                    "reuse",
                    optional=True,
                    default=True,
                    tooltip="Reuse the verdict of the same image and question. Off: pay for a new verdict each time.",
                ),
                io.Combo.Input(
                    "upload",
                    options=list(UPLOADS),
                    optional=True,
                    default="auto",
                    tooltip="auto: inside the request if it fits, otherwise as an uploaded file.",
                    **advanced(),
                ),
                io.Combo.Input(
                    "preflight",
                    options=list(PREFLIGHTS),
                    optional=True,
                    default="broken",
                    tooltip=(
                        "Fail an image before paying for it. broken: NaN values or one flat colour. "
                        "full: every local check."
                    ),
                ),
                io.Boolean.Input(
                    "wait",
                    optional=True,
                    default=True,
                    tooltip=(
                        "Off: submit and go on. The verdict is unknown until the next Run, Collect in the history or "
                        "Get Evaluation reads it, for free."
                    ),
                    **advanced(),
                ),
            ],
            outputs=[OptionsType.Output("options", display_name="options")],
        )

    @classmethod
    def fingerprint_inputs(cls, reuse=True, wait=True, **_visible) -> float | str:
        """Never equal without reuse, or without waiting: Evaluate cannot see linked options, and would be cached."""
        return "reuse" if reuse is True and wait is True else float("nan")

    @classmethod
    def execute(cls, **options) -> io.NodeOutput:
        return io.NodeOutput(Options(**options))
