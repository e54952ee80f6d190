"""The file that holds the API key: written so that nobody else can read it, not even for a moment."""

from __future__ import annotations

import json
import os
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, InvalidInputError
from .config import KEY_FILE, is_sendable

OFFICIAL_SETTINGS = Path("user", "default", "comfy.settings.json")
OFFICIAL_SETTING = "Runflow.ApiKey"
"""Where Runflow's deploy pack for ComfyUI keeps its key: a setting of the frontend, readable by every page."""
MAX_KEY_CHARACTERS = 512
MAX_SETTINGS_BYTES = 16 * 1024 * 1024


def store(directory: Path, key: str) -> Path:
    """Keep ``key`` in ``directory`` (made 0700 where it is missing), replacing the one before at once.

    Raises ``InvalidInputError`` for what cannot be a key, and ``ConfigurationError`` where the file cannot be
    written; neither quotes it.
    """
    key = checked(key)
    target = directory / KEY_FILE
    part = directory / f".{KEY_FILE}.{uuid.uuid4().hex}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(part, key.encode("ascii") + b"\n")
        os.replace(part, target)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise ConfigurationError(f"The key was not saved: {directory} cannot be written ({error.strerror}).") from error
    return target


def remove(directory: Path) -> bool:
    """Delete the key file; whether there was one."""
    try:
        (directory / KEY_FILE).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigurationError(f"The key file was not removed ({error.strerror}).") from error
    return True


def official(path: Path) -> str:
    """The key that Runflow's deploy pack stored in ComfyUI's settings file. It is only copied, never moved.

    Raises ``ConfigurationError`` where there is none.
    """
    try:
        key = _settings(path).get(OFFICIAL_SETTING)
    except FileNotFoundError:
        key = None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read ({type(error).__name__}). Nothing was imported.") from error
    if not isinstance(key, str) or not key.strip():
        raise ConfigurationError(
            f"{path} holds no setting {OFFICIAL_SETTING}. Nothing was imported. "
            "Set your key with: python -m runflow_api key set",
            code="NO_KEY_TO_IMPORT",
        )
    return checked(key)


def setting(path: Path, name: str) -> object:
    """A setting in ComfyUI's settings file, by its id; ``None`` where it was never changed or cannot be read."""
    try:
        return _settings(path).get(name)
    except (OSError, ValueError, RecursionError):
        return None


def _settings(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_SETTINGS_BYTES:
        raise ValueError("too large")
    settings = json.loads(path.read_text("utf-8"))
    return settings if isinstance(settings, dict) else {}


def checked(key: str) -> str:
    """``key`` without the blanks around it. Raises ``InvalidInputError``, without quoting it."""
    key = key.strip()
    if not key:
        raise InvalidInputError("key", "is empty. Nothing was saved.")
    if not is_sendable(key) or len(key) > MAX_KEY_CHARACTERS:
        raise InvalidInputError("key", "holds characters that no key has, or too many. Copy it again.")
    return key


def write_private(path: Path, data: bytes) -> None:
    """A new file that only its owner can read, on the disk when this returns. Raises ``FileExistsError``."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        keep_to_owner(path)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def keep_to_owner(path: Path) -> None:
    """On Windows, where a mode means nothing: an access list with the owner alone, nothing inherited.

    Through the system's own functions, because a started ``icacls`` could be anybody's program of that name. The
    file is still empty when this is called. Elsewhere the mode that the file was made with says it all.
    """
    if sys.platform == "win32":
        import ctypes

        owner_only = "D:P(A;;FA;;;OW)"  # protected; allow: full access: owner rights (SDDL)
        revision, dacl, protected = 1, 0x00000004, 0x80000000
        api, descriptor = ctypes.WinDLL("advapi32", use_last_error=True), ctypes.c_void_p()
        convert = api.ConvertStringSecurityDescriptorToSecurityDescriptorW
        if not convert(ctypes.c_wchar_p(owner_only), revision, ctypes.byref(descriptor), None):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            if not api.SetFileSecurityW(ctypes.c_wchar_p(str(path)), dacl | protected, descriptor):
                raise ctypes.WinError(ctypes.get_last_error())
        finally:
            ctypes.WinDLL("kernel32").LocalFree(descriptor)
