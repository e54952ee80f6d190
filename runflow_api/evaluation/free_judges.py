"""Verdicts that cost nothing: from a vision model that the person has, and from the person.

Both are kept in the journal at no cost, under accounts of their own that no limit counts, so that the same image,
question and judge are not asked twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

import pydantic

from .. import errors
from ..api.models import Action, Evaluation, EvaluationStatus, JudgeIssue, JudgeOpinion
from ..api.transport import Deadline
from ..background import Workers
from ..errors import RunflowError
from ..images import Picture
from ..journal.budget import FREE
from ..journal.journal import Journal, JournalError, Limits, Request, Row
from ..model_judge.judge import VisionModel, judge, question_hash
from ..settings.config import Config
from .failures import Scope, needs_model, scope_of
from .job import AskedImage, BatchItem, Job, PersonAnswer
from .polling import Progress, Report, report_progress, time_left
from .verdict import MODEL, OFF, PERSON, UNKNOWN, Verdict, from_evaluation, not_judged

REFERENCES_NOT_COMPARED = "references were not compared: a vision model is shown one image"
NO_LIMITS = Limits(per_prompt=sys.maxsize, per_day=sys.maxsize)
LONGEST_REASON = 2_000

log = logging.getLogger("runflow_evaluate")


class FreeJudges:
    """Asks the model, or the person, about the images of a job, and remembers what was said.

    ``journal`` opens the journal or raises ``JournalError``; then what is said is not remembered.
    """

    def __init__(self, config: Config, journal: Callable[[], Journal], processor: Workers) -> None:
        self._config = config
        self._journal = journal
        self._processor = processor
        self._is_pruned = False
        self._model_turns = Workers(1)  # one card, one model: questions in parallel would only wait for each other

    # --- the model --------------------------------------------------------------------------------

    async def ask_model(self, items: Sequence[BatchItem], report: Report) -> list[Verdict]:
        """The model's verdict of each image, one after another. Raises ``ConfigurationError`` without a model."""
        batch = items[0].batch
        model = self._model_of(batch.job, batch.deadline)
        progress = Progress(
            len(items), past_submission_count=len(items), what=f"{model.name} {model.where}", phase="answering"
        )
        ticker = asyncio.create_task(report_progress(progress, report))
        verdicts: list[Verdict] = []
        try:
            for item in items:
                verdicts.append(await self._ask_model_about(item, model))
                batch.progress.judged.add(item.index)
                progress.judged.add(item.index)
                if (error := verdicts[-1].error) is not None and scope_of(error) is Scope.EVERY_IMAGE:
                    rest = items[len(verdicts) :]
                    return [*verdicts, *(_not_judged(each, error, MODEL) for each in rest)]
        finally:
            ticker.cancel()
        return verdicts

    async def _ask_model_about(self, item: BatchItem, model: VisionModel) -> Verdict:
        question = item.batch.job.question
        prompt, instructions = question.generation_prompt, question.evaluation_instructions
        key = await self._processor.run(question_hash, model, item.subject.pixel_hash, prompt, instructions)
        known = await self._processor.run(self._begin, item, MODEL, key, model.name)
        if isinstance(known, Evaluation):
            return _verdict(item, known, MODEL, reused=True)
        asking = self._model_turns.run(judge, model, _picture(item).pixels, prompt=prompt, instructions=instructions)
        try:
            evaluation = await asyncio.wait_for(asking, time_left(item.batch.deadline))
        except asyncio.TimeoutError:
            await self._processor.run(self._release, known)
            return _not_judged(item, _too_slow(model.name), MODEL)
        except RunflowError as error:
            await self._processor.run(self._release, known)
            return _not_judged(item, error, MODEL)
        except BaseException:  # cancelled: nothing is under way that a later run could take up
            self._release(known)
            raise
        # What was not measured may be measured at the next try.
        keep = self._release if evaluation.overall_passed is None else self._record
        await self._processor.run(keep, known, evaluation, item.batch.seconds)
        return _verdict(item, evaluation, MODEL)

    def _model_of(self, job: Job, deadline: Deadline) -> VisionModel:
        if job.model is not None:
            return job.model
        config = self._config
        if config.model_url is None or not config.model_name:
            raise needs_model()
        from ..model_judge.endpoint import ChatEndpoint  # not needed where nobody configured one

        key = config.model_key.get_secret_value() if config.model_key else ""
        return ChatEndpoint(
            config.model_url, config.model_name, key, timeout_s=deadline.remaining, cancelled=deadline.cancelled
        )

    # --- the person -------------------------------------------------------------------------------

    async def ask_person(
        self, items: Sequence[BatchItem], verdicts: Sequence[Verdict | None], report: Report
    ) -> list[Verdict]:
        """The person's verdict of each image; all that are not known yet are shown at once.

        ``verdicts``: what another judge said of each, ``None`` where nobody was asked.
        """
        known = [await self._processor.run(self._begin, item, PERSON, _person_key(item)) for item in items]
        new = [index for index, each in enumerate(known) if not isinstance(each, Evaluation)]
        progress = Progress(
            len(new), past_submission_count=len(new), what="you: accept or reject in the editor", phase="asking"
        )
        ticker = asyncio.create_task(report_progress(progress, report))
        try:
            asked = [_asked_image(items[index], verdicts[index]) for index in new]
            answers = await self._answers(items[0], asked) if asked else []
        except BaseException:  # cancelled
            for each in known:
                self._release(each)
            raise
        finally:
            ticker.cancel()
        by_index = dict(zip(new, answers, strict=True))
        judged = []
        for index, (item, row) in enumerate(zip(items, known, strict=True)):
            answer = by_index.get(index)
            if isinstance(row, Evaluation):
                judged.append(_verdict(item, row, PERSON, reused=True))
            elif isinstance(answer, PersonAnswer):
                evaluation = _evaluation_of(answer, item.subject.prompt)
                await self._processor.run(self._record, row, evaluation, item.batch.seconds)
                judged.append(_verdict(item, evaluation, PERSON))
            else:
                await self._processor.run(self._release, row)
                judged.append(_not_judged(item, answer or nobody_to_ask(), PERSON))
            item.batch.progress.judged.add(item.index)
        return judged

    async def ask_where_unjudged(
        self, items: Sequence[BatchItem], verdicts: list[Verdict], report: Report
    ) -> list[Verdict]:
        """Let the person say what nobody else said; where there is no answer, what was there stays and says so."""
        asked = [item for item, verdict in zip(items, verdicts, strict=True) if _is_unjudged(verdict)]
        if not asked:
            return verdicts
        answers = await self.ask_person(asked, [verdicts[item.index] for item in asked], report)
        by_index = {item.index: answer for item, answer in zip(asked, answers, strict=True)}
        return [_with_answer(verdict, by_index.get(index)) for index, verdict in enumerate(verdicts)]

    async def _answers(self, item: BatchItem, asked: Sequence[AskedImage]) -> Sequence[PersonAnswer | RunflowError]:
        batch = item.batch
        if batch.job.person is None:
            return [nobody_to_ask() for _ in asked]
        deadline = Deadline.after(batch.job.options.timeout_s, batch.deadline.cancelled)  # whatever others took before
        return await batch.job.person.answers_to(asked, deadline)

    # --- the journal ------------------------------------------------------------------------------

    def remember(self, items: Sequence[BatchItem], verdicts: Sequence[Verdict | None]) -> None:
        """Keep what was judged on this machine, each verdict once; ``None`` is no verdict. Blocks."""
        said = [(item, verdict) for item, verdict in zip(items, verdicts, strict=True) if verdict is not None]
        if not said:
            return
        requests = [_request(item, verdict.judge, self._key_here(item, verdict)) for item, verdict in said]
        try:
            self._journal().record_free(requests, [verdict.evaluation.to_json() for _, verdict in said])
            self._prune()
        except JournalError as error:
            log.info("%s What was judged on this machine is not remembered.", error)

    def _prune(self) -> None:
        """Once in a process: somebody who pays nothing has a history that must not grow for ever."""
        if not self._is_pruned:
            self._is_pruned = True
            self._journal().prune(older_than_days=self._config.retention_days, at_most=self._config.rows_kept)

    def _key_here(self, item: BatchItem, verdict: Verdict) -> str:
        """What makes two verdicts of this machine's own judge one: the pixels, what was asked, and what they say."""
        question, evaluation = item.batch.job.question, verdict.evaluation
        said = [evaluation.overall_passed, evaluation.weighted_pass_rate, list(evaluation.top_issues or ())]
        asked = [question.generation_prompt, question.evaluation_instructions]
        return hashlib.sha256(json.dumps([verdict.judge, item.subject.pixel_hash, asked, said]).encode()).hexdigest()

    def _begin(self, item: BatchItem, judge: str, key: str, judge_name: str = "") -> Evaluation | Row | None:
        """What was said before, else a row to keep what will be said in; ``None`` where it cannot be kept."""
        try:
            row = self._journal().begin([_request(item, judge, key, judge_name)], NO_LIMITS)[0]
            return row if row.answer is None else Evaluation.model_validate(row.answer)
        except (JournalError, pydantic.ValidationError) as error:
            log.warning("%s What is said now is not remembered.", error)
            return None

    def _record(self, row: Evaluation | Row | None, evaluation: Evaluation, seconds: float) -> None:
        if not isinstance(row, Row):
            return
        try:
            self._journal().record_result(
                row, evaluation.to_json(), completed=True, cost=Decimal(0), failure_code=None, duration_s=seconds
            )
        except JournalError as error:
            log.warning("%s What was said is not remembered.", error)

    def _release(self, row: Evaluation | Row | None, *_: object) -> None:
        if not isinstance(row, Row):
            return
        try:
            self._journal().release([row])
        except JournalError as error:
            log.warning("%s", error)


