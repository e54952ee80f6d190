"""Quality Switch, Split Passed / Failed and Pick Best Image in a real ComfyUI."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from support.prompts import Prompt, evaluate, example, node
from support.server import ComfyUI, PromptFailed

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict

_numbers = itertools.count(1)


class Recorded:
    """What recorders got from here on: name to values, in order."""

    def __init__(self, server: ComfyUI) -> None:
        self._file = server.base / "output" / "runs.jsonl"
        self._before = len(self._lines())

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []

    @property
    def generated(self) -> list[str]:
        return [line["name"] for line in self._lines()[self._before :] if line["kind"] == "generate"]

    @property
    def values(self) -> dict[str, Any]:
        return {line["name"]: line["value"] for line in self._lines()[self._before :] if line["kind"] == "record"}


@pytest.fixture
def recorded(server: ComfyUI) -> Recorded:
    return Recorded(server)


def pictures(node_id: str, count: int = 1, name: str = "") -> Prompt:
    return node(node_id, "TestGenerate", prompt=f"routing {next(_numbers)}", seed=1, batch=count, name=name)


def record(node_id: str, value: list[Any], name: str) -> Prompt:
    return node(node_id, "TestRecord", value=value, name=name)


def one_by_one(node_id: str, count: int) -> Prompt:
    """The pictures of a batch of ``node_id``, each recorded alone as ``picture 0``, ``picture 1``, …"""
    made: Prompt = {}
    for index in range(count):
        made |= node(f"{node_id}{index}", "ImageFromBatch", image=[node_id, 0], batch_index=index, length=1)
        made |= record(f"{node_id}{index}r", [f"{node_id}{index}", 0], f"picture {index}")
    return made


def judged(sandbox: Sandbox, server: ComfyUI, *verdicts: ScriptedVerdict, **inputs: Any) -> Prompt:
    """A batch whose images have these verdicts, in this order, from the journal.

    In a batch nobody knows which image is submitted first, so each is judged alone before.
    """
    prompt = pictures("1", len(verdicts))
    for index, verdict in enumerate(verdicts):
        sandbox.add_verdict(verdict)
        alone = node("2", "ImageFromBatch", image=["1", 0], batch_index=index, length=1)
        server.run({**prompt, **alone, **evaluate("3", ["2", 0], if_not_judged="fail"), **record("4", ["3", 0], "")})
    return {**prompt, **evaluate("3", ["1", 0], **inputs)}


# --- the switch


def switch(passed: bool, **sides: Any) -> Prompt:
    return {**node("5", "RunflowVerdictSwitch", passed=passed, **sides), **record("6", ["5", 0], "out")}


@pytest.mark.parametrize(("passed", "side"), [(True, "good"), (False, "bad")])
def test_the_switch_runs_one_branch(server: ComfyUI, recorded: Recorded, passed: bool, side: str) -> None:
    branches = {**pictures("1", name="good"), **pictures("2", name="bad")}
    history = server.run({**branches, **switch(passed, on_pass=["1", 0], on_fail=["2", 0])})
    assert recorded.generated == [side]
    assert "out" in recorded.values
    assert history.texts["5"] == ["passed · on_pass sent on" if passed else "failed · on_fail sent on"]


def test_a_side_that_is_not_connected_blocks_what_hangs_on_the_switch(server: ComfyUI, recorded: Recorded) -> None:
    history = server.run({**pictures("1", name="good"), **switch(False, on_pass=["1", 0])})
    assert (recorded.generated, recorded.values, history.blocked) == ([], {}, [])
    assert history.texts["5"] == ["failed · on_fail is not connected, nothing sent on"]


def test_the_switch_takes_anything_and_follows_the_verdict(
    server: ComfyUI, sandbox: Sandbox, recorded: Recorded
) -> None:
    sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.2))
    gate = {**pictures("1"), **evaluate("3", ["1", 0])}
    server.run({**gate, **switch(["3", 0], on_pass="kept", on_fail="thrown away")})  # type: ignore[arg-type]
    assert recorded.values["out"] == "thrown away"


# --- split


SPLIT = ("passed", "failed", "unjudged", "passed n", "failed n", "unjudged n", "passed verdicts", "failed verdicts")


def split(image: str = "1") -> Prompt:
    made = node("5", "RunflowSplitByVerdict", image=[image, 0], evaluation=["3", 4])
    for index, name in enumerate(SPLIT):
        made |= record(f"5{index}", ["5", index], name)
    return made


def test_a_batch_is_divided_with_its_verdicts(server: ComfyUI, sandbox: Sandbox, recorded: Recorded) -> None:
    fails, passes = ScriptedVerdict(passed=False, score=0.2), ScriptedVerdict(passed=True, score=0.9)
    graph = judged(sandbox, server, fails, passes, ScriptedVerdict(null=True), fails)
    graph |= node("7", "RunflowEvaluationDetails", evaluation=["5", 6], index=0)
    graph |= node("8", "RunflowPickBest", image=["5", 0], evaluation=["5", 6])
    server.run({**graph, **split(), **one_by_one("1", 4), **record("9", ["8", 2], "score of the passed")})
    got = recorded.values
    assert [got[name] for name in SPLIT[3:6]] == [1, 2, 1]
    assert [got[name]["shape"][0] for name in SPLIT[:3]] == [1, 2, 1]
    assert (got["passed"], got["unjudged"]) == (got["picture 1"], got["picture 2"])
    assert got["score of the passed"] == 0.9


def test_an_empty_side_blocks_what_hangs_on_it_and_says_so(
    server: ComfyUI, sandbox: Sandbox, recorded: Recorded
) -> None:
    fails = ScriptedVerdict(passed=False, score=0.2)
    history = server.run({**judged(sandbox, server, fails, fails), **split()})
    got = recorded.values
    assert "passed" not in got and "unjudged" not in got and "passed verdicts" not in got
    assert [got[name] for name in SPLIT[3:6]] == [0, 2, 0]
    assert history.texts["5"] == ["0 passed, nothing sent on · 2 failed · 0 not judged, nothing sent on"]
    assert history.blocked == []


def test_what_counts_as_passed_without_a_verdict_is_sent_on_as_passed(server: ComfyUI, recorded: Recorded) -> None:
    server.run({**pictures("1", 2), **evaluate("3", ["1", 0], judge="off"), **split()})
    assert [recorded.values[name] for name in SPLIT[3:6]] == [2, 0, 0]


# --- pick


PICK = ("picked", "index", "score", "ranked", "best verdict", "ranked verdicts")


def pick() -> Prompt:
    made = node("5", "RunflowPickBest", image=["1", 0], evaluation=["3", 4])
    for index, name in enumerate(PICK):
        made |= record(f"5{index}", ["5", index], name)
    return made


def test_the_best_image_of_a_batch_is_one_that_passed(server: ComfyUI, sandbox: Sandbox, recorded: Recorded) -> None:
    scores = ((False, 0.95), (True, 0.6), (True, 0.7), (False, 0.1))
    graph = judged(sandbox, server, *(ScriptedVerdict(passed=passed, score=score) for passed, score in scores))
    graph |= node("7", "RunflowPickBest", image=["5", 3], evaluation=["5", 5])  # ranked images with ranked verdicts
    server.run({**graph, **pick(), **one_by_one("1", 4), **record("8", ["7", 1], "index when ranked")})
    got = recorded.values
    assert (got["index"], got["score"], got["picked"]) == (2, 0.7, got["picture 2"])
    assert got["ranked"]["shape"][0] == 4
    assert got["index when ranked"] == 0


def test_the_least_bad_image_is_picked_where_none_passed(server: ComfyUI, sandbox: Sandbox, recorded: Recorded) -> None:
    graph = judged(sandbox, server, *(ScriptedVerdict(passed=False, score=score) for score in (0.3, 0.7, 0.1)))
    history = server.run({**graph, **pick()})
    assert recorded.values["index"] == 1
    assert history.texts["5"] == ["image 2 of 3 · failed · 0.70"]


# --- verdicts travel with their images


@pytest.mark.parametrize("kind", ["RunflowSplitByVerdict", "RunflowPickBest"])
def test_verdicts_of_another_number_of_images_are_refused(server: ComfyUI, kind: str) -> None:
    graph = {**pictures("1", 3), **pictures("2", 2), **evaluate("3", ["2", 0], judge="off")}
    graph |= {**node("5", kind, image=["1", 0], evaluation=["3", 4]), **record("6", ["5", 1], "")}
    with pytest.raises(PromptFailed, match=r"\[INVALID_INPUT\] evaluation: holds 2 verdicts, but 3 images"):
        server.run(graph)


def test_other_pixels_than_those_that_were_judged_are_sent_on_and_said(server: ComfyUI, recorded: Recorded) -> None:
    """An upscaler between the verdict and the split is what people do."""
    graph = {**pictures("1"), **evaluate("3", ["1", 0], judge="off"), **node("2", "ImageInvert", image=["1", 0])}
    history = server.run({**graph, **split("2")})
    assert recorded.values["passed n"] == 1
    assert history.texts["5"][0].endswith("these are not the pixels that were judged")


# --- the examples


def saved(server: ComfyUI, prefix: str) -> int:
    return len(list((server.base / "output").glob(f"{prefix}*.png")))


def test_the_example_of_the_best_of_a_batch_picks_the_good_photograph(server: ComfyUI) -> None:
    prompt = example(server, "best_of_batch")
    (picker,) = (name for name, info in prompt.items() if info["class_type"] == "RunflowPickBest")
    (text,) = server.run(prompt).texts[picker]
    assert text.startswith("image 3 of 3 · passed")
    assert saved(server, "runflow/best") == 1


def test_the_example_of_a_split_fills_a_folder_of_rejects(server: ComfyUI) -> None:
    server.run(example(server, "split_with_rejects"))
    assert [saved(server, folder) for folder in ("approved/", "rejected/", "unjudged/")] == [1, 2, 0]


@pytest.mark.parametrize(("photo", "repaired"), [("coffee_blurred.jpg", True), ("coffee.jpg", False)])
def test_the_example_of_the_switch_acts_only_on_what_failed(server: ComfyUI, photo: str, repaired: bool) -> None:
    prompt = example(server, "quality_switch")
    (loader,) = (info for info in prompt.values() if info["class_type"] == "LoadImage")
    (repair,) = (name for name, info in prompt.items() if info["class_type"] == "ImageScaleBy")
    loader["inputs"]["image"] = photo
    assert (repair in server.run(prompt).executed) == repaired
