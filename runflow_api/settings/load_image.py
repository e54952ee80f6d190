"""What reads image files in a ComfyUI: its Load Image used Pillow, and newer ones (0.33, for example) use PyAV.

Of the same JPEG the two make pixels that differ, and other pixels are another question, paid anew. So a running ComfyUI
notes which one it uses, and the command line reads files as that ComfyUI does.
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path

from .._files import private_folder, read_text, replace_private

NOTE = "load_image.json"
"""Beside the settings: ``{"decoder": "pillow"}`` or ``{"decoder": "pyav"}``."""


class Decoder(str, Enum):
    """What turns a file into pixels."""

    PILLOW = "pillow"
    PYAV = "pyav"

    __str__ = str.__str__

    @property
    def other(self) -> Decoder:
        return Decoder.PYAV if self is Decoder.PILLOW else Decoder.PILLOW


def noted_decoder(directory: Path) -> Decoder | None:
    """What the ComfyUI whose private folder this is reads with; ``None`` if it has not said so yet."""
    try:
        return Decoder(json.loads(read_text(directory / NOTE))["decoder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_decoder(directory: Path, decoder: Decoder) -> None:
    """Say what this ComfyUI reads with. Raises ``OSError`` as writing does."""
    if noted_decoder(directory) is not decoder:
        replace_private(private_folder(directory) / NOTE, json.dumps({"decoder": decoder}).encode())
