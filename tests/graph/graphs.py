"""Small builders of API prompts: every function gives one node as ``{id: node}``."""

from __future__ import annotations

from typing import Any


def node(node_id: str, kind: str, **inputs: Any) -> dict[str, Any]:
    return {node_id: {"class_type": kind, "inputs": inputs}}


def load_image(node_id: str, name: str) -> dict[str, Any]:
    return node(node_id, "LoadImage", image=name)


def evaluate(node_id: str, image: list[Any], **inputs: Any) -> dict[str, Any]:
    return node(node_id, "RunflowEvaluateImage", image=image, **inputs)


def options(node_id: str, **inputs: Any) -> dict[str, Any]:
    return node(node_id, "RunflowEvaluationOptions", **inputs)


def show(node_id: str, evaluation: list[Any]) -> dict[str, Any]:
    return node(node_id, "RunflowShowVerdict", evaluation=evaluation)


def details(node_id: str, evaluation: list[Any], **inputs: Any) -> dict[str, Any]:
    return node(node_id, "RunflowEvaluationDetails", evaluation=evaluation, **inputs)
