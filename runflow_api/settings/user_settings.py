"""The settings a person may change from ComfyUI's settings page: ``config.json``, written whole and privately.

Neither the base URL, nor the journal, nor who may change settings is among them: a web page cannot choose where
the key goes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from .._files import private_folder, replace_private, rights_trouble
from ..errors import ConfigurationError, InvalidInputError
from . import config
from .config import CONFIG_FILE, Config

CHANGEABLE = (
    "max_evaluations_per_prompt",
    "max_evaluations_per_day",
    "max_credits_per_day",
    "concurrency",
    "retention_days",
    "retention_evaluations",
    "keep_prompts",
    "keep_thumbnails",
    "collect_at_start",
)
_writing = threading.Lock()


def changeable(current: Config) -> list[dict[str, Any]]:
    """Every changeable setting: its value, its default, where it came from, and whether a change would count.

    What the environment sets wins over the file, so changing it here would do nothing.
    """
    return [
        {
            "name": name,
            "value": _plain(getattr(current, name)),
            "default": _plain(Config.model_fields[name].default),
            "source": current.sources.get(name, "default"),
            "fixed": current.sources.get(name, "").startswith("environment"),
        }
        for name in CHANGEABLE
    ]


def change(directory: Path, changes: Mapping[str, Any]) -> None:
    """Store the changes; ``None`` goes back to the default. All of them, or, with an error, none.

    Raises ``InvalidInputError`` for a name or value that is not allowed, and ``ConfigurationError`` if the
    file cannot be read or written.
    """
    for name, value in changes.items():
        if name not in CHANGEABLE:
            raise InvalidInputError("settings", f"{name[:60]} cannot be changed here. Nothing was saved.")
        if value is not None:
            try:
                config.parsed(name, value)
            except ValueError as error:
                raise InvalidInputError(name, f"{error}. Nothing was saved.") from error
    with _writing:
        try:
            stored = {**config.stored(directory), **changes}
            kept = {name: _plain(value) for name, value in stored.items() if value is not None}
            replace_private(private_folder(directory) / CONFIG_FILE, json.dumps(kept, indent=2).encode() + b"\n")
        except OSError as error:
            raise ConfigurationError(
                f"The settings were not saved: {rights_trouble(directory, error)}.", code="FOLDER_UNUSABLE"
            ) from error


def _plain(value: Any) -> Any:
    """As JSON has it."""
    return float(value) if isinstance(value, Decimal) else value
