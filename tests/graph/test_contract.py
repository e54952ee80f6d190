"""The public contract of the nodes: shared workflows depend on ids, and saved widget values on their order."""

from __future__ import annotations

from typing import Any

import pytest
from support.server import ComfyUI

EVALUATION = "passed:BOOLEAN score:FLOAT issues:STRING improved_prompt:STRING evaluation:RUNFLOW_EVALUATION"
CONTRACT: dict[str, tuple[str, str, str, str]] = {
    # node id: (shown as, required inputs, optional inputs, outputs)
    "RunflowEvaluateImage": (
        "Evaluate Image Quality",
        "image:IMAGE",
        "generation_prompt:STRING evaluation_instructions:STRING judge:COMBO min_score:FLOAT if_not_judged:COMBO "
        "task_type:STRING task_description:STRING references:RUNFLOW_REFERENCES options:RUNFLOW_OPTIONS "
        "judge_model:RUNFLOW_JUDGE_MODEL",
        EVALUATION,
    ),
    "RunflowJudgeModel": (
        "Judge with My Model",
        "clip:CLIP",
        "max_length:INT thinking:BOOLEAN",
        "judge_model:RUNFLOW_JUDGE_MODEL",
    ),
    "RunflowReferenceImage": (
        "Reference Image",
        "",
        "image:IMAGE url:STRING kind:STRING description:STRING references:RUNFLOW_REFERENCES",
        "references:RUNFLOW_REFERENCES",
    ),
    "RunflowEvaluationOptions": (
        "Evaluation Options",
        "",
        "input_attributes:STRING run_id:STRING client_ref:STRING job_class:STRING callback_url:STRING timeout_s:INT "
        "reuse:BOOLEAN upload:COMBO preflight:COMBO wait:BOOLEAN",
        "options:RUNFLOW_OPTIONS",
    ),
    "RunflowShowVerdict": ("Show Verdict", "evaluation:RUNFLOW_EVALUATION", "", ""),
    "RunflowGetEvaluation": (
        "Get Evaluation",
        "evaluation_ids:STRING",
        "wait:BOOLEAN min_score:FLOAT if_not_judged:COMBO timeout_s:INT",
        EVALUATION,
    ),
    "RunflowEvaluationDetails": (
        "Evaluation Details",
        "evaluation:RUNFLOW_EVALUATION",
        "index:INT",
        "evaluation_id:STRING status:STRING strengths:STRING judges:STRING gate_failures:STRING action_code:STRING "
        "failure_summary:STRING cost:STRING json:STRING",
    ),
    "RunflowSendFeedback": ("Send Feedback", "evaluation:RUNFLOW_EVALUATION", "rating:COMBO reason:STRING", ""),
    "RunflowGetRun": (
        "Get Run",
        "run_id:STRING",
        "wait:BOOLEAN timeout_s:INT",
        "status:STRING passed:BOOLEAN score:FLOAT output_json:STRING failure:STRING",
    ),
    "RunflowRegenerateStart": (
        "Regenerate Until Passed: Start",
        "prompt:STRING seed:INT",
        "",
        "loop:RUNFLOW_LOOP current_prompt:STRING current_seed:INT attempt:INT previous_issues:STRING "
        "original_prompt:STRING best_so_far:IMAGE repair_prompt:STRING",
    ),
    "RunflowRegenerateEnd": (
        "Regenerate Until Passed: End",
        "loop:RUNFLOW_LOOP image:IMAGE",
        "evaluation:RUNFLOW_EVALUATION max_attempts:INT next_prompt:COMBO next_seed:COMBO stop_on_pass:BOOLEAN "
        "keep_attempts:BOOLEAN passes_wanted:INT give_up_after:INT",
        "best_image:IMAGE passed:BOOLEAN score:FLOAT issues:STRING final_prompt:STRING final_seed:INT attempts:INT "
        "best_evaluation:RUNFLOW_EVALUATION attempt_images:IMAGE passed_images:IMAGE",
    ),
    "RunflowRepairSwitch": ("Generate or Repair", "attempt:INT", "generate:* repair:* repair_from:INT", "output:*"),
    "RunflowVerdictSwitch": ("Quality Switch", "passed:BOOLEAN", "on_pass:* on_fail:*", "output:*"),
    "RunflowSplitByVerdict": (
        "Split Passed / Failed",
        "image:IMAGE evaluation:RUNFLOW_EVALUATION",
        "",
        "passed_images:IMAGE failed_images:IMAGE unjudged_images:IMAGE passed_count:INT failed_count:INT "
        "unjudged_count:INT passed_evaluation:RUNFLOW_EVALUATION failed_evaluation:RUNFLOW_EVALUATION",
    ),
    "RunflowPickBest": (
        "Pick Best Image",
        "image:IMAGE evaluation:RUNFLOW_EVALUATION",
        "",
        "picked_image:IMAGE best_index:INT best_score:FLOAT ranked_images:IMAGE best_evaluation:RUNFLOW_EVALUATION "
        "ranked_evaluation:RUNFLOW_EVALUATION",
    ),
    "RunflowVerdictCard": (
        "Quality Report",
        "image:IMAGE evaluation:RUNFLOW_EVALUATION",
        "filename_prefix:STRING title:STRING audience:COMBO language:COMBO",
        "card:IMAGE",
    ),
    "RunflowExamplePhoto": ("Example Photo", "photo:COMBO", "", "image:IMAGE"),
    "RunflowSaveJudged": (
        "Save Judged Images",
        "image:IMAGE evaluation:RUNFLOW_EVALUATION",
        "filename_prefix:STRING folders:COMBO what:COMBO sidecar:BOOLEAN",
        "",
    ),
}
CHOICES = {
    ("RunflowEvaluateImage", "judge"): ("auto", ["auto", "runflow", "local", "off", "model", "person"]),
    ("RunflowEvaluateImage", "if_not_judged"): ("stop", ["stop", "fail", "pass", "ask"]),
    ("RunflowEvaluationOptions", "upload"): ("auto", ["auto", "data_uri", "asset"]),
    ("RunflowEvaluationOptions", "preflight"): ("broken", ["off", "broken", "full"]),
    ("RunflowGetEvaluation", "if_not_judged"): ("stop", ["stop", "fail", "pass"]),
    ("RunflowSendFeedback", "rating"): ("none", ["none", "good", "bad", "clear"]),
    ("RunflowRegenerateEnd", "next_prompt"): ("improved", ["improved", "keep"]),
    ("RunflowRegenerateEnd", "next_seed"): ("increment", ["increment", "random", "keep"]),
    ("RunflowVerdictCard", "audience"): ("internal", ["internal", "client"]),
    ("RunflowVerdictCard", "language"): ("auto", ["auto", "en", "zh", "ja"]),
    ("RunflowSaveJudged", "folders"): ("together", ["together", "by_verdict"]),
    ("RunflowSaveJudged", "what"): ("all", ["all", "passed", "failed"]),
}
DEFAULTS = {
    ("RunflowEvaluateImage", "min_score"): 0.0,
    ("RunflowEvaluateImage", "task_type"): "image_generation",
    ("RunflowEvaluationOptions", "job_class"): "standard",
    ("RunflowEvaluationOptions", "timeout_s"): 600,
    ("RunflowEvaluationOptions", "reuse"): True,
    ("RunflowEvaluationOptions", "wait"): True,
    ("RunflowReferenceImage", "kind"): "identity",
    ("RunflowEvaluationDetails", "index"): 0,
    ("RunflowGetEvaluation", "wait"): True,
    ("RunflowGetRun", "wait"): True,
    ("RunflowRegenerateEnd", "max_attempts"): 3,
    ("RunflowRegenerateEnd", "stop_on_pass"): True,
    ("RunflowRegenerateEnd", "keep_attempts"): False,
    ("RunflowRegenerateEnd", "passes_wanted"): 1,
    ("RunflowRegenerateEnd", "give_up_after"): 0,
    ("RunflowRepairSwitch", "repair_from"): 2,
}
INTERNAL = {"RunflowRegenerateAttempt"}
"""No part of the contract: it stands in for Start while a loop runs, and is in no saved workflow."""
OUTPUT_NODES = {"RunflowShowVerdict", "RunflowSendFeedback", "RunflowVerdictCard", "RunflowSaveJudged"}


