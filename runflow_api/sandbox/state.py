"""What the sandbox keeps of an evaluation, of the credits and of uploads, and how an evaluation is answered."""

from __future__ import annotations

import secrets
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from ..api.models import EVALUATION_EMBEDS, RUN_EMBEDS, Evaluation, EvaluationStatus, Json, Run
from . import validation as rules
from .faults import BILLED_FAILURES, ScriptedVerdict

JudgeFunction = Callable[..., Evaluation]
NOT_FETCHED = "not fetched in the sandbox: only data URIs and uploaded assets are judged"


@dataclass(frozen=True)
class Outcome:
    """How an evaluation ended: the fields that this sets, embeds included."""

    fields: Json
    billed: bool


@dataclass
class StoredEvaluation:
    """An evaluation and its images; its state follows from the clock and, once due, from its outcome."""

    id: str
    org_id: str
    body: rules.SubmissionBody
    image: bytes | None
    references: list[bytes]
    price: Decimal
    submitted_s: float
    submitted_at: datetime
    latency: float
    script: ScriptedVerdict | None
    fixed: Json
    feedback: Json = field(default_factory=dict)
    outcome: Outcome | None = None
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def due(self) -> float:
        return self.submitted_s + self.latency

    def pixels(self) -> rules.Pixels | None:
        """The submitted image as (H, W, C) uint8; ``None`` where it was not given to the sandbox."""
        return None if self.image is None else rules.decode_pixels(self.image)


@dataclass
class Replay:
    """What an idempotency key stands for: the body it came with, and the answer once there is one."""

    digest: str
    answer: rules.Response | None = None

    def answer_for(self, digest: str) -> rules.Response:
        """Guides, "Idempotency": the same request gives the same evaluation; another one is a conflict."""
        if digest != self.digest:
            raise rules.HttpError(409, "The Idempotency-Key was used with another body.")
        if self.answer is None:
            raise rules.HttpError(409, "A request with this Idempotency-Key is still being handled.")
        return self.answer


@dataclass
class Asset:
    """An upload: announced with its type and size, with its bytes once they have arrived."""

    id: str
    token: str
    mime_type: str
    size: int
    data: bytes | None = None
    confirmed: bool = False


@dataclass
class StoredRun:
    """A run and the moment, by the sandbox's clock, from which it is as its fields say."""

    available: float
    fields: Json


