"""ComfyUI's side of the evaluator: tensors, cancelling, progress, where files go, what is cached."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from aiohttp import web
from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..runflow_api import background, images
from ..runflow_api.errors import ConfigurationError, RunflowError
from ..runflow_api.evaluation.question import JudgeChoice, Options, Question
from ..runflow_api.evaluation.verdict import RUNFLOW, BatchVerdict, Policy, Subject, not_judged
from ..runflow_api.settings import config
from . import _image_batch, _thumbnails
from ._unjudged import save_unjudged

if TYPE_CHECKING:
    from ..runflow_api.evaluation.job import Person
    from ..runflow_api.evaluation.polling import Window
    from ..runflow_api.journal.image_settings import ImageSettings
    from ..runflow_api.model_judge.judge import VisionModel

LOOK_FOR_CANCEL_S = 0.1
THUMBNAILS_WITHIN_S = 2.0
BAR_STEPS = 1000

log = logging.getLogger("runflow_evaluate")
T = TypeVar("T")
Waiting = Callable[..., None]


def private_directory() -> Path:
    """Where the key file, the configuration and the journal are: ComfyUI serves nothing from there."""
    return Path(folder_paths.get_system_user_directory("runflow_evaluate"))


def call_at_start(function: Callable[[], object]) -> None:
    """Call it in a thread of its own once the server answers: ComfyUI's start does not wait for it."""

    async def start(_app: web.Application) -> None:
        background.call(function)

    PromptServer.instance.app.on_startup.append(start)


def editor_settings_file(user: str = "default") -> Path:
    """The file in which ComfyUI keeps what a user chose in the editor, wherever ``--user-directory`` put it."""
    folder = folder_paths.get_public_user_directory(user) or folder_paths.get_public_user_directory("default")
    return Path(folder, "comfy.settings.json")


def settings() -> config.Config:
    return config.load(private_directory())


_evaluators: list[Any] = []
_evaluators_lock = threading.Lock()


def evaluator() -> Any:
    """The process-wide evaluator: one connection pool, one rate limit, one journal for all prompts.

    A changed configuration gets a new one; the one before is closed when what it has under way has ended.
    """
    from ..runflow_api.evaluation.evaluator import Evaluator  # not needed before a node runs

    current = settings()
    with _evaluators_lock:
        if not _evaluators or _evaluators[0].config != current:
            for before in _evaluators:
                before.close_when_unused()
            _evaluators[:] = [Evaluator(current, private_directory())]
        return _evaluators[0]


async def judge(
    node: type[io.ComfyNode],
    batch: torch.Tensor,
    question: Question,
    *,
    judge: JudgeChoice,
    policy: Policy,
    options: Options,
    image_settings: ImageSettings,
    refused: RunflowError | None = None,
    model: VisionModel | None = None,
    person: Person | None = None,
    waiting: Waiting | None = None,
) -> BatchVerdict:
    """Judge an IMAGE batch for ``node``, with progress on it; whatever stops saves the images first.

    ``image_settings`` are the settings that made the images.

    ``refused``: why the batch, which is one value of a list, is not paid for, such as a limit that the list breaks.
    ``waiting`` is told how it waits, as ``_shown.Panel.waiting`` takes it, from any thread.
    """
    from ..runflow_api.evaluation.evaluator import Job

    pictures = _image_batch.pictures(batch)
    show = NodeProgress(node.hidden.unique_id, waiting)
    is_free = False
    keeping = _keep_thumbnails(pictures, show.submitted)
    try:
        job = Job(
            pictures,
            question,
            judge,
            policy,
            options,
            running_prompt(),
            model=model,
            person=person,
            image_settings=image_settings,
        )
        is_free = evaluator().resolve(judge, has_model=model is not None) != RUNFLOW
        if is_free:
            show.submitted.set()
        verdict: BatchVerdict
        if refused is None:
            verdict = await run_cancellable(evaluator().evaluate(job, show.progress), show)
        else:
            verdict = _none_judged(refused, job, await _image_batch.pixel_hashes(batch))
    except RunflowError as error:
        unjudged = [pictures[index] for index in error.unjudged_indices or range(len(pictures))]
        error.add_advice(await asyncio.wrap_future(background.call(save_unjudged, unjudged, node)))
        show.text(f"not judged · {error.code}")
        raise
    except BaseException:  # cancelled, or another node of the prompt failed
        picked_up = " · what was submitted is picked up at the next Run and paid for once"
        show.text("stopped" if is_free else f"stopped{picked_up}")
        unjudged = [picture for index, picture in enumerate(pictures) if index not in show.judged]
        background.call(save_unjudged, unjudged, node)
        raise
    finally:
        show.submitted.set()
    show.text(verdict.summary)
    if keeping is not None:  # the panel asks for them as soon as it has the verdict
        await asyncio.wait({asyncio.wrap_future(keeping)}, timeout=THUMBNAILS_WITHIN_S)
    return verdict


