"""Whatever the server sends, only the pack's own errors come out, and no verdict passes by accident."""

from __future__ import annotations

import copy
import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.evaluators import judge, make_evaluator
from support.pictures import picture

from runflow_api.api.client import _evaluation, _job_classes
from runflow_api.api.failed_attempts import FailedAttempt, HttpAnswer, read_answer, refusal
from runflow_api.api.models import AssetUpload, Evaluation, Run
from runflow_api.errors import RunflowError
from runflow_api.evaluation.verdict import PASSED, RUNFLOW, BatchVerdict, Policy, Subject, from_evaluation
from runflow_api.report import tables
from runflow_api.sandbox.app import Fault, Sandbox

CASES = 100_000
VALID: dict[str, Any] = {
    "id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
    "org_id": "5a9d0b0c-0000-4000-8000-000000000001",
    "status_code": "completed",
    "overall_passed": False,
    "weighted_pass_rate": 0.41,
    "top_issues": ["six fingers"],
    "top_strengths": ["good light"],
    "cost": "0.10",
    "eval_duration_ms": 1200,
    "judges": [
        {"name": "hands", "passed": False, "confidence": 0.9, "evidence": ["left"], "issues": [{"detail": "six"}]},
    ],
    "gate_failures": [{"module": "face", "output_key": "image", "reason": "two faces"}],
    "action": {"primary_action": "regenerate", "failure_summary": "hands", "improved_prompt": "five fingers"},
    "run": {"id": "r", "node_runs": [{"state_code": "failed"}]},
    "parent_evaluation": None,
}
VALID_TEXT = json.dumps(VALID)
STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 10**400, 2**63, 0.5, -0.0, 1e308, "", "x" * 5_000, "\u0000", "\u2028", "<script>",
    "NaN", "true", "0.10", [], {}, [[]], [None], {"": None}, {"id": {}}, ["a", 1, None], "💥", "\u202e", "e1\n| a |",
]  # fmt: skip
RAW = [
    b"", b"null", b"{", b'{"id": NaN}', b'{"id": Infinity}', b'{"id": 1e999}', b"\xff\xfe", b'{"id": "\\ud800"}',
    b'{"id": "x", "id": "y"}', b"[" * 5_000, b'{"a":' * 5_000, b'"\xc3\x28"', b"<!DOCTYPE html>", b"\x1f\x8b\x08",
    b'{"id": "x"} trailing', b"\xef\xbb\xbf{}", b"-", b"1" * 5_000, b'"' + b"a" * 100_000 + b'"',
]  # fmt: skip


def mutated(chance: random.Random) -> bytes:
    """A valid answer with some of its values replaced, removed, moved or cut in the middle."""
    if chance.random() < 0.05:
        return chance.choice(RAW)
    answer = json.loads(VALID_TEXT)  # a copy
    for _ in range(chance.randint(1, 4)):
        _mutate(answer, chance)
    data = json.dumps(answer, ensure_ascii=chance.random() < 0.5).encode()
    if chance.random() < 0.1:
        cut = chance.randrange(len(data))
        data = data[:cut] + bytes([chance.randrange(256)]) * chance.randint(0, 3) + data[cut + chance.randint(0, 4) :]
    return data


def _mutate(value: Any, chance: random.Random) -> None:
    """Change one place of ``value``, at any depth."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = chance.choice(keys)
    if isinstance(value[key], dict | list) and value[key] and chance.random() < 0.6:
        _mutate(value[key], chance)
    elif chance.random() < 0.15 and isinstance(value, dict):
        del value[key]
    else:
        value[key] = copy.deepcopy(chance.choice(STRANGE))


def everything_that_is_made_of(evaluation: Evaluation) -> None:
    verdict = from_evaluation(evaluation, Policy(0.5), Subject("a prompt"), judge=RUNFLOW)
    batch = BatchVerdict((verdict, verdict))
    json.dumps([batch.issues, batch.summary, batch.improved_prompt, verdict.to_ui(), evaluation.to_json()]).encode()
    tables.judges_table(evaluation)
    tables.gate_failures(evaluation)
    if verdict.outcome == PASSED:
        assert evaluation.overall_passed is True
        assert evaluation.status_code == "completed"


@pytest.mark.slow
def test_100_000_strange_answers_raise_nothing_but_the_packs_own_errors() -> None:
    chance = random.Random(20_261_122)
    parse = _evaluation(None)
    understood = 0
    for _ in range(CASES):
        outcome = read_answer(HttpAnswer(200, {}, mutated(chance)), parse, "the answer")
        if isinstance(outcome, FailedAttempt):
            assert isinstance(outcome.error, RunflowError)
        else:
            understood += 1
            everything_that_is_made_of(outcome)
    assert CASES / 20 < understood < CASES  # the cases are neither all nonsense nor all harmless


@pytest.mark.parametrize(
    "parse", [Run.model_validate, AssetUpload.model_validate, _job_classes], ids=["run", "upload", "classes"]
)
def test_other_answers_neither(parse: Any) -> None:
    chance = random.Random(7)
    for _ in range(5_000):
        outcome = read_answer(HttpAnswer(200, {}, mutated(chance)), parse, "the answer")
        assert not isinstance(outcome, FailedAttempt) or isinstance(outcome.error, RunflowError)


def test_bodies_of_errors_neither() -> None:
    chance = random.Random(8)
    bodies = [{"code": code, "message": message, "errors": found}
              for code in STRANGE for message in STRANGE for found in STRANGE]  # fmt: skip
    for body in chance.sample(bodies, 5_000):
        error = refusal(422, json.dumps(body).encode(), "the submission")
        assert str(error).startswith(f"[{error.code}] ")
        assert len(str(error)) < 5_000


@pytest.mark.slow
def test_strange_answers_over_the_wire_end_in_a_verdict_or_a_coded_error(tmp_path: Path) -> None:
    chance = random.Random(9)
    paths = ["/v1/evaluations", "/v1/evaluations/[0-9a-f-]{36}"]
    faults = [
        Fault("*", chance.choice(paths), "garbage", times=chance.choice([1, 3]), body=mutated(chance))
        for _ in range(60)
    ]

    def meet(number: int) -> None:
        with Sandbox(latency=0.05) as sandbox:
            sandbox.add_fault(faults[number])
            evaluator = make_evaluator(sandbox, tmp_path / str(number), read_timeout=1.0)
            try:
                judge(evaluator, picture(number, 64, 64), if_not_judged="fail")
            except RunflowError as error:
                assert str(error).startswith(f"[{error.code}] ")
            finally:
                evaluator.close()

    with ThreadPoolExecutor(10) as pool:  # most of it is waiting, between one try and the next
        assert len(list(pool.map(meet, range(len(faults))))) == 60
