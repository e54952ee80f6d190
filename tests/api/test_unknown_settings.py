"""What a graph does not tell about an image is unknown: nodes that are not known are not believed to be harmless."""

from __future__ import annotations

from typing import Any

import pytest
from support.graphs import FIRST, PLAIN, computed, node, sampler, ttn

from runflow_api.insight import image_settings
from runflow_api.journal.image_settings import UNKNOWN_SETTINGS, ImageSettings

DECODED, MODEL, OTHER, WITH_LORA = ["decode", 0], ["ckpt", 0], ["other", 0], ["lora", 0]
TWO_MODELS = {
    "other": node("CheckpointLoaderSimple", ckpt_name="other.safetensors"),
    "lora": node("LoraLoader", lora_name="one.safetensors", strength_model=0.8, model=MODEL, clip=["ckpt", 1]),
}


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("KlingImageGenerationNode", {"prompt": "p", "image": DECODED, "model_name": "kling-v1", "n": 1}),
        ("RunwayTextToImageNode", {"prompt": "p", "ratio": "1:1", "reference_image": DECODED}),
        ("GeminiNanoBanana2V2", {"prompt": "p", "model": "g", "model.images.image0": DECODED}),
        ("FluxKontextProImageNode", {"prompt": "p", "input_image": DECODED, "guidance": 3.0}),
        ("RecraftCreativeUpscaleNode", {"image": DECODED}),
        ("MagnificImageUpscalerPreciseV2Node", {"image": DECODED, "sharpen": 7}),
        ("HitPawGeneralImageEnhance", {"image": DECODED, "model": "generative_portrait", "upscale_factor": 2}),
        ("SomebodysRestyle", {"image": DECODED, "strength": 0.5}),
        ("SomebodysEditor", {"image": DECODED, "edit_instruction": "make it blue"}),
        ("Painter of words", {"words": DECODED}),
    ],
)
def test_a_node_that_makes_a_new_image_hides_what_made_the_one_it_is_given(kind: str, inputs: dict[str, Any]) -> None:
    assert computed(new=node(kind, **inputs), save=node("SaveImage", images=["new", 0])) == UNKNOWN_SETTINGS


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("ImageScaleBy", {"image": DECODED, "scale_by": 2}),
        ("ImageUpscaleWithModel", {"image": DECODED, "upscale_model": ["nowhere", 0]}),
        ("TextOverlay", {"images": DECODED, "text": "a title"}),
        ("ImageAddNoise", {"image": DECODED, "seed": 3, "strength": 0.1}),
        ("ColorMatch", {"image_target": DECODED}),
        ("Any Switch (rgthree)", {"any_01": DECODED}),
        ("FluxKontextImageScale", {"image": DECODED}),
    ],
)
def test_a_node_that_only_changes_an_image_is_followed(kind: str, inputs: dict[str, Any]) -> None:
    found = computed(new=node(kind, **inputs), save=node("SaveImage", images=["new", 0]))
    assert found == ImageSettings(**{**vars(PLAIN), "width": None, "height": None})


def test_of_two_images_in_one_only_what_made_both_is_told() -> None:
    second = {
        **TWO_MODELS,
        "below": sampler(model=OTHER),
        "behind": node("VAEDecode", samples=["below", 0]),
        "both": node("SomeOverlay", image=DECODED, background=["behind", 0]),
        "save": node("SaveImage", images=["both", 0]),
    }
    found = computed(**second)
    assert (found.checkpoint, found.steps) == (None, 20)


UNKNOWN_MODEL = (None, None)
BASE = "base.safetensors"


