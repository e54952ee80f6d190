"""Image files to the very pixels that ComfyUI's Load Image makes of them, so that graph and folder pay once.

PNG, JPEG and WebP are read, AVIF where this Pillow has it; the content decides, not the name. As Load Image does it
(``nodes.py``): EXIF orientation is applied, everything becomes RGB without its transparency, more than 8 bits per
channel become 8, which is noted, and colour profiles are not applied. An animation is refused, because nobody could
say which of its frames was judged.
"""

from __future__ import annotations

import glob
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError, features

from ..errors import InvalidInputError
from . import saved_prompt

Pixels = npt.NDArray[np.uint8]

_HAS_AVIF = "avif" in features.modules and features.check("avif")  # Pillow before 11.3 has never heard of it
FORMATS = ("PNG", "JPEG", "WEBP", *(("AVIF",) if _HAS_AVIF else ()))
MULTI_PICTURE = "MPO"
"""What Pillow calls a JPEG of a phone or camera with a second picture behind it, which is left alone."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif")
"""What is taken from a folder; a file that is named is read whatever its name."""
MAX_PIXELS = 89_478_485
"""Pillow's own limit against decompression bombs: 256 MB as RGB."""
MAX_FILE_BYTES = 512 * 1024 * 1024
_GREY_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_PNG_DEPTH_AT = 24
"""Offset of the bit depth: signature 8, chunk header 8, width 4, height 4 (PNG specification, IHDR)."""
REDUCED = "reduced from 16 to 8 bits per channel, as Load Image does it"


@dataclass(frozen=True, eq=False)
class Picture:
    """One file. ``pixels`` (H, W, 3) uint8; ``prompt`` "" where none was found.

    ``notes`` say in words what was changed while reading, ``no_prompt`` why there is no prompt.
    """

    pixels: Pixels
    prompt: str = ""
    no_prompt: str = ""
    notes: tuple[str, ...] = ()


def read(path: Path) -> Picture:
    """Read one image. Raises ``InvalidInputError`` that names the file and what is wrong with it."""
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise _refused(path, f"has {size} bytes, at most {MAX_FILE_BYTES} are read.")
        with Image.open(path, formats=FORMATS) as image:
            return _picture(path, image)
    except InvalidInputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _refused(path, _too_large("") + " It may be a decompression bomb.") from error
    except FileNotFoundError as error:
        raise _refused(path, "there is no such file.") from error
    except UnidentifiedImageError as error:
        raise _refused(path, f"is not a {_spoken(FORMATS)} image.") from error
    except Exception as error:  # Pillow's decoders raise many types, and each means: broken
        raise _refused(path, f"cannot be read, it is damaged or incomplete ({_short(error)}).") from error


def _picture(path: Path, image: Image.Image) -> Picture:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _refused(path, _too_large(f" {width}×{height}"))
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != MULTI_PICTURE:
        raise _refused(path, f"is an animation of {frames} frames. Save the frame to judge as an image of its own.")
    image.load()
    prompt, why_not = saved_prompt.of_image(image)
    notes = (REDUCED,) if _has_16_bits(path, image) else ()
    return Picture(_as_load_image(path, image), prompt, why_not, notes)


def _as_load_image(path: Path, image: Image.Image) -> Pixels:
    """(H, W, 3) uint8, step by step as ``LoadImage.load_image`` in ComfyUI's ``nodes.py``."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode == "I":
        turned = turned.point(_sixteen_to_eight_bits)
    if turned.mode == "P":
        turned = turned.convert("RGBA")  # the same colours, without Pillow's warning about their transparency
    try:
        return np.array(turned.convert("RGB"))
    except ValueError as error:
        raise _refused(path, f"holds pixels of the kind {image.mode}. Save it as RGB.") from error


def _sixteen_to_eight_bits(value: Any) -> Any:
    return value * (1 / 255)


def _has_16_bits(path: Path, image: Image.Image) -> bool:
    """Pillow cuts 16-bit colour to 8 without a word, so the file itself is asked."""
    if image.format != "PNG":
        return image.mode in _GREY_16
    with path.open("rb") as file:
        return file.read(_PNG_DEPTH_AT + 1)[_PNG_DEPTH_AT:] == b"\x10"


def _refused(path: Path, what: str) -> InvalidInputError:
    return InvalidInputError(str(path), what)


def _too_large(size: str) -> str:
    return f"is too large:{size} px, more than {MAX_PIXELS} pixels." if size else f"has over {MAX_PIXELS} pixels."


def _spoken(formats: Iterable[str]) -> str:
    names = list(formats)
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())[:120] or "no reason given"
    return type(error).__name__ if isinstance(error, struct.error | MemoryError) else text


# --- which files --------------------------------------------------------------------------------------


def find(arguments: Iterable[str], *, recursive: bool = False) -> list[Path]:
    """The image files that files, folders and globs name: each once, folders and globs in natural order.

    Raises ``InvalidInputError`` for an argument that names nothing.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        paths = list(_named(argument, recursive))
        if not paths:
            raise InvalidInputError(argument, f"names no image. Looked for files, and in folders for {_suffixes()}.")
        for path in paths:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _named(argument: str, recursive: bool) -> Iterator[Path]:
    path = Path(argument)
    if path.is_dir():
        inside = path.rglob("*") if recursive else path.iterdir()
        yield from sorted((file for file in inside if _looks_like_image(file)), key=natural_order)
    elif path.is_file():
        yield path
    else:  # the shell of Windows leaves globs to the program
        matches = (Path(match) for match in glob.glob(argument, recursive=True))
        yield from sorted((file for file in matches if _looks_like_image(file)), key=natural_order)


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def is_image_url(url: str) -> bool:
    """Whether an address may be an image: its path says so, or says nothing."""
    suffix = Path(urlsplit(url).path).suffix.lower()
    return not suffix or suffix in SUFFIXES


def _suffixes() -> str:
    return " ".join(f"*{suffix}" for suffix in SUFFIXES)


def natural_order(path: Path) -> list[tuple[int, int | str]]:
    """image2 before image10."""
    parts = re.split(r"([0-9]+)", str(path).casefold())
    return [(0, int(part)) if part.isdecimal() and part.isascii() else (1, part) for part in parts if part]
