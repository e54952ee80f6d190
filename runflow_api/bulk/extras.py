"""Packages that only this part of the pack needs, imported when it is used."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import ConfigurationError


def load(module: str, extra: str) -> Any:
    """Import a module of an extra. Raises ``ConfigurationError`` that names the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigurationError(
            f"This needs {package}, which is not installed.",
            code="EXTRA_NOT_INSTALLED",
            cost="Nothing was sent and nothing was paid.",
            advice=f'Install the extra: pip install "runflow-evaluate[{extra}]", with the Python that runs this.',
        ) from error


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec file system of a path or an address (``s3://…``, ``gs://…``, ``file://…``), and the path in it."""
    fsspec = load("fsspec", "bulk")
    try:
        found, inside = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        protocol = path.partition("://")[0]
        raise ConfigurationError(
            f"{protocol}:// cannot be opened: {error}.",
            code="EXTRA_NOT_INSTALLED",
            cost="Nothing was sent and nothing was paid.",
            advice="Install the package of fsspec for it (s3fs for s3, gcsfs for gs).",
        ) from error
    return found, str(inside)
