"""Beside every row: who said what about the image, what made it, and whether the person finds it good.

Written in the transaction that writes the row. Limits and bills look at the rows only, never here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from .budget import FREE
from .image_settings import LONGEST_NAME, MAX_SIDE, MAX_STEPS, ImageSettings
from .rows import MAX_PROMPT_CHARS, NewRow, Request, Row, insert, latest, one_row, update
from .schema import (
    ANSWERS,
    IMAGE_PROMPTS,
    VERDICTS,
    R,
    RowState,
    chunks,
    clean,
    pack,
    score_of,
    stored_amount,
    utc_day,
    verdict_of,
    without_prompts,
)

V = VERDICTS.c
PERSON = f"{FREE}person"
_IN_SUBJECTS = V.subject.in_(sa.bindparam("subjects", expanding=True))
_RATED = sa.select(V.subject, V.is_good).where(_IN_SUBJECTS, V.is_good.is_not(None)).distinct()
_DESCRIBED = sa.select(V.row_id).where(V.row_id.in_(sa.bindparam("ids", expanding=True)))
_ENDING = VERDICTS.update().where(V.row_id == sa.bindparam("ended_id"))


def insert_described(connection: sa.Connection, new: Sequence[NewRow], now: float, *, keep_prompts: bool) -> list[Row]:
    """New rows, and beside each what made its image. What the person said of the same image and question holds."""
    kept = new if keep_prompts else [replace(each, request=each.request.without_prompt()) for each in new]
    rows = insert(connection, kept, now)
    subjects = [subject_of(each.request) for each in new]
    ratings = _known_ratings(connection, {subject for subject in subjects if subject is not None})
    beside, prompts = [], []
    for each, row, subject in zip(new, rows, subjects, strict=True):
        context = each.request.context
        described = {
            "row_id": row.id,
            "is_final": False,
            "judge": clean(context.judge)[:16],
            "judge_name": clean(context.judge_name)[:LONGEST_NAME],
            "task": clean(context.task)[:100],
            "day": utc_day(now),
            "subject": subject,
            "is_good": ratings.get(subject),
            **_columns(context.image_settings),
        }
        beside.append(described)
        prompt = context.image_settings.prompt
        if keep_prompts and prompt and prompt.strip() != each.request.generation_prompt.strip():
            prompts.append({"row_id": row.id, "prompt": clean(prompt)[:MAX_PROMPT_CHARS]})
    connection.execute(VERDICTS.insert(), beside)
    if prompts:
        connection.execute(IMAGE_PROMPTS.insert(), prompts)
    return rows


def subject_of(request: Request) -> str | None:
    """What stands for an image and what is asked about it, whoever judges; ``None`` without pixels."""
    if not request.pixel_hash:
        return None
    fields = [request.pixel_hash, request.generation_prompt, request.context.instructions]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _columns(image_settings: ImageSettings) -> dict[str, Any]:
    return {
        "checkpoint": _name(image_settings.checkpoint),
        "loras": clean(image_settings.loras_text),
        "sampler": _name(image_settings.sampler),
        "scheduler": _name(image_settings.scheduler),
        "steps": _whole(image_settings.steps, MAX_STEPS),
        "cfg": image_settings.cfg,
        "width": _whole(image_settings.width, MAX_SIDE),
        "height": _whole(image_settings.height, MAX_SIDE),
        "seed": None if image_settings.seed is None else str(image_settings.seed),
    }


def _name(text: str | None) -> str | None:
    return None if text is None else clean(text)[:LONGEST_NAME]


def _whole(number: int | None, most: int) -> int | None:
    return number if number is not None and 0 <= number <= most else None


def _known_ratings(connection: sa.Connection, subjects: Collection[str]) -> dict[str | None, bool]:
    known: dict[str | None, bool] = {}
    for chunk in chunks(sorted(subjects)):
        known |= {subject: is_good for subject, is_good in connection.execute(_RATED, {"subjects": chunk})}
    return known


def settle(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Keep the outcomes of rows that have just ended, beside what made their images."""
    there = set(connection.scalars(_DESCRIBED, {"ids": [row.id for row in rows]}))
    if there:
        connection.execute(_ENDING, [{**_outcome(row), "ended_id": row.id} for row in rows if row.id in there])
    if bare := [_bare(row) for row in rows if row.id not in there]:
        connection.execute(VERDICTS.insert(), bare)
    for row in rows:
        if row.account == PERSON and row.passed is not None:
            rate(connection, row.id, row.passed)


def _outcome(row: Row) -> dict[str, Any]:
    amount = row.cost if row.cost is not None else row.price
    return {
        "is_final": row.is_terminal,
        "passed": row.passed,
        "score": row.score,
        "amount": stored_amount(amount),
    }


