from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.pictures import picture

from runflow_api import images
from runflow_api.errors import InvalidInputError


def as_save_image_would(image: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """ComfyUI 0.3.75, nodes.py, SaveImage: 255 times, clipped, truncated."""
    return np.clip(255.0 * image, 0, 255).astype(np.uint8)


def decoded(encoded: images.EncodedImage) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(encoded.data)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_is_sent_decodes_to_what_save_image_would_write(dtype: type, channels: int) -> None:
    image = (picture(1, 129, 67, channels) * 1.4 - 0.2).astype(dtype)  # also outside 0 to 1
    expected = as_save_image_would(image)
    pixels = images.to_pixels(image)
    assert np.array_equal(pixels, expected)
    got = decoded(images.encode_lossless(pixels))
    assert np.array_equal(got, expected[:, :, 0] if channels == 1 else expected)


def test_grey_stays_grey_and_colour_is_webp() -> None:
    grey = images.encode_lossless(images.to_pixels(picture(channels=1)))
    assert (grey.mime_type, Image.open(io.BytesIO(grey.data)).mode) == ("image/png", "L")
    assert images.encode_lossless(images.to_pixels(picture())).mime_type == "image/webp"


def test_the_colour_of_transparent_pixels_survives() -> None:
    pixels = images.to_pixels(picture(2, 64, 64, 4))
    pixels[:, :, 3] = 0
    assert np.array_equal(decoded(images.encode_lossless(pixels)), pixels)


def test_a_side_beyond_webp_goes_as_png() -> None:
    pixels = np.zeros((2, images.WEBP_MAX_SIDE + 1, 3), np.uint8)
    encoded = images.encode_lossless(pixels)
    assert encoded.mime_type == "image/png"
    assert np.array_equal(decoded(encoded), pixels)


def test_every_stored_level_survives_the_way_through_a_tensor() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    tensor = levels.astype(np.float32) / 255.0  # as ComfyUI's LoadImage does
    assert np.array_equal(images.to_pixels(tensor), as_save_image_would(tensor))


def test_a_data_uri_holds_the_bytes_and_its_length_is_known_before() -> None:
    encoded = images.EncodedImage(b"\x00\x01\x02\x03", "image/webp")
    uri = images.data_uri(encoded)
    assert uri == "data:image/webp;base64," + base64.b64encode(encoded.data).decode()
    assert images.data_uri_length(encoded) == len(uri)


def test_lossy_is_a_last_resort_that_fits_and_says_so() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    encoded = images.encode_lossy(noise, limit=9_000)
    assert images.data_uri_length(encoded) <= 9_000
    assert "lossy copy" in encoded.loss
    assert "reduced from 400×400" in encoded.loss


def test_the_hash_is_of_the_pixels_and_their_shape_not_of_an_encoding() -> None:
    pixels = images.to_pixels(picture())
    assert images.pixel_hash(pixels) == images.pixel_hash(pixels.copy())
    assert images.pixel_hash(pixels) != images.pixel_hash(np.ascontiguousarray(pixels.transpose(1, 0, 2)))
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    assert images.pixel_hash(pixels) != images.pixel_hash(changed)
    assert images.pixel_hash(pixels[:, ::-1]) == images.pixel_hash(np.ascontiguousarray(pixels[:, ::-1]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_is_seen(bad: float) -> None:
    image = picture()
    assert images.Picture(image).is_finite
    image[5, 7, 1] = bad
    assert not images.Picture(image).is_finite


def test_huge_but_finite_values_are_finite() -> None:
    for kind in (np.float16, np.float32, np.float64):
        assert images.Picture(np.full((64, 64, 3), np.finfo(kind).max)).is_finite


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 2), (4, 4, 5), (0, 4, 3), (4, 0, 3), (1, 4, 4, 3)])
def test_what_is_no_image_is_refused_by_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="photo: "):
        images.check_image(np.zeros(shape, np.float32), "photo")


def test_integers_other_than_uint8_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="int64"):
        images.check_image(np.zeros((4, 4, 3), np.int64))
