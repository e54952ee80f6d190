"""What queueing a prompt would spend, asked of a running ComfyUI: it has the nodes, the files, and its own check."""

from __future__ import annotations

import copy
import logging
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import execution  # type: ignore[import-not-found]  # ComfyUI's, as the next one
import numpy as np
import torch

import nodes as comfy_nodes  # type: ignore[import-not-found]

from . import _image_batch, _runtime
from ._schema import loop_boundary

if TYPE_CHECKING:
    from ..runflow_api.prompt.classes import NodeClass
    from ..runflow_api.prompt.price import Problem, PromptPrice

OWN_MODULES = ("nodes", "comfy_extras", "comfy_api_nodes")
"""Where ComfyUI's own nodes come from; others are of packs."""
MAX_PIXELS = 64_000_000
"""A larger batch is not read for a preview: its count is the most that it can be."""

log = logging.getLogger("runflow_evaluate")


async def check(prompt: dict[str, Any]) -> tuple[set[str], list[Problem]]:
    """ComfyUI's own check of a prompt: the output nodes that it would run, and why it would not run others."""
    from ..runflow_api.prompt.price import Problem, WillNotRunError

    is_valid, error, outputs, node_errors = await execution.validate_prompt(
        str(uuid.uuid4()), copy.deepcopy(prompt), None
    )
    problems = [
        Problem(str(node), WillNotRunError(_sentence(each)))
        for node, found in node_errors.items()
        for each in found["errors"]
    ]
    if not is_valid and not problems:
        problems = [Problem("", WillNotRunError(_sentence(error)))]
    return set(map(str, outputs)) if is_valid else set(), problems


def _sentence(error: Mapping[str, Any]) -> str:
    said = ": ".join(str(part) for part in (error.get("message"), error.get("details")) if part)
    return f"ComfyUI refuses it: {said[:500].rstrip('.')}."


def price(prompt: dict[str, Any], outputs: set[str], problems: list[Problem]) -> PromptPrice:
    """Blocks: reads files and looks up prices."""
    from ..runflow_api.prompt import price as prompt_price

    return prompt_price.price(
        prompt, _runtime.evaluator(), read_image=_read_image, classes=_class, outputs=outputs, problems=problems
    )


@cache
def _class(name: str) -> NodeClass:
    """What is known of a class of nodes. A loop's own ends are foreign, whoever they are from."""
    from ..runflow_api.prompt.classes import UNKNOWN_CLASS, NodeClass, listed

    if name.startswith("Runflow"):
        return listed(name)
    kind = comfy_nodes.NODE_CLASS_MAPPINGS.get(name)
    if kind is None:
        return UNKNOWN_CLASS
    inputs = kind.INPUT_TYPES()
    every = {**inputs.get("required", {}), **inputs.get("optional", {})}
    settings = {each: spec[1] for each, spec in every.items() if len(spec) > 1 and isinstance(spec[1], dict)}
    module = str(getattr(kind, "RELATIVE_PYTHON_MODULE", None) or "nodes").partition(".")[0]
    sees_the_graph = "DYNPROMPT" in str(inputs.get("hidden", {}))
    is_end = loop_boundary(kind) is not None
    repeats = is_end or sees_the_graph or any(each.get("rawLink") for each in settings.values())
    return NodeClass(
        is_output=bool(getattr(kind, "OUTPUT_NODE", False)),
        gives_list=any(getattr(kind, "OUTPUT_IS_LIST", None) or ()),
        is_foreign=module not in OWN_MODULES or is_end,
        repeats=repeats,
        lazy=frozenset(each for each, given in settings.items() if given.get("lazy")),
    )


def _read_image(inputs: Mapping[str, Any]) -> Sequence[np.ndarray] | None:
    """What Load Image gives, by Load Image itself: versions of ComfyUI decode some files in another way."""
    kind = comfy_nodes.NODE_CLASS_MAPPINGS.get("LoadImage")
    if kind is None or not isinstance(inputs.get("image"), str):
        return None
    try:
        given = getattr(kind(), kind.FUNCTION)(image=inputs["image"])
    except Exception as error:  # whatever a file may do to a decoder: the run will say it
        log.info("The price does not know the picture of a Load Image: %s", error)
        return None
    loaded = getattr(given, "result", given)[0]
    if not isinstance(loaded, torch.Tensor) or loaded.numel() > 3 * MAX_PIXELS:
        return None
    return _image_batch.arrays(loaded)
