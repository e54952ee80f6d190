"""Graphs in the API's form, as people build them, and the settings that a person reads off the first of them."""

from __future__ import annotations

from typing import Any

from runflow_api.insight import image_settings
from runflow_api.journal.image_settings import ImageSettings, Lora


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def core(**more: Any) -> dict[str, Any]:
    """The graph that everybody begins with."""
    return {
        "ckpt": node("CheckpointLoaderSimple", ckpt_name="base.safetensors"),
        "yes": node("CLIPTextEncode", text="a fox", clip=["ckpt", 1]),
        "no": node("CLIPTextEncode", text="blurry", clip=["ckpt", 1]),
        "empty": node("EmptyLatentImage", width=832, height=1216, batch_size=2),
        "sampler": sampler(),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["ckpt", 2]),
        "save": node("SaveImage", images=["decode", 0]),
        **more,
    }


def sampler(**changes: Any) -> dict[str, Any]:
    own = {
        "seed": 7,
        "steps": 20,
        "cfg": 6.5,
        "sampler_name": "euler",
        "scheduler": "karras",
        "model": ["ckpt", 0],
        "positive": ["yes", 0],
        "negative": ["no", 0],
        "latent_image": ["empty", 0],
    }
    return node("KSampler", **{name: value for name, value in {**own, **changes}.items() if value is not None})


def ttn(kind: str, **inputs: Any) -> dict[str, Any]:
    """A node of a pack whose samplers take pipes and show what they made themselves."""
    settings = {"steps": 20, "cfg": 6.5, "sampler_name": "euler", "scheduler": "karras"} if "pipe" in inputs else {}
    return node(kind, **{**settings, **inputs})


PLAIN = ImageSettings("base.safetensors", (), "euler", "karras", 20, 6.5, 832, 1216, 7, "a fox")
FIRST = Lora("one.safetensors", 0.8)


def computed(**more: Any) -> ImageSettings:
    return image_settings.of_graph(core(**more))
