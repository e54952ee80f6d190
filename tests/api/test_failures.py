"""The two decisions about an error: who paid, and whom it concerns. And what follows for a batch."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from support.evaluators import judge, make_evaluator
from support.pictures import picture

from runflow_api import errors
from runflow_api.errors import RunflowError
from runflow_api.evaluation.evaluator import Evaluator
from runflow_api.evaluation.failures import Acceptance, Scope, classify, scope_of
from runflow_api.evaluation.question import Options, Question, Reference
from runflow_api.evaluation.verdict import FAILED, PASSED, UNKNOWN
from runflow_api.journal.journal import Journal, JournalError, Limits, Request, Row
from runflow_api.sandbox.app import Fault, Sandbox

SUBMIT = "/v1/evaluations"
NOT_ACCEPTED, MAYBE_ACCEPTED, REFUSED = Acceptance


def api_error(kind: type[errors.ApiError], status: int, *fields: str) -> errors.ApiError:
    return kind("no", status=status, fields=fields)


def row(*, is_new: bool) -> Row:
    with Journal.in_memory() as journal:
        request = Request("hash", "account", None, "standard", "prompt")
        limits = Limits(per_prompt=9, per_day=9)
        first, again = (journal.begin([request], limits)[0] for _ in range(2))
    return first if is_new else again


@pytest.mark.parametrize(
    ("error", "first_send"),
    [
        (errors.NetworkError("refused"), NOT_ACCEPTED),
        (errors.ConfigurationError("no bundle"), NOT_ACCEPTED),
        (api_error(errors.RateLimitError, 429), NOT_ACCEPTED),
        (api_error(errors.ValidationError, 400), REFUSED),
        (api_error(errors.AuthenticationError, 401), REFUSED),
        (api_error(errors.InsufficientCreditError, 402), REFUSED),
        (api_error(errors.PermissionDeniedError, 403), REFUSED),
        (api_error(errors.NotFoundError, 404), REFUSED),
        (api_error(errors.ConflictError, 409), REFUSED),
        (api_error(errors.ValidationError, 413), REFUSED),
        (api_error(errors.ValidationError, 422), REFUSED),
    ],
    ids=lambda value: getattr(value, "code", str(value)),
)
def test_who_paid(error: RunflowError, first_send: Acceptance) -> None:
    assert classify(error, row(is_new=True)) is first_send
    assert classify(error, row(is_new=False)) is MAYBE_ACCEPTED
    error.may_have_been_accepted = True  # as the transport says where an attempt may have arrived
    assert classify(error, row(is_new=True)) is MAYBE_ACCEPTED


@pytest.mark.parametrize(
    ("error", "scope"),
    [
        (api_error(errors.ValidationError, 400), Scope.ONE_IMAGE),
        (api_error(errors.ValidationError, 413), Scope.ONE_IMAGE),
        (api_error(errors.ValidationError, 422), Scope.ONE_IMAGE),
        (api_error(errors.ValidationError, 422, "generated_image_url"), Scope.ONE_IMAGE),
        (api_error(errors.ValidationError, 422, "something_new"), Scope.ONE_IMAGE),
        (api_error(errors.ValidationError, 422, "task_type"), Scope.EVERY_IMAGE),
        (api_error(errors.ValidationError, 422, "generated_image_url", "reference_images"), Scope.EVERY_IMAGE),
        (api_error(errors.ValidationError, 405), Scope.EVERY_IMAGE),
        (api_error(errors.AuthenticationError, 401), Scope.EVERY_IMAGE),
        (api_error(errors.PermissionDeniedError, 403), Scope.EVERY_IMAGE),
        (errors.ConfigurationError("no key"), Scope.EVERY_IMAGE),
        (errors.InvalidInputError("evaluation_ids", "unknown"), Scope.EVERY_IMAGE),
        (errors.InvalidInputError("image 3", "has no pixels"), Scope.ONE_IMAGE),
        (api_error(errors.InsufficientCreditError, 402), Scope.FOR_NOW),
        (errors.BudgetError("limit"), Scope.FOR_NOW),
        (JournalError("locked"), Scope.FOR_NOW),
        (errors.NetworkError("down"), Scope.FOR_NOW),
        (api_error(errors.ServerError, 503), Scope.FOR_NOW),
        (api_error(errors.RateLimitError, 429), Scope.FOR_NOW),
        (errors.EvaluationFailedError("invalid_media"), Scope.ONE_IMAGE),
        (errors.EvaluationTimeoutError("late"), Scope.ONE_IMAGE),
        (api_error(errors.ConflictError, 409), Scope.ONE_IMAGE),
    ],
    ids=lambda value: str(value)[:40],
)
def test_whom_an_error_concerns(error: RunflowError, scope: Scope) -> None:
    assert scope_of(error) is scope


def test_what_each_image_has_for_itself_concerns_one_image() -> None:
    refused = api_error(errors.ValidationError, 422, "generation_prompt")
    assert scope_of(refused) is Scope.EVERY_IMAGE
    assert scope_of(refused, {"generated_image_url", "generation_prompt"}) is Scope.ONE_IMAGE


def test_a_damaged_answer_in_the_journal_is_read_anew_for_free(sandbox: Sandbox, tmp_path: Path) -> None:
    first = make_evaluator(sandbox, tmp_path)
    batch = [picture(seed, 64, 64) for seed in range(3)]
    before = judge(first, *batch, prompt_token="one")
    first.close()
    with closing(sqlite3.connect(tmp_path / "sandbox" / "journal.sqlite3")) as connection, connection:
        connection.execute("UPDATE runflow_answers SET packed = x'00' WHERE row_id = 2")
    after = judge(make_evaluator(sandbox, tmp_path), *batch, prompt_token="two")
    assert [each.outcome for each in after] == [each.outcome for each in before]
    assert ["read again, for free" in " ".join(each.notes) for each in after] == [False, True, False]
    assert len(sandbox.bills) == 3


# --- one bad image of a batch ---------------------------------------------------------------------------


def refuse_one(sandbox: Sandbox, status: int) -> None:
    body = {"code": "UNREADABLE_IMAGE", "message": "the image cannot be decoded", "errors": []}
    sandbox.add_fault(Fault("POST", SUBMIT, "status", status=status, body=body))


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_refused_image_of_eight_costs_the_others_nothing(
    sandbox: Sandbox, evaluator: Evaluator, status: int
) -> None:
    refuse_one(sandbox, status)
    options = Options(upload="data_uri")
    batch = [picture(seed, 64, 64) for seed in range(8)]
    with pytest.raises(errors.ValidationError) as caught:
        judge(evaluator, *batch, prompt_token="one", options=options)
    said = str(caught.value)
    assert said.startswith("[UNREADABLE_IMAGE] ")
    assert "the image cannot be decoded" in said
    assert "Nothing was paid. 7 of 8 kept; run again pays 1." in said
    assert len(caught.value.unjudged_indices or ()) == 1
    assert len(sandbox.bills) == 7
    assert judge(evaluator, *batch, prompt_token="two", options=options).outcome in (PASSED, FAILED)
    assert len(sandbox.bills) == 8


@pytest.mark.parametrize(("if_not_judged", "passed"), [("fail", False), ("pass", True)])
def test_a_refused_image_is_unknown_where_the_policy_says_what_that_counts_as(
    sandbox: Sandbox, evaluator: Evaluator, if_not_judged: str, passed: bool
) -> None:
    refuse_one(sandbox, 422)
    got = judge(evaluator, *(picture(seed, 64, 64) for seed in range(3)), if_not_judged=if_not_judged)
    (refused,) = [each for each in got if each.outcome == UNKNOWN]
    assert refused.passed is passed
    assert "the image cannot be decoded" in refused.issues[0]
    assert sum(each.outcome in (PASSED, FAILED) for each in got) == 2


def test_a_refusal_that_names_what_all_images_share_stops_at_once(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path, RUNFLOW_CONCURRENCY="2")
    body = {"code": "VALIDATION_ERROR", "message": "no", "errors": [{"loc": ["body", "task_type"], "msg": "unknown"}]}
    sandbox.add_fault(Fault("POST", SUBMIT, "status", times=None, status=422, body=body))
    with pytest.raises(errors.ValidationError, match="0 of 12 kept; run again pays 12"):
        judge(evaluator, *(picture(seed, 64, 64) for seed in range(12)), if_not_judged="pass")
    assert len(sandbox.requests) <= 4


# --- too large inside the request -----------------------------------------------------------------------


def test_an_image_too_large_inside_the_request_goes_by_upload(sandbox: Sandbox, evaluator: Evaluator) -> None:
    sandbox.add_fault(Fault("POST", SUBMIT, "status", status=413))
    question = Question(references=(Reference(pixels=picture(9, 64, 64)),))
    got = judge(evaluator, picture(1, 64, 64), question=question)
    assert got.outcome in (PASSED, FAILED)
    refused, taken = [each for each in sandbox.requests if each.method == "POST" and each.path == SUBMIT]
    assert refused.body["generated_image_url"].startswith("data:image/")
    assert taken.body["generated_image_url"].startswith("runflow://assets/")
    assert taken.body["reference_images"][0]["url"].startswith("runflow://assets/")
    assert refused.headers["idempotency-key"] != taken.headers["idempotency-key"]
    assert len(sandbox.bills) == 1
    assert evaluator.journal().spent_today().evaluations == 1
    assert got[0].cost == Decimal("0.10")


@pytest.mark.parametrize("upload", ["auto", "data_uri"])
def test_where_no_upload_is_to_be_had_the_refusal_of_the_size_is_told(
    sandbox: Sandbox, tmp_path: Path, upload: str
) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    sandbox.add_fault(Fault("POST", SUBMIT, "status", times=None, status=413))
    sandbox.add_fault(Fault("POST", "/v1/asset-uploads", "status", times=None, status=403))
    with pytest.raises(errors.ValidationError) as caught:
        judge(evaluator, picture(1, 64, 64), options=Options(upload=upload), if_not_judged="stop")
    assert caught.value.status == 413
    assert "Nothing was paid" in str(caught.value)
    evaluator.close()  # what was reserved and not sent is given back by then
    assert make_evaluator(sandbox, tmp_path).journal().spent_today().evaluations == 0
