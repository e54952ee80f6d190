"""Ask for a verdict: Evaluate Image Quality, and the options that few people need."""

from comfy_api.latest import io

from ..runflow_api import request
from ..runflow_api.verdict import IF_NOT_JUDGED, Policy
from . import _bridge
from ._schema import Evaluation, Options, References, schema


class RunflowEvaluateImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowEvaluateImage",
            display_name="Evaluate Image Quality",
            description=(
                "Judges every image of a batch and says whether it passed, its score, what is wrong, and a prompt "
                "that would do better. Asks Runflow where a key is configured (each image is one paid evaluation), "
                "else checks the pixels on this machine. Add Show Verdict, or connect an output, to make it run."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The images to judge; each one of a batch gets its own verdict."),
                io.String.Input(
                    "generation_prompt",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="The prompt that made the image. Whether the image follows it is judged.",
                ),
                io.String.Input(
                    "evaluation_instructions",
                    display_name="What must be right",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="In your own words: what the judge should look at or ignore. Needs a Runflow key.",
                ),
                io.Combo.Input(
                    "judge",
                    options=list(request.JUDGES),
                    optional=True,
                    default="auto",
                    tooltip=(
                        "auto: Runflow where a key is configured, else local. runflow: needs a key, costs credits. "
                        "local: checks the pixels on this machine, free, does not judge content. off: asks nobody, "
                        "everything passes."
                    ),
                ),
                io.Float.Input(
                    "min_score",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="A passing image must also reach this score; 0 leaves it to the judge.",
                ),
                io.Combo.Input(
                    "if_not_judged",
                    options=list(IF_NOT_JUDGED),
                    optional=True,
                    default="stop",
                    tooltip=(
                        "When nobody gives a verdict (outage, time-out, failed evaluation, credit or a limit used "
                        "up): stop the workflow, count the image as failed, or count it as passed."
                    ),
                ),
                io.String.Input(
                    "task_type",
                    optional=True,
                    default="image_generation",
                    tooltip="What kind of generation made the image, such as image_generation or headshot.",
                ),
                io.String.Input(
                    "task_description",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="A longer description of the task; the evaluation is planned with it.",
                ),
                References.Input("references", optional=True, tooltip="Up to 4 images to compare with."),
                Options.Input("options", optional=True, tooltip="From Evaluation Options."),
            ],
            outputs=[
                io.Boolean.Output("passed", display_name="passed", tooltip="Whether every image passed."),
                io.Float.Output("score", display_name="score", tooltip="The lowest score of the batch, 0 to 1."),
                io.String.Output("issues", display_name="issues", tooltip="What is wrong, one line each."),
                io.String.Output(
                    "improved_prompt",
                    display_name="improved_prompt",
                    tooltip="A prompt that would do better; the generation prompt where there is none.",
                ),
                Evaluation.Output("evaluation", display_name="evaluation", tooltip="Everything, for each image."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.dynprompt],
        )

    @classmethod
    def fingerprint_inputs(cls, judge=None, **visible) -> str:
        return _bridge.fingerprint(judge, {"judge": judge, **visible})

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
    ) -> io.NodeOutput:
        question = request.Question(
            generation_prompt=generation_prompt,
            evaluation_instructions=evaluation_instructions,
            task_type=task_type,
            task_description=task_description,
            references=references or (),
        )
        verdict = await _bridge.judge(
            cls,
            image,
            question,
            judge=judge,
            policy=Policy(min_score, if_not_judged),
            options=options or request.Options(),
        )
        _bridge.note_unknown(verdict, cls)
        return io.NodeOutput(
            verdict.passed,
            verdict.score,
            verdict.issues,
            verdict.improved_prompt,
            verdict,
            ui={"runflow": [each.to_ui() for each in verdict]},
        )


class RunflowEvaluationOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowEvaluationOptions",
            display_name="Evaluation Options",
            description="What few workflows need: attributes, a run to associate, time-out, reuse, preflight.",
            inputs=[
                io.String.Input(
                    "input_attributes",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip='A JSON object that is shown to the judges, such as {"style": "corporate"}.',
                ),
                io.String.Input("run_id", optional=True, default="", tooltip="One of your Runflow runs (UUID)."),
                io.String.Input("client_ref", optional=True, default="", tooltip="Your own label, echoed back."),
                io.String.Input("job_class", optional=True, default="standard", tooltip="The priced class."),
                io.String.Input(
                    "callback_url",
                    optional=True,
                    default="",
                    tooltip="Receives a signed callback; its host must be allowed in the pack's configuration.",
                ),
                io.Int.Input(
                    "timeout_s",
                    optional=True,
                    default=600,
                    min=1,
                    max=request.MAX_TIMEOUT_S,
                    tooltip="How long to wait for a verdict. What takes longer is picked up at the next queue.",
                ),
                io.Boolean.Input(
                    "reuse",
                    optional=True,
                    default=True,
                    tooltip="Reuse the verdict of the same image and question. Off: pay for a new one each time.",
                ),
                io.Combo.Input(
                    "upload",
                    options=list(request.UPLOADS),
                    optional=True,
                    default="auto",
                    tooltip="auto: inside the request where it fits, else as an uploaded file.",
                ),
                io.Combo.Input(
                    "preflight",
                    options=list(request.PREFLIGHTS),
                    optional=True,
                    default="broken",
                    tooltip=(
                        "Fail an image before paying for it. broken: NaN values or one flat colour. "
                        "full: every local check."
                    ),
                ),
            ],
            outputs=[Options.Output("options", display_name="options")],
        )

    @classmethod
    def fingerprint_inputs(cls, reuse=True, **_visible) -> float | str:
        """Never equal without reuse: Evaluate cannot see linked options, and would be cached."""
        return "reuse" if reuse is True else float("nan")

    @classmethod
    def execute(cls, **options) -> io.NodeOutput:
        return io.NodeOutput(request.Options(**options))
