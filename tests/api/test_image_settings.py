"""The settings that made an image: what a person reads off the graph, and unknown where the graph does not say it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.graphs import FIRST, PLAIN, computed, core, node, sampler, ttn

from runflow_api.insight import image_settings
from runflow_api.journal.image_settings import UNKNOWN_SETTINGS, ImageSettings, Lora

PUBLIC = json.loads((Path(__file__).parent / "data" / "public_workflows.json").read_text("utf-8"))
FOLDER = os.environ.get("RUNFLOW_TEST_WORKFLOWS", "")
"""Where copies of the public workflows are: they are not part of this repository."""


def inside(host: str, graph: dict[str, Any]) -> dict[str, Any]:
    """The graph as ComfyUI names its nodes when they are in a subgraph."""

    def moved(value: Any) -> Any:
        return [f"{host}:{value[0]}", value[1]] if isinstance(value, list) else value

    return {
        f"{host}:{name}": {**each, "inputs": {key: moved(value) for key, value in each["inputs"].items()}}
        for name, each in graph.items()
    }


SECOND = Lora("two.safetensors", 0.5)
STACKED = {"lora_name_1": "one.safetensors", "lora_wt_1": 0.8, "model_str_1": 0.1}
FLUX = {
    "unet": node("UNETLoader", unet_name="flux.safetensors"),
    "lora": node("LoraLoaderModelOnly", lora_name="one.safetensors", strength_model=0.8, model=["unet", 0]),
    "yes": node("CLIPTextEncode", text="a fox"),
    "strong": node("FluxGuidance", conditioning=["yes", 0], guidance=3.5),
    "guider": node("BasicGuider", model=["lora", 0], conditioning=["strong", 0]),
    "noise": node("RandomNoise", noise_seed=7),
    "select": node("KSamplerSelect", sampler_name="euler"),
    "schedule": node("BasicScheduler", scheduler="simple", steps=24, denoise=1.0, model=["lora", 0]),
    "split": node("SplitSigmas", sigmas=["schedule", 0], step=4),
    "empty": node("EmptySD3LatentImage", width=1024, height=768),
    "sampler": node(
        "SamplerCustomAdvanced",
        noise=["noise", 0],
        guider=["guider", 0],
        sampler=["select", 0],
        sigmas=["split", 0],
        latent_image=["empty", 0],
    ),
    "decode": node("VAEDecode", samples=["sampler", 0]),
    "save": node("SaveImage", images=["decode", 0]),
}
SECOND_PASS = {
    "bigger": node("LatentUpscale", samples=["sampler", 0], width=1664, height=2432),
    "again": sampler(latent_image=["bigger", 0], seed=8, steps=12, sampler_name="dpmpp_2m", scheduler="simple"),
    "decode": node("VAEDecode", samples=["again", 0]),
}
TOLD = {
    "the first graph of all": (core(), {}),
    "a chain of LoRAs": (
        core(
            first=node(
                "LoraLoader", lora_name="one.safetensors", strength_model=0.8, strength_clip=0, model=["ckpt", 0]
            ),
            second=node("LoraLoaderModelOnly", lora_name="two.safetensors", strength_model=0.5, model=["first", 0]),
            sampler=sampler(model=["second", 0]),
        ),
        {"loras": (FIRST, SECOND)},
    ),
    "rgthree's Power Lora Loader, one of two switched off": (
        core(
            power=node(
                "Power Lora Loader (rgthree)",
                lora_1={"on": True, "lora": "one.safetensors", "strength": 0.8},
                lora_2={"on": False, "lora": "off.safetensors", "strength": 1},
                model=["ckpt", 0],
            ),
            sampler=sampler(model=["power", 0]),
        ),
        {"loras": (FIRST,)},
    ),
    "what changes a model without being another one": (
        core(shift=node("ModelSamplingSD3", model=["ckpt", 0], shift=3), sampler=sampler(model=["shift", 0])),
        {},
    ),
    "a seed and steps from primitives, through a reroute": (
        core(
            seed=node("PrimitiveInt", value=99),
            way=node("Reroute", **{"": ["seed", 0]}),
            steps=node("INTConstant", value=31),
            sampler=sampler(seed=["way", 0], steps=["steps", 0]),
        ),
        {"seed": 99, "steps": 31},
    ),
    "the same inside a subgraph": (inside("12", core()), {}),
    "two samplers: the last one": (
        core(**SECOND_PASS),
        {"seed": 8, "steps": 12, "sampler": "dpmpp_2m", "scheduler": "simple", "width": 1664, "height": 2432},
    ),
    "a second half of the steps that adds no noise": (
        core(
            rest=sampler(latent_image=["sampler", 0], seed=None, noise_seed=1, add_noise="disable"),
            decode=node("VAEDecode", samples=["rest", 0]),
        ),
        {},
    ),
    "tinyterra's samplers, the last of which saves its image and puts a LoRA on its model": (
        {
            "base": ttn("ttN pipeLoader", ckpt_name="other.safetensors", lora1_name="None", positive="a fox"),
            "refiner": ttn("ttN pipeLoader", ckpt_name="base.safetensors", lora1_name="None", positive="a fox"),
            "first": ttn("ttN pipeKSampler", pipe=["base", 0], seed=7, image_output="Hide", lora_name="None", cfg=1.0),
            "last": ttn(
                "ttN pipeKSampler",
                pipe=["refiner", 0],
                optional_latent=["first", 4],
                noise_seed=1,
                add_noise="disable",
                image_output="Save",
                lora_name="one.safetensors",
                lora_model_strength=0.8,
            ),
        },
        {"width": None, "height": None, "loras": (FIRST,)},
    ),
    "two prompts put together": (
        core(
            more=node("CLIPTextEncode", text="in snow"),
            both=node("ConditioningCombine", conditioning_1=["yes", 0], conditioning_2=["more", 0]),
            sampler=sampler(positive=["both", 0]),
        ),
        {"prompt": "a fox\nin snow"},
    ),
    "an upscaled image": (
        core(
            model=node("UpscaleModelLoader", model_name="x4.pth"),
            upscale=node("ImageUpscaleWithModel", image=["decode", 0], upscale_model=["model", 0]),
            save=node("SaveImage", images=["upscale", 0]),
        ),
        {"width": None, "height": None},
    ),
    "faces painted anew": (
        core(
            face=node(
                "FaceDetailer", image=["decode", 0], model=["ckpt", 0], seed=1, steps=5, cfg=1, positive=["yes", 0]
            ),
            save=node("SaveImage", images=["face", 0]),
        ),
        {"width": None, "height": None},
    ),
    "a logo laid over it": (
        core(
            logo=node("LoadImage", image="logo.png"),
            over=node("ImageCompositeMasked", destination=["decode", 0], source=["logo", 0], x=0, y=0),
            save=node("SaveImage", images=["over", 0]),
        ),
        {"width": None, "height": None},
    ),
    "Impact's pipe": (
        core(
            pipe=node("ToBasicPipe", model=["ckpt", 0], clip=["ckpt", 1], positive=["yes", 0], negative=["no", 0]),
            sampler={
                **sampler(model=None, positive=None, negative=None, basic_pipe=["pipe", 0]),
                "class_type": "ImpactKSamplerBasicPipe",
            },
        ),
        {},
    ),
    "rgthree's context, its seed and model by slot": (
        core(
            context=node("Context (rgthree)", model=["ckpt", 0], seed=55, positive=["yes", 0], negative=["no", 0]),
            sampler=sampler(model=["context", 1], seed=["context", 8]),
        ),
        {"seed": 55},
    ),
    "Efficiency's loader with a stack": (
        {
            "stack": node("LoRA Stacker", input_mode="simple", lora_count=1, **STACKED, lora_name_2="off.safetensors"),
            "load": node(
                "Efficient Loader",
                ckpt_name="base.safetensors",
                lora_name="None",
                lora_model_strength=1,
                lora_stack=["stack", 0],
                positive="a fox",
                negative="blurry",
                empty_latent_width=832,
                empty_latent_height=1216,
            ),
            "sampler": {
                **sampler(model=["load", 0], positive=["load", 1], negative=["load", 2], latent_image=["load", 3]),
                "class_type": "KSampler (Efficient)",
            },
            "save": node("SaveImage", images=["sampler", 5]),
        },
        {"loras": (FIRST,)},
    ),
    "LoRAs in a text's tags": (
        core(
            tags=node("LoraTagLoader", text="a fox <lora:one.safetensors:0.8>", model=["ckpt", 0]),
            sampler=sampler(model=["tags", 0]),
        ),
        {"loras": (FIRST,)},
    ),
    "two saved images of two seeds": (
        core(
            other=sampler(seed=8),
            decoded=node("VAEDecode", samples=["other", 0]),
            saved=node("SaveImage", images=["decoded", 0]),
        ),
        {"seed": None},
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_the_settings_are_those_that_a_person_reads(name: str) -> None:
    graph, changes = TOLD[name]
    assert image_settings.of_graph(graph) == ImageSettings(**{**vars(PLAIN), **changes})


def test_flux_is_read_from_its_guider_noise_and_schedule() -> None:
    expected = ImageSettings("flux.safetensors", (FIRST,), "euler", "simple", 24, None, 1024, 768, 7, "a fox")
    assert image_settings.of_graph(FLUX) == expected
    with_cfg = {**FLUX, "guider": node("CFGGuider", model=["lora", 0], positive=["strong", 0], cfg=4)}
    assert image_settings.of_graph(with_cfg).cfg == 4


def test_what_the_graph_does_not_say_is_unknown() -> None:
    merged = computed(
        other=node("UNETLoader", unet_name="b"),
        merge=node("ModelMergeSimple", model1=["ckpt", 0], model2=["other", 0], ratio=0.5),
        sampler=sampler(model=["merge", 0]),
    )
    assert (merged.checkpoint, merged.loras, merged.steps) == (None, None, 20)
    strange = computed(url=node("LoraFromSomewhere", model=["ckpt", 0], url="x"), sampler=sampler(model=["url", 0]))
    assert (strange.checkpoint, strange.loras) == ("base.safetensors", None)
    random = computed(number=node("Random Number", seed=3, minimum=0, maximum=9), sampler=sampler(seed=["number", 0]))
    assert random.seed is None and computed(sampler=sampler(seed=-1)).seed is None
    assert computed(sampler=sampler(steps=["nowhere", 0])).steps is None
    upscaled = node("IterativeLatentUpscale", samples=["sampler", 0], upscaler=["provider", 0], steps=3)
    assert computed(up=upscaled, decode=node("VAEDecode", samples=["up", 0])) == UNKNOWN_SETTINGS
    repainted = node("SomeImageService", image=["decode", 0], prompt="as a drawing", seed=3)
    assert computed(service=repainted, save=node("SaveImage", images=["service", 0])) == UNKNOWN_SETTINGS
    plot = node("XY Plot", X=["x", 0])
    plotted = {**sampler(script=["plot", 0]), "class_type": "KSampler (Efficient)"}
    assert computed(plot=plot, sampler=plotted) == UNKNOWN_SETTINGS
    bigger = {**sampler(script=["fix", 0]), "class_type": "KSampler (Efficient)"}
    assert computed(fix=node("HighRes-Fix Script", upscale_by=1.25), sampler=bigger).width is None
    several = computed(decode=node("Several", left=["sampler", 0], right=["sampler", 0]))
    assert several == UNKNOWN_SETTINGS


@pytest.mark.parametrize("graph", [None, [], {}, {"1": 3}, {"1": {"class_type": "SaveImage", "inputs": None}}])
def test_what_is_no_graph_has_no_settings(graph: Any) -> None:
    assert image_settings.of_graph(graph) == UNKNOWN_SETTINGS


KINDS = (
    "KSampler",
    "VAEDecode",
    "LoraLoader",
    "Power Lora Loader (rgthree)",
    "FromBasicPipe",
    "RandomNoise",
    "Reroute",
)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just({"on": True, "lora": ["x"]}),
    st.tuples(st.sampled_from("abc"), st.integers(-1, 3)).map(list), st.just(10**400), st.just([[], 0]),
)  # fmt: skip
KEYS = (
    "image samples latent_image model seed steps cfg basic_pipe pipe lora_1 lora_name ckpt_name sigmas noise guider "
    "switch on_true positive width height"
).split()
NODES = st.fixed_dictionaries(
    {"class_type": st.sampled_from(KINDS), "inputs": st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8)}
)


@given(st.dictionaries(st.sampled_from("abcd"), NODES, min_size=1, max_size=4))
def test_whatever_a_graph_holds_the_walk_ends_without_an_error(graph: Any) -> None:
    assert isinstance(image_settings.of_graph(graph, ("a", 0), is_running=True), ImageSettings)
    assert isinstance(image_settings.of_graph(graph), ImageSettings)


def test_a_circle_ends() -> None:
    graph = core(decode=node("VAEDecode", samples=["way", 0]), way=node("Reroute", **{"": ["decode", 0]}))
    assert image_settings.of_graph(graph) == UNKNOWN_SETTINGS


def test_a_loop_gives_this_attempts_seed_and_prompt_only_while_it_runs() -> None:
    looped = core(
        start=node("RunflowRegenerateAttempt", prompt="a better fox", seed=41, number=2, original="a fox"),
        yes=node("CLIPTextEncode", text=["start", 1], clip=["ckpt", 1]),
        sampler=sampler(seed=["start", 2]),
    )
    now = image_settings.of_graph(looped, ("decode", 0), is_running=True)
    assert (now.seed, now.prompt) == (41, "a better fox")
    later = image_settings.of_graph(looped)
    assert (later.seed, later.prompt, later.steps) == (None, None, 20)


def test_only_the_way_to_the_image_counts() -> None:
    graph = core(**SECOND_PASS, first=node("VAEDecode", samples=["sampler", 0]))
    assert image_settings.of_graph(graph, ("first", 0)).seed == 7
    assert image_settings.of_graph(graph, ("decode", 0)).seed == 8


def test_of_several_saved_images_the_size_of_the_file_tells_which_one_it_is() -> None:
    graph = core(
        **SECOND_PASS, first=node("VAEDecode", samples=["sampler", 0]), early=node("SaveImage", images=["first", 0])
    )
    assert image_settings.of_graph(graph).seed is None
    assert image_settings.of_graph(graph, size=(832, 1216)).seed == 7
    assert image_settings.of_graph(graph, size=(1664, 2432)).seed == 8
    shown = {**graph, "save": node("PreviewImage", images=["decode", 0])}
    assert image_settings.of_graph(shown).seed == 7
    assert image_settings.of_graph(shown, size=(1664, 2432)).seed == 8  # saved from the preview by hand
    assert image_settings.of_graph(core(), size=(100, 100)) == PLAIN  # made smaller later: there is only one


@pytest.mark.skipif(not FOLDER, reason="RUNFLOW_TEST_WORKFLOWS names no folder of copies")
def test_public_workflows_say_what_a_person_reads() -> None:
    """Their files are not carried: the name of a copy is repository and path, with + in the place of slashes."""
    for entry in PUBLIC:
        name = f"{entry['repository']}/{entry['path']}".replace("/", "+")
        found = vars(settings_in(Path(FOLDER) / name, entry["image"]))
        loras = entry["expected"]["loras"]
        told = None if loras is None else tuple(Lora(*each) for each in loras)
        assert {**found, "prompt": None} == {**entry["expected"], "loras": told, "prompt": None}, name


def settings_in(path: Path, link: Any) -> ImageSettings:
    """Of a graph in a file, or of the graph in a picture's metadata."""
    if path.suffix == ".json":
        return image_settings.of_graph(json.loads(path.read_text("utf-8")), link)
    with Image.open(path) as image:
        image.load()
        return image_settings.of_image(image)


def test_fifty_public_workflows_were_read() -> None:
    assert len({(entry["repository"], entry["path"]) for entry in PUBLIC}) >= 50
