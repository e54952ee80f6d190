"""What ``evaluate`` and ``submit`` are asked to judge: files, addresses and outputs of runs, with their question."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .. import errors, image_files
from ..evaluation import lookup
from ..evaluation.evaluator import Evaluator
from ..evaluation.question import ImageUrl, Options, Question, Reference, check_image_url
from ..evaluation.saved_verdict import SavedVerdict
from ..evaluation.verdict import Verdict
from ..journal.image_settings import UNKNOWN_SETTINGS, ImageSettings
from ..settings.load_image import Decoder
from .terminal import run_cancellable

_KIND = re.compile(r"([A-Za-z_][A-Za-z0-9_ -]*)=(.+)", re.DOTALL)


@dataclass
class Item:
    """One image on its way to a verdict: a file, or an address that is passed on.

    ``size`` is (width, height) in pixels, ``error`` what kept the file from being read, ``no_prompt`` why there is no
    prompt to judge it against, ``saved`` what the file says about its own verdict. ``decoder`` reads the file, and
    ``depends_on_decoder`` says whether another one would make other pixels of it.
    """

    source: Path | ImageUrl
    name: str
    question: Question
    options: Options
    pixel_hash: str = ""
    size: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()
    no_prompt: str = ""
    error: errors.RunflowError | None = None
    verdict: Verdict | None = None
    thumbnail: bytes = b""
    saved: SavedVerdict | None = None
    image_settings: ImageSettings = UNKNOWN_SETTINGS
    decoder: Decoder = Decoder.PILLOW
    depends_on_decoder: bool = False

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]


def question_of(args: argparse.Namespace, decoder: Decoder = Decoder.PILLOW) -> Question:
    """What is asked about every image; ``decoder`` reads the files of references."""
    return Question(
        generation_prompt=args.prompt or "",
        evaluation_instructions=args.instructions,
        task_type=args.task_type,
        task_description=args.task_description,
        references=_references(args, decoder),
    )


def options_of(args: argparse.Namespace) -> Options:
    """What is sent beside the question, and how."""
    return Options(
        input_attributes=args.input_attributes,
        run_id=args.run_id,
        client_ref=args.client_ref,
        job_class=args.job_class,
        callback_url=args.callback_url,
        timeout_s=args.timeout,
        reuse=not args.no_reuse,
        upload=args.upload,
        preflight=args.preflight,
    )


def _references(args: argparse.Namespace, decoder: Decoder) -> tuple[Reference, ...]:
    descriptions = [*args.reference_description, *[""] * len(args.reference)]
    if len(args.reference_description) > len(args.reference):
        raise errors.InvalidInputError("--reference-description", "there are more descriptions than references.")
    return tuple(_reference(*pair, decoder) for pair in zip(args.reference, descriptions, strict=False))


def _reference(given: str, description: str, decoder: Decoder) -> Reference:
    """``[KIND=]FILE``, or an address in place of the file, which is passed on and never fetched."""
    named = None if os.path.isfile(given) else _KIND.fullmatch(given)
    kind, source = (named[1], named[2]) if named else ("identity", given)
    if "://" in source or source.startswith("data:"):
        check_image_url("--reference", source)
        return Reference(url=source, kind=kind, description=description)
    return Reference(image_files.read(Path(source), decoder=decoder).pixels, kind=kind, description=description)


def find_items(
    args: argparse.Namespace, evaluator: Evaluator, question: Question, options: Options
) -> tuple[list[Item], image_files.Found]:
    """What is to be judged, in the order given: files, then addresses, then outputs of runs; and what was passed over.

    Raises ``InvalidInputError`` if that is nothing.
    """
    addresses = [given for given in args.files if "://" in given]
    found = image_files.find([given for given in args.files if "://" not in given], recursive=args.recursive)
    items = [Item(path, str(path), question, options) for path in found.files]
    for address in dict.fromkeys(addresses):
        check_image_url("FILE", address)
        items.append(Item(ImageUrl(address), address, question, options))
    for run_id in dict.fromkeys(args.run_output):
        of_run = replace(options, run_id=options.run_id or run_id)
        items += [Item(each, each.identity, question, of_run) for each in _outputs(evaluator, run_id)]
    if not items and not found.closed_folders:
        raise errors.InvalidInputError("FILE", "there is nothing to judge: name files or folders, or use --run-output.")
    return items, found


def _outputs(evaluator: Evaluator, run_id: str) -> Iterator[ImageUrl]:
    """The images that a run made. Their addresses change at every look, so they are known by run and place."""
    run = run_cancellable(lookup.run(evaluator, run_id, wait=False))
    images = [(place, url) for place, url in lookup.media(run.output) if image_files.is_image_url(url)]
    if not images:
        raise errors.InvalidInputError("--run-output", f"run {run_id} is {run.status_code} and has no image to judge.")
    for place, url in images:
        yield ImageUrl(url, f"run {run_id}{place}")
