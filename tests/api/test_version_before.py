"""A private folder written by version 0.1.0 opens, and everything in it means the same."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runflow_api.errors import BudgetError
from runflow_api.journal.journal import OUTCOMES, Journal, Limits, Request, Row
from runflow_api.settings import config

FOLDER = Path(__file__).parent / "data" / "private_folder_of_0.1.zip"
PLENTY = Limits(per_prompt=100, per_day=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(FOLDER) as packed:
        packed.extractall(tmp_path)
    return tmp_path


@pytest.fixture
def expected(folder: Path) -> Any:
    """What the version that wrote the folder said about it."""
    return json.loads((folder / "expected.json").read_text("utf-8"))


@pytest.fixture
def journal(folder: Path, expected: Any) -> Iterator[Journal]:
    with Journal.open(None, folder, now=lambda: expected["now"] + 60) as opened:
        yield opened


def begin(journal: Journal, name: str, prompt_token: str = "new", reuse: bool = True) -> Row:
    key = "rf_live_key_of_the_version_before_0001"
    account = journal.account(key, None)
    (row,) = journal.begin([Request(name, account, None, "standard", prompt_token, reuse)], PLENTY)
    return row


def test_key_and_settings_are_in_force(folder: Path, expected: Any) -> None:
    settings = config.load(folder, {})
    assert settings.require_key() == expected["key"]
    assert (settings.max_evaluations_per_day, settings.max_credits_per_day) == (7, Decimal("2.5"))
    assert (settings.concurrency, settings.keep_thumbnails, settings.has_own_limits) == (3, False, True)
    assert settings.unknown == () and settings.trouble == ""


def test_every_row_is_read_as_it_was(journal: Journal, expected: Any) -> None:
    for name, was in expected["rows"].items():
        row = journal.get(was["id"])
        for field in ("idempotency_key", "state", "outcome", "evaluation_id", "score", "account", "answer", "spooled"):
            assert getattr(row, field) == was[field], (name, field)
        assert [None if amount is None else str(amount) for amount in (row.price, row.cost)] == [
            was["price"],
            was["cost"],
        ]
    spent = journal.spent_today()
    assert [spent.evaluations, str(spent.credits), spent.unpriced] == expected["spent"]


def test_every_outcome_is_found_in_the_history(journal: Journal, expected: Any) -> None:
    found = {outcome: {row.request_hash for row in journal.history(outcome=outcome)} for outcome in OUTCOMES}
    wanted: dict[str, set[str]] = {outcome: set() for outcome in OUTCOMES}
    for name, was in expected["rows"].items():
        wanted[was["outcome"]].add(name)
    assert found == wanted and all(wanted.values())


@pytest.mark.parametrize("name", ["passed", "failed verdict", "unknown"])
def test_a_verdict_is_reused(journal: Journal, expected: Any, name: str) -> None:
    row = begin(journal, name)
    assert (row.id, row.is_new, row.answer) == (expected["rows"][name]["id"], False, expected["rows"][name]["answer"])
    assert begin(journal, name, "again", reuse=False).is_new


def test_a_failed_evaluation_is_not_paid_again_by_a_prompt_that_waited_for_it(journal: Journal, expected: Any) -> None:
    for token in ("p1", "p2"):
        assert begin(journal, "failed", token).id == expected["rows"]["failed"]["id"]
    assert begin(journal, "failed", "p3").is_new


@pytest.mark.parametrize("name", ["refused", "abandoned"])
def test_what_was_given_up_is_begun_anew(journal: Journal, name: str) -> None:
    assert begin(journal, name).is_new


def test_what_is_under_way_goes_on_with_its_key_and_its_bytes(journal: Journal, expected: Any) -> None:
    submitted, spooled = begin(journal, "submitted"), begin(journal, "spooled")
    assert (submitted.is_new, submitted.evaluation_id) == (False, "ev-open")
    assert spooled.idempotency_key == expected["rows"]["spooled"]["idempotency_key"]
    assert journal.body(spooled) == journal.fix_body(spooled, b"another body") == b'{"body": "kept"}'
    reserved = begin(journal, "reserved")
    assert (reserved.is_new, reserved.spooled) == (False, False)


def test_what_was_spent_counts_against_the_limits(journal: Journal, expected: Any) -> None:
    request = Request("another", "org:org-1", Decimal("0.10"), "standard", "new")
    used = expected["spent"][0]
    with pytest.raises(BudgetError, match=f"to the {used} used already"):
        journal.begin([request], Limits(per_prompt=100, per_day=used))
    assert journal.begin([request], Limits(per_prompt=100, per_day=used + 1))[0].is_new
