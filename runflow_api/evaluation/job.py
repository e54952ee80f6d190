"""What is to be judged: a job, and its images on their way as a batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Protocol

import numpy.typing as npt

from ..api.transport import Deadline
from ..errors import RunflowError
from ..images import Picture
from ..journal.image_settings import UNKNOWN_SETTINGS, ImageSettings, VerdictContext
from ..journal.journal import Request, Row
from ..model_judge.judge import VisionModel
from .polling import Progress, Window
from .question import ImageUrl, JudgeChoice, Options, Question, Upload, request_hash
from .verdict import RUNFLOW, Policy, Subject, Verdict

Image = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class AskedImage:
    """One image as a person is asked about it; ``verdict`` is what another judge said, where one was asked."""

    picture: Picture
    prompt: str
    instructions: str
    verdict: Verdict | None = None


@dataclass(frozen=True)
class PersonAnswer:
    """``improved_prompt`` "" leaves the prompt as it is."""

    accepted: bool
    reason: str = ""
    improved_prompt: str = ""


class Person(Protocol):
    """Somebody at the editor."""

    async def answers_to(self, asked: Sequence[AskedImage], deadline: Deadline) -> list[PersonAnswer | RunflowError]:
        """One for each image, in order: the answer, or why there is none. Never raises a ``RunflowError``."""


@dataclass(frozen=True, eq=False)
class Job:
    """A batch to be judged. ``images``: float (H, W, C) arrays, 0 to 1, or uint8; for Runflow also addresses.

    A ``Picture`` in place of an array shares its pixels and their hash with whoever else has it.
    ``prompt_token`` names what the person started once: the queued prompt, or the run of the command line.
    Without ``wait`` an image ends when Runflow has taken it: its verdict is unknown and carries the id. ``model`` is
    asked by the judge *model*, else what is configured; ``person`` is ``None`` where nobody is at an editor.
    ``image_settings`` are the settings that made the images, as far as they are known.
    """

    images: Sequence[Image | Picture | ImageUrl]
    question: Question = field(default_factory=Question)
    judge: JudgeChoice = "auto"
    policy: Policy = field(default_factory=Policy)
    options: Options = field(default_factory=Options)
    prompt_token: str = ""
    wait: bool = True
    model: VisionModel | None = None
    person: Person | None = None
    image_settings: ImageSettings = UNKNOWN_SETTINGS
    on_submitted: Callable[[int], None] | None = None
    """Called with the position of an image once it is not needed any more: Runflow has it, or its verdict is known."""

    def name_of(self, index: int) -> str:
        """What errors call an image of the batch."""
        return "image" if len(self.images) == 1 else f"image {index + 1}"

    def request(self, pixel_hash: str, price: Decimal | None, base_url: str) -> Request:
        """One image as the journal knows it, before it is known whose account pays.

        ``price`` in credits, ``None`` if it is not known; ``base_url`` is the API's.
        """
        return Request(
            request_hash=request_hash(pixel_hash, self.question, self.options, base_url),
            account="",
            price=price,
            job_class=self.options.job_class,
            prompt_token=self.prompt_token,
            reuse=self.options.reuse,
            generation_prompt=self.question.generation_prompt,
            pixel_hash=pixel_hash,
        )


def requests_for(
    asked: Iterable[tuple[str, Question, Options]], base_url: str, prompt_token: str = "", price: Decimal | None = None
) -> list[Request]:
    """Each (pixel hash, question, options) as the journal knows it."""
    return [
        Job((), question, options=options, prompt_token=prompt_token).request(pixel_hash, price, base_url)
        for pixel_hash, question, options in asked
    ]


@dataclass(frozen=True)
class CostEstimate:
    """What judging would add: evaluations that are not known yet, and the price of one in credits, if known."""

    new: int
    known: int
    price: Decimal | None

    @property
    def total(self) -> Decimal | None:
        return None if self.price is None else self.price * self.new


@dataclass(eq=False)
class Batch:
    """What the images of one job share. ``price`` is the quoted one, where a limit in credits needs it."""

    job: Job
    deadline: Deadline
    progress: Progress
    started: float = field(default_factory=time.monotonic)
    price: Decimal | None = None
    usual: Window | None = None
    reference_urls: dict[Upload, asyncio.Task[list[str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    stopped_by: RunflowError | None = None
    """What would be wrong with every image: nothing more is sent."""

    @property
    def seconds(self) -> float:
        """How long it has been under way."""
        return time.monotonic() - self.started


@dataclass(eq=False)
class BatchItem:
    """One image of a batch on its way."""

    batch: Batch
    index: int
    image: Picture | ImageUrl
    subject: Subject
    upload: Upload
    too_large: RunflowError | None = None
    """The refusal (413) for which it goes by upload now."""
    is_billed_elsewhere: bool = False
    """Whether another node or process shows the bill: one evaluation costs once, however many wait for it."""
    notes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    """Its rows in the journal, the one in use last: another one is begun where the first was refused as too large."""

    @property
    def row(self) -> Row:
        return self.rows[-1]

    def context_for(self, judge: str, judge_name: str = "") -> VerdictContext:
        """What its verdict is remembered with. The size is that of the pixels, where they are here."""
        question, image_settings = self.batch.job.question, self.batch.job.image_settings
        if isinstance(self.image, Picture):
            height, width = self.image.array.shape[:2]
            image_settings = replace(image_settings, width=int(width), height=int(height))
        return VerdictContext(judge, judge_name, question.task_type, question.evaluation_instructions, image_settings)

    def in_context(self, request: Request) -> Request:
        """A request to Runflow with what its verdict is remembered with."""
        return replace(request, context=self.context_for(RUNFLOW))

    @property
    def all_notes(self) -> list[str]:
        return [*self.batch.notes, *self.notes]
