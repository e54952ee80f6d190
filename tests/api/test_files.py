"""Image files as people have them: formats, orientation, depth, broken ones; and which files are taken."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from runflow_api import image_files
from runflow_api.errors import InvalidInputError
from runflow_api.settings.load_image import Decoder

PIXELS = np.random.default_rng(3).integers(0, 256, (24, 40, 3), dtype=np.uint8)
PHOTOS = Path(__file__).resolve().parents[2] / "example_workflows" / "photos"
avif = pytest.mark.skipif("AVIF" not in image_files.FORMATS, reason="this Pillow has no AVIF")


def saved(path: Path, pixels: Any = PIXELS, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InvalidInputError) as caught:
        image_files.read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


# --- formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_lossless_files_give_their_very_pixels(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    assert np.array_equal(image_files.read(path).pixels, PIXELS)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", pytest.param("a.avif", marks=avif)])
def test_lossy_files_are_read(tmp_path: Path, name: str) -> None:
    flat = np.full((32, 48, 3), (200, 30, 90), np.uint8)
    picture = image_files.read(saved(tmp_path / name, flat, quality=95))
    assert picture.pixels.shape == flat.shape
    assert np.abs(picture.pixels.astype(int) - flat).mean() < 4


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    assert image_files.read(saved(tmp_path / "a.jpg", format="PNG")).pixels.shape == PIXELS.shape


def test_a_photograph_is_read() -> None:
    assert image_files.read(PHOTOS / "coffee.jpg").pixels.shape == (400, 600, 3)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_orientation_of_a_camera_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    corner = np.zeros((16, 32, 3), np.uint8)
    corner[:8, :8] = 255
    pixels = image_files.read(saved(tmp_path / "a.jpg", corner, exif=exif, quality=100)).pixels
    assert pixels.shape[:2] == ((16, 32) if orientation in (1, 3) else (32, 16))
    row, column = {1: (0, 0), 3: (-1, -1), 6: (0, -1), 8: (-1, 0)}[orientation]
    assert pixels[row, column].min() > 200


def test_a_jpeg_with_a_second_picture_behind_it_is_no_animation(tmp_path: Path) -> None:
    first, second = Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1])
    first.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[second])
    assert image_files.read(tmp_path / "phone.jpg").pixels.shape == PIXELS.shape


def load_image(path: Path) -> np.ndarray:
    """What ComfyUI 0.3.75's Load Image makes of a file, and Save Image of that: its own operations, in their order."""
    with Image.open(path) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about palettes with transparency
        image = ImageOps.exif_transpose(opened)
        if image.mode == "I":
            image = image.point(lambda value: value * (1 / 255))
        floats = np.array(image.convert("RGB")).astype(np.float32) / 255.0
    return np.clip(255.0 * floats, 0, 255).astype(np.uint8)


def with_alpha() -> Image.Image:
    image = Image.fromarray(PIXELS)
    image.putalpha(Image.fromarray(PIXELS[:, :, 0]))
    return image


