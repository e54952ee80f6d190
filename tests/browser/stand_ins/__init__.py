"""Stand-ins for a model in browser tests: a text encoder, a sampler and a decoder with real ones' sockets.

They run without weights: the image is one of the shipped photographs, chosen and cropped by prompt and seed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import folder_paths
import numpy as np
import torch
from PIL import Image

SIDE = 512


class StandInEncode:
    """Text to "conditioning": the text itself."""

    INPUT_TYPES = classmethod(
        lambda cls: {"required": {"text": ("STRING", {"multiline": True, "dynamicPrompts": True})}}
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "run", "testing"

    def run(self, text):
        return (text,)


class StandInSampler:
    """Conditioning and seed to a "latent": both of them."""

    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {
                "positive": ("CONDITIONING",),
                "seed": ("INT", {"default": 0, "max": 2**64 - 1, "control_after_generate": True}),
            }
        }
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("LATENT",), "run", "testing"

    def run(self, positive, seed):
        return ((positive, seed),)


class StandInDecode:
    """A photograph from the input folder, cropped so that every prompt and seed gives other pixels."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"samples": ("LATENT",), "batch": ("INT", {"default": 1})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "testing"

    def run(self, samples, batch):
        return (torch.stack([picture(*samples, index) for index in range(batch)]),)


def picture(text: str, seed: int, index: int) -> torch.Tensor:
    photos = sorted(Path(folder_paths.get_input_directory()).glob("*.jpg"))
    chosen = int.from_bytes(hashlib.sha256(f"{text}{seed}{index}".encode()).digest()[:4], "big")
    with Image.open(photos[(seed + index) % len(photos)]) as photo:
        left, top = chosen % 8, chosen // 8 % 8
        image = photo.convert("RGB").resize((SIDE, SIDE)).crop((left, top, SIDE - 8 + left, SIDE - 8 + top))
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0)


NODE_CLASS_MAPPINGS = {each.__name__: each for each in (StandInEncode, StandInSampler, StandInDecode)}
NODE_DISPLAY_NAME_MAPPINGS = {
    "StandInEncode": "Text Encode (stand-in)",
    "StandInSampler": "Sampler (stand-in)",
    "StandInDecode": "Decode (stand-in)",
}
