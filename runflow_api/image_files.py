"""Image files to the very pixels that ComfyUI's Load Image makes of them, so that graph and folder pay once.

PNG, JPEG and WebP are read, AVIF where this Pillow has it; the content decides, not the name. As Load Image does it
(``nodes.py``): EXIF orientation is applied, everything becomes RGB without its transparency, more than 8 bits per
channel become 8, which is noted, and colour profiles are not applied. An animation is refused, because nobody could
say which of its frames was judged.

Load Image decodes with Pillow, and in newer ComfyUI (0.33, for example) with PyAV, which makes other pixels of all but
PNG files in 8-bit colour. Which one is said by ``decoder``. Grey in 16 bits is the exception: Load Image with Pillow
shows it white, which is nothing to judge, so here it is scaled.
"""

from __future__ import annotations

import glob
import io
import os
import re
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError, features

from .errors import InvalidInputError
from .evaluation import saved_verdict
from .evaluation.saved_verdict import SavedVerdict
from .images import to_pixels
from .insight import image_settings, saved_prompt
from .journal.image_settings import UNKNOWN_SETTINGS, ImageSettings
from .settings.load_image import Decoder

Pixels = npt.NDArray[np.uint8]

_HAS_AVIF = "avif" in features.modules and features.check("avif")  # Pillow before 11.3 has never heard of it
FORMATS = ("PNG", "JPEG", "WEBP", *(("AVIF",) if _HAS_AVIF else ()))
MULTI_PICTURE = "MPO"
"""What Pillow calls a JPEG of a phone or camera with a second picture behind it, which is left alone."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif")
"""What is taken from a folder; a file that is named is read whatever its name."""
OTHER_SUFFIXES = frozenset(
    (
        ".gif", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".exr", ".hdr",
        ".tga", ".ico", ".svg", ".ppm", ".pgm", ".mp4", ".webm", ".mov", ".mkv",
    )
)  # fmt: skip
"""Pictures and clips that are not read: a folder that has some says so."""
MAX_PIXELS = 89_478_485
"""Pillow's own limit against decompression bombs: 256 MB as RGB."""
MAX_FILE_BYTES = 512 * 1024 * 1024
_GREY_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_PNG_DEPTH_AT = 24
"""Offset of the bit depth: signature 8, chunk header 8, width 4, height 4 (PNG specification, IHDR)."""
REDUCED = "reduced from 16 to 8 bits per channel"
_ORIENTATION = 0x0112
_MIRRORED = (2, 4, 5, 7)
"""Orientations of EXIF that turn left into right: Pillow applies them, PyAV only turns."""
_BYTES_FOR_PYAV = ("yuvj420p", "yuvj422p", "yuvj444p", "rgb24", "rgba", "pal8")
"""Pixel formats that ComfyUI takes as bytes, all others as floats (``comfy_api``, ``VideoFromFile``)."""
_ALIGNED = 32


@dataclass(frozen=True, eq=False)
class Picture:
    """One file. ``pixels`` (H, W, 3) uint8; ``prompt`` "" if none was found.

    ``notes`` say in words what was changed while reading, ``no_prompt`` why there is no prompt, ``saved`` what the
    file says about its own verdict. ``depends_on_decoder``: Pillow and PyAV make different pixels of such files.
    """

    pixels: Pixels
    prompt: str = ""
    no_prompt: str = ""
    notes: tuple[str, ...] = ()
    saved: SavedVerdict | None = None
    image_settings: ImageSettings = UNKNOWN_SETTINGS
    depends_on_decoder: bool = False


class AnimationError(InvalidInputError):
    """The file has several frames, and nobody could say which of them was judged."""


def read(path: Path, data: bytes | None = None, *, decoder: Decoder = Decoder.PILLOW) -> Picture:
    """Read one image, or ``data`` as if it were in that file.

    Where PyAV is not installed, or cannot read the file, Pillow does it. Raises ``InvalidInputError`` that names the
    file and what is wrong with it.
    """
    try:
        size = path.stat().st_size if data is None else len(data)
        if size > MAX_FILE_BYTES:
            raise _refused(path, f"has {size} bytes, at most {MAX_FILE_BYTES} are read.")
        with Image.open(path if data is None else io.BytesIO(data), formats=FORMATS) as image:
            return _picture(path, image, data, decoder)
    except InvalidInputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _refused(path, _too_large("") + " It may be a decompression bomb.") from error
    except FileNotFoundError as error:
        raise _refused(path, "there is no such file.") from error
    except PermissionError as error:
        raise _refused(path, f"cannot be opened ({error.strerror or type(error).__name__}).") from error
    except UnidentifiedImageError as error:
        raise _refused(path, f"is not a {_spoken(FORMATS)} image.") from error
    except Exception as error:  # Pillow's decoders raise many types, and each means: broken
        raise _refused(path, f"cannot be read, it is damaged or incomplete ({_short(error)}).") from error


