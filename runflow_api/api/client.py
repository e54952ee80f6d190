"""One method per endpoint of the Runflow evaluation API.

Every method blocks, retries by the transport's rules and raises the errors of ``errors.py``. ``deadline``
bounds a call and can end it; without it a call takes at most ``DEFAULT_DEADLINE_S``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pydantic_core import to_json

from ..errors import InvalidInputError
from ..images import EncodedImage
from ..settings.config import Config
from .models import AssetUpload, Evaluation, EvaluationRequest, JobClass, Json, Run
from .transport import Deadline, Outgoing, Transport

DEFAULT_DEADLINE_S = 120.0
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

CREATE, READ, EDIT = "evaluations:create", "evaluations:read", "evaluations:edit"

T = TypeVar("T")


def encode_request(request: EvaluationRequest) -> bytes:
    """The exact bytes that submit the request, now and at every resend."""
    # Straight to bytes: an image in it may have 12 MB, and a dump, a text and its encoding are a copy each.
    return to_json(request, exclude_none=True)


class RunflowClient:
    """The API of one base URL with one key. Safe to use from several threads."""

    def __init__(self, config: Config, transport: Transport | None = None) -> None:
        self.config = config
        self.transport = transport or Transport(config)

    def close(self) -> None:
        self.transport.close()

    def submit(
        self,
        body: bytes,
        *,
        idempotency_key: str,
        deadline: Deadline | None = None,
        may_have_arrived: bool = False,
    ) -> Evaluation:
        """``POST /v1/evaluations`` -> 202: the pending evaluation. ``body`` is from ``encode_request``.

        The same ``idempotency_key`` with the same bytes neither creates nor bills a second evaluation.
        """
        outgoing = Outgoing(
            "POST", "/v1/evaluations", body, idempotency_key=idempotency_key, what="the submission", scope=CREATE
        )
        deadline = deadline or Deadline.after(DEFAULT_DEADLINE_S)
        return self.transport.send(outgoing, _evaluation(None), deadline, may_have_arrived=may_have_arrived)

    def get_evaluation(
        self, evaluation_id: str, *, embed: Iterable[str] = (), deadline: Deadline | None = None
    ) -> Evaluation:
        """``GET /v1/evaluations/{id}``; judges, gate failures and action come only if embedded."""
        path = f"/v1/evaluations/{_checked_id('evaluation_id', evaluation_id)}"
        return self._get(path, _evaluation(evaluation_id), embed, deadline, "the verdict", READ)

    def set_feedback(
        self, evaluation_id: str, is_positive: bool, reason: str | None = None, *, deadline: Deadline | None = None
    ) -> Evaluation:
        """``PATCH /v1/evaluations/{id}/feedback``: a thumb up or down, with a reason if there is one."""
        return self._feedback(evaluation_id, {"is_positive": is_positive, "reason": reason or None}, deadline)

    def clear_feedback(self, evaluation_id: str, *, deadline: Deadline | None = None) -> Evaluation:
        """Take the feedback back: ``is_positive`` null drops the reason too."""
        return self._feedback(evaluation_id, {"is_positive": None, "reason": None}, deadline)

    def get_run(self, run_id: str, *, embed: Iterable[str] = (), deadline: Deadline | None = None) -> Run:
        """``GET /v1/runs/{id}``."""
        path = f"/v1/runs/{_checked_id('run_id', run_id)}"
        return self._get(path, Run.model_validate, embed, deadline, "the run", READ)

    def job_classes(self, *, deadline: Deadline | None = None) -> list[JobClass]:
        """``GET /v1/evaluations/job-classes``: active classes and prices. The shape is read tolerantly."""
        return self._get("/v1/evaluations/job-classes", _job_classes, (), deadline, "the prices", READ)

    def statuses(self, *, deadline: Deadline | None = None) -> list[Json]:
        """``GET /v1/evaluations/statuses``."""
        return self._get("/v1/evaluations/statuses", _objects, (), deadline, "the list of statuses", READ)

    def check_account(self, *, deadline: Deadline | None = None) -> Json:
        """``GET /v1/auth/me``: an answer confirms the key."""
        return self._get("/v1/auth/me", _object, (), deadline, "the account", None)

    def balance(self, *, deadline: Deadline | None = None) -> Json:
        """``GET /v1/billing/balance``."""
        return self._get("/v1/billing/balance", _object, (), deadline, "the balance", None)

    def upload_asset(self, image: EncodedImage, *, deadline: Deadline | None = None) -> str:
        """Upload an image that is too large for a data URI; returns ``runflow://assets/{id}``.

        Three calls: ask for an address, put the bytes there without the key, confirm.
        """
        deadline = deadline or Deadline.after(DEFAULT_DEADLINE_S)
        described = {
            "filename": f"image.{image.extension}",
            "mime_type": image.mime_type,
            "size_bytes": len(image.data),
        }
        asked = Outgoing("POST", "/v1/asset-uploads", json.dumps(described).encode(), what="the image upload")
        upload = self.transport.send(asked, AssetUpload.model_validate, deadline)
        asset_id = _checked_id("asset_id", upload.asset_id)
        self.transport.put_file(upload.upload_url, image.data, image.mime_type, deadline)
        path = f"/v1/asset-uploads/{asset_id}/confirmations"
        self.transport.send(Outgoing("POST", path, b"{}", what="the image upload"), _anything, deadline)
        return f"runflow://assets/{asset_id}"

    def _feedback(self, evaluation_id: str, body: Json, deadline: Deadline | None) -> Evaluation:
        path = f"/v1/evaluations/{_checked_id('evaluation_id', evaluation_id)}/feedback"
        outgoing = Outgoing("PATCH", path, json.dumps(body).encode(), what="the feedback", scope=EDIT)
        deadline = deadline or Deadline.after(DEFAULT_DEADLINE_S)
        return self.transport.send(outgoing, _evaluation(evaluation_id), deadline)

    def _get(
        self,
        path: str,
        parse: Callable[[Any], T],
        embed: Iterable[str],
        deadline: Deadline | None,
        what: str,
        scope: str | None,
    ) -> T:
        query = {"embed": ",".join(names)} if (names := list(embed)) else {}
        deadline = deadline or Deadline.after(DEFAULT_DEADLINE_S)
        return self.transport.send(Outgoing("GET", path, query=query, what=what, scope=scope), parse, deadline)


def _checked_id(field: str, value: str) -> str:
    if not _ID.fullmatch(value):
        raise InvalidInputError(field, "is not an id: an id has letters, digits, - and _, at most 128 of them.")
    return value


def _evaluation(expected_id: str | None) -> Callable[[Any], Evaluation]:
    """Parse an evaluation, and refuse one without an id or with another one's."""

    def parse(payload: Any) -> Evaluation:
        evaluation = Evaluation.model_validate(payload)
        if not evaluation.id or not _ID.fullmatch(evaluation.id):
            raise ValueError("the evaluation has no id")
        if expected_id is not None and evaluation.id.lower() != expected_id.lower():
            raise ValueError("the evaluation is another one")
        return evaluation

    return parse


