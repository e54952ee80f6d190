"""What ComfyUI compares, beside the inputs, to decide whether a verdict may come from its cache."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from comfy_api.latest import io

from ..runflow_api.errors import ConfigurationError
from ..runflow_api.evaluation.question import resolve
from ..runflow_api.evaluation.verdict import UNKNOWN, BatchVerdict
from . import _runtime

_unknown_verdicts: Counter[str] = Counter()


def fingerprint(judge: str | None, visible: dict[str, Any]) -> str:
    """Who would answer, and how often these inputs went without a verdict: ComfyUI would cache that for ever.

    The value is stored in saved images, so it is derived from no secret.
    """
    return f"{_resolved(judge or 'auto')}:{_unknown_verdicts[_visible_key(visible)]}"


def rerun_if_unjudged(verdict: BatchVerdict, node: type[io.ComfyNode]) -> None:
    """Let the next queue ask again if nobody judged."""
    if verdict.outcome == UNKNOWN and any(each.error for each in verdict):
        inputs = node.hidden.dynprompt.get_node(node.hidden.unique_id)["inputs"]
        _unknown_verdicts[_visible_key(inputs)] += 1


def _visible_key(inputs: dict[str, Any]) -> str:
    """The inputs that are not links: all that ``fingerprint_inputs`` can see."""
    constant = {name: value for name, value in inputs.items() if not isinstance(value, list | tuple | type(None))}
    return json.dumps(constant, sort_keys=True, default=str)


def _resolved(judge: str) -> str:
    if judge != "auto":
        return judge
    try:
        return resolve("auto", _runtime.settings())
    except ConfigurationError:
        return "misconfigured"
