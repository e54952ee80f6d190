"""What was asked earlier: read evaluations and runs by id, wait for them, give feedback. Nothing here is paid.

Works through an ``Evaluator``, on the background loop, with its client, its journal and its bound on requests.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from .. import errors
from ..api.models import RUN_EMBEDS, Evaluation, EvaluationStatus, Run
from ..api.transport import Deadline
from ..journal.journal import Row, RowState
from . import polling
from .evaluator import Evaluator
from .failures import ended_without_verdict, raise_or_batch
from .polling import Progress, Report, poll_until_terminal, report_nothing, report_progress
from .question import RATINGS, Rating, check_timeout, require_choice, require_choices
from .results import not_yet
from .verdict import RUNFLOW, BatchVerdict, Policy, Subject, Verdict, from_evaluation, not_judged

MAX_IDS = 200
MAX_REASON_CHARACTERS = 2_000
"""The reference gives no limit; this is what the sandbox takes."""
JUDGED = ("judges", "action", "gate_failures")

log = logging.getLogger("runflow_evaluate")
R = TypeVar("R", Evaluation, Run)


# --- evaluations --------------------------------------------------------------------------------------


async def evaluations(
    evaluator: Evaluator,
    ids: Sequence[str],
    policy: Policy,
    *,
    wait: bool = True,
    timeout_s: int = 600,
    embed: Iterable[str] = JUDGED,
    report: Report = report_nothing,
) -> BatchVerdict:
    """The verdicts of these evaluations, in order; reading them costs nothing.

    With ``wait`` one that is under way is waited for until ``timeout_s``; without, it is *unknown*. Raises as
    ``Evaluator.evaluate`` does, after every one has ended.
    """
    _check(ids, policy, timeout_s)
    evaluator.config.require_key()
    deadline, progress = Deadline.after(timeout_s), Progress(len(ids), past_submission_count=len(ids))
    names = tuple(embed)

    async def one(index: int, evaluation_id: str) -> Verdict:
        try:
            return await _verdict(evaluator, evaluation_id, policy, names, wait, deadline, progress)
        finally:
            progress.judged.add(index)

    ticker = asyncio.create_task(report_progress(progress, report))
    try:
        verdicts = await asyncio.gather(*(one(*pair) for pair in enumerate(ids)))
    finally:
        ticker.cancel()
        deadline.cancelled.set()
    return raise_or_batch(verdicts, policy, pays=False)


def split_ids(text: str) -> list[str]:
    """One id per line, blanks and empty lines left out, each once."""
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def _check(ids: Sequence[str], policy: Policy, timeout_s: int) -> None:
    policy.check()
    if not 1 <= len(ids) <= MAX_IDS:
        raise errors.InvalidInputError("evaluation_ids", f"{len(ids)} given; 1 to {MAX_IDS} ids, one per line.")
    check_timeout(timeout_s)


async def _verdict(
    evaluator: Evaluator,
    evaluation_id: str,
    policy: Policy,
    embed: tuple[str, ...],
    wait: bool,
    deadline: Deadline,
    progress: Progress,
) -> Verdict:
    began = time.monotonic()
    get = functools.partial(evaluator.client.get_evaluation, evaluation_id, deadline=deadline)
    row = await evaluator.call_api(evaluator.bookkeeper.find_evaluation, evaluation_id)
    evaluation = Evaluation(id=evaluation_id)
    try:
        evaluation = await _fetch_until_terminal(evaluator, get, embed, wait, deadline, progress)
        if evaluation.status_code == EvaluationStatus.FAILED:
            raise ended_without_verdict(evaluation)
        if wait and not evaluation.is_terminal:
            raise _still_under_way(evaluation)
    except errors.RunflowError as error:
        subject = _subject(evaluation, row)
        return not_judged(_explained(error, evaluation_id), policy, subject, judge=RUNFLOW, evaluation=evaluation)
    finally:
        # A verdict that the journal still waits for is there for the next Evaluate of the same image.
        if row is not None and row.state == RowState.OPEN and evaluation.is_terminal:
            await evaluator.call_api(evaluator.bookkeeper.record_result, row, evaluation)
    if not evaluation.is_terminal:
        return not_yet(evaluation, policy, _subject(evaluation, row), reused=True)
    seconds = time.monotonic() - began
    return from_evaluation(evaluation, policy, _subject(evaluation, row), judge=RUNFLOW, seconds=seconds, reused=True)


def _subject(evaluation: Evaluation, row: Row | None) -> Subject:
    prompt = evaluation.generation_prompt or (row.generation_prompt if row else "")
    return Subject(prompt, row.pixel_hash if row else "")


def _explained(error: errors.RunflowError, evaluation_id: str) -> errors.RunflowError:
    """An id that the API does not know is a wrong input, which stops whatever the policy says."""
    if not isinstance(error, errors.NotFoundError):
        return error
    wrong = errors.InvalidInputError(
        "evaluation_ids",
        f"Runflow has no evaluation {evaluation_id} that this key can see.",
        code=error.code,
        cost="Nothing was paid.",
        advice="Check the id, and that the key belongs to the organisation that submitted it.",
    )
    wrong.__cause__ = error
    return wrong


def _still_under_way(evaluation: Evaluation) -> errors.RunflowError:
    return errors.EvaluationTimeoutError(
        f"Evaluation {evaluation.id} is still {evaluation.status_code or 'under way'}.",
        cost="Waiting cost nothing:",
        advice="ask again later, or raise timeout_s.",
        evaluation_ids=[str(evaluation.id)],
    )


# --- runs ---------------------------------------------------------------------------------------------


async def run(
    evaluator: Evaluator,
    run_id: str,
    *,
    wait: bool = True,
    timeout_s: int = 600,
    embed: Iterable[str] = (),
    report: Report = report_nothing,
) -> Run:
    """The run as it is now; with ``wait``, once it has ended. Reading it costs nothing.

    Raises ``NotFoundError`` for an unknown id, and ``EvaluationTimeoutError`` (RUN_TIMEOUT) if it goes on.
    """
    check_timeout(timeout_s)
    evaluator.config.require_key()
    names = tuple(embed)
    require_choices("embed", names, RUN_EMBEDS)
    deadline, progress = Deadline.after(timeout_s), Progress(1, past_submission_count=1, what="the run")
    ticker = asyncio.create_task(report_progress(progress, report))

    get = functools.partial(evaluator.client.get_run, run_id, deadline=deadline)
    try:
        found = await _fetch_until_terminal(evaluator, get, names, wait, deadline, progress)
    except errors.NotFoundError as error:
        error.message = f"Runflow has no run {run_id} that this key can see."
        error.cost, error.advice = "Nothing was paid.", "Check the id."
        raise
    finally:
        ticker.cancel()
        deadline.cancelled.set()
    if wait and not found.is_terminal:
        raise errors.EvaluationTimeoutError(
            f"Run {run_id} is still {found.status_code or 'under way'} after {timeout_s} s.",
            cost="Waiting cost nothing:",
            advice="ask again later, or raise timeout_s.",
            code="RUN_TIMEOUT",
        )
    return found


def run_failure(run: Run) -> str:
    """Why a run failed, in a line; "" if it did not."""
    if not (run.failure_code or run.failure_message):
        return "" if run.status_code not in ("failed", "cancelled") else f"{run.status_code}, no reason given"
    stage = f" (in {run.failure_stage_code})" if run.failure_stage_code else ""
    said = ": ".join(part for part in (run.failure_code, run.failure_message) if part)
    return f"{run.status_code or 'failed'}{stage}: {' '.join(said.split())}"


def media(output: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(place, https address) of everything in a run's output, whatever its shape: ``("/images/0", "https://...")``."""
    if isinstance(output, str) and output.startswith("https://"):
        yield place, output
    inside = output.items() if isinstance(output, dict) else enumerate(output) if isinstance(output, list) else ()
    for name, value in inside:
        yield from media(value, f"{place}/{name}")


