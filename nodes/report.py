"""A report of verdicts as pictures and as one page, saved into ComfyUI's output folder."""

import asyncio
import itertools
import json
import os
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ..runflow_api import background, images
from ..runflow_api.errors import InvalidInputError, RunflowError
from ..runflow_api.evaluation.comparison import AttemptLines
from ..runflow_api.evaluation.question import require_choice
from ..runflow_api.evaluation.verdict import BatchVerdict, Verdict
from ..runflow_api.report.card import draw, language_of, same_size
from ..runflow_api.report.html import AUDIENCES, Audience, Entry, html, records, thumbnail
from ..runflow_api.report.labels import LANGUAGES, labels
from . import _cards, _image_batch, _runtime
from ._schema import EvaluationType, schema

LONGEST_TITLE = 200
AUTO = "auto"
T = TypeVar("T")


class RunflowVerdictCard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowVerdictCard",
            display_name="Quality Report",
            description=(
                "Draws each image with its verdict, score, issues and prompt beside it, and saves the cards as PNG "
                "with one page (HTML, worst first, no script, no network) and one JSON file for the batch. The files "
                "contain no workflow. With audience client, ids, cost and prompts are left out, so the files are safe "
                "to share."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The images that were judged, in the same order."),
                EvaluationType.Input("evaluation", tooltip="Their verdicts, from Evaluate Image Quality."),
                io.String.Input(
                    "filename_prefix",
                    optional=True,
                    default="runflow-report/report",
                    tooltip="Where to save in the output folder; %year%, %month% and %day% are filled in.",
                ),
                io.String.Input("title", optional=True, default="", tooltip="The headline of card and page."),
                io.Combo.Input(
                    "audience",
                    options=list(AUDIENCES),
                    optional=True,
                    default="internal",
                    tooltip="internal: everything. client: without ids, cost and prompts.",
                ),
                io.Combo.Input(
                    "language",
                    options=[AUTO, *LANGUAGES],
                    optional=True,
                    default=AUTO,
                    tooltip=(
                        "The language of the labels; what the judges wrote stays as it is. auto: the language chosen "
                        "in ComfyUI's settings, or English."
                    ),
                ),
            ],
            outputs=[io.Image.Output("card", display_name="card", tooltip="One card for each image, in their order.")],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(
        cls,
        image,
        evaluation,
        filename_prefix="runflow-report/report",
        title="",
        audience="internal",
        language=AUTO,
    ) -> io.NodeOutput:
        require_choice("audience", audience, AUDIENCES)
        require_choice("language", language, (AUTO, *LANGUAGES))
        if len(title) > LONGEST_TITLE:
            raise InvalidInputError("title", f"has {len(title)} characters, at most {LONGEST_TITLE} allowed.")
        image = _image_batch.check_images("image", image)
        _image_batch.check_count(image, evaluation)
        verdicts = _with_other_pixels_said(evaluation, await _image_batch.pixel_hashes(image))
        pictures, look = _image_batch.arrays(image), Look(title.strip(), audience, _language(language))
        show = _runtime.NodeProgress(cls.hidden.unique_id)
        drawing = background.call(_report, pictures, verdicts, filename_prefix, look, evaluation.attempts)
        drawn, saved = await _runtime.run_with_progress(_result_of(drawing), show)
        show.text(f"{len(drawn)} card{'s' if len(drawn) > 1 else ''} · {saved[-1]}")
        shown = [{"filename": Path(name).name, "subfolder": str(Path(name).parent), "type": "output"} for name in saved]
        batch = torch.from_numpy(np.stack([np.asarray(card, np.float32) / 255.0 for card in drawn]))
        cards = [one for one in shown if one["filename"].endswith(".png")]
        return io.NodeOutput(batch, ui={"images": cards, "text": [f"{evaluation.summary} · {saved[-1]}"]})


@dataclass(frozen=True)
class Look:
    """How a report is shown; an empty title is the language's own."""

    title: str
    audience: Audience
    language: str


def _language(wanted: str) -> str:
    """``wanted``; for auto the editor's."""
    return wanted if wanted != AUTO else _cards.editor_language()


async def _result_of(future: Future[T]) -> T:
    return await asyncio.wrap_future(future)


def _with_other_pixels_said(evaluation: BatchVerdict, hashes: Sequence[str]) -> list[Verdict]:
    """Each verdict; where other pixels were judged than these (an upscaler came between), it says so."""

    return [
        verdict
        if verdict.subject.pixel_hash in ("", pixel_hash)
        else replace(verdict, issues=(_image_batch.OTHER_PIXELS, *verdict.issues))
        for pixel_hash, verdict in zip(hashes, evaluation, strict=True)
    ]