def typed(inputs: dict[str, list[Any]]) -> str:
    named = ((name, kind[0]) for name, kind in inputs.items())
    return " ".join(f"{name}:{'COMBO' if isinstance(kind, list) else kind}" for name, kind in named)


def options_of(server: ComfyUI, node_class: str, name: str) -> tuple[Any, dict[str, Any]]:
    inputs = server.object_info(node_class)["input"]
    kind, options = {**inputs.get("required", {}), **inputs.get("optional", {})}[name]
    return kind, options


@pytest.mark.parametrize("node_class", CONTRACT)
def test_inputs_and_outputs_keep_their_ids_types_and_order(comfyui: ComfyUI, node_class: str) -> None:
    shown, required, optional, outputs = CONTRACT[node_class]
    info = comfyui.object_info(node_class)
    assert (info["name"], info["display_name"], info["category"]) == (node_class, shown, "Runflow/Evaluation")
    assert typed(info["input"].get("required", {})) == required
    assert typed(info["input"].get("optional", {})) == optional
    named = (f"{name}:{kind}" for name, kind in zip(info["output_name"], info["output"], strict=True))
    assert " ".join(named) == outputs
    assert info["description"]


@pytest.mark.parametrize(("where", "expected"), CHOICES.items(), ids=lambda value: "-".join(map(str, value)))
def test_choices_keep_their_values_and_default(comfyui: ComfyUI, where: tuple[str, str], expected: Any) -> None:
    kind, options = options_of(comfyui, *where)
    assert (options["default"], options.get("options", kind)) == expected


@pytest.mark.parametrize(("where", "expected"), DEFAULTS.items(), ids=lambda value: "-".join(map(str, value))
                         if isinstance(value, tuple) else str(value))  # fmt: skip
def test_defaults_keep_their_values(comfyui: ComfyUI, where: tuple[str, str], expected: Any) -> None:
    assert options_of(comfyui, *where)[1]["default"] == expected


def test_only_the_nodes_marked_so_are_output_nodes(comfyui: ComfyUI) -> None:
    """An output node in a lazy branch would run, and pay, whatever the switch says."""
    ours = {name: info for name, info in comfyui.object_info().items() if name.startswith("Runflow")}
    assert {name for name, info in ours.items() if info["output_node"]} == OUTPUT_NODES
    assert set(CONTRACT) | INTERNAL == set(ours)


def test_the_loops_seed_does_not_change_by_itself(comfyui: ComfyUI) -> None:
    """The frontend would add "randomize" to any INT called seed: an untouched graph would pay at every Run.

    ComfyUI 0.3.75 can only say that there is a control; there the pack's script sets it to fixed.
    """
    _, options = options_of(comfyui, "RunflowRegenerateStart", "seed")
    assert options["control_after_generate"] in (True, "fixed")


def test_what_must_be_right_is_what_the_person_reads(comfyui: ComfyUI) -> None:
    _, options = options_of(comfyui, "RunflowEvaluateImage", "evaluation_instructions")
    assert options["display_name"] == options["placeholder"] == "What must be right"
