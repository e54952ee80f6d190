"""Nodes for tests only: they stand where a model would, and note every run in `output/runs.jsonl`."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import hashlib
import json
import os
import sys
from typing import Any

import comfy.model_management
import folder_paths
import numpy as np
import psutil
import torch
from aiohttp import web
from server import PromptServer

PIXELS = {"width": ("INT", {"default": 64, "max": 4096}), "batch": ("INT", {"default": 1})}


def noted(kind: str, **what: Any) -> None:
    line = json.dumps({"kind": kind, **what}) + "\n"
    with open(os.path.join(folder_paths.get_output_directory(), "runs.jsonl"), "a", encoding="utf-8") as file:
        file.write(line)


def picture(width: int, *made_from: Any) -> torch.Tensor:
    """[H, W, 3] in 0 to 1, smooth and unlike that of any other values."""
    seed = int.from_bytes(hashlib.sha256(repr(made_from).encode()).digest()[:4], "big")
    coarse = torch.from_numpy(np.random.default_rng(seed).random((1, 3, 8, 8), dtype=np.float32))
    return torch.nn.functional.interpolate(coarse, size=(width, width), mode="bilinear")[0].movedim(0, -1).contiguous()


class TestGenerate:
    """An image that depends on the prompt and the seed, as a sampler's does."""

    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {"prompt": ("STRING", {}), "seed": ("INT", {"max": 2**64 - 1})},
            "optional": {**PIXELS, "name": ("STRING", {"default": ""})},
        }
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "testing"

    def run(self, prompt, seed, width=64, batch=1, name=""):
        noted("generate", prompt=prompt, seed=seed, name=name)
        return (torch.stack([picture(width, prompt, seed, index) for index in range(batch)]),)


class TestRecord:
    """An output node that notes the value it got; images by a hash of their pixels."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"value": ("*", {}), "name": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "testing", True

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, value, name):
        noted("record", name=name, value=_described(value))
        return {}


def _described(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        digest = hashlib.sha256(value.numpy().tobytes()).hexdigest()[:12]
        return {"shape": list(value.shape), "pixels": digest}
    return value if isinstance(value, str | int | float | bool) else type(value).__name__


class TestRaise:
    """Passes an image on, and raises where the number is the one to raise at."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"image": ("IMAGE",), "number": ("INT", {}), "at": ("INT", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "testing"

    def run(self, image, number, at):
        if number == at:
            raise RuntimeError(f"the body failed at {number}")
        return (image,)


class TestSleep:
    """Passes an image on after some seconds where the number is the one to sleep at; Cancel wakes it."""

    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {
                "image": ("IMAGE",), "number": ("INT", {}), "at": ("INT", {}), "seconds": ("FLOAT", {"max": 600.0}),
            }
        }
    )  # fmt: skip
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "testing"

    async def run(self, image, number, at, seconds):
        noted("sleep", number=number)
        for _ in range(int(seconds * 20) if number == at else 0):
            comfy.model_management.throw_exception_if_processing_interrupted()
            await asyncio.sleep(0.05)
        return (image,)


class TestList:
    """A list of the same image, as nodes that declare a list output give it."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"image": ("IMAGE",), "count": ("INT", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_IS_LIST = ("IMAGE",), "run", "testing", (True,)

    def run(self, image, count):
        return ([image] * count,)


class TestStrings:
    """A list of strings."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"count": ("INT", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_IS_LIST = ("STRING",), "run", "testing", (True,)

    def run(self, count):
        return ([f"prompt {index}" for index in range(count)],)


class TestJoin:
    """Text of two texts: a node of the body that is neither an image nor a sampler."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"first": ("STRING", {}), "second": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "run", "testing"

    def run(self, first, second):
        return (f"{first} {second}",)


@PromptServer.instance.routes.get("/testing/memory")
async def memory(request: web.Request) -> web.Response:
    """Bytes that the tensors of this process hold, and bytes of the process."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what is freed, but kept by the allocator for later, is not in use
    tensors = (each for each in gc.get_objects() if type(each) is torch.Tensor)
    sizes = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return web.json_response({"tensors": sum(sizes.values()), "process": psutil.Process().memory_info().rss})


KINDS = (TestGenerate, TestRecord, TestRaise, TestSleep, TestList, TestStrings, TestJoin)
NODE_CLASS_MAPPINGS = {kind.__name__: kind for kind in KINDS}
