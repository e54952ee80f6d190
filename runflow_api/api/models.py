"""Typed records of what the Runflow API takes and gives.

Sources: the reference pages "Submit an image for quality evaluation", "Get evaluation",
"Set feedback" and "Get run" of the Runflow API, and the guides for what those pages leave out
(job classes, balance, account).

Every field of an answer may be absent or null, and unknown fields and enum values are kept: a new
field of the API never costs anybody a verdict. Neither does a field of the wrong *type*: it is kept as it
came and reads as absent. Only the verdict itself (``VITAL``) is refused then, because a verdict read from
a value that was guessed would be worse than none. Timestamps stay the API's ISO 8601 text. Amounts of
credits stay decimal text, so that nothing is rounded.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictBool,
    ValidationError,
    model_validator,
)
from typing_extensions import Self

T = TypeVar("T")


def _without_nulls(value: Any) -> Any:
    """Null for a list is an empty one, and a null in it is nothing."""
    if value is None:
        return []
    return [each for each in value if each is not None] if isinstance(value, list) else value


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


Many = Annotated[list[T], BeforeValidator(_without_nulls)]
"""A list that the API may also give as null."""

Json = dict[str, Any]
Number = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]

PENDING, RUNNING, COMPLETED, FAILED = "pending", "running", "completed", "failed"
EVALUATION_TERMINAL = frozenset({COMPLETED, FAILED})
RUN_TERMINAL = frozenset({"succeeded", "failed", "cancelled", "partial_succeeded"})

EVALUATION_EMBEDS = frozenset(
    {"action", "comfyui_workflow", "flow", "gate_failures", "judges", "model", "parent_evaluation", "run"}
)
RUN_EMBEDS = frozenset({"comfyui_workflow", "flow", "logs", "model", "node_runs"})


class Record(BaseModel):
    """Base of every answer: unknown fields are kept, and ``to_json`` gives the whole answer back."""

    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True, protected_namespaces=())
    VITAL: ClassVar[frozenset[str]] = frozenset()
    """Fields that must be right where they are given."""

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_is_odd(cls, answer: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Take a field of the wrong type for absent, and keep it for ``to_json``."""
        try:
            return handler(answer)
        except ValidationError as error:
            odd = {str(each["loc"][0]) for each in error.errors(include_url=False) if each["loc"]}
            if not isinstance(answer, dict) or not odd or odd & cls.VITAL or not odd <= answer.keys():
                raise
            record = handler({name: value for name, value in answer.items() if name not in odd})
            extra = record.model_extra
            assert extra is not None  # extra="allow"
            extra.update({name: answer[name] for name in odd})
            return record

    def to_json(self) -> Json:
        """The answer as it came: fields the API did not send stay absent."""
        return self.model_dump(mode="json", exclude_unset=True)


# --- models and workflows -------------------------------------------------------------------------


class Variable(Record):
    """What an input and an output of a model or of a workflow have in common."""

    id: str | None = None
    name: str | None = None
    display_name: str | None = None
    description: str | None = None
    variable_type_code: str | None = None
    validator_code: str | None = None
    validator_attrs: Json | None = None
    sort_order: int | None = None
    created_at: str | None = None
    updated_at: str | None = None


class ModelOutput(Variable):
    model_id: str | None = None


class ModelInput(ModelOutput):
    default_behavior_code: str | None = None
    is_required: StrictBool | None = None
    default_value: Any = None
    is_featured: StrictBool | None = None


class ModelExample(Record):
    id: str | None = None
    model_id: str | None = None
    title: str | None = None
    description: str | None = None
    input: Any = None
    output: Any = None
    status_code: int | str | None = None
    cost: str | None = None
    start_type: str | None = None
    timing: Any = None
    duration_ms: Number | None = None
    total_ms: Number | None = None
    thumbnail_url: str | None = None
    category_code: str | None = None
    is_featured: StrictBool | None = None
    is_public: StrictBool | None = None
    sort_order: int | None = None
    ran_at: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class FaqEntry(Record):
    id: str | None = None
    model_id: str | None = None
    question: str | None = None
    answer: str | None = None
    sort_order: int | None = None
    created_at: str | None = None
    updated_at: str | None = None


class PricingRule(Record):
    id: str | None = None
    model_id: str | None = None
    pricing_model_code: str | None = None
    rule_effect_code: str | None = None
    model_input_id: str | None = None
    match_value: Any = None
    dimension_code: str | None = None
    min_value: str | None = None
    max_value: str | None = None
    price: str | None = None
    currency_code: str | None = None
    unit_code: str | None = None
    multiplier_label: str | None = None
    description: str | None = None
    sort_order: int | None = None
    disabled_at: str | None = None
    measurement_source: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class RelatedLink(Record):
    id: str | None = None
    model_id: str | None = None
    related_model_id: str | None = None
    sort_order: int | None = None
    created_at: str | None = None


