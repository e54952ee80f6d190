"""Judge with a model that ComfyUI has loaded: text encoders that see and write, through the ordinary CLIP socket."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import inspect
import json
import re
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import comfy.model_management
import numpy as np
import torch
from comfy_api.latest import io

from ..runflow_api.background import NativeCalls
from ..runflow_api.errors import Cancelled, ConfigurationError, NotJudgedError, RunflowError
from ..runflow_api.images import PixelImage
from ..runflow_api.model_judge.answers import CutOff
from ._schema import JudgeModelType, schema

LOOK_S = 1.0
SAMPLED_WEIGHTS = 8
SAMPLED_VALUES = 64
_calls = NativeCalls(comfy.model_management.interrupt_current_processing)
"""Torch and the tokenizer: a model that writes looks at the interrupt after every token."""
_SYSTEM_TURN = re.compile(r"^<\|im_start\|>system\n.*?<\|im_end\|>\n", re.DOTALL)


class RunflowJudgeModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowJudgeModel",
            display_name="Judge with My Model",
            description=(
                "Makes a judge of a text encoder that can see and write, such as Qwen3-VL, Qwen3.5 or Gemma 3, which "
                "many image models load anyway. It answers one yes/no question for each line of What must be right, "
                "on this machine and free. Connect it to judge_model of Evaluate Image Quality."
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="From Load CLIP: a text encoder that can see images and write text."),
                io.Int.Input(
                    "max_length",
                    optional=True,
                    default=256,
                    min=16,
                    max=8192,
                    tooltip="The longest answer in tokens. A model that thinks first needs 1000 or more.",
                ),
                io.Boolean.Input(
                    "thinking",
                    optional=True,
                    default=False,
                    tooltip="Let the model think first, if it can: slower, and needs a larger max_length.",
                ),
            ],
            outputs=[JudgeModelType.Output("judge_model", display_name="judge_model")],
        )

    @classmethod
    def execute(cls, clip, max_length=256, thinking=False) -> io.NodeOutput:
        return io.NodeOutput(ClipModel(clip, max_length, thinking))


class ClipModel:
    """A ``VisionModel`` of ComfyUI's: a CLIP that can write.

    ComfyUI's memory management belongs to the thread that runs the prompt. So ``answer``, which the evaluator calls
    from a thread of its own, hands the work to the prompt's event loop and waits: it never runs beside a sampler.
    """

    where = "on this machine"

    def __init__(self, clip: Any, max_length: int, thinking: bool) -> None:
        self.name = _name_of(clip)
        self._clip = clip
        self._max_length = max_length
        self._thinking = thinking
        self._image_argument = _image_argument(clip, self.name)
        _require_writer(clip, self.name)
        self._identity = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = contextvars.copy_context()

    @property
    def identity(self) -> str:
        if not self._identity:
            with _calls.alone():
                weights = _weights_of(self._clip)
            self._identity = json.dumps(["clip", self.name, self._max_length, self._thinking, weights])
        return self._identity

    def bind(self) -> ClipModel:
        """One that works on the prompt that runs now, for the node that runs now. Call it from ``execute``."""
        bound = object.__new__(ClipModel)
        bound.__dict__.update(self.__dict__)
        bound._loop = asyncio.get_running_loop()
        bound._context = contextvars.copy_context()
        return bound

    def answer(self, image: PixelImage, question: str) -> str:
        assert self._loop is not None, "bind first"
        done: Future[str] = Future()

        def work() -> None:
            try:
                done.set_result(self.generate(image, question))
            except BaseException as error:  # handed to whoever waits, ComfyUI's own Cancel included
                done.set_exception(error)

        self._loop.call_soon_threadsafe(work, context=self._context)
        while True:
            try:
                return done.result(LOOK_S)
            except FutureTimeout:
                if self._loop.is_closed():  # the prompt ended before its turn came: nobody waits for this
                    raise Cancelled from None

    def generate(self, image: PixelImage, question: str) -> str:
        """The model's words, greedily, in the thread that runs the prompt. Errors as in ``VisionModel.answer``."""
        try:
            with _calls.alone(), torch.inference_mode():
                tokens = self._clip.tokenize(question, **self._arguments(image))
                ids = self._clip.generate(tokens, do_sample=False, max_length=self._max_length)
                words = str(self._clip.decode(ids))
                if len(ids) < self._max_length:
                    return words
                return CutOff.of(words, f" after {self._max_length} tokens (max_length of Judge with My Model)")
        except RunflowError:
            raise
        except (AttributeError, NotImplementedError) as error:
            detail = f" ({type(error).__name__}: {error})"
            raise _cannot(self.name, f"write{detail}", code="MODEL_CANNOT_WRITE") from error
        except Exception as error:
            if _is_out_of_memory(error):
                comfy.model_management.unload_all_models()  # as ComfyUI does when a node runs out of memory
                raise NotJudgedError(
                    f"There is not enough memory for {self.name} beside what is loaded.",
                    code="MODEL_OUT_OF_MEMORY",
                    cost="Nothing was paid.",
                    advice="Take a smaller or quantised model, or make the image smaller before it is judged.",
                ) from error
            raise NotJudgedError(
                f"{self.name} failed ({type(error).__name__}: {str(error)[:200]}).",
                code="MODEL_FAILED",
                cost="Nothing was paid.",
                advice="Does Generate Text work with the same CLIP and image?",
            ) from error

    def _arguments(self, image: PixelImage) -> dict[str, Any]:
        picture = _tensor(image)
        arguments = {
            self._image_argument: [picture] if self._image_argument == "images" else picture,
            "skip_template": False,
            "min_length": 1,
            "thinking": self._thinking,
        }
        template = _neutral_template(self._clip.tokenizer)
        return {**arguments, "llama_template": template} if template else arguments


