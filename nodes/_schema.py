"""What the schemas of the pack's nodes share: the category, the socket types, newer arguments."""

import dataclasses

from comfy_api.latest import io

Evaluation = io.Custom("RUNFLOW_EVALUATION")
References = io.Custom("RUNFLOW_REFERENCES")
Options = io.Custom("RUNFLOW_OPTIONS")
Loop = io.Custom("RUNFLOW_LOOP")

SEARCH_ALIASES = ["quality", "judge", "score", "check", "retry", "regenerate", "hands", "best of"]
_KNOWN = {field.name for field in dataclasses.fields(io.Schema)}


def schema(**arguments) -> io.Schema:
    """An ``io.Schema`` in the pack's category, less the arguments that this ComfyUI does not know yet."""
    arguments = {"category": "Runflow/Evaluation", "search_aliases": SEARCH_ALIASES, **arguments}
    return io.Schema(**{name: value for name, value in arguments.items() if name in _KNOWN})
