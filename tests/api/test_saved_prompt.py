"""The prompt of a saved file: what its graph tells is read, the rest is said to be untold, never the negative one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runflow_api import image_files
from runflow_api.insight import saved_prompt

PIXELS = np.random.default_rng(3).integers(0, 256, (24, 40, 3), dtype=np.uint8)
FOX, UGLY = "a red fox in the snow", "ugly, deformed, lowres"


def saved(path: Path, pixels: Any = PIXELS, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


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
    assert (picture.prompt, picture.no_prompt) == ("", "its metadata does not contain a ComfyUI prompt")


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
    assert saved_prompt.of_graph(saved_graph) == ("a red cup", "")


NOT_FOLLOWED = {
    "no sampler": ({"6": node("CLIPTextEncode", text="a red cup")}, "no prompt could be traced"),
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
        "no prompt could be traced",
    ),
    "no graph": ([], "does not contain a ComfyUI prompt"),
}


@pytest.mark.parametrize(("saved_graph", "why"), NOT_FOLLOWED.values(), ids=NOT_FOLLOWED)
def test_a_prompt_that_cannot_be_known_is_not_claimed(saved_graph: Any, why: str) -> None:
    prompt, no_prompt = saved_prompt.of_graph(saved_graph)
    assert prompt == ""
    assert why in no_prompt


def encoded(**source: Any) -> dict[str, Any]:
    return graph(**{"6": node("CLIPTextEncode", text=["5", 0], clip=["4", 1]), "5": source})


OTHER_TEXT = {
    "described from a picture": encoded(class_type="WD14Tagger|pysssss", inputs={"image": ["8", 0]})
    | {"8": node("LoadImage", image="x.png")},
    "read from a file": encoded(**node("Load Text File", file_path="/x/p.txt")),
    "asked from a model": encoded(**node("OllamaGenerate", prompt="write me a prompt")),
    "chosen from a list": encoded(**node("Load Styles CSV", styles="cinematic")),
    "translated": encoded(**node("DeepTranslatorTextNode", text="eine Tasse")),
    "drawn at random": encoded(**node("Dynamic Prompt", text="{a|b}")),
    "changed by its encoder": graph(**{"6": node("CLIPTextEncode (NSP)", text="a __cup__", seed=1, clip=["4", 1])}),
    "translated by its encoder": graph(
        **{"6": node("TranslateAndEncode", text="eine Tasse", from_translate="auto", clip=["4", 1])}
    ),
}


@pytest.mark.parametrize("saved_graph", OTHER_TEXT.values(), ids=OTHER_TEXT)
def test_what_goes_into_a_processor_is_not_taken_for_what_comes_out(saved_graph: dict[str, Any]) -> None:
    prompt, no_prompt = saved_prompt.of_graph(saved_graph)
    assert prompt == ""
    assert "computed inside the workflow" in no_prompt


@pytest.mark.parametrize("kind", ["Reroute", "Display Any (rgthree)", "Show Text", "Reroute (rgthree)"])
def test_what_only_shows_or_leads_on_a_text_is_passed(kind: str) -> None:
    shown = encoded(**node(kind, any=["8", 0])) | {"8": node("Text box", text="a red cup")}
    if kind == "Display Any (rgthree)":
        shown["5"] = node(kind, source=["8", 0])
    assert saved_prompt.of_graph(shown) == ("a red cup", "")


@pytest.mark.parametrize(
    "encoder", [{"text": FOX, "text_negative": UGLY}, {"prompt": FOX, "negative_text": UGLY}, {"text": FOX}]
)
def test_the_outputs_of_an_encoder_of_both_sides_are_not_mixed_up(encoder: dict[str, Any]) -> None:
    for sides, expected in (((0, 1), FOX), ((1, 0), "")):
        saved_graph = sampled(node("SomebodysEncode", clip=["4", 1], **encoder), *sides)
        assert saved_prompt.of_graph(saved_graph)[0] == expected


# --- nodes with a positive and a negative side --------------------------------------------------------


def sampled(source: dict[str, Any], positive: int, negative: int | None, **more: Any) -> dict[str, Any]:
    """A sampler that takes its sides from outputs of node "1", whose sides are the texts "2" and "3"."""
    sides = {"positive": ["1", positive], **({} if negative is None else {"negative": ["1", negative]})}
    return {
        "1": source,
        "2": node("CLIPTextEncode", text=FOX, clip=["4", 1]),
        "3": node("CLIPTextEncode", text=UGLY, clip=["4", 1]),
        "9": node("KSampler", model=["4", 0], **sides),
        **more,
    }


LINKED = {"positive": ["2", 0], "negative": ["3", 0]}
WRITTEN = {"positive": FOX, "negative": UGLY}
TWO_SIDES = {
    "ControlNet": sampled(node("ControlNetApplyAdvanced", **LINKED), 0, 1),
    "BrushNet": sampled(node("BrushNet", model=["4", 0], **LINKED), 1, 2),
    "InstantID": sampled(node("ApplyInstantID", model=["4", 0], **LINKED), 1, 2),
    "InstantID without a negative side": sampled(node("ApplyInstantID", model=["4", 0], **LINKED), 1, None),
    "Efficient Loader": sampled(node("Efficient Loader", **WRITTEN), 1, 2),
    "Easy-Use's loader": sampled(node("easy fullLoader", **WRITTEN), 4, 5),
    "a context": sampled(node("Context (rgthree)", **LINKED), 4, 5),
    "a pack that nobody knows": sampled(node("SomebodysApply", model=["4", 0], **LINKED), 3, 5),
    "a loader that nobody knows": sampled(node("SomebodysLoader", **WRITTEN), 2, 3),
    "one after the other": sampled(
        node("ControlNetApplyAdvanced", positive=["5", 1], negative=["5", 2]),
        0,
        1,
        **{"5": node("BrushNet", model=["4", 0], **LINKED)},
    ),
    "a basic pipe": sampled(
        node("FromBasicPipe", basic_pipe=["5", 0]), 3, 4, **{"5": node("ToBasicPipe", model=["4", 0], **LINKED)}
    ),
    "a pipe into the sampler": {
        **sampled(node("easy fullLoader", **WRITTEN), 4, 5),
        "9": node("easy kSampler", pipe=["1", 0]),
    },
    "joined texts": {
        **sampled(node("Efficient Loader", positive=["6", 0], negative=UGLY), 1, 2),
        "6": node("StringConcatenate", string_a="a red fox", string_b=["7", 0], delimiter=" in "),
        "7": node("PrimitiveString", value="the snow"),
    },
    "the core's switch": {
        **sampled(node("ComfySwitchNode", switch=True, on_true=["2", 0], on_false=["3", 0]), 0, None),
    },
    "wildcards that were filled in": {
        **sampled(node("CLIPTextEncode", text=["6", 0]), 0, None),
        "6": node("ImpactWildcardProcessor", wildcard_text="a {red|blue} fox", populated_text=FOX, mode="populate"),
    },
    "a shown text": {
        **sampled(node("CLIPTextEncode", text=["6", 0]), 0, None),
        "6": node("ShowText|pysssss", text=["7", 0]),
        "7": node("StringConstantMultiline", string=FOX, strip_newlines=True),
    },
}


@pytest.mark.parametrize("saved_graph", TWO_SIDES.values(), ids=TWO_SIDES)
def test_the_index_of_the_output_decides_between_two_sides(saved_graph: dict[str, Any]) -> None:
    assert saved_prompt.of_graph(saved_graph) == (FOX, "")


UNTOLD = {
    "an output of a class that nobody knows": (sampled(node("SomebodysApply", **LINKED), 1, None), "does not say"),
    "outputs the other way round": (sampled(node("SomebodysApply", **LINKED), 2, 1), "does not say"),
    "one output for both": (sampled(node("SomebodysApply", **LINKED), 0, 0), "does not say"),
    "the model's output": (sampled(node("BrushNet", model=["4", 0], **LINKED), 0, 2), "does not say"),
    "an empty positive side": (
        sampled(node("BrushNet", model=["4", 0], positive=["5", 0], negative=["3", 0]), 1, 2)
        | {"5": node("CLIPTextEncode", text="", clip=["4", 1])},
        "positive prompt is empty",
    ),
    "a zeroed conditioning": (sampled(node("ConditioningZeroOut", conditioning=["3", 0]), 0, None), "is empty"),
    "a text from a pack that nobody knows": (
        sampled(node("Efficient Loader", positive=["6", 0], negative=UGLY), 1, 2)
        | {"6": node("SomebodysStyler", text=FOX, style="oil")},
        "computed",
    ),
    "wildcards that were not filled in": (
        sampled(node("CLIPTextEncode", text=["6", 0]), 0, None)
        | {"6": node("ImpactWildcardProcessor", wildcard_text="a {red|blue} fox", populated_text="")},
        "computed",
    ),
    "a node that is not there": (sampled(node("ControlNetApplyAdvanced", positive=["77", 0]), 0, None), "computed"),
}


@pytest.mark.parametrize(("saved_graph", "why"), UNTOLD.values(), ids=UNTOLD)
def test_what_the_graph_does_not_tell_is_told_and_never_guessed(saved_graph: dict[str, Any], why: str) -> None:
    prompt, no_prompt = saved_prompt.of_graph(saved_graph)
    assert prompt == ""
    assert why in no_prompt


def test_crossed_wires_are_followed_as_they_are() -> None:
    crossed = sampled(node("ControlNetApplyAdvanced", positive=["3", 0], negative=["2", 0]), 1, 0)
    assert saved_prompt.of_graph(crossed) == (FOX, "")


def test_a_prompt_stays_as_the_graph_has_it_with_its_blanks() -> None:
    assert saved_prompt.of_graph(graph(**{"6": node("CLIPTextEncode", text="a red cup \n")})) == ("a red cup \n", "")


TEXT_NODES = {
    "StringConcatenate": ({"string_a": "a", "string_b": "b", "delimiter": ", "}, "a, b"),
    "StringTrim": ({"string": " a ", "mode": "Both"}, "a"),
    "StringReplace": ({"string": "a cat", "find": "cat", "replace": "dog"}, "a dog"),
    "StringSubstring": ({"string": "abcdef", "start": 1, "end": 3}, "bc"),
    "CaseConverter": ({"string": "aBc", "mode": "lowercase"}, "abc"),
    "JoinStrings": ({"string1": "a", "string2": "b", "delimiter": "-"}, "a-b"),
    "JoinStringMulti": ({"inputcount": 2, "string_1": "a", "string_2": "b", "delimiter": " "}, "a b"),
    "Text Concatenate": ({"clean_whitespace": "true", "text_a": " a ", "text_b": "", "text_c": "c"}, "a, c"),
    "CR Text Concatenate": ({"text1": "a", "text2": "b", "separator": "+"}, "a+b"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXT_NODES)
def test_known_nodes_of_texts_are_worked_out(kind: str) -> None:
    inputs, expected = TEXT_NODES[kind]
    text = {"6": node("CLIPTextEncode", text=["5", 0]), "5": node(kind, **inputs)}
    assert saved_prompt.of_graph(graph(**text)) == (expected, "")


# --- where files keep it ------------------------------------------------------------------------------

A1111 = f"{FOX}, <lora:snow:1>\nNegative prompt: {UGLY}\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"


@pytest.mark.parametrize("negative", [True, False])
def test_the_parameters_of_a1111_are_read_without_the_negative_prompt(tmp_path: Path, negative: bool) -> None:
    text = A1111 if negative else A1111.replace(f"Negative prompt: {UGLY}\n", "")
    info = PngInfo()
    info.add_text("parameters", text)
    assert image_files.read(saved(tmp_path / "a.png", pnginfo=info)).prompt == f"{FOX}, <lora:snow:1>"


def test_an_image_without_a_positive_prompt_of_a1111_has_none(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", A1111[A1111.index("Negative") :])
    picture = image_files.read(saved(tmp_path / "a.png", pnginfo=info))
    assert (picture.prompt, picture.no_prompt) == ("", saved_prompt.EMPTY)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
@pytest.mark.parametrize("coding", ["UNICODE", "ASCII"])
def test_the_comment_in_exif_is_read(tmp_path: Path, name: str, coding: str) -> None:
    body = A1111.encode("utf-16-be") if coding == "UNICODE" else A1111.encode()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = coding.encode().ljust(8, b"\0") + body
    assert image_files.read(saved(tmp_path / name, exif=exif)).prompt == f"{FOX}, <lora:snow:1>"


@pytest.mark.parametrize(("tag", "before"), [(0x0110, "prompt:"), (0x010F, "Prompt:"), (0x010E, "")])
def test_comfyui_s_graph_in_the_exif_of_a_webp_is_read(tmp_path: Path, tag: int, before: str) -> None:
    exif = Image.Exif()
    exif[tag] = before + json.dumps(graph())
    exif[0x0131] = "workflow:" + json.dumps({"nodes": []})
    assert image_files.read(saved(tmp_path / "a.webp", exif=exif, lossless=True)).prompt == "a red cup"


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ("parameters", json.dumps({"sui_image_params": {"prompt": FOX, "negativeprompt": UGLY}})),
        ("invokeai_metadata", json.dumps({"positive_prompt": FOX, "negative_prompt": UGLY})),
        ("parameters", json.dumps({"prompt": FOX, "negative_prompt": UGLY, "steps": 30})),
    ],
)
def test_other_programs_that_say_their_prompt_are_read(tmp_path: Path, chunk: str, text: str) -> None:
    info = PngInfo()
    info.add_text(chunk, text)
    assert image_files.read(saved(tmp_path / "a.png", pnginfo=info)).prompt == FOX


def test_where_the_graph_does_not_tell_the_written_parameters_do(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("prompt", json.dumps(NOT_FOLLOWED["a computed text"][0]))
    info.add_text("parameters", A1111)
    assert image_files.read(saved(tmp_path / "a.png", pnginfo=info)).prompt.startswith(FOX)


@pytest.mark.parametrize("text", ["{", "[]", "null", "{}", "a plain text"])
def test_metadata_that_is_no_prompt_is_no_prompt(tmp_path: Path, text: str) -> None:
    info = PngInfo()
    info.add_text("prompt", text)
    picture = image_files.read(saved(tmp_path / "a.png", pnginfo=info))
    assert picture.prompt == "" and picture.no_prompt


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
    prompt, why_not = saved_prompt.of_graph(saved_graph)
    assert bool(prompt) != bool(why_not)
