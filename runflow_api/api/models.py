"""Typed records of what the Runflow API takes and gives.

Sources: the reference pages "Submit an image for quality evaluation", "Get evaluation",
"Set feedback" and "Get run" of the Runflow API, and the guides for what those pages leave out
(job classes, balance, account).

Every field of an answer may be absent or null, and unknown fields and enum values are kept: a new
field of the API never costs anybody a verdict. Neither does a field of the wrong *type*: it is kept as it
came and reads as absent. Only the verdict itself (``VITAL``) is refused then, because a verdict read from
a value that was guessed would be worse than none. Timestamps stay the API's ISO 8601 text. Amounts of
credits are exact decimals; what is not a sane amount (NaN, negative) reads as absent.
What no code reads (models, workflows, flows, logs) has no record of its own: it stays the JSON that came.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from enum import Enum
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
from pydantic_core import from_json
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


def _credits(value: Any) -> Any:
    """An amount of credits as an exact decimal. What is not one is refused, and so reads as absent."""
    if value is None or isinstance(value, bool):
        return value if value is None else _no_truth(value)
    try:
        amount = Decimal(str(value))
    except InvalidOperation as error:
        raise ValueError("not an amount") from error
    if not amount.is_finite() or not 0 <= amount < CREDITS_LIMIT or -CREDITS_PLACES > amount.as_tuple().exponent:  # type: ignore[operator]
        raise ValueError("not a sane amount")
    return amount


def _as_texts(value: Any) -> Any:
    """A list of texts in which the API may also put objects: of these the text is read."""
    if not isinstance(value, list):
        return [] if value is None else value
    return [text for each in value if (text := _text_of(each))]


def _text_of(entry: Any) -> str | None:
    if isinstance(entry, dict):
        found = (entry[name] for name in TEXT_NAMES if isinstance(entry.get(name), str) and entry[name].strip())
        return next(found, None)
    if isinstance(entry, int | float) and not isinstance(entry, bool):
        return str(entry)
    return entry if isinstance(entry, str) else None


CREDITS_LIMIT = Decimal(10) ** 15
CREDITS_PLACES = 24
"""What the journal keeps of an amount."""
TEXT_NAMES = ("detail", "text", "message", "issue", "strength", "description", "reason", "title", "name")
"""Where the text of an object in a list of texts is, most telling first."""

Many = Annotated[list[T], BeforeValidator(_without_nulls)]
"""A list that the API may also give as null."""
Texts = Annotated[list[str], BeforeValidator(_as_texts)]
Credits = Annotated[Decimal, BeforeValidator(_credits)]

Json = dict[str, Any]
Number = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]


class EvaluationStatus(str, Enum):
    """How far an evaluation is. A status that is not known here stays text."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"

    __str__ = str.__str__


Status = Annotated[EvaluationStatus | str, Field(union_mode="left_to_right")]
EVALUATION_TERMINAL = frozenset({EvaluationStatus.COMPLETED, EvaluationStatus.FAILED})
RUN_TERMINAL = frozenset({"succeeded", "failed", "cancelled", "partial_succeeded"})

EVALUATION_EMBEDS = frozenset(
    {"action", "comfyui_workflow", "flow", "gate_failures", "judges", "model", "parent_evaluation", "run"}
)
RUN_EMBEDS = frozenset({"comfyui_workflow", "flow", "logs", "model", "node_runs"})


def _holds_objects(answer: Any, name: str) -> bool:
    given = answer.get(name) if isinstance(answer, dict) else None
    return isinstance(given, list) and any(isinstance(each, dict) for each in given)


class Record(BaseModel):
    """Base of every answer: unknown fields are kept, and ``to_json`` gives the whole answer back."""

    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True, protected_namespaces=())
    VITAL: ClassVar[frozenset[str]] = frozenset()
    """Fields that must be right if they are given."""
    TEXTS: ClassVar[frozenset[str]] = frozenset()
    """Lists of texts that may hold objects, of which only the text is read."""

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_is_odd(cls, answer: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Take a field of the wrong type for absent, and keep it for ``to_json``."""
        try:
            record = handler(answer)
        except ValidationError as error:
            odd = {str(each["loc"][0]) for each in error.errors(include_url=False) if each["loc"]}
            if not isinstance(answer, dict) or not odd or odd & cls.VITAL or not odd <= answer.keys():
                raise
            record = handler({name: value for name, value in answer.items() if name not in odd})
            record._keep(answer, odd)
        else:
            record._keep(answer, {name for name in cls.TEXTS if _holds_objects(answer, name)})
        return record

    def _keep(self, answer: Json, names: Iterable[str]) -> None:
        """Keep these fields for ``to_json`` as they came."""
        assert self.model_extra is not None  # extra="allow"
        self.model_extra.update({name: answer[name] for name in names})

    def to_json(self) -> Json:
        """The answer as it came: fields the API did not send stay absent."""
        fields, extra = type(self).model_fields, self.model_extra or {}
        as_it_came = {name: value for name, value in extra.items() if name in fields}
        return {**self.model_dump(mode="json", exclude_unset=True), **as_it_came}


# --- runs -----------------------------------------------------------------------------------------


class EvaluationSummary(Record):
    """The run's current evaluation: the completed one that no later one has superseded."""

    passed: StrictBool | None = None
    status_code: Status | None = None
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
    cost: Credits | None = None
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
    node_runs: Any = None
    logs: Any = None
    model: Any = None
    flow: Any = None
    comfyui_workflow: Any = None

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
    evidence: Texts = []
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
    score was. ``judges``, ``gate_failures`` and ``action`` come only if they were embedded.
    """

    VITAL: ClassVar[frozenset[str]] = frozenset({"id", "status_code", "overall_passed", "weighted_pass_rate"})
    TEXTS: ClassVar[frozenset[str]] = frozenset({"top_issues", "top_strengths"})

    id: str | None = None
    org_id: str | None = None
    status_code: Status | None = None
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
    top_issues: Texts = []
    top_strengths: Texts = []
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
    cost: Credits | None = None
    links: Any = None
    judges: Many[JudgeOpinion] = []
    gate_failures: Many[GateFailure] = []
    action: Action | None = None
    run: Run | None = None
    model: Any = None
    flow: Any = None
    comfyui_workflow: Any = None
    parent_evaluation: Evaluation | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status_code in EVALUATION_TERMINAL


# --- beside the reference pages -------------------------------------------------------------------


class JobClass(Record):
    """A priced class of evaluation. The shape is not in the reference: the price is looked for."""

    code: str | None = None
    name: str | None = None
    price: Credits | None = None
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


# --- reading --------------------------------------------------------------------------------------


def parse_json(data: bytes) -> Any:
    """An answer's JSON. Raises ``ValueError`` for what is none.

    pydantic's parser bounds the depth and refuses NaN and invalid UTF-8. An empty body, as a 204 has it, is null:
    enough if nothing is read from it, and of the wrong shape elsewhere.
    """
    if not data:
        return None
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError:
        if b"\\u" not in data:
            raise
        # A text that was cut inside an emoji has half a character: a question mark takes its place.
        whole = json.dumps(json.loads(data), ensure_ascii=False).encode("utf-8", errors="replace")
        return from_json(whole, allow_inf_nan=False)