class Runs:
    """The runs that a test or a script has added."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._runs: dict[str, StoredRun] = {}

    def add(self, org_id: str, status_code: str, latency: float, fields: Json) -> str:
        """Add a run and return its id. Raises ``TypeError`` for a field that runs do not have."""
        unknown = set(fields) - set(Run.model_fields)
        if unknown:
            raise TypeError(f"a run has no {', '.join(sorted(unknown))}")
        run_id = str(fields.get("id") or uuid.uuid4()).lower()
        fixed = {"org_id": org_id, "status_code": status_code, "created_at": iso(now())}
        whole = {**empty_fields(Run, RUN_EMBEDS), **fixed, **fields, "id": run_id}
        self._runs[run_id] = StoredRun(self._clock() + latency, whole)
        return run_id

    def find(self, run_id: str) -> StoredRun:
        """Raises ``HttpError`` 404 for an unknown id."""
        found = self._runs.get(run_id.lower())
        if found is None:
            raise rules.HttpError(404, "There is no such run.", code="RUN_NOT_FOUND")
        return found

    def view(self, run_id: str, embeds: frozenset[str]) -> Json:
        """The answer about a run as it is now, without the embeds that were not asked for."""
        stored = self.find(run_id)
        answer = {name: value for name, value in stored.fields.items() if name not in RUN_EMBEDS - embeds}
        if self._clock() < stored.available:
            unknown_yet = ("output", "cost", "completed_at", "duration_ms", "failure_code", "failure_message")
            answer.update(dict.fromkeys(unknown_yet), status_code="running", current_evaluation_summary=None)
        return answer


class Assets:
    """Uploads: announced, then put to an address that nobody can guess, then confirmed."""

    def __init__(self) -> None:
        self._assets: dict[str, Asset] = {}

    def announce(self, body: rules.UploadBody) -> Asset:
        """A new upload of the announced type and size."""
        asset = Asset(str(uuid.uuid4()), secrets.token_urlsafe(32), body.mime_type, body.size_bytes)
        self._assets[asset.id] = asset
        return asset

    def put(self, token: str, headers: Mapping[str, str], data: bytes) -> None:
        """Take the bytes as a signed storage URL does: no Authorization, and only what was announced."""
        asset = next((each for each in list(self._assets.values()) if each.token == token), None)
        if asset is None or asset.confirmed:
            raise rules.HttpError(403, "The upload URL is not valid or was used.")
        if "authorization" in headers:
            raise rules.HttpError(400, "An upload URL carries its own signature: send no Authorization header.")
        if headers.get("content-type") != asset.mime_type:
            raise rules.HttpError(403, f"The Content-Type must be {asset.mime_type}, as announced.")
        if len(data) != asset.size:
            raise rules.HttpError(400, f"{len(data)} bytes arrived, {asset.size} were announced.")
        asset.data = data

    def confirm(self, asset_id: str) -> Asset:
        """Raises ``HttpError`` 404 for an unknown upload and 409 for one without bytes."""
        asset = self._assets.get(asset_id.lower())
        if asset is None:
            raise rules.HttpError(404, "There is no such upload.", code="ASSET_NOT_FOUND")
        if asset.data is None:
            raise rules.HttpError(409, "Nothing was uploaded yet.")
        asset.confirmed = True
        return asset

    def image(self, name: str, url: str) -> bytes | None:
        """The bytes behind the URL in field ``name``: of a data URI and of a confirmed asset; ``None`` for https."""
        if rules.is_data_uri(url):
            return rules.data_uri_bytes(url)
        wanted = rules.asset_id(url)
        if wanted is None:
            return None
        asset = self._assets.get(wanted)
        if asset is None or not asset.confirmed:
            raise rules.invalid(name, "there is no confirmed asset with this id")
        return asset.data


class Ledger:
    """Credits: reserved when an evaluation is submitted, charged or released when it ends."""

    def __init__(self, balance: Decimal) -> None:
        self._lock = threading.Lock()
        self.balance = balance
        self._reserved: dict[str, Decimal] = {}
        self._bills: list[tuple[str, Decimal]] = []

    def reserve(self, evaluation_id: str, price: Decimal) -> bool:
        """Set ``price`` aside; false where what is not yet set aside does not cover it."""
        with self._lock:
            if self.balance - sum(self._reserved.values()) < price:
                return False
            self._reserved[evaluation_id] = price
            return True

    def settle(self, evaluation_id: str, charge: bool) -> None:
        with self._lock:
            price = self._reserved.pop(evaluation_id)
            if charge:
                self.balance -= price
                self._bills.append((evaluation_id, price))

    def bills(self) -> list[tuple[str, Decimal]]:
        with self._lock:
            return list(self._bills)

    def summary(self) -> Json:
        with self._lock:
            reserved = sum(self._reserved.values(), Decimal(0))
            return {"balance": str(self.balance), "reserved": str(reserved), "unit_code": "credits"}


# --- the fields of an answer ----------------------------------------------------------------------

_VERDICT_FIELDS = (
    "overall_passed",
    "weighted_pass_rate",
    "override_reason",
    "top_issues",
    "top_strengths",
    "check_summary",
    "analysis_modules_executed",
    "primary_action_code",
    "judges",
    "gate_failures",
    "action",
)


def empty_fields(kind: type[Evaluation] | type[Run], embeds: frozenset[str]) -> Json:
    """Every field of the reference: lists of embeds empty, all else null."""
    lists = {"top_issues", "top_strengths", "judges", "gate_failures", "node_runs", "logs"}
    return {name: [] if name in lists else None for name in {**kind.model_fields, **dict.fromkeys(embeds)}}


def references_of(body: rules.SubmissionBody) -> list[rules.ReferenceBody]:
    return body.reference_images or []


def _hosted(url: str) -> str:
    """A data URI is "materialized into a hosted asset"; so is an upload. An https URL stays."""
    is_hosted = not rules.is_data_uri(url) and rules.asset_id(url) is None
    return url if is_hosted else f"https://sandbox.invalid/assets/{uuid.uuid4()}"


def submitted_fields(evaluation_id: str, org_id: str, body: rules.SubmissionBody) -> Json:
    """What a submission fixes for good."""
    echoed = body.model_dump(exclude={"generated_image_url", "reference_images", "job_class"})
    return {
        **empty_fields(Evaluation, EVALUATION_EMBEDS),
        **echoed,
        "id": evaluation_id,
        "org_id": org_id,
        "source_code": "api",
        "sandbox": True,
        "job_class_code": body.job_class or "standard",
        "generated_image_url": _hosted(body.generated_image_url),
        "reference_images": [{**r.model_dump(), "url": _hosted(r.url)} for r in references_of(body)],
        "attempt_number": 1,
        "links": {"self": f"/v1/evaluations/{evaluation_id}"},
    }


def evaluation_json(evaluation: StoredEvaluation, state: Json, embeds: frozenset[str]) -> Json:
    """The answer about an evaluation in ``state``: without the embeds that were not asked for."""
    submitted_at = iso(evaluation.submitted_at)
    moments = dict.fromkeys(("submitted_at", "created_at", "updated_at"), submitted_at)
    everything = {**evaluation.fixed, **moments, **state, **evaluation.feedback}
    hidden = EVALUATION_EMBEDS - embeds
    return {name: value for name, value in everything.items() if name not in hidden}


def _ended_at(evaluation: StoredEvaluation) -> str:
    return iso(evaluation.submitted_at + timedelta(seconds=evaluation.latency))


def outcome_of(evaluation: StoredEvaluation, judge: JudgeFunction | None) -> Outcome:
    """The scripted verdict, else what the judge says of the pixels."""
    script = evaluation.script
    if script is not None and script.failure_code is not None:
        return _failed(evaluation, script.failure_code, script.extra)
    if script is not None:
        return _completed(evaluation, script.answer())
    if evaluation.image is None:
        return _completed(evaluation, {"override_reason": NOT_FETCHED, "top_issues": [NOT_FETCHED]})
    try:
        return _completed(evaluation, _judged(evaluation, evaluation.image, judge or _local_judge()))
    except rules.UndecodableImage:
        return _failed(evaluation, "invalid_media")


def _local_judge() -> JudgeFunction:
    from ..local_judge.judge import judge  # only a sandbox that judges needs it

    return judge


def _judged(evaluation: StoredEvaluation, image: bytes, judge: JudgeFunction) -> Json:
    references = [rules.decode_pixels(data) for data in evaluation.references]
    prompt = evaluation.body.generation_prompt or ""
    answer = judge(rules.decode_pixels(image), references=references, prompt=prompt).model_dump(mode="json")
    return {name: answer[name] for name in _VERDICT_FIELDS if name in answer}


def _completed(evaluation: StoredEvaluation, fields: Json) -> Outcome:
    """A verdict, or none: charged. Judges, their issues, gate failures and the action get their ids."""
    ids = {"evaluation_id": evaluation.id, "created_at": _ended_at(evaluation)}
    judges = [_with_ids(judge, ids) for judge in fields.get("judges") or ()]
    for judge in judges:
        issues = judge.get("issues") or ()
        judge["issues"] = [_with_ids(issue, {**ids, "evaluation_judge_id": judge["id"]}) for issue in issues]
    embedded = {
        "judges": judges,
        "gate_failures": [_with_ids(failure, ids) for failure in fields.get("gate_failures") or ()],
        "action": _with_ids(fields["action"], ids) if fields.get("action") else None,
    }
    ending = {**_ending(evaluation, billed=True), "status_code": EvaluationStatus.COMPLETED.value}
    return Outcome({**ending, **fields, **embedded}, billed=True)


def _failed(evaluation: StoredEvaluation, code: str, extra: Mapping[str, Any] | None = None) -> Outcome:
    """Submit page: charged "when the evaluation … fails after processing started"."""
    billed = code in BILLED_FAILURES
    fields = {**_ending(evaluation, billed), "status_code": EvaluationStatus.FAILED.value, "failure_code": code}
    return Outcome({**fields, **(extra or {})}, billed)


def _ending(evaluation: StoredEvaluation, billed: bool) -> Json:
    ended = _ended_at(evaluation)
    return {
        "updated_at": ended,
        "completed_at": ended,
        "eval_duration_ms": round(evaluation.latency * 1000),
        "cost": str(evaluation.price) if billed else None,
    }


def _with_ids(item: Mapping[str, Any], ids: Mapping[str, str]) -> Json:
    return {**item, "id": str(uuid.uuid4()), **ids}


def now() -> datetime:
    return datetime.now(timezone.utc)


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
