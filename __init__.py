"""ComfyUI-Runflow-Evaluate: a quality judge inside the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import RunflowEvaluateExtension

WEB_DIRECTORY = "./js"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint() -> RunflowEvaluateExtension:
    """ComfyUI's V3 entry point. Nothing of ComfyUI is imported before it is called."""
    from .nodes import RunflowEvaluateExtension

    return RunflowEvaluateExtension()
