"""What can be told of an API prompt before it runs: what runs for certain, how often, on how many images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from ..errors import InvalidInputError
from ..evaluation.job import Image
from ..evaluation.question import MAX_REFERENCES, Reference
from ..images import Picture
from .classes import (
    END,
    GIVES_ONE,
    HOLDS_VALUE,
    KEEPS_COUNT,
    LOADS_ONE,
    LOOPS,
    MAKES_COUNT,
    REFERENCE,
    Classes,
    NodeClass,
)
from .graph import Body, Graph, Link, downstream, find_body, link, links, upstream

MOST_ATTEMPTS = 100
USUAL_ATTEMPTS = 3
"""What End makes where nothing is said."""
ORIGINAL_PROMPT = 5
"""The output of a loop's start that is the same at every attempt."""
MAX_NODES = 20_000

ReadImage = Callable[[Mapping[str, Any]], "Sequence[Image] | None"]
"""From the inputs of a Load Image: its pictures, or ``None`` if they cannot be known now. Blocks."""


def check_prompt(prompt: Any) -> Graph:
    """``prompt`` as a graph; what ``/prompt`` takes around it is taken off. Raises ``InvalidInputError``."""
    if isinstance(prompt, dict) and isinstance(prompt.get("prompt"), dict) and "class_type" not in prompt["prompt"]:
        prompt = prompt["prompt"]
    if isinstance(prompt, dict) and isinstance(prompt.get("nodes"), list):
        what = "is a saved workflow, which only the editor can read. Export it in API format (File > Export (API))."
        raise InvalidInputError("prompt", what)
    if not isinstance(prompt, dict) or len(prompt) > MAX_NODES:
        raise InvalidInputError("prompt", "must be an API prompt: an object of nodes by their ids.")
    for node in prompt.values():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise InvalidInputError("prompt", "must be an API prompt: every node has a class_type and inputs.")
        if not isinstance(node.get("inputs", {}), dict):
            raise InvalidInputError("prompt", "must be an API prompt: the inputs of a node are an object.")
    return {str(name): {"inputs": {}, **node} for name, node in prompt.items()}


def valid_outputs(graph: Graph, classes: Classes) -> tuple[set[str], dict[str, str]]:
    """The output nodes that have all they need, as far as it is known, and what the nodes lack that the others need.

    A node of an unknown class that nothing reads may be an output node, and counts as one.
    """
    lacking: dict[str, str] = {}
    for name, node in graph.items():
        wanted = sorted(classes(node["class_type"]).required)
        missing = [each for each in wanted if not _is_connected(graph, node["inputs"].get(each))]
        if missing:
            lacking[name] = f"{node['class_type']} has nothing connected to {' and '.join(missing)}."
    read = {source for node in graph.values() for _, (source, _) in links(node)}
    outputs = set()
    for name, node in graph.items():
        is_output = classes(node["class_type"]).is_output
        if is_output or (is_output is None and name not in read):
            outputs.add(name)
    needed = upstream(graph, outputs)
    valid = {name for name in outputs if not lacking.keys() & upstream(graph, [name])}
    return valid, {name: why for name, why in lacking.items() if name in needed}


def _is_connected(graph: Graph, value: Any) -> bool:
    source = link(value)
    return value is not None and (source is None or source[0] in graph)


