"""Everything that knows Runflow, and nothing that knows ComfyUI.

The names below are the public ones. Each module is imported when a name of it is first used: an evaluator brings
the journal and its database library, which not everybody needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._version import VERSION as __version__
    from .errors import (
        ApiError,
        AuthenticationError,
        BudgetError,
        Cancelled,
        ConfigurationError,
        ConflictError,
        EvaluationFailedError,
        EvaluationTimeoutError,
        InsufficientCreditError,
        InvalidInputError,
        InvalidResponseError,
        NeedsKeyError,
        NetworkError,
        NotFoundError,
        NotJudgedError,
        PermissionDeniedError,
        RateLimitError,
        RunflowError,
        ServerError,
        ValidationError,
    )
    from .evaluation.comparison import AttemptLines, Changes, compare, lines_of
    from .evaluation.evaluator import Evaluator
    from .evaluation.job import Job
    from .evaluation.question import Options, Question
    from .evaluation.verdict import BatchVerdict, Policy, Verdict

__all__ = [
    "ApiError",
    "AttemptLines",
    "AuthenticationError",
    "BatchVerdict",
    "BudgetError",
    "Cancelled",
    "Changes",
    "ConfigurationError",
    "ConflictError",
    "EvaluationFailedError",
    "EvaluationTimeoutError",
    "Evaluator",
    "InsufficientCreditError",
    "InvalidInputError",
    "InvalidResponseError",
    "Job",
    "NeedsKeyError",
    "NetworkError",
    "NotFoundError",
    "NotJudgedError",
    "Options",
    "PermissionDeniedError",
    "Policy",
    "Question",
    "RateLimitError",
    "RunflowError",
    "ServerError",
    "ValidationError",
    "Verdict",
    "__version__",
    "compare",
    "lines_of",
]

_MODULES = {
    "AttemptLines": "evaluation.comparison",
    "BatchVerdict": "evaluation.verdict",
    "Changes": "evaluation.comparison",
    "Evaluator": "evaluation.evaluator",
    "Job": "evaluation.job",
    "Options": "evaluation.question",
    "Policy": "evaluation.verdict",
    "Question": "evaluation.question",
    "Verdict": "evaluation.verdict",
    "compare": "evaluation.comparison",
    "lines_of": "evaluation.comparison",
}
"""Where a name is that is not an error."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("._version", __name__).VERSION
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES.get(name, 'errors')}", __name__), name)


def __dir__() -> list[str]:
    return __all__
