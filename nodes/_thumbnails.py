"""Small pictures of what was judged, for the panel's strip and the history: private to the user, and optional.

Named by the hash of the pixels, so the same image is kept once and a name can be no path.
"""

from __future__ import annotations

import io
import logging
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from ..runflow_api import images
from ..runflow_api._files import private_folder, replace_private

FOLDER = "thumbnails"
SIDE = 192
QUALITY = 70
MOST = 5_000
"""About 5 kB each. The oldest go first."""
LOOK_EVERY = 100
_NAME = re.compile(r"[0-9a-f]{16,128}")

log = logging.getLogger("runflow_evaluate")
_kept = 0
_tidying = threading.Lock()


def keep(directory: Path, pictures: Sequence[images.Picture]) -> None:
    """Keep a thumbnail of every picture. Trouble is logged: it costs no verdict."""
    folder = directory / FOLDER
    try:
        private_folder(folder)
        for picture in pictures:
            _keep(folder, picture)
        _tidy(folder, len(pictures))
    except (OSError, ValueError) as error:
        log.warning("A thumbnail could not be kept: %s", error)


def find(directory: Path, name: str) -> Path | None:
    """The thumbnail of the image with that pixel hash, ``None`` where there is none."""
    if not _NAME.fullmatch(name):
        return None
    file = directory / FOLDER / f"{name}.webp"
    return file if file.is_file() else None


def _keep(folder: Path, picture: images.Picture) -> None:
    file = folder / f"{picture.hash}.webp"
    if file.exists():
        return
    small = images.to_pil(picture.pixels).convert("RGB")
    small.thumbnail((SIDE, SIDE))
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=QUALITY)
    replace_private(file, encoded.getvalue())


def _tidy(folder: Path, added: int) -> None:
    """Once in a while forget the oldest."""
    global _kept
    with _tidying:
        due = _kept == 0 or (_kept + added) // LOOK_EVERY > _kept // LOOK_EVERY
        _kept += added
    if due:
        files = sorted(folder.glob("*.webp"), key=lambda file: file.stat().st_mtime)
        for file in files[: max(0, len(files) - MOST)]:
            file.unlink(missing_ok=True)
