"""Where the bodies are that were sent, or are about to be, until Runflow has given an id."""

from __future__ import annotations

import errno
import hashlib
import time
import uuid
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Protocol

import sqlalchemy as sa

from .._files import private_folder, write_private
from .schema import BODIES, chunks
from .store import Store

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
ORPHAN_S = 3_600
"""An unreferenced spool file older than this belongs to no write under way."""


class Spool(Protocol):
    """Where bodies are kept, by the names that rows hold; a name ends with the digest of its body."""

    def write(self, name: str, body: bytes) -> None:
        """Before the transaction that gives a row this name."""
        ...

    def attach(self, connection: sa.Connection, bodies: Sequence[tuple[str, bytes]]) -> None:
        """In that transaction: names and bodies."""
        ...

    def read(self, name: str | None) -> bytes | None:
        """``None`` if it is not here, or is damaged."""
        ...

    def detach(self, connection: sa.Connection, names: Sequence[str]) -> None:
        """In the transaction after which no row has these names."""
        ...

    def remove(self, name: str) -> None:
        """After it."""
        ...

    def prune(self, referenced: Container[str | None]) -> None: ...


class _OutsideTheDatabase:
    """What is kept elsewhere takes no part in transactions."""

    def attach(self, connection: sa.Connection, bodies: Sequence[tuple[str, bytes]]) -> None:
        """Written already."""

    def detach(self, connection: sa.Connection, names: Sequence[str]) -> None:
        """Removed after the commit."""


class SpoolFolder(_OutsideTheDatabase):
    """One private file per body."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, name: str) -> Path:
        return self._folder / PurePath(name).name  # whatever a shared database says, it stays in the folder

    def write(self, name: str, body: bytes) -> None:
        """A new file that is whole and on the disk before anybody can know its name."""
        try:
            private_folder(self._folder)  # it may have been deleted meanwhile
            write_private(self._file(name), body)
        except BaseException:
            self.remove(name)
            raise

    def read(self, name: str | None) -> bytes | None:
        if name is None:
            return None
        try:
            body = self._file(name).read_bytes()
        except FileNotFoundError:
            return None
        return body if is_name_of(name, body) else None

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


class SpoolTable:
    """One row per body, in the database that several machines share: any of them can send again what another one lost.

    ``folder`` has what was fixed on this machine before bodies were kept so.
    """

    def __init__(self, store: Store, folder: SpoolFolder) -> None:
        self._store = store
        self._folder = folder

    def write(self, name: str, body: bytes) -> None:
        """It goes into the database together with its name."""

    def attach(self, connection: sa.Connection, bodies: Sequence[tuple[str, bytes]]) -> None:
        if bodies:
            now = time.time()
            connection.execute(
                BODIES.insert(), [{"name": name, "body": body, "created_at": now} for name, body in bodies]
            )

    def read(self, name: str | None) -> bytes | None:
        if name is None:
            return None
        with self._store.reading() as connection:
            body = connection.scalar(sa.select(BODIES.c.body).where(BODIES.c.name == name))
        return body if body is not None and is_name_of(name, body) else self._folder.read(name)

    def detach(self, connection: sa.Connection, names: Sequence[str]) -> None:
        if names:
            connection.execute(BODIES.delete().where(BODIES.c.name.in_(names)))

    def remove(self, name: str) -> None:
        self._folder.remove(name)

    def prune(self, referenced: Container[str | None]) -> None:
        self._folder.prune(referenced)
        old = sa.select(BODIES.c.name).where(BODIES.c.created_at < time.time() - ORPHAN_S)
        with self._store.reading() as connection:
            orphans = [name for name in connection.scalars(old) if name not in referenced]
        for chunk in chunks(orphans):
            with self._store.writing() as connection:
                self.detach(connection, chunk)


class SpoolInMemory(_OutsideTheDatabase):
    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}
        self._written: dict[str, float] = {}

    def write(self, name: str, body: bytes) -> None:
        self._written[name] = time.monotonic()
        self._bodies[name] = body

    def read(self, name: str | None) -> bytes | None:
        return self._bodies.get(name or "")

    def remove(self, name: str) -> None:
        self._bodies.pop(name, None)
        self._written.pop(name, None)

    def prune(self, referenced: Container[str | None]) -> None:
        old = time.monotonic() - ORPHAN_S
        for name in [name for name, at in list(self._written.items()) if at < old and name not in referenced]:
            self.remove(name)


@contextmanager
def ignored_where_full() -> Iterator[None]:
    """A disk without room for a body is not a reason to send nothing."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise


def name_for(row_id: int, body: bytes) -> str:
    """A name that no other body has; it ends with the digest of this one."""
    return f"{row_id}-{uuid.uuid4().hex}-{_digest(body)}.body"


def is_name_of(name: str, body: bytes) -> bool:
    """Whether ``body`` is what was kept under ``name``."""
    return PurePath(name).stem.endswith(f"-{_digest(body)}")


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