def _none_judged(error: RunflowError, job: Any, hashes: Sequence[str]) -> BatchVerdict:
    """What a whole list gets for one error: *unknown*, if the person did not say stop."""
    if job.policy.if_not_judged == "stop":
        raise error
    prompt = job.question.generation_prompt
    subjects = [Subject(prompt, pixel_hash) for pixel_hash in hashes]
    return BatchVerdict(tuple(not_judged(error, job.policy, subject, judge=RUNFLOW) for subject in subjects))


def running_prompt() -> str:
    """The id of the prompt that runs."""
    running = get_executing_context()
    return running.prompt_id if running is not None else ""


def _keep_thumbnails(pictures: Sequence[images.Picture], start: threading.Event) -> Future[None] | None:
    try:
        wanted = settings().keep_thumbnails
    except ConfigurationError:
        return None  # the evaluator says what is wrong with the configuration
    return background.call(_thumbnails.keep, private_directory(), pictures, start) if wanted else None


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


async def run_with_progress(work: Coroutine[Any, Any, T], show: NodeProgress) -> T:
    """Wait for work that costs nothing and has no image to save; the code of an error stays on the node."""
    try:
        return await run_cancellable(work, show)
    except RunflowError as error:
        show.text(error.code)
        raise


def without_markup(text: str) -> str:
    """``text`` so that it reads the same and stays text.

    ComfyUI's page takes progress texts for HTML (frontend 1.32) or Markdown (1.58), and an issue of an image can hold
    anything: no tags, and no links or pictures of Markdown and ``[[label|address]]``.
    """
    return text.replace("<", "\u2039").replace(">", "\u203a").replace("](", "] (").replace("[[", "[ [")


class NodeProgress:
    """The progress text and the bar of one node. The text may be set from any thread; the last one stays."""

    def __init__(self, node_id: str | None, waiting: Waiting | None = None) -> None:
        self._node_id, self._waiting = node_id, waiting
        self._server = PromptServer.instance
        self._client = self._server.client_id
        self._started = self._shown = time.monotonic()
        self._bar = comfy.utils.ProgressBar(BAR_STEPS, node_id)
        self.judged: set[int] = set()
        self._expected: Window | None = None
        self.submitted = threading.Event()
        """Set as soon as an image is with Runflow, or when all has ended: what is not urgent takes no time before."""

    def text(self, text: str) -> None:
        if self._node_id is not None:
            self._server.send_progress_text(without_markup(text), self._node_id, self._client)

    def progress(self, progress: Any) -> None:
        """The evaluator's report, from the background loop: also while a sampler blocks the prompt's loop."""
        self.judged, self._expected = progress.judged, progress.expected
        if progress.past_submission_count:
            self.submitted.set()
        self.text(progress.text)
        if self._waiting is not None:
            code = "submitting" if progress.past_submission_count < progress.total else progress.phase
            self._waiting(code, progress.trouble, judged=len(progress.judged), of=progress.total)

    def bar(self) -> None:
        """Move the bar about once a second."""
        from ..runflow_api.evaluation.polling import share_done

        now = time.monotonic()
        if now - self._shown >= 1.0:
            self._shown, elapsed = now, now - self._started
            self._bar.update_absolute(round(BAR_STEPS * share_done(elapsed, self._expected)))
