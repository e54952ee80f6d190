"""The judge who is a person, at the editor."""

from __future__ import annotations

from pathlib import Path

from driver import Play
from support.server import ComfyUI


def test_the_image_is_shown_and_accepted_with_a_key(play: Play, keyless: ComfyUI, tmp_path: Path) -> None:
    play("ask.accepts", on=keyless, given={"picture": str(tmp_path / "asked.png")})


def test_a_rejection_carries_the_reason_and_the_better_prompt(play: Play, keyless: ComfyUI) -> None:
    play("ask.rejects_with_a_reason", on=keyless)


def test_a_question_outlives_a_reload_and_ends_with_cancel(play: Play, keyless: ComfyUI) -> None:
    play("ask.cancels", on=keyless)


def test_a_batch_is_asked_image_by_image_and_what_is_left_is_accepted_at_once(play: Play, keyless: ComfyUI) -> None:
    play("ask.goes_through_a_batch", on=keyless)


def test_the_question_of_a_closed_tab_is_asked_in_the_others_until_one_answers(play: Play, keyless: ComfyUI) -> None:
    play("ask.goes_to_other_tabs", on=keyless)
