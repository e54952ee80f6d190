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
MAX_THUMBNAILS = 5_000
"""About 5 kB each. The oldest go first."""
CHECK_EVERY = 100
_NAME = re.compile(r"[0-9a-f]{16,128}")

log = logging.getLogger("runflow_evaluate")
_kept_count = 0
_counting = threading.Lock()


def keep(directory: Path, pictures: Sequence[images.Picture]) -> None:
    """Keep a thumbnail of every picture. Trouble is logged: it costs no verdict."""
    folder = directory / FOLDER
    try:
        private_folder(folder)
        for picture in pictures:
            _keep_one(folder, picture)
        _remove_oldest(folder, len(pictures))
    except (OSError, ValueError) as error:
        log.warning("A thumbnail could not be kept: %s", error)


def find(directory: Path, name: str) -> Path | None:
    """The thumbnail of the image with that pixel hash, ``None`` where there is none."""
    if not _NAME.fullmatch(name):
        return None
    file = directory / FOLDER / f"{name}.webp"
    try:
        return file if file.is_file() else None
    except OSError:  # the folder of another user
        return None


def _keep_one(folder: Path, picture: images.Picture) -> None:
    file = folder / f"{picture.hash}.webp"
    if file.exists():
        return
    small = images.to_pil(picture.pixels).convert("RGB")
    small.thumbnail((SIDE, SIDE))
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=QUALITY)
    replace_private(file, encoded.getvalue())


def _remove_oldest(folder: Path, added: int) -> None:
    """Once in a while delete the oldest."""
    global _kept_count
    with _counting:
        due = _kept_count == 0 or (_kept_count + added) // CHECK_EVERY > _kept_count // CHECK_EVERY
        _kept_count += added
    if due:
        files = sorted(folder.glob("*.webp"), key=lambda file: file.stat().st_mtime)
        for file in files[: max(0, len(files) - MAX_THUMBNAILS)]:
            file.unlink(missing_ok=True)
