"""Verdicts that cost nothing: from a vision model that the person has, and from the person.

Both are kept in the journal at no cost, under accounts of their own that no limit counts, so that the same image,
question and judge are not asked twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy.typing as npt

from .. import errors, images
from ..api.models import Action, Evaluation, EvaluationStatus, JudgeIssue, JudgeOpinion
from ..api.transport import Deadline
from ..background import Workers
from ..errors import RunflowError
from ..journal.budget import FREE
from ..journal.journal import Request, Row
from ..model_judge.judge import VisionModel, judge, question_hash
from ..settings.config import Config
from .bookkeeping import Bookkeeper
from .job import AskedImage, BatchItem, Job, PersonAnswer
from .question import ImageUrl
from .verdict import MODEL, OFF, PERSON, UNKNOWN, Verdict, from_evaluation, not_judged
from .waiting import Progress, Report, report_progress, with_deadline

WHERE_TO_SET_A_MODEL = (
    "Connect Judge with My Model to judge_model, or set RUNFLOW_MODEL_URL and RUNFLOW_MODEL_NAME to a server you run"
)
LONGEST_REASON = 2_000


class FreeJudges:
    """Asks the model or the person about the images of a job, one after another, and remembers what was said."""

    def __init__(self, config: Config, bookkeeper: Bookkeeper, processor: Workers) -> None:
        self._config = config
        self._bookkeeper = bookkeeper
        self._processor = processor
        self._model_turns = Workers(1)  # one card, one model: questions in parallel would only wait for each other

    def has_model(self, job: Job) -> bool:
        return job.model is not None or self._config.model_url is not None

    async def ask_model(self, job: Job, items: Sequence[BatchItem], report: Report) -> list[Verdict]:
        """The model's verdict of each image. Raises ``ConfigurationError`` where there is no model."""
        model = self._model_of(job, items[0].deadline)
        progress = Progress(len(items), submitted=len(items), what=f"{model.name} {model.where}")
        ticker = asyncio.create_task(report_progress(progress, report))
        try:
            return [await self._ask_model_about(job, item, model, progress) for item in items]
        finally:
            ticker.cancel()

    async def _ask_model_about(self, job: Job, item: BatchItem, model: VisionModel, progress: Progress) -> Verdict:
        question, subject = job.question, item.subject
        prompt, instructions = question.generation_prompt, question.evaluation_instructions
        has_references = bool(question.references)

        async def ask() -> Evaluation:
            asking = self._model_turns.run(
                judge,
                model,
                images.to_pixels(pixels_of(item)),
                prompt=prompt,
                instructions=instructions,
                has_references=has_references,
            )
            return await within_time(item, model.name, asking)

        key = await self._processor.run(question_hash, model, subject.pixel_hash, prompt, instructions, has_references)
        verdict = await self._remembered(job, item, MODEL, key, ask)
        progress.judged.add(item.index)
        return verdict

    async def ask_person(
        self, job: Job, items: Sequence[BatchItem], verdicts: Sequence[Verdict | None], report: Report
    ) -> list[Verdict]:
        """The person's verdict of each image; all that are not known yet are shown at once.

        ``verdicts``: what another judge said of each, ``None`` where nobody was asked.
        """
        rows = [await self._processor.run(self._begin, job, item, PERSON, _person_key(job, item)) for item in items]
        new = [index for index, row in enumerate(rows) if row.answer is None]
        progress = Progress(len(new), submitted=len(new), what="you: accept or reject in the editor")
        ticker = asyncio.create_task(report_progress(progress, report))
        try:
            answers = await self._answers(job, [items[index] for index in new], [verdicts[index] for index in new])
        except BaseException:  # cancelled: nothing is under way that a later run could take up
            self._bookkeeper.release(rows)
            raise
        finally:
            ticker.cancel()
        by_index = dict(zip(new, answers, strict=True))
        judged = []
        for index, (item, row) in enumerate(zip(items, rows, strict=True)):
            if index not in by_index:
                judged.append(self._verdict(job, item, PERSON, Evaluation.model_validate(row.answer), reused=True))
            elif isinstance(answer := by_index[index], RunflowError):
                await self._processor.run(self._bookkeeper.release, [row])
                judged.append(not_judged(answer, job.policy, item.subject, judge=PERSON, seconds=item.seconds))
            else:
                evaluation = _evaluation_of(answer, item.subject.prompt)
                await self._processor.run(self._bookkeeper.record_result, row, evaluation, item.seconds)
                judged.append(self._verdict(job, item, PERSON, evaluation))
        return judged

    async def ask_where_unjudged(
        self, job: Job, items: Sequence[BatchItem], verdicts: list[Verdict], report: Report
    ) -> list[Verdict]:
        """Let the person say what nobody else said; where there is no answer, what was there stays and says so."""
        asked = [item for item, verdict in zip(items, verdicts, strict=True) if is_unjudged(verdict)]
        if not asked:
            return verdicts
        answers = await self.ask_person(job, asked, [verdicts[item.index] for item in asked], report)
        by_index = {item.index: answer for item, answer in zip(asked, answers, strict=True)}
        return [with_answer(verdict, by_index.get(index)) for index, verdict in enumerate(verdicts)]

    async def _answers(
        self, job: Job, items: Sequence[BatchItem], verdicts: Sequence[Verdict | None]
    ) -> Sequence[PersonAnswer | RunflowError]:
        if not items:
            return []
        if job.person is None:
            return [nobody_to_ask() for _ in items]
        question = job.question
        asked = [
            AskedImage(
                pixels_of(item),
                item.subject.pixel_hash,
                question.generation_prompt,
                question.evaluation_instructions,
                verdict,
            )
            for item, verdict in zip(items, verdicts, strict=True)
        ]
        deadline = Deadline.after(job.options.timeout_s, items[0].deadline.cancelled)  # whatever others took before
        return await job.person.ask(asked, deadline)

    def _model_of(self, job: Job, deadline: Deadline) -> VisionModel:
        if job.model is not None:
            return job.model
        config = self._config
        if config.model_url is None or not config.model_name:
            raise errors.ConfigurationError(
                "There is no vision model to ask.", cost="Nothing was paid.", advice=f"{WHERE_TO_SET_A_MODEL}.",
                code="MODEL_NOT_CONFIGURED",
            )  # fmt: skip
        from ..model_judge.endpoint import ChatEndpoint

        key = config.model_key.get_secret_value() if config.model_key else ""
        return ChatEndpoint(
            config.model_url, config.model_name, key, timeout_s=deadline.remaining, cancelled=deadline.cancelled
        )

    # --- the journal ------------------------------------------------------------------------------

    async def _remembered(self, job: Job, item: BatchItem, judge: str, key: str, ask: Callable[[], Any]) -> Verdict:
        """The verdict that the journal has, else what ``ask`` gives, kept."""
        row = await self._processor.run(self._begin, job, item, judge, key)
        if row.answer is not None:
            return self._verdict(job, item, judge, Evaluation.model_validate(row.answer), reused=True)
        try:
            evaluation: Evaluation = await ask()
        except RunflowError as error:
            await self._processor.run(self._bookkeeper.release, [row])
            return not_judged(error, job.policy, item.subject, judge=judge, seconds=item.seconds)
        except BaseException:  # cancelled: nothing is under way that a later run could take up
            self._bookkeeper.release([row])
            raise
        if evaluation.overall_passed is None:  # what was not measured may be measured at the next try
            await self._processor.run(self._bookkeeper.release, [row])
        else:
            await self._processor.run(self._bookkeeper.record_result, row, evaluation, item.seconds)
        return self._verdict(job, item, judge, evaluation)

    def _begin(self, job: Job, item: BatchItem, judge: str, key: str) -> Row:
        request = Request(
            request_hash=key,
            account=f"{FREE}{judge}",
            price=Decimal(0),
            job_class=judge,
            prompt_token=job.prompt_token,
            reuse=job.options.reuse,
            generation_prompt=item.subject.prompt,
            pixel_hash=item.subject.pixel_hash,
        )
        return self._bookkeeper.begin_free([request])[0]

    def _verdict(
        self, job: Job, item: BatchItem, judge: str, evaluation: Evaluation, *, reused: bool = False
    ) -> Verdict:
        seconds = 0.0 if reused else item.seconds
        notes = [*item.notes, *([self._bookkeeper.trouble] if self._bookkeeper.trouble else [])]
        return from_evaluation(
            evaluation, job.policy, item.subject, judge=judge, seconds=seconds, reused=reused, notes=notes
        )


