"""How asking for a verdict ends when there is none, and what a person is then told about money."""

from __future__ import annotations

from collections.abc import Sequence

from .. import errors
from ..api.models import Evaluation
from ..errors import RunflowError
from ..journal.journal import ABANDONED, Row
from ..settings.config import WHERE_TO_SET_THE_KEY
from .verdict import BatchVerdict, Policy, Verdict

FATAL = (
    errors.ConfigurationError,
    errors.InvalidInputError,
    errors.AuthenticationError,
    errors.PermissionDeniedError,
    errors.ValidationError,
)
"""Bad configuration, credentials, permission and invalid input always stop, whatever the policy says."""
OUTAGES = (errors.NetworkError, errors.ServerError, errors.RateLimitError, errors.InvalidResponseError)
"""While waiting for a verdict these are waited out until ``timeout_s``."""
NEW_BILL_NEXT_TIME = (
    errors.EvaluationFailedError,
    errors.BudgetError,
    errors.ConfigurationError,
    errors.AuthenticationError,
    errors.InsufficientCreditError,
    errors.PermissionDeniedError,
    errors.ValidationError,
    errors.ConflictError,
)
"""After these the next run starts another evaluation."""

NEVER_ARRIVED = " Nothing arrived at Runflow and nothing was paid: run again."
MAYBE_ACCEPTED = " The submission may have been accepted; nothing is paid twice: run again, and it is recognised."


def raise_or_batch(verdicts: Sequence[Verdict], policy: Policy, *, pays: bool = True) -> BatchVerdict:
    """The batch, or the error that stops the workflow: any fatal one, else the first where stop is the policy.

    ``pays``: whether running again may pay for what has no verdict.
    """
    failed = [(index, verdict.error) for index, verdict in enumerate(verdicts) if verdict.error is not None]
    fatal = next((error for _, error in failed if isinstance(error, FATAL)), None)
    if not failed or not (fatal or policy.if_not_judged == "stop"):
        return BatchVerdict(tuple(verdicts))
    error = fatal or failed[0][1]
    error.unjudged_indices = tuple(index for index, _ in failed)
    if len(verdicts) > 1:
        kept = len(verdicts) - len(failed)
        again = sum(_is_paid_anew(each) for _, each in failed) if pays else 0
        error.message += f" {kept} of {len(verdicts)} kept; run again pays {again}."
    if fatal is None:
        error.message += " To go on without a verdict, set if_not_judged to fail or pass."
    raise error


def _is_paid_anew(error: RunflowError) -> bool:
    """Whether the next run starts another evaluation, rather than taking up this one."""
    return isinstance(error, NEW_BILL_NEXT_TIME) and not error.may_have_been_accepted


def needs_key() -> RunflowError:
    return errors.NeedsKeyError(
        f"The instructions or references ask about the content of the image: that needs a Runflow key "
        f"({WHERE_TO_SET_THE_KEY}); set judge to local for pixel checks only. Nothing was sent or paid."
    )


def ended_without_verdict(evaluation: Evaluation) -> RunflowError:
    paid = f"It cost {evaluation.cost} credits" if evaluation.cost else "Nothing was charged"
    return errors.EvaluationFailedError(
        f"Runflow ended evaluation {evaluation.id} without a verdict: "
        f"{evaluation.failure_code or 'no reason given'}. {paid}. Evaluate the image again to start a new evaluation.",
        evaluation_ids=[str(evaluation.id)],
    )


def unknown_by_now(evaluation_id: str, error: errors.NotFoundError) -> RunflowError:
    return errors.NotJudgedError(
        f"Runflow does not know evaluation {evaluation_id} any more. It may have been billed. Run again to start, and "
        "pay, a new one.",
        code=error.code,
        evaluation_ids=[evaluation_id],
    )


def timed_out(evaluation_id: str, timeout_s: int, trouble: RunflowError | None) -> RunflowError:
    last = f" Last answer: {trouble}" if trouble else ""
    return errors.EvaluationTimeoutError(
        f"No verdict within {timeout_s} s. Evaluation {evaluation_id} goes on at Runflow and is paid once: "
        f"run again to pick up its verdict, or raise timeout_s.{last}",
        evaluation_ids=[evaluation_id],
    )


def too_old_to_resend(age_s: float) -> RunflowError:
    return errors.NotJudgedError(
        f"This was submitted {age_s / 3600:.0f} h ago and no answer is known: it may have been billed. It is too old "
        "to be sent again under the same key. Run again to start, and pay, a new evaluation.",
        code="MAY_HAVE_BEEN_BILLED",
    )


def not_accepted(row: Row) -> RunflowError:
    """Somebody else's request for the same ended while this one was about to send it."""
    if row.state == ABANDONED:
        return errors.NotJudgedError(
            "Another process asked the same and gave it up: it may have been billed. Nothing was sent from here. Run "
            "again to start, and pay, a new evaluation.",
            code="MAY_HAVE_BEEN_BILLED",
        )
    return errors.NotJudgedError(
        f"Another process asked the same and its request was not taken ({row.failure_code}). Nothing was sent from "
        "here: run again."
    )


def id_unknown() -> RunflowError:
    return errors.EvaluationTimeoutError(
        "This was submitted before, and its id is not known. What was sent is not on this machine, so it cannot be "
        "sent again from here. Nothing was sent and nothing is paid twice: run again later, or where it was begun. "
        "Once it is a day old, it is given up, and a new evaluation can be paid."
    )
