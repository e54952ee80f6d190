"""Where the command line finds settings and key, and where it keeps its journal.

Settings and key: the private directory of the ComfyUI that ``--comfyui`` names, otherwise of the ComfyUI whose
``custom_nodes`` folder this pack sits in, otherwise the platform's user data directory. The journal: the user data
directory, unless ``--comfyui`` is given; then evaluations of the graph are reused here, and the other way round.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import InvalidInputError
from .config import environment

PRIVATE_FOLDER = "__runflow_evaluate"
"""ComfyUI's ``folder_paths.get_system_user_directory("runflow_evaluate")``: not served over HTTP."""
APPLICATION = "runflow-evaluate"
PACK = Path(__file__).absolute().parent.parent.parent


def command_line() -> str:
    """How this Python starts the command line: an isolated one, as ComfyUI's portable build has it, finds no package
    by its name."""
    if not sys.flags.isolated:
        return "python -m runflow_api"
    return " ".join(f'"{part}"' if " " in part else part for part in (sys.executable, str(PACK / "runflow_api")))


def settings_directory(comfyui: Path | None = None, pack: Path = PACK) -> Path:
    """Where ``config.json`` and the key file are. It need not exist yet."""
    chosen = comfyui or comfyui_of(pack)
    return private_directory(chosen) if chosen else user_data_directory()


def journal_directory(comfyui: Path | None = None) -> Path:
    """Where the journal and its spool are. It need not exist yet."""
    return private_directory(comfyui) if comfyui else user_data_directory()


def comfyui_of(pack: Path = PACK) -> Path | None:
    """The ComfyUI (its base directory) in whose ``custom_nodes`` folder the pack is, if it is in one."""
    base = pack.parent.parent
    return base if pack.parent.name == "custom_nodes" and os.path.isdir(base / "user") else None


def user_directory(comfyui: Path) -> Path:
    """ComfyUI's user directory: ``user`` in its folder, or the folder itself, as ``--user-directory`` may have it.

    Raises ``InvalidInputError`` if ``comfyui`` is not a ComfyUI that has been started once.
    """
    if os.path.isdir(comfyui / "user"):
        return comfyui / "user"
    if any(os.path.isdir(comfyui / name) for name in ("default", PRIVATE_FOLDER)):
        return comfyui
    raise InvalidInputError(
        "--comfyui",
        f"there is no folder “user” in {comfyui}. Give the folder of a ComfyUI that was started at least once, or its "
        "--user-directory.",
    )


def private_directory(comfyui: Path) -> Path:
    """The pack's private folder in that ComfyUI. Raises ``InvalidInputError`` as ``user_directory`` does."""
    return user_directory(comfyui) / PRIVATE_FOLDER


def user_data_directory(
    platform: str = sys.platform, variable: Callable[[str], str] = environment, home: Path | None = None
) -> Path:
    """The platform's place for a program's own data.

    Windows: %LOCALAPPDATA% (known folder LocalAppData). macOS: ~/Library/Application Support (File System
    Programming Guide). Elsewhere: $XDG_DATA_HOME, an absolute path, or ~/.local/share (XDG Base Directory 0.8).
    """
    home = home or Path.home()
    if platform == "win32":
        named, otherwise = variable("LOCALAPPDATA"), home / "AppData" / "Local"
    elif platform == "darwin":
        named, otherwise = "", home / "Library" / "Application Support"
    else:
        named, otherwise = variable("XDG_DATA_HOME"), home / ".local" / "share"
    return (Path(named) if named and Path(named).is_absolute() else otherwise) / APPLICATION
