"""One End in the running graph: which nodes make its attempt, and what is shown and saved about its loop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import comfy.utils
import torch
from comfy_api.latest import io
from comfy_execution.graph import DynamicPrompt, TopologicalSort
from comfy_execution.progress import NodeState, get_progress_state
from comfy_execution.utils import get_executing_context

import nodes as comfy_nodes  # type: ignore[import-not-found]  # ComfyUI's, not the pack's

from ...runflow_api import images
from ...runflow_api.prompt.classes import REPAIR_SWITCH
from ...runflow_api.prompt.graph import (
    Body,
    Graph,
    Node,
    boundary_pairs,
    clone,
    downstream,
    find_body,
    identities,
    identity,
    link,
    links,
    start_outputs_behind,
    start_outputs_read,
    upstream,
    with_whole_loops,
)
from .. import _image_batch, _runtime
from .._schema import loop_boundary
from ..routing import FIRST_REPAIR
from . import saved_metadata
from .attempts import BEST_OUT, MAX_ATTEMPTS, ORIGINAL_OUT, Handover, History, Loop, LoopSettings, LoopState
from .lists import where_lists_come_from
from .saved_metadata import END

HANDOVER = "_handover"
"""No input of End's schema: ComfyUI passes it to no node, and finds no node that has it in its cache."""
PREVIEW_SIDE = 512
_ended_early: OrderedDict[str, int] = OrderedDict()
"""How often a loop ended without its End, by what End depends on; of the last ``saved_metadata.MAX_REMEMBERED``."""