def _name_of(clip: Any) -> str:
    tokenizer = getattr(clip, "tokenizer", None)
    return str(getattr(tokenizer, "clip_name", None) or type(tokenizer).__name__)


def _require_writer(clip: Any, name: str) -> None:
    if not hasattr(clip, "generate"):
        raise ConfigurationError(
            "This ComfyUI cannot let a text encoder write; that came in February 2026. Update ComfyUI, or use a model "
            "behind an address (RUNFLOW_MODEL_URL).",
            code="MODEL_CANNOT_WRITE",
        )
    parts = clip.cond_stage_model.modules()
    if not any(hasattr(part, "generate") and hasattr(part, "logits") for part in parts):
        raise _cannot(name, "write", code="MODEL_CANNOT_WRITE")


def _image_argument(clip: Any, name: str) -> str:
    """What this encoder calls the picture: ``images`` (a list; all of them after 0.33) or ``image`` (a batch)."""
    tokenizer = clip.tokenizer
    inner = getattr(tokenizer, str(getattr(tokenizer, "clip", "")), None)
    takers: list[Callable[..., Any]] = [clip.tokenize, tokenizer.tokenize_with_weights]
    takers += [inner.tokenize_with_weights] if inner is not None and hasattr(inner, "tokenize_with_weights") else []
    known = {argument for taker in takers for argument in inspect.signature(taker).parameters}
    found = next((argument for argument in ("images", "image") if argument in known), None)
    if found is None:
        raise _cannot(name, "see images", code="MODEL_CANNOT_SEE")
    return found


def _cannot(name: str, what: str, *, code: str) -> ConfigurationError:
    return ConfigurationError(
        f"The text encoder {name} cannot {what}.",
        code=code,
        cost="Nothing was paid.",
        advice="Load one that sees and writes (Qwen3-VL, Qwen3.5, Qwen2.5-VL, Gemma 3 or 4), or use a model behind an "
        "address (RUNFLOW_MODEL_URL).",
    )


def _neutral_template(tokenizer: Any) -> str | None:
    """The encoder's own template for images without its system turn, if it has one: that asks about edits."""
    template = getattr(tokenizer, "llama_template_images", "")
    neutral = _SYSTEM_TURN.sub("", template)
    return neutral if neutral != template else None


def _tensor(image: PixelImage) -> torch.Tensor:
    """uint8 (H, W, 1, 3 or 4) as ComfyUI's IMAGE of one, [1, H, W, 3]; transparency laid on white."""
    pixels = np.asarray(image, np.float32) / 255
    if pixels.shape[2] == 4:
        pixels = pixels[:, :, :3] * pixels[:, :, 3:] + (1 - pixels[:, :, 3:])
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)
    return torch.from_numpy(pixels)[None]


def _weights_of(clip: Any) -> str:
    """A digest of a few values of some weights: two models of one name are two judges.

    Where the weights cannot be looked at, or are patched, it differs in each process: nothing is remembered longer.
    """
    patches = clip.patcher.patches
    try:
        weights = sorted(clip.cond_stage_model.state_dict().items())
        step = max(1, len(weights) // SAMPLED_WEIGHTS)
        digest = hashlib.sha256(repr([(name, tuple(weight.shape)) for name, weight in weights]).encode())
        for _, weight in weights[::step]:
            digest.update(weight.detach().flatten()[:SAMPLED_VALUES].float().cpu().numpy().tobytes())
    except (RuntimeError, TypeError, AttributeError):
        return str(uuid.uuid4())
    return f"{digest.hexdigest()[:32]}{f' patched {clip.patcher.patches_uuid}' if patches else ''}"


def _is_out_of_memory(error: Exception) -> bool:
    is_oom = getattr(comfy.model_management, "is_oom", None)  # newer than 0.3.75; also ends CUDA's own error state
    if is_oom is not None and is_oom(error):
        return True
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return "out of memory" in str(error).lower()
