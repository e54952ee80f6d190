"""Image files as people have them: formats, orientation, depth, broken ones, and the prompt that ComfyUI saved."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runflow_api.cli import image_files
from runflow_api.errors import InvalidInputError

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


def test_grey_stays_one_channel_and_transparency_stays(tmp_path: Path) -> None:
    grey = image_files.read(saved(tmp_path / "grey.png", PIXELS[:, :, 0])).pixels
    assert grey.shape == (24, 40, 1)
    see_through = np.dstack([PIXELS, PIXELS[:, :, 0]])
    assert np.array_equal(image_files.read(saved(tmp_path / "alpha.png", see_through)).pixels, see_through)


def test_palettes_and_print_colours_become_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    image.quantize(16).save(tmp_path / "palette.png")
    image.convert("CMYK").save(tmp_path / "print.jpg")
    image.convert("1").save(tmp_path / "bits.png")
    assert image_files.read(tmp_path / "palette.png").pixels.shape == PIXELS.shape
    assert image_files.read(tmp_path / "print.jpg").pixels.shape == PIXELS.shape
    assert set(np.unique(image_files.read(tmp_path / "bits.png").pixels)) == {0, 255}


def test_16_bits_of_grey_are_scaled_and_that_is_noted(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 257, 32_896, 65_535]], np.uint16)
    picture = image_files.read(saved(tmp_path / "deep.png", deep))
    assert picture.pixels[:, :, 0].tolist() == [[0, 0, 1, 128, 255]]
    assert picture.notes == ("reduced from 16 to 8 bits per channel",)


def test_16_bits_of_colour_are_noted_too(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(png(2, 2, bits=16, colour=2, rows=b"\x00" + b"\x80\x00" * 6))
    picture = image_files.read(path)
    assert picture.pixels.shape == (2, 2, 3)
    assert picture.notes == ("reduced from 16 to 8 bits per channel",)


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_an_animation_is_refused_with_its_number_of_frames(tmp_path: Path, name: str) -> None:
    frames = [Image.fromarray(np.roll(PIXELS, n, axis=1)) for n in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    assert "3 frames" in refusal(tmp_path / name)


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF"])
def test_another_format_is_refused(tmp_path: Path, format: str) -> None:
    assert "is no PNG, JPEG" in refusal(saved(tmp_path / "a.png", format=format))


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
    assert [path.name for path in image_files.find([str(tmp_path)])] == ["a.jpeg", "b2.PNG", "b10.png"]
    assert [path.name for path in image_files.find([str(tmp_path)], recursive=True)][-1] == "c.webp"


def test_globs_and_files_together_give_each_file_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "odd.name"):
        (tmp_path / name).write_bytes(b"")
    given = [str(tmp_path / "b.png"), str(tmp_path / "*.png"), str(tmp_path / "odd.name")]
    assert [path.name for path in image_files.find(given)] == ["b.png", "a.png", "odd.name"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").write_bytes(b"")
    assert [path.name for path in image_files.find([str(tmp_path / "a[1].png")])] == ["a[1].png"]


def test_an_argument_that_names_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="names no image"):
        image_files.find([str(tmp_path / "*.png")])


# --- the prompt that ComfyUI saved --------------------------------------------------------------------


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def graph(**more: Any) -> dict[str, Any]:
    return {
        "3": node("KSampler", model=["4", 0], positive=["6", 0], negative=["7", 0], seed=1),
        "4": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
        "6": node("CLIPTextEncode", text="a red cup", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
        **more,
    }


def test_a_png_of_comfyui_brings_its_prompt(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("prompt", json.dumps(graph()))
    info.add_text("workflow", "{}")
    assert image_files.read(saved(tmp_path / "a.png", pnginfo=info)).prompt == "a red cup"


def test_a_file_without_metadata_says_so(tmp_path: Path) -> None:
    picture = image_files.read(saved(tmp_path / "a.png"))
    assert (picture.prompt, picture.no_prompt) == ("", "its metadata holds no ComfyUI prompt")


FOLLOWED = {
    "a sampler": graph(),
    "through what changes a conditioning": graph(
        **{
            "3": node("KSampler", positive=["9", 0], negative=["9", 1]),
            "9": node("ControlNetApplyAdvanced", positive=["8", 0], negative=["7", 0]),
            "8": node("FluxGuidance", conditioning=["6", 0], guidance=3.5),
        }
    ),
    "a guider": {
        "1": node("SamplerCustomAdvanced", guider=["2", 0]),
        "2": node("BasicGuider", model=["4", 0], conditioning=["6", 0]),
        "6": node("CLIPTextEncode", text="a red cup"),
    },
    "a text of its own": graph(
        **{"6": node("CLIPTextEncode", text=["5", 0]), "5": node("PrimitiveStringMultiline", value="a red cup")}
    ),
    "the same text for both encoders": graph(
        **{"6": node("CLIPTextEncodeSDXL", text_g="a red cup", text_l="a red cup")}
    ),
    "two samplers with one prompt": graph(**{"10": node("KSamplerAdvanced", positive=["6", 0], negative=["7", 0])}),
    "an empty one beside it": graph(
        **{
            "3": node("KSampler", positive=["9", 0]),
            "9": node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["8", 0]),
            "8": node("CLIPTextEncode", text=" "),
        }
    ),
}


@pytest.mark.parametrize("saved_graph", FOLLOWED.values(), ids=FOLLOWED)
def test_the_positive_prompt_is_followed(saved_graph: dict[str, Any]) -> None:
    assert image_files.prompt_of(saved_graph) == ("a red cup", "")


NOT_FOLLOWED = {
    "no sampler": ({"6": node("CLIPTextEncode", text="a red cup")}, "no prompt could be followed"),
    "two prompts": (
        graph(**{"10": node("KSampler", positive=["11", 0]), "11": node("CLIPTextEncode", text="a face")}),
        "2 different prompts",
    ),
    "a computed text": (
        graph(**{"6": node("CLIPTextEncode", text=["5", 0]), "5": node("Join", a=["1", 0], b="x")}),
        "computed inside the workflow",
    ),
    "the loop's own text": (
        graph(
            **{
                "6": node("CLIPTextEncode", text=["5", 1]),
                "5": node("RunflowRegenerateStart", prompt="a red cup", seed=1),
            }
        ),
        "computed inside the workflow",
    ),
    "a circle": (
        {"3": node("KSampler", positive=["4", 0]), "4": node("Reroute", conditioning=["4", 0])},
        "no prompt could be followed",
    ),
    "no graph": ([], "no ComfyUI prompt"),
}


@pytest.mark.parametrize(("saved_graph", "why"), NOT_FOLLOWED.values(), ids=NOT_FOLLOWED)
def test_a_prompt_that_cannot_be_known_is_not_claimed(saved_graph: Any, why: str) -> None:
    prompt, no_prompt = image_files.prompt_of(saved_graph)
    assert prompt == ""
    assert why in no_prompt


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["1", "2", "positive"]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from("123"), inside, max_size=3),
    max_leaves=12,
)
nodes = st.fixed_dictionaries(
    {"class_type": st.sampled_from(["KSampler", "CLIPTextEncode", "X"])},
    optional={"inputs": st.dictionaries(st.sampled_from(["positive", "negative", "text", "conditioning"]), values)},
)


@given(st.dictionaries(st.sampled_from("1234"), nodes | values, max_size=4) | values)
def test_no_metadata_breaks_the_reading(saved_graph: Any) -> None:
    prompt, why_not = image_files.prompt_of(saved_graph)
    assert bool(prompt) != bool(why_not)
