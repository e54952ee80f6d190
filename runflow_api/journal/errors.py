"""What can go wrong with the journal, in words that a person can act on."""

from __future__ import annotations

import errno
import functools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from ..errors import RunflowError
from .migrations import NewerSchemaError

P = ParamSpec("P")
T = TypeVar("T")

BUSY_S = 10.0
"""How long a call waits for another process's write. Writes take milliseconds; a disk may stall for seconds."""


QUICK_S = 1.0
"""So long it waits after such a wait was in vain."""


class JournalError(RunflowError):
    """The journal cannot be read or written; the text says why and what to do, and holds no secret."""

    code = "JOURNAL_UNUSABLE"


def limits_not_known(error: JournalError) -> JournalError:
    """Why nothing is sent while the journal cannot be used."""
    return JournalError(
        f"{error.message} You have set a limit per day or in credits, and what was spent today cannot be known without "
        "the journal. Nothing was sent and nothing was paid."
    )


LOCKED = f"another process has kept it locked for {BUSY_S:g} s. Close the other program, and run again."
_RIGHTS = "it cannot be read or written. Check the rights of the file and of its folder."
_FULL = "the disk is full. Make room, and run again."
_DAMAGED = "it is damaged. Move it away to start a new one; what was paid before is then not known."

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
    ("no module named", "the driver of its database is not installed. Install it into ComfyUI's Python."),
    ("connection", "its database server does not answer. Check that it runs and can be reached from here."),
    ("no such table", "its tables are missing. Restart ComfyUI to have them made."),
)
"""SQLite's own words, and Python's for a driver that is not there."""
_BELOW = (SQLAlchemyError, sqlite3.Error, OSError, ImportError, ValueError, OverflowError, RecursionError, MemoryError)


class Named(Protocol):
    """What has a journal behind it that a person knows by this name."""

    where: str


N = TypeVar("N", bound=Named)


def translates_errors(method: Callable[Concatenate[N, P], T]) -> Callable[Concatenate[N, P], T]:
    """Turn whatever goes wrong below into a ``JournalError`` that a person can act on."""

    @functools.wraps(method)
    def translating(self: N, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with translate_errors(self.where):
            return method(self, *args, **kwargs)

    return translating


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
    else:
        text = str(getattr(error, "orig", None) or error).lower()
        remedy = next((remedy for sign, remedy in _BY_TEXT if sign in text), None)
    return JournalError(
        f"The journal ({where}) cannot be used: {remedy or f'{type(error).__name__}. Check it, and run again.'}"
    )
