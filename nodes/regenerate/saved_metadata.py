"""What is saved says which attempt it is: its prompt, seed and, behind the loop, its verdict, in the file's metadata.

ComfyUI's savers write each entry of ``extra_pnginfo`` into the file, as JSON, and share one dictionary per prompt.
When a prompt is posted, ``runflow_regenerate`` is added to it: a ``PromptMetadata``, ``{id of the end: entry}``. It
shows each saver what belongs to it: a saver in a loop's body its own attempt, whenever it runs, and a saver behind the
loop the best attempt. API jobs that send no ``extra_pnginfo`` have the entry in ``_meta`` of the end in the saved
prompt instead.

When ComfyUI has the end's result in its cache the end does not run, but what hangs on it may. So the best attempts are
remembered in this process, and put back when ComfyUI asks for the end's fingerprint, which it does for every prompt
before anything runs. So are the first attempts: what a saver that was put into the body later saves of one may be in
ComfyUI's cache, and then it may run before the end does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import ItemsView, Iterable, Mapping
from typing import Any

from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from server import PromptServer

END = "RunflowRegenerateEnd"
KEY = "runflow_regenerate"
PICKED = "runflow_picked"
"""A property of an end in the editor: the hash of the image that a person took instead of the judge's choice."""
MAX_REMEMBERED = 256
"""Entries are a few hundred bytes; one for each loop in the workflows of a long session."""

Entries = dict[str, dict[str, Any]]
_remembered: OrderedDict[str, Entries] = OrderedDict()
_first_attempts: OrderedDict[str, dict[str, Any]] = OrderedDict()


class PromptMetadata(dict[str, dict[str, Any]]):
    """The entries of the best attempts of one prompt, by the id of the loop's end.

    ``items``, which is what JSON is made of, gives them as the node that is running has to save them. ``picked``: the
    images that a person took instead of the judge's choice, by hash.
    """

    def __init__(self, picked: Iterable[str] = ()) -> None:
        super().__init__()
        self.picked = frozenset(picked)
        self._of_nodes: dict[str, Entries] = {}
        self._of_expansions: dict[str, Entries] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptMetadata:
        """Itself: ComfyUI's queue holds a copy of what it runs, and entries are put back through that."""
        return self

    def publish(self, entries: Entries) -> None:
        """Say these from here on, with those of loops inside."""
        for end, entry in entries.items():
            picked = self.picked.intersection(entry.get("images", ()))
            self[end] = {**entry, "picked_by_person": True} if picked else entry

    def retract(self, ends: Iterable[str]) -> None:
        """These loops are running. (An empty entry stays: of an empty dictionary JSON would not ask the items.)"""
        self.update({end: {} for end in ends})

    def add_first_attempt(self, end: str, nodes: Iterable[str], entry: dict[str, Any]) -> None:
        """What these nodes, the body of this end's loop, save is of its first attempt."""
        self.setdefault(end, {})  # of an empty dictionary JSON would not ask the items
        for node in nodes:
            self._of_nodes.setdefault(node, {})[end] = entry

    def add_attempt(self, end: str, expanded_by: str, entry: dict[str, Any]) -> None:
        """What the clones save that ``expanded_by`` expands into is of this attempt."""
        self._of_expansions[expanded_by] = {end: entry}

    def items(self) -> ItemsView[str, dict[str, Any]]:  # type: ignore[override]
        entries = {end: self[end] for end in self if self[end]}
        running = get_executing_context()
        return {**entries, **(self._of_attempt(running.node_id) if running is not None else {})}.items()

    def _of_attempt(self, node: str | None) -> Entries:
        """The attempts that a node is in; of one loop the latest, which is the innermost expansion."""
        found: Entries = {}
        while node is not None:
            parent = get_progress_state().dynprompt.get_parent_node_id(node)
            found = {**self._of_nodes.get(node, {}), **self._of_expansions.get(parent, {}), **found}
            node = parent
        return found