class ModelRecord(Record):
    """A model of the Runflow catalogue (embed ``model``)."""

    id: str | None = None
    org_id: str | None = None
    model_creator_id: str | None = None
    slug: str | None = None
    name: str | None = None
    description: str | None = None
    version: str | None = None
    is_public: StrictBool | None = None
    is_open_source: StrictBool | None = None
    icon_url: str | None = None
    cover_url: str | None = None
    category_code: str | None = None
    status_code: str | None = None
    family_id: str | None = None
    family_variant_code: str | None = None
    param_count: str | None = None
    architecture: str | None = None
    license_code: str | None = None
    max_resolution: str | None = None
    lora_support: StrictBool | None = None
    fine_tuning: StrictBool | None = None
    supports_streaming: StrictBool | None = None
    paper_url: str | None = None
    github_url: str | None = None
    is_official: StrictBool | None = None
    availability_status: str | None = None
    seo: Any = None
    notable_features: Many[Any] = []
    content: str | None = None
    pricing_note: str | None = None
    created_by: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    deleted_at: str | None = None
    deleted_by: str | None = None
    inputs: Many[ModelInput] = []
    outputs: Many[ModelOutput] = []
    examples: Many[ModelExample] = []
    faq_entries: Many[FaqEntry] = []
    pricing: Many[PricingRule] = []
    related_links: Many[RelatedLink] = []


class WorkflowOutput(Variable):
    comfyui_workflow_id: str | None = None
    comfyui_node_id: str | None = None
    comfyui_field_name: str | None = None


class WorkflowInput(WorkflowOutput):
    default_behavior_code: str | None = None
    is_required: StrictBool | None = None
    default_value: Any = None


class GpuExplicitModel(Record):
    id: str | None = None
    comfyui_workflow_id: str | None = None
    gpu_model_code: str | None = None
    created_at: str | None = None


class WorkflowRecord(Record):
    """A ComfyUI workflow deployed on Runflow (embed ``comfyui_workflow``)."""

    id: str | None = None
    org_id: str | None = None
    slug: str | None = None
    name: str | None = None
    description: str | None = None
    workflow_json: Any = None
    version: str | None = None
    is_public: StrictBool | None = None
    status_code: str | None = None
    created_by: str | None = None
    environment: Any = None
    models: Any = None
    custom_nodes: Any = None
    graph: Any = None
    resources: Any = None
    created_at: str | None = None
    updated_at: str | None = None
    deleted_at: str | None = None
    deleted_by: str | None = None
    category_code: str | None = None
    gpu_current_tier_code: str | None = None
    inputs: Many[WorkflowInput] = []
    outputs: Many[WorkflowOutput] = []
    gpu_explicit_models: Many[GpuExplicitModel] = []


# --- runs -----------------------------------------------------------------------------------------


class NodeRun(Record):
    id: str | None = None
    run_id: str | None = None
    node_id: str | None = None
    flow_id: str | None = None
    state_code: str | None = None
    input: Any = None
    output: Any = None
    input_signature: str | None = None
    preview_type: str | None = None
    preview_value: str | None = None
    duration_ms: Number | None = None
    cost: str | None = None
    retry_count: int | None = None
    error_message: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None


class RunLog(Record):
    id: str | None = None
    run_id: str | None = None
    level_code: str | None = None
    message: str | None = None
    timestamp: str | None = None
    meta: Any = None
    run: Any = None


class EvaluationSummary(Record):
    """The run's current evaluation: the completed one that no later one has superseded."""

    passed: StrictBool | None = None
    status_code: str | None = None
    score: Number | None = None


class Run(Record):
    """A run (``GET /v1/runs/{id}``); media in ``output`` are presigned URLs that expire."""

    id: str | None = None
    status_code: str | None = None
    flow_id: str | None = None
    model_id: str | None = None
    comfyui_workflow_id: str | None = None
    target_type_code: str | None = None
    target_version: str | None = None
    org_id: str | None = None
    input: Any = None
    output: Any = None
    context: Any = None
    duration_ms: Number | None = None
    cost: str | None = None
    cost_breakdown: Any = None
    nodes_total: int | None = None
    nodes_completed: int | None = None
    resolved_template_id: str | None = None
    batch_id: str | None = None
    client_ref: str | None = None
    jurisdiction_code: str | None = None
    flow_version_id: str | None = None
    request_id: str | None = None
    created_by: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    callback_url: str | None = None
    metadata: Any = None
    has_logs: StrictBool | None = None
    has_node_runs: StrictBool | None = None
    links: Any = None
    failure_code: str | None = None
    failure_message: str | None = None
    failure_stage_code: str | None = None
    feedback_is_positive: StrictBool | None = None
    feedback_reason: str | None = None
    source_chat_message_id: str | None = None
    current_evaluation_summary: EvaluationSummary | None = None
    node_runs: Many[NodeRun] = []
    logs: Many[RunLog] = []
    model: ModelRecord | None = None
    flow: Any = None
    comfyui_workflow: WorkflowRecord | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status_code in RUN_TERMINAL


