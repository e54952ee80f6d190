"""Where a journal is, and how it is opened: private to the user, up to date, one writer at a time."""

from __future__ import annotations

import functools
import os
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from .._files import private_folder, write_private
from .errors import (
    AGAIN_S,
    BUSY_S,
    LOCKED,
    QUICK_S,
    RIDE_OUT_S,
    JournalError,
    starts_within_s,
    translate_errors,
    translates_errors,
)
from .migrations import MIGRATIONS, migrate, require_known
from .schema import ROWS, SALT_ROW

FILE_NAME, SPOOL_FOLDER = "journal.sqlite3", "spool"
FIRST_ID_IN_MEMORY = 2**40
WAL_RETRY_S = MIGRATION_RETRY_S = 0.05
COLLISION_ATTEMPTS = 3
"""If a database has no lock for us, two that insert or migrate may collide: the loser looks again."""
CONNECTIONS = 4
"""Of one process, whose threads take turns: a transaction takes milliseconds."""
POOL_S = 60.0
CONNECTING = {
    "connect_timeout": 10, "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3,
    "application_name": "runflow-evaluate",
}  # fmt: skip
"""What libpq calls them, in seconds: a server that has gone without a word is noticed in half a minute."""
SESSION = {
    "lock_timeout": f"'{BUSY_S:g}s'", "idle_in_transaction_session_timeout": "'30s'",
    "tcp_keepalives_idle": 15, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3,
}  # fmt: skip
MIGRATION_LOCK = 0x72756E666C6F77
"""The advisory lock of PostgreSQL under which a schema is brought up to date: "runflow"."""

_WRITES, _WAITS = "runflow_writes", "runflow_waits_s"


class Store:
    """An open database: transactions that read, and transactions that write one after the other.

    ``where`` is what a person knows it by, ``salt`` is the journal's own. With ``is_shared`` a server has it, for
    other machines too.
    """

    def __init__(self, engine: sa.Engine, where: str, file: Path | None = None) -> None:
        self.where = where
        self.engine = engine
        self.is_shared = engine.dialect.name != "sqlite"
        self.salt = _salt(engine)
        self._writer = engine.execution_options(**{_WRITES: True, _WAITS: self._waits_s})
        self._is_quick = False
        self._closed = False
        self._file = file
        self._identity = _identity(file)
        # A connection of its own, never used but for this: what was deleted can still be read through it.
        self._anchor = None if file is None else _open_anchor(file)
        # SQLite lets one writer in, and others poll: within a process a lock is fairer and faster.
        self.write_lock = threading.Lock() if engine.dialect.name == "sqlite" else None

    def be_quick(self, is_quick: bool) -> None:
        """Whether to wait only a moment for another process's write or a server: they have just kept us waiting."""
        self._is_quick = is_quick

    @property
    def rides_out_s(self) -> float:
        """How long a call goes on trying while the server that has the journal does not answer."""
        return 0.0 if not self.is_shared else QUICK_S if self._is_quick else RIDE_OUT_S

    def _waits_s(self) -> float:
        """How long a write waits for another one to end."""
        return QUICK_S if self._is_quick else BUSY_S

    def close(self) -> None:
        self._closed = True
        with suppress(SQLAlchemyError):
            self.engine.pool.dispose()
        if self._anchor is not None:
            self._anchor.close()

    @property
    def is_in_place(self) -> bool:
        """Whether the file that was opened is still where others would open it."""
        return self._file is None or _identity(self._file) == self._identity

    @translates_errors
    def put_back(self) -> bool:
        """Put a copy of the deleted file in its place; False if another one is there, or if it is damaged.

        SQLite leaves the files beside a database alone when it is closed after it was moved or deleted.
        """
        if self._file is None or self._anchor is None or self._file.exists():
            return False
        private_folder(self._file.parent)
        part = self._file.with_name(f".{self._file.name}.{uuid.uuid4().hex}")
        write_private(part, b"")
        try:
            if not self._copy_to(part):
                return False
            for beside in ("-wal", "-shm"):  # of the deleted file: it would be taken for the copy's
                self._file.with_name(self._file.name + beside).unlink(missing_ok=True)
            return _put(part, self._file)
        finally:
            part.unlink(missing_ok=True)

    def _copy_to(self, part: Path) -> bool:
        """False where what is still open is damaged; other trouble may pass, and is raised."""
        assert self._anchor is not None
        try:
            with closing(sqlite3.connect(part)) as copy:
                self._anchor.backup(copy)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False
        return True

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
        elif self.write_lock.acquire(timeout=self._waits_s()):
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
    began = time.monotonic()
    while True:
        try:
            return _open(location, where, directory)
        except JournalError as error:
            if time.monotonic() - began >= starts_within_s(error.__cause__):
                raise
        time.sleep(AGAIN_S)


def _open(location: sa.URL, where: str, directory: Path) -> tuple[Store, Path]:
    with translate_errors(where):
        file = _sqlite_file(location)
        if file is not None:
            _create_private(file)
        engine = _engine(location, file)
        try:
            spool = _prepared(engine, file, directory)
            return Store(engine, where, file), spool
        except BaseException:
            engine.dispose()
            raise


def store_in_memory() -> Store:
    with translate_errors("memory"):
        # One connection, because each has a database of its own; whoever comes second waits for it.
        engine = _sqlite_engine(sa.URL.create("sqlite"), poolclass=sa.QueuePool, pool_size=1, max_overflow=0)
        _migrate(engine)
        with engine.begin() as connection:  # ids that no journal in a file gives
            connection.exec_driver_sql(
                "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (ROWS.name, FIRST_ID_IN_MEMORY)
            )
        return Store(engine, "memory")


