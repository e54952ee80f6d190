"""The prompt that made an image, as its file holds it: ComfyUI's graph, or the text of A1111 and its relatives.

PNG text, and EXIF of JPEG, WebP and AVIF. In a graph the prompt is followed from each sampler's positive input to the
texts that were encoded; of a node with a positive and a negative side, the output's index decides. Whatever cannot be
told is told so and never guessed: an image that is judged against another prompt is worse than one without.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from PIL import ExifTags, Image

from .known_nodes import (
    HOLDERS,
    HOLDERS_OF_AN_ATTEMPT,
    JOINERS,
    OUTPUTS_OF_SIDES,
    OWN_SIDE_REPLACES,
    PASSED_ON,
    ComputedTextError,
    gives_on,
    held_text,
    join,
)

MAX_NODES = 10_000
MAX_DEPTH = 400
"""Nodes between a sampler and its text."""
UNSAVED = "its metadata does not contain a ComfyUI prompt"
NO_JSON = "its metadata contains a prompt that is not JSON"
COMPUTED = "the prompt was computed inside the workflow, and the saved graph does not contain the result"
NOT_FOLLOWED = "no prompt could be traced from a sampler in its saved graph"
EMPTY = "its positive prompt is empty"
WHICH_SIDE = "a node with a positive and a negative side does not say which of the two it outputs"

Link = tuple[str, int]
Node = Mapping[str, Any]

POSITIVES = ("positive", "pos", "base_positive", "text_positive", "positive_prompt", "pos_prompt", "optional_positive")
NEGATIVES = ("negative", "neg", "base_negative", "text_negative", "negative_prompt", "neg_prompt", "optional_negative")
PIPES = ("pipe", "basic_pipe", "detailer_pipe", "base_ctx", "context", "sdxl_tuple", "text_embeds", "hyvid_embeds")
STARTS = ("positive", "pos", "conditioning", "cond1")
TEXTS = ("text", "prompt", "user_prompt", "populated_text", "string", "value")
"""Inputs of one text, in the order in which they are believed."""
TEXTS_OF_MODELS = ("text_g", "t5xxl", "llama", "qwen25_7b", "mt5xl", "clip_g", "bert", "text_l", "clip_l")
"""Encoders with a text for each of their models: if they differ, all are said."""


class UntoldError(Exception):
    """The graph does not tell the prompt; the message says why."""


def of_image(image: Image.Image) -> tuple[str, str]:
    """(prompt, "") or ("", why there is none). ``image`` is open and loaded."""
    why_not = UNSAVED
    for text in saved_texts(image):
        prompt, reason = _of_text(text)
        if prompt:
            return prompt, ""
        why_not = reason if why_not == UNSAVED and reason else why_not
    return "", why_not


def of_graph(graph: Any) -> tuple[str, str]:
    """The positive prompt of a graph in the API's form, or ("", the reason why there is none)."""
    if not is_graph(graph) or len(graph) > MAX_NODES:
        return "", UNSAVED
    nodes = {str(name): node for name, node in graph.items() if isinstance(node, dict)}
    try:
        found = Graph(nodes).prompts()
    except UntoldError as error:
        return "", str(error)
    except ComputedTextError:
        return "", COMPUTED
    texts = {text.strip(): text for text in reversed(found) if text.strip()}
    if len(texts) > 1:
        return "", f"its saved graph has {len(texts)} different prompts, and does not say which one made this image"
    if texts:
        return next(iter(texts.values())), ""
    return "", EMPTY if found else NOT_FOLLOWED


# --- what a file holds --------------------------------------------------------------------------------

_STEPS = re.compile(r"^Steps: \d+", re.MULTILINE)
_NEGATIVE = re.compile(r"^Negative prompt:", re.MULTILINE)


def saved_texts(image: Image.Image) -> Iterator[str]:
    """Everything in the metadata that may hold a prompt, ComfyUI's own place first."""
    chunks = getattr(image, "text", None) or image.info
    for name in ("prompt", "parameters", "invokeai_metadata", "Comment", "comment"):
        value = chunks.get(name)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            yield value
    for value in _exif_values(image):
        if isinstance(value, bytes):
            value = _user_comment(value)
        if isinstance(value, str) and len(value) > 1:
            yield value.partition("\0")[0]


