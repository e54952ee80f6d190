"""Everything that can go wrong, as one tree.

::

    RunflowError
    |-- ConfigurationError        MISSING_API_KEY, INVALID_CONFIGURATION
    |-- InvalidInputError         INVALID_INPUT
    |-- ApiError                  the API answered, and said no
    |   |-- AuthenticationError   401
    |   |-- InsufficientCreditError 402
    |   |-- PermissionDeniedError 403
    |   |-- NotFoundError         404
    |   |-- ConflictError         409
    |   |-- ValidationError       400, 422 and every other 4xx
    |   |-- RateLimitError        429
    |   `-- ServerError           5xx
    |-- NetworkError              CONNECTION_FAILED, TIMEOUT, TLS_FAILED: no answer came
    |-- InvalidResponseError      INVALID_RESPONSE, REDIRECT_REFUSED: an answer that is none of the API's
    |-- NotJudgedError            nobody's verdict
    |   |-- EvaluationTimeoutError  EVALUATION_TIMEOUT
    |   `-- EvaluationFailedError   EVALUATION_FAILED
    |-- BudgetError               BUDGET_EXCEEDED: a limit of yours, nothing was sent
    `-- NeedsKeyError             NEEDS_RUNFLOW_KEY: only Runflow can judge content

    Cancelled                     a person pressed Cancel (a BaseException, like ComfyUI's own)

The text of every ``RunflowError`` begins with its stable code in brackets and then says what happened,
what it cost and what to do. No text contains the API key.
"""

from __future__ import annotations

from collections.abc import Sequence


class RunflowError(Exception):
    """Base of the tree. ``code`` is stable; ``str(error)`` is ``[CODE] text`` for a person."""

    code = "RUNFLOW_ERROR"
    unjudged_indices: tuple[int, ...] | None = None
    """Positions in the batch that have no verdict; ``None`` means all of them."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code:
            self.code = code

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}"


class ConfigurationError(RunflowError):
    """The key, the base URL or another setting is missing or unusable. Nothing was sent."""

    code = "INVALID_CONFIGURATION"


class InvalidInputError(RunflowError):
    """An input breaks a limit; ``field`` is its name. Nothing was sent and nothing was paid."""

    code = "INVALID_INPUT"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class NeedsKeyError(RunflowError):
    """Something asks about the content of an image, which no local check can judge."""

    code = "NEEDS_RUNFLOW_KEY"


class BudgetError(RunflowError):
    """A limit of the person's own refuses the request before it is sent."""

    code = "BUDGET_EXCEEDED"


class ApiError(RunflowError):
    """The API refused.

    ``status`` is the HTTP status, ``code`` the API's code or one derived from the status, ``details`` the
    API's per-field texts, ``attempts`` what each attempt met, oldest first.
    """

    code = "API_ERROR"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        details: Sequence[str] = (),
        attempts: Sequence[str] = (),
    ) -> None:
        super().__init__(message, code=code)
        self.may_have_been_accepted = False
        """Whether an earlier attempt of the same request may have been accepted, whatever this answer says."""
        self.status = status
        self.details = tuple(details)
        self.attempts = tuple(attempts)


class AuthenticationError(ApiError):
    code = "UNAUTHORIZED"


class InsufficientCreditError(ApiError):
    code = "INSUFFICIENT_CREDIT"


class PermissionDeniedError(ApiError):
    code = "PERMISSION_DENIED"


class NotFoundError(ApiError):
    code = "NOT_FOUND"


class ConflictError(ApiError):
    code = "CONFLICT"


class ValidationError(ApiError):
    code = "VALIDATION_ERROR"


class RateLimitError(ApiError):
    code = "RATE_LIMITED"


class ServerError(ApiError):
    code = "SERVER_ERROR"


class NetworkError(RunflowError):
    """No answer came: refused, reset, timed out, not resolved, not trusted."""

    code = "CONNECTION_FAILED"

    def __init__(self, message: str, *, code: str | None = None, attempts: Sequence[str] = ()) -> None:
        super().__init__(message, code=code)
        self.attempts = tuple(attempts)


class InvalidResponseError(RunflowError):
    """An answer that is not the API's: HTML of a proxy, cut off, not JSON, of the wrong shape, a redirect."""

    code = "INVALID_RESPONSE"

    def __init__(self, message: str, *, code: str | None = None, attempts: Sequence[str] = ()) -> None:
        super().__init__(message, code=code)
        self.attempts = tuple(attempts)


class NotJudgedError(RunflowError):
    """Nobody gave a verdict; ``evaluation_ids`` are the evaluations that a later run takes up again."""

    code = "NOT_JUDGED"

    def __init__(self, message: str, *, code: str | None = None, evaluation_ids: Sequence[str] = ()) -> None:
        super().__init__(message, code=code)
        self.evaluation_ids = tuple(evaluation_ids)


class EvaluationTimeoutError(NotJudgedError):
    code = "EVALUATION_TIMEOUT"


class EvaluationFailedError(NotJudgedError):
    code = "EVALUATION_FAILED"


class Cancelled(BaseException):
    """The person cancelled. Not an ``Exception``, so that no handler of failures swallows it."""
