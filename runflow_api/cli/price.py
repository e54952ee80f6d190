"""``price``: what queueing an API prompt in ComfyUI would spend, without ComfyUI and without queueing it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import image_files
from ..errors import InvalidInputError
from ..evaluation.evaluator import Evaluator
from ..prompt.price import NodePrice, PromptPrice, price
from ..settings import config, locations
from ..settings.load_image import Decoder, noted_decoder
from .exit_codes import OK, exit_code
from .terminal import Terminal, plain

MAX_PROMPT_BYTES = 64 * 1024 * 1024
STANDARD_INPUT = "-"


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Say it; exits 0 if all of it would run, otherwise with the code of what is in the way."""
    prompt = _read(args.prompt)
    comfyui = args.comfyui or locations.comfyui_of()
    evaluator = Evaluator(config.load(locations.settings_directory(comfyui)), locations.journal_directory(comfyui))
    decoder = noted_decoder(locations.settings_directory(comfyui))
    folder: Path | None = args.input_directory or (comfyui / "input" if comfyui else None)

    def read_image(inputs: Mapping[str, Any]) -> Sequence[image_files.Pixels] | None:
        return _loaded(folder, inputs.get("image"), decoder)

    try:
        found = price(prompt, evaluator, read_image=read_image)
    finally:
        evaluator.close()
    _show(found, terminal)
    return exit_code(found.problems[0].error) if found.problems else OK


def _read(given: str) -> Any:
    try:
        with sys.stdin.buffer if given == STANDARD_INPUT else Path(given).open("rb") as file:
            text = file.read(MAX_PROMPT_BYTES + 1)
    except FileNotFoundError as error:
        raise InvalidInputError(given, "there is no such file.") from error
    if len(text) > MAX_PROMPT_BYTES:
        raise InvalidInputError(given, f"has more than {MAX_PROMPT_BYTES} bytes.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(given, "is not JSON.") from error


def _loaded(folder: Path | None, name: Any, decoder: Decoder | None) -> Sequence[image_files.Pixels] | None:
    """The picture that Load Image would give; ``None`` if it depends on a decoder that is not known, or not here."""
    if folder is None or not isinstance(name, str):
        return None
    file = (folder / name.removesuffix("[input]").strip()).resolve()
    if not file.is_relative_to(folder.resolve()):
        return None
    try:
        picture = image_files.read(file, decoder=decoder or Decoder.PILLOW)
    except InvalidInputError:  # not there, damaged, or an animation: ComfyUI says what it makes of it
        return None
    is_known = decoder is Decoder.PILLOW or (decoder is Decoder.PYAV and image_files.has_pyav())
    return [picture.pixels] if is_known or not picture.depends_on_decoder else None


def _show(found: PromptPrice, terminal: Terminal) -> None:
    terminal.result(found.text, *(f"\n  {_line(node)}" for node in found.nodes), record=found.to_json())
    for problem in found.problems:
        terminal.say(f"Node {problem.node}: {problem.error}" if problem.node else str(problem.error))
    for note in found.notes:
        terminal.say(note)


def _line(node: NodePrice) -> str:
    """ "node 4: at most 3 evaluations, 0.30 credits (judge runflow)"."""
    if not node.evaluations:
        return f"node {node.node}: {f'free (judge {node.judge})' if node.judge and node.runs else 'nothing to pay'}"
    most = "at most " if node.at_most else ""
    credits = "price not known" if node.credits is None else f"{plain(node.credits)} credits"
    return f"node {node.node}: {most}{node.evaluations} × {node.job_class or 'unknown class'}, {credits}"
