"""The one path from request to verdict, over real HTTP."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.evaluators import configuration, judge, make_evaluator
from support.pictures import picture
from support.waiting import LESS_THAN_ANY_HANG_S, judge_now, wait_until

from runflow_api import background, errors, images
from runflow_api.evaluation import results
from runflow_api.evaluation.evaluator import ENCODERS, Evaluator, Job
from runflow_api.evaluation.question import Options, Question, Reference
from runflow_api.evaluation.verdict import FAILED, LOCAL, OFF, PASSED, PREFLIGHT, RUNFLOW, UNKNOWN
from runflow_api.journal.journal import Journal, Row
from runflow_api.sandbox.app import Fault, Sandbox, ScriptedVerdict

WORKER = Path(__file__).with_name("worker.py")
SUBMIT, READ = "/v1/evaluations", "/v1/evaluations/[0-9a-f-]{36}"


def polls(sandbox: Sandbox) -> list:
    return [each for each in sandbox.requests if each.method == "GET"]


def test_a_verdict_takes_one_submission_small_polls_and_one_full_read(sandbox: Sandbox, evaluator: Evaluator) -> None:
    sandbox.latency = 2.0
    sandbox.add_verdict(
        ScriptedVerdict(passed=False, score=0.4, issues=["six fingers"], improved_prompt="five fingers")
    )
    got = judge(evaluator, picture(), question=Question("a hand"))
    assert (got.passed, got.score, got.issues, got.improved_prompt) == (False, 0.4, "six fingers", "five fingers")
    assert got[0].cost == Decimal("0.10")
    assert [each.method for each in sandbox.requests].count("POST") == 1
    *early, last = polls(sandbox)
    assert [each.query for each in early] == [{}] * len(early) != []
    assert last.query == {"embed": ["judges,action,gate_failures"]}
    assert sandbox.connections == 1


def test_the_api_gets_exactly_the_pixels_and_the_question(sandbox: Sandbox, evaluator: Evaluator) -> None:
    image = picture(3, channels=4)
    question = Question("a cat", "count the toes", "headshot", "for a passport")
    options = Options(input_attributes='{"style": "plain"}', client_ref="mine", run_id=sandbox.add_run())
    judge(evaluator, image, question=question, options=options)
    (stored,) = sandbox.evaluations.values()
    assert np.array_equal(stored.pixels(), images.to_pixels(image))
    sent = sandbox.requests[0].body
    assert {name: value for name, value in sent.items() if name != "generated_image_url"} == {
        "task_type": "headshot",
        "task_description": "for a passport",
        "generation_prompt": "a cat",
        "evaluation_instructions": "count the toes",
        "input_attributes": {"style": "plain"},
        "client_ref": "mine",
        "run_id": options.run_id,
        "job_class": "standard",
    }


def test_references_travel_with_the_image_in_their_order(sandbox: Sandbox, evaluator: Evaluator) -> None:
    references = (
        Reference(pixels=picture(5), kind="identity", description="her face"),
        Reference(url="https://images.example/coat.png", kind="garment"),
    )
    judge(evaluator, picture(), question=Question(references=references), judge="runflow")
    first, second = sandbox.requests[0].body["reference_images"]
    assert (first["kind"], first["description"]) == ("identity", "her face")
    assert first["url"].startswith("data:image/webp;base64,")
    assert second == {"url": "https://images.example/coat.png", "kind": "garment"}


def test_a_batch_is_judged_at_once_and_in_order(sandbox: Sandbox, evaluator: Evaluator) -> None:
    sandbox.latency = 600.0
    batch = [picture(seed) for seed in range(12)]
    judged = background.start(evaluator.evaluate(Job(batch)))
    wait_until(lambda: len(sandbox.evaluations) == len(batch))  # none of them has a verdict yet
    judge_now(sandbox)
    got = judged.result(timeout=60)
    assert [each.subject.pixel_hash for each in got] == [images.pixel_hash(images.to_pixels(each)) for each in batch]
    stored = sandbox.evaluations
    for verdict, image in zip(got, batch, strict=True):
        assert np.array_equal(stored[verdict.evaluation.id].pixels(), images.to_pixels(image))
    assert sandbox.connections <= evaluator.config.concurrency


def test_equal_images_of_a_batch_are_paid_once(sandbox: Sandbox, evaluator: Evaluator) -> None:
    got = judge(evaluator, picture(1), picture(2), picture(1))
    assert len(sandbox.bills) == 2
    assert [each.cost for each in got] == [Decimal("0.10"), Decimal("0.10"), 0]
    assert got[0].evaluation.id == got[2].evaluation.id


# --- reuse and resume -----------------------------------------------------------------------------------


def test_the_same_question_again_is_free_and_says_so(sandbox: Sandbox, evaluator: Evaluator, tmp_path: Path) -> None:
    first = judge(evaluator, picture(), question=Question("a cat"), prompt_token="one")
    again = judge(make_evaluator(sandbox, tmp_path), picture(), question=Question("a cat"), prompt_token="two")
    assert len(sandbox.bills) == 1
    assert (again[0].reused, again[0].cost, again[0].evaluation.id) == (True, 0, first[0].evaluation.id)
    assert again[0].evaluation.judges == first[0].evaluation.judges


@pytest.mark.parametrize(
    "changed",
    [
        {"question": Question("another prompt")},
        {"question": Question(evaluation_instructions="look at the hands")},
        {"question": Question(references=(Reference(pixels=picture(8)),))},
        {"options": Options(client_ref="other")},
    ],
)
def test_another_question_is_another_evaluation(sandbox: Sandbox, evaluator: Evaluator, changed: dict) -> None:
    judge(evaluator, picture())
    judge(evaluator, picture(), **changed)
    assert len(sandbox.bills) == 2


@pytest.mark.parametrize("changed", [{"min_score": 0.9}, {"if_not_judged": "pass"}, {"options": Options(timeout_s=9)}])
def test_what_only_this_pack_reads_is_no_other_question(sandbox: Sandbox, evaluator: Evaluator, changed: dict) -> None:
    judge(evaluator, picture())
    assert judge(evaluator, picture(), **changed)[0].reused


def test_reuse_off_pays_for_a_new_verdict(sandbox: Sandbox, evaluator: Evaluator) -> None:
    for _ in range(2):
        judge(evaluator, picture(), options=Options(reuse=False))
    assert len(sandbox.bills) == 2


def test_a_null_verdict_is_reused_too(sandbox: Sandbox, evaluator: Evaluator) -> None:
    sandbox.add_verdict(ScriptedVerdict(null=True))
    first = judge(evaluator, picture())
    assert (first.outcome, first.passed) == (UNKNOWN, False)
    assert judge(evaluator, picture())[0].reused
    assert len(sandbox.bills) == 1


def test_what_timed_out_is_picked_up_by_the_next_run(sandbox: Sandbox, evaluator: Evaluator) -> None:
    judge(evaluator, picture(9))  # opens the journal, which takes its time where many do so
    sandbox.latency = 3.0
    with pytest.raises(errors.EvaluationTimeoutError) as caught:
        judge(evaluator, picture(), options=Options(timeout_s=2))
    assert caught.value.evaluation_ids == tuple(sandbox.evaluations)[1:]
    assert "paid for once" in str(caught.value)
    assert judge(evaluator, picture()).outcome in (PASSED, FAILED)
    assert len(sandbox.bills) == len(sandbox.evaluations) == 2


def test_five_lost_answers_to_a_submission_are_one_bill_at_the_next_run(sandbox: Sandbox, evaluator: Evaluator) -> None:
    sandbox.add_fault(Fault("POST", SUBMIT, "drop_after", times=5))
    with pytest.raises(errors.NetworkError, match="nothing is paid for twice"):
        judge(evaluator, picture(), prompt_token="one")
    assert judge(evaluator, picture(), prompt_token="two").outcome in (PASSED, FAILED)
    assert len(sandbox.bills) == 1


def test_a_resend_after_a_restart_has_the_same_bytes_even_from_another_encoder(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.add_fault(Fault("POST", SUBMIT, "drop_after", times=5))
    with pytest.raises(errors.NetworkError):
        judge(make_evaluator(sandbox, tmp_path), picture())
    monkeypatch.setattr(images, "encode_lossless", lambda pixels: images.EncodedImage(b"other", "image/png"))
    judge(make_evaluator(sandbox, tmp_path), picture())
    submissions = [each for each in sandbox.requests if each.method == "POST"]
    assert len({repr((each.headers["idempotency-key"], each.body)) for each in submissions}) == 1
    assert len(sandbox.bills) == 1


def lose_spool(directory: Path) -> None:
    (body,) = (directory / "sandbox" / "spool").iterdir()
    body.unlink()


def test_a_lost_body_is_made_anew_and_paid_once(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "OWNER_AT_LEAST_S", 600.0)  # nobody else is waited for
    sandbox.add_fault(Fault("POST", SUBMIT, "drop_after", times=5))
    with pytest.raises(errors.NetworkError):
        judge(make_evaluator(sandbox, tmp_path), picture())
    lose_spool(tmp_path)
    assert judge(make_evaluator(sandbox, tmp_path), picture(), prompt_token="two").outcome in (PASSED, FAILED)
    assert len(sandbox.bills) == 1


def test_a_lost_body_that_cannot_be_made_again_is_not_waited_for_until_the_time_is_up(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "OWNER_AT_LEAST_S", 0.5)
    monkeypatch.setattr(results, "OWNER_WITHIN_S", 0.5)
    as_asset = Options(upload="asset", timeout_s=600)  # each upload has another id
    sandbox.add_fault(Fault("POST", SUBMIT, "drop_before", times=5))
    with pytest.raises(errors.NetworkError):
        judge(make_evaluator(sandbox, tmp_path), picture(), options=as_asset)
    lose_spool(tmp_path)
    started = time.monotonic()
    with pytest.raises(errors.EvaluationTimeoutError, match="nothing is paid for twice: run again later"):
        judge(make_evaluator(sandbox, tmp_path), picture(), options=as_asset, prompt_token="two")
    assert time.monotonic() - started < LESS_THAN_ANY_HANG_S
    assert sandbox.bills == []


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (lambda journal, row: journal.abandon(row), "gave up. It may have been billed"),
        (lambda journal, row: journal.record_refusal(row, "UNAUTHORIZED"), r"not accepted \(UNAUTHORIZED\)"),
    ],
)
def test_what_another_process_ended_meanwhile_is_told_at_once(
    sandbox: Sandbox, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, end: Any, text: str
) -> None:
    fix_body = Journal.fix_body

    def late(journal: Journal, row: Row, body: bytes) -> bytes | None:
        end(journal, row)
        return fix_body(journal, row, body)

    monkeypatch.setattr(Journal, "fix_body", late)
    started = time.monotonic()
    with pytest.raises(errors.NotJudgedError, match=text):
        judge(evaluator, picture())
    assert time.monotonic() - started < LESS_THAN_ANY_HANG_S
    assert sandbox.bills == []


def test_two_evaluators_asking_the_same_at_once_pay_once(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluators = [make_evaluator(sandbox, tmp_path) for _ in range(2)]
    jobs = [Job([picture()], prompt_token=str(number)) for number in range(6)]
    futures = [background.start(evaluators[n % 2].evaluate(job)) for n, job in enumerate(jobs)]
    ids = {future.result(timeout=60)[0].evaluation.id for future in futures}
    assert len(ids) == len(sandbox.bills) == 1


def test_two_places_that_share_a_journal_but_no_spool_pay_once(sandbox: Sandbox, tmp_path: Path) -> None:
    shared = {"RUNFLOW_JOURNAL_URL": f"sqlite:///{tmp_path / 'shared.sqlite3'}"}
    places = [make_evaluator(sandbox, tmp_path / name, **shared) for name in ("one", "two")]
    sandbox.add_fault(Fault("POST", SUBMIT, "late", delay=0.4))
    futures = [background.start(place.evaluate(Job([picture()], prompt_token=str(place)))) for place in places]
    ids = {future.result(timeout=60)[0].evaluation.id for future in futures}
    assert len(ids) == len(sandbox.bills) == 1


def test_another_account_does_not_reuse(sandbox: Sandbox, evaluator: Evaluator, tmp_path: Path) -> None:
    judge(evaluator, picture())
    other = make_evaluator(sandbox, tmp_path, RUNFLOW_ORGANIZATION_ID="5a9d0b0c-0000-4000-8000-000000000042")
    assert not judge(other, picture())[0].reused
    assert len(sandbox.bills) == 2


@pytest.mark.parametrize("status", [401, 402, 403, 409, 422])
def test_a_refusal_of_a_resend_does_not_forget_that_the_first_send_may_be_billed(
    sandbox: Sandbox, evaluator: Evaluator, status: int
) -> None:
    sandbox.add_fault(Fault("POST", SUBMIT, "drop_after"))
    sandbox.add_fault(Fault("POST", SUBMIT, "status", times=None, status=status))
    with pytest.raises(errors.RunflowError) as caught:
        judge(evaluator, picture(), prompt_token="one", options=Options(timeout_s=2))
    assert "Nothing was paid" not in str(caught.value)
    sandbox.clear_faults()
    assert judge(evaluator, picture(), prompt_token="two").outcome in (PASSED, FAILED)
    assert len(sandbox.bills) == 1


def test_a_conflict_with_another_process_that_sends_the_same_is_waited_out(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.add_fault(Fault("POST", SUBMIT, "late", delay=0.5, times=None))
    asking = [make_evaluator(sandbox, tmp_path, read_timeout=5.0) for _ in range(2)]
    jobs = [Job([picture(number % 4)], prompt_token=f"p{number // 4}") for number in range(8)]
    futures = [background.start(asking[number // 4].evaluate(job)) for number, job in enumerate(jobs)]
    ids = {future.result(timeout=60)[0].evaluation.id for future in futures}
    assert len(ids) == len(sandbox.bills) == 4


def test_details_that_could_not_be_read_are_read_by_the_next_run_for_free(
    sandbox: Sandbox, evaluator: Evaluator
) -> None:
    sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.2, improved_prompt="better", judges=[{"name": "hands"}]))
    sandbox.add_fault(Fault("GET", READ, "status", times=5, after_skip=1, status=500))
    assert judge(evaluator, picture(), question=Question("a hand")).improved_prompt == "a hand"
    again = judge(evaluator, picture(), question=Question("a hand"), prompt_token="two")
    assert again.improved_prompt == "better"
    assert again[0].evaluation.judges[0].name == "hands"
    assert len(sandbox.bills) == 1


def test_an_evaluation_that_runflow_no_longer_knows_is_told_and_the_next_run_starts_anew(
    sandbox: Sandbox, evaluator: Evaluator
) -> None:
    sandbox.latency = 30.0
    with pytest.raises(errors.EvaluationTimeoutError):
        judge(evaluator, picture(), options=Options(timeout_s=1))
    (known,) = sandbox.evaluations
    sandbox.latency = 0.05
    sandbox.add_fault(Fault("GET", f"/v1/evaluations/{known}", "status", times=None, status=404))
    with pytest.raises(errors.NotJudgedError, match=f"does not know evaluation {known} any more"):
        judge(evaluator, picture(), prompt_token="two")
    assert judge(evaluator, picture(), prompt_token="three").outcome in (PASSED, FAILED)


def test_a_cancelled_prompt_does_not_fail_another_that_asked_the_same(sandbox: Sandbox, tmp_path: Path) -> None:
    asking = [make_evaluator(sandbox, tmp_path, read_timeout=30.0) for _ in range(2)]
    options = Options(upload="asset")
    sandbox.add_fault(Fault("POST", "/v1/asset-uploads", "hang"))
    jobs = [Job([picture()], options=options, prompt_token=token) for token in ("one", "two")]
    first = background.start(asking[0].evaluate(jobs[0]))
    sandbox.wait_for_requests("POST", "/v1/asset-uploads")
    second = background.start(asking[1].evaluate(jobs[1]))
    sandbox.wait_for_requests("POST", "/v1/asset-uploads", 2)
    first.cancel()
    assert second.result(timeout=60).outcome in (PASSED, FAILED)
    assert len(sandbox.bills) == 1


@pytest.mark.parametrize("path", [SUBMIT, READ])
def test_an_answer_that_drips_is_left_behind_when_the_time_is_up(
    sandbox: Sandbox, evaluator: Evaluator, path: str
) -> None:
    sandbox.add_fault(Fault("*", path, "slow", times=None, delay=30.0))
    started = time.monotonic()
    with pytest.raises(errors.RunflowError):
        judge(evaluator, picture(), options=Options(timeout_s=1))
    assert time.monotonic() - started < LESS_THAN_ANY_HANG_S


def test_a_hung_reference_upload_does_not_hold_another_job(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path, read_timeout=30.0)
    sandbox.add_fault(Fault("POST", "/v1/asset-uploads", "hang", times=None))
    hung = Job([picture(1)], Question(references=(Reference(pixels=picture(2)),)), options=Options(upload="asset"))
    first = background.start(evaluator.evaluate(hung))
    sandbox.wait_for_requests("POST", "/v1/asset-uploads")
    question = Question(references=(Reference(url="https://images.example/coat.png"),))
    assert judge(evaluator, picture(3), question=question).outcome in (PASSED, FAILED)
    first.cancel()


def test_a_wrong_base_url_stops_whatever_the_policy_says(sandbox: Sandbox, evaluator: Evaluator) -> None:
    sandbox.add_fault(Fault("POST", SUBMIT, "html", times=None, status=404))
    with pytest.raises(errors.ConfigurationError, match="RUNFLOW_BASE_URL"):
        judge(evaluator, picture(), if_not_judged="pass")


def test_two_nodes_with_a_broken_journal_still_pay_once(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path)
    with spoil("corrupt", tmp_path / "sandbox"):
        futures = [background.start(evaluator.evaluate(Job([picture()]))) for _ in range(4)]
        ids = {future.result(timeout=60)[0].evaluation.id for future in futures}
    assert len(ids) == len(sandbox.bills) == 1


# --- outages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [SUBMIT, READ])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_before"},
        {"kind": "drop_after"},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503, "retry_after": "0"},
        {"kind": "status", "status": 429},
        {"kind": "status", "status": 429, "retry_after": "0"},
        {"kind": "status", "status": 429, "retry_after": "date:0"},
        {"kind": "status", "status": 429, "retry_after": "-7"},
        {"kind": "html"},
        {"kind": "html", "status": 200},
        {"kind": "garbage"},
        {"kind": "not_utf8"},
        {"kind": "wrong_shape"},
        {"kind": "truncated"},
        {"kind": "slow", "delay": 0.3},
        {"kind": "hang"},
        {"kind": "garbage", "body": '{"id": null}'},
        {"kind": "garbage", "body": "[" * 100_000},
        {"kind": "garbage", "body": '{"id": "x", "id": NaN}'},
    ],
    ids=lambda fault: "-".join(str(value)[:12] for value in fault.values()),
)
def test_every_fault_ends_in_a_verdict_that_is_paid_once(
    sandbox: Sandbox, tmp_path: Path, path: str, fault: dict
) -> None:
    method = "POST" if path == SUBMIT else "GET"
    sandbox.add_fault(Fault(method, path, times=2, **fault))
    got = judge(make_evaluator(sandbox, tmp_path, read_timeout=0.5), picture())
    assert got.outcome in (PASSED, FAILED)
    assert len(sandbox.bills) == 1
    assert len(sandbox.evaluations) == 1


def test_an_outage_while_waiting_is_waited_out(sandbox: Sandbox, evaluator: Evaluator) -> None:
    sandbox.add_fault(Fault("GET", READ, "status", times=17, status=503))
    assert judge(evaluator, picture()).outcome in (PASSED, FAILED)


def test_a_verdict_whose_details_cannot_be_read_is_not_thrown_away(sandbox: Sandbox, evaluator: Evaluator) -> None:
    sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.2, issues=["six fingers"]))
    sandbox.add_fault(Fault("GET", READ, "status", times=None, after_skip=1, status=503))
    got = judge(evaluator, picture())
    assert (got.outcome, got.score) == (FAILED, 0.2)
    assert "details of the verdict could not be read" in got.notes
    assert "six fingers" in got.issues


@pytest.mark.parametrize(
    ("status", "code"), [(401, "UNAUTHORIZED"), (403, "PERMISSION_DENIED"), (422, "VALIDATION_ERROR")]
)
@pytest.mark.parametrize("if_not_judged", ["stop", "fail", "pass"])
def test_credentials_permission_and_input_stop_whatever_the_policy_says(
    sandbox: Sandbox, evaluator: Evaluator, status: int, code: str, if_not_judged: str
) -> None:
    body = {"code": code, "message": "no", "errors": [{"field": "task_type", "message": "unknown"}]}
    sandbox.add_fault(Fault("POST", SUBMIT, "status", times=None, status=status, body=body))
    with pytest.raises(errors.ApiError) as caught:
        judge(evaluator, picture(), if_not_judged=if_not_judged)
    assert str(caught.value).startswith(f"[{code}] ")
    assert len(sandbox.requests) == 1
    sandbox.clear_faults()
    assert judge(evaluator, picture()).outcome in (PASSED, FAILED)  # the refused row stands in nobody's way
    assert len(sandbox.bills) == 1


def test_a_refused_key_is_not_tried_with_every_image_of_a_batch(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.add_fault(Fault("POST", SUBMIT, "status", times=None, status=401))
    evaluator = make_evaluator(sandbox, tmp_path, RUNFLOW_CONCURRENCY="2")
    with pytest.raises(errors.AuthenticationError):
        judge(evaluator, *(picture(seed) for seed in range(12)))
    assert len(sandbox.requests) <= 4


@pytest.mark.parametrize(("if_not_judged", "passed"), [("fail", False), ("pass", True)])
@pytest.mark.parametrize(
    ("failure_code", "cost"),
    [("processing_failed", Decimal("0.10")), ("dispatch_failed", None), ("invalid_media", None)],
)
def test_a_failed_evaluation_is_named_and_counts_as_decided(
    sandbox: Sandbox, evaluator: Evaluator, if_not_judged: str, passed: bool, failure_code: str, cost: Decimal | None
) -> None:
    sandbox.add_verdict(ScriptedVerdict(failure_code=failure_code))
    got = judge(evaluator, picture(), if_not_judged=if_not_judged)
    assert (got.outcome, got.passed, got[0].cost) == (UNKNOWN, passed, cost)
    assert failure_code in got.issues
    assert "[EVALUATION_FAILED]" in got.issues


def test_a_failed_evaluation_is_not_resubmitted_in_the_same_prompt_but_in_the_next(
    sandbox: Sandbox, evaluator: Evaluator
) -> None:
    sandbox.add_verdict(ScriptedVerdict(failure_code="processing_failed"))
    for _ in range(2):
        with pytest.raises(errors.EvaluationFailedError, match=r"It cost 0\.10 credits"):
            judge(evaluator, picture(), prompt_token="one")
    assert len(sandbox.evaluations) == 1
    assert judge(evaluator, picture(), prompt_token="two").outcome in (PASSED, FAILED)
    assert len(sandbox.evaluations) == 2


def test_one_image_that_fails_does_not_lose_the_others(sandbox: Sandbox, evaluator: Evaluator) -> None:
    sandbox.add_verdict(ScriptedVerdict(failure_code="processing_failed"))
    batch = [picture(seed) for seed in range(8)]
    with pytest.raises(errors.EvaluationFailedError) as caught:
        judge(evaluator, *batch, prompt_token="one")
    assert "7 of 8 kept; run again pays 1" in str(caught.value)
    assert len(caught.value.unjudged_indices) == 1
    assert judge(evaluator, *batch, prompt_token="two").outcome in (PASSED, FAILED)
    assert len(sandbox.evaluations) == 9


def test_no_credit_is_nobodys_verdict(tmp_path: Path) -> None:
    with Sandbox(latency=0.05, balance="0.05") as poor:
        evaluator = make_evaluator(poor, tmp_path)
        with pytest.raises(errors.InsufficientCreditError, match="top it up"):
            judge(evaluator, picture())
        assert judge(evaluator, picture(), if_not_judged="fail").outcome == UNKNOWN
        assert poor.bills == []


# --- money ----------------------------------------------------------------------------------------------


def test_a_batch_over_the_limit_of_a_prompt_sends_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path, RUNFLOW_MAX_EVALUATIONS_PER_PROMPT="3")
    with pytest.raises(errors.BudgetError) as caught:
        judge(evaluator, *(picture(seed) for seed in range(4)))
    assert "RUNFLOW_MAX_EVALUATIONS_PER_PROMPT" in str(caught.value)
    assert sandbox.requests == []
    assert judge(evaluator, *(picture(seed) for seed in range(3)), prompt_token="two").outcome in (PASSED, FAILED)


def test_credits_per_day_are_counted_with_the_quoted_price(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path, RUNFLOW_MAX_CREDITS_PER_DAY="0.25")
    judge(evaluator, picture(1), picture(2))
    with pytest.raises(errors.BudgetError):
        judge(evaluator, picture(3))
    assert judge(evaluator, picture(1))[0].reused
    assert len(sandbox.bills) == 2


def test_an_unknown_price_and_a_limit_of_credits_refuse(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.add_fault(Fault("GET", "/v1/evaluations/job-classes", "status", times=None, status=404))
    evaluator = make_evaluator(sandbox, tmp_path, RUNFLOW_MAX_CREDITS_PER_DAY="5")
    with pytest.raises(errors.BudgetError, match="price"):
        judge(evaluator, picture())
    assert sandbox.evaluations == {}


@pytest.mark.parametrize("if_not_judged", ["stop", "pass"])
@pytest.mark.parametrize(
    "broken", [np.full((300, 300, 3), 0.5, np.float32), np.full((300, 300, 3), np.nan, np.float32)]
)
def test_a_broken_image_fails_before_it_is_paid(
    sandbox: Sandbox, evaluator: Evaluator, broken: np.ndarray, if_not_judged: str
) -> None:
    got = judge(evaluator, broken, if_not_judged=if_not_judged)
    assert (got.outcome, got[0].judge, got.score, got[0].cost) == (FAILED, PREFLIGHT, 0.0, 0)
    assert got.issues
    assert sandbox.requests == []


def test_a_full_preflight_fails_what_the_local_judge_would(sandbox: Sandbox, evaluator: Evaluator) -> None:
    dark = picture() * 0.05
    assert judge(evaluator, dark, options=Options(preflight="full"))[0].judge == PREFLIGHT
    assert judge(evaluator, dark)[0].judge == RUNFLOW


def test_without_preflight_values_that_are_no_numbers_are_refused(sandbox: Sandbox, evaluator: Evaluator) -> None:
    image = picture()
    image[0, 0, 0] = np.nan
    with pytest.raises(errors.InvalidInputError, match="1 of 276480 values are not numbers"):
        judge(evaluator, image, options=Options(preflight="off"))
    assert sandbox.requests == []


def test_an_image_too_large_for_a_data_uri_is_uploaded(
    sandbox: Sandbox, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_URL_CHARACTERS", 10_000)
    image = picture()
    got = judge(evaluator, image)
    assert sandbox.requests[-1].status == 200
    (stored,) = sandbox.evaluations.values()
    assert np.array_equal(stored.pixels(), images.to_pixels(image))
    assert "lossy" not in got.notes
    put = next(each for each in sandbox.requests if each.method == "PUT")
    assert "authorization" not in put.headers


def test_a_refused_upload_becomes_a_lossy_copy_that_is_told(
    sandbox: Sandbox, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_URL_CHARACTERS", 30_000)
    monkeypatch.setattr(images.encode_lossy, "__defaults__", (30_000,))
    sandbox.add_fault(Fault("POST", "/v1/asset-uploads", "status", times=None, status=403))
    assert "lossy copy" in judge(evaluator, picture()).notes


def test_an_upload_that_fails_on_the_way_is_tried_again(sandbox: Sandbox, evaluator: Evaluator) -> None:
    sandbox.add_fault(Fault("PUT", ".*", "drop_before", times=2))
    sandbox.add_fault(Fault("POST", "/v1/asset-uploads/.*/confirmations", "html"))
    assert judge(evaluator, picture(), options=Options(upload="asset")).outcome in (PASSED, FAILED)
    assert len(sandbox.bills) == 1


# --- who judges -----------------------------------------------------------------------------------------


def local(tmp_path: Path) -> Evaluator:
    return Evaluator(configuration(), tmp_path)


def test_without_a_key_auto_judges_the_pixels_and_says_so(tmp_path: Path) -> None:
    got = judge(local(tmp_path), picture(), question=Question("a cat"))
    assert (got[0].judge, got[0].cost) == (LOCAL, 0)
    assert "content not judged" in got.notes


@pytest.mark.parametrize(
    "question",
    [Question(evaluation_instructions="count the toes"), Question(references=(Reference(pixels=picture()),))],
)
def test_without_a_key_auto_does_not_guess_about_content(tmp_path: Path, question: Question) -> None:
    with pytest.raises(errors.NeedsKeyError, match="needs a Runflow key"):
        judge(local(tmp_path), picture(), question=question)
    got = judge(local(tmp_path), picture(), question=question, if_not_judged="pass")
    assert (got.outcome, got.passed) == (UNKNOWN, True)
    assert judge(local(tmp_path), picture(), question=question, judge="local").outcome in (PASSED, FAILED)


@pytest.mark.parametrize("if_not_judged", ["stop", "pass"])
def test_runflow_without_a_key_says_how_to_set_it(tmp_path: Path, if_not_judged: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="RUNFLOW_API_KEY is not set") as caught:
        judge(local(tmp_path), picture(), judge="runflow", if_not_judged=if_not_judged)
    assert caught.value.code == "MISSING_API_KEY"


def test_off_asks_nobody(sandbox: Sandbox, evaluator: Evaluator) -> None:
    got = judge(evaluator, picture(), judge="off")
    assert (got[0].judge, got.outcome, got.passed) == (OFF, UNKNOWN, True)
    assert sandbox.requests == []


def test_local_never_leaves_the_machine_even_with_a_key(sandbox: Sandbox, evaluator: Evaluator) -> None:
    assert judge(evaluator, picture(), judge="local")[0].judge == LOCAL
    assert sandbox.requests == []


# --- cancel, and a journal that cannot be used ----------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "spared"),
    [("POST", SUBMIT, 0), ("GET", READ, 0), ("GET", READ, 1)],
    ids=["submit", "poll", "full"],
)
def test_cancel_does_not_wait_for_the_network_and_the_next_run_resumes(
    sandbox: Sandbox, evaluator: Evaluator, method: str, path: str, spared: int
) -> None:
    sandbox.add_fault(Fault(method, path, "hang", after_skip=spared))
    future = background.start(evaluator.evaluate(Job([picture()], prompt_token="one")))
    sandbox.wait_for_requests(method, path, spared + 1)
    started = time.monotonic()
    future.cancel()
    with pytest.raises(CancelledError):
        future.result()
    assert time.monotonic() - started < LESS_THAN_ANY_HANG_S
    sandbox.clear_faults()
    assert judge(evaluator, picture(), prompt_token="two").outcome in (PASSED, FAILED)
    assert len(sandbox.evaluations) == 1


def test_hung_calls_of_a_cancelled_batch_take_no_slot_of_the_next(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = make_evaluator(sandbox, tmp_path, read_timeout=30.0, RUNFLOW_CONCURRENCY="2")
    sandbox.add_fault(Fault("POST", SUBMIT, "hang", times=2))
    future = background.start(evaluator.evaluate(Job([picture(1), picture(2)], prompt_token="one")))
    sandbox.wait_for_requests("POST", SUBMIT, 2)
    future.cancel()
    started = time.monotonic()
    assert judge(evaluator, picture(3), picture(4), prompt_token="two").outcome in (PASSED, FAILED)
    assert time.monotonic() - started < LESS_THAN_ANY_HANG_S


def test_pending_evaluations_hold_no_thread(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.latency = 3.0
    evaluator = make_evaluator(sandbox, tmp_path, RUNFLOW_MAX_EVALUATIONS_PER_PROMPT="100")
    future = background.start(evaluator.evaluate(Job([picture(seed, 64, 64) for seed in range(40)])))
    sandbox.wait_for_requests("POST", SUBMIT, 40, timeout=60)
    workers = [thread for thread in threading.enumerate() if thread.name == "runflow-worker"]
    assert len(workers) <= evaluator.config.concurrency + 12  # those of other tests may still be idle
    future.cancel()


def spoil(trouble: str, directory: Path) -> AbstractContextManager[object]:
    """Make the journal in ``directory`` unusable for as long as the context lasts."""
    directory.mkdir(exist_ok=True)
    file = directory / "journal.sqlite3"
    if trouble == "corrupt":
        file.write_bytes(b"this is no database" * 1000)
    elif trouble == "no file":
        file.mkdir()
    elif trouble == "locked":
        Journal.open(None, directory).close()
        connection = sqlite3.connect(file)
        connection.execute("BEGIN EXCLUSIVE")
        return closing(connection)
    return nullcontext()


@pytest.mark.parametrize("trouble", ["corrupt", "no file", "locked", "read-only"])
def test_a_journal_that_cannot_be_used_never_stops_an_evaluation(
    sandbox: Sandbox, tmp_path: Path, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = {"RUNFLOW_JOURNAL_URL": "sqlite:////proc/journal.sqlite3"} if trouble == "read-only" else {}
    evaluator = make_evaluator(sandbox, tmp_path, **nowhere)
    with spoil(trouble, tmp_path / "sandbox"):
        got = judge(evaluator, picture())
        assert got.outcome in (PASSED, FAILED)
        assert "not known what was paid before" in got.notes
        assert caplog.text.count("JOURNAL_UNUSABLE") == 1
        again = judge(evaluator, picture())
    assert again[0].reused  # this process still remembers
    evaluator.close()


def connections_to(journal: Path) -> int:
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            count += os.readlink(link) == str(journal)
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files as Linux shows them")
def test_an_evaluator_that_is_replaced_is_closed_when_what_it_has_under_way_has_ended(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.latency = 1.0
    evaluator = make_evaluator(sandbox, tmp_path)
    journal = evaluator.bookkeeper.journal().store
    file = tmp_path / "sandbox" / "journal.sqlite3"
    assert str(file) in journal.where
    under_way = [background.start(evaluator.evaluate(Job((picture(n),), Question()))) for n in range(3)]
    evaluator.close_when_unused()
    del evaluator
    for each in under_way:
        assert each.result(timeout=60).outcome in (PASSED, FAILED)
    wait_until(lambda: connections_to(file) == 0)
    with Journal.open(None, tmp_path / "sandbox") as again:
        assert [row.state for row in again.history()] == ["completed"] * 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of a file")
@pytest.mark.slow
def test_a_full_disk_stops_no_evaluation(tmp_path: Path) -> None:
    limit = f'ulimit -f 20; exec {shlex.join([sys.executable, str(WORKER)])} "$@"'
    with Sandbox(latency=0.1) as sandbox:
        command = ["bash", "-c", limit, "worker", sandbox.url, str(tmp_path), "token", "1", "2", "3"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 4), done.stderr
        assert len(sandbox.bills) == 3
    assert "JOURNAL_UNUSABLE" in done.stderr


def test_an_old_submission_without_an_answer_is_not_resent_silently(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.add_fault(Fault("POST", SUBMIT, "drop_after", times=5))
    evaluator = make_evaluator(sandbox, tmp_path)
    with pytest.raises(errors.NetworkError):
        judge(evaluator, picture(), prompt_token="one")
    with Journal.open(None, tmp_path / "sandbox") as journal, journal.store.writing() as connection:
        connection.exec_driver_sql("UPDATE runflow_evaluations SET created_at = created_at - 24 * 3600")
    with pytest.raises(errors.NotJudgedError, match="may have been billed") as caught:
        judge(evaluator, picture(), prompt_token="two")
    assert caught.value.code == "MAY_HAVE_BEEN_BILLED"
    assert len([each for each in sandbox.requests if each.method == "POST"]) == 5
    assert judge(evaluator, picture(), prompt_token="three").outcome in (PASSED, FAILED)


def test_a_batch_encodes_two_images_at_a_time(
    sandbox: Sandbox, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, lock, under_way, most = images.encode_lossless, threading.Lock(), [0], [0]

    def counted(pixels: images.PixelImage) -> images.EncodedImage:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.02)
        try:
            return encode(pixels)
        finally:
            with lock:
                under_way[0] -= 1

    monkeypatch.setattr(images, "encode_lossless", counted)
    assert len(judge(evaluator, *(picture(seed) for seed in range(8)))) == 8
    assert most[0] == ENCODERS
