"""What the sandbox accepts, and what it may be told to do: rules without a server.

The limits are those of the API's reference pages "Submit an image for quality evaluation", "Get evaluation"
and "Set feedback", and for uploads of the guides. If neither says what a breach is answered with, the
docstring says what the sandbox chose.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pydantic
from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Pixels = npt.NDArray[Any]
B = TypeVar("B", bound=BaseModel)
T = TypeVar("T")

LONGEST_IMAGE_URL = 12_000_000
LARGEST_ASSET = 52_428_800
LARGEST_BODY = 80_000_000
"""Five images of the longest form, and room for every text. The sandbox's own limit: a 413."""
JOB_CLASSES = {"standard": True, "quick": False}
"""Class to "is active": ``quick`` is listed by the API and not open yet."""
CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    402: "INSUFFICIENT_CREDIT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    411: "LENGTH_REQUIRED",
    413: "PAYLOAD_TOO_LARGE",
    422: "VALIDATION_ERROR",
    429: "RATE_LIMITED",
    500: "INTERNAL_SERVER_ERROR",
    502: "BAD_GATEWAY",
    503: "SERVICE_UNAVAILABLE",
    504: "GATEWAY_TIMEOUT",
}

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_ASSET = re.compile(rf"runflow://assets/({_UUID})")
_HTTPS = re.compile(r"https://[^\s/?#@]+(?:[/?#]\S*)?")
_DATA = re.compile(r"data:image/[a-zA-Z0-9.+-]+(?:;[a-zA-Z0-9-]+=[^;,\s]*)*;base64,")


# --- answers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Response:
    """One HTTP answer, complete."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpError(Exception):
    """The sandbox says no; ``details`` maps a field to what is wrong with it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        details: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or error_code(status)
        self.details = details
        self.headers = headers or {}

    def answer(self) -> Response:
        """The API's error shape, ``{code, message, errors[]}``."""
        errors = [{"field": name, "message": text} for name, text in self.details]
        return json_answer(self.status, {"code": self.code, "message": str(self), "errors": errors}, self.headers)


def error_code(status: int) -> str:
    return CODES.get(status, "ERROR" if status < 500 else "SERVER_ERROR")


def json_answer(status: int, payload: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, json.dumps(payload).encode(), headers=headers or {})


def invalid(name: str, message: str) -> HttpError:
    """A 422 about one field."""
    return HttpError(422, f"The request is invalid: {name}.", details=[(name, message)])


# --- bodies ---------------------------------------------------------------------------------------


def _image_url(value: str) -> str:
    """One of the three forms that the API takes. A data URI must be whole base64, decodable or not."""
    if _HTTPS.fullmatch(value) or _ASSET.fullmatch(value):
        return value
    if not _DATA.match(value):
        raise ValueError("must be a public https:// URL, runflow://assets/{uuid} or a data:image/...;base64, URI")
    data_uri_bytes(value)
    return value