# --- feedback -----------------------------------------------------------------------------------------


async def feedback(evaluator: Evaluator, ids: Sequence[str], rating: Rating, reason: str = "") -> list[Evaluation]:
    """Set or clear the rating of every evaluation, each once; what Runflow has now, in order. Costs nothing.

    All are tried; then the first error is raised, with the number that were set.
    """
    check_feedback(rating, reason)
    evaluator.config.require_key()
    deadline = Deadline.after(len(ids) + 120.0)
    reason = reason.strip()

    sending = [evaluator.call_api(_send_feedback, evaluator, each, rating, reason, deadline) for each in ids]
    try:
        sent = await asyncio.gather(*sending, return_exceptions=True)
    finally:
        deadline.cancelled.set()
    done = [each for each in sent if isinstance(each, Evaluation)]
    for each in sent:
        if isinstance(each, errors.RunflowError):
            each.cost = f"The feedback of {len(done)} of {len(ids)} evaluations was set; sending it again is safe."
        if isinstance(each, BaseException):
            raise each
    return done


def _send_feedback(
    evaluator: Evaluator, evaluation_id: str, rating: Rating, reason: str, deadline: Deadline
) -> Evaluation:
    if rating == "clear":
        now = evaluator.client.clear_feedback(evaluation_id, deadline=deadline)
    else:
        now = evaluator.client.set_feedback(evaluation_id, rating == "good", reason or None, deadline=deadline)
    evaluator.bookkeeper.record_feedback(evaluation_id, now.feedback_is_positive, now.feedback_reason)
    return now


def check_feedback(rating: str, reason: str) -> None:
    require_choice("rating", rating, RATINGS)
    if len(reason) > MAX_REASON_CHARACTERS:
        limit = f"at most {MAX_REASON_CHARACTERS} allowed"
        raise errors.InvalidInputError("reason", f"has {len(reason)} characters, {limit}.")


# --- waiting ------------------------------------------------------------------------------------------


async def _fetch_until_terminal(
    evaluator: Evaluator,
    get: Callable[..., R],
    embed: tuple[str, ...],
    wait: bool,
    deadline: Deadline,
    progress: Progress,
) -> R:
    """Read it once, or until it has ended or the time is up; while waiting an outage is waited out."""

    async def fetch(whole: bool) -> R:
        return await evaluator.call_api(get, embed=embed if whole else ())

    if not wait:
        return await fetch(True)
    began = time.monotonic()

    def next_delay() -> float:
        return polling.next_delay(time.monotonic() - began)

    polled = await poll_until_terminal(fetch, deadline, progress, next_delay=next_delay, whole_first=True)
    if polled.latest is None:
        raise polled.trouble or polling.too_slow()
    if polled.trouble is not None:
        log.warning("Not everything could be read: %s", polled.trouble)
    return polled.latest