class PromptReader:
    """One look at one prompt, of which ``outputs`` are the output nodes that ComfyUI would run.

    ``certain_outputs`` are those that it would run for certain; ``None``: all of them.
    """

    def __init__(
        self,
        graph: Graph,
        classes: Classes,
        outputs: Collection[str],
        read_image: ReadImage,
        certain_outputs: Collection[str] | None = None,
    ) -> None:
        self.graph = graph
        self.outputs = frozenset(outputs)
        self._certain_outputs = self.outputs if certain_outputs is None else frozenset(certain_outputs)
        self.running = upstream(graph, self.outputs)
        self._classes = classes
        self._read_image = read_image
        self._loaded: dict[str, list[Picture] | None] = {}

    def kind(self, name: str) -> str:
        """The class of a node, "" for one that is not there."""
        return str(self.graph[name]["class_type"]) if name in self.graph else ""

    def inputs(self, name: str) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", self.graph[name]["inputs"])

    def plain(self, name: str, each: str, default: Any = None) -> Any:
        """The value of an input, also of a plain value that is linked to it; ``None`` where only the run knows."""
        value = self.inputs(name).get(each, default)
        for _ in self.graph:
            source = link(value)
            if source is None:
                return value
            if self.kind(source[0]) not in HOLDS_VALUE:
                return None
            value = self.inputs(source[0]).get("value")
        return None

    def is_read(self, name: str) -> bool:
        """Whether any node is connected to its outputs."""
        return any(source == name for node in self.graph.values() for _, (source, _) in links(node))

    def _class(self, name: str) -> NodeClass:
        return self._classes(self.kind(name))

    # --- what runs

    @cached_property
    def certain(self) -> set[str]:
        """What runs whatever the others give: no lazy input stands between it and an output node."""
        found: set[str] = set()
        waiting = list(self._certain_outputs)
        while waiting:
            name = waiting.pop()
            if name in found or name not in self.graph:
                continue
            found.add(name)
            lazy = self._class(name).lazy
            waiting += [
                source for each, (source, _) in links(self.graph[name]) if lazy is not None and each not in lazy
            ]
        return found

    # --- how many images

    def count(self, source: Link | None) -> int | None:
        """How many images come out of here; ``None`` where that is not known before it runs."""
        seen: set[str] = set()
        while source is not None and source[0] in self.graph and source[0] not in seen:
            name, kind = source[0], self.kind(source[0])
            seen.add(name)
            if kind == LOADS_ONE and source[1] == 0:
                loaded = self._load(name)
                return len(loaded) if loaded is not None else self._frames(self.inputs(name).get("image"))
            if kind in GIVES_ONE:
                return 1
            if kind not in KEEPS_COUNT:
                count = self.plain(name, "batch_size", 1) if MAKES_COUNT.fullmatch(kind) else None
                return count if isinstance(count, int) and count >= 1 else None
            source = link(self.inputs(name).get(KEEPS_COUNT[kind]))
        return None

    def _frames(self, file: Any) -> int | None:
        """How many images a file that cannot be read now gives: of a kind that has no frames, one."""
        named = file.removesuffix("[input]").strip().lower() if isinstance(file, str) else ""
        return 1 if named.endswith((".jpg", ".jpeg")) else None

    def pictures(self, source: Link | None) -> list[Picture] | None:
        """The images that come straight from a Load Image; ``None`` for others, and if they cannot be read now."""
        if source is None or source[1] != 0 or self.kind(source[0]) != LOADS_ONE:
            return None
        return self._load(source[0])

    def _load(self, name: str) -> list[Picture] | None:
        if name not in self._loaded:
            arrays = self._read_image(self.inputs(name))
            self._loaded[name] = None if arrays is None else [Picture(array) for array in arrays]
        return self._loaded[name]

    def references(self, source: Link | None) -> tuple[Reference, ...] | None:
        """All references that come out of here, in order; ``None`` if they are not known now.

        Raises ``InvalidInputError`` for what Reference Image would refuse.
        """
        found: tuple[Reference, ...] = ()
        while source is not None and len(found) <= MAX_REFERENCES:
            name = source[0]
            if self.kind(name) != REFERENCE:
                return None
            own = self.inputs(name)
            url, kind = self.plain(name, "url", ""), self.plain(name, "kind", "identity")
            description = self.plain(name, "description", "")
            has_image = own.get("image") is not None
            if url is not None and has_image == bool(str(url).strip()):
                raise InvalidInputError("references", "give Reference Image either an image or a URL.")
            pictures = self.pictures(link(own.get("image"))) if has_image else []
            if url is None or kind is None or description is None or pictures is None:
                return None
            given = [Reference(each.array, "", str(kind), str(description)) for each in pictures]
            given = given if has_image else [Reference(None, str(url).strip(), str(kind), str(description))]
            found = (*given, *found)
            source = link(own.get("references"))
        return found

    # --- how often

    @cached_property
    def loops(self) -> dict[str, Body]:
        """The bodies of this pack's loops that run, by their end."""
        found = {}
        for name in self.running:
            start = link(self.inputs(name).get("loop")) if self.kind(name) == END else None
            if start is not None and start[0] in self.graph:
                found[name] = find_body(self.graph, start[0], name, self._may_be_output, {ORIGINAL_PROMPT})
        return found

    def _may_be_output(self, name: str) -> bool:
        return name in self.outputs or self._class(name).is_output is None

    def attempts(self, name: str) -> int:
        """How often the pack's loops run a node at most; loops inside loops multiply."""
        product = 1
        for end, body in self.loops.items():
            if name in body.nodes:
                product *= self.attempts_of(end)
        return product

    def attempts_of(self, end: str) -> int:
        """How many attempts a loop makes at most."""
        if "evaluation" not in self.inputs(end):
            return 1
        most = self.plain(end, "max_attempts", USUAL_ATTEMPTS)
        return most if isinstance(most, int) and 1 <= most <= MOST_ATTEMPTS else MOST_ATTEMPTS

    def may_repeat(self, name: str) -> bool:
        """Whether a list before a node, or a loop of another pack around it, may run it more often than can be told."""
        before = upstream(self.graph, [name]) - {name}
        if any(self._class(each).gives_list is not False or self._is_loop(each) for each in before):
            return True
        after = downstream(self.graph, name) & self.running
        stands_between = any(self._class(each).is_foreign for each in before)
        return any(self._is_loop(each) or (stands_between and self._may_end_a_loop(each)) for each in after)

    def _may_end_a_loop(self, name: str) -> bool:
        known = self._class(name)
        return known.is_foreign and known.repeats is not False

    def _is_loop(self, name: str) -> bool:
        kind = self.kind(name)
        return not kind.startswith("Runflow") and LOOPS.search(kind) is not None
