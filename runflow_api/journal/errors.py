"""What can go wrong with the journal, in words that a person can act on."""

from __future__ import annotations

import concurrent.futures
import errno
import functools
import math
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from .. import background
from ..errors import RunflowError
from .migrations import NewerSchemaError

P = ParamSpec("P")
T = TypeVar("T")

BUSY_S = 10.0
"""How long a call waits for another process's write. Writes take milliseconds; a disk may stall for seconds."""


QUICK_S = 1.0
"""How long it waits after such a wait was in vain."""


RIDE_OUT_S = 120.0
"""How long a call goes on trying while a database server is restarted, or cannot be reached."""
LOOK_S = 5.0
"""How long it is tried if somebody only looks back, and waits for a page or a line that says what is the matter."""
LOOK_ANSWERED_S = 30.0
"""How long a server may take that was reached: it may be adding up millions of rows, or be frozen."""
AGAIN_S = 0.25
ABSENT_S = 3.0
"""How long a server is waited for that was not there when the journal was opened."""


class JournalError(RunflowError):
    """The journal cannot be read or written; the text says why and what to do, and holds no secret."""

    code = "JOURNAL_UNUSABLE"


def nothing_sent(error: JournalError, *, is_shared: bool) -> JournalError:
    """Why nothing is sent while the journal cannot be used: others share it, or the person has set a limit."""
    why = (
        "Other machines share it, and what they have asked and paid cannot be known without it."
        if is_shared
        else "You have set a limit per day or in credits, and what was spent today cannot be known without the journal."
    )
    return JournalError(f"{error.message} {why} Nothing was sent and nothing was paid.")


def tried_again(error: JournalError, *, is_needed: bool, is_shared: bool) -> str:
    """What happens while the journal cannot be used: without one that is needed nothing new is paid."""
    why = "other machines share it" if is_shared else "you have set a limit"
    meanwhile = (
        f"{why}, so nothing new is paid until it can be used again"
        if is_needed
        else "it is not known what was paid before; new verdicts are kept in memory until it can be used again"
    )
    return f"{error} It is tried again at every evaluation; {meanwhile}."


LOCKED = (
    f"another program has kept it locked for {BUSY_S:g} s, or its disk is very slow. Close that program, and run again."
)
_RIGHTS = "it cannot be read or written. Check the rights of the file and of its folder."
_FULL = "the disk is full. Make room, and run again."
_DAMAGED = "it is damaged. Move it away to start a new one; what was paid before is then not known."

_STARTING = ("starting up", "shutting down", "recovery mode", "not yet accepting")
_DRIVER = (
    'the driver for PostgreSQL is not installed. Install the extra: pip install "runflow-evaluate[postgresql]", or '
    'pip install "psycopg[binary]", with the Python that runs this.'
)

_BY_ERRNO = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _RIGHTS),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
}
"""Files: their text is in the person's language."""
_BY_TEXT = (
    ("locked", LOCKED),
    ("readonly", _RIGHTS),
    ("unable to open", "it cannot be opened. Check that its folder exists, and the rights of both."),
    ("full", _FULL),
    (
        "disk i/o error",
        "its disk cannot be written to at the moment. Check the disk and the room on it, and run again.",
    ),
    ("not a database", _DAMAGED),
    ("malformed", _DAMAGED),
    ("no pq wrapper", _DRIVER),
    ("no module named", "the driver of its database is not installed. Install it into ComfyUI's Python."),
    ("no space left", _FULL),
    ("lock timeout", LOCKED),
    ("password authentication", "its database server refuses this user name and password. Check RUNFLOW_JOURNAL_URL."),
    ("permission denied", "its database does not let this user read and write there. Grant it the rights."),
    ("too many clients", "its database server has no connection left. Raise max_connections, or run fewer processes."),
    ("connection slots", "its database server has no connection left. Raise max_connections, or run fewer processes."),
    ("does not exist", "there is no such database or table. Create the database, and check RUNFLOW_JOURNAL_URL."),
    *((sign, "its database server is just starting. Run again in a moment.") for sign in _STARTING),
    ("connection", "its database server does not answer. Check that it runs and can be reached from here."),
    ("no such table", "its tables are missing. Restart ComfyUI to have them made."),
)
"""SQLite's own words, and Python's for a driver that is not there."""
_BELOW = (SQLAlchemyError, sqlite3.Error, OSError, ImportError, ValueError, OverflowError, RecursionError, MemoryError)