def _request(item: BatchItem, judge: str, key: str, judge_name: str = "") -> Request:
    job = item.batch.job
    return Request(
        request_hash=key,
        account=f"{FREE}{judge}",
        price=Decimal(0),
        job_class=judge,
        prompt_token=job.prompt_token,
        reuse=job.options.reuse,
        generation_prompt=item.subject.prompt,
        pixel_hash=item.subject.pixel_hash,
        context=item.context_for(judge, judge_name),
    )


def nobody_to_ask() -> RunflowError:
    return errors.NotJudgedError(
        "Nobody could be asked: this was not started in an editor.",
        code="NOBODY_TO_ASK",
        cost="Nothing was paid.",
        advice="Queue it in ComfyUI's editor and keep the tab open, or choose another judge.",
    )


def _too_slow(name: str) -> RunflowError:
    return errors.NotJudgedError(
        f"{name} did not answer in the time that timeout_s allows.",
        code="MODEL_TIMEOUT",
        cost="Nothing was paid.",
        advice="Raise timeout_s, or take a smaller model.",
    )


def _is_unjudged(verdict: Verdict) -> bool:
    """Whether nobody has said passed or failed, and asking again may help: bad configuration stops all the same."""
    stops = verdict.error is not None and scope_of(verdict.error) is Scope.EVERY_IMAGE
    return verdict.outcome == UNKNOWN and verdict.judge != OFF and not stops


