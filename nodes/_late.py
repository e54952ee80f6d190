"""Modules of ``runflow_api`` that are imported when a node or a route first uses them.

They bring the evaluator, the journal and its database library, half of what the pack would add to ComfyUI's start.
"""

from __future__ import annotations

import importlib
from typing import Any


class _Late:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(f"..runflow_api.{self._name}", __package__), attribute)


follow_up, views = _Late("evaluation.lookup"), _Late("journal.views")