class Named(Protocol):
    """What has a journal behind it that a person knows by this name, and that may be away for so long."""

    where: str

    @property
    def rides_out_s(self) -> float: ...


N = TypeVar("N", bound=Named)


def translates_errors(method: Callable[Concatenate[N, P], T]) -> Callable[Concatenate[N, P], T]:
    """Turn whatever goes wrong below into a ``JournalError`` that a person can act on.

    A server that has gone is waited for, for ``rides_out_s``, and ``method`` called again: it must be one that can be,
    also if what it did before was kept.
    """

    @functools.wraps(method)
    def translating(self: N, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return _riding_out(functools.partial(method, self, *args, **kwargs), self, math.inf)

    return translating


def looks_back(method: Callable[Concatenate[N, P], T]) -> Callable[Concatenate[N, P], T]:
    """``translates_errors`` for what only looks: it never waits long for a server, whatever that does."""

    @functools.wraps(method)
    def looking(self: N, /, *args: P.args, **kwargs: P.kwargs) -> T:
        looks = functools.partial(method, self, *args, **kwargs)
        if not self.rides_out_s:  # a file
            return _riding_out(looks, self, 0.0)
        return answered(self.where, _riding_out, looks, self, LOOK_S)

    return looking


def _riding_out(call: Callable[[], T], journal: Named, at_most_s: float) -> T:
    began = time.monotonic()
    while True:
        try:
            with translate_errors(journal.where):
                return call()
        except JournalError as error:
            waits_s = min(journal.rides_out_s, at_most_s)
            if not may_pass(error.__cause__) or time.monotonic() - began >= waits_s:
                raise
        time.sleep(AGAIN_S * random.uniform(0.5, 1.5))


def answered(where: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``call`` gives, within ``LOOK_ANSWERED_S``: a server may take connections and never answer.

    The call itself is left behind, in a thread that ends with the process.
    """
    try:
        return background.call(call, *args, **kwargs).result(LOOK_ANSWERED_S)
    except concurrent.futures.TimeoutError:
        raise JournalError(
            f"The journal ({where}) cannot be used: its database server has not answered for "
            f"{LOOK_ANSWERED_S:g} s. Check that it runs, and look again."
        ) from None


_PASSING = ("connection", "deadlock", "could not serialize", *_STARTING)


def may_pass(error: BaseException | None) -> bool:
    """Whether a database server has gone for a moment, or wants the transaction to be tried again."""
    if not isinstance(error, DBAPIError):
        return False
    is_said = isinstance(error, (OperationalError, InterfaceError)) and not isinstance(error.orig, sqlite3.Error)
    text = str(error.orig).lower()
    refused = any(sign in text for sign in ("password authentication", "connection slots", "does not exist"))
    return error.connection_invalidated or (is_said and not refused and any(sign in text for sign in _PASSING))


def starts_within_s(error: BaseException | None) -> float:
    """How long to wait for a server that cannot be opened yet: one that does not answer at all may not be there."""
    if not may_pass(error):
        return 0.0
    is_starting = any(sign in str(getattr(error, "orig", "")).lower() for sign in _STARTING)
    return RIDE_OUT_S if is_starting else ABSENT_S


@contextmanager
def translate_errors(where: str) -> Iterator[None]:
    try:
        yield
    except RunflowError:
        raise
    except NewerSchemaError as error:
        raise JournalError(
            f"The journal ({where}) was written by a newer version of this pack (schema {error.found}, known here "
            f"{error.known}). Update the pack. Nothing in it was changed."
        ) from error
    except _BELOW as error:
        raise to_journal_error(error, where) from error


def to_journal_error(error: BaseException, where: str) -> JournalError:
    """What fits, in our own words: a driver may put anything into its text."""
    if isinstance(error, OSError):
        remedy = _BY_ERRNO.get(error.errno or 0)
    elif isinstance(error, ImportError) and str(error.name).startswith("psycopg"):
        remedy = _DRIVER
    else:
        text = str(getattr(error, "orig", None) or error).lower()
        remedy = next((remedy for sign, remedy in _BY_TEXT if sign in text), None)
    return JournalError(
        f"The journal ({where}) cannot be used: {remedy or f'{type(error).__name__}. Check it, and run again.'}"
    )
