"""ComfyUI-Runflow-Evaluate: a quality judge inside the graph."""

WEB_DIRECTORY = "./js"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    """ComfyUI's V3 entry point. Nothing of ComfyUI is imported before it is called."""
    from .nodes import RunflowEvaluateExtension

    return RunflowEvaluateExtension()
