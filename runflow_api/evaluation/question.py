"""What is asked about an image: its parts, their limits, the body that is sent and the hash that names it.

Limits: reference page "Submit an image for quality evaluation". Everything is checked before anything is
sent, and an error names the input and the limit.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from .. import images
from ..api.models import EvaluationRequest, Json, ReferenceImage
from ..errors import InvalidInputError
from ..images import Picture
from ..settings.config import Config

if TYPE_CHECKING:
    from .job import Job

JudgeChoice = Literal["auto", "runflow", "local", "off", "model", "person"]
Upload = Literal["auto", "data_uri", "asset"]
Preflight = Literal["off", "broken", "full"]
Rating = Literal["none", "good", "bad", "clear"]
JUDGES: tuple[JudgeChoice, ...] = get_args(JudgeChoice)
UPLOADS: tuple[Upload, ...] = get_args(Upload)
PREFLIGHTS: tuple[Preflight, ...] = get_args(Preflight)
RATINGS: tuple[Rating, ...] = get_args(Rating)

MAX_REFERENCES = 4
MAX_ATTRIBUTES_CHARACTERS = 64_000
MAX_ATTRIBUTES_DEPTH = 8
MAX_TIMEOUT_S = 86_400
LONGEST = {
    "task_type": 100,
    "task_description": 4_000,
    "generation_prompt": 10_000,
    "evaluation_instructions": 4_000,
    "client_ref": 255,
    "job_class": 50,
    "callback_url": 2_048,
}
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ASSET = re.compile(rf"runflow://assets/{_UUID.pattern}")
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+;base64,[A-Za-z0-9+/=]+")


@dataclass(frozen=True, eq=False)
class Reference:
    """A picture to compare with: ``pixels``, a float or uint8 (H, W, C) array, or ``url``, passed on as it is."""

    pixels: npt.NDArray[Any] | None = None
    url: str = ""
    kind: str = "identity"
    description: str = ""

    @functools.cached_property
    def picture(self) -> Picture | None:
        return None if self.pixels is None else Picture(self.pixels)

    def hash_fields(self) -> Json:
        """What identifies it in a request hash: its pixels or address, never an encoding."""
        what = self.url if self.picture is None else self.picture.hash
        return {"what": what, "kind": self.kind, "description": self.description}


@dataclass(frozen=True)
class ImageUrl:
    """An image by its address, which is passed on and never fetched: https or a Runflow asset.

    ``identity`` names the image where its address changes at every look, as presigned ones do.
    """

    url: str
    identity: str = ""

    @property
    def hash(self) -> str:
        """What stands for the pixels, which nobody here has seen."""
        return hashlib.sha256(f"address {self.identity or self.url}".encode()).hexdigest()


@dataclass(frozen=True)
class Question:
    """What is asked about every image of a batch."""

    generation_prompt: str = ""
    evaluation_instructions: str = ""
    task_type: str = "image_generation"
    task_description: str = ""
    references: tuple[Reference, ...] = ()

    @property
    def asks_about_content(self) -> bool:
        """Whether only a judge that understands pictures could answer."""
        return bool(self.evaluation_instructions.strip() or self.references)

    def check(self) -> None:
        """Raise ``InvalidInputError`` for the first that breaks a limit."""
        for name in ("task_type", "task_description", "generation_prompt", "evaluation_instructions"):
            _check_text(name, getattr(self, name))
        _require_text("task_type", self.task_type)
        given = len(self.references)
        if given > MAX_REFERENCES:
            raise InvalidInputError("references", f"{given} given, at most {MAX_REFERENCES} allowed.")
        for number, reference in enumerate(self.references, 1):
            _check_reference(f"references[{number}]", reference)

    def has_same_references(self, other: Question) -> bool:
        """Whether the references of both are the same, whatever else is asked."""
        return [each.hash_fields() for each in self.references] == [each.hash_fields() for each in other.references]

    def prepared(self) -> Question:
        """The same with references whose pixels are hashed, for one job: whoever gave them may change them later.

        Raises ``InvalidInputError`` for values that are not numbers.
        """
        references = tuple(replace(reference) for reference in self.references)
        for number, reference in enumerate(references, 1):
            if reference.picture is not None:
                require_finite(reference.picture, f"references[{number}]")
            reference.hash_fields()
        return replace(self, references=references)


@dataclass(frozen=True)
class Options:
    """What is sent beside the question, and how. ``timeout_s`` in seconds.

    Without ``wait`` it is submitted, and what has not ended by then is *unknown*: whoever asks again reads it.
    """

    input_attributes: str = ""
    run_id: str = ""
    client_ref: str = ""
    job_class: str = "standard"
    callback_url: str = ""
    timeout_s: int = 600
    reuse: bool = True
    upload: Upload = "auto"
    preflight: Preflight = "broken"
    wait: bool = True

    def check(self, config: Config) -> None:
        """Raise ``InvalidInputError`` for the first that breaks a limit."""
        for name in ("client_ref", "job_class", "callback_url"):
            _check_text(name, getattr(self, name))
        _require_text("job_class", self.job_class)
        parse_attributes(self.input_attributes)
        _check_run_id(self.run_id)
        _check_callback(self.callback_url, config)
        check_timeout(self.timeout_s)
        require_choice("upload", self.upload, UPLOADS)
        require_choice("preflight", self.preflight, PREFLIGHTS)


def require_choice(field: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a choice that is none: ComfyUI 0.3.75 does not check what a prompt puts into a combo."""
    if value not in choices:
        raise InvalidInputError(field, f"{_quoted(str(value))} is not one of {', '.join(choices)}.")


