"""The settings that made an image: checkpoint, LoRAs, sampler, scheduler, steps, cfg, size, seed and prompt.

Found by walking a graph in the API's form upstream from the image to the sampler that made it; of several samplers in a
row the last one. Where ways part, only what all of them say is said. What the graph does not tell is ``None``: unknown,
and never a guess.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from PIL import Image

from ..journal.image_settings import UNKNOWN_SETTINGS, ImageSettings, agreed
from .known_nodes import ComputedTextError
from .known_settings import (
    CORE_SAMPLERS,
    FIELDS,
    IMAGE_CHANGERS,
    IMAGES,
    KEEPS_SIZE,
    LATENT_SIZES,
    MAKES_IMAGES,
    OF_A_MAKER,
    OF_A_MAKER_WHOLE,
    OTHER_IMAGES,
    PIPES,
    REPAIRS,
    SAMPLER_NODES,
    SCHEDULE_CHANGERS,
    SCHEDULE_NODES,
    SHOWS_ITSELF,
    WRITES_OR_SHOWS,
)
from .model_settings import Models, tagged
from .saved_prompt import (
    MAX_NODES,
    Graph,
    Link,
    Node,
    UntoldError,
    is_graph,
    link_of,
    saved_texts,
    without_label,
)
from .values import Values

MAX_DEPTH = 200
_GIVES_ON = re.compile(r"^$|^\*$|^any|image|img|pixel|latent|frame|video|batch|input|value|source", re.IGNORECASE)
"""Names of an input that may bring an image, where it is the only one that a node is given."""
SEEDS = 2**64
LATENT_STEP = 64


def of_graph(
    graph: Any, image: Link | None = None, *, is_running: bool = False, size: tuple[int, int] | None = None
) -> ImageSettings:
    """The settings of the image that a link gives; without a link, what all images agree about that are saved.

    ``graph`` is a prompt in the API's form and may hold anything; ``is_running`` if it is the one that runs now, in
    which a loop's nodes give the values of this attempt. ``size``: width and height of a saved image, where they are
    known: of several images that the graph saves, those of another size are not this one.
    """
    if not is_graph(graph) or len(graph) > MAX_NODES:
        return UNKNOWN_SETTINGS
    nodes = {str(name): node for name, node in graph.items() if isinstance(node, Mapping)}
    walk = _Walk(nodes, is_running)
    try:
        return agreed(walk.images(image) if image is not None else walk.saved(size))
    except (UntoldError, RecursionError):
        return UNKNOWN_SETTINGS


def of_image(image: Image.Image) -> ImageSettings:
    """The settings in a file's metadata: ComfyUI's graph, or the text of A1111 and its relatives."""
    for text in saved_texts(image):
        found = _of_text(without_label(text), image.size)
        if found != UNKNOWN_SETTINGS:
            return found
    return UNKNOWN_SETTINGS


def _of_text(text: str, size: tuple[int, int]) -> ImageSettings:
    if text.lstrip().startswith("{"):
        try:
            saved = json.loads(text)
        except (ValueError, RecursionError):
            return UNKNOWN_SETTINGS
        inner = saved.get("prompt")
        return of_graph(inner if is_graph(inner) else saved, size=size)
    lines = [line for line in text.splitlines() if line.startswith("Steps: ")]
    return _of_parameters(text, lines[-1]) if lines else UNKNOWN_SETTINGS


def _of_parameters(text: str, line: str) -> ImageSettings:
    """The last line of A1111's text, such as "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768"."""
    said = dict(re.findall(r"([A-Z][A-Za-z ]*): ([^,]+)(?:, |$)", line))
    size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", said.get("Size", "").strip())
    prompt = re.split(r"^(?:Negative prompt:|Steps: )", text, maxsplit=1, flags=re.MULTILINE)[0].strip()
    return ImageSettings(
        checkpoint=_text(said.get("Model")),
        loras=tagged(prompt),
        sampler=_text(said.get("Sampler")),
        scheduler=_text(said.get("Schedule type")),
        steps=_whole(_parsed(said.get("Steps"))),
        cfg=_number(_parsed(said.get("CFG scale"))),
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        seed=_whole(_parsed(said.get("Seed"))),
        prompt=prompt or None,
    )