def _bare(row: Row) -> dict[str, Any]:
    """Of a row that nothing is known about but its outcome."""
    judge = row.account.removeprefix(FREE)[:16] if row.account.startswith(FREE) else "runflow"
    described = {"judge": judge, "judge_name": "", "task": "", "day": utc_day(row.created_at)}
    return {"row_id": row.id, **described, **_outcome(row)}


def rate(connection: sa.Connection, row_id: int, is_good: bool | None) -> None:
    """The person finds this image good, or not, for what was asked: it holds for whoever judged the same."""
    subject = connection.scalar(sa.select(V.subject).where(V.row_id == row_id))
    which = V.row_id == row_id if subject is None else V.subject == subject
    connection.execute(VERDICTS.update().where(which).values(is_good=is_good))


def rate_by_thumb(connection: sa.Connection, evaluation_id: str, is_positive: bool | None) -> None:
    """A thumb says whether the verdict was right: with a verdict, that says whether the image is good."""
    wanted = sa.select(R.id, R.passed).where(R.evaluation_id == clean(evaluation_id)).order_by(R.id.desc()).limit(1)
    found = connection.execute(wanted).first()
    if found is None or found.passed is None:
        return
    rate(connection, found.id, None if is_positive is None else found.passed is is_positive)


def record_free(
    connection: sa.Connection,
    requests: Sequence[Request],
    answers: Sequence[Mapping[str, Any]],
    now: float,
    *,
    keep_prompts: bool,
) -> None:
    """Verdicts that cost nothing and are known already, in one transaction; what is there already stays."""
    for request, answer in zip(requests, answers, strict=True):
        key = request.account, clean(request.request_hash)
        before = latest(connection, request.account, [key[1]], with_answers=False).get(key)
        if before is not None and before.is_terminal:
            continue
        generation = 0 if before is None else before.generation + 1
        new = NewRow(request, request.account, generation)
        (row,) = insert_described(connection, [new], now, keep_prompts=keep_prompts)
        kept = answer if keep_prompts else without_prompts(answer)
        connection.execute(ANSWERS.insert().values(row_id=row.id, packed=pack(kept)))
        update(
            connection,
            row.id,
            sa.true(),
            state=RowState.COMPLETED,
            finished_at=now,
            cost=stored_amount(Decimal(0)),
            passed=verdict_of(answer.get("overall_passed")),
            score=score_of(answer.get("weighted_pass_rate")),
        )
        settle(connection, [one_row(connection, row.id)])


def are_known(connection: sa.Connection, requests: Sequence[Request]) -> bool:
    """Whether ``record_free`` would write nothing."""
    return all(
        (row := latest(connection, each.account, [each.request_hash], with_answers=False).get(_key(each))) is not None
        and row.is_terminal
        for each in requests
    )


def _key(request: Request) -> tuple[str, str]:
    return request.account, clean(request.request_hash)


# --- what was kept elsewhere, and what is forgotten ---------------------------------------------------


def described(connection: sa.Connection, row_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What is beside these rows, as columns, the prompt of the image among them."""
    found: dict[int, dict[str, Any]] = {}
    wanted = sa.select(VERDICTS, IMAGE_PROMPTS.c.prompt).select_from(
        VERDICTS.outerjoin(IMAGE_PROMPTS, IMAGE_PROMPTS.c.row_id == V.row_id)
    )
    for chunk in chunks(list(row_ids)):
        for row in connection.execute(wanted.where(V.row_id.in_(chunk))):
            found[row.row_id] = dict(row._mapping)
    return found


def bring_along(connection: sa.Connection, row_id: int, row: Row) -> None:
    """Put what was beside ``row`` in another journal beside the one with this id here, and its outcome."""
    beside = dict(row.described or {})
    prompt = beside.pop("prompt", None)
    there = connection.scalar(sa.select(V.row_id).where(V.row_id == row_id))
    if beside and there is None:
        connection.execute(VERDICTS.insert().values({**beside, "row_id": row_id}))
        if isinstance(prompt, str):
            connection.execute(IMAGE_PROMPTS.insert().values(row_id=row_id, prompt=prompt))
    now = one_row(connection, row_id)
    if now.is_terminal:
        settle(connection, [now])


def forget(connection: sa.Connection, row_ids: Sequence[int]) -> None:
    connection.execute(VERDICTS.delete().where(V.row_id.in_(row_ids)))
    connection.execute(IMAGE_PROMPTS.delete().where(IMAGE_PROMPTS.c.row_id.in_(row_ids)))