def _exif_values(image: Image.Image) -> list[Any]:
    try:
        exif = image.getexif()
        return [*exif.values(), *exif.get_ifd(ExifTags.IFD.Exif).values()]
    except Exception:  # Pillow raises many types for damaged EXIF, and the picture is none the worse for it
        return []


def _user_comment(value: bytes) -> str:
    """EXIF's UserComment: eight bytes name the coding (EXIF 2.3, 4.6.5); A1111 writes big-endian UTF-16."""
    coding, text = value[:8], value[8:]
    if coding.startswith(b"UNICODE"):
        order = "utf-16-le" if len(text) > 1 and text[1] == 0 and text[0] != 0 else "utf-16-be"
        return text.decode(order, "replace")
    return (text if coding in (b"ASCII\0\0\0", bytes(8)) else value).decode("utf-8", "replace")


def without_label(text: str) -> str:
    """JSON as some savers put it into EXIF, without the name before it."""
    return re.sub(r"^(prompt|workflow)\s*:\s*(?=\{)", "", text, flags=re.IGNORECASE)


def _of_text(text: str) -> tuple[str, str]:
    """Of one saved text: (prompt, ""), ("", the reason) or, if it has nothing to do with prompts, ("", "")."""
    text = without_label(text)
    if text.lstrip().startswith("{"):
        try:
            return _of_json(json.loads(text))
        except (ValueError, RecursionError):
            return "", NO_JSON
    steps = list(_STEPS.finditer(text))
    if not steps:
        return "", ""
    head = text[: steps[-1].start()]
    negative = _NEGATIVE.search(head)
    prompt = (head[: negative.start()] if negative else head).rstrip("\r\n")
    return (prompt, "") if prompt.strip() else ("", EMPTY)


def _of_json(saved: Any) -> tuple[str, str]:
    """ComfyUI's graph, by itself or under "prompt"; otherwise the plain texts of SwarmUI, InvokeAI and Fooocus."""
    if not isinstance(saved, dict):
        return "", ""
    if is_graph(saved):
        return of_graph(saved)
    inner = saved.get("prompt")
    if is_graph(inner):
        return of_graph(inner)
    swarm = saved.get("sui_image_params")
    candidates = (swarm.get("prompt") if isinstance(swarm, dict) else None, saved.get("positive_prompt"), inner)
    given = next((each for each in candidates if isinstance(each, str)), None)
    if given is None:
        return "", ""
    return (given, "") if given.strip() else ("", EMPTY)


def is_graph(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(node, dict) and "class_type" in node for node in value.values())


# --- a graph ------------------------------------------------------------------------------------------


