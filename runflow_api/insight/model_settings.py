"""The checkpoint behind a model, and the LoRAs that were put on it on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..journal.image_settings import Lora
from .known_settings import (
    CHECKPOINTS,
    CORE_SAMPLERS,
    LOADERS_BY_OTHER_NAMES,
    LORA_NODES,
    MERGES,
    MODEL_PATCHES,
    NO_LORA,
    PIPES,
    PLAIN_GUIDERS,
    REROUTES,
    TAGS,
    WEIGHTS,
)
from .saved_prompt import Link, link_of
from .values import Values

MAX_DEPTH = 200
MAX_IN_A_STACK = 50
Found = tuple[str | None, tuple[Lora, ...] | None]
"""Checkpoint and LoRAs, each ``None`` if unknown."""
NOTHING: Found = (None, None)
_NUMBERED = re.compile(r"lora_?(?:name_)?(\d{1,4})(?:_name)?")
"""The inputs of loaders and stacks of several that name one."""
_MODEL = re.compile(r"(?:base_|refiner_|other_|second_)?(?:model|unet)(?:_?(?:\d|[a-z]|negative|base|refiner|other))?")
"""Inputs that take a model to sample with; those of upscalers, of CLIP vision and of ControlNets have other names."""
_ANOTHER = re.compile(r"(?:ckpt|unet|checkpoint|diffusion_model)(?:_name)?_?(?:\d|[a-z])$|refiner_ckpt|ckpt_?2")
"""Inputs of loaders that name a second model."""
_OF_LORAS = re.compile(r"lora|lyco", re.IGNORECASE)
_TAG = re.compile(r"<lora:([^:<>]+)(?::(-?\d+(?:\.\d+)?))?(?::-?[\d.]+)?>")


class Models:
    def __init__(self, values: Values) -> None:
        self._values = values
        self._known: dict[Link, Found] = {}

    def of_sampler(self, name: str) -> Found:
        """The model that a sampler or guider was given. Samplers of some packs put a LoRA on it themselves."""
        link = self._values.field_link(name, "model")
        if link is None:
            return NOTHING
        checkpoint, loras = found = self._of(link, 0)
        if self._values.kind(name) not in CORE_SAMPLERS | PLAIN_GUIDERS and self._takes_another(name, link, found, 0):
            return NOTHING
        own = self._own_loras(name)
        return checkpoint, None if loras is None or own is None or self._is_hooked(name) else (*loras, *own)

    def _of(self, link: Link, depth: int) -> Found:
        if link not in self._known:
            self._known[link] = NOTHING  # what a circle comes back to
            self._known[link] = self._found(link, depth)
        return self._known[link]

    def _found(self, link: Link, depth: int) -> Found:
        name, slot = link
        inputs, kind = self._values.inputs(name), self._values.kind(name)
        if depth > MAX_DEPTH or not inputs:
            return NOTHING
        if slot >= 0 and self._values.pipe_field(name, slot):
            found = self._values.in_pipe(name, self._values.pipe_field(name, slot))
            return self._of(found, depth + 1) if isinstance(found, tuple) and found != link else NOTHING
        if REROUTES.search(kind) and len(inputs) == 1:
            links = self._values.links(name)
            return self._of(links[0], depth + 1) if links else NOTHING
        chosen = self._values.switched(name) or _numbered_choice(kind, inputs)
        if chosen is not None:
            return self._of(chosen, depth + 1)
        before = self._values.field_link(name, "model")
        named = [key for key in (*CHECKPOINTS, LOADERS_BY_OTHER_NAMES.get(kind)) if key in inputs]
        if before is None:
            return self._loaded(name, named)
        checkpoint, loras = found = self._of(before, depth + 1)
        own = self._own_loras(name)
        if kind not in MODEL_PATCHES and not self._tells_its_loras(name):
            own = None
            if MERGES.search(kind) or _names_weights(inputs) or self._takes_another(name, before, found, depth):
                return NOTHING
        if named and not any(key in inputs for key in ("model_override", "optional_model", "model_opt")):
            return NOTHING
        return checkpoint, None if loras is None or own is None else (*loras, *own)

    def _loaded(self, name: str, named: Sequence[str | None]) -> Found:
        """What a node loads that is given no model: one that is named, and the LoRAs that it puts on it."""
        inputs = self._values.inputs(name)
        is_given_models = any(_MODEL.fullmatch(key) and link_of(value) for key, value in inputs.items())
        others = [self._name(inputs[key]) for key in inputs if key not in named and _ANOTHER.search(key)]
        if not named or is_given_models or any(other not in NO_LORA for other in others):
            return NOTHING
        has_tags = any(isinstance(value, str) and "<lora:" in value for value in inputs.values())
        own = None if has_tags and self._values.kind(name) not in TAGS else self._own_loras(name)
        return self._name(inputs[named[0] or ""]), own

    def _takes_another(self, name: str, link: Link, found: Found, depth: int) -> bool:
        """Whether a node is given another model beside ``link``, as far as names and what leads there tell."""
        for key, value in self._values.inputs(name).items():
            other = link_of(value)
            if other is None or other == link or key in PIPES:
                continue
            there = self._of(other, depth + 1) if other[1] == 0 or _MODEL.fullmatch(key) else NOTHING
            if there != found and (there != NOTHING or _MODEL.fullmatch(key)):
                return True
        return False

    def _tells_its_loras(self, name: str) -> bool:
        """Whether a node puts on a model what its inputs name, and does nothing else to it."""
        inputs, kind = self._values.inputs(name), self._values.kind(name)
        names_some = any(key in inputs for key in ("lora_name", "lora_stack", "optional_lora_stack"))
        is_known = kind in TAGS or kind in LORA_NODES
        return is_known or ("lora" in kind.lower() and (names_some or any(map(_NUMBERED.fullmatch, inputs))))

    def _is_hooked(self, name: str) -> bool:
        """Whether a hook among what a sampler is given may put a LoRA on its model, or another model in its place."""
        behind, seen = [name], {name}
        while behind:
            inputs = self._values.inputs(behind.pop())
            for key, value in inputs.items():
                link = link_of(value)
                if link is None or link[0] in seen or (link[0] != name and key in ("latent_image", "samples", "image")):
                    continue
                if "CreateHook" in self._values.kind(link[0]):
                    return True
                seen.add(link[0])
                behind.append(link[0])
        return False

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
            is_on = inputs.get("switch") not in ("Off", False)
            one = self._one(inputs["lora_name"], self._weight(inputs, _WEIGHTS)) if is_on else []
            if one is None:
                return None
            found += one
        numbered = self._numbered(name)
        if None in numbered or _names_others(inputs, kind):
            return None
        found += [lora for lora in numbered if lora is not None]
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


_WEIGHT = re.compile(r"(?:weight|strength|wt|str)(?:_?\d+)?$", re.IGNORECASE)
_WEIGHTS = ("strength_model", "lora_model_strength", "strength", "model_weight", "weight", "lora_strength")


def tagged(text: str) -> tuple[Lora, ...]:
    return tuple(Lora(name.strip(), float(weight) if weight else 1.0) for name, weight in _TAG.findall(text))


def _numbered_choice(kind: str, inputs: Any) -> Link | None:
    """Of Comfyroll's switch, which numbers its two models, the one that it lets through."""
    is_switch = kind.startswith("CR ") and "Switch" in kind and inputs.get("Input") in (1, 2)
    return link_of(inputs.get(f"model{inputs['Input']}")) if is_switch else None