KINDS: dict[str, Callable[[], Image.Image]] = {
    "a.png": lambda: Image.fromarray(PIXELS),
    "grey.png": lambda: Image.fromarray(PIXELS[:, :, 0]),
    "alpha.png": with_alpha,
    "alpha.webp": with_alpha,
    "grey_alpha.png": lambda: with_alpha().convert("LA"),
    "palette.png": lambda: Image.fromarray(PIXELS).quantize(16),
    "palette_alpha.png": lambda: with_alpha().quantize(16),
    "bits.png": lambda: Image.fromarray(PIXELS).convert("1"),
    "print.jpg": lambda: Image.fromarray(PIXELS).convert("CMYK"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_the_very_pixels_that_load_image_makes_of_it(tmp_path: Path, name: str) -> None:
    KINDS[name]().save(tmp_path / name)
    pixels = image_files.read(tmp_path / name).pixels
    assert pixels.shape[2] == 3
    assert np.array_equal(pixels, load_image(tmp_path / name))


def test_a_transparent_colour_is_shown_as_load_image_shows_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", transparency=(1, 2, 3))
    assert np.array_equal(image_files.read(path).pixels, load_image(path))


@pytest.mark.parametrize("decoder", Decoder)
def test_16_bits_of_grey_are_reduced_and_that_is_noted(tmp_path: Path, decoder: Decoder) -> None:
    deep = np.array([[0, 128, 300, 32_900, 65_535]], np.uint16)
    picture = image_files.read(saved(tmp_path / "deep.png", deep), decoder=decoder)
    assert picture.notes == (image_files.REDUCED,)
    assert picture.pixels[0, :, 0].tolist() == [0, 0, 1, 128, 255], "ComfyUI 0.3.75 makes 0, 128, 255, 255, 255 of it"


@pytest.mark.parametrize(("name", "depends"), [("a.png", False), ("palette.png", False), ("grey.png", True),
                                               ("print.jpg", True), ("alpha.webp", True)])  # fmt: skip
def test_what_depends_on_the_decoder_says_so(tmp_path: Path, name: str, depends: bool) -> None:
    pytest.importorskip("av")
    KINDS[name]().save(tmp_path / name)
    pillow, pyav = (image_files.read(tmp_path / name, decoder=decoder) for decoder in Decoder)
    assert pillow.depends_on_decoder == pyav.depends_on_decoder == depends
    assert np.array_equal(pillow.pixels, pyav.pixels) != depends


def test_16_bits_of_colour_are_noted_too(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(png(2, 2, bits=16, colour=2, rows=b"\x00" + b"\x80\x00" * 6))
    picture = image_files.read(path)
    assert picture.pixels.shape == (2, 2, 3)
    assert picture.notes == (image_files.REDUCED,)


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_an_animation_is_refused_with_its_number_of_frames(tmp_path: Path, name: str) -> None:
    frames = [Image.fromarray(np.roll(PIXELS, n, axis=1)) for n in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    assert "3 frames" in refusal(tmp_path / name)


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF"])
def test_another_format_is_refused(tmp_path: Path, format: str) -> None:
    assert "is not a PNG, JPEG" in refusal(saved(tmp_path / "a.png", format=format))


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX has them")
def test_a_file_of_another_user_is_not_called_damaged(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png")
    path.chmod(0)
    was = os.geteuid()
    if was == 0:  # root may read everything
        os.seteuid(65534)
    try:
        said = refusal(path)
    finally:
        if was == 0:
            os.seteuid(0)
    assert "cannot be opened (Permission denied)" in said
    assert "damaged" not in said


@pytest.mark.parametrize("side", [12_000, 60_000])
@pytest.mark.slow
def test_a_decompression_bomb_is_refused_with_the_limit(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, bits=1, colour=0, rows=b"\x00" + bytes(side // 8)))
    assert path.stat().st_size < 10_000_000
    assert str(image_files.MAX_PIXELS) in refusal(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_broken_file_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = saved(tmp_path / name, np.tile(PIXELS, (8, 8, 1)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "[INVALID_INPUT]" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\xff" * 60, b"RIFF\xff\xff\xff\xffWEBP"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    refusal(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nothing.png")


def png(width: int, height: int, *, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG with ``height`` equal rows, whatever it claims to be; compressed as it is made, so that it stays small."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(rows) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# --- which files --------------------------------------------------------------------------------------


def test_a_folder_gives_its_images_in_natural_order(tmp_path: Path) -> None:
    for name in ("b10.png", "b2.PNG", "a.jpeg", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "c.webp").write_bytes(b"")
    assert [path.name for path in image_files.find([str(tmp_path)]).files] == ["a.jpeg", "b2.PNG", "b10.png"]
    assert [path.name for path in image_files.find([str(tmp_path)], recursive=True).files][-1] == "c.webp"


def test_globs_and_files_together_give_each_file_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "odd.name"):
        (tmp_path / name).write_bytes(b"")
    given = [str(tmp_path / "b.png"), str(tmp_path / "*.png"), str(tmp_path / "odd.name")]
    assert [path.name for path in image_files.find(given).files] == ["b.png", "a.png", "odd.name"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").write_bytes(b"")
    assert [path.name for path in image_files.find([str(tmp_path / "a[1].png")]).files] == ["a[1].png"]


def test_an_argument_that_names_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="does not match any image"):
        image_files.find([str(tmp_path / "*.png")])


def test_what_a_folder_has_beside_images_that_are_read_is_counted(tmp_path: Path) -> None:
    for name in ("a.png", "b.gif", "c.GIF", "d.tiff", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    found = image_files.find([str(tmp_path)])
    assert [path.name for path in found.files] == ["a.png"]
    assert found.other_suffixes == {".gif": 2, ".tiff": 1}
    assert image_files.passed_over(found, []) == "Not looked at: 2 .gif, 1 .tiff."


def test_a_folder_of_other_pictures_only_says_which(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b"")
    with pytest.raises(InvalidInputError, match=r"does not match any image.*1 \.gif are not read"):
        image_files.find([str(tmp_path)])


def test_a_folder_that_cannot_be_opened_is_refused_and_one_below_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.png").write_bytes(b"")
    scandir = os.scandir

    def without_rights(path: str) -> Any:  # root, as which tests may run, is refused nothing
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", without_rights)
    found = image_files.find([str(tmp_path)], recursive=True)
    assert found.closed_folders == [str(tmp_path / "locked")]
    assert "1 folder that cannot be opened" in image_files.passed_over(found, [])
    with pytest.raises(InvalidInputError, match=r"cannot be opened \(Permission denied\)"):
        image_files.find([str(tmp_path / "locked")])


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
def test_a_broken_link_in_a_folder_is_said_and_none_that_is_named_is_passed_over(tmp_path: Path) -> None:
    """As where a disk is not mounted: a night's folder must not pass without them."""
    saved(tmp_path / "a.png")
    for name, leads_to in (("gone.png", "nowhere.png"), ("round.jpg", "round.jpg"), ("well.png", "a.png")):
        (tmp_path / name).symlink_to(leads_to)
    found = image_files.find([str(tmp_path)])
    assert [path.name for path in found.files] == ["a.png"], "a link to it is the same file"
    assert "2 broken links" in image_files.passed_over(found, [])
    with pytest.raises(InvalidInputError, match="is a broken link"):
        image_files.find([str(tmp_path / "gone.png")])
