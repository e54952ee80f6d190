"""Which nodes a loop repeats, and their clones for the next attempt. Pure: graphs are plain dictionaries.

A graph is ``{id: {"class_type": str, "inputs": {name: value}}}``, as ComfyUI holds a prompt; a value that is
``[id, output]`` is a link. What a graph does not hold (nodes of an outer level) is outside and never cloned.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

Node = Mapping[str, Any]
Graph = Mapping[str, Node]
Link = tuple[str, int]

LOOP = 0
"""The output of a start that its end reads."""
SEED_VALUES = 2**64
"""Seeds are unsigned 64-bit numbers and wrap."""
EXACT_BITS = 53
"""The editor holds numbers as JavaScript does: a random seed has no more bits, so that it can be written into Start."""


def link(value: Any) -> Link | None:
    """(id, output) where ``value`` is a link, by the rule of ComfyUI's ``graph_utils.is_link``."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
        if isinstance(value[1], int | float):
            return value[0], int(value[1])
    return None


def links(node: Node) -> Iterator[tuple[str, Link]]:
    """(input, link) for each linked input of a node."""
    for name, value in node.get("inputs", {}).items():  # ComfyUI checks no node that does not run
        if (found := link(value)) is not None:
            yield name, found


def upstream(graph: Graph, nodes: Iterable[str]) -> set[str]:
    """The nodes themselves and all that they depend on, inside the graph."""
    sources = {node: [source for _, (source, _) in links(graph[node]) if source in graph] for node in graph}
    return _reached(nodes, sources)


def downstream(graph: Graph, node: str, but: Collection[Link] = ()) -> set[str]:
    """All that depends on ``node``, without it, other than by the links ``but``."""
    readers: dict[str, list[str]] = defaultdict(list)
    for reader in graph:
        for _, source in links(graph[reader]):
            if source not in but:
                readers[source[0]].append(reader)
    return _reached([node], readers) - {node}


