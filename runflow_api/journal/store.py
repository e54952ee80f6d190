"""Where a journal is, and how it is opened: private to the user, up to date, one writer at a time."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from .errors import BUSY_S, LOCKED, JournalError, translate_errors
from .migrations import migrate, require_known
from .schema import SALT_ROW
from .spool import private_file, private_folder

FILE_NAME, SPOOL_FOLDER = "journal.sqlite3", "spool"


WAL_RETRY_S = MIGRATION_RETRY_S = 0.05


INSERT_ATTEMPTS = 3
"""Where a database has no lock for us, two inserts may collide: the loser looks again."""


_WRITES = "runflow_writes"


class Store:
    """An open database: transactions that read, and transactions that write one after the other.

    ``where`` is what a person knows it by, ``salt`` is the journal's own.
    """

    def __init__(self, engine: sa.Engine, where: str) -> None:
        self.where = where
        self.engine = engine
        self.salt = _salt(engine)
        self._writer = engine.execution_options(**{_WRITES: True})
        self._closed = False
        # SQLite lets one writer in, and others poll: within a process a lock is fairer and faster.
        self.write_lock = threading.Lock() if engine.dialect.name == "sqlite" else None

    def close(self) -> None:
        self._closed = True
        with suppress(SQLAlchemyError):
            self.engine.pool.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        self._require_open()
        try:
            with self.engine.begin() as connection:
                yield connection
        finally:
            self.dispose_if_closed()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that holds the database's write lock from its first moment."""
        self._require_open()
        try:
            with self.locked(), self._writer.begin() as connection:
                yield connection
        finally:
            self.dispose_if_closed()

    @contextmanager
    def locked(self) -> Iterator[None]:
        if self.write_lock is None:
            yield
        elif self.write_lock.acquire(timeout=BUSY_S):
            try:
                yield
            finally:
                self.write_lock.release()
        else:
            raise JournalError(f"The journal ({self.where}) cannot be used: {LOCKED}")

    def _require_open(self) -> None:
        if self._closed:
            raise JournalError(f"The journal ({self.where}) is closed. Nothing was written.")

    def dispose_if_closed(self) -> None:
        if self._closed:  # closed while this thread was inside: nobody else will close its connection
            self.engine.pool.dispose()


def open_store(url: str | None, directory: Path) -> tuple[Store, Path]:
    """The database at ``url`` or in ``directory``, its schema up to date, and the folder of the spool; both private."""
    location = _location(url, directory)
    where = _named(location)
    with translate_errors(where):
        file = _sqlite_file(location)
        if file is not None:
            _create_private(file)
        engine = _engine(location)
        try:
            spool = _prepared(engine, file, directory)
            return Store(engine, where), spool
        except BaseException:
            engine.dispose()
            raise


def store_in_memory() -> Store:
    with translate_errors("memory"):
        # One connection, because each has a database of its own; whoever comes second waits for it.
        engine = _sqlite_engine(sa.URL.create("sqlite"), poolclass=sa.QueuePool, pool_size=1, max_overflow=0)
        _migrate(engine)
        return Store(engine, "memory")


def lock(connection: sa.Connection) -> None:
    """Keep other writers out until this transaction ends. On SQLite BEGIN IMMEDIATE has done so already."""
    connection.execute(SALT_ROW.with_for_update())


# --- opening --------------------------------------------------------------------------------------


def _location(url: str | None, directory: Path) -> sa.URL:
    if not url:
        return sa.URL.create("sqlite", database=str(directory / FILE_NAME))
    try:
        location = sa.make_url(url)
    except (ArgumentError, ValueError):
        # Without its cause, which may quote the URL and so its password.
        raise JournalError(
            "RUNFLOW_JOURNAL_URL is no database URL. Write it like postgresql+psycopg://user:password@host/name, "
            "or leave it out to keep the journal in a file."
        ) from None
    if location.get_backend_name() == "sqlite" and location.database in (None, "", ":memory:"):
        raise JournalError("RUNFLOW_JOURNAL_URL names a database in memory, which survives nothing. Name a file.")
    return location


def _named(location: sa.URL) -> str:
    """What a person knows the journal by; no user name, password or option of a URL."""
    if location.get_backend_name() == "sqlite":
        return str(location.database)
    return f"{location.get_backend_name()} database {location.database} on {location.host or 'this machine'}"


def _sqlite_file(location: sa.URL) -> Path | None:
    if location.get_backend_name() != "sqlite" or str(location.database).startswith("file:"):
        return None
    return Path(str(location.database))


def _create_private(file: Path) -> None:
    """Made before SQLite would make it: -wal and -shm take the file's own rights."""
    private_folder(file.parent)
    with suppress(FileExistsError):
        private_file(file).close()


def _engine(location: sa.URL) -> sa.Engine:
    if location.get_backend_name() != "sqlite":
        return sa.create_engine(location, hide_parameters=True, pool_pre_ping=True)
    return _sqlite_engine(location)


def _sqlite_engine(location: sa.URL, **options: Any) -> sa.Engine:
    # Autocommit in the driver, so that "begin" is ours to write: the driver's own comes with the first write.
    arguments = {"timeout": BUSY_S, "check_same_thread": False, "isolation_level": None}
    engine = sa.create_engine(location, hide_parameters=True, connect_args=arguments, **options)
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _: object) -> None:
    # FULL: with NORMAL a commit survives a killed process, but not a driver that takes the machine down with it.
    connection.execute("PRAGMA synchronous=FULL").close()


def _on_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepared(engine: sa.Engine, file: Path | None, directory: Path) -> Path:
    """Refuse what is newer before anything is touched, then make the journal usable; the spool's folder."""
    with engine.begin() as connection:
        require_known(connection)
    if file is not None:
        with suppress(OSError):
            file.chmod(0o600)
    if engine.dialect.name == "sqlite":
        _use_wal(engine)
    _migrate(engine)
    return private_folder(private_folder(directory) / SPOOL_FOLDER)


def _migrate(engine: sa.Engine) -> None:
    """Another process may be at it: where the database has no lock for that, look again."""
    for attempt in range(INSERT_ATTEMPTS):
        try:
            with engine.execution_options(**{_WRITES: True}).begin() as connection:
                return migrate(connection)
        except SQLAlchemyError:
            if engine.dialect.name == "sqlite" or attempt == INSERT_ATTEMPTS - 1:
                raise
            time.sleep(MIGRATION_RETRY_S)


def _use_wal(engine: sa.Engine) -> None:
    """Readers and the writer go on beside each other. SQLite does not wait for this lock by itself, so we do.

    Where the file system cannot (some network drives) the journal works without.
    """
    deadline = time.monotonic() + BUSY_S
    pooled = engine.raw_connection()
    connection: Any = pooled.driver_connection
    try:
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode=WAL").fetchone()
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(WAL_RETRY_S)
    finally:
        pooled.close()


def _salt(engine: sa.Engine) -> bytes:
    with engine.begin() as connection:
        return bytes.fromhex(connection.scalar(SALT_ROW) or "")
