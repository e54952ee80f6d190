"""What lies between Start and End: previews, switches, batches, and loops in loops."""

from __future__ import annotations

from typing import Any

from support.loops import (
    Since,
    chunks_of,
    end,
    failed,
    generate,
    loop,
    nested,
    passed,
    record,
    refusal,
    start,
    summary,
    verdicts,
)
from support.prompts import Prompt, evaluate, node, show
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox


def test_what_previews_and_saves_in_the_body_runs_at_every_attempt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.4), passed())
    body = {
        **node("5", "PreviewImage", images=["2", 0]),
        **node("6", "SaveImage", images=["2", 0], filename_prefix=prompt),
        **show("7", ["3", 4]),
        **record("8", ["1", 3], "attempt"),
    }
    history = server.run({**loop(prompt), **body})
    shown = [meta["display_node"] for meta in history.meta.values()]
    assert [shown.count(each) for each in ("5", "6", "7")] == [3, 3, 3]
    assert [run["value"] for run in since.runs("record", "attempt")] == [1, 2, 3]
    assert len(list((server.base / "output").glob(f"{prompt}*.png"))) == 3


def test_a_saver_that_is_put_into_the_body_later_runs_at_every_attempt_too_and_names_each(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.4), failed(0.3), passed())
    extra: dict[str, Any] = {"extra_data": {"extra_pnginfo": {}}}
    shown = {"40", "41", *"1234"}  # ComfyUI takes outputs in any order: with few others the saver often comes first
    body = {name: info for name, info in loop(prompt).items() if name in shown}
    server.run(body, **extra)
    graph = {**node("6", "SaveImage", images=["2", 0], filename_prefix=f"{prompt} later"), **body}
    server.run(graph, **extra)
    files = list((server.base / "output").glob(f"{prompt} later*.png"))
    assert len(files) == 3
    entries = [chunks_of(file)["runflow_regenerate"]["4"] for file in sorted(files)]
    assert [(entry["attempt"], entry["seed"], "verdict" in entry) for entry in entries] == [
        (1, 7, False),
        (2, 8, False),
        (3, 9, False),
    ]
    assert since.bills == 3
    assert server.run(graph, **extra).executed == []
    more = Since(server, sandbox)
    server.run({**graph, **end(max_attempts=2)}, **extra)
    assert more.generated == []


def test_running_a_part_of_the_outputs_makes_nothing_again(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), passed())
    graph = {**node("6", "SaveImage", images=["2", 0], filename_prefix=prompt), **loop(prompt)}
    server.run(graph, partial_execution_targets=["40"])
    assert list((server.base / "output").glob(f"{prompt}*.png")) == []
    server.run(graph)
    assert len(list((server.base / "output").glob(f"{prompt}*.png"))) == 2
    before = Since(server, sandbox)
    server.run(graph, partial_execution_targets=["40"])
    server.run(graph)
    assert (before.generated, since.bills) == ([], 2)


