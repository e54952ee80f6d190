"""What is known of single nodes: what a slot gives, which node names a sampler, which one puts LoRAs on a model.

From ComfyUI's own ``nodes.py`` and ``comfy_extras``, and from Efficiency, Impact, rgthree, Easy-Use, Comfyroll, KJNodes
and GGUF. What is not listed is followed only where its inputs leave no doubt, and is unknown otherwise.
"""

from __future__ import annotations

import re

# --- images and latents -----------------------------------------------------------------------------------

IMAGES = (
    "input_image", "image", "images", "IMAGE", "img", "pixels", "samples", "latent", "latent_image", "latents",
    "LATENT", "latent_samples", "samples_to", "samples_from", "samples1", "samples2", "image1", "image2", "image_1",
    "image_2", "images_1", "images_2", "destination", "source", "optional_latent", "opt_image", "x0_output",
    "upscaled_image", "image_pass", "inpainted_image", "image_target",
)  # fmt: skip
"""Inputs through which an image, or the latent that it was decoded from, comes."""
OTHER_IMAGES = re.compile(r"(?:back|fore)ground|overlay|layer|second|other|style|reference|(?:^|_)ref(?:_|$)|blend")
"""Inputs through which another image may come into one."""
KEEPS_SIZE = {
    "VAEDecode", "VAEDecodeTiled", "SaveImage", "PreviewImage", "LatentFromBatch", "RepeatLatentBatch", "Reroute",
    "RunflowEvaluateImage", "RunflowSplitByVerdict", "RunflowPickBest", "ImageBatch", "LatentBatch",
    "RebatchImages", "RebatchLatents", "ImageFromBatch", "Image Save", "VAEDecodeAudio", "Save Image (Image Saver)",
}  # fmt: skip
"""Nodes between a sampler and the image that change nothing about its size."""
IMAGE_CHANGERS = {
    "ImageAddNoise", "TextOverlay", "FluxKontextImageScale", "ImageStitch", "GLSLShader", "InpaintStitch",
    "InpaintStitchImproved", "ShuffleImageTextDataset",
}  # fmt: skip
"""Nodes that only change or arrange what they are given, though a seed, a text or their names may look otherwise."""
WRITES_OR_SHOWS = re.compile(r"save|preview|show|display|compar|^RunflowEvaluate|^RunflowLocal", re.IGNORECASE)
"""Nodes that give an image on as it is, and take prompts and seeds to write them beside it."""
MAKES_IMAGES = re.compile(
    r"generat|(?:text|image|img|txt)_?(?:to|2)_?(?:image|img)|inpaint|outpaint|restyl|style_?transfer|remix|relight"
    r"|image_?edit|creative|reimagin|Kling|Gemini|Imagen|NanoBanana|Nano ?Banana|Grok|Topaz|Ideogram|FluxPro|FluxErase"
    r"|FluxVTO|FluxKontext|Recraft|Luma(?!2)|HitPaw|Runway|ByteDance|Seedream|^Reve|OpenAI|Dall|GPT|Stability|Magnific"
    r"|Bria|Beeble|HeyGen|Wavespeed|Tencent|Pixverse|Vidu|MiniMax|Hailuo|Moonvalley|Freepik|Krea(?!k)|Leonardo"
    r"|Midjourney|Replicate|(?-i:Api\b|API|\bFal(?:[A-Z_]|\b))",
    re.IGNORECASE,
)
"""Names of nodes that make a new image from what they are given, most of them at a service."""
OF_A_MAKER = (
    "prompt", "instruction", "caption", "description", "seed", "denoise", "creativity", "guidance", "api_key", "apikey",
    "sampler", "scheduler", "num_images", "positive", "negative", "conditioning",
)  # fmt: skip
OF_A_MAKER_WHOLE = (
    "text", "query", "request", "steps", "cfg", "guider", "model", "unet", "pipe", "upscaler", "noise", "sigmas",
    "clip",
)  # fmt: skip
"""Inputs, by a part or the whole of their names, of nodes that make a new image and do not merely change one."""
REPAIRS = ("Detailer", "FaceRestore", "ReActor", "reactor", "FaceSwap")
"""Nodes with these in their names sample or paint parts of an image anew: what made it is behind them."""
CORE_SAMPLERS = {"KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced"}
"""Samplers whose latent has the size of the one that they were given."""
SHOWS_ITSELF = ("image_output", "preview_method", "preview_image")
"""Samplers with one of these inputs decode and show their image, as Efficiency's, tinyterra's and Easy-Use's do."""
LATENT_SIZES = (("width", "height"), ("empty_latent_width", "empty_latent_height"))