class EndMetadata(dict[str, Any]):
    """The entry of one end, if a prompt was posted without ``extra_pnginfo``."""

    def __init__(self, shared: PromptMetadata, end: str) -> None:
        super().__init__(attempt=0)  # never empty: of an empty dictionary JSON would not ask the items
        self.shared, self._end = shared, end

    def __deepcopy__(self, memo: dict[int, Any]) -> EndMetadata:
        return self

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        return dict(self.shared.items()).get(self._end, {}).items()


def add_prompt_metadata(posted: dict[str, Any]) -> dict[str, Any]:
    """Called by ComfyUI with every prompt that is posted, which may hold anything."""
    nodes = _dict(posted.get("prompt"))
    ends = [node for node, info in nodes.items() if _dict(info).get("class_type") == END]
    extra_pnginfo = _dict(posted.get("extra_data")).get("extra_pnginfo")
    if ends and isinstance(extra_pnginfo, dict):
        extra_pnginfo[KEY] = PromptMetadata(_picked(extra_pnginfo.get("workflow")))
    elif ends:
        shared = PromptMetadata()
        for end in ends:
            if isinstance(nodes[end].setdefault("_meta", {}), dict):
                nodes[end]["_meta"][KEY] = EndMetadata(shared, end)
    return posted


def metadata_of(prompt: Mapping[str, Any], extra_pnginfo: Any) -> PromptMetadata:
    """What is saved of a prompt; something that nobody reads if ComfyUI did not tell that it was posted."""
    found = _dict(extra_pnginfo).get(KEY)
    if isinstance(found, PromptMetadata):
        return found
    of_ends = (_dict(_dict(node).get("_meta")).get(KEY) for node in prompt.values())
    return next((each.shared for each in of_ends if isinstance(each, EndMetadata)), PromptMetadata())


def remember(identity: str, entries: Entries) -> None:
    """Keep the entries of a loop and of those inside it, by the identity of the loop's end."""
    keep(_remembered, identity, entries)


def remember_first_attempt(identity: str, entry: dict[str, Any]) -> None:
    """Keep the entry of a loop's first attempt, by the identity of the loop's start."""
    keep(_first_attempts, identity, entry)


def keep(kept: OrderedDict[str, Any], identity: str, value: Any) -> None:
    """Put it into ``kept``, which holds the last ``MAX_REMEMBERED``."""
    kept[identity] = value
    kept.move_to_end(identity)
    while len(kept) > MAX_REMEMBERED:
        kept.popitem(last=False)


def remembered(identity: str) -> Entries:
    return _remembered.get(identity, {})


def restore(node_id: str, prompt_id: str, identity: str, start_identity: str, body: Iterable[str]) -> None:
    """Publish what is remembered of a loop that may come out of ComfyUI's cache, or whose first attempt may."""
    item = running_item(prompt_id)
    if item is None:
        return
    metadata = metadata_of(item[2], _dict(item[3]).get("extra_pnginfo"))
    if start_identity in _first_attempts:
        metadata.add_first_attempt(node_id, body, _first_attempts[start_identity])
    for end, entry in remembered(identity).items():
        # A loop inside another one has remembered its first run only; the outer loop knows which run was chosen.
        if end != node_id or "chosen_by" not in metadata.get(end, {}):
            metadata.publish({end: entry})


def _picked(workflow: Any) -> Iterable[str]:
    """What is noted on the nodes of a workflow and of its subgraphs, which may be anything."""
    graphs = [workflow, *_list(_dict(_dict(workflow).get("definitions")).get("subgraphs"))]
    nodes = [node for graph in graphs for node in _list(_dict(graph).get("nodes"))]
    picked = (_dict(_dict(node).get("properties")).get(PICKED) for node in nodes)
    return [name for name in picked if isinstance(name, str) and name]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def running_item(prompt_id: str) -> tuple[Any, ...] | None:
    """A copy of a running prompt's queue item: (number, id, prompt, extra_data, outputs to execute, …)."""
    items, _ = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    return next((item for item in items if item[1] == prompt_id), None)


PromptServer.instance.add_on_prompt_handler(add_prompt_metadata)  # here, because ComfyUI 0.3.75 calls no on_load()
