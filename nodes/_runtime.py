"""ComfyUI's side of the evaluator: tensors, cancelling, progress, where files go, what is cached."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy.cli_args import args
from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from PIL.PngImagePlugin import PngInfo
from server import PromptServer

from ..runflow_api import background, images
from ..runflow_api.errors import ConfigurationError, RunflowError
from ..runflow_api.evaluation.question import Options, Question
from ..runflow_api.evaluation.verdict import UNKNOWN, BatchVerdict, Policy
from ..runflow_api.settings import config
from . import _thumbnails

if TYPE_CHECKING:
    from ..runflow_api.evaluation.job import Person
    from ..runflow_api.model_judge.judge import VisionModel

LOOK_FOR_CANCEL_S = 0.1
THUMBNAILS_WITHIN_S = 2.0
TYPICAL_EVALUATION_S = 15.0
"""Only shapes the bar: half-way after so many seconds, never full before the verdict."""
BAR_STEPS = 1000
UNJUDGED_FOLDER = "runflow-unjudged"

log = logging.getLogger("runflow_evaluate")
T = TypeVar("T")


def private_directory() -> Path:
    """Where the key file, the configuration and the journal are: ComfyUI serves nothing from there."""
    return Path(folder_paths.get_system_user_directory("runflow_evaluate"))


def settings() -> config.Config:
    return config.load(private_directory())


_evaluators: list[Any] = []
_evaluators_lock = threading.Lock()


def evaluator():
    """The process-wide evaluator: one connection pool, one rate limit, one journal for all prompts.

    A changed configuration gets a new one.
    """
    from ..runflow_api.evaluation.evaluator import Evaluator  # not needed before a node runs

    current = settings()
    with _evaluators_lock:
        if not _evaluators or _evaluators[0].config != current:
            _evaluators[:] = [Evaluator(current, private_directory())]
        return _evaluators[0]


def arrays(batch: torch.Tensor) -> list[np.ndarray]:
    """An IMAGE tensor [B, H, W, C] as B float arrays (H, W, C), without a copy where it is in main memory."""
    if batch.ndim == 3:
        batch = batch.unsqueeze(0)
    if not batch.is_floating_point() or batch.dtype == torch.bfloat16:
        batch = batch.float()
    return [image.detach().cpu().numpy() for image in batch]


async def judge(
    node: type[io.ComfyNode],
    batch: torch.Tensor,
    question: Question,
    *,
    judge: str,
    policy: Policy,
    options: Options,
    model: VisionModel | None = None,
    person: Person | None = None,
) -> BatchVerdict:
    """Judge an IMAGE batch for ``node``, with progress on it; whatever stops saves the images first."""
    from ..runflow_api.evaluation.evaluator import Job

    pictures = [images.Picture(array) for array in arrays(batch)]
    show = NodeProgress(node.hidden.unique_id)
    context = get_executing_context()
    prompt_id = context.prompt_id if context else ""
    keeping = _keep_thumbnails(pictures)
    try:
        job = Job(pictures, question, judge, policy, options, prompt_id, model=model, person=person)
        verdict = await run_cancellable(evaluator().evaluate(job, show.progress), show)
    except RunflowError as error:
        unjudged = [pictures[index] for index in error.unjudged_indices or range(len(pictures))]
        error.add_advice(await asyncio.wrap_future(background.call(save_unjudged, unjudged, node)))
        show.text(f"not judged · {error.code}")
        raise
    except BaseException:  # cancelled, or another node of the prompt failed
        show.text("stopped · what was submitted is picked up at the next Run and paid once")
        unjudged = [picture for index, picture in enumerate(pictures) if index not in show.judged]
        background.call(save_unjudged, unjudged, node)
        raise
    show.text(verdict.summary)
    if keeping is not None:  # the panel asks for them as soon as it has the verdict
        await asyncio.wait({asyncio.wrap_future(keeping)}, timeout=THUMBNAILS_WITHIN_S)
    return verdict


def _keep_thumbnails(pictures: Sequence[images.Picture]) -> Future[None] | None:
    try:
        wanted = settings().keep_thumbnails
    except ConfigurationError:
        return None  # the evaluator says what is wrong with the configuration
    return background.call(_thumbnails.keep, private_directory(), pictures) if wanted else None


async def run_cancellable(work: Coroutine[Any, Any, T], show: NodeProgress) -> T:
    """Wait for work on the background loop, and walk away from it as soon as Cancel is pressed."""
    future = background.start(work)
    waiting = asyncio.wrap_future(future)
    try:
        while not (await asyncio.wait({waiting}, timeout=LOOK_FOR_CANCEL_S))[0]:
            comfy.model_management.throw_exception_if_processing_interrupted()
            show.bar()
        return waiting.result()
    finally:
        future.cancel()
        waiting.cancel()


async def run_with_progress(
    node: type[io.ComfyNode], work: Callable[[NodeProgress], Coroutine[Any, Any, T]], summary: Callable[[T], str]
) -> T:
    """Wait for work that costs nothing and has no image to save; what became of it stays on the node."""
    show = NodeProgress(node.hidden.unique_id)
    try:
        result = await run_cancellable(work(show), show)
    except RunflowError as error:
        show.text(error.code)
        raise
    show.text(summary(result))
    return result


class NodeProgress:
    """The progress text and the bar of one node. The text may be set from any thread; the last one stays."""

    def __init__(self, node_id: str | None) -> None:
        self._node_id = node_id
        self._server = PromptServer.instance
        self._client = self._server.client_id
        self._started = self._shown = time.monotonic()
        self._bar = comfy.utils.ProgressBar(BAR_STEPS, node_id)
        self.judged: set[int] = set()

    def text(self, text: str) -> None:
        if self._node_id is not None:
            self._server.send_progress_text(text, self._node_id, self._client)

    def progress(self, progress: Any) -> None:
        """The evaluator's report, from the background loop: also while a sampler blocks the prompt's loop."""
        self.judged = progress.judged
        self.text(progress.text)

    def bar(self) -> None:
        """Move the bar about once a second."""
        now = time.monotonic()
        if now - self._shown >= 1.0:
            self._shown, elapsed = now, now - self._started
            self._bar.update_absolute(round(BAR_STEPS * elapsed / (elapsed + TYPICAL_EVALUATION_S)))


def save_unjudged(pictures: Sequence[images.Picture], node: type[io.ComfyNode]) -> str:
    """Save images that have no verdict, with their workflow as SaveImage would; say where they are.

    The name is the hash of the pixels, so that queueing again does not fill the folder with copies.
    """
    if not pictures:
        return ""
    folder = Path(folder_paths.get_output_directory()) / UNJUDGED_FOLDER
    metadata = _metadata(node)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = [_save(folder, picture, metadata) for picture in pictures]
    except (OSError, ValueError, TypeError) as error:  # what stopped the workflow may be what cannot be saved
        log.warning("The images that were not judged could not be saved: %s", error)
        return f"The images could not be saved ({type(error).__name__})."
    return f"Saved to output/{UNJUDGED_FOLDER}/{', '.join(dict.fromkeys(names))}."


def _save(folder: Path, picture: images.Picture, metadata: PngInfo | None) -> str:
    path = folder / f"{picture.hash[:16]}.png"
    if not path.exists():
        part = path.with_suffix(f".{threading.get_ident()}.part")
        images.to_pil(picture.pixels).save(part, "PNG", pnginfo=metadata, compress_level=1)
        part.replace(path)
    return path.name


def _metadata(node: type[io.ComfyNode]) -> PngInfo | None:
    if args.disable_metadata or node.hidden.prompt is None:
        return None
    metadata = PngInfo()
    metadata.add_text("prompt", json.dumps(node.hidden.prompt))
    for name, value in (node.hidden.extra_pnginfo or {}).items():
        metadata.add_text(name, json.dumps(value))
    return metadata


# --- what ComfyUI caches ------------------------------------------------------------------------------

_unknown_verdicts: Counter[str] = Counter()


def fingerprint(judge: str | None, visible: dict[str, Any]) -> str:
    """What ComfyUI compares, beside the inputs, to decide whether a verdict may come from its cache.

    It holds who would answer, and how often these inputs went without a verdict: ComfyUI would cache a
    non-answer for ever. The value is stored in saved images, so it is derived from no secret.
    """
    return f"{_resolved(judge or 'auto')}:{_unknown_verdicts[_visible_key(visible)]}"


def rerun_if_unjudged(verdict: BatchVerdict, node: type[io.ComfyNode]) -> None:
    """Let the next queue ask again where nobody judged."""
    if verdict.outcome == UNKNOWN and any(each.error for each in verdict):
        inputs = node.hidden.dynprompt.get_node(node.hidden.unique_id)["inputs"]
        _unknown_verdicts[_visible_key(inputs)] += 1


def _visible_key(inputs: dict[str, Any]) -> str:
    """The inputs that are no links: all that ``fingerprint_inputs`` can see."""
    constant = {name: value for name, value in inputs.items() if not isinstance(value, list | tuple | type(None))}
    return json.dumps(constant, sort_keys=True, default=str)


def _resolved(judge: str) -> str:
    if judge != "auto":
        return judge
    try:
        current = settings()
        if current.api_key or current.trouble:
            return "runflow"
        return "model" if current.model_url else "local"
    except ConfigurationError:
        return "misconfigured"
