"""Look at a verdict: Show Verdict on the node, Evaluation Details on sockets."""

import json

from comfy_api.latest import io

from ..runflow_api.errors import InvalidInputError
from ..runflow_api.evaluation.verdict import credits_text
from ..runflow_api.report import tables
from . import _cards, _shown
from ._schema import EvaluationType, schema


class RunflowShowVerdict(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowShowVerdict",
            display_name="Show Verdict",
            description=(
                "Shows the verdict of every image. It is an output node, so an Evaluate that is connected to nothing "
                "else runs too."
            ),
            inputs=[EvaluationType.Input("evaluation", tooltip="From Evaluate Image Quality.")],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    async def execute(cls, evaluation) -> io.NodeOutput:
        with _shown.panel() as panel:
            verdicts = [verdict.to_ui() for verdict in evaluation]
            panel.done(verdicts, min_score=evaluation.min_score)
        # App mode and the Jobs panel of newer frontends show text and pictures, and nothing of the pack's own.
        return io.NodeOutput(ui={"runflow": verdicts, **await _cards.ui_of(evaluation)})


class RunflowEvaluationDetails(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = "evaluation_id status strengths judges gate_failures action_code failure_summary cost json".split()
        return schema(
            node_id="RunflowEvaluationDetails",
            display_name="Evaluation Details",
            description=(
                "Everything that the evaluation of one image says: ids, strengths, judges, cost and the whole answer."
            ),
            inputs=[
                EvaluationType.Input("evaluation", tooltip="From Evaluate Image Quality."),
                io.Int.Input("index", optional=True, default=0, min=0, tooltip="Which image of the batch, from 0."),
            ],
            outputs=[io.String.Output(name, display_name=name, tooltip=TOOLTIPS[name]) for name in names],
        )

    @classmethod
    def execute(cls, evaluation, index=0) -> io.NodeOutput:
        if not 0 <= index < len(evaluation):
            raise InvalidInputError("index", f"{index} is not one of the {len(evaluation)} images, counted from 0.")
        answer = evaluation[index].evaluation
        return io.NodeOutput(
            answer.id or "",
            answer.status_code or "",
            "\n".join(answer.top_strengths),
            tables.judges_table(answer),
            tables.gate_failures(answer),
            (answer.action.primary_action if answer.action else None) or answer.primary_action_code or "",
            (answer.action.failure_summary if answer.action else None) or "",
            credits_text(evaluation[index].cost),
            json.dumps(answer.to_json(), ensure_ascii=False, indent=2),
        )


TOOLTIPS = {
    "evaluation_id": "The evaluation's id at Runflow; empty for a local verdict.",
    "status": "completed or failed.",
    "strengths": "What is good, one line each.",
    "judges": "Every judge's opinion, as a Markdown table.",
    "gate_failures": "Hard checks that failed, one line each.",
    "action_code": "What Runflow recommends to do.",
    "failure_summary": "Why it failed, in one sentence.",
    "cost": "Credits paid for this verdict.",
    "json": "The whole answer as JSON.",
}
