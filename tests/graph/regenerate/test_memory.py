"""The example runs without a model, and attempts leave no memory behind."""

from __future__ import annotations

import time

from support.loops import Since, failed, repairing, summary, verdicts
from support.prompts import example
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox


def test_the_example_without_a_model_takes_the_good_photograph(server: ComfyUI, sandbox: Sandbox, since: Since) -> None:
    history = server.run(example(server, "regenerate_until_passed"))
    told = summary(history)
    assert [each["verdict"] for each in told["attempts"]] == ["failed", "failed", "passed"]
    assert [each["seed"] for each in told["attempts"]] == [0, 1, 2]
    assert len(list((server.base / "output" / "runflow").glob("until_passed*.png"))) == 1
    assert since.judged == []


LARGE = 2048 * 2048 * 3 * 4
FREED_WITHIN_S = 30
SETTLES_IN_S = 3


def test_thirty_large_repairs_leave_no_more_memory_behind_than_three(
    server: ComfyUI, sandbox: Sandbox, prompt: str
) -> None:
    def left_behind(attempts: int, at_most: int | None = None) -> dict[str, int]:
        verdicts(sandbox, *(failed(0.01 * number) for number in range(attempts)))
        graph = repairing(f"{prompt}, {attempts}", max_attempts=attempts, generate_with={"width": 2048})
        server.run(graph, timeout=600)
        server.free()
        return freed(server, at_most)

    three = left_behind(3)
    thirty = left_behind(30, three["process"] + 2 * LARGE)
    assert thirty["tensors"] < LARGE
    assert thirty["process"] - three["process"] < 2 * LARGE, (three, thirty)


def freed(server: ComfyUI, at_most: int | None = None) -> dict[str, int]:
    """What is in use once ComfyUI has dropped its cache: it sees /free between prompts, soon but not at once.

    Waited for until the process has no more than ``at_most`` bytes, if that is given.
    """
    give_up = time.monotonic() + FREED_WITHIN_S
    while (memory := server.request("GET", "/testing/memory", timeout=60))["tensors"] >= LARGE:
        assert time.monotonic() < give_up, memory
        time.sleep(0.5)
        server.free()  # asked while a prompt was just ending, it may have been missed
    least = memory  # threads that made thumbnails and bodies give theirs back a little later
    settled = time.monotonic() + SETTLES_IN_S
    while time.monotonic() < (settled if at_most is None or least["process"] < at_most else give_up):
        time.sleep(0.3)
        least = min(least, server.request("GET", "/testing/memory", timeout=60), key=lambda each: each["process"])
    return least
