"""Nodes for tests only: they stand where a model would, and note every run in `output/runs.jsonl`."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import hashlib
import json
import os
import sys
from contextlib import suppress
from typing import Any

import comfy.model_management
import folder_paths
import numpy as np
import psutil
import torch
from aiohttp import web
from comfy_execution.graph_utils import ExecutionBlocker, GraphBuilder, is_link
from server import PromptServer

PIXELS = {"width": ("INT", {"default": 64, "max": 4096}), "batch": ("INT", {"default": 1})}


def record_event(kind: str, **what: Any) -> None:
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
        record_event("generate", prompt=prompt, seed=seed, name=name)
        return (torch.stack([picture(width, prompt, seed, index) for index in range(batch)]),)


class TestCheckpoint:
    """Stands where a model is loaded."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"ckpt_name": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("TEST_MODEL",), "run", "testing"

    def run(self, ckpt_name):
        return (ckpt_name,)


class TestEncode:
    """Stands where a text is encoded."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"text": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("TEST_CONDITIONING",), "run", "testing"

    def run(self, text):
        return (text,)


class TestSampler:
    """An image that depends on all that a sampler's does, with the inputs of one."""

    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {
                "model": ("TEST_MODEL",),
                "positive": ("TEST_CONDITIONING",),
                "seed": ("INT", {"max": 2**64 - 1}),
                "steps": ("INT", {}),
                "cfg": ("FLOAT", {}),
                "sampler_name": ("STRING", {}),
                "scheduler": ("STRING", {}),
            },
        }
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "testing"

    def run(self, **given):
        return (picture(96, *sorted(given.items()))[None],)


class TestRepair:
    """An image made from another one, as an edit model makes it: it depends on that, on the text and on the seed."""

    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {"image": ("IMAGE",), "prompt": ("STRING", {}), "seed": ("INT", {"max": 2**64 - 1})},
        }
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "testing"

    def run(self, image, prompt, seed):
        begun_with = _described(image)["pixels"]
        record_event("repair", image=begun_with, prompt=prompt, seed=seed)
        return (torch.stack([picture(each.shape[1], begun_with, prompt, seed, n) for n, each in enumerate(image)]),)


class TestRecord:
    """An output node that notes the value it got; images by a hash of their pixels."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"value": ("*", {}), "name": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "testing", True

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, value, name):
        record_event("record", name=name, value=_described(value))
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


class TestBlock:
    """Passes an image on, and blocks what reads it where the number is the one to block at."""

    INPUT_TYPES = TestRaise.INPUT_TYPES
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "testing"

    def run(self, image, number, at):
        return (ExecutionBlocker(None) if number == at else image,)


class TestNothing:
    """An IMAGE output that gives ``None``, as some packs do when they have no image."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "testing"

    def run(self):
        return (None,)


class TestChoose:
    """One of two values: the first where the number is 1."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"number": ("INT", {}), "first": ("*", {}), "other": ("*", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("*",), "run", "testing"

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, number, first, other):
        return (first if number == 1 else other,)


class AnyType(str):
    """A type that fits all others, as other packs make it."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False


class TestShowText:
    """Passes anything on as Show Text nodes do: it takes a list, and gives a list."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"text": ("*", {"forceInput": True})}})
    RETURN_TYPES, FUNCTION, CATEGORY = (AnyType("*"),), "run", "testing"
    INPUT_IS_LIST, OUTPUT_IS_LIST, OUTPUT_NODE = True, (True,), True

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, text):
        return {"ui": {"text": [str(each)[:100] for each in text]}, "result": (text,)}


class ImpactControlBridge:
    """Its namesake's way of failing: it looks itself up by its id, which a clone has a new one of."""

    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {"value": ("IMAGE",), "mode": ("BOOLEAN",), "behavior": (["Stop", "Mute", "Bypass"],)},
            "hidden": {"unique_id": "UNIQUE_ID", "prompt": "PROMPT"},
        }
    )
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = ("IMAGE",), "run", "testing", True

    def run(self, value, mode, behavior, unique_id, prompt):
        if behavior != "Stop":
            prompt[unique_id]
        return (value,)


