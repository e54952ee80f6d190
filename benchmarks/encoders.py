"""Lossless encoders that could carry an image to the API, those that are installed.

``accepted``: whether the API is known to take it. Its page names no list of types, but what ComfyUI and browsers
write (PNG, WebP) is safe; a format that most decoders do not know may cost a person the verdict.
"""

from __future__ import annotations

import importlib.util
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from measure import ROOT  # noqa: F401  (puts the repository on the path)
from pictures import Pixels
from PIL import Image

from runflow_api import images


@dataclass(frozen=True)
class Encoder:
    name: str
    encode: Callable[[Pixels], bytes]
    decode: Callable[[bytes], Pixels]
    accepted: bool = True
    package: str = "Pillow"


def available() -> list[Encoder]:
    """Pillow's and our own, then those of packages that are installed here."""
    found = [*_pillow(), *_numpy_png("zlib", "Python")]
    for package, build in _OPTIONAL.items():
        if importlib.util.find_spec(package) is not None:
            found += build()
    return found


def by_pillow(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _pillow() -> list[Encoder]:
    def saved(kind: str, **options: Any) -> Callable[[Pixels], bytes]:
        def encode(pixels: Pixels) -> bytes:
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, kind, **options)
            return buffer.getvalue()

        return encode

    def webp(method: int, quality: int) -> Callable[[Pixels], bytes]:
        return saved("WEBP", lossless=True, method=method, quality=quality, exact=True)

    encoders = {
        "this pack": lambda pixels: images.encode_lossless(pixels).data,
        "PNG level 6 (ComfyUI)": saved("PNG"),
        "PNG level 1": saved("PNG", compress_level=1),
        "PNG level 3": saved("PNG", compress_level=3),
        "PNG level 1, run lengths": saved("PNG", compress_level=1, compress_type=3),
        "PNG level 1, Huffman only": saved("PNG", compress_level=1, compress_type=2),
        "WebP method 0, quality 30": webp(0, 30),
        "WebP method 1, quality 0": webp(1, 0),
        "WebP method 2, quality 0": webp(2, 0),
    }
    return [Encoder(name, encode, by_pillow) for name, encode in encoders.items()]


# --- a PNG of numpy and a deflate library ---------------------------------------------------------


def _numpy_png(library: str, package: str) -> list[Encoder]:
    compress = _COMPRESS[library]()
    return [
        Encoder(f"PNG by numpy, {name}", lambda p, c=call: _png(_averaged(p), p, c), by_pillow, True, package)
        for name, call in compress.items()
    ]


def _averaged(pixels: Pixels) -> Pixels:
    """PNG's filter 3 on every row: the difference to the mean of the left and the upper neighbour."""
    height, width, channels = pixels.shape
    values = pixels.reshape(height, width * channels)
    left, up = np.zeros_like(values), np.zeros_like(values)
    left[:, channels:], up[1:] = values[:, :-channels], values[:-1]
    rows = np.empty((height, width * channels + 1), np.uint8)
    rows[:, 0] = 3
    np.subtract(values, (left >> 1) + (up >> 1) + (left & up & 1), out=rows[:, 1:])
    return rows


def _png(rows: Pixels, pixels: Pixels, compress: Callable[[Pixels], bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(kind + data))))

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _deflater(module: Any, level: int, strategy: int) -> Callable[[Pixels], bytes]:
    def compress(rows: Pixels) -> bytes:
        made = module.compressobj(level, module.DEFLATED, 15, 8, strategy)
        return bytes(made.compress(rows.data) + made.flush())

    return compress


def _zlib() -> dict[str, Callable[[Pixels], bytes]]:
    return {
        "zlib Huffman only": _deflater(zlib, 1, zlib.Z_HUFFMAN_ONLY),
        "zlib run lengths": _deflater(zlib, 1, zlib.Z_RLE),
    }


def _zlib_ng() -> dict[str, Callable[[Pixels], bytes]]:
    from zlib_ng import zlib_ng

    return {"zlib-ng Huffman only": _deflater(zlib_ng, 1, 2)}


def _isal() -> dict[str, Callable[[Pixels], bytes]]:
    from isal import isal_zlib

    return {"ISA-L level 1": lambda rows: bytes(isal_zlib.compress(rows, 1))}


def _libdeflate() -> dict[str, Callable[[Pixels], bytes]]:
    import deflate

    return {"libdeflate level 1": lambda rows: bytes(deflate.zlib_compress(rows, 1))}


_COMPRESS = {"zlib": _zlib, "zlib-ng": _zlib_ng, "isal": _isal, "libdeflate": _libdeflate}


# --- other packages -------------------------------------------------------------------------------


def _opencv() -> list[Encoder]:
    import cv2

    def png(*options: int) -> Callable[[Pixels], bytes]:
        return lambda pixels: cv2.imencode(".png", pixels[:, :, ::-1], list(options))[1].tobytes()

    huffman = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY)
    encoders = {"PNG": png(), "PNG level 1, Huffman only": png(*huffman)}
    return [Encoder(name, encode, by_pillow, True, "OpenCV") for name, encode in encoders.items()]


def _fpng() -> list[Encoder]:
    import fpng

    return [Encoder("PNG", fpng.from_ndarray, by_pillow, True, "fpng")]


def _imagecodecs() -> list[Encoder]:
    import imagecodecs as codecs

    def jxl(effort: int) -> Callable[[Pixels], bytes]:
        return lambda pixels: codecs.jpegxl_encode(pixels, lossless=True, effort=effort, numthreads=1)

    return [
        Encoder("PNG level 1", lambda p: codecs.png_encode(p, level=1), by_pillow, True, "imagecodecs"),
        Encoder("QOI", codecs.qoi_encode, codecs.qoi_decode, False, "imagecodecs"),
        Encoder("JPEG-LS", codecs.jpegls_encode, codecs.jpegls_decode, False, "imagecodecs"),
        Encoder("JPEG XL effort 1", jxl(1), codecs.jpegxl_decode, False, "imagecodecs"),
        Encoder("JPEG XL effort 2", jxl(2), codecs.jpegxl_decode, False, "imagecodecs"),
    ]


_OPTIONAL: dict[str, Callable[[], list[Encoder]]] = {
    "zlib_ng": lambda: _numpy_png("zlib-ng", "zlib-ng"),
    "isal": lambda: _numpy_png("isal", "isal"),
    "deflate": lambda: _numpy_png("libdeflate", "deflate"),
    "cv2": _opencv,
    "fpng": _fpng,
    "imagecodecs": _imagecodecs,
}