def test_what_is_fed_by_the_body_alone_runs_at_every_attempt_wherever_it_leads(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    outside = {**node("5", "ImageInvert", image=["2", 0]), **record("6", ["5", 0], "inverted")}
    server.run({**loop(prompt), **outside})
    assert len({run["value"]["pixels"] for run in since.runs("record", "inverted")}) == 2


def test_a_node_behind_the_loop_that_also_reads_the_body_gets_attempt_1_and_that_is_said(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    both = {
        **node("5", "TestJoin", first=["4", 4], second=["1", 4]),
        **node("6", "TestJoin", first=["4", 4], second=["1", 5]),  # the original prompt is the same at every attempt
        **record("7", ["5", 0], "joined"),
        **record("8", ["6", 0], "joined too"),
    }
    history = server.run({**loop(prompt), **both})
    assert since.recorded["joined"] == f"{prompt} "
    (warning,) = summary(history)["warnings"]
    assert warning.startswith("node 5 (TestJoin) comes after End and also reads the loop")


def test_other_pixels_than_those_that_were_judged_come_out_and_that_is_said(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    graph = {**loop(prompt, image=["5", 0]), **node("5", "ImageInvert", image=["2", 0])}
    said = summary(server.run(graph))
    assert said["warnings"] == ["other pixels were judged than those that came out"]
    assert since.recorded["passed"] is True


def test_the_counts_of_a_split_in_the_body_are_fine(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    split = node("5", "RunflowSplitByVerdict", image=["2", 0], evaluation=["3", 4])
    server.run({**loop(prompt), **split, **record("6", ["5", 4], "failed")})
    assert [run["value"] for run in since.runs("record", "failed")] == [1, 0]


def test_the_issues_of_an_attempt_reach_the_next_one(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(issue="six fingers"), passed())
    graph = {**loop(prompt), **node("5", "TestJoin", first=["1", 5], second=["1", 4])}
    graph["2"]["inputs"]["prompt"] = ["5", 0]
    server.run(graph)
    assert [generated for generated, _ in since.generated] == [f"{prompt} ", f"{prompt} six fingers"]


def test_a_batch_is_kept_whole_and_ranked_by_its_lowest_score(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    # Of a batch it is not known which image is submitted first; each attempt has one score for both.
    verdicts(sandbox, failed(0.6), failed(0.6), failed(0.4), failed(0.9), passed(0.5), failed(0.5))
    graph = loop(prompt)
    graph["2"]["inputs"]["batch"] = 2
    server.run(graph)
    out = since.recorded
    assert (out["score"], out["seed"], out["passed"]) == (0.6, 7, False)
    assert out["image"]["shape"] == [2, 64, 64, 3]
    assert since.bills == 6


def test_kept_attempts_come_out_in_the_size_of_the_best_one(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.6), failed(0.4))
    graph = {**loop(prompt, seed=64, keep_attempts=True), **record("9", ["4", 8], "all")}
    graph["2"]["inputs"]["width"] = ["1", 2]
    server.run(graph)
    assert since.recorded["all"]["shape"] == [3, 65, 65, 3]


def test_attempts_that_were_not_kept_are_asked_for_in_words(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, passed())
    history = server.run({**loop(prompt), **record("9", ["4", 8], "all")})
    assert "all" not in since.recorded
    (blocked,) = history.blocked
    assert "[ATTEMPTS_NOT_KEPT]" in blocked["exception_message"]


def test_two_loops_in_one_graph_do_not_touch_each_other(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    """One after the other, so that the order of the verdicts is known."""
    verdicts(sandbox, failed(0.3, f"{prompt}, better"), passed(0.8), failed(0.2), failed(0.4), passed(0.7))
    second = {
        **start(["4", 4], 70, "11"),  # type: ignore[arg-type]
        **generate("12", "11"),
        **evaluate("13", ["12", 0], generation_prompt=["11", 1]),
        **end("14", loop=["11", 0], image=["12", 0], evaluation=["13", 4]),
        **record("15", ["14", 5], "second seed"),
    }
    server.run({**loop(prompt), **second})
    better = f"{prompt}, better"
    assert since.generated == [(prompt, 7), (better, 8), (better, 70), (better, 71), (better, 72)]
    assert (since.recorded["seed"], since.recorded["second seed"]) == (8, 72)
    assert since.bills == 5


def test_the_same_loop_in_another_workflow_is_another_loop(server: ComfyUI, prompt: str) -> None:
    """ComfyUI keeps results by inputs, not by node: the second Start must not come out of its cache as the first."""

    def loop(first: int) -> tuple[Prompt, str]:
        begin, made, judged, last, shown = (str(first + n) for n in range(5))
        wires = {"loop": [begin, 0], "image": [made, 0], "evaluation": [judged, 4]}
        nodes = (
            start(prompt, node_id=begin),
            generate(made, begin),
            evaluate(judged, [made, 0], judge="local"),
            end(last, **wires),
            node(shown, "PreviewImage", images=[last, 0]),
        )
        return {name: info for each in nodes for name, info in each.items()}, shown

    for first in (1, 11):
        workflow, shown = loop(first)
        assert server.run(workflow).outputs[shown]["images"]


def test_two_loops_beside_each_other_both_come_to_their_end(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3), failed(0.3), passed(0.9), passed(0.9))
    other = {**start(f"{prompt}, other", 70, "11"), **generate("12", "11")}
    other |= evaluate("13", ["12", 0], generation_prompt=["11", 1])
    other |= end("14", loop=["11", 0], image=["12", 0], evaluation=["13", 4])
    server.run({**loop(prompt), **other, **record("15", ["14", 5], "other seed")})
    assert (since.recorded["seed"], since.recorded["other seed"]) == (8, 71)
    assert since.bills == 4


def test_one_start_can_serve_two_ends(server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str) -> None:
    verdicts(sandbox, failed(0.3), failed(0.3), passed(0.9), passed(0.9))
    other = {**generate("12", name="other"), **evaluate("13", ["12", 0], evaluation_instructions="other")}
    other |= end("14", image=["12", 0], evaluation=["13", 4], next_seed="random")
    server.run({**loop(prompt), **other, **record("15", ["14", 6], "other attempts")})
    assert (since.recorded["attempts"], since.recorded["other attempts"]) == (2, 2)
    assert len(since.generated) == 4


def test_a_switch_in_the_body_runs_one_branch_at_each_attempt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    """The first look fails the first attempt and passes the second; only what failed is repaired."""
    verdicts(sandbox, failed(), failed(), passed(), passed())
    graph = {
        **loop(prompt, image=["6", 0]),
        **evaluate("5", ["2", 0], evaluation_instructions="first look"),
        **node("7", "ImageInvert", image=["2", 0]),
        **node("6", "RunflowVerdictSwitch", passed=["5", 0], on_pass=["2", 0], on_fail=["7", 0]),
        **evaluate("3", ["6", 0], generation_prompt=["1", 1]),
    }
    history = server.run(graph)
    assert since.recorded["attempts"] == 2
    assert "7" in history.executed and "4.0.0.7" not in history.executed


def test_a_loop_in_a_loop_starts_anew_at_each_attempt_of_the_outer_one(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    better = f"{prompt}, better"
    inner_1, outer_1 = (failed(0.1), passed(0.8)), failed(0.4, better)
    inner_2, outer_2 = (failed(0.2), failed(0.5)), passed(0.9)
    verdicts(sandbox, *inner_1, outer_1, *inner_2, outer_2)
    history = server.run(nested(prompt))
    prompts, seeds = zip(*since.generated, strict=True)
    assert prompts == (prompt, prompt, better, better)
    assert (seeds[1], seeds[3]) == (seeds[0] + 1, seeds[2] + 1)
    assert since.bills == 6
    assert (since.recorded["passed"], since.recorded["prompt"], since.recorded["attempts"]) == (True, better, 2)
    first = history.texts["11"][0]
    assert "at most 9 evaluations, 0.90 credits" in first


def test_a_loop_in_a_loop_is_not_made_again_either(server: ComfyUI, sandbox: Sandbox, prompt: str) -> None:
    verdicts(sandbox, passed(), failed(0.4), passed(), failed(0.4))
    server.run(nested(prompt, max_attempts=2))
    verdicts(sandbox, passed(), passed())
    more = Since(server, sandbox)
    server.run(nested(prompt, max_attempts=3))
    assert (len(more.generated), more.bills) == (1, 2)


def test_a_loop_in_a_subgraph_works_under_the_ids_that_the_editor_gives_it(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    def moved(value: Any) -> Any:
        return [f"2:{value[0]}", value[1]] if isinstance(value, list) else value

    inside = {
        f"2:{node_id}": {**info, "inputs": {name: moved(value) for name, value in info["inputs"].items()}}
        for node_id, info in loop(prompt).items()
    }
    verdicts(sandbox, failed(), passed())
    history = server.run(inside)
    assert since.recorded["seed"] == 8
    assert summary(history)["start"] == "2:1"
    assert history.texts["2:1"][-1].startswith("attempt 2 of 3")


def test_a_body_that_raises_fails_the_prompt_and_keeps_what_was_made(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    def raising(at: int) -> Prompt:
        graph = {**loop(prompt, image=["5", 0]), **evaluate("3", ["5", 0], generation_prompt=["1", 1])}
        return {**graph, **node("5", "TestRaise", image=["2", 0], number=["1", 3], at=at)}

    verdicts(sandbox, failed(), passed())
    assert refusal(server, raising(2)) == "the body failed at 2"
    assert len(since.generated) == 2
    server.run(raising(9))
    assert since.bills == 2  # the first attempt is not paid again
    assert since.recorded["passed"] is True


def test_a_prompt_cannot_bring_an_attempt_of_its_own(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(), passed())
    server.run(loop(prompt, _handover={"best": "something"}))
    assert (since.recorded["attempts"], since.recorded["seed"]) == (2, 8)
