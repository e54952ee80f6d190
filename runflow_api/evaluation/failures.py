"""How an evaluation ends without a verdict: whether it was paid, whom it concerns, and what a person is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum

from .. import errors
from ..api.models import Evaluation, EvaluationRequest
from ..errors import RunflowError
from ..journal.journal import JournalError, Row, RowState
from ..settings.config import WHERE_TO_SET_THE_KEY
from .verdict import BatchVerdict, Policy, Verdict, credits_text

OUTAGES = (errors.NetworkError, errors.ServerError, errors.RateLimitError, errors.InvalidResponseError)
"""While waiting for a verdict these are waited out until ``timeout_s``."""

WHERE_TO_SET_A_MODEL = (
    "Connect Judge with My Model to judge_model, or set RUNFLOW_MODEL_URL and RUNFLOW_MODEL_NAME to a server you run."
)


# --- who paid -----------------------------------------------------------------------------------------


class Acceptance(str, Enum):
    """What became of a submission that gave no id."""

    NOT_ACCEPTED = "not accepted"
    MAYBE_ACCEPTED = "maybe accepted"
    REFUSED = "refused"

    __str__ = str.__str__


COSTS = {
    Acceptance.NOT_ACCEPTED: "Runflow accepted nothing and nothing was paid: run again.",
    Acceptance.MAYBE_ACCEPTED: (
        "The submission may have been accepted; nothing is paid for twice: run again to pick it up."
    ),
    Acceptance.REFUSED: "Nothing was paid.",
}


def classify(error: RunflowError, row: Row) -> Acceptance:
    """What the error of a submission means for money.

    ``row`` as it was when it was reserved: one that is not new may have been sent before, by whomever.
    """
    if error.may_have_been_accepted or not row.is_new:
        return Acceptance.MAYBE_ACCEPTED
    if isinstance(error, errors.ApiError) and not isinstance(error, OUTAGES):
        return Acceptance.REFUSED
    return Acceptance.NOT_ACCEPTED


# --- whom it concerns ---------------------------------------------------------------------------------


class Scope(str, Enum):
    """Whom an error concerns."""

    ONE_IMAGE = "one image"
    """This image has no verdict; the others are judged."""
    FOR_NOW = "every image for now"
    """Every image would meet it, until it is over: an outage, no credit, a limit that is reached."""
    EVERY_IMAGE = "every image"
    """It stops at once, whatever the policy says."""

    __str__ = str.__str__


OF_ONE_IMAGE = frozenset({400, 413, 422})
"""With these the API refuses what was submitted; with every other 4xx, how it was."""
OWN_FIELDS = frozenset({"generated_image_url"})
"""Fields of a submission that differ from image to image of one batch."""


def scope_of(error: RunflowError, own_fields: Collection[str] = OWN_FIELDS) -> Scope:
    """Whether the next image would meet the same.

    ``own_fields``: the fields of a submission that each image has for itself, such as the prompt of a file.
    """
    if isinstance(error, errors.ValidationError):
        shared = EvaluationRequest.model_fields.keys() - own_fields
        is_own = error.status in OF_ONE_IMAGE and not shared & set(error.fields)
        return Scope.ONE_IMAGE if is_own else Scope.EVERY_IMAGE
    if isinstance(error, errors.InvalidInputError):
        is_own = error.field in own_fields or error.field.startswith("image")
        return Scope.ONE_IMAGE if is_own else Scope.EVERY_IMAGE
    if isinstance(error, (errors.ConfigurationError, errors.AuthenticationError, errors.PermissionDeniedError)):
        return Scope.EVERY_IMAGE
    if isinstance(error, (*OUTAGES, errors.InsufficientCreditError, errors.BudgetError, JournalError)):
        return Scope.FOR_NOW
    return Scope.ONE_IMAGE


def raise_or_batch(verdicts: Sequence[Verdict], policy: Policy, *, pays: bool = True) -> BatchVerdict:
    """The batch, or the error that stops the workflow: one that concerns every image, otherwise the first where
    stop is the policy. If a person was to be asked and gave no answer, that stops as well.

    ``pays``: whether running again may pay for what has no verdict.
    """
    failed = [(index, verdict.error) for index, verdict in enumerate(verdicts) if verdict.error is not None]
    of_all = next((error for _, error in failed if scope_of(error) is Scope.EVERY_IMAGE), None)
    if not failed or not (of_all or policy.if_not_judged in ("stop", "ask")):
        return BatchVerdict(tuple(verdicts))
    error = of_all or failed[0][1]
    error.unjudged_indices = tuple(index for index, _ in failed)
    if len(verdicts) > 1:
        kept = len(verdicts) - len(failed)
        again = sum(_is_paid_anew(each) for _, each in failed) if pays else 0
        error.cost = f"{error.cost} {kept} of {len(verdicts)} kept; run again pays {again}.".strip()
    if of_all is None:
        error.add_advice("To go on without a verdict, set if_not_judged to fail or pass.")
    raise error


def _is_paid_anew(error: RunflowError) -> bool:
    """Whether the next run starts another evaluation, rather than taking up this one."""
    if isinstance(error, errors.NotJudgedError):
        return error.is_paid_anew
    return not error.may_have_been_accepted and not isinstance(error, errors.NeedsKeyError)


# --- what a person is told ----------------------------------------------------------------------------


def needs_key() -> RunflowError:
    return errors.NeedsKeyError(
        f"The instructions or references ask about the content of the image, which needs a Runflow key "
        f"({WHERE_TO_SET_THE_KEY}) or a vision model (Judge with My Model, or RUNFLOW_MODEL_URL); set judge to local "
        "for pixel checks only.",
        cost="Nothing was sent or paid.",
    )


def needs_model() -> RunflowError:
    return errors.ConfigurationError(
        "There is no vision model to ask.",
        code="MODEL_NOT_CONFIGURED",
        cost="Nothing was paid.",
        advice=WHERE_TO_SET_A_MODEL,
    )


def no_api_there(error: errors.NotFoundError, base_url: str) -> RunflowError:
    return errors.ConfigurationError(
        error.message,
        code=error.code,
        cost=error.cost,
        advice=f"There is no evaluation API at {base_url}: check RUNFLOW_BASE_URL.",
    )


def ended_without_verdict(evaluation: Evaluation) -> RunflowError:
    paid = f"It cost {credits_text(evaluation.cost)} credits." if evaluation.cost else "Nothing was charged."
    return errors.EvaluationFailedError(
        f"Runflow ended evaluation {evaluation.id} without a verdict: {evaluation.failure_code or 'no reason given'}.",
        cost=paid,
        advice="Evaluate the image again to start a new evaluation.",
        evaluation_ids=[str(evaluation.id)],
        is_paid_anew=True,
    )


def unknown_by_now(evaluation_id: str, error: errors.NotFoundError) -> RunflowError:
    return errors.NotJudgedError(
        f"Runflow does not know evaluation {evaluation_id} any more.",
        code=error.code,
        cost="It may have been billed.",
        advice="Run again to start and pay for a new one.",
        evaluation_ids=[evaluation_id],
        is_paid_anew=True,
    )


def timed_out(evaluation_id: str, timeout_s: int, trouble: RunflowError | None) -> RunflowError:
    last = f" Last answer: {trouble}" if trouble else ""
    return errors.EvaluationTimeoutError(
        f"No verdict within {timeout_s} s.{last}",
        cost=f"Evaluation {evaluation_id} goes on at Runflow and is paid for once:",
        advice="run again to pick up its verdict, or raise timeout_s.",
        evaluation_ids=[evaluation_id],
    )


def too_old_to_resend(age_s: float) -> RunflowError:
    return errors.NotJudgedError(
        f"This was submitted {age_s / 3600:.0f} h ago and no answer is known. It is too old to be sent again under the "
        "same key.",
        code="MAY_HAVE_BEEN_BILLED",
        cost="It may have been billed.",
        advice="Run again to start and pay for a new evaluation.",
        is_paid_anew=True,
    )


def other_request_ended(row: Row) -> RunflowError:
    """Somebody else's request for the same ended while this one was about to send it."""
    if row.state == RowState.ABANDONED:
        return errors.NotJudgedError(
            "Another process asked the same question and gave up.",
            code="MAY_HAVE_BEEN_BILLED",
            cost="It may have been billed. Nothing was sent from here.",
            advice="Run again to start and pay for a new evaluation.",
            is_paid_anew=True,
        )
    return errors.NotJudgedError(
        f"Another process asked the same question, and its request was not accepted ({row.failure_code}).",
        cost="Nothing was sent from here:",
        advice="run again.",
        is_paid_anew=True,
    )


def id_unknown() -> RunflowError:
    return errors.EvaluationTimeoutError(
        "This was submitted before, but its id is not known. What was sent is not on this machine, so it "
        "cannot be sent again from here.",
        cost="Nothing was sent and nothing is paid for twice:",
        advice=(
            "run again later, or on the machine where it was started. After a day it is given up, and a new evaluation "
            "can be paid for."
        ),
    )