class WidgetToString:
    """Its namesake's way of failing: it takes its id for a number, which that of a clone is not."""

    INPUT_TYPES = classmethod(
        lambda cls: {"required": {"any_input": ("IMAGE",)}, "hidden": {"unique_id": "UNIQUE_ID"}},
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "testing"

    def run(self, any_input, unique_id):
        int(unique_id)
        return (any_input,)


class ImpactMakeImageList:
    """As its namesake does: one list of all images that are connected."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"image1": ("IMAGE",)}})
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_IS_LIST = ("IMAGE",), "run", "testing", (True,)

    def run(self, **images):
        return (list(images.values()),)


class TestCount:
    """How many characters a text has."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"text": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", "testing"

    def run(self, text):
        return (len(text),)


class TestForOpen:
    """The first node of a loop that counts its rounds, as packs build them by expansion."""

    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {"rounds": ("INT", {})},
            "optional": {"round": ("INT", {"default": 1}), "value": ("*", {})},
        }
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("TEST_FLOW", "INT", "*"), "run", "testing"

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, rounds, round=1, value=None):
        return ("flow", round, value)


class TestForClose:
    """Its last node: expands into clones of what lies between, once for each further round."""

    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {"flow": ("TEST_FLOW", {"rawLink": True}), "value": ("*", {})},
            "hidden": {"dynprompt": "DYNPROMPT", "unique_id": "UNIQUE_ID"},
        }
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("*",), "run", "testing"

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, flow, value, dynprompt, unique_id):
        first = flow[0]
        inputs = dynprompt.get_node(first)["inputs"]
        round = inputs.get("round", 1) + 1
        if round > inputs["rounds"]:
            return (value,)
        repeated = [*_between(dynprompt, first, unique_id), first, unique_id]
        graph = GraphBuilder()
        for node_id in repeated:
            clone = graph.node(dynprompt.get_node(node_id)["class_type"], node_id)
            clone.set_override_display_id(node_id)
        for node_id in repeated:
            for name, given in dynprompt.get_node(node_id)["inputs"].items():
                inside = is_link(given) and given[0] in repeated
                given = graph.lookup_node(given[0]).out(given[1]) if inside else given
                graph.lookup_node(node_id).set_input(name, given)
        graph.lookup_node(first).set_input("round", round)
        graph.lookup_node(first).set_input("value", value)
        return {"result": (graph.lookup_node(unique_id).out(0),), "expand": graph.finalize()}


def _between(dynprompt: Any, first: str, last: str) -> list[str]:
    """What comes after ``first`` and before ``last``."""
    after, before, waiting = {first}, [], [last]
    while waiting:
        node_id = waiting.pop()
        for given in dynprompt.get_node(node_id)["inputs"].values():
            if is_link(given) and given[0] not in before:
                before.append(given[0])
                waiting.append(given[0])
    grown = True
    while grown:
        found = {
            node_id
            for node_id in before
            if any(is_link(given) and given[0] in after for given in dynprompt.get_node(node_id)["inputs"].values())
        }
        grown = not found <= after
        after |= found
    return [node_id for node_id in before if node_id in after and node_id != first]


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
        record_event("sleep", number=number)
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
    sizes = {}
    for each in gc.get_objects():
        if type(each) is torch.Tensor:
            with suppress(NotImplementedError):  # torch keeps some that have no storage
                storage = each.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
    return web.json_response({"tensors": sum(sizes.values()), "process": psutil.Process().memory_info().rss})


KINDS = (
    TestGenerate, TestCheckpoint, TestEncode, TestSampler, TestRepair, TestRecord, TestRaise, TestBlock, TestNothing,
    TestChoose, TestSleep, TestList, TestStrings, TestJoin, TestShowText, TestCount, TestForOpen, TestForClose,
    ImpactControlBridge, ImpactMakeImageList, WidgetToString,
)  # fmt: skip
NODE_CLASS_MAPPINGS = {kind.__name__: kind for kind in KINDS}
