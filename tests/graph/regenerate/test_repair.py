"""A loop that repairs: later attempts change the best image so far, and are compared with it line by line."""

from __future__ import annotations

import pytest
from support.loops import Since, failed, generate, loop, passed, record, refusal, repairing, summary, verdicts
from support.prompts import evaluate, node
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox


def images(since: Since) -> list[str]:
    """The pixels of the attempts, by a recorder in the body."""
    return [run["value"]["pixels"] for run in since.runs("record", "body")]


def test_later_attempts_change_the_best_image_and_a_worse_repair_is_not_built_on(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(
        sandbox,
        failed(0.3, issue="six fingers", hands=False, face=True, light=True),
        failed(0.6, issue="the face is blurred.", hands=True, face=False, light=True),
        failed(0.2, issue="it is dark", hands=True, face=True, light=False),
        passed(0.9, hands=True, face=True, light=True),
    )
    graph = {**repairing(prompt, max_attempts=5), **record("9", ["6", 0], "body")}
    history = server.run(graph)
    first, second, third, fourth = images(since)
    assert since.generated == [(prompt, 7)]
    change = "Change only what is wrong: {}. Keep everything else exactly as it is."
    keep = " Above all keep what is right: light."
    assert since.repaired == [
        (first, change.format("six fingers; hands"), 8),
        (second, change.format("the face is blurred; face"), 9),
        (second, change.format("the face is blurred; face") + keep, 10),
    ]
    assert since.recorded["image"]["pixels"] == fourth != third
    told = summary(history)
    assert [each["repairs"] for each in told["attempts"]] == [0, 1, 2, 2]
    assert [(each["gained"], each["lost"]) for each in told["attempts"]] == [
        ([], []),
        (["hands"], ["face"]),
        (["face"], ["light"]),
        (["face"], []),
    ]
    assert told["attempts"][1]["lines"] == {"hands": True, "face": False, "light": True}
    on_start = history.texts["1"]
    assert "attempt 2 of 5 · repairs attempt 1 · 0.60 · lost: face · gained: hands · the face is blurred." in on_start
    assert history.texts["6"][-1] == "attempt 4 · repair sent on"
    assert history.texts["4"] == ["attempt 4 of 4 came out · repairs attempt 2 · passed · 0.90 · gained: face"]


def test_three_failures_end_with_the_best_and_what_it_lost(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(
        sandbox,
        failed(0.3, fingers=True, face=False),
        failed(0.7, issue="six fingers", fingers=False, face=True),
        failed(0.1, fingers=False, face=False),
    )
    server.run({**repairing(prompt), **record("9", ["6", 0], "body")})
    out = since.recorded
    assert (out["passed"], out["score"], out["attempts"], out["seed"]) == (False, 0.7, 3, 8)
    assert out["issues"] == "six fingers\nfingers: failed\nlost: fingers"
    assert out["image"]["pixels"] == images(since)[1]
    assert since.bills == 3


def test_a_repaired_loop_queued_again_pays_nothing_and_more_attempts_are_the_only_ones_that_run(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.5), failed(0.4))
    graph = repairing(prompt, max_attempts=2)
    server.run({**graph, **record("9", ["6", 0], "body")})
    assert server.run({**graph, **record("9", ["6", 0], "body")}).executed == []
    verdicts(sandbox, failed(0.3), passed())
    more = Since(server, sandbox)
    graph["4"]["inputs"]["max_attempts"] = 4
    server.run({**graph, **record("9", ["6", 0], "body")})
    best = images(since)[0]
    assert (more.generated, [(image, seed) for image, _, seed in more.repaired]) == ([], [(best, 9), (best, 10)])
    assert (more.bills, since.bills) == (2, 4)
    server.free()
    server.run(node("1", "TestStrings", count=1) | record("2", ["1", 0], "free is heard between prompts"))
    server.run({**graph, **record("9", ["6", 0], "body")})
    assert since.bills == 4, "the same images are made again, and are not paid again"


def test_repair_from_makes_new_images_first(server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str) -> None:
    verdicts(sandbox, failed(0.3), failed(0.6), failed(0.2), passed())
    graph = {**repairing(prompt, max_attempts=4), **record("9", ["6", 0], "body")}
    graph["6"]["inputs"]["repair_from"] = 4
    told = summary(server.run(graph))
    assert since.generated == [(prompt, 7), (prompt, 8), (prompt, 9)]
    assert [image for image, _, _ in since.repaired] == [images(since)[1]]
    assert [each["repairs"] for each in told["attempts"]] == [0, 0, 0, 2]


def test_a_batch_is_repaired_whole(server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str) -> None:
    verdicts(sandbox, failed(0.3), failed(0.3), passed(), passed())
    server.run(repairing(prompt, generate_with={"batch": 2}))
    assert since.recorded["image"]["shape"] == [2, 64, 64, 3]
    assert (len(since.repaired), since.bills) == (1, 4)


def test_a_best_image_that_attempt_1_would_need_is_refused_before_it_costs(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    graph = repairing(prompt, image=["5", 0])
    graph["3"]["inputs"]["image"] = ["5", 0]
    edited_first = repairing(prompt)
    edited_first["6"]["inputs"]["generate"] = ["5", 0]
    text_instead = repairing(prompt)  # as the editor joins it where what makes the first image is bypassed
    text_instead["6"]["inputs"]["generate"] = ["1", 1]
    assert "whose sides are not alike: generate gets STRING, repair gets IMAGE" in refusal(server, text_instead)
    for each in (graph, edited_first):
        said = refusal(server, each)
        assert "image: depends on best_so_far of Start, which node 5 (TestRepair) reads, already at attempt 1" in said
    one_side = repairing(prompt)
    del one_side["6"]["inputs"]["repair"]
    said = refusal(server, one_side)
    assert "node 6, a Generate or Repair that sends nothing on if a side is not connected" in said
    assert "Connect both generate and repair; what comes from a muted node is not connected." in said
    assert (since.generated, since.judged) == ([], [])


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_bypassed_edit_is_refused_before_it_costs(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str, max_attempts: int
) -> None:
    """The editor joins the two ends of what is bypassed."""
    graph = repairing(prompt, max_attempts=max_attempts)
    graph["6"]["inputs"]["repair"] = graph.pop("5")["inputs"]["image"]
    said = refusal(server, graph)
    assert "[INVALID_INPUT] image: repair of node 6, Generate or Repair, is best_so_far as it is" in said
    assert (since.generated, since.judged) == ([], [])


def test_a_list_in_the_repair_that_nobody_could_know_of_ends_the_loop_with_the_best_and_is_paid_once(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    """Nobody knows how long a list is before it is made: the lists of many nodes hold one value."""
    verdicts(sandbox, failed(0.3))
    graph = {**repairing(prompt), **node("7", "TestList", image=["5", 0], count=2)}
    graph["6"]["inputs"]["repair"] = ["7", 0]
    history = server.run(graph)
    assert "node 7 (TestList) gives a list: if it holds more than one value, the loop ends" in history.texts["1"][0]
    assert (since.recorded["score"], since.recorded["attempts"], since.bills) == (0.3, 1, 1)
    assert summary(history)["reason"] == (
        "attempt 2 does not count: it is a list of 2 values, but a loop needs one. The list comes from node 7 "
        "(TestList). Make one batch or one text of it"
    )
    assert server.run(graph).executed == []
    verdicts(sandbox, failed(0.4), passed())
    graph["7"]["inputs"]["count"] = 1
    server.run(graph)
    assert (since.recorded["passed"], since.recorded["attempts"], since.bills) == (True, 3, 3)


def test_a_list_in_the_repair_that_the_wires_tell_of_is_refused_before_it_costs(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    graph = {**repairing(prompt), **node("7", "ImpactMakeImageList", image1=["5", 0], image2=["1", 6])}
    graph["6"]["inputs"]["repair"] = ["7", 0]
    said = "[INVALID_INPUT] image: comes from node 7 (ImpactMakeImageList), which makes a list of 2 values"
    assert said in refusal(server, graph)
    assert (since.generated, since.judged) == ([], [])


def test_two_wanted_of_nine_stops_at_the_second_pass_and_both_come_out(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), passed(0.8), failed(0.4), passed(0.9))
    graph = {**loop(prompt, max_attempts=9, passes_wanted=2), **record("9", ["4", 9], "passed_images")}
    history = server.run({**graph, **record("8", ["2", 0], "body")})
    assert (len(since.generated), since.bills) == (4, 4)
    assert since.recorded["passed_images"]["shape"] == [2, 64, 64, 3]
    assert (since.recorded["score"], since.recorded["image"]["pixels"]) == (0.9, images(since)[3])
    assert summary(history)["reason"] == "2 passed, as many as wanted"
    assert server.run({**graph, **record("8", ["2", 0], "body")}).executed == []


def test_a_repair_that_changes_nothing_is_no_second_pass(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, passed(0.8))
    graph = {**repairing(prompt, passes_wanted=2), **record("9", ["4", 9], "passed_images")}
    graph["5"] = node("5", "TestChoose", number=1, first=["1", 6], other=["2", 0])["5"]
    history = server.run(graph)
    assert since.bills == 1 and since.recorded["passed_images"]["shape"] == [1, 64, 64, 3]
    assert "1 of 2 wanted passed" in summary(history)["reason"]


def test_batches_that_passed_come_out_whole_and_that_they_were_resized_is_said(
    server: ComfyUI, sandbox: Sandbox, since: Since
) -> None:
    verdicts(sandbox, passed(0.8), passed(0.8), passed(0.9), passed(0.9))
    judge = evaluate("3", ["2", 0], generation_prompt=["1", 1])
    body = {**generate(width=["1", 2], batch=2), **judge}  # the seed is the size
    graph = {**loop("batches", seed=71, passes_wanted=2), **body, **record("9", ["4", 9], "passed_images")}
    history = server.run(graph)
    assert since.bills == 4 and since.recorded["passed_images"]["shape"] == [4, 72, 72, 3]
    resized = "passed_images have different sizes and were resized to 72×72, that of the best"
    assert summary(history)["warnings"] == [resized] and resized in history.texts["4"][-1]


def test_fewer_passes_than_wanted_come_out_and_that_is_said(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, passed(0.8), failed(0.3), failed(0.4))
    graph = {**loop(prompt, passes_wanted=2), **record("9", ["4", 9], "passed_images")}
    history = server.run(graph)
    assert since.recorded["passed_images"]["shape"] == [1, 64, 64, 3]
    assert summary(history)["reason"] == "all attempts made, 1 of 2 wanted passed"


def test_without_a_pass_no_passed_images_are_sent(server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str) -> None:
    verdicts(sandbox, failed(0.3))
    graph = {**loop(prompt, max_attempts=1), **record("9", ["4", 9], "passed_images")}
    assert server.run(graph).blocked == []
    assert "passed_images" not in since.recorded and since.recorded["score"] == 0.3


def test_a_loop_that_gets_no_better_is_given_up(server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str) -> None:
    verdicts(sandbox, failed(0.3), failed(0.6), failed(0.6), failed(0.5))
    history = server.run(repairing(prompt, max_attempts=100, give_up_after=2))
    assert (since.recorded["score"], since.recorded["attempts"], since.bills) == (0.6, 4, 4)
    assert summary(history)["reason"] == "given up, nothing better in 2 attempts"
    assert "at most 100 evaluations, 10.00 credits for each image of a batch" in history.texts["1"][0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"passes_wanted": 4}, "passes_wanted: 4 cannot pass in 3 attempts. Set max_attempts to 4 or more."),
        ({"give_up_after": 101}, "give_up_after: 101 is not between 0 and 100"),
    ],
)
def test_what_cannot_end_is_refused(
    server: ComfyUI, since: Since, prompt: str, settings: dict[str, int], said: str
) -> None:
    graph = loop(prompt)
    for number, (name, value) in enumerate(settings.items()):
        graph |= node(f"7{number}", "PrimitiveInt", value=value)  # ComfyUI checks what is not linked
        graph["4"]["inputs"][name] = [f"7{number}", 0]
    assert said in refusal(server, graph)
    assert since.judged == []
