"""The checkpoint behind a model, and the LoRAs that were put on it on the way."""

from __future__ import annotations

import re
from typing import Any

from ..journal.image_settings import Lora
from .known_settings import CHECKPOINTS, LOADERS_BY_OTHER_NAMES, MERGES, NO_LORA, TAGS
from .saved_prompt import Link, link_of
from .values import Values

MAX_DEPTH = 200
MAX_IN_A_STACK = 50
Found = tuple[str | None, tuple[Lora, ...] | None]
"""Checkpoint and LoRAs, each ``None`` if unknown."""
NOTHING: Found = (None, None)
_NUMBERED = re.compile(r"lora_?(?:name_)?(\d{1,4})(?:_name)?")
"""The inputs of loaders and stacks of several that name one."""
_TAG = re.compile(r"<lora:([^:<>]+)(?::(-?\d+(?:\.\d+)?))?(?::-?[\d.]+)?>")


class Models:
    def __init__(self, values: Values) -> None:
        self._values = values

    def of_sampler(self, name: str) -> Found:
        """The model that a sampler or guider was given. Samplers of some packs put a LoRA on it themselves."""
        link = self._values.field_link(name, "model")
        checkpoint, loras = self._of(link, 0) if link else NOTHING
        own = self._own_loras(name)
        return checkpoint, None if loras is None or own is None else (*loras, *own)

    def _of(self, link: Link, depth: int) -> Found:
        name, slot = link
        inputs, kind = self._values.inputs(name), self._values.kind(name)
        if depth > MAX_DEPTH or not inputs:
            return NOTHING
        if slot >= 0 and self._values.pipe_field(name, slot):
            found = self._values.in_pipe(name, self._values.pipe_field(name, slot))
            return self._of(found, depth + 1) if isinstance(found, tuple) and found != link else NOTHING
        named = next((key for key in (*CHECKPOINTS, LOADERS_BY_OTHER_NAMES.get(kind, "")) if key in inputs), None)
        own = self._own_loras(name)
        if named is not None and link_of(inputs.get("model")) is None:
            return self._name(inputs[named]), own
        chosen = self._values.switched(name) or _numbered_choice(inputs)
        before = chosen or self._values.field_link(name, "model") or self._only_link(name)
        if before is None or any(word in kind for word in MERGES) or ("model1" in inputs and not chosen):
            return NOTHING
        checkpoint, loras = self._of(before, depth + 1)
        return checkpoint, None if loras is None or own is None else (*loras, *own)

    def _only_link(self, name: str) -> Link | None:
        links = self._values.links(name)
        return links[0] if len(links) == 1 and len(self._values.inputs(name)) == 1 else None

    def _name(self, value: Any) -> str | None:
        if isinstance(value, dict):  # pysssss' loaders keep a picture beside the name
            value = value.get("content")
        found = self._values.of(value)
        return found if isinstance(found, str) and found.strip() else None

    # --- LoRAs --------------------------------------------------------------------------------------------

    def _own_loras(self, name: str) -> tuple[Lora, ...] | None:
        """What a node puts on its model by itself; ``None`` if it puts on something that cannot be told."""
        inputs, kind = self._values.inputs(name), self._values.kind(name)
        found: list[Lora] = []
        if kind in TAGS:
            text = self._values.of(inputs.get(TAGS[kind]))
            return tagged(text) if isinstance(text, str) and "{" not in text and "__" not in text else None
        if "lora_name" in inputs:
            one = self._one(inputs["lora_name"], self._weight(inputs, _WEIGHTS))
            if one is None:
                return None
            found += one
        elif any(_NUMBERED.fullmatch(key) for key in inputs):
            numbered = self._numbered(name)
            if None in numbered:
                return None
            found += [lora for lora in numbered if lora is not None]
        elif _is_unknown_stack(inputs, kind):
            return None
        stack = link_of(inputs.get("lora_stack")) or link_of(inputs.get("optional_lora_stack"))
        if stack is not None:
            below = self._own_loras(stack[0]) if self._values.inputs(stack[0]) else None
            if below is None:
                return None
            found = [*below, *found]
        return tuple(found)

    def _one(self, name: Any, weight: float | None) -> list[Lora] | None:
        told = self._name(name)
        if told in NO_LORA:
            return []
        if told is None:
            return [] if isinstance(name, str) else None
        return [] if weight == 0 else [Lora(told, weight)]

    def _weight(self, inputs: Any, names: tuple[str, ...]) -> float | None:
        given = next((inputs[name] for name in names if name in inputs), None)
        value = self._values.of(given)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number else None

    def _numbered(self, name: str) -> list[Lora | None]:
        """Loaders and stacks of several: rgthree, Efficiency, Comfyroll, Easy-Use. ``None`` is one that is not told."""
        inputs = self._values.inputs(name)
        count = self._values.of(inputs.get("lora_count", inputs.get("num_loras", MAX_IN_A_STACK)))
        last = count if isinstance(count, int) and not isinstance(count, bool) else MAX_IN_A_STACK
        found: list[Lora | None] = []
        for key in sorted(inputs, key=_in_order):
            match = _NUMBERED.fullmatch(key)
            if match is None or int(match[1]) > last or not _is_on(inputs, match[1]):
                continue
            found += self._entry(inputs, inputs[key], match[1])
        return found

    def _entry(self, inputs: Any, value: Any, number: str) -> list[Lora | None]:
        if isinstance(value, dict):  # rgthree's Power Lora Loader
            if value.get("on") is False or value.get("lora") in (None, *NO_LORA):
                return []
            strength = self._weight(value, ("strength",))
            return [] if strength == 0 else [Lora(str(value["lora"]), strength)]
        is_advanced = inputs.get("input_mode", inputs.get("mode")) == "advanced"
        names = ("model_str_{}", "lora_wt_{}") if is_advanced else ("lora_wt_{}", "model_str_{}")
        known = (
            *names,
            "strength_{}",
            "model_weight_{}",
            "lora_{}_strength",
            "lora_{}_model_strength",
            "lora{}_model_strength",
        )
        one = self._one(value, self._weight(inputs, tuple(each.format(number) for each in known)))
        return [None] if one is None else [*one]


_WEIGHTS = ("strength_model", "lora_model_strength", "strength", "model_weight", "weight", "lora_strength")


def tagged(text: str) -> tuple[Lora, ...]:
    return tuple(Lora(name.strip(), float(weight) if weight else 1.0) for name, weight in _TAG.findall(text))


def _numbered_choice(inputs: Any) -> Link | None:
    """Of Comfyroll's switch, which numbers its two models, the one that it lets through."""
    return link_of(inputs.get(f"model{inputs['Input']}")) if inputs.get("Input") in (1, 2) else None


def _is_on(inputs: Any, number: str) -> bool:
    return inputs.get(f"switch_{number}", "On") not in ("Off", False)


def _is_unknown_stack(inputs: Any, kind: str) -> bool:
    """Whether a node looks as if it puts LoRAs on a model in a way that is not known."""
    is_known = kind in ("Power Lora Loader (rgthree)", "CR Apply LoRA Stack", "Apply LoRA Stack", "easy loraStackApply")
    names_one = any("lora" in key.lower() for key in inputs if not key.endswith("lora_stack"))
    return not is_known and (names_one or ("lora" in kind.lower() and "lora_stack" not in inputs))


def _in_order(key: str) -> tuple[int, str]:
    digits = re.search(r"\d{1,9}", key)
    return int(digits[0]) if digits else 0, key