def is_unjudged(verdict: Verdict) -> bool:
    """Whether a person is to be asked under ``if_not_judged`` *ask*: nobody has said passed or failed."""
    return verdict.outcome == UNKNOWN and verdict.judge not in (OFF, PERSON)


def with_answer(verdict: Verdict, answer: Verdict | None) -> Verdict:
    """The person's verdict where there is one; else the one before, which says that nobody could be asked."""
    if answer is None or answer.error is None:
        return answer or verdict
    if verdict.error is not None:
        verdict.error.add_advice(answer.error.message)
        return replace(verdict, issues=(f"not judged: {verdict.error}",))
    return replace(verdict, issues=(*verdict.issues, f"not judged: {answer.error}"))


def pixels_of(item: BatchItem) -> npt.NDArray[Any]:
    assert not isinstance(item.image, ImageUrl)  # refused before: only Runflow fetches addresses
    return item.image


def nobody_to_ask() -> RunflowError:
    return errors.NotJudgedError(
        "Nobody could be asked: this was not started in an editor.",
        cost="Nothing was paid.",
        advice="Queue it in ComfyUI's editor and keep the tab open, or set judge to another one.",
        code="NOBODY_TO_ASK",
    )


async def within_time(item: BatchItem, name: str, asking: Any) -> Evaluation:
    try:
        evaluation: Evaluation = await with_deadline(item.deadline, asking)
    except errors.NetworkError as error:
        raise errors.NotJudgedError(
            f"{name} did not answer in the time that timeout_s allows.",
            cost="Nothing was paid.",
            advice="Raise timeout_s, or take a smaller model.",
            code="MODEL_TIMEOUT",
        ) from error
    return evaluation


