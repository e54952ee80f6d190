"""Reading files as the ComfyUI in question reads them, so that graph and folder pay once."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .. import errors, image_files, images
from ..background import Workers
from ..evaluation.evaluator import Evaluator
from ..evaluation.job import requests_for
from ..evaluation.question import ImageUrl, Question
from ..evaluation.verdict import UNKNOWN
from ..settings import locations
from ..settings.load_image import Decoder, noted_decoder
from .sources import Item

LOOKED_UP_AT_ONCE = 200
PAID_FOR_AGAIN = (
    "What is judged here is paid for again in a workflow, and the other way round. To pay once, use ComfyUI's own "
    "Python, or: pip install av"
)
"""Where ComfyUI reads files with PyAV, and this Python has none."""


@dataclass(frozen=True)
class HowToRead:
    """``decoder`` reads the files. ``other``: an earlier version of pack or ComfyUI may have paid for what that one
    makes of them, so it is looked up before anything is paid. ``lacks_pyav``: ComfyUI has it, and this Python has not.
    """

    decoder: Decoder = Decoder.PILLOW
    other: Decoder | None = None
    lacks_pyav: bool = False


def how_to_read(args: argparse.Namespace) -> HowToRead:
    """As the ComfyUI reads whose settings are in force; without one, with Pillow."""
    noted = noted_decoder(locations.settings_directory(args.comfyui))
    if noted is None and args.comfyui is None:
        return HowToRead()
    if not image_files.has_pyav():
        return HowToRead(lacks_pyav=noted is Decoder.PYAV)
    decoder = noted or Decoder.PILLOW
    return HowToRead(decoder, decoder.other)


def read(item: Item, take_prompt: bool) -> None:
    """Read the file for what the first pass wants to know of it; addresses are never fetched."""
    if isinstance(item.source, ImageUrl):
        item.pixel_hash = item.source.hash
        item.no_prompt = "an address is not fetched" if take_prompt else ""
        return
    try:
        picture = image_files.read(item.source, decoder=item.decoder)
    except errors.InvalidInputError as error:
        item.error = error
        return
    item.pixel_hash = images.pixel_hash(picture.pixels)
    item.size = picture.pixels.shape[1], picture.pixels.shape[0]
    item.notes, item.saved, item.image_settings = picture.notes, picture.saved, picture.image_settings
    item.depends_on_decoder = picture.depends_on_decoder
    if take_prompt and picture.prompt:
        item.question = replace(item.question, generation_prompt=picture.prompt)
    elif take_prompt:
        item.no_prompt = picture.no_prompt


def says_as_much(item: Item, judged_by: str, is_loopback: bool) -> bool:
    """Whether what a file says is of the very pixels that it has now, and by the judge that would be asked."""
    saved = item.saved
    if saved is None or item.verdict is not None or saved.outcome == UNKNOWN or saved.judge != judged_by:
        return False
    return saved.judged_hash == item.pixel_hash and (is_loopback or not saved.is_practice)


async def take_known(
    items: Sequence[Item], evaluator: Evaluator, other: Decoder, question: Question, looked_up: list[Item]
) -> None:
    """Let files be read by the ``other`` decoder if that was paid for, and what their own makes of them was not.

    ``question`` has the references as the other decoder reads them. What was looked up is added to ``looked_up``.
    """
    workers = Workers(os.cpu_count() or 1)
    for start in range(0, len(items), LOOKED_UP_AT_ONCE):
        chunk = items[start : start + LOOKED_UP_AT_ONCE]
        paid = await workers.run(_are_paid, chunk, evaluator)
        unpaid = [item for item, is_paid in zip(chunk, paid, strict=True) if not is_paid]
        unpaid = [item for item in unpaid if item.depends_on_decoder or not item.question.has_same_references(question)]
        otherwise = await asyncio.gather(*(workers.run(_otherwise, item, other, question) for item in unpaid))
        paid = await workers.run(_are_paid, otherwise, evaluator)
        for item, read_otherwise, is_paid in zip(unpaid, otherwise, paid, strict=True):
            if is_paid:
                item.decoder, item.pixel_hash, item.question = other, read_otherwise.pixel_hash, read_otherwise.question
        looked_up += chunk


def _otherwise(item: Item, decoder: Decoder, question: Question) -> Item:
    prompted = replace(question, generation_prompt=item.question.generation_prompt)
    otherwise = replace(item, decoder=decoder, question=prompted)
    read(otherwise, take_prompt=False)
    return otherwise


def _are_paid(items: Sequence[Item], evaluator: Evaluator) -> list[bool]:
    asked = [(item.pixel_hash, item.question, item.options) for item in items]
    return evaluator.bookkeeper.paid(requests_for(asked, evaluator.config.base_url)) if asked else []
