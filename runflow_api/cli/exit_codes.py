"""Exit codes of the command line: a script can tell what happened without reading any text."""

from __future__ import annotations

from ..errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidInputError,
    NeedsKeyError,
    NotFoundError,
    PermissionDeniedError,
    RunflowError,
    ValidationError,
)
from ..journal.journal import JournalError

OK = 0
JUDGED_FAILED = 1
USAGE = 2
NOT_JUDGED = 3
CONFIGURATION = 4
INTERRUPTED = 130
CLOSED_PIPE = 141

MEANINGS = {
    OK: "passed, or done",
    JUDGED_FAILED: "at least one image, or the run, failed",
    USAGE: "wrong usage or input, or a payment that was not confirmed",
    NOT_JUDGED: "not judged: outage, time-out, failed evaluation, refused image, credit or a limit used up",
    CONFIGURATION: "configuration, key or permission; a report or an output that could not be written",
    INTERRUPTED: "interrupted with Ctrl-C; run the same command again to go on",
    CLOSED_PIPE: "the program that read the output (head, less) has closed it",
}


def exit_code(error: RunflowError) -> int:
    """The code of an error that ends a command."""
    if isinstance(error, InvalidInputError | ValidationError | NotFoundError):
        return USAGE
    wrong_setup = ConfigurationError, AuthenticationError, PermissionDeniedError, NeedsKeyError, JournalError
    return CONFIGURATION if isinstance(error, wrong_setup) else NOT_JUDGED