def evaluation_id(given: str) -> str:
    """The id that ``given`` is, or that the file of that name says of its verdict. Raises ``InvalidInputError``."""
    if not os.path.isfile(given):
        return given
    saved = read(Path(given)).saved
    if saved is None or not saved.evaluation_id:
        raise InvalidInputError(given, "does not say which evaluation judged it. Save Judged Images writes that.")
    return saved.evaluation_id


def _picture(path: Path, image: Image.Image, data: bytes | None, decoder: Decoder) -> Picture:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _refused(path, _too_large(f" {width}×{height}"))
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != MULTI_PICTURE:
        what = f"is an animation of {frames} frames. Save the frame to judge as a separate image."
        raise AnimationError(str(path), what)
    image.load()
    prompt, why_not = saved_prompt.of_image(image)
    has_16_bits = _has_16_bits(path, image, data)
    depends = has_16_bits or not _is_same_for_both(image)
    pixels = _with_pyav(path.read_bytes() if data is None else data) if depends and decoder is Decoder.PYAV else None
    return Picture(
        _with_pillow(path, image) if pixels is None else pixels,
        prompt,
        why_not,
        (REDUCED,) if has_16_bits else (),
        saved_verdict.parse(image.info.get(saved_verdict.CHUNK)),
        image_settings.of_image(image),
        depends,
    )


def _is_same_for_both(image: Image.Image) -> bool:
    is_colour = image.format == "PNG" and image.mode in ("RGB", "RGBA", "P")
    return is_colour and image.getexif().get(_ORIENTATION) not in _MIRRORED