def _report(
    pictures: Sequence[np.ndarray],
    verdicts: Sequence[Verdict],
    prefix: str,
    look: Look,
    attempts: Sequence[AttemptLines] = (),
) -> tuple[list[Image.Image], list[str]]:
    """Draw, save, and say what was saved: the cards in order, then JSON and page, relative to the output folder."""
    shown = [images.to_pil(images.to_pixels(picture)) for picture in pictures]
    on_cards = replace(look, language=language_of(look.language))
    names = _names(len(shown), on_cards.language) if len(shown) > 1 else [""]
    drawn = same_size(
        [
            draw(picture, verdict, name=name, **asdict(on_cards))
            for picture, verdict, name in zip(shown, verdicts, names, strict=True)
        ]
    )
    entries = [
        Entry(name, verdict, thumbnail(picture), picture.size)
        for name, verdict, picture in zip(_names(len(shown), LANGUAGES[0]), verdicts, shown, strict=True)
    ]
    try:
        return drawn, _save(drawn, entries, prefix, look, attempts)
    except OSError as error:
        raise RunflowError(
            f"The report could not be saved ({error.strerror or type(error).__name__}).",
            code="REPORT_NOT_SAVED",
            cost="The verdicts are not lost: run again, and nothing is paid.",
        ) from error


def _names(count: int, language: str) -> list[str]:
    return [labels(language).image.format(n=number) for number in range(1, count + 1)]


# --- saving -------------------------------------------------------------------------------------------


def _save(
    drawn: Sequence[Image.Image], entries: Sequence[Entry], prefix: str, look: Look, attempts: Sequence[AttemptLines]
) -> list[str]:
    """Write cards, JSON and page; their names, relative to the output folder. No file is ever seen half-written."""
    records_of_all = {"title": look.title or labels(LANGUAGES[0]).title, "images": records(entries, look.audience)}
    if attempts and look.audience == "internal":
        records_of_all["attempts"] = [each.to_json() for each in attempts]
    names = _names(len(entries), look.language)
    shown = [replace(entry, name=name) for entry, name in zip(entries, names, strict=True)]
    contents = [
        *(_png(card) for card in drawn),
        (json.dumps(records_of_all, ensure_ascii=False, indent=2) + "\n").encode(),
        html(shown, **asdict(look), attempts=attempts).encode(),
    ]
    folder, subfolder, files = _claim(prefix, drawn[0], len(drawn))
    try:
        for file, content in zip(files, contents, strict=True):
            part = folder / f".{file}.{uuid.uuid4().hex}"
            part.write_bytes(content)
            part.replace(folder / file)
    except OSError:
        for file in files:
            (folder / file).unlink(missing_ok=True)
        raise
    return [str(Path(subfolder, file)) for file in files]


def _png(card: Image.Image) -> bytes:
    file = BytesIO()
    card.save(file, "PNG", compress_level=4)
    return file.getvalue()


def _claim(prefix: str, card: Image.Image, count: int) -> tuple[Path, str, list[str]]:
    """Folder, subfolder and the names of this report's files, which exist from here on and are nobody else's.

    ComfyUI counts the files that are there; another report of the same prompt, or another ComfyUI with the same output
    folder, may count at the same moment.
    """
    folder, name, counter, subfolder = _save_path(prefix, card)
    for number in itertools.count(counter):
        files = _file_names(name, number, count)
        claimed: list[str] = []
        try:
            for file in files:
                os.close(os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                claimed.append(file)
            return folder, subfolder, files
        except FileExistsError:
            for file in claimed:
                (folder / file).unlink()
    raise AssertionError("numbers do not end")


def _file_names(name: str, counter: int, count: int) -> list[str]:
    """The cards in order, then JSON and page."""
    cards = [f"{name.replace('%batch_num%', str(n))}_{counter + n:05}_.png" for n in range(count)]
    base = f"{name.replace('%batch_num%', '0')}_{counter:05}_"
    return [*cards, f"{base}.json", f"{base}.html"]


def _save_path(prefix: str, card: Image.Image) -> tuple[Path, str, int, str]:
    """Where ComfyUI's own SaveImage would save. It refuses what leads out of the output folder."""
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory(), card.width, card.height
        )
    except OSError:
        raise
    except Exception as error:  # ComfyUI raises a bare Exception, and ValueError for another drive of Windows
        raise InvalidInputError(
            "filename_prefix", "leads out of the output folder. Give a name inside it, such as reports/today."
        ) from error
    return Path(folder), name, counter, subfolder
