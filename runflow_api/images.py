"""Float arrays to encoded bytes to data URIs, within the API's limits.

The encoded image decodes to exactly the pixels that ComfyUI's SaveImage would write for the same tensor
(``nodes.py``: clip(255 * x, 0, 255) truncated to uint8).
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .errors import InvalidInputError

MAX_URL_CHARACTERS = 12_000_000
"""Longest ``generated_image_url`` (reference page "Submit an image for quality evaluation")."""
MAX_ASSET_BYTES = 52_428_800
WEBP_MAX_SIDE = 16_383
"""Widest and tallest image that the WebP format can hold."""
LOSSY_QUALITIES = (95, 90, 80, 65, 50, 30)
ROWS_AT_ONCE = 64
"""Rows converted at a time: the float copy stays small enough for the processor's cache."""

FloatImage = npt.NDArray[np.floating[Any]]
PixelImage = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class EncodedImage:
    """An image as it travels. ``loss`` says in words what was given up, empty if nothing was."""

    data: bytes
    mime_type: str
    loss: str = ""

    @property
    def extension(self) -> str:
        return self.mime_type.removeprefix("image/")

    @property
    def fits_data_uri(self) -> bool:
        return data_uri_length(self) <= MAX_URL_CHARACTERS


class Picture:
    """One image on its way: what it was given as and, made once, its uint8 pixels and their hash.

    ``array`` is a float (H, W, C) array from 0 to 1, or uint8. Safe to use from several threads.
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array
        self._making = threading.Lock()
        self._made: tuple[PixelImage, bool] | None = None
        self._hash = ""

    @property
    def pixels(self) -> PixelImage:
        return self._make()[0]

    @property
    def is_finite(self) -> bool:
        """Whether every value is a number."""
        return self._make()[1]

    @property
    def hash(self) -> str:
        pixels = self.pixels
        with self._making:
            self._hash = self._hash or pixel_hash(pixels)
            return self._hash

    def forget(self) -> None:
        """Let go of the pixels of an image that has been sent; its hash is kept."""
        assert self._hash
        with self._making:
            self.array, self._made = np.zeros((1, 1, 3), np.uint8), None

    def _make(self) -> tuple[PixelImage, bool]:
        with self._making:
            if self._made is None:
                self._made = _convert(self.array)
            return self._made


def check_image(image: npt.NDArray[Any], field: str = "image") -> None:
    """Refuse what is not an image: anything but (height, width, channels) with 1, 3 or 4 channels."""
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise InvalidInputError(
            field,
            f"has the shape {tuple(image.shape)}; an image is (height, width, channels) with 1, 3 or 4 channels.",
        )
    if 0 in image.shape:
        raise InvalidInputError(field, f"is empty: its shape is {tuple(image.shape)}.")
    if not (image.dtype == np.uint8 or np.issubdtype(image.dtype, np.floating)):
        raise InvalidInputError(field, f"holds {image.dtype}; an image contains floats from 0 to 1, or uint8.")


def to_pixels(image: npt.NDArray[Any]) -> PixelImage:
    """Float (H, W, C), 0 to 1, to uint8 exactly as SaveImage does it; uint8 passes through.

    Source: ComfyUI ``nodes.py``, ``SaveImage.save_images``.
    """
    return _convert(image)[0]


def _convert(image: npt.NDArray[Any]) -> tuple[PixelImage, bool]:
    """The uint8 pixels, and whether every value was a number: a sum meets every NaN and infinity along the way."""
    if image.dtype == np.uint8:
        return image, True
    pixels, total = np.empty(image.shape, np.uint8), 0.0
    summed = np.promote_types(image.dtype, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not a number is refused or judged elsewhere
        for top in range(0, image.shape[0], ROWS_AT_ONCE):
            rows = image[top : top + ROWS_AT_ONCE] * image.dtype.type(255)
            total += float(rows.sum(dtype=summed))
            np.clip(rows, 0, 255, out=rows)
            pixels[top : top + ROWS_AT_ONCE] = rows
        is_finite = bool(np.isfinite(total)) or bool(np.isfinite(image).all())  # large numbers have an infinite sum
    return pixels, is_finite


def to_pil(pixels: PixelImage) -> Image.Image:
    """uint8 (H, W, C) with 1, 3 or 4 channels as a Pillow image of mode L, RGB or RGBA."""
    # Pillow refuses a channel axis of 1.
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def pixel_hash(pixels: PixelImage) -> str:
    """SHA-256 of the shape and the uint8 values, never of an encoding: encoders change."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def encode_lossless(pixels: PixelImage) -> EncodedImage:
    """uint8 (H, W, C) to WebP, or to PNG where WebP cannot: grey, and sides beyond 16,383 px.

    Method 0 at quality 0 is WebP's fastest lossless effort and loses nothing; ``exact`` keeps the colour
    of transparent pixels.
    """
    picture = to_pil(pixels)
    buffer = io.BytesIO()
    if picture.mode == "L" or max(picture.size) > WEBP_MAX_SIDE:
        picture.save(buffer, "PNG", compress_level=1)
        return EncodedImage(buffer.getvalue(), "image/png")
    picture.save(buffer, "WEBP", lossless=True, quality=0, method=0, exact=True)
    return EncodedImage(buffer.getvalue(), "image/webp")


def encode_lossy(pixels: PixelImage, limit: int = MAX_URL_CHARACTERS) -> EncodedImage:
    """The best lossy image whose data URI has at most ``limit`` characters, halved in size at the last."""
    picture = to_pil(pixels)
    while True:
        for quality in LOSSY_QUALITIES:
            encoded = _encode_at(picture, quality, pixels.shape)
            if data_uri_length(encoded) <= limit:
                return encoded
        picture = picture.reduce(2)


def data_uri(encoded: EncodedImage) -> str:
    return f"data:{encoded.mime_type};base64,{base64.b64encode(encoded.data).decode('ascii')}"


def data_uri_length(encoded: EncodedImage) -> int:
    """Characters of the data URI, without making it."""
    return len(f"data:{encoded.mime_type};base64,") + 4 * ((len(encoded.data) + 2) // 3)


def _encode_at(picture: Image.Image, quality: int, shape: tuple[int, ...]) -> EncodedImage:
    buffer = io.BytesIO()
    webp = max(picture.size) <= WEBP_MAX_SIDE
    if webp:
        picture.save(buffer, "WEBP", quality=quality, method=2)
    else:
        picture.convert("RGB").save(buffer, "JPEG", quality=quality)
    size = f"{picture.width}×{picture.height}"
    smaller = f", reduced from {shape[1]}×{shape[0]} to {size} px" if picture.size != (shape[1], shape[0]) else ""
    loss = f"judged on a lossy copy (quality {quality}{smaller}): the image is too large to be sent losslessly"
    return EncodedImage(buffer.getvalue(), "image/webp" if webp else "image/jpeg", loss)
