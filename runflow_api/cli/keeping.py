"""What becomes of judged files: failed ones are moved, passed ones copied, and each verdict is written beside them.

Nothing is ever overwritten but a verdict that was written here before. What nobody judged stays where it is.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError
from ..evaluation.verdict import FAILED, PASSED
from . import results
from .sources import Item
from .terminal import Terminal

SIDECAR = ".runflow.json"
MAX_OF_A_NAME = 10_000


def check(args: argparse.Namespace) -> None:
    """Refuse folders that cannot be used, before anything is paid. Raises ``InvalidInputError``."""
    for name, folder in (("--move-failed", args.move_failed), ("--copy-passed", args.copy_passed)):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise InvalidInputError(name, f"{folder} is a file. Name a folder.")
    both = args.move_failed, args.copy_passed
    if None not in both and os.path.abspath(both[0]) == os.path.abspath(both[1]):
        raise InvalidInputError("--move-failed", "and --copy-passed are the same folder.")


def keep(items: Sequence[Item], args: argparse.Namespace, terminal: Terminal) -> bool:
    """Do with the files of judged images what was asked for; whether all of it could be done."""
    if not (args.move_failed or args.copy_passed or args.sidecar):
        return True
    moved = copied = 0
    troubles = []
    for item in items:
        if item.verdict is None or not isinstance(item.source, Path) or item.error is not None:
            continue
        try:
            places = [item.source]
            if args.move_failed and item.verdict.outcome == FAILED:
                places = [_move(item, args.move_failed)]
                moved += 1
            elif args.copy_passed and item.verdict.outcome == PASSED:
                places.append(_copy(item.source, args.copy_passed))
                copied += 1
            if args.sidecar:
                for place in places:
                    _write(place.with_name(place.name + SIDECAR), results.record_of(item))
        except OSError as error:
            troubles.append(f"{item.name}: {error.strerror or type(error).__name__}")
    done = [f"{moved} failed moved to {args.move_failed}"] if args.move_failed else []
    done += [f"{copied} passed copied to {args.copy_passed}"] if args.copy_passed else []
    if done:
        terminal.say(" \u00b7 ".join(done))
    for trouble in troubles:
        terminal.say(f"[FILE_ERROR] {trouble}. The file was left where it is; its verdict is not lost.")
    return not troubles


def _move(item: Item, folder: Path) -> Path:
    """The file's new place, which the report links to."""
    assert isinstance(item.source, Path)
    source = item.source
    folder.mkdir(parents=True, exist_ok=True)
    if source.parent.resolve() == folder.resolve():
        return source
    if source.is_symlink():
        raise OSError(0, "is a link")
    target = _free_place(source, folder)
    shutil.move(source, target)
    with suppress(OSError):  # what was written beside it before goes with it
        beside = source.with_name(source.name + SIDECAR)
        if beside.exists() and _is_ours(beside):
            beside.rename(target.with_name(target.name + SIDECAR))
    item.source = target
    return target


def _copy(source: Path, folder: Path) -> Path:
    """Where the copy is; one that is there already is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    if source.parent.resolve() == folder.resolve():
        return source
    for target in _places(source, folder):
        if not os.path.lexists(target):
            shutil.copy2(source, target)
            return target
        if target.is_file() and filecmp.cmp(source, target, shallow=False):
            return target
    raise OSError(0, "has too many namesakes there")


def _free_place(source: Path, folder: Path) -> Path:
    for target in _places(source, folder):
        if not os.path.lexists(target):
            return target
    raise OSError(0, "has too many namesakes there")


def _places(source: Path, folder: Path) -> list[Path]:
    numbered = (folder / f"{source.stem} ({number}){source.suffix}" for number in range(2, MAX_OF_A_NAME))
    return [folder / source.name, *numbered] if os.path.lexists(folder / source.name) else [folder / source.name]


def _write(path: Path, record: dict[str, Any]) -> None:
    if os.path.lexists(path) and not _is_ours(path):
        raise OSError(0, f"{path.name} exists and is not a verdict of this pack")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_text(json.dumps(record, ensure_ascii=False, indent=2, default=str) + "\n", "utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    try:
        kept = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(kept, dict) and {"file", "verdict", "judge"} <= kept.keys()