def require_choices(field: str, values: Iterable[str], choices: Iterable[str]) -> None:
    """``require_choice`` for each of several."""
    for value in values:
        require_choice(field, value, sorted(choices))


def validate(job: Job, config: Config) -> None:
    """The one check of what is asked: raises ``InvalidInputError`` for the first input that breaks a limit.

    ``ConfigurationError`` if Runflow is to judge and there is no key. Nothing is sent before.
    """
    require_choice("judge", job.judge, JUDGES)
    job.policy.check()
    job.options.check(config)
    job.question.check()
    if not job.images:
        raise InvalidInputError("image", "the batch is empty.")
    judged_by_runflow = resolve(job.judge, config, has_model=job.model is not None) == "runflow"
    for index, image in enumerate(job.images):
        name = job.name_of(index)
        if not isinstance(image, ImageUrl):
            images.check_image(image.array if isinstance(image, Picture) else image, name)
            continue
        check_image_url(name, image.url)
        if not judged_by_runflow and job.judge != "off":
            raise InvalidInputError(
                name, "is an address: only Runflow can judge it, because this machine does not fetch it."
            )
    if judged_by_runflow:
        config.require_key()


def resolve(judge: JudgeChoice, config: Config, *, has_model: bool = False) -> JudgeChoice:
    """Who answers: auto is runflow with a key, otherwise a model that is connected or configured, otherwise local."""
    if judge != "auto":
        return judge
    if config.api_key or config.trouble:  # if that cannot be known, it is said
        return "runflow"
    return "model" if has_model or config.model_url else "local"


def check_timeout(timeout_s: int) -> None:
    if not 1 <= timeout_s <= MAX_TIMEOUT_S:
        raise InvalidInputError("timeout_s", f"{timeout_s} is not between 1 and {MAX_TIMEOUT_S} seconds.")


def parse_attributes(text: str) -> Json | None:
    """``input_attributes`` as a JSON object of bounded size and depth; ``None`` if empty."""
    name = "input_attributes"
    if not text.strip():
        return None
    if len(text) > MAX_ATTRIBUTES_CHARACTERS:
        raise InvalidInputError(name, f"has {len(text)} characters, at most {MAX_ATTRIBUTES_CHARACTERS} allowed.")
    try:
        parsed = json.loads(text, parse_constant=_no_constant)
        # Infinity by way of 1e999, and half characters by way of \\ud800, are found on the way back only.
        json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(name, f"is not JSON: {_quoted(str(error), 120)}.") from error
    if not isinstance(parsed, dict):
        raise InvalidInputError(name, 'must be one JSON object, such as {"style": "corporate"}.')
    if _is_deeper(parsed, MAX_ATTRIBUTES_DEPTH):
        raise InvalidInputError(name, f"is nested deeper than {MAX_ATTRIBUTES_DEPTH} levels.")
    return parsed


def request_hash(pixel_hash: str, question: Question, options: Options, base_url: str) -> str:
    """SHA-256 of everything that decides what the API is asked, and of nothing that only this pack reads."""
    hash_fields = {
        "image": pixel_hash,
        "references": [reference.hash_fields() for reference in question.references],
        "base_url": base_url,
        **_fields(question, options),
    }
    return hashlib.sha256(json.dumps(hash_fields, sort_keys=True).encode()).hexdigest()