def lock(connection: sa.Connection) -> None:
    """Keep other writers out until this transaction ends. On SQLite BEGIN IMMEDIATE has done so already."""
    if connection.dialect.name != "sqlite":
        connection.execute(SALT_ROW.with_for_update())


# --- opening --------------------------------------------------------------------------------------


def _location(url: str | None, directory: Path) -> sa.URL:
    if not url:
        return sa.URL.create("sqlite", database=str(directory / FILE_NAME))
    try:
        location = sa.make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url))
    except (ArgumentError, ValueError):
        # Without its cause, which may quote the URL and so its password.
        raise JournalError(
            "RUNFLOW_JOURNAL_URL is not a database URL. Write it like postgresql+psycopg://user:password@host/name, "
            "or leave it out to keep the journal in a file."
        ) from None
    if location.get_backend_name() == "sqlite" and location.database in (None, "", ":memory:"):
        raise JournalError(
            "RUNFLOW_JOURNAL_URL names a database in memory, which is lost when ComfyUI ends. Name a file."
        )
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
    """Made before SQLite would make it: -wal and -shm get the same rights as the file."""
    private_folder(file.parent)
    with suppress(FileExistsError):
        write_private(file, b"")


def _engine(location: sa.URL, file: Path | None) -> sa.Engine:
    if location.get_backend_name() != "sqlite":
        return _server_engine(location)
    if file is None or location.query or os.name == "nt":  # Windows deletes no file that is open
        return _sqlite_engine(location)
    return _sqlite_engine(location, creator=functools.partial(_connect, file.absolute(), _identity(file)))


def _server_engine(location: sa.URL) -> sa.Engine:
    """Few connections: a hundred is what PostgreSQL has for all machines together, unless told otherwise."""
    pool = {"pool_size": CONNECTIONS, "max_overflow": 0, "pool_timeout": POOL_S}
    if location.get_driver_name() not in ("psycopg", "psycopg2"):
        return sa.create_engine(location, hide_parameters=True, pool_pre_ping=True, **pool)
    connecting = {name: value for name, value in CONNECTING.items() if name not in location.query}
    engine = sa.create_engine(location, hide_parameters=True, connect_args=connecting, **pool)
    sa.event.listen(engine, "connect", _on_server_connect)
    return engine


def _on_server_connect(connection: Any, _: object) -> None:
    """The server lets go of what a machine held that has lost its power or its network."""
    cursor = connection.cursor()
    cursor.execute("; ".join(f"SET {name} = {value}" for name, value in SESSION.items()))
    cursor.close()
    connection.commit()


def _connect(file: Path, identity: tuple[int, int] | None) -> sqlite3.Connection:
    """A connection to this file and to no other of its name: there its rows' ids would mean other rows.

    It is not made again if it was deleted.
    """
    connection = sqlite3.connect(
        f"{file.as_uri()}?mode=rw", uri=True, timeout=BUSY_S, check_same_thread=False, isolation_level=None
    )
    if _identity(file) != identity:
        connection.close()
        raise sqlite3.OperationalError("unable to open: the file was replaced by another one")
    return connection


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
    connection.text_factory = _readable


def _readable(text: bytes) -> str:
    """A damaged text must not end the query."""
    return text.decode("utf-8", "replace")


def _identity(file: Path | None) -> tuple[int, int] | None:
    """What tells a file from another one of the same name; ``None`` if there is none."""
    try:
        found = None if file is None else file.stat()
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _put(part: Path, file: Path) -> bool:
    """Give ``part`` the name of ``file``, unless another process was faster."""
    try:
        os.link(part, file)
    except FileExistsError:
        return False
    except OSError:  # no hard links here, as on FAT: there is a moment left in which another could be lost
        if file.exists():
            return False
        part.rename(file)
    return True


def _open_anchor(file: Path) -> sqlite3.Connection:
    anchor = sqlite3.connect(file, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
    anchor.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()  # opened on first use
    return anchor


def _on_begin(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if options.get(_WRITES):
        waits_s = options[_WAITS]() if _WAITS in options else BUSY_S
        if connection.info.get(_WAITS) != waits_s:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {waits_s * 1000:.0f}")
            connection.info[_WAITS] = waits_s
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")


def _prepared(engine: sa.Engine, file: Path | None, directory: Path) -> Path:
    """Refuse what is newer before anything is touched, then make the journal usable. Returns the spool's folder."""
    with engine.begin() as connection:
        is_current = require_known(connection) == len(MIGRATIONS)
    if file is not None:
        with suppress(OSError):
            file.chmod(0o600)
    if engine.dialect.name == "sqlite":
        _use_wal(engine)
    if not is_current:
        _migrate(engine)
    return private_folder(private_folder(directory) / SPOOL_FOLDER)


def _migrate(engine: sa.Engine) -> None:
    """Another process may be migrating, too: if the database has no lock for that, look again."""
    for attempt in range(COLLISION_ATTEMPTS):
        try:
            with engine.execution_options(**{_WRITES: True}).begin() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                return migrate(connection)
        except SQLAlchemyError:
            if engine.dialect.name == "sqlite" or attempt == COLLISION_ATTEMPTS - 1:
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
