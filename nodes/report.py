"""A report of verdicts as pictures and as one page, saved into ComfyUI's output folder."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ..runflow_api import background, images
from ..runflow_api.errors import InvalidInputError, RunflowError
from ..runflow_api.evaluation.question import require_choice
from ..runflow_api.evaluation.verdict import BatchVerdict, Verdict
from ..runflow_api.report import card as cards
from ..runflow_api.report import html as report
from ..runflow_api.report.labels import LANGUAGES, labels
from ..runflow_api.settings import key_file
from . import _image_batch, _runtime
from ._schema import EvaluationType, schema

LONGEST_TITLE = 200
AUTO = "auto"
LOCALE = "Comfy.Locale"


class RunflowVerdictCard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowVerdictCard",
            display_name="Quality Report",
            description=(
                "Draws each image with its verdict, score, issues and prompt beside it, and saves the cards as PNG "
                "with one page (HTML, worst first, no script, no network) and one JSON for the batch. The files hold "
                "no workflow. Audience client leaves out ids, cost and prompts: safe to send on."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The images that were judged, in the same order."),
                EvaluationType.Input("evaluation", tooltip="Their verdicts, from Evaluate Image Quality."),
                io.String.Input(
                    "filename_prefix",
                    optional=True,
                    default="runflow-report/report",
                    tooltip="Where to save, inside the output folder; %year%, %month% and %day% are filled in.",
                ),
                io.String.Input("title", optional=True, default="", tooltip="The headline of card and page."),
                io.Combo.Input(
                    "audience",
                    options=list(report.AUDIENCES),
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
                        "Of the report's labels; what the judges wrote stays as it is. auto: the language chosen in "
                        "ComfyUI's settings, English where none is."
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
        require_choice("audience", audience, report.AUDIENCES)
        require_choice("language", language, (AUTO, *LANGUAGES))
        if len(title) > LONGEST_TITLE:
            raise InvalidInputError("title", f"has {len(title)} characters, at most {LONGEST_TITLE} allowed.")
        _image_batch.check_count(image, evaluation)
        verdicts = _with_other_pixels_said(evaluation, await _image_batch.pixel_hashes(image))
        pictures, look = _runtime.arrays(image), Look(title.strip(), audience, _language(language))
        drawn, saved = await _runtime.run_with_progress(
            cls,
            lambda show: _in_thread(lambda: _report(pictures, verdicts, filename_prefix, look)),
            lambda made: f"{len(made[0])} card{'s' if len(made[0]) > 1 else ''} · {made[1][-1]}",
        )
        shown = [{"filename": Path(name).name, "subfolder": str(Path(name).parent), "type": "output"} for name in saved]
        batch = torch.from_numpy(np.stack([np.asarray(card, np.float32) / 255.0 for card in drawn]))
        return io.NodeOutput(batch, ui={"images": [one for one in shown if one["filename"].endswith(".png")]})


@dataclass(frozen=True)
class Look:
    """How a report is shown; an empty title is the language's own."""

    title: str
    audience: str
    language: str


def _language(wanted: str) -> str:
    """``wanted``; for auto the editor's language, which ComfyUI's server knows where the person has chosen it."""
    if wanted != AUTO:
        return wanted
    stored = key_file.setting(Path(folder_paths.get_user_directory()), LOCALE)
    return stored if stored in LANGUAGES else LANGUAGES[0]


async def _in_thread(work):
    return await asyncio.wrap_future(background.call(work))


def _with_other_pixels_said(evaluation: BatchVerdict, hashes: Sequence[str]) -> list[Verdict]:
    """Each verdict; where other pixels were judged than these (an upscaler came between), it says so."""

    def told(mine: str, verdict: Verdict) -> Verdict:
        judged = verdict.subject.pixel_hash
        if not judged or judged == mine:
            return verdict
        return replace(verdict, issues=(_image_batch.OTHER_PIXELS, *verdict.issues))

    return [told(*pair) for pair in zip(hashes, evaluation, strict=True)]


def _report(
    pictures: Sequence[np.ndarray], verdicts: Sequence[Verdict], prefix: str, look: Look
) -> tuple[list[Image.Image], list[str]]:
    """Draw, save, and say what was saved: the cards in order, then JSON and page, relative to the output folder."""
    shown = [_picture(picture) for picture in pictures]
    on_cards = replace(look, language=cards.language_of(look.language))
    names = _names(shown, on_cards.language) if len(shown) > 1 else [""]
    drawn = cards.same_size(
        [
            cards.draw(picture, verdict, name=name, **asdict(on_cards))
            for picture, verdict, name in zip(shown, verdicts, names, strict=True)
        ]
    )
    entries = [
        report.Entry(name, verdict, report.thumbnail(picture), picture.size)
        for name, verdict, picture in zip(_names(shown, LANGUAGES[0]), verdicts, shown, strict=True)
    ]
    try:
        return drawn, _saved(drawn, entries, prefix, look)
    except OSError as error:
        raise RunflowError(
            f"The report could not be saved ({error.strerror or type(error).__name__}). The verdicts are not lost: "
            "queue again, nothing is paid.",
            code="REPORT_NOT_SAVED",
        ) from error


def _picture(picture: np.ndarray) -> Image.Image:
    pixels = images.to_pixels(picture)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _names(images: Sequence, language: str) -> list[str]:
    return [labels(language).image.format(n=number) for number in range(1, len(images) + 1)]


def _saved(drawn, entries: Sequence[report.Entry], prefix: str, look: Look) -> list[str]:
    folder, name, counter, subfolder = _place(prefix, drawn[0])
    files = []
    for number, card in enumerate(drawn):
        file = f"{name.replace('%batch_num%', str(number))}_{counter + number:05}_.png"
        card.save(folder / file, compress_level=4)
        files.append(file)
    base = f"{name.replace('%batch_num%', '0')}_{counter:05}_"
    records = {"title": look.title or labels(LANGUAGES[0]).title, "images": report.records(entries, look.audience)}
    shown = [replace(entry, name=name) for entry, name in zip(entries, _names(entries, look.language), strict=True)]
    report.write(folder / f"{base}.json", json.dumps(records, ensure_ascii=False, indent=2) + "\n")
    report.write(folder / f"{base}.html", report.html(shown, **asdict(look)))
    return [str(Path(subfolder, file)) for file in (*files, f"{base}.json", f"{base}.html")]


def _place(prefix: str, card: Image.Image) -> tuple[Path, str, int, str]:
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