# --- values -------------------------------------------------------------------------------------------------

VALUE_NODES: dict[str, dict[int, str]] = {
    "PrimitiveInt": {0: "value"}, "PrimitiveFloat": {0: "value"}, "PrimitiveString": {0: "value"},
    "PrimitiveStringMultiline": {0: "value"}, "PrimitiveBoolean": {0: "value"}, "StringConstantMultiline": {},
    "BOOLConstant": {0: "value"}, "easy boolean": {0: "value"}, "easy string": {0: "value"}, "Float": {0: "Number"},
    "Primitive integer [Crystools]": {0: "int"}, "Primitive float [Crystools]": {0: "float"},
    "Primitive string [Crystools]": {0: "string"}, "ttN int": {0: "int"}, "ttN float": {0: "float"},
    "String Literal": {0: "string"}, "SimpleMathInt+": {0: "value"}, "SimpleMathFloat+": {0: "value"},
    "INTConstant": {0: "value"}, "FloatConstant": {0: "value"}, "StringConstant": {0: "string"},
    "Seed (rgthree)": {0: "seed"}, "easy seed": {0: "seed"}, "easy globalSeed": {0: "value"}, "CR Seed": {0: "seed"},
    "ttN seed": {0: "seed"}, "easy int": {0: "value"}, "easy float": {0: "value"}, "Int": {0: "Number"},
    "Int Literal": {0: "int"}, "Float Literal": {0: "float"}, "CR Integer Multiple": {}, "Width/Height Literal": {},
    "JWInteger": {0: "value"}, "JWFloat": {0: "value"}, "ImpactInt": {0: "value"}, "ImpactFloat": {0: "value"},
    "SeedGenerator": {}, "Seed Generator": {}, "PixelwiseFloat": {}, "Seed": {0: "seed", 1: "seed", 3: "seed"},
    "SeedNode": {0: "seed"},
    "easy ckptNames": {0: "ckpt_name"}, "Sampler Selector": {0: "sampler_name"},
    "Scheduler Selector": {0: "scheduler"}, "CR LoRA Name": {}, "ImpactSwitch": {},
    "KSampler Config (rgthree)": {0: "steps_total", 2: "cfg", 3: "sampler_name", 4: "scheduler"},
    "Checkpoint Selector": {0: "ckpt_name"}, "Checkpoint Name Selector": {0: "ckpt_name"},
    "RandomNoise": {0: "noise_seed"}, "RunflowRegenerateStart": {}, "RunflowRegenerateAttempt": {},
}  # fmt: skip
"""Nodes that hold a value, and the input that each of their outputs gives on."""
REROUTES = re.compile(r"reroute|any switch \(rgthree\)", re.IGNORECASE)
"""Nodes that give the only thing that they are given on, whatever it is."""

# --- pipes --------------------------------------------------------------------------------------------------

_BASIC = ("model", "clip", "vae", "positive", "negative")
_CONTEXT = ("", "model", "clip", "vae", "positive", "negative", "latent", "images", "seed")
_BIG = (*_CONTEXT, "steps", "step_refiner", "cfg", "ckpt_name", "sampler", "scheduler", "clip_width", "clip_height")
_EASY = ("", "model", "positive", "negative", "latent", "vae", "clip", "images", "seed")
PIPE_OUTPUTS: dict[str, tuple[str, ...]] = {
    "FromBasicPipe": _BASIC, "FromBasicPipe_v2": ("", *_BASIC), "EditBasicPipe": (),
    "FromDetailerPipe": _BASIC, "FromDetailerPipe_v2": ("", *_BASIC),
    "Context (rgthree)": _CONTEXT, "Context Switch (rgthree)": _CONTEXT, "Context Merge (rgthree)": _CONTEXT,
    "Context Big (rgthree)": _BIG, "Context Switch Big (rgthree)": _BIG, "Context Merge Big (rgthree)": _BIG,
    "easy pipeOut": _EASY,
}  # fmt: skip
"""Which field of a pipe each output of these gives; "" is the pipe itself."""
PIPES = ("pipe", "basic_pipe", "detailer_pipe", "base_ctx", "context", "sdxl_tuple", "sdxl_pipe")

