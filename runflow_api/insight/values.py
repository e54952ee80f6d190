"""The value that an input of a node has: its own, or the one that a link brings from a node that only holds it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .known_nodes import HOLDERS_OF_AN_ATTEMPT
from .known_settings import FIELDS, NO_LORA, PIPE_OUTPUTS, PIPES, REROUTES, VALUE_NODES
from .saved_prompt import Link, Node, link_of

MAX_DEPTH = 100
LARGEST = 2**64


class Values:
    """Reads a graph's nodes. ``is_running`` as in ``image_settings.of_graph``. Whatever cannot be told is ``None``."""

    def __init__(self, nodes: Mapping[str, Node], *, is_running: bool) -> None:
        self._nodes = nodes
        self._is_running = is_running

    def inputs(self, name: str) -> Mapping[str, Any]:
        inputs = self._nodes.get(name, {}).get("inputs")
        return inputs if isinstance(inputs, Mapping) else {}

    def kind(self, name: str) -> str:
        return str(self._nodes.get(name, {}).get("class_type"))

    def links(self, name: str) -> list[Link]:
        return [link for value in self.inputs(name).values() if (link := link_of(value))]

    def of(self, value: Any, depth: int = 0) -> Any:
        """A plain value, followed through links."""
        link = link_of(value)
        if link is None:
            is_plain = isinstance(value, str | float | bool) or (isinstance(value, int) and abs(value) < LARGEST)
            return value if is_plain else None
        name, slot = link
        if depth > MAX_DEPTH or name not in self._nodes:
            return None
        inputs, kind = self.inputs(name), self.kind(name)
        if (kind, slot) in HOLDERS_OF_AN_ATTEMPT:
            return self.of(inputs.get(HOLDERS_OF_AN_ATTEMPT[kind, slot]), depth + 1) if self._is_running else None
        if kind in VALUE_NODES:
            held = VALUE_NODES[kind].get(slot)
            return self.of(inputs.get(held), depth + 1) if held else None
        field = self.pipe_field(name, slot)
        if field:
            return self.of(self.in_pipe(name, field), depth + 1)
        chosen = self.switched(name)
        if chosen is not None:
            return self.of(chosen, depth + 1)
        if REROUTES.search(kind) and len(inputs) == 1:
            return self.of(next(iter(inputs.values())), depth + 1)
        return None

    # --- fields of samplers and pipes -----------------------------------------------------------------

    def field(self, name: str, field: str) -> Any:
        """A field of a sampler: its own input, otherwise what its pipe brings."""
        return self.of(self.given(name, field))

    def field_link(self, name: str, field: str) -> Link | None:
        given = self.given(name, field)
        return given if isinstance(given, tuple) else None

    def given(self, name: str, field: str) -> Any:
        """A field as it is given to a node: a link as a tuple, a plain value, or ``None``."""
        return self._own(name, field) if self._has(name, field) else self._from_pipes(name, field, 0)

    def pipe_field(self, name: str, slot: int) -> str:
        """Which field of a pipe an output gives, "" if it is none, or the pipe itself."""
        outputs = PIPE_OUTPUTS.get(self.kind(name), ())
        return outputs[slot] if 0 <= slot < len(outputs) else ""

    def in_pipe(self, name: str, field: str, depth: int = 0) -> Any:
        """A field of the pipe that a node gives. A node that loads a model gives the link to itself."""
        if depth > MAX_DEPTH or name not in self._nodes:
            return None
        if self._has(name, field):
            return self._own(name, field)
        is_loader = any(key in self.inputs(name) for key in FIELDS["ckpt_name"])
        if is_loader and field in ("model", "latent"):
            return name, -1
        if field == "model" and self._may_put_loras(name):
            return None
        return self._from_pipes(name, field, depth + 1)

    def _may_put_loras(self, name: str) -> bool:
        """Whether a node that takes a pipe may put LoRAs on the model in it."""
        given = {key: value for key, value in self.inputs(name).items() if "lora" in key.lower()}
        names_any = any(isinstance(value, str | list | dict) and value not in NO_LORA for value in given.values())
        return names_any or (not given and "lora" in self.kind(name).lower())

    def pipes(self, name: str) -> list[Link]:
        inputs = self.inputs(name)
        keys = [*PIPES, *(key for key in inputs if re.fullmatch(r"ctx_\d+", key))]
        return [link for key in keys if (link := link_of(inputs.get(key)))]

    def _has(self, name: str, field: str) -> bool:
        inputs = self.inputs(name)
        return any(inputs.get(key) is not None for key in FIELDS.get(field, (field,)))

    def _own(self, name: str, field: str) -> Any:
        inputs = self.inputs(name)
        value = next(inputs[key] for key in FIELDS.get(field, (field,)) if inputs.get(key) is not None)
        return link_of(value) or value

    def _from_pipes(self, name: str, field: str, depth: int) -> Any:
        """What every pipe that a node takes says, if they agree: which of several is taken shows only at run time."""
        found = [self.in_pipe(link[0], field, depth) for link in self.pipes(name)]
        return found[0] if found and all(each == found[0] for each in found) else None

    def switched(self, name: str) -> Link | None:
        """The link that a switch between two lets through, where its choice stands in the graph."""
        inputs = self.inputs(name)
        if "switch" not in inputs or not ("on_true" in inputs or "on_false" in inputs):
            return None
        choice = self.of(inputs["switch"])
        return link_of(inputs.get("on_true" if choice else "on_false")) if isinstance(choice, bool) else None
