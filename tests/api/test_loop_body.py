"""Finding and cloning the body of a loop, on plain dictionaries: no ComfyUI."""

from __future__ import annotations

from typing import Any

import pytest

from runflow_api.prompt import graph as loop


def graph(**nodes: dict[str, Any]) -> dict[str, Any]:
    """``a={"x": ["b", 0]}`` is a node a of class A with one link."""
    return {
        node: {"class_type": node.rstrip("0123456789").upper(), "inputs": dict(inputs)}
        for node, inputs in nodes.items()
    }


def body(nodes: dict[str, Any], output_nodes: str = "preview", **options: Any) -> Any:
    return loop.find_body(
        nodes, "start", "end", lambda node: nodes[node]["class_type"] == output_nodes.upper(), **options
    )


SIMPLE = {
    "model": {},
    "start": {"prompt": "a cat"},
    "text": {"text": ["start", 1]},
    "sampler": {"text": ["text", 0], "seed": ["start", 2], "model": ["model", 0]},
    "evaluate": {"image": ["sampler", 0]},
    "end": {"loop": ["start", 0], "image": ["sampler", 0], "evaluation": ["evaluate", 4]},
    "save": {"image": ["end", 0]},
}


def test_the_body_is_what_depends_on_start_and_reaches_end() -> None:
    assert body(graph(**SIMPLE)).nodes == ("text", "sampler", "evaluate")


def test_what_end_reads_at_every_attempt_ends_at_a_node_that_chooses() -> None:
    nodes = graph(**{**SIMPLE, "end": {"loop": ["start", 0], "image": ["switch", 0]}})
    nodes |= graph(switch={"on_pass": ["split", 0], "passed": ["evaluate", 0]}, split={"image": ["sampler", 0]})
    found = body(nodes)
    assert loop.links_read(nodes, found, "image", {"switch"}.__contains__) == {("switch", 0)}
    everything = loop.links_read(nodes, found, "image", lambda node: False)
    assert {("switch", 0), ("split", 0), ("evaluate", 0), ("sampler", 0), ("text", 0)} == everything
    assert loop.links_read(nodes, found, "evaluation", lambda node: False) == set()


def test_output_nodes_fed_by_the_body_belong_to_it_with_what_lies_between() -> None:
    nodes = graph(**SIMPLE, invert={"image": ["sampler", 0]}, preview={"image": ["invert", 0]})
    assert body(nodes).nodes == ("text", "sampler", "evaluate", "invert", "preview")


def test_what_leads_nowhere_is_not_repeated() -> None:
    assert "invert" not in body(graph(**SIMPLE, invert={"image": ["sampler", 0]})).nodes


def test_output_nodes_behind_end_do_not_belong_to_the_body() -> None:
    nodes = graph(**SIMPLE, preview={"image": ["end", 0]}, preview2={"a": ["end", 0], "b": ["sampler", 0]})
    found = body(nodes)
    assert not {"preview", "preview2"} & set(found.nodes)
    assert found.readers_after_end == ("preview2",)


def test_what_start_gives_unchanged_is_not_late() -> None:
    nodes = graph(**SIMPLE, join={"a": ["end", 0], "b": ["start", 5]}, join2={"a": ["end", 0], "b": ["start", 1]})
    assert body(nodes, constant={5}).readers_after_end == ("join2",)


def test_what_depends_on_nothing_that_changes_is_not_repeated() -> None:
    nodes = graph(**SIMPLE, start2={"prompt": ["start", 5]}, sampler2={"text": ["start2", 1]})
    nodes |= graph(preview={"image": ["sampler2", 0]}, preview2={"text": ["start", 1]})
    nodes["preview2"]["class_type"] = "PREVIEW"
    assert body(nodes, constant={5}).nodes == ("text", "sampler", "evaluate", "preview2")


def test_two_ends_of_one_start_do_not_repeat_each_other() -> None:
    nodes = graph(**SIMPLE, sampler2={"text": ["text", 0]}, preview={"image": ["sampler2", 0]})
    nodes |= graph(end2={"loop": ["start", 0], "image": ["sampler2", 0]}, preview2={"image": ["end2", 0]})
    nodes["preview2"]["class_type"] = "PREVIEW"
    assert body(nodes).nodes == ("text", "sampler", "evaluate", "sampler2", "preview")
    second = loop.find_body(nodes, "start", "end2", lambda node: nodes[node]["class_type"] == "PREVIEW")
    assert second.nodes == ("text", "sampler2", "preview")


def test_which_outputs_of_start_an_image_depends_on() -> None:
    nodes = graph(**SIMPLE)
    assert loop.start_outputs_behind(nodes, body(nodes), "image") == {1, 2}
    nodes["end"]["inputs"]["image"] = ["start", 3]
    assert loop.start_outputs_behind(nodes, body(nodes), "image") == {3}
    nodes["end"]["inputs"]["image"] = ["model", 0]
    assert loop.start_outputs_behind(nodes, body(nodes), "image") == set()


def test_clones_are_linked_among_themselves_and_to_what_is_outside() -> None:
    nodes = graph(**SIMPLE)
    stand_in = {"class_type": "STAND_IN", "inputs": {"prompt": "a better cat"}}
    made, end = loop.clone(
        nodes, body(nodes), "end.0.0.", local=lambda node: node, shown_on=lambda node: node, stand_in=stand_in
    )
    assert end == "end.0.0.end"
    assert set(made) == {"end.0.0." + node for node in ("start", "text", "sampler", "evaluate", "end")}
    assert made["end.0.0.start"] == {**stand_in, "override_display_id": "start"}
    assert made["end.0.0.sampler"] == {
        "class_type": "SAMPLER",
        "inputs": {"text": ["end.0.0.text", 0], "seed": ["end.0.0.start", 2], "model": ["model", 0]},
        "override_display_id": "sampler",
    }
    assert made[end]["inputs"]["loop"] == ["end.0.0.start", 0]


