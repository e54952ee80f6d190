"""What a node says before Run, beside what is billed; the gestures on templates; attempts that are taken."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest
from driver import Browser, Play
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict


def fails(count: int) -> list[ScriptedVerdict]:
    """Verdicts whose improved prompts no other test had: what was judged before is not paid again."""
    prompts = [f"a lake, level horizon {uuid.uuid4().hex[:8]}" for _ in range(count)]
    return [ScriptedVerdict(passed=False, score=0.4, issues=["it tilts"], improved_prompt=each) for each in prompts]


GRAPHS = (
    "alone",
    "batch",
    "loop",
    "loop_of_batches",
    "rerouted",
    "split",
    "picked",
    "subgraph",
    "whole_in_subgraph",
    "linked_attempts",
    "options_from_elsewhere",
    "nested",
    "list",
)
LESS = {"nested"}
"""What may cost less: the inner loop of the second outer attempt begins with what was judged already."""


@pytest.mark.parametrize("graph", GRAPHS)
def test_what_is_said_before_run_is_what_is_billed(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, graph: str
) -> None:
    for verdict in fails(12):
        sandbox.add_verdict(verdict)
    before = set(sandbox.evaluations)
    found: dict[str, Any] = browser.run("plan.beside_the_bill", server.url, "canvas", given={"graph": graph})
    made = len(set(sandbox.evaluations) - before)
    billed, price = made * sandbox.price, Decimal(found["price"])
    assert found["runs"] is True and not found["warns"] and made > 0
    assert billed <= Decimal(found["most"])
    each = {"plan.price_each": price, "plan.price_loop_each": Decimal(str(found["values"].get("most", 0)))}
    said = each.get(found["text"], price) * found["images"]
    assert billed <= said if graph in LESS else billed == said, (billed, said, found)


def test_check_quality_wires_the_prompt_of_a_template(play: Play) -> None:
    play("gestures.checks_a_template")


def test_a_loop_around_a_template_reaches_its_prompt_and_seed(play: Play) -> None:
    play("gestures.regenerates_a_template", *fails(3))


def test_a_repairing_loop_is_put_around_a_sampler(play: Play) -> None:
    play("gestures.repairs_around_a_sampler")


def test_an_attempt_is_written_to_where_its_values_come_from_and_costs_nothing_more(
    play: Play, sandbox: Sandbox
) -> None:
    before = len(sandbox.evaluations)
    play("gestures.takes_an_attempt_where_its_values_come_from", *fails(3))
    assert len(sandbox.evaluations) == before + 3


def test_an_attempt_that_cannot_be_made_again_is_not_taken(play: Play) -> None:
    play("gestures.says_that_it_cannot_take_an_attempt", *fails(3))
