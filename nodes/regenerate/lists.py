"""Lists in a loop, which needs one value: which node a list comes from, and what is known of it before it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import nodes as comfy_nodes  # type: ignore[import-not-found]  # ComfyUI's, not the pack's

from ...runflow_api.prompt.graph import Graph, Link, Node, links

JOINS_ITS_LINKS = {"CreateList", "ImpactMakeImageList", "ImpactMakeMaskList", "ImpactMakeAnyList"}
"""Nodes that make one list of all that is connected to them."""
REPEATER = "Repeater|pysssss"
END_LOOP = "EndLoop"
"""Of ComfyUI's own loops (0.38): of each round one value, if it accumulates."""
PROMPT_LIST, PROMPT_LINES = "easy promptList", "easy promptLine"


def lists_behind(graph: Graph, sources: Iterable[Link | None]) -> list[str]:
    """The nodes whose lists come over the links ``sources``, nearest first.

    If there are only nodes that pass on the lists that they are given, such as Show Text, it is those: one of them may
    give a longer one.
    """
    makers: dict[str, None] = {}
    passing: dict[str, None] = {}
    seen: set[Link] = set()
    waiting = [source for source in sources if source is not None]
    while waiting:
        source = waiting.pop(0)
        if source in seen or source[0] not in graph:
            continue
        seen.add(source)
        node, info = source[0], graph[source[0]]
        gives = _gives_a_list(info, source[1])
        if gives and makes_lists(info):
            makers[node] = None
        elif gives or not _takes_lists(info):  # what takes a list and gives none makes one value of it
            passing |= {node: None} if gives else {}
            waiting.extend(each for _, each in links(info))
    return list(makers or passing)


def where_lists_come_from(graph: Graph, sources: Iterable[Link | None], shown_on: Callable[[str], str]) -> str:
    """ " The list comes from node 7 (Class)." or "" if no node is known to give one."""
    names = [f"{shown_on(node)} ({graph[node]['class_type']})" for node in lists_behind(graph, sources)]
    return f" The list comes from node {' or '.join(names)}." if names else ""


def _gives_a_list(node: Node, socket: int) -> bool:
    """Whether ComfyUI takes each value of this output for one of many."""
    are_lists = getattr(_kind(node), "OUTPUT_IS_LIST", None) or ()
    return socket < len(are_lists) and bool(are_lists[socket])


def makes_lists(node: Node) -> bool:
    """Whether a node that gives a list does more than to pass on the one that it is given, as Show Text does."""
    collects = node["class_type"] == END_LOOP and node["inputs"].get("accumulate") is not False
    return collects or not _takes_lists(node) or least_values(node) > 1


def _takes_lists(node: Node) -> bool:
    """Whether a node gets all values of a list at once."""
    return bool(getattr(_kind(node), "INPUT_IS_LIST", False))


def least_values(node: Node) -> int:
    """How many values a node's list has at least, as far as its widgets and links tell; otherwise 0."""
    kind, inputs = node["class_type"], node["inputs"]
    if kind in JOINS_ITS_LINKS:
        return len(list(links(node)))
    if kind == REPEATER and inputs.get("output") == "single":
        repeats = inputs.get("repeats")
        return repeats if isinstance(repeats, int) else 0
    if kind == PROMPT_LIST:
        return len(list(_texts(inputs)))
    text, first, most = inputs.get("prompt"), inputs.get("start_index"), inputs.get("max_rows")
    if kind == PROMPT_LINES and isinstance(text, str) and isinstance(first, int) and isinstance(most, int):
        return len([line for line in text.split("\n") if line.strip()][first : first + most])
    return 0


def _texts(inputs: Mapping[str, Any]) -> Iterator[str]:
    for name, value in inputs.items():
        if name.startswith("prompt_") and isinstance(value, str) and value:
            yield value


def _kind(node: Node) -> Any:
    return comfy_nodes.NODE_CLASS_MAPPINGS[node["class_type"]]