def _parsed(text: str | None) -> int | float | None:
    try:
        return None if text is None else int(text[:20]) if text.strip().isdecimal() else float(text)
    except ValueError:
        return None


class _Walk:
    def __init__(self, nodes: Mapping[str, Node], is_running: bool) -> None:
        self._nodes = nodes
        self._values = Values(nodes, is_running=is_running)
        self._models = Models(self._values)
        self._prompts = Graph(nodes, is_running=is_running)

    # --- from the image to the sampler ----------------------------------------------------------------

    def saved(self, size: tuple[int, int] | None) -> list[ImageSettings]:
        """What made each image that ends in the graph: those that are saved, otherwise those that nothing takes.

        With the ``size`` of the image, only those that may have it: people also save what a node only shows.
        """
        taken = {link[0] for name in self._nodes for link in self._values.links(name)}
        ends = [name for name in self._nodes if self._is_end(name, name in taken)]
        saving = [name for name in ends if self._saves(name)]
        shown = [name for name in ends if name not in saving]
        for names in (saving, shown):
            fitting = [each for name in names for each in self._ended(name) if _may_have(each, size)]
            if fitting:
                return fitting
        return [each for name in saving or shown for each in self._ended(name)]

    def _is_end(self, name: str, is_taken: bool) -> bool:
        """Whether images end here. A sampler shows or saves its own only in packs, and may be gone on from as well."""
        if self._is_sampler(name):
            return self._saves(name) or (not is_taken and any(key in self._values.inputs(name) for key in SHOWS_ITSELF))
        return not is_taken and bool(self._image_links(name))

    def _saves(self, name: str) -> bool:
        return "Save" in self._values.kind(name) or "Save" in str(self._values.inputs(name).get("image_output"))

    def _ended(self, name: str) -> list[ImageSettings]:
        if self._is_sampler(name):
            return self.images((name, 0))
        return [found for link in self._image_links(name) for found in self.images(link)]

    def images(self, link: Link, depth: int = 0, *, keeps_size: bool = True) -> list[ImageSettings]:
        """The settings of every sampler that an image comes from directly; none of what was only loaded.

        Raises ``UntoldError`` if a way leads into a node that cannot be followed.
        """
        name, _ = link
        if depth > MAX_DEPTH or name not in self._nodes:
            raise UntoldError("the graph does not tell where the image comes from")
        if self._is_sampler(name):
            image_settings = self._sampled(name, depth)
            return [image_settings if keeps_size else replace(image_settings, width=None, height=None)]
        kind = self._values.kind(name)
        ways = [] if self._makes_unknown(name) else self._ways(link)
        if not ways:
            if self._values.links(name):
                raise UntoldError(f"{kind} cannot be followed")
            return []
        keeps = keeps_size and (kind in KEEPS_SIZE or bool(self._values.pipe_field(*link)))
        return [found for way in ways for found in self.images(way, depth + 1, keeps_size=keeps)]

    def _ways(self, link: Link) -> list[Link]:
        """The links through which an image or latent reaches a node that does not sample."""
        name, slot = link
        inputs = self._values.inputs(name)
        field = self._values.pipe_field(name, slot)
        if field in ("latent", "images"):
            found = self._values.in_pipe(name, field)
            return [found] if isinstance(found, tuple) else []
        chosen = self._values.switched(name)
        if chosen is not None:
            return [chosen]
        if any(word in self._values.kind(name) for word in REPAIRS):
            return self._image_links(name)[:1]
        ways = self._image_links(name)
        if ways and self._values.kind(name) not in KEEPS_SIZE:
            ways += [way for key in inputs if OTHER_IMAGES.search(key) and (way := link_of(inputs[key]))]
        others = self._values.links(name)
        if not ways and len(others) == 1 and any(_GIVES_ON.search(key) for key in inputs if link_of(inputs[key])):
            return others
        return ways or [way for key, value in inputs.items() if key.startswith("any_") and (way := link_of(value))]

    def _image_links(self, name: str) -> list[Link]:
        inputs = self._values.inputs(name)
        numbered = (key for key in inputs if re.fullmatch(r"(image|images|input|samples|latent)_?\d+", key))
        keys = dict.fromkeys([*(key for key in IMAGES if key in inputs), *numbered])
        return [link for key in keys if (link := link_of(inputs[key]))]

    def _is_sampler(self, name: str) -> bool:
        inputs, kind = self._values.inputs(name), self._values.kind(name)
        if any(word in kind for word in REPAIRS):
            return False
        samples = any(key in inputs for key in ("seed", "noise_seed", "noise", "steps", "sigmas")) or "ampler" in kind
        takes_model = any(link_of(inputs.get(key)) for key in (*FIELDS["model"], "guider"))
        takes_pipe = "ampler" in kind and bool(self._values.pipes(name))
        return samples and (takes_model or takes_pipe) and "odelSampling" not in kind

    def _makes_unknown(self, name: str) -> bool:
        """Whether a node that is not known looks as if it made a new image of what it is given."""
        kind, inputs = self._values.kind(name), self._values.inputs(name)
        if kind in KEEPS_SIZE or kind in IMAGE_CHANGERS or any(word in kind for word in REPAIRS):
            return False
        if WRITES_OR_SHOWS.search(kind):
            return False
        keys = [part for key in inputs for part in (key.lower(), key.lower().rpartition(".")[2])]
        is_told = any(key in OF_A_MAKER_WHOLE or any(word in key for word in OF_A_MAKER) for key in keys)
        return is_told or bool(MAKES_IMAGES.search(kind))

    # --- what the sampler says --------------------------------------------------------------------------

    def _sampled(self, name: str, depth: int) -> ImageSettings:
        inputs = self._values.inputs(name)
        if self._is_plotted(name):
            raise UntoldError("each image of a plot has other settings")
        guider = link_of(inputs.get("guider"))
        source = guider[0] if guider and guider[0] in self._nodes else name
        checkpoint, loras = self._models.of_sampler(source)
        steps, scheduler = self._schedule(name)
        size = self._size(name)
        return ImageSettings(
            checkpoint=checkpoint,
            loras=loras,
            sampler=self._sampler(name),
            scheduler=scheduler,
            steps=steps,
            cfg=_number(self._values.field(source, "cfg")),
            width=size[0] if size else None,
            height=size[1] if size else None,
            seed=self._seed(name, depth),
            prompt=self._prompt(source),
        )

    def _is_plotted(self, name: str) -> bool:
        """Whether an XY plot is among the scripts and pipes of a sampler."""
        behind, seen = [name], {name}
        while behind:
            inputs = self._values.inputs(behind.pop())
            for key, value in inputs.items():
                link = link_of(value)
                if link is None or link[0] in seen or key.lower() not in ("script", "xyplot", *PIPES):
                    continue
                if "xy" in self._values.kind(link[0]).lower():
                    return True
                seen.add(link[0])
                behind.append(link[0])
        return False

    def _sampler(self, name: str) -> str | None:
        link = link_of(self._values.inputs(name).get("sampler"))
        if link and self._values.kind(link[0]) in SAMPLER_NODES:
            return SAMPLER_NODES[self._values.kind(link[0])]
        if link and "sampler_name" in self._values.inputs(link[0]) and self._values.kind(link[0]) == "KSamplerSelect":
            return _text(self._values.of(self._values.inputs(link[0])["sampler_name"]))
        return _text(self._values.field(name, "sampler"))

    def _schedule(self, name: str) -> tuple[int | None, str | None]:
        link = link_of(self._values.inputs(name).get("sigmas"))
        for _ in range(MAX_DEPTH):
            if link is None or self._values.kind(link[0]) not in SCHEDULE_CHANGERS:
                break
            link = link_of(self._values.inputs(link[0]).get("sigmas"))
        if link is None:
            own = self._values.field(name, "steps"), self._values.field(name, "scheduler")
            return (None, None) if "sigmas" in self._values.inputs(name) else (_whole(own[0]), _text(own[1]))
        inputs, kind = self._values.inputs(link[0]), self._values.kind(link[0])
        steps = _whole(self._values.of(inputs.get("steps")))
        if kind in SCHEDULE_NODES:
            return steps, SCHEDULE_NODES[kind]
        return (steps, _text(self._values.of(inputs.get("scheduler")))) if "Scheduler" in kind else (None, None)

    def _seed(self, name: str, depth: int) -> int | None:
        """The seed; a sampler that adds no noise goes on with what the one before it began."""
        inputs = self._values.inputs(name)
        noise = link_of(inputs.get("noise"))
        adds_none = inputs.get("add_noise") in ("disable", False)
        if adds_none or (noise and self._values.kind(noise[0]) == "DisableNoise"):
            latent = self._values.field_link(name, "latent")
            before = agreed(self.images(latent, depth + 1)) if latent else UNKNOWN_SETTINGS
            return before.seed
        given = self._values.of(noise) if noise else self._values.field(name, "seed")
        seed = _whole(given)
        return seed if seed is not None and seed < SEEDS else None

    def _prompt(self, name: str) -> str | None:
        """The positive texts of the sampler, each once."""
        try:
            found = self._prompts.prompts_of(name)
        except (UntoldError, ComputedTextError):
            return None
        texts = list(dict.fromkeys(text.strip() for text in found if text.strip()))
        return "\n".join(texts) or None

    def _size(self, name: str) -> tuple[int, int] | None:
        """Width and height of the latent that the sampler began with, where a node of the graph makes it."""
        inputs = self._values.inputs(name)
        if link_of(inputs.get("script")) or inputs.get("upscale_method", "None") != "None":
            return None
        given = self._values.field_link(name, "latent")
        for _ in range(MAX_DEPTH):
            if given is None:
                return None
            inputs, kind = self._values.inputs(given[0]), self._values.kind(given[0])
            if self._values.pipe_field(*given) == "latent":
                found = self._values.in_pipe(given[0], "latent")
                given = found if isinstance(found, tuple) else None
                continue
            for width, height in LATENT_SIZES:
                makes = "Empty" in kind or "Loader" in kind or kind == "LatentUpscale"
                if makes and width in inputs and height in inputs and not _changes_size(inputs):
                    w, h = _whole(self._values.of(inputs[width])), _whole(self._values.of(inputs[height]))
                    return (w, h) if w and h else None
            given = None
            if kind in KEEPS_SIZE:
                given = link_of(inputs.get("samples"))
            elif kind in CORE_SAMPLERS:
                given = link_of(inputs.get("latent_image"))
        return None


def _changes_size(inputs: Mapping[str, Any]) -> bool:
    """Whether a node that is given width and height may take a chosen size or turn them instead."""
    chosen = [inputs[key] for key in ("resolution", "aspect_ratio", "ratio", "preset", "dimensions") if key in inputs]
    turned = [inputs[key] for key in ("invert", "swap_dimensions", "swap", "orientation") if key in inputs]
    is_custom = all(isinstance(each, str) and "custom" in each.lower() for each in chosen)
    return not is_custom or any(each not in (False, "Off", "False") for each in turned)


def _may_have(found: ImageSettings, size: tuple[int, int] | None) -> bool:
    """Whether an image of these settings may have this size: latents come in steps of up to 64 pixels."""
    if size is None or found.width is None or found.height is None:
        return True
    return abs(found.width - size[0]) < LATENT_STEP and abs(found.height - size[1]) < LATENT_STEP


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
