"""From a saved workflow, which the editor reads, to a prompt, which ComfyUI runs.

A saved workflow holds a node's widget values by position only. Which input each belongs to follows from the node's
definition in `/object_info`, with the extra widgets that the editor adds counted in.
"""

from __future__ import annotations

from typing import Any

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTES = {"Note", "MarkdownNote"}
SEEDS = {"seed", "noise_seed"}
UPLOADS = ("image_upload", "video_upload", "audio_upload")
MUTED, BYPASSED = 2, 4


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """The prompt of a saved workflow; notes and muted nodes are left out.

    ValueError for what only the editor can resolve (bypassed nodes, subgraphs, nodes that exist in the browser
    only) and for nodes that this ComfyUI does not have.
    """
    nodes = [node for node in workflow["nodes"] if node["type"] not in NOTES and node.get("mode") != MUTED]
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    return {str(node["id"]): _api_node(node, links, object_info) for node in nodes}


def _api_node(node: dict[str, Any], links: dict[int, list[Any]], object_info: dict[str, Any]) -> dict[str, Any]:
    kind = node["type"]
    if kind not in object_info:
        raise ValueError(f"ComfyUI has no node {kind}: its pack is missing or failed to load.")
    if node.get("mode") == BYPASSED:
        raise ValueError(f"Node {node['id']} {kind} is bypassed: queue this workflow from the editor.")
    linked = {slot["name"]: links[slot["link"]] for slot in node.get("inputs", []) if slot.get("link") is not None}
    return {"class_type": kind, "inputs": {**_widget_values(node, object_info[kind]), **linked}}


def _widget_values(node: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    """By input name. A widget turned into a socket keeps its place; an input newer than the file has no value."""
    values, place = node.get("widgets_values") or [], 0
    found = {}
    for name, kind, options in _inputs(definition):
        if not _has_widget(kind, options):
            continue
        if place < len(values):
            found[name] = values[place]
        place += 1 + _extra_widgets(name, kind, options)
    return found


def _inputs(definition: dict[str, Any]) -> list[tuple[str, Any, dict[str, Any]]]:
    groups = (definition["input"].get(group, {}) for group in ("required", "optional"))
    return [(name, spec[0], spec[1] if len(spec) > 1 else {}) for group in groups for name, spec in group.items()]


def _has_widget(kind: Any, options: dict[str, Any]) -> bool:
    """A list as type is a combo of a node of the old API."""
    return (isinstance(kind, list) or kind in WIDGET_TYPES) and not options.get("forceInput")


def _extra_widgets(name: str, kind: Any, options: dict[str, Any]) -> int:
    """How many follow: "control after generate" on what asks for it and on seeds, a button on what is uploaded."""
    control = options.get("control_after_generate") or (kind == "INT" and name in SEEDS)
    return bool(control) + any(options.get(upload) for upload in UPLOADS)