def _reached(start: Iterable[str], neighbours: Mapping[str, Iterable[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(neighbours.get(node, ()))
    return found


# --- the body -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Body:
    """What runs at every attempt, in the graph's order, between ``start`` and ``end``, which are not in it.

    ``readers_after_end`` are nodes behind the end that also read the body: they get the first attempt's value.
    """

    start: str
    end: str
    nodes: tuple[str, ...]
    readers_after_end: tuple[str, ...]


def find_body(
    graph: Graph, start: str, end: str, is_output_node: Callable[[str], bool], constant: Collection[int] = ()
) -> Body:
    """The nodes after ``start`` that reach ``end``, or reach an output node that comes after no end.

    An output node is one that previews or saves, for example. ``constant`` are the outputs of the start that are the
    same at every attempt: what depends on nothing else of the start is not repeated.
    """
    same = {(start, socket) for socket in constant}
    after_end = downstream(graph, end)
    inside = downstream(graph, start, same) - after_end - _of_other_ends(graph, start, end) - {end}
    needed = upstream(graph, [end, *(node for node in inside if is_output_node(node))])
    nodes = tuple(node for node in graph if node in inside and node in needed)
    repeated = {start, *nodes}

    def reads_the_body(node: str) -> bool:
        own = same | {(start, LOOP)}  # an outer loop may have the same start
        return any(source[0] in repeated and source not in own for _, source in links(graph[node]))

    return Body(start, end, nodes, tuple(node for node in graph if node in after_end and reads_the_body(node)))


def _of_other_ends(graph: Graph, start: str, end: str) -> set[str]:
    """Ends beside this one that share its start, and what comes after them: they repeat that themselves."""
    before = upstream(graph, [end])
    readers = (each for each in graph if (start, LOOP) in (source for _, source in links(graph[each])))
    others = [each for each in readers if each not in before]
    return {node for other in others for node in (other, *downstream(graph, other))} - before


def start_outputs_behind(graph: Graph, body: Body, name: str) -> set[int]:
    """Which outputs of the start the end's input ``name`` depends on."""
    source = link(graph[body.end]["inputs"].get(name))
    if source is None:
        return set()
    behind = upstream(graph, [source[0]] if source[0] in graph else []) & set(body.nodes)
    read = {socket for node in behind for _, (each, socket) in links(graph[node]) if each == body.start}
    return read | ({source[1]} if source[0] == body.start else set())


def start_outputs_read(graph: Graph, body: Body) -> set[int]:
    """Which outputs of the start anything of the body, or its end, reads."""
    readers = (graph[node] for node in (*body.nodes, body.end))
    return {socket for reader in readers for _, (source, socket) in links(reader) if source == body.start}


def links_read(graph: Graph, body: Body, name: str, chooses: Callable[[str], bool]) -> set[Link]:
    """The links of the body that the end's input ``name`` reads at every attempt, whichever of its inputs a node that
    ``chooses`` takes."""
    found: set[Link] = set()
    waiting = [link(graph[body.end]["inputs"].get(name))]
    while waiting:
        source = waiting.pop()
        if source is not None and source not in found and source[0] in body.nodes:
            found.add(source)
            waiting.extend(each for _, each in ([] if chooses(source[0]) else links(graph[source[0]])))
    return found


def repetitions(body: Body, inner: Mapping[str, Body], attempts: Callable[[str], int]) -> dict[str, int]:
    """How often each node of ``body`` runs at most in one attempt: loops inside multiply.

    ``inner`` are the bodies of the loops that lie inside, by their end.
    """
    times = dict.fromkeys(body.nodes, 1)
    for end, nested in inner.items():
        for node in nested.nodes:
            if node in times:
                times[node] *= attempts(end)
    return times


def boundary_pairs(graph: Graph, starts: Collection[str], ends: Collection[str]) -> Iterator[tuple[str, str]]:
    """(start, end) of loops that name no partner (ComfyUI's own, 0.38): an end closes the innermost open start."""
    before = {node: upstream(graph, [node]) for node in (*starts, *ends)}
    depth = {node: len(found) for node, found in before.items()}
    still_open = set(starts)
    for end in sorted(ends, key=depth.__getitem__):
        inside = [start for start in still_open if start in before[end]]
        if inside:
            start = max(inside, key=depth.__getitem__)
            still_open.remove(start)
            yield start, end


def with_whole_loops(graph: Graph, body: Body, pairs: Iterable[tuple[str, str]]) -> Body:
    """The body with all of each loop in it whose end it repeats: ComfyUI's own cannot end without their start."""
    added: set[str] = set()
    for start, end in pairs:
        loop = {start, *(downstream(graph, start) & upstream(graph, [end]))}
        if end in body.nodes and body.start not in loop:
            added |= loop
    return replace(body, nodes=tuple(node for node in graph if node in added or node in body.nodes))


def is_torn_by(body: Body, other: Body) -> bool:
    """Whether the loop ``other`` repeats only one of the two ends of ``body``."""
    repeats_end = body.end in other.nodes and other.end not in body.nodes
    return (body.start in other.nodes) != repeats_end


# --- clones -------------------------------------------------------------------------------------------


def clone(
    graph: Graph,
    body: Body,
    prefix: str,
    *,
    local: Callable[[str], str],
    shown_on: Callable[[str], str],
    stand_in: Node,
) -> tuple[dict[str, dict[str, Any]], str]:
    """The expansion for one more attempt, and the id of the end's clone in it.

    Every clone is called ``prefix`` + ``local(id)``: the same at every queue, so that ComfyUI's cache knows it
    again. ``stand_in`` takes the place of the start. ``shown_on`` is the node in the editor.
    """
    names = {node: prefix + local(node) for node in (body.start, *body.nodes, body.end)}

    def renamed(value: Any) -> Any:
        source = link(value)
        return [names[source[0]], source[1]] if source and source[0] in names else value

    expansion = {names[body.start]: {**stand_in, "override_display_id": shown_on(body.start)}}
    for node in (*body.nodes, body.end):
        expansion[names[node]] = {
            "class_type": graph[node]["class_type"],
            "inputs": {name: renamed(value) for name, value in graph[node]["inputs"].items()},
            "override_display_id": shown_on(node),
            **_loop_of_comfyui(graph[node], names),
        }
    return expansion, names[body.end]


def _loop_of_comfyui(node: Node, names: Mapping[str, str]) -> dict[str, Any]:
    """What ComfyUI 0.38 notes on the start of a loop of its own: which nodes it repeats, and where it ends."""
    if "_loop_end" not in node:
        return {}
    repeated = [names[each] for each in node["_loop_body"] if each in names]
    return {"_loop_body": repeated, "_loop_end": names.get(node["_loop_end"], node["_loop_end"])}


# --- the next attempt ---------------------------------------------------------------------------------


def next_seed(how: str, first: int, current: int, attempt: int) -> int:
    """The seed of attempt ``attempt``, counted from 1.

    ``random`` follows from the first seed: the same graph queued again, or with more attempts allowed, makes the same
    attempts and does not pay for others.
    """
    if how == "increment":
        return (current + 1) % SEED_VALUES
    if how == "random":
        return int.from_bytes(hashlib.sha256(f"{first}:{attempt}".encode()).digest()[:8], "big") >> (64 - EXACT_BITS)
    return current


def identity(graph: Graph, node: str) -> str:
    """A hash of all that a node depends on, whatever the ids of that are, as ComfyUI's cache sees it."""
    return identities(graph, [node])[node]


def identities(graph: Graph, nodes: Iterable[str], more: Callable[[Node], Any] | None = None) -> dict[str, str]:
    """``identity`` of each of these nodes and of all that they depend on, each worked out once.

    ``more`` gives more to be compared of each node. If that is not equal to itself (NaN), no two hashes are.
    """
    hashes: dict[str, str] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting[-1]
        unknown = [source for _, (source, _) in links(graph[node]) if source in graph and source not in hashes]
        if unknown:
            waiting.extend(unknown)
        elif node not in hashes:
            hashes[waiting.pop()] = _content_hash(graph[node], hashes, more(graph[node]) if more else None)
        else:
            waiting.pop()
    return hashes


def _content_hash(node: Node, hashes: Mapping[str, str], more: Any) -> str:
    inputs = dict(node["inputs"])
    for name, (source, socket) in links(node):
        inputs[name] = ["link", hashes.get(source, source), socket]
    try:
        text = json.dumps([node["class_type"], inputs, more], sort_keys=True, default=repr, allow_nan=False)
    except ValueError:
        text = uuid.uuid4().hex
    return hashlib.sha256(text.encode()).hexdigest()
