"""A Runflow run and its current verdict."""

import json

from comfy_api.latest import io

from . import _runtime
from ._late import follow_up
from ._schema import schema, timeout_input

_ended: set[str] = set()
"""Runs that had ended when a node of this process read them."""


class RunflowGetRun(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowGetRun",
            display_name="Get Run",
            description=(
                "Reads one of your Runflow runs: how it ended, its current verdict, its output, why it failed. Costs "
                "nothing. Media in the output are addresses that expire."
            ),
            inputs=[
                io.String.Input("run_id", default="", tooltip="The run's id (UUID)."),
                io.Boolean.Input(
                    "wait",
                    optional=True,
                    default=True,
                    tooltip="Wait until the run has ended. Off: take it as it is, and ask again next time.",
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
                io.Float.Output("score", display_name="score", tooltip="Its score, 0 to 1; 0 where there is none."),
                io.String.Output("output_json", display_name="output_json", tooltip="The run's output as JSON."),
                io.String.Output("failure", display_name="failure", tooltip="Why it failed; empty where it did not."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, run_id=None, **_visible) -> float | str:
        """Never equal until the run has ended, nor where its id comes over a link."""
        return "ended" if isinstance(run_id, str) and run_id.strip() in _ended else float("nan")

    @classmethod
    async def execute(cls, run_id, wait=True, timeout_s=600) -> io.NodeOutput:
        run_id = run_id.strip()
        run = await _runtime.run_with_progress(
            cls,
            lambda show: follow_up.run(
                _runtime.evaluator(), run_id, wait=wait, timeout_s=timeout_s, report=show.progress
            ),
            _summary,
        )
        if run.is_terminal:
            _ended.add(run_id)
        verdict = run.current_evaluation_summary
        return io.NodeOutput(
            run.status_code or "",
            bool(verdict and verdict.passed),
            verdict.score if verdict and verdict.score is not None else 0.0,
            json.dumps(run.output, ensure_ascii=False, indent=2),
            follow_up.run_failure(run),
        )


def _summary(run) -> str:
    verdict = run.current_evaluation_summary
    if verdict is None or verdict.passed is None:
        judged = "not evaluated" if verdict is None else "no verdict"
    else:
        judged = "passed" if verdict.passed else "failed"
    score = f" {verdict.score:.2f}" if verdict and verdict.score is not None else ""
    return " · ".join(part for part in (run.status_code, f"{judged}{score}", follow_up.run_failure(run)) if part)
