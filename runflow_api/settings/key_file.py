"""The file that holds the API key: written so that nobody else can read it, not even for a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .._files import private_folder, read_text, replace_private, rights_trouble
from ..errors import ConfigurationError, InvalidInputError
from .config import KEY_FILE, is_sendable
from .locations import command_line

OFFICIAL_SETTINGS = Path("default", "comfy.settings.json")
OFFICIAL_SETTING = "Runflow.ApiKey"
"""Below ComfyUI's user directory. Runflow's deploy pack for ComfyUI keeps its key there: a setting of the frontend,
readable by every page."""
MAX_KEY_CHARACTERS = 512


def store(directory: Path, key: str) -> Path:
    """Keep ``key`` in ``directory`` (made 0700 if it is missing), replacing the one before at once.

    Raises ``InvalidInputError`` for what cannot be a key, and ``ConfigurationError`` if the file cannot be
    written; neither quotes it.
    """
    key = checked(key)
    target = directory / KEY_FILE
    try:
        replace_private(private_folder(directory) / KEY_FILE, key.encode("ascii") + b"\n")
    except OSError as error:
        raise ConfigurationError(
            f"The key was not saved: {rights_trouble(directory, error)}.", code="FOLDER_UNUSABLE"
        ) from error
    return target


def remove(directory: Path) -> bool:
    """Delete the key file; whether there was one."""
    try:
        (directory / KEY_FILE).unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigurationError(
            f"The key file was not removed: {rights_trouble(directory, error)}.", code="FOLDER_UNUSABLE"
        ) from error
    return True


def official_settings(users: Path) -> Path:
    """The settings file with the deploy pack's key, below ComfyUI's user directory ``users``.

    With ``--multi-user`` each user has one. Raises ``ConfigurationError`` if several of them have different keys.
    """
    usual = users / OFFICIAL_SETTINGS
    others = [each for each in sorted(users.glob(f"*/{usual.name}")) if not each.parent.name.startswith("__")]
    found = {each: setting(each, OFFICIAL_SETTING) for each in (usual, *others)}
    with_key = {each: key for each, key in found.items() if isinstance(key, str) and key.strip()}
    if len(set(with_key.values())) > 1:
        names = ", ".join(each.parent.name for each in with_key)
        raise ConfigurationError(
            f"Several users of that ComfyUI have a key: {names}. Nothing was imported. "
            f"Set yours with: {command_line()} key set",
            code="NO_KEY_TO_IMPORT",
        )
    return next(iter(with_key), usual)


def official(path: Path) -> str:
    """The key that Runflow's deploy pack stored in ComfyUI's settings file. It is only copied, never moved.

    Raises ``ConfigurationError`` if there is none.
    """
    try:
        key = _settings(path).get(OFFICIAL_SETTING)
    except (FileNotFoundError, NotADirectoryError):
        key = None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read ({type(error).__name__}). Nothing was imported.") from error
    if not isinstance(key, str) or not key.strip():
        raise ConfigurationError(
            f"{path} does not contain the setting {OFFICIAL_SETTING}. Nothing was imported. "
            f"Set your key with: {command_line()} key set",
            code="NO_KEY_TO_IMPORT",
        )
    return checked(key)


def setting(path: Path, name: str) -> object:
    """A setting in ComfyUI's settings file, by its id; ``None`` if it was never changed or cannot be read."""
    try:
        return _settings(path).get(name)
    except (OSError, ValueError, RecursionError):
        return None


def _settings(path: Path) -> dict[str, Any]:
    settings = json.loads(read_text(path))
    return settings if isinstance(settings, dict) else {}


def checked(key: str) -> str:
    """``key`` without the blanks, or a byte order mark, around it. Raises ``InvalidInputError``, without quoting it."""
    key = key.strip("\ufeff \t\r\n")
    if not key:
        raise InvalidInputError("key", "is empty. Nothing was saved.")
    if not is_sendable(key) or len(key) > MAX_KEY_CHARACTERS:
        raise InvalidInputError("key", "contains characters that keys do not have, or is too long. Copy it again.")
    return key
