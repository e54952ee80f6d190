"""What is known of a class of nodes before it runs: by whoever has the classes, otherwise from this list."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .sockets import KNOWN

EVALUATE, OPTIONS, REFERENCE = "RunflowEvaluateImage", "RunflowEvaluationOptions", "RunflowReferenceImage"
END, SWITCH, REPAIR_SWITCH = "RunflowRegenerateEnd", "RunflowVerdictSwitch", "RunflowRepairSwitch"

KEEPS_COUNT = {
    "VAEDecode": "samples", "VAEDecodeTiled": "samples", "KSampler": "latent_image", "KSamplerAdvanced": "latent_image",
    "SamplerCustom": "latent_image", "SamplerCustomAdvanced": "latent_image", "ImageScale": "image",
    "ImageScaleBy": "image", "ImageScaleToTotalPixels": "image", "ImageUpscaleWithModel": "image",
    "ImageInvert": "image", "ImageSharpen": "image", "ImageBlur": "image", "LatentUpscale": "samples",
    "LatentUpscaleBy": "samples", REPAIR_SWITCH: "generate",
}  # fmt: skip
"""Nodes that hand on as many images as this input has, as the page knows them too (``plan.mjs``)."""
MAKES_COUNT = re.compile(r"Empty(Image|Latent\w*|\w*LatentImage)")
"""Nodes of ComfyUI that make as many as their ``batch_size`` says."""
LOOPS = re.compile(r"loop|for.?each|while|repeat|iterat", re.IGNORECASE)

LOADS_ONE = "LoadImage"
GIVES_ONE = {"RunflowExamplePhoto"}
HOLDS_VALUE = {
    "PrimitiveString", "PrimitiveStringMultiline", "PrimitiveInt", "PrimitiveFloat", "PrimitiveBoolean",
}  # fmt: skip
"""Nodes of ComfyUI whose only output is their ``value``."""


@dataclass(frozen=True)
class NodeClass:
    """``None`` is not known. ``is_foreign``: neither ComfyUI's own nor this pack's, or an end of ComfyUI's own loops.

    ``repeats``: whether it may be the end of a loop: it sees the graph, and not only what comes over its links.
    ``lazy`` are the inputs that it may leave unread: then what hangs on them does not run. ``None``: any of them.
    """

    is_output: bool | None = False
    gives_list: bool | None = False
    is_foreign: bool = False
    repeats: bool | None = False
    lazy: frozenset[str] | None = frozenset()
    required: frozenset[str] = frozenset()


Classes = Callable[[str], NodeClass]

UNKNOWN_CLASS = NodeClass(is_output=None, gives_list=None, is_foreign=True, repeats=None, lazy=None)

_OURS = {
    EVALUATE: NodeClass(required=frozenset({"image"})),
    "RunflowShowVerdict": NodeClass(is_output=True, required=frozenset({"evaluation"})),
    "RunflowSendFeedback": NodeClass(is_output=True, required=frozenset({"evaluation"})),
    "RunflowVerdictCard": NodeClass(is_output=True, required=frozenset({"image", "evaluation"})),
    "RunflowSaveJudged": NodeClass(is_output=True, required=frozenset({"image", "evaluation"})),
    "RunflowEvaluationDetails": NodeClass(required=frozenset({"evaluation"})),
    "RunflowSplitByVerdict": NodeClass(required=frozenset({"image", "evaluation"})),
    "RunflowPickBest": NodeClass(required=frozenset({"image", "evaluation"})),
    END: NodeClass(required=frozenset({"loop", "image"})),
    SWITCH: NodeClass(lazy=frozenset({"on_pass", "on_fail"}), required=frozenset({"passed"})),
    REPAIR_SWITCH: NodeClass(lazy=frozenset({"generate", "repair"}), required=frozenset({"attempt"})),
}
_OUTPUTS = """
    SaveImage PreviewImage SaveImageWebsocket SaveAnimatedWEBP SaveAnimatedPNG PreviewAny SaveWEBM SaveVideo SaveLatent
    MaskPreview
""".split()
_PLAIN = """
    LoadImage LoadImageMask LoadImageOutput EmptyImage EmptyLatentImage EmptySD3LatentImage EmptyHunyuanLatentVideo
    EmptyFlux2LatentImage CheckpointLoaderSimple CheckpointLoader UNETLoader UnetLoaderGGUF CLIPLoader DualCLIPLoader
    TripleCLIPLoader QuadrupleCLIPLoader VAELoader LoraLoader LoraLoaderModelOnly ControlNetLoader StyleModelLoader
    CLIPVisionLoader UpscaleModelLoader CLIPTextEncode CLIPTextEncodeFlux CLIPTextEncodeSDXL CLIPTextEncodeSD3
    CLIPVisionEncode CLIPSetLastLayer ConditioningCombine ConditioningConcat ConditioningZeroOut ConditioningSetArea
    ConditioningSetTimestepRange FluxGuidance ControlNetApply ControlNetApplyAdvanced KSampler KSamplerAdvanced
    KSamplerSelect SamplerCustom SamplerCustomAdvanced BasicScheduler BasicGuider CFGGuider RandomNoise DisableNoise
    ModelSamplingSD3 ModelSamplingFlux ModelSamplingAuraFlow VAEDecode VAEDecodeTiled VAEEncode VAEEncodeTiled
    VAEEncodeForInpaint InpaintModelConditioning SetLatentNoiseMask LatentUpscale LatentUpscaleBy RepeatLatentBatch
    LatentBatch LatentFromBatch LatentComposite ImageScale ImageScaleBy ImageScaleToTotalPixels ImageUpscaleWithModel
    ImageInvert ImageBatch ImageFromBatch RepeatImageBatch ImagePadForOutpaint ImageCrop ImageSharpen ImageBlur
    ImageBlend ImageCompositeMasked ImageStitch GetImageSize MaskToImage ImageToMask SolidMask InvertMask GrowMask
    StringConcatenate StringTrim StringReplace StringSubstring StringLength CaseConverter
    TextEncodeQwenImageEdit TextEncodeQwenImageEditPlus ReferenceLatent
""".split()


def listed(name: str) -> NodeClass:
    """What is known of a class where ComfyUI is not there to be asked."""
    if name in _OURS:
        return _OURS[name]
    if name in _OUTPUTS:
        return NodeClass(is_output=True)
    if name in KNOWN or name in HOLDS_VALUE or name in _PLAIN:
        return NodeClass()
    return UNKNOWN_CLASS