def build_request(
    image_url: str, reference_urls: Sequence[str], question: Question, options: Options
) -> EvaluationRequest:
    """The body that is submitted. ``reference_urls``: one for each reference of the question, in order."""
    references = [
        ReferenceImage(url=url, kind=reference.kind or None, description=reference.description or None)
        for url, reference in zip(reference_urls, question.references, strict=True)
    ]
    return EvaluationRequest(
        generated_image_url=image_url, reference_images=references or None, **_fields(question, options)
    )


def _fields(question: Question, options: Options) -> Json:
    """The fields of the body that are neither the image nor the references; empty ones are left out."""
    fields = {
        "task_type": question.task_type,
        "task_description": question.task_description,
        # Blanks at its end say nothing: a file's saved prompt and the graph's are one question.
        "generation_prompt": question.generation_prompt,
        "evaluation_instructions": question.evaluation_instructions,
        "input_attributes": parse_attributes(options.input_attributes),
        "run_id": options.run_id.strip().lower(),
        "client_ref": options.client_ref,
        "job_class": options.job_class,
        "callback_url": options.callback_url.strip(),
    }
    return {name: value for name, value in fields.items() if value not in ("", None)}


def _require_text(name: str, text: str) -> None:
    if not text.strip():
        raise InvalidInputError(name, f"is empty; it needs 1 to {LONGEST[name]} characters.")


def _check_text(name: str, text: str, longest: int | None = None) -> None:
    longest = LONGEST[name] if longest is None else longest
    if len(text) > longest:
        raise InvalidInputError(name, f"has {len(text)} characters, at most {longest} allowed.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(name, f"contains half a character at position {error.start}.") from error


def _check_run_id(run_id: str) -> None:
    if run_id.strip() and not _UUID.fullmatch(run_id.strip()):
        raise InvalidInputError("run_id", f"{_quoted(run_id)} is not a UUID.")


def _check_callback(url: str, config: Config) -> None:
    """A workflow is untrusted: it may send callbacks only to hosts that the person allowed."""
    if not url.strip():
        return
    parts = _split("callback_url", url.strip())
    if parts[0] != "https":
        raise InvalidInputError("callback_url", "must be an https:// address.")
    if parts[1] not in config.callback_hosts:
        raise InvalidInputError(
            "callback_url",
            f"the host {_quoted(parts[1])} is not allowed. Add it to callback_hosts in the pack's config.json.",
        )


def _check_reference(name: str, reference: Reference) -> None:
    _check_text(f"{name}.kind", reference.kind, 100)
    _check_text(f"{name}.description", reference.description, 4_000)
    if (reference.pixels is None) == (not reference.url):
        raise InvalidInputError(name, "needs either an image or a URL.")
    if reference.pixels is not None:
        images.check_image(reference.pixels, name)
    else:
        check_image_url(f"{name}.url", reference.url)


def check_image_url(name: str, url: str) -> None:
    """One of the API's three forms: https, a Runflow asset, or a data URI of an image."""
    if len(url) > images.MAX_URL_CHARACTERS:
        raise InvalidInputError(name, f"has {len(url)} characters, at most {images.MAX_URL_CHARACTERS} allowed.")
    if _ASSET.fullmatch(url) or _DATA_URI.fullmatch(url) or _split(name, url[:4_096])[0] == "https":
        return
    raise InvalidInputError(
        name, f"{_quoted(url)} must be https://…, runflow://assets/{{uuid}} or data:image/…;base64,…"
    )


def _split(name: str, url: str) -> tuple[str, str]:
    """(scheme, host) of an address without user name, password or unprintable characters."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise InvalidInputError(name, f"{_quoted(url)} is not an address.") from error
    unusable = not url.isprintable() or " " in url or parts.username or parts.password
    if unusable or (parts.scheme == "https" and not host):
        raise InvalidInputError(name, f"{_quoted(url)} is not an address that can be used.")
    return parts.scheme, host


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested deeper than ``levels``; looks no further than that."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if children is None:
        return False
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in children)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _quoted(text: str, longest: int = 60) -> str:
    return f"“{text[:longest]}…”" if len(text) > longest else f"“{text}”"


def require_finite(picture: Picture, field: str) -> None:
    """Refuse an image with values that are not numbers: there is no telling what would be judged."""
    if not picture.is_finite:
        image = picture.array
        bad = int(image.size - np.isfinite(image).sum())
        raise InvalidInputError(field, f"{bad} of {image.size} values are not numbers (NaN or infinity).")
