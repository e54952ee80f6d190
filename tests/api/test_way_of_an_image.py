"""The way of an image from the evaluator to HTTP is short, and what is made for it is made once."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from support.evaluators import judge
from support.pictures import picture
from support.way import recorded

from runflow_api import images
from runflow_api.evaluation.evaluator import Evaluator
from runflow_api.evaluation.question import Question, Reference
from runflow_api.sandbox.app import Sandbox

MOST_FRAMES, MOST_FILES = 10, 4
"""From ``Evaluator.evaluate``; the node adds three frames in two files (13 and 6)."""


def test_few_frames_in_few_files_lead_from_the_evaluator_to_a_submission(
    sandbox: Sandbox, evaluator: Evaluator
) -> None:
    with recorded() as frames:
        judge(evaluator, picture())
    functions, files = [function for _, function in frames], {file for file, _ in frames}
    assert {"evaluate", "submit", "send"} <= set(functions)
    assert len(frames) <= MOST_FRAMES, frames
    assert len(files) <= MOST_FILES, files


def test_in_the_sending_thread_no_file_is_entered_twice(sandbox: Sandbox, evaluator: Evaluator) -> None:
    with recorded() as frames:
        judge(evaluator, picture())
    files = [Path(file).name for file, _ in frames]
    thread = files[len(files) - 1 - files[::-1].index("background.py") :]
    assert [file for file, before in zip(thread, ["", *thread], strict=False) if file != before] == [
        "background.py",
        "evaluator.py",
        "client.py",
        "transport.py",
    ]


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str) -> Counter[int]:
    """How often a function of ``images`` is called with each array, by its address."""
    counts: Counter[int] = Counter()
    function, lock = getattr(images, name), threading.Lock()

    def counted(array: npt.NDArray[np.uint8]) -> object:
        with lock:
            counts[array.__array_interface__["data"][0]] += 1
        return function(array)

    monkeypatch.setattr(images, name, counted)
    return counts


@pytest.mark.parametrize("made", ["_convert", "pixel_hash"])
def test_pixels_and_hash_are_made_once_for_each_image_and_each_reference(
    sandbox: Sandbox, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    references = tuple(Reference(pixels=picture(50 + number, 64, 64)) for number in range(2))
    batch = [picture(seed, 64, 64) for seed in range(6)]
    calls = count_calls(monkeypatch, made)
    judge(evaluator, *batch, question=Question(references=references))
    assert sorted(calls.values()) == [1] * 8
    assert len(sandbox.bills) == 6


def test_a_reference_that_was_changed_between_two_runs_is_another_question(
    sandbox: Sandbox, evaluator: Evaluator
) -> None:
    pixels = picture(3, 64, 64)
    question = Question(references=(Reference(pixels=pixels),))
    judge(evaluator, picture(), question=question, prompt_token="one")
    pixels[:32] = 0.0
    judge(evaluator, picture(), question=question, prompt_token="two")
    assert len(sandbox.bills) == 2
