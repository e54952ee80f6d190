"""Images that would be lost are saved where a person finds them, with their workflow, and named."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io
from PIL.PngImagePlugin import PngInfo

from ..runflow_api import images

UNJUDGED_FOLDER, BEST_FOLDER = "runflow-unjudged", "runflow-best"

log = logging.getLogger("runflow_evaluate")


def save_unjudged(pictures: Sequence[images.Picture], node: type[io.ComfyNode]) -> str:
    """Save images that have no verdict, say where they are, "" for none."""
    return save(pictures, UNJUDGED_FOLDER, node.hidden.prompt, node.hidden.extra_pnginfo)


def save(pictures: Sequence[images.Picture], folder: str, prompt: Any, extra_pnginfo: Any) -> str:
    """Save images into ``folder`` of the output folder, as SaveImage would; say where they are, "" for none.

    The name is the hash of the pixels, so that queueing again does not fill the folder with copies.
    """
    if not pictures:
        return ""
    target = Path(folder_paths.get_output_directory()) / folder
    try:
        metadata = _metadata(prompt, extra_pnginfo)
        target.mkdir(parents=True, exist_ok=True)
        names = [_save(target, picture, metadata) for picture in pictures]
    except (OSError, ValueError, TypeError) as error:  # what stopped the workflow may be what cannot be saved
        log.warning("Images could not be saved to %s: %s", folder, error)
        return f"The images could not be saved ({type(error).__name__})."
    return f"Saved to output/{folder}/{', '.join(dict.fromkeys(names))}."


def _save(folder: Path, picture: images.Picture, metadata: PngInfo | None) -> str:
    path = folder / f"{picture.hash[:16]}.png"
    if not path.exists():
        part = path.with_suffix(f".{threading.get_ident()}.part")
        images.to_pil(picture.pixels).save(part, "PNG", pnginfo=metadata, compress_level=1)
        part.replace(path)
    return path.name


def _metadata(prompt: Any, extra_pnginfo: Any) -> PngInfo | None:
    """What SaveImage writes; a client may send anything as ``extra_pnginfo``."""
    if args.disable_metadata or prompt is None:
        return None
    metadata = PngInfo()
    metadata.add_text("prompt", json.dumps(prompt))
    for name, value in extra_pnginfo.items() if isinstance(extra_pnginfo, Mapping) else ():
        metadata.add_text(str(name), json.dumps(value))
    return metadata