@pytest.mark.parametrize(
    ("kind", "inputs", "expected"),
    [
        # gives on what it is given
        ("Reroute", {"": WITH_LORA}, (BASE, (FIRST,))),
        ("FreeU_V2", {"model": WITH_LORA, "b1": 1.3}, (BASE, (FIRST,))),
        ("RescaleCFG", {"model": WITH_LORA, "multiplier": 0.7}, (BASE, (FIRST,))),
        ("PerturbedAttentionGuidance", {"model": MODEL, "scale": 3.0}, (BASE, ())),
        ("IPAdapterAdvanced", {"model": MODEL, "ipadapter": OTHER, "weight": 1.0}, (BASE, ())),
        ("CR Model Input Switch", {"Input": 2, "model1": MODEL, "model2": WITH_LORA}, (BASE, (FIRST,))),
        # may put a LoRA on it
        ("LycorisLoaderNode", {"model": MODEL, "lycoris_name": "a.safetensors", "strength": 1}, (BASE, None)),
        ("SomePatch", {"model": MODEL, "strength": 1}, (BASE, None)),
        ("SomePatch", {"model": WITH_LORA, "strength": 1}, (BASE, None)),
        ("IPAdapterUnifiedLoaderFaceID", {"model": MODEL, "lora_strength": 0.6}, (BASE, None)),
        ("LoraOfTwo", {"model": MODEL, "lora_a": "a.safetensors", "lora_b": "b.safetensors"}, (BASE, None)),
        ("CR Load LoRA", {"model": MODEL, "switch": "Off", "lora_name": "off.safetensors"}, (BASE, ())),
        # is another model, or several
        ("Blend", {"model": MODEL, "model2": OTHER}, UNKNOWN_MODEL),
        ("Anything", {"model_a": MODEL, "model_b": OTHER}, UNKNOWN_MODEL),
        ("Anything", {"model": MODEL, "with": OTHER}, UNKNOWN_MODEL),
        ("Anything", {"model": MODEL, "file": "b.safetensors"}, UNKNOWN_MODEL),
        ("ModelMergeBlocks", {"model1": MODEL, "model2": OTHER, "input": 0.5}, UNKNOWN_MODEL),
        ("PickModel", {"ckpt_name": BASE, "ckpt_name_2": "other.safetensors"}, UNKNOWN_MODEL),
        ("MergeFile", {"model": MODEL, "ckpt_name": "other.safetensors"}, UNKNOWN_MODEL),
        ("easy fullLoader", {"ckpt_name": BASE, "lora_name": "None", "positive": "x <lora:y:1>"}, (BASE, None)),
    ],
)
def test_a_model_is_followed_through_what_is_known_to_leave_it_alone(
    kind: str, inputs: dict[str, Any], expected: Any
) -> None:
    found = computed(**TWO_MODELS, patch=node(kind, **inputs), sampler=sampler(model=["patch", 0]))
    assert (found.checkpoint, found.loras) == expected


def test_loras_of_hooks_and_of_pipes_are_not_overlooked() -> None:
    hooked = computed(
        hook=node("CreateHookLora", lora_name="a.safetensors"),
        clip=node("SetClipHooks", clip=["ckpt", 1], hooks=["hook", 0]),
        yes=node("CLIPTextEncode", text="a fox", clip=["clip", 0]),
    )
    assert hooked == ImageSettings(**{**vars(PLAIN), "loras": None})
    stacked = {
        "load": ttn("ttN pipeLoader", ckpt_name=BASE, lora1_name="None", positive="a fox"),
        "stack": node("ttN pipeLoraStack", pipe=["load", 0], lora_1_name="a.safetensors"),
        "sampler": ttn("ttN pipeKSampler", pipe=["stack", 0], seed=7, image_output="Save", lora_name="None"),
    }
    assert image_settings.of_graph(stacked).loras is None
    two = {**sampler(refiner_model=OTHER), "class_type": "KSamplerWithRefiner"}
    assert computed(**TWO_MODELS, sampler=two).checkpoint is None


@pytest.mark.parametrize(
    ("kind", "inputs", "value"),
    [
        ("PrimitiveInt", {"value": 5}, 5),
        ("INTConstant", {"value": 5}, 5),
        ("Seed (rgthree)", {"seed": 5}, 5),
        ("RandomInt", {"seed": 5}, None),
        ("Int Increment", {"value": 5}, None),
        ("NegateInt", {"int": 5}, None),
        ("FloatToInt", {"float": 5.0}, None),
        ("LengthOf", {"text": "5"}, None),
        ("Square", {"number": ["constant", 0]}, None),
    ],
)
def test_only_a_node_that_is_known_to_hold_a_value_is_read_as_one(kind: str, inputs: Any, value: int | None) -> None:
    found = computed(
        constant=node("PrimitiveInt", value=5),
        held=node(kind, **inputs),
        sampler=sampler(seed=["held", 0], steps=["held", 0]),
    )
    assert (found.seed, found.steps) == (value, value)


@pytest.mark.parametrize("kind", ["UppercaseText", "Text Uppercase", "ReverseString", "Clean Prompt", "ShuffleText"])
def test_a_text_that_a_node_may_have_changed_is_unknown(kind: str) -> None:
    def prompt_of(kind: str) -> str | None:
        text = node(kind, text="a fox")
        return computed(text=text, yes=node("CLIPTextEncode", text=["text", 0], clip=["ckpt", 1])).prompt

    assert (prompt_of(kind), prompt_of("Text box"), prompt_of("CR Text")) == (None, "a fox", "a fox")


def test_the_size_of_a_latent_that_takes_a_preset_is_unknown() -> None:
    turned = node("EmptyLatentCustom", width=832, height=1216, invert=True)
    preset = node("Empty Latent Ratio", width=832, height=1216, ratio="1:1")
    assert computed(empty=turned).size is None and computed(empty=preset).size is None
    assert computed(empty=node("Empty Latent", width=832, height=1216, resolution="Custom")).size == "832x1216"
