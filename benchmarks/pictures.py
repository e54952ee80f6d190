"""Real pictures to measure with: photographs and generated images, as squares of a wanted side."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from measure import ROOT
from PIL import Image

Pixels = npt.NDArray[np.uint8]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
SMALLEST = 256


@dataclass(frozen=True)
class Picture:
    """A square of ``side`` px; ``enlarged`` where the source has fewer: that is smoother than a real one."""

    kind: str
    name: str
    pixels: Pixels
    enlarged: bool


def found(photos: list[Path], generated: list[Path]) -> dict[str, list[Path]]:
    """Files by kind. Without folders: what this repository ships, and what installed packages bring along."""
    kinds = {"photograph": _files(photos or _known_photos()), "generated": _files(generated)}
    return {kind: files for kind, files in kinds.items() if files}


def square(kind: str, file: Path, side: int) -> Picture:
    """The middle of the picture, reduced to ``side`` where it is larger, enlarged where it is smaller."""
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    short = min(picture.size)
    left, top = (picture.width - short) // 2, (picture.height - short) // 2
    middle = picture.crop((left, top, left + short, top + short))
    pixels = np.array(middle.resize((side, side), Image.Resampling.LANCZOS), np.uint8)
    return Picture(kind, file.stem, pixels, short < side)


def squares(kinds: dict[str, list[Path]], side: int, count: int) -> list[Picture]:
    """``count`` of each kind, the largest sources first."""
    return [square(kind, file, side) for kind, files in kinds.items() for file in files[:count]]


def tensor_of(pixels: Pixels) -> npt.NDArray[np.float32]:
    """As ComfyUI's LoadImage does it: (H, W, C) float32 from 0 to 1."""
    return pixels.astype(np.float32) / 255.0


def _files(folders: list[Path]) -> list[Path]:
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES]
    sizes = {file: _short_side(file) for file in files}
    return sorted((file for file in files if sizes[file] >= SMALLEST), key=lambda file: -sizes[file])


def _short_side(file: Path) -> int:
    with Image.open(file) as picture:
        return min(picture.size)


def _known_photos() -> list[Path]:
    folders = [ROOT / "example_workflows" / "photos"]
    for package, inside in (("skimage", "data"), ("sklearn", "datasets/images")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            folders.append(Path(spec.origin).parent / inside)
    return [folder for folder in folders if folder.is_dir()]