def test_clones_do_not_take_over_what_comfyui_noted_on_a_node() -> None:
    nodes = graph(**SIMPLE)
    nodes["evaluate"] |= {"is_changed": ["runflow:0"], "_meta": {"title": "mine"}}
    made, _ = loop.clone(
        nodes, body(nodes), "x.", local=lambda node: node, shown_on=lambda node: node, stand_in=nodes["start"]
    )
    assert set(made["x.evaluate"]) == {"class_type", "inputs", "override_display_id"}


def test_a_loop_of_comfyui_in_the_body_is_repeated_whole_with_what_it_notes_on_its_start() -> None:
    """ComfyUI 0.38 looks up on the start which nodes it repeats, also on that of a clone."""
    refined = {"refine": {"image": ["sampler", 0], "round": ["first", 0]}, "first": {}, "last": {"x": ["refine", 0]}}
    nodes = graph(**{**SIMPLE, **refined, "end": {"loop": ["start", 0], "image": ["last", 0]}})
    nodes["first"] |= {"_loop_body": ["refine", "elsewhere"], "_loop_end": "last"}
    whole = loop.with_whole_loops(nodes, body(nodes), [("first", "last")])
    assert "first" not in body(nodes).nodes and {"first", "refine", "last"} < set(whole.nodes)
    made, _ = loop.clone(
        nodes, whole, "x.", local=lambda node: node, shown_on=lambda node: node, stand_in=nodes["start"]
    )
    assert (made["x.first"]["_loop_body"], made["x.first"]["_loop_end"]) == (["x.refine"], "x.last")
    around = graph(**{**SIMPLE, "first": {}, "start": {"seed": ["first", 0]}, "last": {"x": ["end", 0]}})
    assert loop.with_whole_loops(around, body(around), [("first", "last")]) == body(around)


@pytest.mark.parametrize(("value", "is_link"), [(["1", 0], True), (["1", "0"], False), ([1, 0], False), ("1", False)])
def test_a_link_is_an_id_and_an_output(value: Any, is_link: bool) -> None:
    assert (loop.link(value) is not None) == is_link


def test_loops_inside_multiply() -> None:
    outer = loop.Body("start", "end", ("start2", "sampler", "evaluate", "end2", "judge"), ())
    inner = loop.Body("start2", "end2", ("sampler", "evaluate"), ())
    times = loop.repetitions(outer, {"end2": inner}, lambda end: 4)
    assert times == {"start2": 1, "sampler": 4, "evaluate": 4, "end2": 1, "judge": 1}


def test_seeds_wrap_at_64_bits() -> None:
    assert loop.next_seed("increment", 5, 2**64 - 1, 2) == 0
    assert loop.next_seed("keep", 5, 2**64 - 1, 2) == 2**64 - 1


def test_random_seeds_follow_from_the_first_seed_and_the_attempt() -> None:
    seeds = [loop.next_seed("random", first, 0, attempt) for first in (1, 2) for attempt in (2, 3, 4)]
    assert len(set(seeds)) == 6
    assert seeds[0] == loop.next_seed("random", 1, 99, 2)
    assert max(seeds) < 2**53, "JavaScript, and so the editor, holds each of them exactly"
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_an_identity_does_not_depend_on_ids_and_does_on_everything_else() -> None:
    def renamed(old: str, new: str) -> dict[str, Any]:
        nodes = graph(**SIMPLE)
        nodes[new] = nodes.pop(old)
        nodes["sampler"]["inputs"]["text"] = [new, 0]
        return nodes

    known = loop.identity(graph(**SIMPLE), "end")
    assert loop.identity(renamed("text", "moved"), "end") == known
    changed = graph(**SIMPLE)
    changed["text"]["inputs"]["extra"] = 1
    assert loop.identity(changed, "end") != known
    assert loop.identity(changed, "model") == loop.identity(graph(**SIMPLE), "model")


def test_an_identity_with_what_is_never_equal_is_never_equal() -> None:
    nodes = graph(**SIMPLE)

    def identity(more: Any) -> Any:
        return loop.identities(nodes, ["end"], lambda node: more)["end"]

    assert identity(1) == identity(1) != identity(2)
    assert identity([float("nan")]) != identity([float("nan")])


def test_a_loop_is_torn_by_another_one_that_repeats_only_one_of_its_ends() -> None:
    nodes = graph(**{**SIMPLE, "round": {}, "last": {"flow": ["round", 0], "value": ["end", 0]}})
    outer = loop.find_body(nodes, "round", "last", lambda node: False)
    assert not loop.is_torn_by(body(nodes), outer)
    nodes["text"]["inputs"]["round"] = ["round", 1]
    outer = loop.find_body(nodes, "round", "last", lambda node: False)
    assert loop.is_torn_by(body(nodes), outer)
    nodes["start"]["inputs"]["seed"] = ["round", 1]
    outer = loop.find_body(nodes, "round", "last", lambda node: False)
    assert not loop.is_torn_by(body(nodes), outer)


def test_a_long_graph_is_no_problem() -> None:
    nodes = graph(start={}, n0={"x": ["start", 1]})
    for index in range(1, 5000):
        nodes[f"n{index}"] = {"class_type": "N", "inputs": {"x": [f"n{index - 1}", 0]}}
    nodes["end"] = {"class_type": "END", "inputs": {"loop": ["start", 0], "image": ["n4999", 0]}}
    assert len(body(nodes).nodes) == 5000
    assert len(loop.identity(nodes, "end")) == 64
