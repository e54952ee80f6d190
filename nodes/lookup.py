"""What was asked earlier: Get Evaluation, by id, and Send Feedback."""

from comfy_api.latest import io

from ..runflow_api.api.models import EVALUATION_EMBEDS
from ..runflow_api.evaluation.question import RATINGS
from ..runflow_api.evaluation.verdict import RUNFLOW, Policy
from . import _runtime, _shown
from ._late import follow_up
from ._schema import (
    EvaluationType,
    if_not_judged_input,
    min_score_input,
    schema,
    timeout_input,
    verdict_outputs,
    verdict_result,
)

_ended: set[str] = set()
"""Ids that were terminal when a node of this process read them: only these may come from ComfyUI's cache."""


class RunflowGetEvaluation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowGetEvaluation",
            display_name="Get Evaluation",
            description=(
                "Reads evaluations that were submitted earlier, here or elsewhere, by their ids. Costs nothing. "
                "Everything that Runflow says about them is in Evaluation Details."
            ),
            inputs=[
                io.String.Input(
                    "evaluation_ids", multiline=True, default="", tooltip="One id per line; the results keep the order."
                ),
                io.Boolean.Input(
                    "wait",
                    optional=True,
                    default=True,
                    tooltip="Wait for those that are under way. Off: they are unknown, and asked again next time.",
                ),
                min_score_input(),
                if_not_judged_input(),
                timeout_input("How long to wait for verdicts, in seconds."),
            ],
            outputs=verdict_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, evaluation_ids=None, **_visible) -> float | str:
        """Never equal until all have ended; nor where the ids come over a link, and cannot be seen here."""
        ids = follow_up.split_ids(evaluation_ids) if isinstance(evaluation_ids, str) else []
        return "ended" if ids and _ended.issuperset(ids) else float("nan")

    @classmethod
    async def execute(
        cls, evaluation_ids, wait=True, min_score=0.0, if_not_judged="stop", timeout_s=600
    ) -> io.NodeOutput:
        ids = follow_up.split_ids(evaluation_ids)
        with _shown.panel() as panel:
            panel.waiting("reading")
            verdict = await _runtime.run_with_progress(
                cls,
                lambda show: follow_up.evaluations(
                    _runtime.evaluator(),
                    ids,
                    Policy(min_score, if_not_judged),
                    wait=wait,
                    timeout_s=timeout_s,
                    embed=sorted(EVALUATION_EMBEDS),
                    report=show.progress,
                ),
                lambda verdict: verdict.summary,
                panel.waiting,
            )
            panel.done([each.to_ui() for each in verdict], min_score=min_score)
        _ended.update(
            evaluation_id
            for evaluation_id, each in zip(ids, verdict, strict=True)
            if each.evaluation.is_terminal and each.error is None
        )
        return verdict_result(verdict)


class RunflowSendFeedback(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowSendFeedback",
            display_name="Send Feedback",
            description=(
                "Tells Runflow whether its verdicts were good or bad, for every evaluation it is given, or takes that "
                "back. Costs nothing. Local verdicts have no one to be told, and are skipped."
            ),
            inputs=[
                EvaluationType.Input(
                    "evaluation", tooltip="From Evaluate Image Quality, or any other node that has one."
                ),
                io.Combo.Input(
                    "rating",
                    options=list(RATINGS),
                    optional=True,
                    default="none",
                    tooltip="none: send nothing. good or bad: rate the verdict. clear: take an earlier rating back.",
                ),
                io.String.Input(
                    "reason",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="Why, in your own words; sent with good and bad.",
                ),
            ],
            outputs=[],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, evaluation, rating="none", reason="") -> io.NodeOutput:
        follow_up.check_feedback(rating, reason)
        rated = [each.evaluation.id for each in evaluation if each.judge == RUNFLOW and each.evaluation.id]
        ids = list(dict.fromkeys(rated))
        skipped = len(evaluation) - len(rated)
        left_out = f", {skipped} skipped: not judged by Runflow" if skipped else ""
        if rating == "none" or not ids:
            said = "nothing sent: rating is none" if rating == "none" else f"nothing sent{left_out}"
            _runtime.NodeProgress(cls.hidden.unique_id).text(said)
            return io.NodeOutput()
        done = "feedback cleared" if rating == "clear" else f"{rating} sent"
        await _runtime.run_with_progress(
            cls,
            lambda show: follow_up.feedback(_runtime.evaluator(), ids, rating, reason),
            lambda sent: f"{done} for {len(sent)} evaluation{'s' if len(sent) > 1 else ''}{left_out}",
        )
        return io.NodeOutput()
