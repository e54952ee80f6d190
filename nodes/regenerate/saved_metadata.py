"""What is saved behind a loop says which attempt it is: the winner's prompt, seed and verdict, in its metadata.

ComfyUI's savers write each entry of ``extra_pnginfo`` into the file, and share one dictionary per prompt, so the
loop's end adds ``runflow_regenerate`` to it: ``{id of the end: entry}``. API jobs that send no ``extra_pnginfo``
get the entry in ``_meta`` of the end in the saved prompt instead.

When ComfyUI has the end's result in its cache the end does not run, but what hangs on it may. So winners are
remembered in this process, and put back when ComfyUI asks for the end's fingerprint, which it does for every
prompt before anything runs. It gives a fingerprint neither the prompt nor ``extra_pnginfo``: ``_place`` finds the
prompt in the progress registry, and the entries' dictionary by a token that is put into it when the prompt is posted
(ComfyUI's queue shows copies of what it runs).
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from server import PromptServer

from . import graph as _loop

END = "RunflowRegenerateEnd"
KEY = "runflow_regenerate"
PICKED = "runflow_picked"
"""A property of an end in the editor: the hash of the image that a person took instead of the judge's choice."""
REMEMBERED = 256
"""Entries are a few hundred bytes; one for each loop in the workflows of a long session."""

Entries = dict[str, dict[str, Any]]
_remembered: OrderedDict[str, Entries] = OrderedDict()


def identity(graph: _loop.Graph, end: str) -> str:
    """One end and all its inputs."""
    return f"{end}:{_loop.identity(graph, end)}"


def remember(identity: str, entries: Entries) -> None:
    """Keep the entries of a loop and of those inside it, by the identity of the loop's end."""
    _remembered[identity] = entries
    _remembered.move_to_end(identity)
    while len(_remembered) > REMEMBERED:
        _remembered.popitem(last=False)


def recall(identity: str) -> Entries:
    return _remembered.get(identity, {})


def publish(prompt: Mapping[str, Any], extra_pnginfo: Any, entries: Entries) -> None:
    """Add the entries to what savers write from here on."""
    for end, entry in entries.items():
        place, name = _place(prompt, extra_pnginfo, end)
        place[name] = _marked(entry, extra_pnginfo)


def retract(prompt: Mapping[str, Any], extra_pnginfo: Any, ends: Iterable[str]) -> None:
    """Take entries back: these loops are running, and what is saved inside them is no winner."""
    for end in ends:
        place, name = _place(prompt, extra_pnginfo, end)
        place.pop(name, None)


def restore(prompt: Mapping[str, Any], node_id: str, prompt_id: str, identity: str) -> None:
    """Publish what is remembered of a loop that may come out of ComfyUI's cache."""
    metadata = _prompt_metadata_of(prompt_id)
    extra_pnginfo = None if metadata is None else {KEY: metadata}
    for end, entry in recall(identity).items():
        place, name = _place(prompt, extra_pnginfo, end)
        # A loop inside another one has remembered its first run only; the outer loop knows which run was chosen.
        if end != node_id or "chosen_by" not in place.get(name, {}):
            place[name] = _marked(entry, extra_pnginfo)


class PromptMetadata(dict[str, dict[str, Any]]):
    """The dictionary of entries of one prompt; a copy of it has the same ``token``.

    ``picked``: the images that a person took instead of the judge's choice, by hash.
    """

    token: str
    picked: frozenset[str]


_prompt_metadata: WeakValueDictionary[str, PromptMetadata] = WeakValueDictionary()


def add_prompt_metadata(posted: dict[str, Any]) -> dict[str, Any]:
    """Called by ComfyUI with every prompt that is posted."""
    nodes, extra_data = posted.get("prompt"), posted.get("extra_data")
    extra_pnginfo = extra_data.get("extra_pnginfo") if isinstance(extra_data, dict) else None
    if isinstance(nodes, dict) and isinstance(extra_pnginfo, dict):
        if any(isinstance(node, dict) and node.get("class_type") == END for node in nodes.values()):
            metadata = extra_pnginfo[KEY] = PromptMetadata()
            metadata.token, metadata.picked = uuid.uuid4().hex, _picked(extra_pnginfo.get("workflow"))
            _prompt_metadata[metadata.token] = metadata
    return posted


def _picked(workflow: Any) -> frozenset[str]:
    """What is noted on the nodes of a workflow and of its subgraphs, which may be anything."""
    graphs = [workflow, *_list(_dict(_dict(workflow).get("definitions")).get("subgraphs"))]
    nodes = [node for graph in graphs for node in _list(_dict(graph).get("nodes"))]
    noted = (_dict(_dict(node).get("properties")).get(PICKED) for node in nodes)
    return frozenset(name for name in noted if isinstance(name, str) and name)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _marked(entry: dict[str, Any], extra_pnginfo: Any) -> dict[str, Any]:
    """The entry, which says so where a person chose this attempt."""
    picked = getattr(_dict(extra_pnginfo).get(KEY), "picked", frozenset())
    return {**entry, "picked_by_person": True} if picked.intersection(entry.get("images", ())) else entry


def _prompt_metadata_of(prompt_id: str) -> PromptMetadata | None:
    item = running(prompt_id)
    extra_pnginfo = item[3].get("extra_pnginfo") if item else None
    copied = extra_pnginfo.get(KEY) if isinstance(extra_pnginfo, dict) else None
    return _prompt_metadata.get(copied.token) if isinstance(copied, PromptMetadata) else None


def _place(prompt: Mapping[str, Any], extra_pnginfo: Any, end: str) -> tuple[dict[str, Any], str]:
    """The dictionary, and the name in it, that hold a loop's entry."""
    holder, name = (extra_pnginfo, KEY) if isinstance(extra_pnginfo, dict) else (prompt.get(end, {}), "_meta")
    if not isinstance(holder.get(name), dict):
        holder[name] = {}
    return (holder[name], end) if name == KEY else (holder[name], KEY)


def running(prompt_id: str) -> tuple[Any, ...] | None:
    """A copy of a running prompt's queue item: (number, id, prompt, extra_data, outputs to execute, …)."""
    items, _ = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    return next((item for item in items if item[1] == prompt_id), None)


PromptServer.instance.add_on_prompt_handler(add_prompt_metadata)  # here, because ComfyUI 0.3.75 calls no on_load()
