"""Everything that can go wrong, as one tree.

::

    RunflowError
    |-- ConfigurationError        MISSING_API_KEY, INVALID_CONFIGURATION, CERTIFICATES_MISSING, PROXY_UNUSABLE
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
    """Base of the tree. ``code`` is stable; ``str(error)`` is ``[CODE] message cost advice``, for a person.

    ``message`` is what happened, ``attempts`` what each try met (oldest first), ``cost`` what it cost and
    ``advice`` what to do; the last two are sentences, "" if there is nothing to say.
    """

    code = "RUNFLOW_ERROR"
    unjudged_indices: tuple[int, ...] | None = None
    """Positions in the batch that have no verdict; ``None`` means all of them."""
    may_have_been_accepted = False
    """Whether an attempt of the same request may have been accepted, whatever the last answer says."""

    def __init__(
        self, message: str, *, code: str | None = None, cost: str = "", advice: str = "", attempts: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.cost = cost
        self.advice = advice
        self.attempts = tuple(attempts)
        if code:
            self.code = code

    @property
    def text(self) -> str:
        """All that there is to say, without the code."""
        return " ".join(part for part in (self.message, _tried(self.attempts), self.cost, self.advice) if part)

    def add_advice(self, sentence: str) -> None:
        """Say one thing more that can be done; "" adds nothing."""
        self.advice = " ".join(part for part in (self.advice, sentence) if part)

    def __str__(self) -> str:
        return f"[{self.code}] {self.text}"


def _tried(attempts: Sequence[str]) -> str:
    """ "Tried 5 times: connection refused (4×), HTTP 503." if there was more than one attempt."""
    if len(attempts) < 2:
        return ""
    counted = [said if (n := attempts.count(said)) == 1 else f"{said} ({n}×)" for said in dict.fromkeys(attempts)]
    return f"Tried {len(attempts)} times: {', '.join(counted)}."


class ConfigurationError(RunflowError):
    """The key, the base URL or another setting is missing or unusable. Nothing was sent."""

    code = "INVALID_CONFIGURATION"


class InvalidInputError(RunflowError):
    """An input breaks a limit; ``field`` is its name. Nothing was sent and nothing was paid."""

    code = "INVALID_INPUT"

    def __init__(self, field: str, message: str, *, code: str | None = None, cost: str = "", advice: str = "") -> None:
        super().__init__(f"{field}: {message}", code=code, cost=cost, advice=advice)
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
    API's per-field texts, ``fields`` the names of the fields that it found fault with.
    """

    code = "API_ERROR"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        details: Sequence[str] = (),
        fields: Sequence[str] = (),
        cost: str = "",
        advice: str = "",
        attempts: Sequence[str] = (),
    ) -> None:
        super().__init__(message, code=code, cost=cost, advice=advice, attempts=attempts)
        self.status = status
        self.details = tuple(details)
        self.fields = tuple(fields)


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


class InvalidResponseError(RunflowError):
    """An answer that is not the API's: HTML of a proxy, cut off, not JSON, of the wrong shape, a redirect."""

    code = "INVALID_RESPONSE"


class NotJudgedError(RunflowError):
    """Nobody gave a verdict.

    ``evaluation_ids`` are the evaluations that it is about; a later run takes them up again, unless
    ``is_paid_anew``: then it starts, and pays, new ones.
    """

    code = "NOT_JUDGED"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        cost: str = "",
        advice: str = "",
        evaluation_ids: Sequence[str] = (),
        is_paid_anew: bool = False,
    ) -> None:
        super().__init__(message, code=code, cost=cost, advice=advice)
        self.evaluation_ids = tuple(evaluation_ids)
        self.is_paid_anew = is_paid_anew


class EvaluationTimeoutError(NotJudgedError):
    code = "EVALUATION_TIMEOUT"


class EvaluationFailedError(NotJudgedError):
    code = "EVALUATION_FAILED"


class Cancelled(BaseException):
    """The person cancelled. Not an ``Exception``, so that no handler of failures swallows it."""
