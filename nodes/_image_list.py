"""A list of images on one Evaluate node: ComfyUI runs the node once for each value, and tells it of no other.

But it asks for the lazy inputs of every value before it runs the first. There they are collected, so that a list is
counted whole against the limits before its first image is paid.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from comfy_execution.utils import get_executing_context

from ..runflow_api import background
from ..runflow_api.errors import BudgetError, RunflowError
from ..runflow_api.evaluation.question import Options, Question
from ..runflow_api.evaluation.verdict import RUNFLOW
from . import _image_batch, _runtime

IN_A_LOOP = (
    "gets a list of {count} values, but a loop needs one: every attempt would pay for each of them.{source} Make one "
    "batch or one text of it, or loop without it."
)


@dataclass
class ImageList:
    """The values of one run of a node: the images of each and what is asked about them."""

    values: list[tuple[Any, Question, Options, str]] = field(default_factory=list)
    _checking: asyncio.Task[BudgetError | None] | None = None

    async def broken_limit(self, prompt_id: str) -> BudgetError | None:
        """The limit that all values together break, looked up once; the evaluator looks itself at a single one."""
        if len(self.values) < 2:
            return None
        if self._checking is None:
            self._checking = asyncio.create_task(self._check(prompt_id))
        return await asyncio.shield(self._checking)

    async def _check(self, prompt_id: str) -> BudgetError | None:
        evaluator = _runtime.evaluator()
        asked = []
        for images, question, options, judge in self.values:
            if evaluator.resolve(judge) == RUNFLOW:
                hashes = await _image_batch.pixel_hashes(_image_batch.check_images("image", images))
                asked += [(pixel_hash, question, options) for pixel_hash in hashes]
        try:
            if asked:
                await asyncio.wrap_future(background.start(evaluator.estimate(asked, prompt_id)))
        except RunflowError as error:
            return error if isinstance(error, BudgetError) else None  # the evaluator says what else is the matter
        return None


_lists: dict[tuple[str, str], ImageList] = {}
"""Of the prompt that runs, by prompt and node."""


def collect(images: Any, question: Question, options: Options, judge: str) -> None:
    """Called for every value of a node's list, before the node runs for any of them."""
    running = get_executing_context()
    if running is None:
        return
    for key in [key for key in _lists if key[0] != running.prompt_id]:
        del _lists[key]
    if not running.list_index:
        _lists.pop((running.prompt_id, running.node_id), None)
    collected = _lists.setdefault((running.prompt_id, running.node_id), ImageList())
    collected.values.append((images, question, options, judge))


def collected() -> ImageList:
    """All values of the node that runs. A single one is not kept."""
    running = get_executing_context()
    key = (running.prompt_id, running.node_id) if running is not None else ("", "")
    found = _lists.get(key, ImageList())
    if len(found.values) < 2:
        _lists.pop(key, None)
    return found