class LoopContext:
    """One End, by its id, in the graph that runs. ``extra_pnginfo``: what savers write of it."""

    @classmethod
    def of(cls, end: type[io.ComfyNode]) -> LoopContext:
        return cls(end.hidden.unique_id, end.hidden.dynprompt, end.hidden.extra_pnginfo)

    def __init__(self, node_id: str, dynprompt: DynamicPrompt, extra_pnginfo: Any = None) -> None:
        self.node_id, self.dynprompt = node_id, dynprompt
        self.extra_pnginfo = extra_pnginfo
        self.metadata = saved_metadata.metadata_of(dynprompt.original_prompt, extra_pnginfo)
        self.inputs: Mapping[str, Any] = dynprompt.get_node(node_id)["inputs"]
        given = self.inputs.get(HANDOVER)
        self._lazy_inputs: dict[str, frozenset[str]] = {}
        self.handover = given if isinstance(given, Handover) else None  # whatever a posted workflow holds there

    # --- the graph

    @cached_property
    def everything(self) -> dict[str, Node]:
        return {**self.dynprompt.original_prompt, **self.dynprompt.ephemeral_prompt}

    @cached_property
    def _first_end(self) -> str:
        return self.handover.loop.body.end if self.handover else self.node_id

    @cached_property
    def level(self) -> str | None:
        """The node whose expansion the loop is in, ``None`` for none."""
        parent: str | None = self.dynprompt.get_parent_node_id(self._first_end)
        return parent

    @cached_property
    def graph(self) -> Graph:
        """The nodes beside the loop's first attempt: neither those of outer levels nor clones of inner ones."""
        if self.handover:
            return self.handover.loop.graph
        parent = self.dynprompt.get_parent_node_id
        return {node: info for node, info in self.everything.items() if parent(node) == self.level}

    def body(self, state: LoopState) -> Body:
        """The nodes of the loop's first attempt, which all others are clones of."""
        if self.handover:
            return self.handover.loop.body
        return self.find_body(state.start, self.node_id)

    def loop(self, state: LoopState) -> Loop:
        """What stays the same at every attempt."""
        body = self.body(state)
        outputs, read = self.output_nodes(body), frozenset(start_outputs_read(self.graph, body))
        reaching, repair_from = self.reaching(body), self.repair_from(body)
        return Loop(self.graph, body, self.inputs_identity(), outputs, reaching, read, repair_from)

    def find_body(self, start: str, end: str) -> Body:
        body = find_body(self.graph, start, end, self.is_output_node, constant={ORIGINAL_OUT})
        return with_whole_loops(self.graph, body, self._loops_of_comfyui)

    @cached_property
    def _loops_of_comfyui(self) -> list[tuple[str, str]]:
        sides = {node: loop_boundary(comfy_nodes.NODE_CLASS_MAPPINGS[self.class_of(node)]) for node in self.graph}
        starts, ends = ([node for node in sides if sides[node] == side] for side in ("start", "end"))
        return list(boundary_pairs(self.graph, starts, ends))

    def body_inside(self, node: str) -> Body | None:
        """What the loop repeats that ends at ``node``, if one does."""
        start = link(self.graph[node]["inputs"].get("loop"))
        if self.class_of(node) != END or start is None or start[0] not in self.graph:
            return None
        return self.find_body(start[0], node)

    def lazy_inputs(self, node: str) -> frozenset[str]:
        """The linked inputs that a node may leave unasked for.

        Asked as ComfyUI asks, by the method that it asks with: packs that have any number of inputs look who asks. They
        may make a list of files or of callers each time, so it is asked once.
        """
        if node not in self._lazy_inputs:
            asking = TopologicalSort(self.dynprompt)
            declared = ((name, asking.get_input_info(node, name)[2]) for name, _ in links(self.graph[node]))
            lazy = frozenset(name for name, options in declared if options and options.get("lazy"))
            self._lazy_inputs[node] = lazy
        return self._lazy_inputs[node]

    def class_of(self, node: str) -> str:
        return str(self.graph[node]["class_type"])

    def describe(self, node: str) -> str:
        """A node as people find it: its id in the editor, and its class."""
        return f"{self.shown_on(node)} ({self.class_of(node)})"

    def type_over(self, node: str, name: str) -> str:
        """The declared type of what is linked to an input, "" if nothing is."""
        source = link(self.graph[node]["inputs"].get(name))
        if source is None or source[0] not in self.everything:
            return ""
        types = comfy_nodes.NODE_CLASS_MAPPINGS[self.everything[source[0]]["class_type"]].RETURN_TYPES
        return str(types[source[1]]) if source[1] < len(types) else ""

    def where_lists_come_from(self, *names: str) -> str:
        """What End says of a list at one of its inputs ``names``."""
        return where_lists_come_from(self.everything, [link(self.inputs.get(name)) for name in names], self.shown_on)

    def foreign_loops(self) -> Iterator[Body]:
        """Other loops beside this one: ends of packs take the start's flow as a raw link; ComfyUI's own are marked."""
        flows: dict[str, set[str]] = {}
        for node, info in self.graph.items():
            kind = info["class_type"]
            if kind not in flows:
                flows[kind] = _raw_inputs(comfy_nodes.NODE_CLASS_MAPPINGS[kind])
            for name, (source, _) in links(info):
                if name in flows[kind] and source in self.graph:
                    yield find_body(self.graph, source, node, self.is_output_node)
        for start, end in self._loops_of_comfyui:
            yield find_body(self.graph, start, end, self.is_output_node)

    @cached_property
    def _requested(self) -> set[str] | None:
        """The output nodes that were asked to run; the editor can run some of them only."""
        context = get_executing_context()
        item = saved_metadata.running_item(context.prompt_id) if context else None
        return set(item[4]) if item else None

    def is_output_node(self, node: str) -> bool:
        is_output = getattr(comfy_nodes.NODE_CLASS_MAPPINGS[self.class_of(node)], "OUTPUT_NODE", False)
        return bool(is_output) and (self._requested is None or self.shown_on(node) in self._requested)

    def shown_on(self, node: str) -> str:
        """The id in the editor of a node or of a clone."""
        return str(self.dynprompt.get_display_node_id(node))

    def _local(self, node: str) -> str:
        """A node's id less what its level adds to it, so that ids of clones do not grow with every level."""
        return node if self.level is None else node.removeprefix(f"{self.level}.0.0.")

    def _of_this_attempt(self, node: str) -> str:
        """The clone of a node of the first attempt."""
        return self.node_id.removesuffix(self._local(self._first_end)) + self._local(node)

    def expansion(self, history: History, stand_in: Node) -> tuple[dict[str, Any], str]:
        """The clones of the next attempt, and the id of this End's among them."""
        prefix = f"{self.node_id}.0.0."
        expansion, end = clone(
            self.graph, history.loop.body, prefix, local=self._local, shown_on=self.shown_on, stand_in=stand_in
        )
        expansion[end]["inputs"][HANDOVER] = Handover(history)
        return expansion, end

    def reaching(self, body: Body) -> frozenset[int]:
        """Start's outputs that End's image depends on."""
        return frozenset(start_outputs_behind(self.graph, body, "image"))

    def repair_from(self, body: Body) -> int:
        """The first attempt whose image is made from the best one, 0 if none is. A number over a link may be any."""
        if BEST_OUT not in self.reaching(body):
            return 0
        switches = [self.graph[node]["inputs"] for node in body.nodes if self.class_of(node) == REPAIR_SWITCH]
        first = [inputs.get("repair_from", FIRST_REPAIR) for inputs in switches if "repair" in inputs]
        return min((each if isinstance(each, int) else FIRST_REPAIR for each in first), default=FIRST_REPAIR)

    def max_attempts(self, settings: LoopSettings) -> int:
        """How many attempts there can be."""
        return settings.max_attempts if "evaluation" in self.inputs else 1

    def max_attempts_inside(self, end: str) -> int:
        """The same of another End of this graph, whose number may come over a link."""
        inputs = self.graph[end]["inputs"]
        most = inputs.get("max_attempts", LoopSettings.max_attempts) if "evaluation" in inputs else 1
        return most if isinstance(most, int) else MAX_ATTEMPTS

    # --- what is shown

    def say(self, text: str) -> None:
        _runtime.NodeProgress(self.shown_on(self.node_id)).text(text)

    def say_on_start(self, body: Body, text: str) -> None:
        _runtime.NodeProgress(self.shown_on(body.start)).text(text)

    def preview(self, image: torch.Tensor, number: int, most: int) -> None:
        """An attempt's first image on End, as a sampler shows its preview; and how many attempts were made."""
        (first,) = _image_batch.pictures(_image_batch.batch(image)[:1])
        picture = images.to_pil(first.pixels).convert("RGB")
        picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        bar = comfy.utils.ProgressBar(most, self.node_id)
        bar.update_absolute(number, most, ("JPEG", picture, PREVIEW_SIDE))

    def forget_progress(self, body: Body) -> None:
        """Take this attempt's nodes out of what ComfyUI sends to the page at every step of every node.

        Otherwise it would send the state of all attempts each time, and every attempt would take longer than the one
        before. What is still running is left.
        """
        states = get_progress_state().nodes
        for node in map(self._of_this_attempt, body.nodes):
            if node in states and states[node]["state"] == NodeState.Finished:
                del states[node]

    def names(self, body: Body) -> dict[str, str]:
        """The ids of the loop's nodes in the editor."""
        return {"start": self.shown_on(body.start), "end": self.shown_on(body.end)}

    def warnings(self, body: Body) -> list[str]:
        readers = [self.describe(node) for node in body.readers_after_end]
        if not readers:
            return []
        return [f"node {', '.join(readers)} comes after End and also reads the loop: it gets attempt 1's value there"]

    # --- what is saved

    def begin_metadata(self, body: Body, state: LoopState) -> None:
        """From here on the body saves its first attempt, and no loop in it has a best one."""
        inner = [node for node in body.nodes if self.class_of(node) == END]
        end = self.shown_on(body.end)
        self.metadata.retract([end, *map(self.shown_on, inner)])
        entry = self._attempt_entry(body, state, 1)
        self.metadata.add_first_attempt(end, body.nodes, entry)
        saved_metadata.remember_first_attempt(self._start_identity(body), entry)

    def add_attempt_metadata(self, body: Body, state: LoopState, number: int) -> None:
        """What the next expansion of this End saves is of this attempt."""
        self.metadata.add_attempt(self.shown_on(body.end), self.node_id, self._attempt_entry(body, state, number))

    def _attempt_entry(self, body: Body, state: LoopState, number: int) -> dict[str, Any]:
        return {"start": self.shown_on(body.start), "attempt": number, **state.to_json()}

    def publish_best(self, history: History) -> None:
        """Write the best attempt, and what loops inside it chose, into the metadata of what is saved after the loop."""
        body = history.loop.body
        entry = {"start": self.shown_on(body.start), **history.best.recipe(), "attempts": len(history.attempts)}
        entries = {**history.best.inside, self.shown_on(body.end): entry}
        saved_metadata.remember(self._identity(body.end), entries)
        self.metadata.publish(entries)

    def inputs_identity(self) -> str:
        """What the first attempt is made with: everything before End, files that changed on the disk included."""
        sources = [source for name in ("image", "evaluation") if (source := link(self.inputs.get(name)))]
        known = [node for node, _ in sources if node in self.everything]
        hashes = identities(self.everything, known, _is_changed)
        return " ".join(f"{hashes.get(node, node)}:{socket}" for node, socket in sources)

    def output_nodes(self, body: Body) -> frozenset[str]:
        """What previews and saves in the body beside End, by the identity of each: it runs at every attempt."""
        outputs = [node for node in body.nodes if self.is_output_node(node)]
        hashes = identities(self.everything, outputs)
        return frozenset(hashes[node] for node in outputs)

    @cached_property
    def extra_cache_key(self) -> str:
        """What End depends on that is not an input of it: with other output nodes the attempts run again.

        And after a loop that ended early: what a node blocks comes from ComfyUI's cache too, and nobody would be told.
        """
        body = self.body_inside(self.node_id)
        early = _ended_early.get(self._inputs_of(self.node_id), 0)
        return " ".join([*(sorted(self.output_nodes(body)) if body else ()), *([str(early)] if early else ())])

    def let_end_run_again(self) -> None:
        """At the next queue, although nothing has changed: this loop ended without its End."""
        if self._first_end in self.dynprompt.original_prompt:
            inputs = self._inputs_of(self._first_end)
            saved_metadata.keep(_ended_early, inputs, _ended_early.get(inputs, 0) + 1)

    def _inputs_of(self, end: str) -> str:
        return f"{end}:{identity(self.everything, end)}"

    def _identity(self, end: str) -> str:
        """Of an End: ComfyUI has its result in the cache for as long as this is the same."""
        extra_cache_key = ""
        if end in self.dynprompt.original_prompt:  # a clone runs again with the end that it is a clone of
            extra_cache_key = (self if end == self.node_id else LoopContext(end, self.dynprompt)).extra_cache_key
        return f"{self._inputs_of(end)} {extra_cache_key}"

    def _start_identity(self, body: Body) -> str:
        return f"{body.start}:{identity(self.everything, body.start)}"

    def restore_metadata(self, prompt_id: str) -> None:
        """Put back what savers write of this loop, if its results are in ComfyUI's cache."""
        body = self.body_inside(self.node_id)
        start, nodes = (self._start_identity(body), body.nodes) if body else ("", ())
        saved_metadata.restore(self.node_id, prompt_id, self._identity(self.node_id), start, nodes)

    def best_inside(self, body: Body, number: int) -> saved_metadata.Entries:
        """What the loops in this attempt chose; also if ComfyUI had them in its cache."""
        chosen: saved_metadata.Entries = {}
        for node in body.nodes:
            if self.class_of(node) == END:
                chosen |= saved_metadata.remembered(self._identity(self._of_this_attempt(node)))
        end = self.shown_on(body.end)
        return {inner: {**entry, "chosen_by": end, "in_attempt": number} for inner, entry in chosen.items()}


