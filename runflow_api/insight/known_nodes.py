"""What is known of single nodes: which output is the positive side, which nodes hold or put together a text.

From ComfyUI's own ``nodes.py`` and ``comfy_extras`` (0.3.75 and 0.33), and from widely used packs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


class ComputedTextError(Exception):
    """The text came into being while the workflow ran: the graph does not hold it."""


_FIRST_TWO = (
    "BerniniConditioning", "ConditioningStableAudio", "ControlNetApplyAdvanced", "ControlNetApplySD3",
    "ControlNetInpaintingAliMamaApply", "Hunyuan3Dv2Conditioning", "Hunyuan3Dv2ConditioningMultiView",
    "HunyuanRefinerLatent", "HunyuanVideo15ImageToVideo", "HunyuanVideo15SuperResolution",
    "InpaintModelConditioning", "InstructPixToPixConditioning", "Kandinsky5ImageToVideo", "LTXVAddGuide",
    "LTXVConditioning", "LTXVCropGuides", "LTXVImgToVideo", "PairConditioningCombine",
    "PairConditioningSetDefaultAndCombine", "PairConditioningSetProperties",
    "PairConditioningSetPropertiesAndCombine", "Pixal3DConditioning", "SD_4XUpscale_Conditioning",
    "SV3D_Conditioning", "SVD_img2vid_Conditioning", "StableZero123_Conditioning",
    "StableZero123_Conditioning_Batched", "TextEncodeBooguEdit", "TextEncodeMageFlowEdit", "Trellis2Conditioning",
    "Trellis2ShapeStage", "Trellis2TextureStage", "Trellis2UpsampleStage", "VOIDInpaintConditioning",
    "Wan22FunControlToVideo", "WanAnimate2ToVideo", "WanAnimateToVideo", "WanCameraImageToVideo", "WanDancerVideo",
    "WanFirstLastFrameToVideo", "WanFunControlToVideo", "WanFunInpaintToVideo", "WanHuMoImageToVideo",
    "WanImageToVideo", "WanMoveTrackToVideo", "WanPhantomSubjectToVideo", "WanSCAILToVideo", "WanSoundImageToVideo",
    "WanSoundImageToVideoExtend", "WanTrackToVideo", "WanVaceToVideo",
    # Advanced-ControlNet, Comfyroll, InstantID, Inpaint Nodes
    "ACN_AdvancedControlNetApply", "ACN_AdvancedControlNetApply_v2", "CR Apply Multi-ControlNet",
    "ApplyInstantIDControlNet", "INPAINT_VAEEncodeInpaintConditioning",
)  # fmt: skip
_AFTER_MODEL = (
    "LTXVReferenceAudio", "WanInfiniteTalkToVideo",
    # BrushNet, Efficiency Nodes, InstantID, layerdiffuse
    "BrushNet", "PowerPaint", "Efficient Loader", "KSampler (Efficient)", "KSampler Adv. (Efficient)", "ApplyInstantID",
    "ApplyInstantIDAdvanced", "LayeredDiffusionCondApply", "LayeredDiffusionDiffApply",
    "LayeredDiffusionCondJointApply",
)  # fmt: skip
_AFTER_PIPE_AND_MODEL = (
    # tinyterraNodes, Easy-Use, Comfyroll
    "ttN pipeLoader", "ttN pipeLoader_v2", "ttN pipeLoaderSDXL_v2", "ttN pipeKSampler", "ttN pipeKSampler_v2",
    "ttN pipeOUT", "ttN pipeEDIT", "easy pipeOut", "CR Module Input",
)  # fmt: skip
_AFTER_THREE = ("FromBasicPipe", "FromDetailerPipe", "easy fullkSampler")  # Impact, Easy-Use
_AFTER_FOUR = (
    # Impact, Easy-Use, rgthree
    "FromBasicPipe_v2", "FromDetailerPipe_v2", "FromDetailerPipe_SDXL", "easy fullLoader", "Context (rgthree)",
    "Context Big (rgthree)", "Context Switch (rgthree)", "Context Switch Big (rgthree)", "Context Merge (rgthree)",
    "Context Merge Big (rgthree)",
)  # fmt: skip
OUTPUTS_OF_SIDES: dict[str, tuple[int, int]] = {
    name: (first, first + 1)
    for first, names in enumerate((_FIRST_TWO, _AFTER_MODEL, _AFTER_PIPE_AND_MODEL, _AFTER_THREE, _AFTER_FOUR))
    for name in names
}
"""Of nodes with a positive and a negative conditioning: the index of the output that gives each."""
OWN_SIDE_REPLACES = {
    "Context (rgthree)", "Context Big (rgthree)", "EditBasicPipe", "EditDetailerPipe", "easy pipeIn", "ttN pipeEDIT",
}  # fmt: skip
"""Nodes that take a pipe and a conditioning: the conditioning takes the place of the pipe's."""

# --- texts ---