FIELDS: dict[str, tuple[str, ...]] = {
    "model": ("model", "model_opt", "optional_model", "model_override", "base_model"),
    "latent": ("latent_image", "latent", "samples", "optional_latent"),
    "sampler": ("sampler_name", "sampler"),
    "scheduler": ("scheduler",),
    "steps": ("steps", "steps_total"),
    "cfg": ("cfg",),
    "seed": ("seed", "noise_seed"),
    "images": ("images", "image", "upscaled_image"),
    "ckpt_name": ("ckpt_name", "base_ckpt_name"),
}
"""The inputs that may hold each field of a sampler or pipe, the first one that is there."""

# --- samplers and schedules ---------------------------------------------------------------------------------

SAMPLER_NODES = {
    "SamplerDPMPP_3M_SDE": "dpmpp_3m_sde", "SamplerDPMPP_2M_SDE": "dpmpp_2m_sde", "SamplerDPMPP_SDE": "dpmpp_sde",
    "SamplerDPMPP_2S_Ancestral": "dpmpp_2s_ancestral", "SamplerEulerAncestral": "euler_ancestral",
    "SamplerEulerAncestralCFGPP": "euler_ancestral_cfg_pp", "SamplerLMS": "lms", "SamplerER_SDE": "er_sde",
    "SamplerSASolver": "sa_solver", "SamplerDPMAdaptative": "dpm_adaptive",
}  # fmt: skip
"""ComfyUI's nodes for one sampler with its own options."""
SCHEDULE_NODES = {
    "KarrasScheduler": "karras", "ExponentialScheduler": "exponential", "PolyexponentialScheduler": "polyexponential",
    "LaplaceScheduler": "laplace", "BetaSamplingScheduler": "beta", "VPScheduler": "vp",
    "SDTurboScheduler": "sd_turbo", "AlignYourStepsScheduler": "align_your_steps", "GITSScheduler": "gits",
    "LTXVScheduler": "ltxv", "Flux2Scheduler": "flux2", "OptimalStepsScheduler": "optimal_steps",
}  # fmt: skip
SCHEDULE_CHANGERS = {"SplitSigmas", "SplitSigmasDenoise", "FlipSigmas", "SetFirstSigma", "ExtendIntermediateSigmas"}

# --- models -------------------------------------------------------------------------------------------------

