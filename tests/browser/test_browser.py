"""The pack in a real browser, in both of ComfyUI's renderers, against a real ComfyUI and the sandbox."""

from __future__ import annotations

import json
import stat
import uuid
from decimal import Decimal
from typing import Any

import pytest
from _server import PACK_FOLDER
from comfyui_server import ComfyUI
from driver import HERE, KEY, Browser

from runflow_api.journal import Ask, Journal, Limits
from runflow_api.sandbox import Fault, Sandbox, ScriptedVerdict

HAND = ScriptedVerdict(
    passed=False,
    score=0.41,
    issues=["six fingers on the left hand", "the cup floats"],
    strengths=["soft natural light"],
    improved_prompt="a hand with five fingers",
    gate_failures=[{"module": "face", "reason": "two faces"}],
    judges=[
        {
            "name": "anatomy",
            "passed": False,
            "confidence": 0.93,
            "reasoning": "The left hand has six fingers.",
            "evidence": ["left hand, lower right"],
            "issues": ["a bent wrist"],
        },
        {"name": "prompt", "passed": True, "reasoning": "It follows the prompt."},
    ],
)
PASSES = ScriptedVerdict(score=0.92)
MARKUP = ScriptedVerdict(
    passed=False,
    score=0.2,
    issues=['<img src=x onerror="window.hacked=1">'],
    improved_prompt='"><script>window.hacked=1</script><iframe srcdoc="x">',
    gate_failures=[{"module": "<b>gate</b>", "reason": "<script>window.hacked=1</script>"}],
    judges=[{"name": "<b>judge</b>", "passed": False, "reasoning": '<img src=x onerror="window.hacked=1">'}],
)


