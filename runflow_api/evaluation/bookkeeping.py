"""The evaluator's side of the journal: opened on first use, and replaced by one in memory where it cannot be used.

The journal never stops an evaluation: what it cannot keep is said in the log, and asking goes on.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from ..api.models import COMPLETED, Evaluation
from ..journal.journal import Journal, JournalError, Limits, Request, Row
from ..settings.config import Config
from . import polling
from .job import Job
from .question import request_hash

log = logging.getLogger("runflow_evaluate")
T = TypeVar("T")


class Bookkeeper:
    """``now`` is Unix time."""

    def __init__(self, config: Config, directory: Path, now: Callable[[], float]) -> None:
        self._config = config
        self._directory = config.journal_directory(directory)
        self._now = now
        self._journal: Journal | None = None
        self._fallback: Journal | None = None
        self._opening = threading.Lock()
        self._learned: set[str] = set()
        self._pruned = False

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def journal(self) -> Journal:
        """The journal, opened on first use. Raises ``JournalError`` where that cannot be done."""
        with self._opening:
            if self._journal is None:
                url, keep = self._config.journal_url, self._config.keep_prompts
                self._journal = Journal.open(url, self._directory, now=self._now, keep_prompts=keep)
            return self._journal

    def ask(self, job: Job, pixel_hash: str, price: Decimal | None) -> Request:
        """``price`` in credits, ``None`` where it is not known."""
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

    def begin(self, asks: Sequence[Request], notes: list[str]) -> tuple[Journal, list[Row]]:
        """The journal in use and a row for each: all of them may be paid for, or ``BudgetError``."""
        try:
            journal = self.journal()
            return journal, journal.begin(self._with_account(journal, asks), self._limits())
        except JournalError as error:
            notes.append(f"it is not known whether this was paid before: {error}")
            journal = self._fall_back(error)
            return journal, journal.begin(self._with_account(journal, asks), self._limits())

    def preview(self, asks: Sequence[Request]) -> list[bool]:
        """Which of these would be new. Raises ``BudgetError`` as ``begin`` would."""
        try:
            journal = self.journal()
            return journal.preview(self._with_account(journal, asks), self._limits())
        except JournalError as error:
            return self._fall_back(error).preview(asks, self._limits())

    def _fall_back(self, error: JournalError) -> Journal:
        """Go on with a journal in memory: this process still pays nothing twice."""
        with self._opening:
            if self._journal is not None and self._journal is self._fallback:
                return self._journal  # another prompt was faster
            log.warning("%s Going on without it: it is not known what was paid before.", error)
            self._learned.clear()
            self._journal = self._fallback = Journal.in_memory()
            return self._journal

    def _with_account(self, journal: Journal, asks: Sequence[Request]) -> list[Request]:
        account = journal.account(self._config.require_key(), self._config.organization_id)
        return [replace(ask, account=account) for ask in asks]

    def _limits(self) -> Limits:
        credits = self._config.max_credits_per_day
        return Limits(
            per_prompt=self._config.max_evaluations_per_prompt,
            per_day=self._config.max_evaluations_per_day,
            credits_per_day=None if credits is None else Decimal(str(credits)),
        )

    def expected(self, journal: Journal, job_class: str) -> polling.Window | None:
        return polling.window(self.best_effort(lambda: journal.durations(job_class), []))

    def note_submitted(self, journal: Journal, row: Row, evaluation: Evaluation) -> None:
        def note() -> None:
            org_id = evaluation.org_id
            journal.record_submission(row, str(evaluation.id), org_id)
            if org_id and not self._config.organization_id and org_id not in self._learned:
                journal.learn_account(self._config.require_key(), org_id)
                self._learned.add(org_id)

        self.best_effort(note, None)

    def note_answer(self, journal: Journal, row: Row, evaluation: Evaluation, waited_s: float | None = None) -> None:
        """``waited_s``: how long it took where Runflow does not tell; ``None`` where that is not known."""
        # By Runflow's clock, which knows nothing of our upload and of when we looked.
        took = polling.seconds_between(evaluation.submitted_at, evaluation.completed_at)

        def note() -> None:
            journal.record_result(
                row,
                evaluation.to_json(),
                completed=evaluation.status_code == COMPLETED,
                cost=evaluation.cost,
                failure_code=evaluation.failure_code,
                duration_s=took or waited_s,
            )

        self.best_effort(note, None)

    def clean_up(self, journal: Journal, rows: Sequence[Row]) -> None:
        """Give back the budget of what was never sent, and once in a while forget what is old."""
        for row in {row.id: row for row in rows if row.is_new}.values():
            self.best_effort(functools.partial(journal.release, row), False)
        if not self._pruned:
            self._pruned = True
            days, count = self._config.retention_days, self._config.retention_evaluations
            self.best_effort(lambda: journal.prune(older_than_days=days, at_most=count), 0)

    def best_effort(self, use: Callable[[], T], otherwise: T) -> T:
        """Use the journal; where it fails, say so and go on."""
        try:
            return use()
        except JournalError as error:
            log.warning("%s Going on without it: a later run cannot know what was paid.", error)
            return otherwise
