"""Where the bodies are that were sent, or are about to be, until Runflow has given an id."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Container
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, Protocol

ORPHAN_S = 3_600
"""An unreferenced spool file older than this belongs to no write under way."""


class Spool(Protocol):
    """Where bodies are kept, by the names that rows hold; a name ends with the digest of its body."""

    def write(self, row_id: int, body: bytes) -> str: ...

    def read(self, name: str | None) -> bytes | None: ...

    def remove(self, name: str) -> None: ...

    def prune(self, referenced: Container[str | None]) -> None: ...


class SpoolFolder:
    """One private file per body."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, name: str) -> Path:
        return self._folder / PurePath(name).name  # whatever a shared database says, it stays in the folder

    def write(self, row_id: int, body: bytes) -> str:
        """A new file that is whole and on the disk before anybody can know its name."""
        name = _new_name(row_id, body)
        try:
            with private_file(self._file(name)) as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            self.remove(name)
            raise
        return name

    def read(self, name: str | None) -> bytes | None:
        if name is None:
            return None
        try:
            return self._file(name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Windows keeps a file that somebody is reading; ``prune`` takes it later."""
        with suppress(FileNotFoundError, PermissionError):
            self._file(name).unlink()

    def prune(self, referenced: Container[str | None]) -> None:
        """Take what no row refers to, but not what is just being written and has its row next.

        Its age is by the clock that dates files, whatever the journal's own says.
        """
        for file in list(self._folder.glob("*.body")):
            with suppress(FileNotFoundError, PermissionError):
                if file.name not in referenced and file.stat().st_mtime < time.time() - ORPHAN_S:
                    file.unlink()


class SpoolInMemory:
    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}
        self._written: dict[str, float] = {}

    def write(self, row_id: int, body: bytes) -> str:
        name = _new_name(row_id, body)
        self._written[name] = time.monotonic()
        self._bodies[name] = body
        return name

    def read(self, name: str | None) -> bytes | None:
        return self._bodies.get(name or "")

    def remove(self, name: str) -> None:
        self._bodies.pop(name, None)
        self._written.pop(name, None)

    def prune(self, referenced: Container[str | None]) -> None:
        old = time.monotonic() - ORPHAN_S
        for name in [name for name, at in list(self._written.items()) if at < old and name not in referenced]:
            self.remove(name)


def _new_name(row_id: int, body: bytes) -> str:
    return f"{row_id}-{uuid.uuid4().hex}-{_digest(body)}.body"


def is_name_of(name: str, body: bytes) -> bool:
    """Whether ``body`` is what was kept under ``name``."""
    return PurePath(name).stem.endswith(f"-{_digest(body)}")


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def private_folder(folder: Path) -> Path:
    """``mkdir`` gives the mode to the last folder only, so the one above is made first."""
    if not folder.parent.exists():
        private_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def private_file(path: Path) -> Any:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")