def fingerprint() -> str:
    """What the End whose fingerprint ComfyUI is taking depends on beside its inputs, which are all that it is told.

    ComfyUI asks at every prompt, before anything runs: the best attempt is put back here too, in case it is cached.
    """
    running, dynprompt = get_executing_context(), get_progress_state().dynprompt
    if running is None or running.node_id not in dynprompt.original_prompt:
        return ""  # a clone: the end that it is a clone of speaks for it
    context = LoopContext(running.node_id, dynprompt)
    context.restore_metadata(running.prompt_id)
    return context.extra_cache_key


def is_later_attempt(node: type[io.ComfyNode]) -> bool:
    """Whether a running node makes the second or a later attempt of a loop: then an earlier one could be lost."""
    dynprompt, parent = node.hidden.dynprompt, node.hidden.unique_id
    while (parent := dynprompt.get_parent_node_id(parent)) is not None:
        if dynprompt.get_node(parent)["class_type"] == END:
            return True
    return False


def is_between_start_and_end(node: type[io.ComfyNode]) -> bool:
    """Whether a running node comes after the Start and before the End of one loop."""
    node_id, dynprompt = node.hidden.unique_id, node.hidden.dynprompt
    everything = {**dynprompt.original_prompt, **dynprompt.ephemeral_prompt}
    before = upstream(everything, [node_id])
    ends = [each for each in downstream(everything, node_id) if everything[each]["class_type"] == END]
    starts = (link(everything[end]["inputs"].get("loop")) for end in ends)
    return any(start is not None and start[0] in before for start in starts)


def list_source(node: type[io.ComfyNode]) -> str:
    """What a running node says of a list at one of its inputs."""
    dynprompt = node.hidden.dynprompt
    everything = {**dynprompt.original_prompt, **dynprompt.ephemeral_prompt}
    sources = [source for _, source in links(everything[node.hidden.unique_id])]
    return where_lists_come_from(everything, sources, dynprompt.get_display_node_id)


def _is_changed(node: Node) -> Any:
    """ComfyUI's fingerprint of it, NaN for what always runs."""
    return node.get("is_changed")


def _raw_inputs(kind: Any) -> set[str]:
    """The inputs of a class that get a link as it is, and not what comes over it."""
    inputs = kind.INPUT_TYPES()
    every = {**inputs.get("required", {}), **inputs.get("optional", {})}
    return {
        name
        for name, declared in every.items()
        if len(declared) > 1 and isinstance(declared[1], dict) and declared[1].get("rawLink")
    }