class Graph:
    """Follows prompts through a graph. A side is True for the positive one and False for the negative one.

    ``is_running``: the graph is the one that runs, so that a loop's nodes give the values of this attempt.
    """

    def __init__(self, nodes: Mapping[str, Node], *, is_running: bool = False) -> None:
        self._nodes = nodes
        self._is_running = is_running
        self._seen: set[tuple[str, int, bool]] = set()
        self._used: dict[str, set[tuple[int, bool]]] = {}
        for name in nodes:
            for key, value in self._inputs(name).items():
                link = link_of(value)
                if link and key in (*POSITIVES, *NEGATIVES):
                    self._used.setdefault(link[0], set()).add((link[1], key in POSITIVES))

    def prompts(self) -> list[str]:
        """The positive texts of every sampler, empty ones too. Raises ``UntoldError``, ``ComputedTextError``."""
        found: list[str] = []
        for name in self._nodes:
            inputs, kind = self._inputs(name), self._kind(name)
            is_sampler = any(word in kind for word in ("Sampler", "sampler", "Guider", "Detailer"))
            if is_sampler or (link_of(inputs.get("model")) and link_of(inputs.get("positive"))):
                found += self.prompts_of(name, may_have_pipes=is_sampler)
        return found

    def prompts_of(self, name: str, *, may_have_pipes: bool = True) -> list[str]:
        """The positive texts of one sampler or guider. Raises as ``prompts`` does."""
        inputs, found = self._inputs(name), list[str]()
        links = [link for key in STARTS if (link := link_of(inputs.get(key)))]
        self._seen = set()
        for link in links:
            found += self._conditioning(link, True)
        if may_have_pipes and not links:
            for link in links_of(inputs, PIPES):
                found += self._pipe(link, True)
        return found

    def _inputs(self, name: str) -> Mapping[str, Any]:
        inputs = self._nodes.get(name, {}).get("inputs")
        return inputs if isinstance(inputs, dict) else {}

    def _kind(self, name: str) -> str:
        return str(self._nodes.get(name, {}).get("class_type"))

    def _is_visited(self, link: Link, side: bool) -> bool:
        """Whether this was followed already, in a circle or where ways part and meet again."""
        key = (*link, side)
        if len(self._seen) > MAX_DEPTH:
            raise UntoldError(NOT_FOLLOWED)
        if key in self._seen:
            return True
        self._seen.add(key)
        return False

    def _conditioning(self, link: Link, side: bool) -> list[str]:
        """The texts behind a conditioning that a node takes as its positive, or negative, side."""
        name, slot = link
        inputs, kind = self._inputs(name), self._kind(name)
        if name not in self._nodes:
            raise UntoldError(COMPUTED)
        if self._is_visited(link, side):
            return []
        if "ZeroOut" in kind:
            return [""]
        if "switch" in inputs and ("on_true" in inputs or "on_false" in inputs):
            return self._switched(inputs, side)
        pipes = links_of(inputs, PIPES)
        if _has_sides(inputs) or (pipes and not _conditionings(inputs)):
            given = self._side_of_output(name, slot, side)
            return self._side(inputs, given) if not pipes else self._pipe(link, given)
        if len({at for at, _ in self._used.get(name, ())}) > 1 or any("neg" in key for key in inputs):
            self._side_of_output(name, slot, side)
        upstream = [text for each in _conditionings(inputs) for text in self._conditioning(each, side)]
        return upstream + self._own_texts(inputs, required=not _conditionings(inputs))

    def _switched(self, inputs: Mapping[str, Any], side: bool) -> list[str]:
        if not isinstance(inputs["switch"], bool):
            raise UntoldError(COMPUTED)
        link = link_of(inputs.get("on_true" if inputs["switch"] else "on_false"))
        return self._conditioning(link, side) if link else []

    def _side_of_output(self, name: str, slot: int, side: bool) -> bool:
        """Which side an output gives; ``side`` is the one that it is taken for.

        Of a class that is not known: packs put the positive output first, which is believed only if both outputs
        are connected, each to an input of its own side.
        """
        known = OUTPUTS_OF_SIDES.get(self._kind(name))
        if known is not None:
            if slot not in known:
                raise UntoldError(WHICH_SIDE)
            return slot == known[0]
        used = self._used.get(name, set())
        positive, negative = ({at for at, is_positive in used if is_positive == wanted} for wanted in (True, False))
        if len(positive) == len(negative) == 1 and max(positive) < min(negative):
            return side
        raise UntoldError(WHICH_SIDE)

    def _side(self, inputs: Mapping[str, Any], side: bool) -> list[str]:
        """What a node got for one of its sides: a conditioning, or a text that it encodes itself."""
        value = next((inputs[key] for key in (POSITIVES if side else NEGATIVES) if key in inputs), None)
        link = link_of(value)
        if link and self._is_encoder(link[0]):
            return self._conditioning(link, side)
        return [self._value(value)] if value is not None else []

    def _is_encoder(self, name: str) -> bool:
        """Whether a node gives a conditioning, as far as its inputs and its name tell, and not a text."""
        inputs = self._inputs(name)
        of_conditionings = _has_sides(inputs) or _conditionings(inputs) or links_of(inputs, (*PIPES, "clip", "model"))
        return bool(of_conditionings) or any(word in self._kind(name) for word in ("Encode", "Conditioning", "ZeroOut"))

    def _pipe(self, link: Link, side: bool) -> list[str]:
        """One side of what a pipe carries: of the node's own inputs, or of the pipe that it was given."""
        name = link[0]
        if name not in self._nodes:
            raise UntoldError(COMPUTED)
        if self._is_visited((name, -1), side):
            return []
        inputs = self._inputs(name)
        own = self._side(inputs, side)
        upstream = links_of(inputs, PIPES) + links_of(inputs, (key for key in inputs if re.fullmatch(r"ctx_\d+", key)))
        if not upstream or (own and self._kind(name) in OWN_SIDE_REPLACES):
            if not own and not _has_sides(inputs):
                return self._own_texts(inputs, required=True)
            return own
        return own + [text for each in upstream for text in self._pipe(each, side)]

    # --- texts

    def _own_texts(self, inputs: Mapping[str, Any], *, required: bool) -> list[str]:
        """What an encoder encodes. Where it is ``required``, a node without any text is one that is not understood."""
        several = [self._value(inputs[key]) for key in TEXTS_OF_MODELS if key in inputs]
        if several:
            distinct = {text.strip(): text for text in reversed(several) if text.strip()}
            return ["\n".join(reversed(distinct.values()))]
        name = next((key for key in TEXTS if isinstance(inputs.get(key), str) or link_of(inputs.get(key))), None)
        if name is not None:
            if name != "populated_text" and any("seed" in key or "translat" in key for key in inputs):
                raise ComputedTextError  # the encoder changes its text first
            return [held_text(name, self._value(inputs[name]), inputs)]
        if required:
            raise UntoldError(COMPUTED)
        return []

    def _value(self, value: Any, depth: int = 0) -> str:
        if isinstance(value, str):
            return value
        link = link_of(value)
        if link is None:
            raise ComputedTextError
        return self._text(link, depth + 1)

    def _text(self, link: Link, depth: int) -> str:
        """The text that an output gives. Raises ``ComputedTextError`` if the graph does not hold it."""
        if depth > MAX_DEPTH or link[0] not in self._nodes:
            raise ComputedTextError
        inputs, kind = self._inputs(link[0]), self._kind(link[0])
        if kind in JOINERS:
            return join(
                kind, {key: self._value(value, depth) if link_of(value) else value for key, value in inputs.items()}
            )
        if kind in PASSED_ON:
            return self._value(inputs.get(PASSED_ON[kind]), depth)
        if "switch" in inputs and isinstance(inputs["switch"], bool):
            return self._value(inputs.get("on_true" if inputs["switch"] else "on_false"), depth)
        if self._is_running and (kind, link[1]) in HOLDERS_OF_AN_ATTEMPT:
            return self._value(inputs.get(HOLDERS_OF_AN_ATTEMPT[kind, link[1]]), depth)
        if kind in HOLDERS:
            name, slot = HOLDERS[kind]
            if link[1] != slot:
                raise ComputedTextError
            return held_text(name, self._value(inputs.get(name), depth), inputs)
        if len(inputs) == 1 and gives_on(kind, *inputs.items()):
            return self._value(next(iter(inputs.values())), depth)
        raise ComputedTextError


def link_of(value: Any) -> Link | None:
    if (
        isinstance(value, list | tuple)
        and len(value) == 2
        and isinstance(value[0], str | int)
        and type(value[1]) is int
    ):
        return str(value[0]), value[1]
    return None


def links_of(inputs: Mapping[str, Any], names: Iterable[str]) -> list[Link]:
    return [link for name in names if (link := link_of(inputs.get(name)))]


def _has_sides(inputs: Mapping[str, Any]) -> bool:
    return any(name in inputs for name in POSITIVES) and any(name in inputs for name in NEGATIVES)


def _conditionings(inputs: Mapping[str, Any]) -> list[Link]:
    return links_of(inputs, (name for name in inputs if name.startswith(("conditioning", "cond", "positive"))))