def _with_answer(verdict: Verdict, answer: Verdict | None) -> Verdict:
    """The person's verdict where there is one; otherwise the one before, which says that nobody answered."""
    if answer is None or answer.error is None:
        return answer or verdict
    if verdict.error is None:
        return replace(verdict, issues=(*verdict.issues, f"not judged: {answer.error}"))
    verdict.error.add_advice(answer.error.message)
    return replace(verdict, issues=(f"not judged: {verdict.error}",))


def _picture(item: BatchItem) -> Picture:
    assert isinstance(item.image, Picture)  # addresses are refused by validate
    return item.image


def _asked_image(item: BatchItem, verdict: Verdict | None) -> AskedImage:
    question = item.batch.job.question
    return AskedImage(_picture(item), question.generation_prompt, question.evaluation_instructions, verdict)


def _verdict(item: BatchItem, evaluation: Evaluation, judge: str, *, reused: bool = False) -> Verdict:
    batch = item.batch
    is_blind = judge == MODEL and bool(batch.job.question.references)
    return from_evaluation(
        evaluation,
        batch.job.policy,
        item.subject,
        judge=judge,
        seconds=0.0 if reused else batch.seconds,
        reused=reused,
        notes=[*item.all_notes, *([REFERENCES_NOT_COMPARED] if is_blind else [])],
    )


def _not_judged(item: BatchItem, error: RunflowError, judge: str) -> Verdict:
    batch = item.batch
    return not_judged(error, batch.job.policy, item.subject, judge=judge, seconds=batch.seconds, notes=item.all_notes)


def _person_key(item: BatchItem) -> str:
    question = item.batch.job.question
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
