"""``key``: set, import, show, check and remove the API key, without ever printing it."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..api.client import RunflowClient
from ..errors import InvalidInputError
from ..settings import config, key_file, locations
from .exit_codes import OK
from .terminal import Terminal


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Carry out one of ``ACTIONS``; the exit code."""
    ACTIONS[args.action](locations.settings_directory(args.comfyui), args.comfyui, terminal)
    return OK


def _set(directory: Path, comfyui: Path | None, terminal: Terminal) -> None:
    _stored(key_file.store(directory, _entered()), directory, terminal)


def _entered() -> str:
    """Typed without an echo, otherwise the first line of standard input: arguments show in process lists."""
    if sys.stdin.isatty():
        return getpass.getpass("Runflow API key (not shown): ")
    return sys.stdin.readline(key_file.MAX_KEY_CHARACTERS + 2)


def _import(directory: Path, comfyui: Path | None, terminal: Terminal) -> None:
    source = comfyui or locations.comfyui_of()
    if source is None:
        raise InvalidInputError(
            "--comfyui", "is needed to import, because this pack is not in the custom_nodes folder of a ComfyUI."
        )
    settings = key_file.official_settings(locations.user_directory(source))
    _stored(key_file.store(directory, key_file.official(settings)), directory, terminal)
    terminal.say(
        "The setting of the deploy pack stays where it is: every page in the browser can read it. Delete it in "
        "ComfyUI's settings if you no longer use that pack."
    )


def _stored(path: Path, directory: Path, terminal: Terminal) -> None:
    terminal.say(f"Saved to {path}, which only you can read. Not checked yet: {locations.command_line()} key check")
    _show(directory, None, terminal)


def _show(directory: Path, comfyui: Path | None, terminal: Terminal) -> None:
    settings = config.load(directory)
    source = settings.sources.get("api_key", "")
    where = f" · {source}" + (f" {directory / config.KEY_FILE}" if source == "key file" else "")
    text = f"{settings.masked_key}{where if source else f' · {config.WHERE_TO_SET_THE_KEY}, or: key set'}"
    terminal.result(text, record={"key": settings.masked_key, "source": source or None})
    hidden = directory / config.KEY_FILE
    if settings.trouble:
        terminal.say(f"[FOLDER_UNUSABLE] {settings.trouble}")
    if source.startswith("environment") and os.path.isfile(hidden):
        terminal.say(f"{config.KEY_VARIABLE} takes precedence: the key in {hidden} is not used.")


def _check(directory: Path, comfyui: Path | None, terminal: Terminal) -> None:
    settings = config.load(directory)
    settings.require_key()
    client = RunflowClient(settings)
    try:
        account = client.check_account()
    finally:
        client.close()
    organisation = account.get("org_id") or account.get("organization_id")
    organisation = organisation if isinstance(organisation, str) else None
    said = f" · organisation {organisation}" if organisation else ""
    terminal.result(
        f"{settings.masked_key} is accepted by {settings.base_url}{said}",
        record={
            "key": settings.masked_key,
            "accepted": True,
            "base_url": settings.base_url,
            "organization_id": organisation,
        },
    )


def _remove(directory: Path, comfyui: Path | None, terminal: Terminal) -> None:
    was_there = key_file.remove(directory)
    terminal.say("Removed." if was_there else f"There is no key file in {directory}.")
    _show(directory, None, terminal)


ACTIONS: dict[str, Callable[[Path, Path | None, Terminal], None]] = {
    "set": _set,
    "import": _import,
    "show": _show,
    "check": _check,
    "remove": _remove,
}
