"""A verdict as text and picture, for places that know nothing of this pack.

App mode, the Jobs panel, media assets and API clients show what a node gives as ``ui.text`` and ``ui.images``. A card
is a file in ComfyUI's temporary folder, which ``/view`` serves, and which ComfyUI empties when it starts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths
from PIL import Image

from ..runflow_api import background, images
from ..runflow_api.errors import ConfigurationError
from ..runflow_api.evaluation.verdict import BatchVerdict, Verdict
from ..runflow_api.report.card import draw, language_of
from ..runflow_api.report.html import Audience
from ..runflow_api.report.labels import LANGUAGES, labels
from ..runflow_api.settings import key_file
from . import _runtime, _thumbnails

MOST = 4
"""Cards of one node: of more images the first ones, and the text says all."""
FOLDER = "runflow"
NOT_KEPT = (320, 320)
"""The grey in place of a picture that is not kept."""
LOCALE = "Comfy.Locale"

log = logging.getLogger("runflow_evaluate")


def editor_language() -> str:
    """The language of the editor, which ComfyUI's server knows where the person has chosen it; otherwise English."""
    stored = key_file.setting(_runtime.editor_settings_file(), LOCALE)
    return stored if stored in LANGUAGES else LANGUAGES[0]


async def ui_of(evaluation: BatchVerdict, pictures: Sequence[images.Picture] = ()) -> dict[str, list[Any]]:
    """``text`` and ``images`` of verdicts. Without ``pictures`` those are drawn that are kept for the panel."""
    text = "\n".join([evaluation.summary, *evaluation.issues.splitlines()])
    try:
        drawn = await asyncio.wrap_future(background.call(_draw_all, evaluation, pictures))
    except Exception as error:  # a full disk, a font: whatever it is costs the card, never the verdict
        log.warning("A card could not be drawn: %r", error)
        drawn = []
    return {"text": [text], "images": drawn}


def _draw_all(evaluation: BatchVerdict, pictures: Sequence[images.Picture]) -> list[dict[str, str]]:
    language, count, audience = language_of(editor_language()), len(evaluation), _audience()
    folder = Path(folder_paths.get_temp_directory(), FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for index, verdict in enumerate(list(evaluation)[:MOST]):
        name = labels(language).image.format(n=index + 1) if count > 1 else ""
        picture = images.to_pil(pictures[index].pixels) if len(pictures) == count else _kept(verdict)
        file = folder / f"verdict-{_name_of(verdict, name, language, audience)}.png"
        if not file.exists():
            part = file.with_suffix(f".{uuid.uuid4().hex}.part")
            card = draw(picture, verdict, name=name, audience=audience, language=language)
            card.save(part, "PNG", compress_level=1)
            part.replace(file)
        drawn.append({"filename": file.name, "subfolder": FOLDER, "type": "temp"})
    return drawn


def _audience() -> Audience:
    """Whose prompts are not to be kept has none on a card either."""
    try:
        return "internal" if _runtime.settings().keep_prompts else "client"
    except ConfigurationError:
        return "client"  # what was wanted is not known


def _kept(verdict: Verdict) -> Image.Image:
    """The picture that is kept for the panel, if it is."""
    try:
        file = _thumbnails.find(_runtime.private_directory(), verdict.subject.pixel_hash, large=True)
        with Image.open(file or "") as image:
            return image.convert("RGB")
    except (OSError, ConfigurationError, ValueError):
        return Image.new("RGB", NOT_KEPT, "#e3e6ec")


def _name_of(verdict: Verdict, *look: str) -> str:
    """The same card is drawn once. Of whom the file is asked for, nothing can be guessed from its name."""
    said = json.dumps([verdict.to_ui(), verdict.subject.prompt, look], default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:32]
