"""The settings a person may change from ComfyUI's settings page: ``config.json``, written whole and privately.

Neither the base URL, nor the journal, nor who may change settings is among them: a web page cannot choose where
the key goes.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, InvalidInputError
from . import config
from .config import CONFIG_FILE, Config
from .key_file import write_private

CHANGEABLE = (
    "max_evaluations_per_prompt",
    "max_evaluations_per_day",
    "max_credits_per_day",
    "concurrency",
    "retention_days",
    "retention_evaluations",
    "keep_prompts",
    "keep_thumbnails",
)
_DEFAULTS = {field.name: field.default for field in fields(Config)}
_writing = threading.Lock()


def shown(current: Config) -> list[dict[str, Any]]:
    """Every changeable setting: its value, its default, where it came from, and whether a change would count.

    What the environment sets wins over the file, so changing it here would do nothing.
    """
    return [
        {
            "name": name,
            "value": getattr(current, name),
            "default": _DEFAULTS[name],
            "source": current.sources.get(name, "default"),
            "fixed": current.sources.get(name, "").startswith("environment"),
        }
        for name in CHANGEABLE
    ]


def change(directory: Path, changes: Mapping[str, Any]) -> None:
    """Store the changes; ``None`` goes back to the default. All of them, or, with an error, none.

    Raises ``InvalidInputError`` for a name or value that is not allowed, and ``ConfigurationError`` where the
    file cannot be read or written.
    """
    for name, value in changes.items():
        if name not in CHANGEABLE:
            raise InvalidInputError("settings", f"{name[:60]} cannot be changed here. Nothing was saved.")
        if value is not None:
            try:
                config.parsed(name, value)
            except (TypeError, ValueError) as error:
                raise InvalidInputError(name, f"{error}. Nothing was saved.") from error
    with _writing:
        stored = {**config.stored(directory), **changes}
        _replace(directory, {name: value for name, value in stored.items() if value is not None})


def _replace(directory: Path, stored: Mapping[str, Any]) -> None:
    part = directory / f".{CONFIG_FILE}.{uuid.uuid4().hex}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(part, json.dumps(stored, indent=2).encode() + b"\n")
        os.replace(part, directory / CONFIG_FILE)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise ConfigurationError(f"The settings were not saved: {error.strerror}.") from error
