"""The evaluator's side of the journal: opened on first use, and replaced by one in memory where it cannot be used."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from ..api.models import Evaluation, EvaluationStatus
from ..journal.journal import Journal, JournalError, Limits, Request, Row
from ..settings.config import Config
from . import polling
from .job import Job
from .question import request_hash

log = logging.getLogger("runflow_evaluate")
P = ParamSpec("P")
T = TypeVar("T")


class Bookkeeper:
    """Owns the journal. ``now`` is Unix time. Every method may block, and may be called from any thread.

    What is recorded never raises: the evaluation goes on, and ``trouble`` says what could not be kept.
    """

    def __init__(self, config: Config, directory: Path, now: Callable[[], float]) -> None:
        self._config = config
        self._directory = config.journal_directory(directory)
        self._now = now
        self._journal: Journal | None = None
        self._fallback: Journal | None = None
        self._opening = threading.Lock()
        self._learned: set[str] = set()
        self._pruned = False
        self._trouble = ""

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def journal(self) -> Journal:
        """The journal, for looking back. Raises ``JournalError`` where it cannot be opened."""
        with self._opening:
            if self._journal is None:
                url, keep = self._config.journal_url, self._config.keep_prompts
                self._journal = Journal.open(url, self._directory, now=self._now, keep_prompts=keep)
            return self._journal

    @property
    def trouble(self) -> str:
        """What is the matter with the journal and what to do, in one line; "" where it works."""
        return self._trouble

    # --- before anything is sent ------------------------------------------------------------------

    def request(self, job: Job, pixel_hash: str, price: Decimal | None) -> Request:
        """What ``begin`` and ``estimate`` take; ``price`` in credits, ``None`` where it is not known."""
        return Request(
            request_hash=request_hash(pixel_hash, job.question, job.options, self._config.base_url),
            account="",
            price=price,
            job_class=job.options.job_class,
            prompt_token=job.prompt_token,
            reuse=job.options.reuse,
            generation_prompt=job.question.generation_prompt,
            pixel_hash=pixel_hash,
        )

    def begin(self, requests: Sequence[Request]) -> list[Row]:
        """A row for each, in order: all of them may be paid for. Whoever begins must ``release`` the rows at the end.

        Raises ``BudgetError`` where a limit would be passed, and ``JournalError`` where a limit that the person has
        set cannot be known. Nothing is reserved then.
        """
        try:
            journal = self.journal()
            return journal.begin(self._with_account(journal, requests), self._limits())
        except JournalError as error:
            journal = self._fall_back(error)
            return journal.begin(self._with_account(journal, requests), self._limits())

    def estimate(self, requests: Sequence[Request]) -> list[bool]:
        """Which of these ``begin`` would pay for. Nothing is reserved. Raises as ``begin`` would."""
        try:
            journal = self.journal()
            return journal.preview(self._with_account(journal, requests), self._limits())
        except JournalError as error:
            return self._fall_back(error).preview(requests, self._limits())

    def release(self, rows: Sequence[Row]) -> None:
        """Whoever began these rows has ended: what was never sent, and nobody else waits for, gives its budget back."""
        for row in {row.id: row for row in rows if row.is_new}.values():
            self._best_effort(False, Journal.release, row)
        if not self._pruned:
            self._pruned = True
            days, count = self._config.retention_days, self._config.retention_evaluations
            self._best_effort(0, Journal.prune, older_than_days=days, at_most=count)

    # --- one row ----------------------------------------------------------------------------------

    def fix_body(self, row: Row, body: bytes) -> bytes | None:
        """Fix the bytes to send for ``row`` and give them back: ``body``, or what was fixed before.

        ``None`` where nothing is to be sent from here: look at ``current(row)`` until the owner's id is there.
        """
        return self._best_effort(body, Journal.fix_body, row, body)

    def body(self, row: Row) -> bytes | None:
        """The bytes that were fixed for ``row``; ``None`` where there are none, or where they are not here."""
        return self._best_effort(None, Journal.body, row)

    def current(self, row: Row) -> Row:
        """``row`` as it now is. Raises ``JournalError`` where that cannot be known."""
        return self.journal().get(row.id)

    def is_shared(self, row: Row) -> bool:
        """Whether another prompt or process has asked for the same row, and may be sending it right now."""
        return self._best_effort(1, Journal.askers, row) > 1

    def record_submission(self, row: Row, evaluation: Evaluation) -> None:
        """Runflow has taken it: keep the id, and learn whose organisation the key is."""
        self._best_effort(None, Journal.record_submission, row, str(evaluation.id), evaluation.org_id)
        org_id = evaluation.org_id
        if org_id and not self._config.organization_id and org_id not in self._learned:
            self._best_effort(None, Journal.learn_account, self._config.require_key(), org_id)
            self._learned.add(org_id)

    def record_result(self, row: Row, evaluation: Evaluation, seconds: float | None = None) -> None:
        """Keep the terminal answer. ``seconds``: how long it took where Runflow does not tell, if that is known."""
        # By Runflow's clock, which knows nothing of our upload and of when we looked.
        took = polling.seconds_between(evaluation.submitted_at, evaluation.completed_at)
        self._best_effort(
            None,
            Journal.record_result,
            row,
            evaluation.to_json(),
            completed=evaluation.status_code == EvaluationStatus.COMPLETED,
            cost=None if evaluation.cost is None else str(evaluation.cost),
            failure_code=evaluation.failure_code,
            duration_s=took or seconds,
        )

    def record_refusal(self, row: Row, code: str) -> None:
        """Runflow refused to take it, and nothing sent before can have arrived: closed, not billed."""
        self._best_effort(None, Journal.record_refusal, row, code)

    def abandon(self, row: Row) -> None:
        """Nobody will wait for it any more. It may have been billed, so it goes on counting."""
        self._best_effort(None, Journal.abandon, row)

    # --- looking back -----------------------------------------------------------------------------

    def find_evaluation(self, evaluation_id: str) -> Row | None:
        """The newest row of that evaluation; ``None`` where there is none, or where the journal cannot be used."""
        return self._best_effort(None, Journal.find_evaluation, evaluation_id)

    def record_feedback(self, evaluation_id: str, is_positive: bool | None, reason: str | None) -> None:
        """Keep the feedback that Runflow has taken."""
        self._best_effort(None, Journal.record_feedback, evaluation_id, is_positive, reason)

    def usual_durations(self, job_class: str) -> polling.Window | None:
        """When verdicts of this class came lately; ``None`` where too few are known."""
        return polling.window(self._best_effort([], Journal.durations, job_class))

    # --- the journal, or what stands in for it ----------------------------------------------------

    def _fall_back(self, error: JournalError) -> Journal:
        """Go on with a journal in memory: this process still pays nothing twice."""
        with self._opening:
            if self._journal is not None and self._journal is self._fallback:
                return self._journal  # another prompt was faster
            log.warning("%s Going on without it: it is not known what was paid before.", error)
            self._trouble = f"it is not known whether this was paid before: {error}"
            self._learned.clear()
            self._journal = self._fallback = Journal.in_memory()
            return self._journal

    def _with_account(self, journal: Journal, requests: Sequence[Request]) -> list[Request]:
        account = journal.account(self._config.require_key(), self._config.organization_id)
        return [replace(request, account=account) for request in requests]

    def _limits(self) -> Limits:
        credits = self._config.max_credits_per_day
        return Limits(
            per_prompt=self._config.max_evaluations_per_prompt,
            per_day=self._config.max_evaluations_per_day,
            credits_per_day=None if credits is None else Decimal(str(credits)),
        )

    def _best_effort(
        self, otherwise: T, use: Callable[Concatenate[Journal, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Use the journal; where it fails, say so and go on."""
        try:
            return use(self.journal(), *args, **kwargs)
        except JournalError as error:
            log.warning("%s Going on without it: a later run cannot know what was paid.", error)
            return otherwise