def _person_key(job: Job, item: BatchItem) -> str:
    question = job.question
    fields = ["person", item.subject.pixel_hash, question.generation_prompt, question.evaluation_instructions]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _evaluation_of(answer: PersonAnswer, prompt: str) -> Evaluation:
    reason = " ".join(answer.reason.split())[:LONGEST_REASON]
    issues = [] if answer.accepted else [reason or "rejected by you, no reason given"]
    opinion = JudgeOpinion(
        name="you",
        category="content",
        passed=answer.accepted,
        weight=1,
        reasoning=reason or None,
        issues=[JudgeIssue(category="content", detail=issue) for issue in issues],
    )
    action = Action(
        primary_action="keep" if answer.accepted else "regenerate",
        failure_summary="; ".join(issues) or None,
        improved_prompt=answer.improved_prompt.strip() or prompt,
    )
    evaluation = Evaluation(
        status_code=EvaluationStatus.COMPLETED,
        overall_passed=answer.accepted,
        weighted_pass_rate=1.0 if answer.accepted else 0.0,
        top_issues=issues,
        top_strengths=[reason] if answer.accepted and reason else [],
        judges=[opinion],
        action=action,
        primary_action_code=action.primary_action,
        generation_prompt=prompt,
        cost=Decimal(0),
    )
    assert evaluation.model_extra is not None
    evaluation.model_extra["judged_by"] = "you"
    return evaluation
