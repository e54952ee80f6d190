"""Small pictures of what was judged, for the panel's strip and the history: private to the user, and optional.

Named by the hash of the pixels, so the same image is kept once and a name can be no path.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..runflow_api import images

SMALL, LARGE = "thumbnails", "pictures"
"""Folders. Large ones are for a person who looks closely, and for two attempts over each other."""
SIDES = {SMALL: 192, LARGE: 1280}
QUALITY = {SMALL: 70, LARGE: 82}
MOST = {SMALL: 5_000, LARGE: 300}
"""About 5 kB and 150 kB each. The oldest go first."""
LOOK_EVERY = 100
_NAME = re.compile(r"[0-9a-f]{16,128}")

log = logging.getLogger("runflow_evaluate")
_kept: dict[str, int] = {}
_tidying = threading.Lock()


def keep(directory: Path, pictures: Sequence[np.ndarray]) -> None:
    """Keep every picture, a float (H, W, C) array, small and then large. Trouble is logged: it costs no verdict."""
    try:
        for name in (SMALL, LARGE):
            folder = directory / name
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for picture in pictures:
                _keep(folder, picture)
            _tidy(folder, len(pictures))
    except (OSError, ValueError) as error:
        log.warning("A thumbnail could not be kept: %s", error)


def find(directory: Path, name: str, large: bool = False) -> Path | None:
    """The picture of the image with that pixel hash, small where it is not kept large; ``None`` for neither."""
    if not _NAME.fullmatch(name):
        return None
    files = (directory / folder / f"{name}.webp" for folder in ([LARGE] if large else []) + [SMALL])
    return next((file for file in files if file.is_file()), None)


def _keep(folder: Path, picture: np.ndarray) -> None:
    pixels = images.to_pixels(picture)
    file = folder / f"{images.pixel_hash(pixels)}.webp"
    if file.exists():
        return
    kept = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    kept.thumbnail((SIDES[folder.name], SIDES[folder.name]))
    part = file.with_suffix(f".{threading.get_ident()}.part")
    kept.save(part, "WEBP", quality=QUALITY[folder.name])
    part.chmod(0o600)
    part.replace(file)


def _tidy(folder: Path, added: int) -> None:
    """Once in a while forget the oldest."""
    with _tidying:
        kept = _kept.get(folder.name, 0)
        _kept[folder.name] = kept + added
    if kept == 0 or (kept + added) // LOOK_EVERY > kept // LOOK_EVERY:
        files = sorted(folder.glob("*.webp"), key=lambda file: file.stat().st_mtime)
        for file in files[: max(0, len(files) - MOST[folder.name])]:
            file.unlink(missing_ok=True)