def data_uri_bytes(value: str) -> bytes:
    """The bytes in a base64 data URI. Raises ``ValueError`` if the base64 is broken or empty."""
    try:
        data = base64.b64decode(value[value.index(",") + 1 :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("the data URI is not valid base64") from error
    if not data:
        raise ValueError("the data URI is empty")
    return data


def asset_id(url: str) -> str | None:
    """The id in ``runflow://assets/{uuid}``, otherwise ``None``."""
    found = _ASSET.fullmatch(url)
    return found.group(1).lower() if found else None


def is_data_uri(url: str) -> bool:
    return url.startswith("data:")


def _active_job_class(value: str) -> str:
    if not JOB_CLASSES.get(value, False):
        raise ValueError(f"the job class {value!r} is not active; see GET /v1/evaluations/job-classes")
    return value


def _callback_url(value: str) -> str:
    if not _HTTPS.fullmatch(value):
        raise ValueError("must be an https:// URL")
    return value


ImageUrl = Annotated[str, Field(min_length=1, max_length=LONGEST_IMAGE_URL), AfterValidator(_image_url)]


class Body(BaseModel):
    """Base of every body: no field beyond those of the reference, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class ReferenceBody(Body):
    url: ImageUrl
    kind: str | None = None
    description: str | None = None


class SubmissionBody(Body):
    """``POST /v1/evaluations``."""

    generated_image_url: ImageUrl
    task_type: Annotated[str, Field(min_length=1, max_length=100)]
    task_description: Annotated[str, Field(max_length=4_000)] | None = None
    generation_prompt: Annotated[str, Field(max_length=10_000)] | None = None
    evaluation_instructions: Annotated[str, Field(max_length=4_000)] | None = None
    input_attributes: dict[str, Any] | None = None
    reference_images: Annotated[list[ReferenceBody], Field(max_length=4)] | None = None
    run_id: Annotated[str, Field(pattern=rf"^{_UUID}$")] | None = None
    client_ref: Annotated[str, Field(max_length=255)] | None = None
    job_class: Annotated[str, Field(max_length=50), AfterValidator(_active_job_class)] | None = None
    callback_url: Annotated[str, Field(max_length=2_048), AfterValidator(_callback_url)] | None = None


class FeedbackBody(Body):
    """``PATCH /v1/evaluations/{id}/feedback``: ``is_positive`` must be there, and null clears."""

    is_positive: bool | None
    reason: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None


class UploadBody(Body):
    """``POST /v1/asset-uploads``."""

    filename: Annotated[str, Field(min_length=1, max_length=500)]
    mime_type: Annotated[str, Field(pattern=r"^[a-zA-Z0-9.+-]+/[a-zA-Z0-9.+-]+$")]
    size_bytes: Annotated[int, Field(ge=1, le=LARGEST_ASSET)]


class EmptyBody(Body):
    """``POST /v1/asset-uploads/{id}/confirmations``."""


def parse_json(raw: bytes) -> Any:
    """The body as JSON, as RFC 8259 has it: NaN and infinity are not allowed. Otherwise a 400."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(raw.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise HttpError(400, "The body is not JSON.") from error


def checked(kind: type[B], payload: Any) -> B:
    """``payload`` as ``kind``; otherwise a 422 that names every field at fault, without quoting its value."""
    try:
        return kind.model_validate(payload)
    except pydantic.ValidationError as error:
        details = field_errors(error)
        named = ", ".join(name for name, _ in details)
        raise HttpError(422, f"The request is invalid: {named}.", details=details) from None


def field_errors(error: pydantic.ValidationError) -> list[tuple[str, str]]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [(_location(item["loc"]) or "body", item["msg"].removeprefix("Value error, ")) for item in found]


def _location(path: Sequence[str | int]) -> str:
    """``("reference_images", 0, "url")`` as ``reference_images[0].url``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).lstrip(".")


def embeds(query: Mapping[str, Sequence[str]], allowed: Collection[str]) -> frozenset[str]:
    """``?embed=a,b`` as a set. The reference lists the values; another one is a 422."""
    names = {name.strip() for value in query.get("embed", ()) for name in value.split(",") if name.strip()}
    unknown = sorted(names - set(allowed))
    if unknown:
        raise invalid("embed", f"unknown: {', '.join(unknown)}. Available: {', '.join(sorted(allowed))}")
    return frozenset(names)


# --- images ---------------------------------------------------------------------------------------


class UndecodableImage(Exception):
    """The bytes are no image that Pillow decodes: the evaluation fails with ``invalid_media``."""


def decode_pixels(data: bytes) -> Pixels:
    """Encoded bytes as (H, W, C) uint8, C in 1, 3, 4; of an animation the first frame."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _channels(image)
    except Exception as error:  # Pillow's decoders raise many types, and each means: not an image
        raise UndecodableImage(str(error)) from error


def _channels(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):  # 16 bits of grey
        return np.clip(np.asarray(image, dtype=np.int64) // 257, 0, 255).astype(np.uint8)[:, :, None]
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