def test_waiting_turns_into_the_verdict_without_a_jump(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    sandbox.latency = 1.6
    sandbox.add_verdict(HAND)
    browser.run("verdict.waits_and_shows", server.url, renderer)


def test_a_node_says_before_run_why_it_would_not_run(browser: Browser, server: ComfyUI, renderer: str) -> None:
    browser.run("verdict.says_why_it_will_not_run", server.url, renderer)


@pytest.mark.parametrize(
    ("steps", "positive", "reason"), [("good", True, None), ("bad", False, "the hand is fine"), ("clear", None, None)]
)
def test_a_rating_reaches_runflow(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str, steps: str, positive: Any, reason: Any
) -> None:
    sandbox.add_verdict(PASSES)
    rated = browser.run("verdict.rates", server.url, renderer, given={"steps": steps})
    feedback = sandbox.evaluations[rated].feedback
    assert (feedback.get("feedback_is_positive"), feedback.get("feedback_reason")) == (positive, reason)


def test_the_improved_prompt_goes_where_the_image_comes_from_and_undo_takes_it_back(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    sandbox.add_verdict(HAND)
    browser.run("verdict.uses_the_improved_prompt", server.url, renderer)


def test_a_verdict_survives_a_reload_and_is_in_no_workflow(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    sandbox.add_verdict(HAND)
    submitted = len(sandbox.evaluations)
    browser.run("verdict.survives_a_reload", server.url, renderer, fresh=True)
    assert len(sandbox.evaluations) == submitted + 1


def test_a_verdict_is_there_in_another_browser(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    sandbox.add_verdict(HAND)
    browser.run("verdict.is_restored_elsewhere", server.url, renderer)


def test_a_node_in_a_subgraph_has_its_panel(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    sandbox.add_verdict(HAND)
    browser.run("verdict.works_in_a_subgraph", server.url, renderer, fresh=True)


def test_every_node_has_a_help_page(server: ComfyUI) -> None:
    ours = {name: info for name, info in server.object_info().items() if info["category"].startswith("Runflow/")}
    assert len(ours) >= 14
    for name in ours:
        page = server.request("GET", f"/extensions/{PACK_FOLDER}/docs/{name}/en.md")
        assert page.startswith("# ") and len(page) < 4_000, name


def test_script_in_what_the_api_says_stays_text(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    sandbox.add_verdict(MARKUP)
    browser.run("verdict.keeps_injected_script_as_text", server.url, renderer)


def test_a_batch_has_a_thumbnail_for_each_image(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    for verdict in (PASSES, HAND, PASSES):
        sandbox.add_verdict(verdict)
    browser.run("verdict.shows_a_batch", server.url, renderer)


def test_an_error_is_on_the_node_with_its_code(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    sandbox.add_fault(Fault("POST", "/v1/evaluations", status=402))
    browser.run("verdict.says_what_went_wrong", server.url, renderer, fresh=True)


def test_cancel_is_on_the_node(browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str) -> None:
    sandbox.latency = 30
    browser.run("verdict.says_that_it_was_cancelled", server.url, renderer, fresh=True)


def test_a_local_verdict_is_marked(browser: Browser, server: ComfyUI, renderer: str) -> None:
    browser.run("verdict.marks_a_local_verdict", server.url, renderer)


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_keyboard_screen_reader_and_contrast(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str, palette: str
) -> None:
    sandbox.add_verdict(HAND)
    browser.run("verdict.works_by_keyboard_with_contrast", server.url, renderer, palette=palette, fresh=True)


def test_nothing_is_asked_while_nothing_runs(browser: Browser, server: ComfyUI, renderer: str) -> None:
    browser.run("verdict.is_silent_while_nothing_runs", server.url, renderer)


def test_the_loop_is_inserted_by_right_click_and_runs(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    better = "a lake, level horizon"
    sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.4, issues=["it tilts"], improved_prompt=better))
    sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.6, issues=["grey"], improved_prompt=f"{better}, vivid"))
    sandbox.add_verdict(PASSES)
    submitted = len(sandbox.evaluations)
    browser.run("loop.is_inserted_and_runs", server.url, renderer, fresh=True)
    assert len(sandbox.evaluations) == submitted + 3, "the attempt that a person picked is paid for once"


def test_a_new_loop_keeps_its_seed_from_run_to_run(browser: Browser, server: ComfyUI, renderer: str) -> None:
    browser.run("loop.a_new_start_keeps_its_seed", server.url, renderer)


def test_check_quality_is_one_gesture(browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str) -> None:
    sandbox.add_verdict(PASSES)
    browser.run("loop.checks_quality", server.url, renderer)


def test_a_prompt_wired_back_offers_the_loop(browser: Browser, server: ComfyUI, renderer: str) -> None:
    browser.run("loop.is_offered_for_a_prompt_wired_back", server.url, renderer, fresh=True)


def test_history_lists_finds_rates_and_exports(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str
) -> None:
    sandbox.add_verdict(HAND)
    prompt = f"=history {uuid.uuid4().hex[:8]}"
    browser.run("pages.history_lists", server.url, renderer, given={"prompt": prompt}, fresh=True)


def test_ten_thousand_rows_stay_smooth(browser: Browser, server: ComfyUI) -> None:
    """A frame of scrolling stays far below what anybody would notice, on a machine that is busy with tests."""
    count = 10_000
    price = Decimal("0.10")
    asks = [Ask(f"row{n}", "org:x", price, "standard", "rows", generation_prompt=f"row {n}") for n in range(count)]
    with Journal.open(None, server.base / "user" / "__runflow_evaluate") as journal:
        journal.begin(asks, Limits(count, 10 * count))
    seen = browser.run("pages.history_of_thousands", server.url, "canvas", given={"count": count}, fresh=True)
    assert seen["perFrame"] < 100


def test_settings_take_a_key_and_never_give_it_back(
    browser: Browser, keyless: ComfyUI, renderer: str
) -> None:
    server = keyless
    private = server.base / "user" / "__runflow_evaluate"
    browser.run("pages.settings_keep_the_key_secret", server.url, renderer, given={"key": KEY}, fresh=True)
    assert not (private / "api_key").exists()
    assert json.loads((private / "config.json").read_text()) == {"max_evaluations_per_prompt": 5}
    assert stat.S_IMODE((private / "config.json").stat().st_mode) == 0o600
    assert KEY not in server.log
    (private / "config.json").unlink()


def test_the_pack_adds_at_most_80_kb_of_javascript() -> None:
    scripts = [*(HERE.parent.parent / "js").rglob("*.js"), *(HERE.parent.parent / "js").rglob("*.mjs")]
    assert sum(file.stat().st_size for file in scripts) <= 80_000
