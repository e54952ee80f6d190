"""Image files to uint8 arrays, and the prompt that ComfyUI saved with them.

PNG, JPEG and WebP are read, AVIF where this Pillow has it; the content decides, not the name. EXIF orientation
is applied. More than 8 bits per channel become 8, as everywhere in ComfyUI, and that is noted. An animation is
refused, because nobody could say which of its frames was judged. Colour profiles are not applied: ComfyUI's
LoadImage does not either, and the same file must be the same pixels in both.
"""

from __future__ import annotations

import glob
import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError, features

from ..errors import InvalidInputError

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
MAX_PROMPT_NODES = 10_000
_EIGHT_BITS = {"L": "L", "LA": "RGBA", "1": "L", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"}
_GREY_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_PNG_DEPTH_AT = 24
"""Offset of the bit depth: signature 8, chunk header 8, width 4, height 4 (PNG specification, IHDR)."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One file. ``pixels`` (H, W, C) uint8 with 1, 3 or 4 channels; ``prompt`` "" where none was found.

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
        raise _refused(path, f"is no {_spoken(FORMATS)} image.") from error
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
    prompt, why_not = _saved_prompt(image)
    deep = _has_16_bits(path, image)
    turned = ImageOps.exif_transpose(image)
    pixels = _to_8_bits(path, turned)
    return Picture(pixels, prompt, why_not, ("reduced from 16 to 8 bits per channel",) if deep else ())


def _to_8_bits(path: Path, image: Image.Image) -> Pixels:
    if image.mode in _GREY_16:
        values = np.asarray(image).astype(np.int64)
        return np.clip((values * 255 + 32_767) // 65_535, 0, 255).astype(np.uint8)[:, :, None]
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in _EIGHT_BITS:
        see_through = image.mode in ("RGB", "L", "1") and "transparency" in image.info
        image = image.convert("RGBA" if see_through else _EIGHT_BITS[image.mode])
    else:
        raise _refused(path, f"holds pixels of the kind {image.mode}, which is not supported. Save it as RGB.")
    pixels = np.array(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


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


# --- the prompt that ComfyUI saved --------------------------------------------------------------------

Graph = Mapping[str, Mapping[str, Any]]
_TEXTS = ("text", "prompt", "positive", "string", "value")
"""Inputs of one text, in the order in which they are believed."""
_PAIRS = (("text_g", "text_l"), ("t5xxl", "clip_l"), ("clip_g", "clip_l"))
"""Encoders with a text for each of their models: where they differ, both are said."""
_UNSAVED = "its metadata holds no ComfyUI prompt"


def _saved_prompt(image: Image.Image) -> tuple[str, str]:
    """(prompt, "") or ("", why there is none)."""
    saved = getattr(image, "text", image.info).get("prompt")
    if not isinstance(saved, str):
        return "", _UNSAVED
    try:
        graph = json.loads(saved)
    except (ValueError, RecursionError):
        return "", "its metadata holds a prompt that is no JSON"
    return prompt_of(graph)


def prompt_of(graph: Any) -> tuple[str, str]:
    """The positive prompt of an API graph as ComfyUI saves it, or ("", the reason why there is none).

    Followed from each sampler's positive conditioning to the texts that were encoded. Where that leads to
    nothing, to a text that a node computed, or to different texts, none is claimed: judging an image against
    another image's prompt would be worse than judging it without one.
    """
    if not isinstance(graph, dict) or len(graph) > MAX_PROMPT_NODES:
        return "", _UNSAVED
    nodes: Graph = {str(name): node for name, node in graph.items() if isinstance(node, dict)}
    starts = [link for name in nodes for link in _positive_links(nodes, name)]
    texts: dict[str, None] = {}
    for start in starts:
        found = _encoded_texts(nodes, start, set())
        if found is None:
            return "", "the prompt was computed inside the workflow, and the saved graph does not hold the result"
        texts.update(dict.fromkeys(found))
    if not texts:
        return "", "no prompt could be followed from a sampler in its saved graph"
    if len(texts) > 1:
        return "", f"its saved graph has {len(texts)} different prompts, and does not tell which made this image"
    return next(iter(texts)), ""


def _inputs(nodes: Graph, name: str) -> Mapping[str, Any]:
    inputs = nodes.get(name, {}).get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int)


def _positive_links(nodes: Graph, name: str) -> list[list[Any]]:
    """Where a sampler, or the guider of one, gets its positive conditioning; nothing for any other node."""
    inputs = _inputs(nodes, name)
    is_sampler = any(word in str(nodes[name].get("class_type")) for word in ("Sampler", "Guider"))
    if not (is_sampler or (_is_link(inputs.get("model")) and "positive" in inputs)):
        return []
    return [inputs[key] for key in ("positive", "conditioning", "cond1") if _is_link(inputs.get(key))]


def _encoded_texts(nodes: Graph, link: list[Any], seen: set[str]) -> list[str] | None:
    """The texts behind a conditioning; ``None`` where one of them is not in the graph."""
    name = str(link[0])
    if name in seen or "ZeroOut" in str(nodes.get(name, {}).get("class_type")):
        return []
    seen.add(name)
    inputs = _inputs(nodes, name)
    upstream = _conditionings(inputs, link[1])
    if upstream:
        found = [_encoded_texts(nodes, each, seen) for each in upstream]
        known = [texts for texts in found if texts is not None]
        return [text for texts in known for text in texts] if len(known) == len(found) else None
    return _own_text(nodes, inputs)


def _conditionings(inputs: Mapping[str, Any], slot: Any) -> list[list[Any]]:
    """The conditionings that a node passes on: of a positive and a negative one, that of the slot asked for."""
    links = {key: value for key, value in inputs.items() if _is_link(value)}
    if "positive" in links and "negative" in links:
        return [links["negative" if slot == 1 else "positive"]]
    return [value for key, value in links.items() if key.startswith(("conditioning", "cond", "positive"))]


def _own_text(nodes: Graph, inputs: Mapping[str, Any]) -> list[str] | None:
    for pair in _PAIRS:
        if all(key in inputs for key in pair):
            return _joined([_text(nodes, inputs[key]) for key in pair])
    given = next((inputs[key] for key in _TEXTS if key in inputs), None)
    return [] if given is None else _joined([_text(nodes, given)])


def _joined(texts: list[str | None]) -> list[str] | None:
    known = [text.strip() for text in texts if text is not None]
    if len(known) < len(texts):
        return None
    distinct = list(dict.fromkeys(text for text in known if text))
    return ["\n".join(distinct)] if distinct else []


def _text(nodes: Graph, value: Any) -> str | None:
    """A text of the graph: written into the node, or into one that holds nothing else (a primitive)."""
    if isinstance(value, str):
        return value
    if not _is_link(value):
        return None
    held = list(_inputs(nodes, str(value[0])).values())
    return held[0] if len(held) == 1 and isinstance(held[0], str) else None
