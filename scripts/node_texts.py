"""Write locales/en/nodeDefs.json from the nodes themselves; a test finds it when the two differ.

    python scripts/node_texts.py

It starts the ComfyUI that `check.py` prepared. Translators then compare their `locales/<language>/nodeDefs.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import _environment
from support import process

FILE = _environment.ROOT / "locales" / "en" / "nodeDefs.json"


def texts(object_info: dict[str, Any]) -> dict[str, Any]:
    """What the editor shows of the pack's nodes, in the shape of ComfyUI's `nodeDefs.json`."""
    ours = {name: info for name, info in object_info.items() if info["category"].startswith("Runflow/")}
    return {name: _node(info) for name, info in sorted(ours.items())}


def _node(info: dict[str, Any]) -> dict[str, Any]:
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}.items()
    tooltips = info.get("output_tooltips") or [None] * len(info["output"])
    said = {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {key: _socket(more.get("display_name") or key, more.get("tooltip")) for key, (_, more) in inputs},
        "outputs": {str(n): _socket(*pair) for n, pair in enumerate(zip(info["output_name"], tooltips, strict=True))},
    }
    return {key: value for key, value in said.items() if value}


def _socket(name: str, tooltip: str | None) -> dict[str, str]:
    return {"name": name, **({"tooltip": tooltip} if tooltip else {})}


def render(object_info: dict[str, Any]) -> str:
    """The whole file."""
    return json.dumps(texts(object_info), ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    _environment.continue_inside(__file__)
    with tempfile.TemporaryDirectory() as base:
        with process.Server(_environment.COMFYUI, Path(base), python=sys.executable) as server:
            FILE.write_text(render(server.request("GET", "/object_info")), "utf-8", newline="\n")
