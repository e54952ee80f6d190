"""What is asked about one row of a manifest: its image, its question, and how it is sent."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import image_files
from ..errors import InvalidInputError
from ..evaluation.question import ImageUrl, Options, Question, Reference, check_image_url
from ..images import Picture
from ..journal.image_settings import UNKNOWN_SETTINGS, ImageSettings
from ..settings.load_image import Decoder
from .manifest import BROKEN, Manifest, ManifestRow

PASSED_ON = ("https://", "runflow://", "data:")
"""Addresses that Runflow reads by itself: nothing of them is fetched here."""
REFERENCES_KEPT = 16
OF_THE_QUESTION = ("generation_prompt", "evaluation_instructions", "task_type", "task_description")
OF_THE_OPTIONS = ("run_id", "client_ref", "job_class", "callback_url")


class UnusableRowError(InvalidInputError):
    """A row that cannot be asked about; others can."""


@dataclass(frozen=True, eq=False)
class RowJob:
    """One row as it is judged; ``pixels`` is how many its image has, 0 for an address.

    ``image_settings`` made the image, as far as its file tells. ``depends_on_decoder``: Pillow and PyAV make other
    pixels of its file or of a reference.
    """

    image: Picture | ImageUrl
    question: Question
    options: Options
    pixels: int = 0
    image_settings: ImageSettings = UNKNOWN_SETTINGS
    depends_on_decoder: bool = False


@dataclass(eq=False)
class RowReader:
    """Makes of rows what is to be judged. ``question`` and ``options`` hold for rows that do not say otherwise.

    ``decoder`` reads the files. ``otherwise`` reads them with another one, for what an earlier version of pack or
    ComfyUI may have paid for. Blocks, and may be used by several threads.
    """

    manifest: Manifest
    question: Question = field(default_factory=Question)
    options: Options = field(default_factory=Options)
    decoder: Decoder = Decoder.PILLOW
    otherwise: RowReader | None = None
    _references: OrderedDict[str, tuple[Reference, bool]] = field(default_factory=OrderedDict)

    def read(self, row: ManifestRow) -> RowJob:
        """Read the image of ``row`` and what is asked about it. Raises ``UnusableRowError``."""
        try:
            return self._job_of(row.values)
        except InvalidInputError as error:
            raise UnusableRowError(error.field, error.message.removeprefix(f"{error.field}: ")) from error

    def _job_of(self, values: Mapping[str, Any]) -> RowJob:
        if BROKEN in values:
            raise InvalidInputError("manifest", f"{values[BROKEN]}.")
        given: dict[str, Any] = _texts(values, OF_THE_QUESTION)
        question = replace(self.question, **given)
        depends = self.otherwise is not None and not self.question.has_same_references(self.otherwise.question)
        if _is_given(values.get("references")):
            references, depends = self._references_of(values["references"])
            question = replace(question, references=references)
        given = _texts(values, OF_THE_OPTIONS)
        options = replace(self.options, **given)
        if _is_given(values.get("input_attributes")):
            options = replace(options, input_attributes=_as_json(values["input_attributes"]))
        question.check()
        return self._with_image(_text("image", values.get("image")), question, options, depends)

    def _with_image(self, image: str, question: Question, options: Options, depends: bool) -> RowJob:
        if not image.strip():
            raise InvalidInputError("image", "is empty: a row names an image.")
        if image.startswith(PASSED_ON):
            check_image_url("image", image)
            return RowJob(ImageUrl(image), question, options, depends_on_decoder=depends)
        found = self._read_image(image)
        if found.prompt and not question.generation_prompt:
            question = replace(question, generation_prompt=found.prompt)
        height, width = found.pixels.shape[:2]
        depends |= found.depends_on_decoder
        return RowJob(Picture(found.pixels), question, options, height * width, found.image_settings, depends)

    def _read_image(self, image: str) -> image_files.Picture:
        files, inside = self.manifest.place(image)
        if "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,)):
            return image_files.read(Path(inside), decoder=self.decoder)
        try:
            size = files.size(inside)
            if size is not None and size > image_files.MAX_FILE_BYTES:
                raise InvalidInputError(image, f"has {size} bytes, at most {image_files.MAX_FILE_BYTES} are read.")
            data = files.cat_file(inside)
        except FileNotFoundError as error:
            raise InvalidInputError(image, "there is no such file.") from error
        except InvalidInputError:
            raise
        except Exception as error:  # every file system has its own
            raise InvalidInputError(image, f"cannot be read ({type(error).__name__}).") from error
        return image_files.read(Path(os.path.basename(inside)), data, decoder=self.decoder)

    def _references_of(self, given: Any) -> tuple[tuple[Reference, ...], bool]:
        """The references, and whether another decoder would make other pixels of one."""
        if isinstance(given, str):
            try:
                given = json.loads(given) if given.lstrip().startswith(("[", "{")) else [given]
            except ValueError as error:
                raise InvalidInputError("references", "is not JSON.") from error
        listed = [given] if isinstance(given, Mapping) else list(given)
        found = [self._reference(f"references[{number}]", each) for number, each in enumerate(listed, 1)]
        return tuple(reference for reference, _ in found), any(depends for _, depends in found)

    def _reference(self, name: str, given: Any) -> tuple[Reference, bool]:
        about = given if isinstance(given, Mapping) else {"url": given}
        url = _text(name, about.get("url"))
        known = self._references.get(url)
        if known is None:
            known = self._read_reference(url)
            while len(self._references) >= REFERENCES_KEPT:
                self._references.popitem(last=False)
            self._references[url] = known
        kind, description = about.get("kind") or "identity", about.get("description") or ""
        reference, depends = known
        kind, description = _text(f"{name}.kind", kind), _text(f"{name}.description", description)
        return replace(reference, kind=kind, description=description), depends

    def _read_reference(self, url: str) -> tuple[Reference, bool]:
        if url.startswith(PASSED_ON):
            return Reference(url=url), False
        found = self._read_image(url)
        return Reference(pixels=found.pixels), found.depends_on_decoder


def _texts(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _text(name, values[name]) for name in names if _is_given(values.get(name))}


def _is_given(value: Any) -> bool:
    """A cell that is empty, or not a number at all, says nothing."""
    return value is not None and value != "" and value == value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(name, f"{str(value)[:60]} is not text.")
    return value


def _as_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
