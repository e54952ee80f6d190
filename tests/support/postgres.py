"""A real PostgreSQL of its own, for tests and benchmarks: started where its programs are found, and ended with this
process."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from .process import free_port

NOT_HERE = "there is no PostgreSQL here (Debian, Ubuntu: apt install postgresql)"
USER = "postgres"
START_S = "60"
SETTINGS = {"fsync": "on", "max_connections": "100"}


@functools.cache
def programs() -> Path | None:
    """The folder of initdb and pg_ctl, the newest version's; ``None`` if there is none."""
    if os.name == "nt":
        return None
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Postgres:
    """One server on 127.0.0.1 that trusts everybody there; PostgreSQL does not run as root, so root lends it a user."""

    def __init__(self) -> None:
        found = programs()
        assert found is not None, NOT_HERE
        self._programs = found
        self._folder = Path(tempfile.mkdtemp(prefix="runflow-postgres-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self._folder, USER, USER)
            self._as = {"user": USER, "group": USER, "extra_groups": []}
        self._databases = 0
        atexit.register(self.remove)
        self._run("initdb", "-D", self._data, "--auth=trust", "--username=tests", "--no-sync", "--encoding=UTF8")
        with free_port() as self.port:
            self.start()

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        # What it starts goes on in the background: its output is a file, because a pipe would never end.
        with (self._folder / "output").open("ab") as output:
            subprocess.run(command, cwd=self._folder, stdout=output, stderr=output, check=True, **self._as)

    def start(self) -> None:
        options = {**SETTINGS, "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self._folder)}
        said = " ".join([f"-p {self.port}", *(f"-c {name}={value}" for name, value in options.items())])
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-t", START_S, "-o", said, "start")

    def stop(self, mode: str = "fast") -> None:
        """``fast`` ends every connection, ``immediate`` is a crash, after which it recovers."""
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    def remove(self) -> None:
        pid = Path(self._data, "postmaster.pid")
        if pid.exists():
            os.kill(int(pid.read_text().split()[0]), signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_database(self) -> str:
        """The URL of an empty one."""
        self._databases += 1
        name = f"journal_{self._databases}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://tests@127.0.0.1:{self.port}/{database}"

    def address(self, database: str) -> str:
        """As psycopg itself takes it."""
        return self.url(database).replace("+psycopg", "")


@functools.cache
def running() -> Postgres:
    """The server of this process, started on first use."""
    return Postgres()
