"""The pack in a real browser, in both of ComfyUI's renderers, against a real ComfyUI and the sandbox."""

from __future__ import annotations

import json
import stat
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from driver import HELD_S, KEY, NEWEST, Browser, Play
from PIL import Image
from support.judged_images import MODELS, keep_judged
from support.process import PACK_FOLDER
from support.server import ComfyUI
from support.waiting import wait_until

from runflow_api.journal.journal import Journal, Limits, Request
from runflow_api.sandbox.app import Fault, Sandbox, ScriptedVerdict

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
LITTLE = ScriptedVerdict(score=0.92, judges=[{"name": "anatomy", "passed": True, "reasoning": "Five fingers."}])
BETTER = "a lake, level horizon"
ATTEMPTS = (
    ScriptedVerdict(passed=False, score=0.4, issues=["it tilts"], improved_prompt=BETTER),
    ScriptedVerdict(passed=False, score=0.6, issues=["grey"], improved_prompt=f"{BETTER}, vivid"),
    PASSES,
)
ENDLESS = ScriptedVerdict(
    passed=False,
    score=0.3,
    issues=["x" * 300],
    improved_prompt="y" * 400,
    judges=[{"name": "n" * 120, "category": "c" * 80, "passed": False, "reasoning": "r" * 200}],
)
MARKUP = ScriptedVerdict(
    passed=False,
    score=0.2,
    issues=['<img src=x onerror="window.hacked=1">'],
    improved_prompt='"><script>window.hacked=1</script><iframe srcdoc="x">',
    gate_failures=[{"module": "<b>gate</b>", "reason": "<script>window.hacked=1</script>"}],
    judges=[{"name": "<b>judge</b>", "passed": False, "reasoning": '<img src=x onerror="window.hacked=1">'}],
)


everywhere = pytest.mark.at("everywhere")
oldest_canvas, oldest_vue = pytest.mark.at("oldest canvas"), pytest.mark.at("oldest vue")
newest_canvas, both_canvases = pytest.mark.at("newest canvas"), pytest.mark.at("oldest canvas", "newest canvas")


@everywhere
def test_waiting_turns_into_the_verdict_which_stays(play: Play, held: None) -> None:
    play("verdict.waits_and_shows", HAND)


def test_the_example_app_shows_its_verdict_in_app_mode(play: Play) -> None:
    play("app_mode.shows_its_verdict", PASSES, fresh=True)


@newest_canvas
def test_a_node_says_before_run_why_it_would_not_run(play: Play) -> None:
    play("verdict.says_why_it_will_not_run")


@pytest.mark.parametrize(("steps", "positive", "reason"), [("bad", False, "the hand is fine"), ("clear", None, None)])
def test_a_rating_reaches_runflow(play: Play, sandbox: Sandbox, steps: str, positive: Any, reason: Any) -> None:
    rated = play("verdict.rates", PASSES, given={"steps": steps})
    feedback = sandbox.evaluations[rated].feedback
    assert (feedback.get("feedback_is_positive"), feedback.get("feedback_reason")) == (positive, reason)


@oldest_canvas
def test_the_improved_prompt_goes_where_the_image_comes_from_and_undo_takes_it_back(play: Play) -> None:
    play("verdict.uses_the_improved_prompt", HAND)


@everywhere
def test_a_verdict_survives_a_reload_and_is_in_no_workflow(play: Play, sandbox: Sandbox) -> None:
    submitted = len(sandbox.evaluations)
    play("panel.survives_a_reload", HAND)
    assert len(sandbox.evaluations) == submitted + 1


def test_a_refresh_while_judging_shows_what_comes_out(play: Play, held: None) -> None:
    play("panel.survives_a_refresh_while_judging", PASSES)


def test_a_verdict_is_there_in_another_browser_and_after_a_restart(
    play: Play, remembering: ComfyUI, sandbox: Sandbox
) -> None:
    own = remembering
    workflow = play("panel.is_there_in_another_browser", HAND, on=own)
    given = {"workflow": workflow, "outcome": "failed"}
    play("panel.shows_what_another_browser_saw", on=own, given=given, fresh="browser")
    sandbox.latency = HELD_S
    submitted = len(sandbox.evaluations) + 1
    play("panel.waits_for_a_server", HAND, on=own)
    wait_until(lambda: len(sandbox.evaluations) == submitted)
    own.stop()
    own.start()
    play("panel.says_that_the_server_was_restarted", on=own, goes_on=True)
    assert len(sandbox.evaluations) == submitted, "what was under way is picked up"
    play("panel.shows_what_another_browser_saw", on=own, given=given, fresh="browser")


def test_a_verdict_is_about_what_was_judged(play: Play) -> None:
    play("panel.is_about_what_was_judged", HAND)