def _anything(payload: Any) -> Any:
    return payload


def _object(payload: Any) -> Json:
    if not isinstance(payload, dict):
        raise ValueError("not an object")
    return payload


def _objects(payload: Any) -> list[Json]:
    """A list of objects, bare or wrapped (``{"data": […]}``, ``{"items": […]}``)."""
    if isinstance(payload, dict):
        lists = [value for value in payload.values() if isinstance(value, list)]
        payload = lists[0] if len(lists) == 1 else payload
    if not isinstance(payload, list):
        raise ValueError("not a list")
    return [item if isinstance(item, dict) else {"code": item} for item in payload]


def _job_classes(payload: Any) -> list[JobClass]:
    return [_job_class(item) for item in _objects(payload)]


def _job_class(item: Json) -> JobClass:
    """The code and price of a class under the names that APIs use for them."""
    price = _first(item, _PRICE_NAMES)
    if isinstance(price, dict):
        price = _first(price, _PRICE_NAMES)
    return JobClass.model_validate({**item, "code": _first(item, _CODE_NAMES), "price": price})


_CODE_NAMES = ("code", "job_class_code", "job_class", "name", "id")
_PRICE_NAMES = ("price", "price_credits", "cost", "credits", "unit_price", "amount", "value")


def _first(item: Json, names: Iterable[str]) -> Any:
    return next((item[name] for name in names if item.get(name) is not None), None)