def _with_pillow(path: Path, image: Image.Image) -> Pixels:
    """(H, W, 3) uint8, step by step as ``LoadImage.load_image`` of ComfyUI 0.3.75 (``nodes.py``)."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode in _GREY_16:
        return np.repeat(to_pixels(np.asarray(turned).astype(np.float32)[:, :, None] / 65_535), 3, axis=2)
    if turned.mode == "P":
        turned = turned.convert("RGBA")  # the same colours, without Pillow's warning about their transparency
    try:
        return np.array(turned.convert("RGB"))
    except ValueError as error:
        raise _refused(path, f"holds pixels of the kind {image.mode}. Save it as RGB.") from error


def has_pyav() -> bool:
    """Whether files can be read as a ComfyUI reads them whose Load Image uses PyAV."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def _with_pyav(data: bytes) -> Pixels | None:
    """(H, W, 3) uint8, as the Load Image of ComfyUI 0.33 and Save Image make it; ``None`` if it cannot be done."""
    try:
        import av
    except ImportError:
        return None
    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            frame = next(container.decode(container.streams.video[0]))
            channels = frame.format.components
            with_alpha = frame.format.name == "pal8" or any(channel.is_alpha for channel in channels)
            if frame.format.name in _BYTES_FOR_PYAV:
                values = frame.to_ndarray(format="rgba" if with_alpha else "rgb24")
            else:
                values = _aligned(frame).to_ndarray(format="gbrapf32le" if with_alpha else "gbrpf32le")
            turns = round(frame.rotation // 90)
    except (av.FFmpegError, IndexError, StopIteration, ValueError):
        return None
    return np.ascontiguousarray(np.rot90(to_pixels(values[: frame.height, : frame.width, :3]), turns))


def _aligned(frame: Any) -> Any:
    """The frame with its last column and row repeated up to a multiple of 32, as ComfyUI does it.

    What is at the right edge of other widths would differ from one decoding to the next.
    """
    if frame.width % _ALIGNED == 0:
        return frame
    import av

    right, below = -frame.width % _ALIGNED, -frame.height % _ALIGNED
    graph = av.filter.Graph()
    steps = (
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format.name, time_base=frame.time_base),
        graph.add("pad", f"{frame.width + right}:{frame.height + below}:0:0"),
        graph.add("fillborders", f"left=0:right={right}:top=0:bottom={below}:mode=smear"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*steps).configure()
    steps[0].push(frame)
    return steps[-1].pull()


def _has_16_bits(path: Path, image: Image.Image, data: bytes | None) -> bool:
    """Pillow cuts 16-bit colour to 8 without a word, so the file itself is asked."""
    if image.format != "PNG":
        return image.mode in _GREY_16
    if data is None:
        with path.open("rb") as file:
            data = file.read(_PNG_DEPTH_AT + 1)
    return data[_PNG_DEPTH_AT : _PNG_DEPTH_AT + 1] == b"\x10"


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


@dataclass
class Found:
    """The image files that arguments name, each once; folders and globs in natural order.

    ``from_folders`` are those that nobody named one by one. What was passed over on the way is counted: files with
    ``other_suffixes`` of pictures, ``closed_folders`` that cannot be opened, and ``broken_links`` to images.
    """

    files: list[Path] = field(default_factory=list)
    from_folders: set[Path] = field(default_factory=set)
    other_suffixes: Counter[str] = field(default_factory=Counter)
    closed_folders: list[str] = field(default_factory=list)
    broken_links: list[str] = field(default_factory=list)


def find(arguments: Iterable[str], *, recursive: bool = False) -> Found:
    """What files, folders and globs name.

    Raises ``InvalidInputError`` for an argument that names nothing, or a folder that cannot be opened.
    """
    found, known = Found(), set[Path]()
    for argument in arguments:
        is_file = os.path.isfile(argument)
        paths = [Path(argument)] if is_file else _inside(argument, recursive, found)
        if argument in found.broken_links:
            raise InvalidInputError(argument, "is a broken link: what it leads to is not there.")
        if not paths and not any(Path(each).is_relative_to(argument) for each in found.closed_folders):
            others = f", and {_counted(found.other_suffixes)} are not read" if found.other_suffixes else ""
            raise InvalidInputError(
                argument, f"does not match any image. Looked for files, and in folders for {_suffixes()}{others}."
            )
        for path in paths:
            resolved = path.resolve()
            if resolved not in known:
                known.add(resolved)
                found.files.append(path)
                found.from_folders |= set() if is_file else {path}
    return found


def _inside(argument: str, recursive: bool, found: Found) -> list[Path]:
    """The images of a folder or a glob, which the shell of Windows leaves to the program."""
    if not os.path.isdir(argument):
        files = [Path(match) for match in glob.glob(argument, recursive=True)]
    else:
        files = _walk(argument, recursive, found)
    images = [path for path in files if _looks_like_image(path)]
    found.broken_links += [str(path) for path in files if _is_named_as_image(path) and _is_broken_link(path)]
    found.other_suffixes.update(s for path in files if (s := path.suffix.lower()) in OTHER_SUFFIXES and path.is_file())
    return sorted(images, key=natural_order)


def _walk(top: str, recursive: bool, found: Found) -> list[Path]:
    files: list[Path] = []

    def note(error: OSError) -> None:
        if str(error.filename) == top:
            reason = error.strerror or type(error).__name__
            raise InvalidInputError(top, f"cannot be opened ({reason}).") from error
        found.closed_folders.append(str(error.filename))

    for folder, _, names in os.walk(top, onerror=note):
        files += [Path(folder, name) for name in names]
        if not recursive:
            break
    return files


def _looks_like_image(path: Path) -> bool:
    return _is_named_as_image(path) and path.is_file()


def _is_named_as_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _is_broken_link(path: Path) -> bool:
    """A link to what is not there, or to itself."""
    return path.is_symlink() and not os.path.exists(path)


def is_image_url(url: str) -> bool:
    """Whether an address may be an image: its path says so, or says nothing."""
    suffix = Path(urlsplit(url).path).suffix.lower()
    return not suffix or suffix in SUFFIXES


def passed_over(found: Found, animations: Sequence[Path]) -> str:
    """What was in the folders and is not judged, in one line; "" if there is nothing of the kind."""
    said = []
    if animations:
        said.append(f"{len(animations)} animation{'s' if len(animations) > 1 else ''} ({animations[0].name}, ...)")
    if found.other_suffixes:
        said.append(_counted(found.other_suffixes))
    if found.closed_folders:
        count = len(found.closed_folders)
        folders = "1 folder" if count == 1 else f"{count} folders"
        said.append(f"{folders} that cannot be opened ({', '.join(found.closed_folders[:5])})")
    if found.broken_links:
        count = len(found.broken_links)
        said.append(f"{count} broken link{'s' if count > 1 else ''} ({', '.join(found.broken_links[:5])})")
    return f"Not looked at: {'; '.join(said)}." if said else ""


def _counted(suffixes: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())


def _suffixes() -> str:
    return " ".join(f"*{suffix}" for suffix in SUFFIXES)


def natural_order(path: Path) -> list[tuple[int, int | str]]:
    """image2 before image10."""
    parts = re.split(r"([0-9]+)", str(path).casefold())
    return [(0, int(part)) if part.isdecimal() and part.isascii() else (1, part) for part in parts if part]
