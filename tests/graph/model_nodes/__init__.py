"""A node that writes a checkpoint small enough for a test: Stable Diffusion 1 in the keys and shapes that ComfyUI tells
it by, but with one level instead of four, hardly any weights, and the tiny decoder TAESD. It makes coloured noise."""

from __future__ import annotations

import json
from pathlib import Path

import comfy.clip_model
import comfy.ops
import comfy.sd1_clip
import comfy.taesd.taesd
import folder_paths
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

ONE_LEVEL = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": (1,),
    "num_res_blocks": [1],
    "transformer_depth": [1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1],
    "context_dim": 768,
    "num_heads": 8,
    "use_spatial_transformer": True,
    "legacy": False,
}


class TestWriteCheckpoint:
    """Writes ``models/checkpoints/{name}``."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"name": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "testing", True

    def run(self, name):
        folder = Path(folder_paths.models_dir) / "checkpoints"
        folder.mkdir(exist_ok=True)
        torch.save(tiny(), folder / name)
        return {}


def tiny() -> dict[str, torch.Tensor]:
    """The state dictionary; zeros are stored once and not for each weight, so that the file has 10 MB."""
    on_paper = {"device": "meta", "dtype": torch.float32, "operations": comfy.ops.disable_weight_init}
    config = json.loads((Path(comfy.sd1_clip.__file__).parent / "sd1_clip_config.json").read_text())
    text = comfy.clip_model.CLIPTextModel(config, torch.float32, "meta", comfy.ops.disable_weight_init)
    return {
        **_zeros("model.diffusion_model.", UNetModel(**ONE_LEVEL, **on_paper)),
        **_zeros("cond_stage_model.transformer.", text),
        **{f"first_stage_model.{name}": weights for name, weights in _decoder().items()},
    }


def _zeros(prefix: str, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {prefix + name: torch.zeros(1).expand(weights.shape) for name, weights in module.state_dict().items()}


def _decoder() -> dict[str, torch.Tensor]:
    """Random weights; with middle grey added at the end its noise is neither black nor white."""
    vae = comfy.taesd.taesd.TAESD(latent_channels=4)
    torch.manual_seed(0)
    for weights in vae.parameters():
        torch.nn.init.normal_(weights, std=weights[0].numel() ** -0.5 if weights.ndim > 1 else 0.01)
    torch.nn.init.constant_(vae.taesd_decoder[-1].bias, 0.5)
    return {name: weights.detach().clone() for name, weights in vae.state_dict().items()}


NODE_CLASS_MAPPINGS = {"TestWriteCheckpoint": TestWriteCheckpoint}