# --- evaluations ----------------------------------------------------------------------------------


class JudgeIssue(Record):
    id: str | None = None
    evaluation_id: str | None = None
    evaluation_judge_id: str | None = None
    category: str | None = None
    subcategory: str | None = None
    detail: str | None = None
    created_at: str | None = None


class JudgeOpinion(Record):
    """One judge's opinion (embed ``judges``)."""

    id: str | None = None
    evaluation_id: str | None = None
    name: str | None = None
    description: str | None = None
    category: str | None = None
    passed: StrictBool | None = None
    confidence: Number | None = None
    weight: Number | None = None
    reasoning: str | None = None
    evidence: Many[str] = []
    sub_point_results: Any = None
    sub_points_evaluated: int | None = None
    created_at: str | None = None
    issues: Many[JudgeIssue] = []


class GateFailure(Record):
    """A hard check that failed before or beside the judges (embed ``gate_failures``)."""

    id: str | None = None
    evaluation_id: str | None = None
    output_key: str | None = None
    module: str | None = None
    reason: str | None = None
    created_at: str | None = None


class Action(Record):
    """What to do about a verdict (embed ``action``)."""

    id: str | None = None
    evaluation_id: str | None = None
    primary_action: str | None = None
    failure_summary: str | None = None
    improved_prompt: str | None = None
    created_at: str | None = None


class Evaluation(Record):
    """An evaluation (``GET /v1/evaluations/{id}``), pending or finished.

    ``overall_passed`` is null when no verdict was emitted, ``weighted_pass_rate`` (0.0 to 1.0) when no
    score was. ``judges``, ``gate_failures`` and ``action`` come only where they were embedded.
    """

    VITAL: ClassVar[frozenset[str]] = frozenset({"id", "status_code", "overall_passed", "weighted_pass_rate"})

    id: str | None = None
    org_id: str | None = None
    status_code: str | None = None
    source_code: str | None = None
    run_id: str | None = None
    target_type_code: str | None = None
    model_id: str | None = None
    flow_id: str | None = None
    comfyui_workflow_id: str | None = None
    task_type: str | None = None
    task_description: str | None = None
    generation_prompt: str | None = None
    generated_image_url: str | None = None
    input_attributes: Any = None
    evaluation_instructions: str | None = None
    reference_images: Many[Any] = []
    overall_passed: StrictBool | None = None
    weighted_pass_rate: Number | None = None
    override_reason: str | None = None
    top_issues: Many[str] = []
    top_strengths: Many[str] = []
    check_summary: Any = None
    analysis_modules_executed: int | None = None
    primary_action_code: str | None = None
    parent_evaluation_id: str | None = None
    attempt_number: int | None = None
    superseded_at: str | None = None
    eval_duration_ms: Number | None = None
    failure_code: str | None = None
    feedback_is_positive: StrictBool | None = None
    feedback_reason: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    client_ref: str | None = None
    job_class_code: str | None = None
    submitted_at: str | None = None
    completed_at: str | None = None
    callback_url: str | None = None
    cost: str | None = None
    links: Any = None
    judges: Many[JudgeOpinion] = []
    gate_failures: Many[GateFailure] = []
    action: Action | None = None
    run: Run | None = None
    model: ModelRecord | None = None
    flow: Any = None
    comfyui_workflow: WorkflowRecord | None = None
    parent_evaluation: Evaluation | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status_code in EVALUATION_TERMINAL


# --- beside the reference pages -------------------------------------------------------------------


class JobClass(Record):
    """A priced class of evaluation. The shape is not in the reference: the price is looked for."""

    code: str | None = None
    name: str | None = None
    price: str | None = None
    is_active: StrictBool | None = None


class AssetUpload(Record):
    """Where to put the bytes of an image that is too large for a data URI."""

    asset_id: str
    upload_url: str


# --- requests -------------------------------------------------------------------------------------


class ReferenceImage(BaseModel):
    """A picture to compare with: ``url`` in one of the API's three forms."""

    url: str
    kind: str | None = None
    description: str | None = None


class EvaluationRequest(BaseModel):
    """The body of ``POST /v1/evaluations``; ``None`` is left out of what is sent."""

    generated_image_url: str
    task_type: str
    task_description: str | None = None
    generation_prompt: str | None = None
    evaluation_instructions: str | None = None
    input_attributes: Json | None = None
    reference_images: list[ReferenceImage] | None = None
    run_id: str | None = None
    client_ref: str | None = None
    job_class: str | None = None
    callback_url: str | None = None
