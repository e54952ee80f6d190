"""Small builders of API prompts: every function gives one node as ``{id: node}``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from support.workflows import to_prompt

Prompt = dict[str, Any]
Link = list[Any]
EXAMPLES = Path(__file__).parents[2] / "example_workflows"


def node(node_id: str, class_type: str, /, **inputs: Any) -> Prompt:
    return {node_id: {"class_type": class_type, "inputs": inputs}}


def load_image(node_id: str, name: str) -> Prompt:
    return node(node_id, "LoadImage", image=name)


def evaluate(node_id: str, image: Link, **inputs: Any) -> Prompt:
    return node(node_id, "RunflowEvaluateImage", image=image, **inputs)


def options(node_id: str, **inputs: Any) -> Prompt:
    return node(node_id, "RunflowEvaluationOptions", **inputs)


def reference(node_id: str, **inputs: Any) -> Prompt:
    return node(node_id, "RunflowReferenceImage", **inputs)


def show(node_id: str, evaluation: Link) -> Prompt:
    return node(node_id, "RunflowShowVerdict", evaluation=evaluation)


def details(node_id: str, evaluation: Link, **inputs: Any) -> Prompt:
    return node(node_id, "RunflowEvaluationDetails", evaluation=evaluation, **inputs)


def outputs_as_text(source: str, count: int) -> Prompt:
    """A PreviewAny for each of the first ``count`` outputs of ``source``: ``{source}-0``, ``{source}-1``, …"""
    previews = (node(f"{source}-{n}", "PreviewAny", source=[source, n]) for n in range(count))
    return {name: made for preview in previews for name, made in preview.items()}


def example(server: Any, name: str) -> Prompt:
    """The prompt of a shipped example; its photographs are put into the server's input folder."""
    for photo in (EXAMPLES / "photos").rglob("*.jpg"):
        shutil.copy2(photo, server.base / "input")
    return to_prompt(json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8")), server.object_info())