CHECKPOINTS = ("ckpt_name", "unet_name", "base_ckpt_name", "diffusion_model_name")
"""Inputs that name the model, whatever the loader."""
MODEL_PATCHES = {
    # nodes.py and comfy_extras: how a model samples, attends or is guided, and not which one it is
    "ModelSamplingDiscrete", "ModelSamplingStableCascade", "ModelSamplingSD3", "ModelSamplingAuraFlow",
    "ModelSamplingFlux", "ModelSamplingContinuousEDM", "ModelSamplingContinuousV", "ModelSamplingLTXV",
    "MiniMaxH3SigmaShift", "RescaleCFG", "ModelNoiseScale", "ModelComputeDtype", "ModelAttentionBackend", "FreeU",
    "FreeU_V2", "FreSca", "HyperTile", "TomePatchModel", "PatchModelAddDownscale", "PerturbedAttentionGuidance",
    "SelfAttentionGuidance", "SkipLayerGuidanceSD3", "SkipLayerGuidanceDiT", "SkipLayerGuidanceDiTSimple", "TCFG",
    "CFGZeroStar", "CFGNorm", "CFGOverride", "APG", "Mahiro", "NAGuidance", "PerpNeg", "RenormCFG", "Epsilon Scaling",
    "TemporalScoreRescaling", "VideoLinearCFGGuidance", "VideoTriangleCFGGuidance", "LatentApplyOperationCFG",
    "DifferentialDiffusion", "ContextWindowsManual", "WanContextWindowsManual", "wanBlockSwap", "FluxKVCache",
    "EasyCache", "LazyCache", "WanAnimate2Cache", "TorchCompileModel", "MultiGPU_WorkUnits", "SelectModelDevice",
    "ScaleROPE", "UNetSelfAttentionMultiply", "UNetCrossAttentionMultiply", "UNetTemporalAttentionMultiply",
    "AnimaLLLiteApply", "QwenImageDiffsynthControlnet", "WanUni3CControlnetApply", "USOStyleReference", "SUPIRApply",
    "ZImageFunControlnet", "LTXVSpatioTemporalGuidance", "LTXVModalityGuidance", "LTXVReferenceAudio", "ARVideoI2V",
    "WanInfiniteTalkToVideo", "HypernetworkLoader", "TripoSplatSamplingPreview",
    # IPAdapter, InstantID, PuLID, ControlNet and inpainting that work on a model
    "IPAdapter", "IPAdapterAdvanced", "IPAdapterTiled", "IPAdapterBatch", "IPAdapterFaceID", "IPAdapterApply",
    "IPAdapterStyleComposition", "IPAdapterPreciseStyleTransfer", "IPAdapterFromParams",
    "IPAdapterUnifiedLoader", "IPAdapterUnifiedLoaderCommunity", "IPAdapterMS", "IPAdapterRegionalConditioning",
    "ApplyInstantID", "ApplyInstantIDAdvanced", "InstantIDAttentionPatch", "ApplyPulid",
    "ApplyPulidAdvanced", "ApplyPulidFlux", "BrushNet", "PowerPaint", "RAUNet", "INPAINT_ApplyFooocusInpaint",
    "LLLiteLoader", "ApplyFluxIPAdapter", "ApplyFluxControlNet", "easy ipadapterApply", "easy ipadapterApplyADV",
    # KJNodes and packs that make models faster or guide them
    "PathchSageAttentionKJ", "PatchSageAttentionKJ", "ModelPatchTorchSettings", "TorchCompileModelFluxAdvanced",
    "TorchCompileModelFluxAdvancedV2", "TorchCompileModelWanVideo", "TorchCompileModelWanVideoV2",
    "TorchCompileModelQwenImage", "TorchCompileModelAdvanced", "PatchModelPatcherOrder",
    "DifferentialDiffusionAdvanced", "ModelPassThrough", "SkipLayerGuidanceWanVideo", "CFGZeroStarAndInit",
    "WanVideoNAG", "WanVideoTeaCacheKJ", "TeaCache", "ApplyTeaCachePatch", "FluxForwardOverrider", "Attention couple",
    "LayeredDiffusionApply", "ApplyFBCacheOnModel", "Automatic CFG", "DynamicThresholdingSimple",
    "DynamicThresholdingFull", "SEGAttention", "PerturbedAttention",
    # samplers that give their model on
    "KSampler (Efficient)", "KSampler Adv. (Efficient)",
}  # fmt: skip
"""Nodes that take a model and give it on: with the same checkpoint and the same LoRAs."""
LORA_NODES = ("Power Lora Loader (rgthree)", "CR Apply LoRA Stack", "Apply LoRA Stack", "easy loraStackApply")
"""Nodes that put exactly those LoRAs on a model that their inputs name, though they may name none."""
PLAIN_GUIDERS = {"BasicGuider", "CFGGuider", "DualCFGGuider", "PerpNegGuider", "LTXVDualCFGGuider"}
LOADERS_BY_OTHER_NAMES = {
    "DiffusersLoader": "model_path", "NunchakuFluxDiTLoader": "model_path", "NunchakuQwenImageDiTLoader": "model_name",
    "WanVideoModelLoader": "model", "HyVideoModelLoader": "model", "LoadDiffusionModel": "model_name",
    "DiffusionModelLoaderKJ": "model_name", "MultiGPUUnetLoader": "unet_name",
}  # fmt: skip
TAGS = {"LoraTagLoader": "text", "ImpactWildcardEncode": "populated_text"}
"""Nodes that put the LoRAs of a text's ``<lora:name:weight>`` on a model."""
NO_LORA = ("None", "none", "", "NONE")
MERGES = re.compile(
    r"merg|blend|mix|combin|interpol|average|fuse|(?<!dif)fusion|subtract|difference|swap", re.IGNORECASE
)
"""A model that was put together from several has no one checkpoint."""
WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".sft")