@oldest_canvas
def test_a_random_seed_makes_nothing_out_of_date(play: Play) -> None:
    play("panel.stays_current_with_a_random_seed", PASSES)


@both_canvases
def test_a_workflow_that_was_cleared_is_restored(play: Play) -> None:
    play("panel.is_restored_after_clearing", HAND)


@oldest_vue
def test_a_verdict_is_never_shown_in_another_tabs_workflow(play: Play, held: None) -> None:
    play("tabs.keep_their_own_verdicts", HAND, fresh=True)


@newest_canvas
def test_a_verdict_in_another_tabs_subgraph_is_there_when_it_is_opened(play: Play, held: None) -> None:
    play("tabs.catch_up_in_subgraphs", HAND, fresh=True)


@both_canvases
def test_duplicated_tabs_keep_their_own_verdicts(play: Play, sandbox: Sandbox) -> None:
    play("tabs.duplicates_keep_their_own", HAND, PASSES, fresh=True)


def test_a_result_out_of_the_cache_shows_the_verdict_that_belongs_to_it(play: Play, remembering: ComfyUI) -> None:
    play("panel.belongs_to_the_run", HAND, PASSES, on=remembering)


def test_every_node_has_a_help_page(server: ComfyUI) -> None:
    ours = {name: info for name, info in server.object_info().items() if info["category"].startswith("Runflow/")}
    assert len(ours) >= 14
    for name in ours:
        page = server.request("GET", f"/extensions/{PACK_FOLDER}/docs/{name}/en.md")
        assert page.startswith("# ") and len(page) < 4_000, name


def test_script_in_what_the_api_says_stays_text(play: Play) -> None:
    play("verdict.keeps_injected_script_as_text", MARKUP)


def test_texts_of_others_read_in_their_own_direction(play: Play) -> None:
    issue = "\u0633\u062a\u0629 \u0623\u0635\u0627\u0628\u0639 (6)."  # "six fingers (6)."
    play("verdict.reads_in_its_own_direction", ScriptedVerdict(passed=False, score=0.2, issues=[issue]))


@newest_canvas
def test_a_batch_has_a_thumbnail_for_each_image(play: Play) -> None:
    play("verdict.shows_a_batch", PASSES, HAND, PASSES)


@pytest.mark.parametrize(("status", "code"), [(402, "INSUFFICIENT_CREDIT")])
def test_an_error_is_on_the_node_with_its_code_and_stays(play: Play, sandbox: Sandbox, status: int, code: str) -> None:
    sandbox.add_fault(Fault("POST", "/v1/evaluations", status=status))
    play("verdict.says_what_went_wrong", given={"code": code})


@newest_canvas
def test_cancel_is_on_the_node(play: Play, held: None) -> None:
    play("verdict.says_that_it_was_cancelled")


@oldest_vue
def test_a_local_verdict_is_marked_and_says_every_check_with_its_limit(play: Play) -> None:
    play("verdict.shows_local_checks")


@newest_canvas
def test_a_judge_that_is_off_says_so_and_nothing_else(play: Play) -> None:
    play("verdict.says_that_the_judge_is_off")


@newest_canvas
def test_every_image_of_a_loops_attempts_can_be_opened_and_says_what_it_cost(play: Play) -> None:
    play("panel.shows_a_loop_of_batches")


@newest_canvas
def test_the_winner_of_very_many_attempts_is_in_sight(play: Play) -> None:
    play("panel.holds_many_attempts")


@everywhere
def test_very_many_images_and_judges_fit(play: Play) -> None:
    play("panel.holds_very_much")


@everywhere
def test_what_a_person_does_is_kept_while_it_is_judged(play: Play) -> None:
    play("panel.keeps_what_a_person_does", LITTLE)


@oldest_canvas
def test_copy_and_paste_stay_in_the_pack(play: Play) -> None:
    play("panel.keeps_its_events", HAND)


@oldest_canvas
def test_undo_leaks_nothing(play: Play) -> None:
    play("panel.leaks_nothing_at_undo")


@newest_canvas
def test_without_texts_style_and_status_panels_go_on(play: Play) -> None:
    play("panel.goes_on_without_texts", HAND)


@pytest.mark.at("newest canvas", "newest vue")
def test_from_far_away_and_collapsed_it_can_be_told(play: Play) -> None:
    play("panel.can_be_told_from_far_away", HAND)


@newest_canvas
def test_long_words_widen_no_node(play: Play) -> None:
    play("verdict.keeps_the_nodes_width", ENDLESS)


@newest_canvas
def test_nothing_is_asked_while_nothing_runs(play: Play) -> None:
    play("verdict.is_silent_while_nothing_runs")


@newest_canvas
def test_no_violation_of_axe_in_six_palettes(play: Play) -> None:
    play("access.has_no_violation", HAND, HAND)


