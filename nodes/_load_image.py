"""Which decoder this ComfyUI's Load Image uses is noted for the command line, which then makes the same pixels."""

from __future__ import annotations

import logging

import nodes as comfy_nodes  # type: ignore[import-not-found]  # ComfyUI's, not the pack's

from ..runflow_api.settings.load_image import Decoder, note_decoder
from . import _runtime

VIDEO_READER = "VideoFromFile"
"""What the Load Image of ComfyUI 0.33 opens files with (``nodes.py``): it decodes with PyAV."""

log = logging.getLogger("runflow_evaluate")


def note() -> None:
    """Note it for the command line. Blocks.

    Without the right to write, the command line looks up what either decoder makes of a file.
    """
    decoder = _decoder()
    if decoder is None:
        return
    try:
        note_decoder(_runtime.private_directory(), decoder)
    except OSError as error:
        log.debug("What Load Image reads files with was not noted: %s", error)


def _decoder() -> Decoder | None:
    """What Load Image uses, as far as its code says so; ``None`` if it is made in a way that is not known here."""
    load = getattr(getattr(comfy_nodes, "LoadImage", None), "load_image", None)
    code = getattr(load, "__code__", None)
    if code is None:
        return None
    return Decoder.PYAV if VIDEO_READER in code.co_names else Decoder.PILLOW
