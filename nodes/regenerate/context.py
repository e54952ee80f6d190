"""One End in the running graph: which nodes make its attempt, and what is shown and saved about its loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import comfy.utils
import torch
from comfy_api.latest import io
from comfy_execution.graph import DynamicPrompt
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from PIL import Image

import nodes as comfy_nodes

from ...runflow_api import images
from ...runflow_api.errors import RunflowError
from ...runflow_api.evaluation.verdict import RUNFLOW
from .. import _image_batch, _runtime
from . import graph as _loop
from . import saved_metadata as _winners
from .attempts import MAX_ATTEMPTS, ORIGINAL_OUT, Handover, History, LoopSettings, LoopState
from .saved_metadata import END

HANDOVER = "_handover"
"""No input of End's schema: ComfyUI passes it to no node, and finds no node that has it in its cache."""
PREVIEW_SIDE = 512
SPLIT, SWITCH = "RunflowSplitByVerdict", "RunflowVerdictSwitch"
EVALUATION_OUT, KEPT_OUT = 7, 8
"""End's outputs best_evaluation and attempt_images, which are blocked where there is nothing to send."""
SPLIT_COUNTS = range(3, 6)
"""The outputs of Split Passed / Failed that always have a value."""


class LoopContext:
    """One End, by its id, in the graph that runs. ``extra_pnginfo``: what savers write of it."""

    @classmethod
    def of(cls, end: type[io.ComfyNode]) -> LoopContext:
        return cls(end.hidden.unique_id, end.hidden.dynprompt, end.hidden.extra_pnginfo)

    def __init__(self, node_id: str, dynprompt: DynamicPrompt, extra_pnginfo: Any = None) -> None:
        self.node_id, self.dynprompt = node_id, dynprompt
        self.prompt, self.extra_pnginfo = dynprompt.original_prompt, extra_pnginfo
        self.inputs: Mapping[str, Any] = dynprompt.get_node(node_id)["inputs"]
        given = self.inputs.get(HANDOVER)
        self.handover = given if isinstance(given, Handover) else None  # whatever a posted workflow holds there

    # --- the graph

    @cached_property
    def everything(self) -> dict[str, _loop.Node]:
        return {**self.dynprompt.original_prompt, **self.dynprompt.ephemeral_prompt}

    @cached_property
    def _first_end(self) -> str:
        return self.handover.body.end if self.handover else self.node_id

    @cached_property
    def level(self) -> str | None:
        """The node whose expansion the loop is in, ``None`` for none."""
        return self.dynprompt.get_parent_node_id(self._first_end)

    @cached_property
    def graph(self) -> dict[str, _loop.Node]:
        """The nodes beside the loop's first attempt: neither those of outer levels nor clones of inner ones."""
        parent = self.dynprompt.get_parent_node_id
        return {node: info for node, info in self.everything.items() if parent(node) == self.level}

    def body(self, turn: LoopState) -> _loop.Body:
        """The nodes of the loop's first attempt, which all others are clones of."""
        if self.handover:
            return self.handover.body
        return _loop.find_body(self.graph, turn.start, self.node_id, self._is_output_node, constant={ORIGINAL_OUT})

    @cached_property
    def _requested(self) -> set[str] | None:
        """The output nodes that were asked to run; the editor can run some of them only."""
        context = get_executing_context()
        item = _winners.running(context.prompt_id) if context else None
        return set(item[4]) if item else None

    def _is_output_node(self, node: str) -> bool:
        is_output = getattr(comfy_nodes.NODE_CLASS_MAPPINGS[self.graph[node]["class_type"]], "OUTPUT_NODE", False)
        return bool(is_output) and (self._requested is None or self._shown_on(node) in self._requested)

    def _shown_on(self, node: str) -> str:
        return self.dynprompt.get_display_node_id(node)

    def _local(self, node: str) -> str:
        """A node's id less what its level adds to it, so that ids of clones do not grow with every level."""
        return node if self.level is None else node.removeprefix(f"{self.level}.0.0.")

    def _of_this_attempt(self, node: str) -> str:
        """The clone of a node of the first attempt."""
        return self.node_id.removesuffix(self._local(self._first_end)) + self._local(node)

    def lists(self) -> set[_loop.Link]:
        """The links that carry lists."""
        graph, classes = self.everything, comfy_nodes.NODE_CLASS_MAPPINGS

        def makes_list(node: str, socket: int) -> bool:
            declared = getattr(classes[graph[node]["class_type"]], "OUTPUT_IS_LIST", None) if node in graph else None
            return bool(declared and socket < len(declared) and declared[socket])

        return _loop.list_links(
            graph, makes_list, lambda node: bool(getattr(classes[graph[node]["class_type"]], "INPUT_IS_LIST", False))
        )

    def expansion(self, history: History, stand_in: _loop.Node) -> tuple[dict[str, Any], str]:
        """The clones of the next attempt, and the id of this End's among them."""
        prefix = f"{self.node_id}.0.0."
        expansion, end = _loop.clone(
            self.graph, history.body, prefix, local=self._local, shown_on=self._shown_on, stand_in=stand_in
        )
        expansion[end]["inputs"][HANDOVER] = Handover(history)
        return expansion, end

    def senders_of_nothing(self, body: _loop.Body, name: str) -> Iterator[tuple[str, str]]:
        """(node, why) for each node of the body that may block what End's input ``name`` reads."""
        for node, socket in sorted(_loop.links_read(self.graph, body, name, self._is_switch)):
            inputs, shown, kind = self.graph[node]["inputs"], self._shown_on(node), self.graph[node]["class_type"]
            if kind == SPLIT and socket not in SPLIT_COUNTS:
                yield shown, "Split Passed / Failed, which sends nothing on where its side is empty"
            elif kind == SWITCH and not {"on_pass", "on_fail"} <= inputs.keys():
                yield shown, "a Quality Switch that sends nothing on where a side is not connected"
            elif kind == END and socket == KEPT_OUT and inputs.get("keep_attempts", False) is False:
                yield shown, "whose attempt_images are not sent on while its keep_attempts is off"
            elif kind == END and socket == EVALUATION_OUT and "evaluation" not in inputs:
                yield shown, "an End that has no evaluation to send on, because none is connected to it"

    def without_start(self, body: _loop.Body) -> str | None:
        """An End inside this loop whose Start is outside it, if there is one: a clone would have no Start."""
        for node in body.nodes:
            inner = self._body_inside(node)
            if inner is not None and inner.start not in (body.start, *body.nodes):
                return self._shown_on(node)
        return None

    def reaching(self, body: _loop.Body) -> frozenset[int]:
        """Start's outputs that End's image depends on."""
        return frozenset(_loop.start_outputs_behind(self.graph, body, "image"))

    def _is_switch(self, node: str) -> bool:
        return self.graph[node]["class_type"] == SWITCH

    # --- what it may cost

    def most(self, rules: LoopSettings) -> int:
        """How many attempts there can be."""
        return rules.max_attempts if "evaluation" in self.inputs else 1

    def paid_evaluations(self, body: _loop.Body) -> Counter[str | None]:
        """How many evaluations one attempt may pay for, for each priced class; ``None`` is an unknown class."""
        inner = {node: found for node in body.nodes if (found := self._body_inside(node)) is not None}
        times = _loop.repetitions(body, inner, self._most_inside)
        counts: Counter[str | None] = Counter()
        for node in body.nodes:
            if self.graph[node]["class_type"] == "RunflowEvaluateImage" and _may_cost(self.graph[node]["inputs"]):
                counts[self._job_class(node)] += times[node]
        return counts

    def _body_inside(self, node: str) -> _loop.Body | None:
        start = _loop.link(self.graph[node]["inputs"].get("loop"))
        if self.graph[node]["class_type"] != END or start is None or start[0] not in self.graph:
            return None
        return _loop.find_body(self.graph, start[0], node, self._is_output_node, constant={ORIGINAL_OUT})

    def _most_inside(self, end: str) -> int:
        inputs = self.graph[end]["inputs"]
        most = inputs.get("max_attempts", LoopSettings.max_attempts) if "evaluation" in inputs else 1
        return most if isinstance(most, int) else MAX_ATTEMPTS

    def _job_class(self, evaluate: str) -> str | None:
        source = _loop.link(self.graph[evaluate]["inputs"].get("options"))
        if source is None:
            return "standard"
        options = self.everything.get(source[0], {})
        known = options.get("class_type") == "RunflowEvaluationOptions"
        job_class = options["inputs"].get("job_class", "standard") if known else None
        return job_class if isinstance(job_class, str) else None

    # --- what is shown

    def say(self, text: str) -> None:
        _runtime.NodeProgress(self._shown_on(self.node_id)).text(text)

    def say_on_start(self, body: _loop.Body, text: str) -> None:
        _runtime.NodeProgress(self._shown_on(body.start)).text(text)

    def preview(self, image: torch.Tensor, number: int, most: int) -> None:
        """An attempt's first image on End, as a sampler shows its preview; and how many attempts were made."""
        pixels = images.to_pixels(_runtime.arrays(_image_batch.batch(image)[:1])[0])
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        bar = comfy.utils.ProgressBar(most, self.node_id)
        bar.update_absolute(number, most, ("JPEG", picture, PREVIEW_SIDE))

    def names(self, body: _loop.Body) -> dict[str, str]:
        """The ids of the loop's nodes in the editor."""
        return {"start": self._shown_on(body.start), "end": self._shown_on(body.end)}

    def warnings(self, body: _loop.Body) -> list[str]:
        readers = [f"{self._shown_on(node)} ({self.graph[node]['class_type']})" for node in body.readers_after_end]
        if not readers:
            return []
        return [f"node {', '.join(readers)} comes after End and also reads the loop: it gets attempt 1's value there"]

    # --- what is saved

    def retract(self, body: _loop.Body) -> None:
        inner = [node for node in body.nodes if self.graph[node]["class_type"] == END]
        ends = [self._shown_on(node) for node in (body.end, *inner)]
        _winners.retract(self.prompt, self.extra_pnginfo, ends)

    def publish(self, history: History) -> None:
        """Write the winner, and what loops inside it chose, into the metadata of what is saved from here on."""
        end = self._shown_on(history.body.end)
        entry = {"start": self._shown_on(history.body.start), **history.best.recipe(), "attempts": len(history.made)}
        entries = {**history.best.inside, end: entry}
        _winners.remember(self._identity(history.body.end), entries)
        _winners.publish(self.prompt, self.extra_pnginfo, entries)

    def inputs_identity(self) -> str:
        """What the first attempt is made with: everything before End, files that changed on the disk included."""

        def changed(node: _loop.Node) -> Any:
            return node.get("is_changed")  # ComfyUI's fingerprint of it

        sources = (_loop.link(self.inputs.get(name)) for name in ("image", "evaluation"))
        named = [f"{_loop.identity(self.everything, source[0], changed)}:{source[1]}" for source in sources if source]
        return " ".join(named)

    def output_nodes(self, body: _loop.Body) -> frozenset[str]:
        """What previews and saves in the body beside End, by the identity of each: it runs at every attempt."""
        return frozenset(_loop.identity(self.everything, node) for node in body.nodes if self._is_output_node(node))

    @cached_property
    def extra_cache_key(self) -> str:
        """What End depends on that is no input of it: with other sinks the attempts run again."""
        body = self._body_inside(self.node_id)
        return " ".join(sorted(self.output_nodes(body))) if body else ""

    def _identity(self, end: str) -> str:
        """Of an End: ComfyUI has its result in the cache for as long as this is the same."""
        extra_cache_key = ""
        if end in self.dynprompt.original_prompt:  # a clone runs again with the end that it is a clone of
            extra_cache_key = (self if end == self.node_id else LoopContext(end, self.dynprompt)).extra_cache_key
        return f"{_winners.identity(self.everything, end)} {extra_cache_key}"

    def restore_winner(self, prompt_id: str) -> None:
        _winners.restore(self.prompt, self.node_id, prompt_id, self._identity(self.node_id))

    def winners_inside(self, body: _loop.Body, number: int) -> _winners.Entries:
        """What the loops in this attempt chose; also where ComfyUI had them in its cache."""
        chosen: _winners.Entries = {}
        for node in body.nodes:
            if self.graph[node]["class_type"] == END:
                chosen |= _winners.recall(self._identity(self._of_this_attempt(node)))
        end = self._shown_on(body.end)
        return {inner: {**entry, "chosen_by": end, "in_attempt": number} for inner, entry in chosen.items()}


def fingerprint() -> str:
    """What the End whose fingerprint ComfyUI is taking depends on beside its inputs, which are all that it is told.

    ComfyUI asks at every prompt, before anything runs: its winner is put back here too, in case it is cached.
    """
    context, dynprompt = get_executing_context(), get_progress_state().dynprompt
    if context is None or context.node_id not in dynprompt.original_prompt:
        return ""  # a clone: the end that it is a clone of speaks for it
    place = LoopContext(context.node_id, dynprompt)
    place.restore_winner(context.prompt_id)
    return place.extra_cache_key


def _may_cost(evaluate: Mapping[str, Any]) -> bool:
    """Whether Runflow may answer; a judge that comes over a link may be any."""
    judge = evaluate.get("judge", "auto")
    try:
        return not isinstance(judge, str) or _runtime.evaluator().resolve(judge) == RUNFLOW
    except RunflowError:
        return False  # Evaluate will say what is wrong with the configuration
