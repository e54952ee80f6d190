"""The routes are tried on a real ComfyUI."""

from support.fixtures import comfyui_factory  # noqa: F401
