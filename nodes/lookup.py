"""What was asked earlier: Get Evaluation and Get Run, by id, and Send Feedback."""

import json

from comfy_api.latest import io

from ..runflow_api.api.models import EVALUATION_EMBEDS, Run
from ..runflow_api.evaluation.question import RATINGS
from ..runflow_api.evaluation.verdict import RUNFLOW, Policy
from . import _runtime, _shown
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
"""Evaluations and runs that had ended when a node of this process read them: only they may be cached."""


class RunflowGetEvaluation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowGetEvaluation",
            display_name="Get Evaluation",
            description=(
                "Reads evaluations that were submitted earlier, here or elsewhere, by their ids. Costs nothing. "
                "Connect Evaluation Details to see everything that Runflow says about them."
            ),
            inputs=[
                io.String.Input(
                    "evaluation_ids", multiline=True, default="", tooltip="One id per line; the results keep the order."
                ),
                io.Boolean.Input(
                    "wait",
                    optional=True,
                    default=True,
                    tooltip=(
                        "Wait for evaluations that are under way. Off: they count as not judged, and are looked up "
                        "again next time."
                    ),
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
        from ..runflow_api.evaluation import lookup

        ids = lookup.split_ids(evaluation_ids) if isinstance(evaluation_ids, str) else []
        return "ended" if ids and _ended.issuperset(ids) else float("nan")

    @classmethod
    async def execute(
        cls, evaluation_ids, wait=True, min_score=0.0, if_not_judged="stop", timeout_s=600
    ) -> io.NodeOutput:
        from ..runflow_api.evaluation import lookup

        with _shown.panel() as panel:
            panel.waiting("reading")
            ids = lookup.split_ids(evaluation_ids)
            show = _runtime.NodeProgress(cls.hidden.unique_id, panel.waiting)
            reading = lookup.evaluations(
                _runtime.evaluator(),
                ids,
                Policy(min_score, if_not_judged),
                wait=wait,
                timeout_s=timeout_s,
                embed=sorted(EVALUATION_EMBEDS),
                report=show.progress,
            )
            verdict = await _runtime.run_with_progress(reading, show)
            show.text(verdict.summary)
            panel.done([each.to_ui() for each in verdict], min_score=min_score)
        _ended.update(
            evaluation_id
            for evaluation_id, each in zip(ids, verdict, strict=True)
            if each.evaluation.is_terminal and each.error is None
        )
        return verdict_result(verdict)


class RunflowGetRun(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowGetRun",
            display_name="Get Run",
            description=(
                "Reads one of your Runflow runs: how it ended, its current verdict, its output, and why it failed. "
                "Costs nothing. Media in the output are links that expire."
            ),
            inputs=[
                io.String.Input("run_id", default="", tooltip="The run's id (UUID)."),
                io.Boolean.Input(
                    "wait",
                    optional=True,
                    default=True,
                    tooltip="Wait until the run has ended. Off: take it as it is, and look it up again next time.",
                ),
                timeout_input("How long to wait, in seconds."),
            ],
            outputs=[
                io.String.Output(
                    "status",
                    display_name="status",
                    tooltip="succeeded, failed, cancelled or partial_succeeded; before: queued, dispatching, running.",
                ),
                io.Boolean.Output(
                    "passed", display_name="passed", tooltip="Whether the run's current evaluation passed."
                ),
                io.Float.Output("score", display_name="score", tooltip="Its score, 0 to 1; 0 if there is none."),
                io.String.Output("output_json", display_name="output_json", tooltip="The run's output as JSON."),
                io.String.Output("failure", display_name="failure", tooltip="Why it failed; empty if it did not."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, run_id=None, **_visible) -> float | str:
        """Never equal until the run has ended, nor where its id comes over a link."""
        return "ended" if isinstance(run_id, str) and run_id.strip() in _ended else float("nan")

    @classmethod
    async def execute(cls, run_id, wait=True, timeout_s=600) -> io.NodeOutput:
        from ..runflow_api.evaluation import lookup

        run_id, show = run_id.strip(), _runtime.NodeProgress(cls.hidden.unique_id)
        reading = lookup.run(_runtime.evaluator(), run_id, wait=wait, timeout_s=timeout_s, report=show.progress)
        run = await _runtime.run_with_progress(reading, show)
        failure = lookup.run_failure(run)
        show.text(" · ".join(part for part in (run.status_code, _judged(run), failure) if part))
        if run.is_terminal:
            _ended.add(run_id)
        verdict = run.current_evaluation_summary
        return io.NodeOutput(
            run.status_code or "",
            bool(verdict and verdict.passed),
            verdict.score if verdict and verdict.score is not None else 0.0,
            json.dumps(run.output, ensure_ascii=False, indent=2),
            failure,
        )


def _judged(run: Run) -> str:
    """ "passed 0.90": the run's current verdict."""
    verdict = run.current_evaluation_summary
    if verdict is None:
        return "not evaluated"
    outcome = {None: "no verdict", True: "passed", False: "failed"}[verdict.passed]
    return outcome if verdict.score is None else f"{outcome} {verdict.score:.2f}"


class RunflowSendFeedback(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowSendFeedback",
            display_name="Send Feedback",
            description=(
                "Tells Runflow whether its verdicts were good or bad, for every evaluation it is given, or takes that "
                "back. Costs nothing. Local verdicts are skipped."
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
                    tooltip="none: send nothing. good or bad: rate the verdict. clear: take back an earlier rating.",
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
        from ..runflow_api.evaluation import lookup

        lookup.check_feedback(rating, reason)
        show = _runtime.NodeProgress(cls.hidden.unique_id)
        rated = [each.evaluation.id for each in evaluation if each.judge == RUNFLOW and each.evaluation.id]
        ids = list(dict.fromkeys(rated))
        skipped = len(evaluation) - len(rated)
        left_out = f", {skipped} skipped: not judged by Runflow" if skipped else ""
        if rating == "none" or not ids:
            show.text("nothing sent: rating is none" if rating == "none" else f"nothing sent{left_out}")
            return io.NodeOutput()
        sent = await _runtime.run_with_progress(lookup.feedback(_runtime.evaluator(), ids, rating, reason), show)
        done = "feedback cleared" if rating == "clear" else f"{rating} sent"
        show.text(f"{done} for {len(sent)} evaluation{'s' if len(sent) > 1 else ''}{left_out}")
        return io.NodeOutput()