def _is_on(inputs: Any, number: str) -> bool:
    return inputs.get(f"switch_{number}", "On") not in ("Off", False)


def _names_others(inputs: Any, kind: str) -> bool:
    """Whether a node names LoRAs in a way that is not known: what is neither a number nor a choice of none may."""
    if kind in LORA_NODES:
        return False
    known = ("lora_name", "lora_stack", "optional_lora_stack", "lora_count", "num_loras")
    others = [
        value
        for key, value in inputs.items()
        if _OF_LORAS.search(key) and key not in known and not _NUMBERED.fullmatch(key) and not _WEIGHT.search(key)
    ]
    names_none = not any(_OF_LORAS.search(key) for key in inputs)
    return any(isinstance(value, str | list | dict) and value not in NO_LORA for value in others) or (
        names_none and bool(_OF_LORAS.search(kind))
    )


def _names_weights(inputs: Any) -> bool:
    """Whether a node loads a file of weights that is not said to be a LoRA's."""
    return any(
        isinstance(value, str) and value.lower().endswith(WEIGHTS) and not _OF_LORAS.search(key)
        for key, value in inputs.items()
    )


def _in_order(key: str) -> tuple[int, str]:
    digits = re.search(r"\d{1,9}", key)
    return int(digits[0]) if digits else 0, key
