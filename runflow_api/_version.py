"""Which version this is. Only ``pyproject.toml`` says it, because the registry and ComfyUI-Manager read it there."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

PROJECT = "runflow-evaluate"
PYPROJECT = Path(__file__).absolute().parent.parent / "pyproject.toml"


def version(pyproject: Path = PYPROJECT) -> str:
    """The version beside this package, in a clone or in ``custom_nodes``; otherwise that of what pip installed.

    Without ``tomllib``, which Python 3.10 does not have. Raises ``PackageNotFoundError`` if there is neither.
    """
    if pyproject.is_file():
        found = re.search(rf'^name = "{PROJECT}"\nversion = "(.+)"$', pyproject.read_text("utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return metadata.version(PROJECT)


VERSION = version()