@oldest_vue
def test_every_action_works_by_keyboard_in_an_order_that_makes_sense(play: Play) -> None:
    play("access.works_by_keyboard", HAND)


@newest_canvas
def test_hundreds_of_panels_take_no_long_task(play: Play) -> None:
    within = 50
    assert play("access.stays_smooth", given={"count": 60, "within": within}) < within


@oldest_canvas
def test_the_loop_is_inserted_by_right_click_and_runs(play: Play, sandbox: Sandbox) -> None:
    submitted = len(sandbox.evaluations)
    play("loop.is_inserted_and_runs", *ATTEMPTS)
    assert len(sandbox.evaluations) == submitted + 3, "the attempt that a person picked is paid for once"


@oldest_canvas
def test_a_persons_choice_is_kept_with_the_workflow_the_image_and_the_evaluation(
    play: Play, server: ComfyUI, sandbox: Sandbox
) -> None:
    chosen = play("loop.keeps_a_persons_choice", *ATTEMPTS)
    (winner,) = saved_with(server, chosen["file"])["runflow_regenerate"].values()
    assert winner["picked_by_person"] is True and winner["evaluation_ids"] == [chosen["evaluation"]]
    feedback = sandbox.evaluations[chosen["evaluation"]].feedback
    assert feedback["feedback_is_positive"] is False
    assert feedback["feedback_reason"] == "I took attempt 2 instead of attempt 3."


def saved_with(server: ComfyUI, file: str) -> dict[str, Any]:
    """The JSON that ComfyUI wrote into an image of its temp folder, by name."""
    with Image.open(server.base / "temp" / file) as image:
        return {name: json.loads(text) for name, text in image.text.items()}


@newest_canvas
def test_no_seed_loses_a_digit_between_an_attempt_and_start(play: Play) -> None:
    play("loop.takes_a_seed_whole_or_not_at_all", *ATTEMPTS)


@oldest_canvas
def test_a_new_loop_keeps_its_seed_from_run_to_run(play: Play) -> None:
    play("loop.a_new_start_keeps_its_seed")


@newest_canvas
def test_check_quality_is_one_gesture(play: Play) -> None:
    play("loop.checks_quality", PASSES)


@newest_canvas
def test_a_prompt_wired_back_offers_the_loop(play: Play) -> None:
    play("loop.is_offered_for_a_prompt_wired_back")


@oldest_canvas
def test_an_offer_changes_no_workflow_that_was_opened_meanwhile(play: Play) -> None:
    play("loop.is_offered_to_the_open_workflow_only")


@newest_canvas
def test_the_loop_in_a_subgraph_gives_the_best_image_out(play: Play) -> None:
    play("loop.is_inserted_in_a_subgraph", PASSES)


@oldest_vue
def test_check_quality_on_a_sampler_means_its_image(play: Play) -> None:
    play("loop.checks_quality_of_a_sampler")


def test_history_lists_finds_rates_and_exports(play: Play) -> None:
    prompt = f"=history {uuid.uuid4().hex[:8]}"
    play("pages.history_lists", HAND, given={"prompt": prompt})


def test_of_thousands_of_rows_only_those_in_sight_are_in_the_page(browser: Browser, server: ComfyUI) -> None:
    count = 3_000
    price = Decimal("0.10")
    rows = (f"row {n}" for n in range(count))
    requests = [Request(row, "org:x", price, "standard", "rows", generation_prompt=row) for row in rows]
    with Journal.open(None, server.base / "user" / "__runflow_evaluate") as journal:
        journal.begin(requests, Limits(count, 10 * count))
    browser.run("pages.history_of_thousands", server.url, "canvas", given={"count": count})


def test_insight_shows_figures_and_a_rating_by_key_changes_them(play: Play, servers: Callable[[str], ComfyUI]) -> None:
    judged_by = ("model", "rated-by-keys")
    keep_judged(servers(NEWEST).base / "user" / "__runflow_evaluate", 24, rated=20, judges=[judged_by])
    given = {"judge": ": ".join(judged_by), "checkpoint": MODELS[0][0]}
    play("insight.a_rating_by_key_changes_it", given=given)


def test_settings_take_a_key_and_never_give_it_back(play: Play, keyless: ComfyUI) -> None:
    private = keyless.base / "user" / "__runflow_evaluate"
    play("pages.settings_keep_the_key_secret", on=keyless, given={"key": KEY})
    assert not (private / "api_key").exists()
    assert json.loads((private / "config.json").read_text()) == {"max_evaluations_per_prompt": 5}
    assert stat.S_IMODE((private / "config.json").stat().st_mode) == 0o600
    assert KEY not in keyless.log
    (private / "config.json").unlink()