HOLDERS: dict[str, tuple[str, int]] = {
    "PrimitiveString": ("value", 0), "PrimitiveStringMultiline": ("value", 0), "easy string": ("value", 0),
    "StringConstant": ("string", 0), "StringConstantMultiline": ("string", 0), "String Literal": ("string", 0),
    "Text Multiline": ("text", 0), "Text Multiline (Code Compatible)": ("text", 0), "CR Text": ("text", 0),
    "CR Prompt Text": ("prompt", 0), "easy positive": ("positive", 0), "easy prompt": ("prompt", 0),
    "easy wildcards": ("populated_text", 1), "ImpactWildcardProcessor": ("populated_text", 0),
    "ttN text": ("text", 0), "TextInput_": ("text", 0), "Simple String": ("string", 0),
    "DF_Text_Box": ("Text", 0), "Text Prompt (JPS)": ("text", 0), "RunflowRegenerateStart": ("prompt", 5),
}  # fmt: skip
"""The input that holds the text, and the output that gives it."""
HOLDERS_OF_AN_ATTEMPT = {
    ("RunflowRegenerateStart", 1): "prompt", ("RunflowRegenerateStart", 2): "seed",
    ("RunflowRegenerateAttempt", 1): "prompt", ("RunflowRegenerateAttempt", 2): "seed",
    ("RunflowRegenerateAttempt", 5): "original",
}  # fmt: skip
"""What a loop's nodes give while it runs: in a saved graph nothing tells which attempt was saved."""
PASSED_ON = {
    "ShowText|pysssss": "text", "easy showAnything": "anything", "Display Any (rgthree)": "source",
    "PreviewAny": "source",
}  # fmt: skip
"""Nodes that show a text and give it on unchanged: the input that they show."""
_GIVES_LINKS_ON = re.compile(r"reroute|show|display|preview|\bany\b", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PACK = re.compile(r"\([^)]*\)$|\[[^\]]*\]$|\|\w+$|^(?:CR|DF|JPS|WAS|easy|ttN)\b")
"""The pack that a node's name ends or begins with."""
_OF_A_HOLDER = {
    "primitive", "constant", "literal", "multi", "line", "multiline", "text", "string", "prompt", "box", "input",
    "node", "widget", "simple", "plain", "positive", "negative", "my", "field", "area", "value",
}  # fmt: skip
"""Words of which the name of a node is made that holds a text: any other may say what it does to it."""
JOINERS = {
    "StringConcatenate", "StringTrim", "StringReplace", "StringSubstring", "CaseConverter", "JoinStrings",
    "JoinStringMulti", "CR Text Concatenate", "easy promptConcat", "Text Concatenate",
}  # fmt: skip


def gives_on(kind: str, single: tuple[str, Any]) -> bool:
    """Whether a node that is not known, with a single input, gives that on unchanged, as far as its name tells.

    One that reads a file, describes a picture or asks a model has one input too, and gives another text.
    """
    name, value = single
    if not isinstance(value, str):
        return bool(_GIVES_LINKS_ON.search(kind))
    is_text = name.lower() in ("text", "string", "value", "prompt")
    return is_text and all(word.lower() in _OF_A_HOLDER for word in _WORDS.findall(_PACK.sub("", kind)))


def held_text(name: str, text: str, inputs: Mapping[str, Any]) -> str:
    """The text of input ``name`` as the node gives it; ``ComputedTextError`` if the node changes or makes it."""
    if "\n" in text and inputs.get("strip_newlines") is True:
        raise ComputedTextError
    template = inputs.get("wildcard_text") or inputs.get("text")
    if name == "populated_text" and not text.strip() and template:
        raise ComputedTextError  # the wildcards were not filled in before the graph was saved
    return text


def join(kind: str, inputs: Mapping[str, Any]) -> str:
    """What a node of ``JOINERS`` makes of its inputs, whose links are replaced by their texts."""
    if kind == "StringConcatenate":
        return _given(inputs, "delimiter", "").join((_given(inputs, "string_a"), _given(inputs, "string_b")))
    if kind == "JoinStrings":
        return _given(inputs, "delimiter", " ").join((_given(inputs, "string1"), _given(inputs, "string2")))
    if kind == "CR Text Concatenate":
        return _given(inputs, "text1", "") + _given(inputs, "separator", "") + _given(inputs, "text2", "")
    if kind == "easy promptConcat":
        return _given(inputs, "prompt1", "") + _given(inputs, "separator", "") + _given(inputs, "prompt2", "")
    if kind == "JoinStringMulti":
        return _join_numbered(inputs)
    if kind == "Text Concatenate":
        return _join_named(inputs)
    return _changed(kind, inputs)


def _given(inputs: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = inputs.get(name, default)
    if not isinstance(value, str):
        raise ComputedTextError
    return value


def _join_numbered(inputs: Mapping[str, Any]) -> str:
    """KJNodes: string_1 to string_n; as a list it is several prompts."""
    count = inputs.get("inputcount")
    if type(count) is not int or not 1 <= count <= 1_000 or inputs.get("return_list"):
        raise ComputedTextError
    parts = [_given(inputs, f"string_{n}") for n in range(1, count + 1) if f"string_{n}" in inputs]
    return _given(inputs, "delimiter", " ").join(parts)


def _join_named(inputs: Mapping[str, Any]) -> str:
    """WAS Node Suite: text_a to text_d, in order; what is empty is left out."""
    delimiter = _given(inputs, "delimiter", ", ")
    parts = [_given(inputs, name) for name in sorted(inputs) if name.startswith("text_")]
    if inputs.get("clean_whitespace") in ("true", True):
        parts = [part.strip() for part in parts]
    return ("\n" if delimiter == "\\n" else delimiter).join(part for part in parts if part)


def _changed(kind: str, inputs: Mapping[str, Any]) -> str:
    """ComfyUI's own nodes that change one text."""
    text, mode = _given(inputs, "string"), inputs.get("mode")
    if kind == "StringReplace":
        return text.replace(_given(inputs, "find"), _given(inputs, "replace"))
    if kind == "StringSubstring" and type(inputs.get("start")) is type(inputs.get("end")) is int:
        return text[inputs["start"] : inputs["end"]]
    by_mode = {
        "Both": text.strip(), "Left": text.lstrip(), "Right": text.rstrip(),
        "UPPERCASE": text.upper(), "lowercase": text.lower(), "Capitalize": text.capitalize(),
        "Title Case": text.title(),
    }  # fmt: skip
    if isinstance(mode, str) and mode in by_mode:
        return by_mode[mode]
    raise ComputedTextError
