"""A node that gives a text encoder which sees and writes, built of ComfyUI's own classes: Qwen3-VL, two layers deep and
64 wide, with random weights. It babbles. ComfyUI has these classes since about February 2026."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import comfy.sd
import torch
from comfy.text_encoders import llama, qwen3vl

NAME = "qwen3vl_tiny"


@dataclass
class TinyConfig(llama.Qwen3VL_4BConfig):
    hidden_size: int = 64
    intermediate_size: int = 96
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    num_key_value_heads: int = 1


qwen3vl.QWEN3VL_CONFIGS[NAME] = TinyConfig
qwen3vl.QWEN3VL_VISION[NAME] = {
    **qwen3vl.QWEN3VL_VISION_COMMON,
    "num_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "depth": 2,
    "deepstack_visual_indexes": [0],
}


def text_encoder(device="cpu", dtype=None, model_options=None):
    return qwen3vl.Qwen3VLTEModel(device=device, dtype=dtype, model_options=model_options or {}, model_type=NAME)


class TestTinyVisionModel:
    """``seed`` decides the weights."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"seed": ("INT", {"default": 0})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "run", "testing"

    def run(self, seed):
        target = SimpleNamespace(params={}, clip=text_encoder, tokenizer=qwen3vl.tokenizer(NAME))
        clip = comfy.sd.CLIP(target)
        torch.manual_seed(seed)
        for weights in clip.cond_stage_model.parameters():
            torch.nn.init.normal_(weights, std=0.02)
        return (clip,)


class TestModelWithoutMemory:
    """The same model on a GPU that is full: its layers raise what torch raises there."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "run", "testing"

    def run(self):
        (clip,) = TestTinyVisionModel().run(1)

        def full(*_):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        getattr(clip.cond_stage_model, NAME).transformer.model.layers[0].register_forward_pre_hook(full)
        return (clip,)


class TestBlindTextEncoder:
    """One of the many that neither see nor write: CLIP-L, with random weights."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "run", "testing"

    def run(self):
        from comfy import sd1_clip

        return (comfy.sd.CLIP(SimpleNamespace(params={}, clip=sd1_clip.SD1ClipModel, tokenizer=sd1_clip.SD1Tokenizer)),)


NODE_CLASS_MAPPINGS = {
    each.__name__: each for each in (TestTinyVisionModel, TestModelWithoutMemory, TestBlindTextEncoder)
}
