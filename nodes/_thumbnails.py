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

SMALL, LARGE = "thumbnails", "pictures"
"""Folders. Large ones are for a person who looks closely, and for two attempts over each other."""
SIDES = {SMALL: 192, LARGE: 1280}
QUALITY = {SMALL: 70, LARGE: 82}
EFFORT = 2
"""Of WebP's 0 to 6: 4 takes half as long again for a large one, and saves a twentieth of its size."""
MAX_KEPT = {SMALL: 5_000, LARGE: 300}
"""About 5 kB and 150 kB each. The oldest go first."""
CHECK_EVERY = 100
_NAME = re.compile(r"[0-9a-f]{16,128}")

log = logging.getLogger("runflow_evaluate")
_kept_counts: dict[str, int] = {}
_counting = threading.Lock()


def keep(directory: Path, pictures: Sequence[images.Picture], start: threading.Event) -> None:
    """Keep every picture, small and then large, from ``start`` on. Trouble is logged: it costs no verdict."""
    start.wait()
    try:
        for name in (SMALL, LARGE):
            folder = directory / name
            private_folder(folder)
            for picture in pictures:
                _keep_one(folder, picture)
            _remove_oldest(folder, len(pictures))
    except (OSError, ValueError) as error:
        log.warning("A thumbnail could not be kept: %s", error)


def find(directory: Path, name: str, large: bool = False) -> Path | None:
    """The picture of the image with that pixel hash, small if it is not kept large; ``None`` for neither."""
    if not _NAME.fullmatch(name):
        return None
    files = (directory / folder / f"{name}.webp" for folder in ([LARGE] if large else []) + [SMALL])
    try:
        return next((file for file in files if file.is_file()), None)
    except OSError:  # the folder of another user
        return None


def _keep_one(folder: Path, picture: images.Picture) -> None:
    file = folder / f"{picture.hash}.webp"
    if file.exists():
        return
    kept = images.to_pil(picture.pixels)
    if kept.mode == "RGBA":
        kept = kept.convert("RGB")
    kept.thumbnail((SIDES[folder.name], SIDES[folder.name]))
    encoded = io.BytesIO()
    kept.save(encoded, "WEBP", quality=QUALITY[folder.name], method=EFFORT)
    replace_private(file, encoded.getvalue())


def _remove_oldest(folder: Path, added: int) -> None:
    """Once in a while delete the oldest."""
    with _counting:
        before = _kept_counts.get(folder.name, 0)
        _kept_counts[folder.name] = before + added
    if before == 0 or (before + added) // CHECK_EVERY > before // CHECK_EVERY:
        files = sorted(folder.glob("*.webp"), key=lambda file: file.stat().st_mtime)
        for file in files[: max(0, len(files) - MAX_KEPT[folder.name])]:
            file.unlink(missing_ok=True)
