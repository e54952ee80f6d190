"""The shipped examples, blueprints and the headless gate: each file fits the nodes, and runs in a real ComfyUI.

That they open in the editor, and how the blueprints run, is in ``tests/browser/test_examples.py``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.prompts import EXAMPLES, Prompt, example, node
from support.server import ComfyUI, PromptFailed

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict

HERE = Path(__file__).parent
BLUEPRINTS = sorted((EXAMPLES.parent / "subgraphs").glob("*.json"))
WORKFLOWS = sorted(EXAMPLES.glob("*.json"))
FILES = [*WORKFLOWS, *BLUEPRINTS]
PACK = "https://github.com/runflow/ComfyUI-Runflow-Evaluate"
GATE = EXAMPLES / "headless" / "gate.py"
TINY = "tiny.ckpt"
MODEL_FILES = {"ckpt_name", "unet_name", "clip_name1", "clip_name2", "vae_name"}
FAST_ON_A_CPU = ("--fp32-text-enc",)
FAILS, PASSES = ScriptedVerdict(passed=False, score=0.3, issues=["six fingers"]), ScriptedVerdict(score=0.9)

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=0.1, balance="1000") as running:
        yield running


@pytest.fixture(autouse=True)
def as_before(sandbox: Sandbox) -> Iterator[None]:
    yield
    sandbox.clear_verdicts()


@pytest.fixture(scope="module")
def server(comfyui_factory: Callable[..., ComfyUI], sandbox: Sandbox) -> ComfyUI:
    env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}
    return comfyui_factory(env=env, extra_nodes=(HERE / "model_nodes",), args=FAST_ON_A_CPU)


# --- the files


def graphs_of(path: Path) -> list[tuple[list[dict[str, Any]], list[list[Any]]]]:
    """(nodes, links) of the workflow and of each subgraph in it; links as [id, from, output, to, input, type]."""
    workflow = json.loads(path.read_text("utf-8"))
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    inside = workflow.get("definitions", {}).get("subgraphs", [])
    found = [(each["nodes"], [[link[key] for key in keys] for link in each["links"]]) for each in inside]
    return [(workflow["nodes"], workflow["links"]), *found]


def widgets(definition: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name, type, options) of each value that the editor saves for a node, in their order."""
    for group in ("required", "optional"):
        for name, (kind, *more) in definition["input"].get(group, {}).items():
            options = more[0] if more else {}
            if isinstance(kind, list):
                kind, options = "COMBO", {**options, "options": kind}
            if kind not in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO") or options.get("forceInput"):
                continue
            yield name, kind, options
            if options.get("control_after_generate") or (kind == "INT" and name in ("seed", "noise_seed")):
                yield "control_after_generate", "COMBO", {"options": ["fixed"]}
            if options.get("image_upload"):
                yield "upload", "COMBO", {"options": ["image"]}


def fits(value: Any, kind: str, options: dict[str, Any]) -> bool:
    if kind in ("INT", "FLOAT"):
        number = int if kind == "INT" else (int, float)
        within = options.get("min", -1e30) <= value <= options.get("max", 1e30) if isinstance(value, number) else False
        return within and not isinstance(value, bool)
    return isinstance(value, bool) if kind == "BOOLEAN" else isinstance(value, str)


@each_file
def test_every_saved_value_fits_the_widget_at_its_place(server: ComfyUI, path: Path) -> None:
    known = server.object_info()
    workflow = json.loads(path.read_text("utf-8"))
    inside = {each["id"] for each in workflow.get("definitions", {}).get("subgraphs", [])}
    checked = 0
    for nodes, _ in graphs_of(path):
        for each in nodes:
            if each["type"] in {"MarkdownNote", *inside}:
                continue
            expected = list(widgets(known[each["type"]]))
            checked += len(expected)
            assert len(each["widgets_values"]) == len(expected), each["type"]
            for value, (name, kind, options) in zip(each["widgets_values"], expected, strict=True):
                assert fits(value, kind, options), (each["type"], name, value)
                on_this_machine = name in MODEL_FILES or name == "image"
                if kind == "COMBO" and not on_this_machine:
                    assert value in options["options"], (each["type"], name, value)
    assert checked


@each_file
def test_every_link_is_known_at_both_of_its_ends(path: Path) -> None:
    assert any(links for _, links in graphs_of(path))
    for nodes, links in graphs_of(path):
        by_id = {each["id"]: each for each in nodes}
        assert len({link[0] for link in links}) == len(links)
        for number, source, output, target, slot, kind in links:
            if source in by_id:
                assert number in by_id[source]["outputs"][output]["links"]
            if target in by_id:
                entry = by_id[target]["inputs"][slot]
                assert entry["link"] == number
                assert entry["type"] == kind or "*" in (entry["type"], kind)
        linked = [entry["link"] for each in nodes for entry in each["inputs"] if entry["link"] is not None]
        assert sorted(linked) == sorted(link[0] for link in links if link[3] in by_id)


@each_file
def test_every_input_of_a_node_is_one_that_it_has(server: ComfyUI, path: Path) -> None:
    known = server.object_info()
    for nodes, _ in graphs_of(path):
        for each in (each for each in nodes if each["type"] in known):
            definition = known[each["type"]]
            inputs = {**definition["input"].get("required", {}), **definition["input"].get("optional", {})}
            assert {entry["name"] for entry in each["inputs"]} <= set(inputs), each["type"]
            given = [entry["name"] for entry in each["outputs"]]
            assert given == definition["output_name"][: len(given)], each["type"]


@each_file
def test_a_note_explains_it_and_links_the_pack(path: Path) -> None:
    (note,) = [each for nodes, _ in graphs_of(path) for each in nodes if each["type"] == "MarkdownNote"]
    (text,) = note["widgets_values"]
    assert text.startswith("## ") and text.rstrip().endswith("(ComfyUI-Manager: search *Runflow*).")
    assert f"]({PACK})" in text


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_reads_the_same_in_any_encoding(path: Path) -> None:
    """ComfyUI 0.3.75 opens blueprints in the platform's encoding, which on Windows is not UTF-8."""
    assert path.read_bytes().isascii()


def test_comfyui_lists_the_examples_and_blueprints_and_nothing_else(server: ComfyUI) -> None:
    (listed,) = [names for pack, names in server.request("GET", "/workflow_templates").items() if "Runflow" in pack]
    assert sorted(listed) == [path.stem for path in WORKFLOWS]
    blueprints = [each for each in server.request("GET", "/global_subgraphs").values() if "Runflow" in str(each)]
    assert sorted(each["name"] for each in blueprints) == [path.stem for path in BLUEPRINTS]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_template_browser_has_a_picture_of_it(path: Path) -> None:
    picture = path.with_suffix(".jpg")
    assert picture.stat().st_size <= 60_000
    with Image.open(picture) as image:
        assert image.format == "JPEG" and image.width >= 400


# --- the loop around a checkpoint


def hands(server: ComfyUI, **end: Any) -> Prompt:
    return with_tiny_model(server, "retry_until_hands_are_right", **end)


def with_tiny_model(server: ComfyUI, name: str, **end: Any) -> Prompt:
    """The example with a checkpoint that is there, in place of all its loaders, in a size that a CPU makes at once."""
    prompt = example(server, name)
    server.run(node("1", "TestWriteCheckpoint", name=TINY))
    outputs = {"UNETLoader": 0, "DualCLIPLoader": 1, "VAELoader": 2}
    loaders = {name: outputs[each["class_type"]] for name, each in prompt.items() if each["class_type"] in outputs}
    for each in prompt.values():
        for key, value in each["inputs"].items():
            if isinstance(value, list) and value[0] in loaders:
                each["inputs"][key] = ["checkpoint", loaders[value[0]]]
    if loaders:
        prompt = {name: each for name, each in prompt.items() if name not in loaders}
        prompt |= node("checkpoint", "CheckpointLoaderSimple", ckpt_name=TINY)
    small = {"width": 64, "height": 64}
    changes = {"CheckpointLoaderSimple": {"ckpt_name": TINY}, "EmptyLatentImage": small, "EmptySD3LatentImage": small}
    changes |= {"KSampler": {"steps": 1}, "RunflowRegenerateEnd": end}
    for each in prompt.values():
        each["inputs"].update(changes.get(each["class_type"], {}))
    return prompt


def loop_of(history: Any) -> dict[str, Any]:
    (found,) = [out["runflow_regenerate"][0] for out in history.outputs.values() if "runflow_regenerate" in out]
    return found


def saved_images(history: Any) -> list[dict[str, Any]]:
    """What was saved for good; verdicts have a card of their own, which is temporary."""
    return [each for out in history.outputs.values() for each in out.get("images", []) if each["type"] == "output"]


def bodies(sandbox: Sandbox, since: int) -> list[dict[str, Any]]:
    return [record.body for record in sandbox.requests[since:] if record.path == "/v1/evaluations"]


def test_hands_are_retried_with_the_next_seed_and_the_same_prompt_until_they_are_right(
    server: ComfyUI, sandbox: Sandbox
) -> None:
    prompt, before = hands(server), len(sandbox.requests)
    for verdict in (FAILS, FAILS, PASSES):
        sandbox.add_verdict(verdict)
    history = server.run(prompt, timeout=300)
    attempts = loop_of(history)["attempts"]
    assert [each["seed"] for each in attempts] == [7, 8, 9]
    assert len({tuple(each["images"]) for each in attempts}) == 3, "the seed reaches the sampler"
    asked = bodies(sandbox, before)
    assert len(asked) == 3
    assert {each["generation_prompt"] for each in asked} == {attempts[0]["prompt"]}
    assert all("five fingers" in each["evaluation_instructions"] for each in asked)
    (image,) = saved_images(history)
    assert image["filename"].startswith("hands")


def test_with_next_prompt_improved_the_same_example_improves_the_prompt(server: ComfyUI, sandbox: Sandbox) -> None:
    prompt = hands(server, next_prompt="improved")
    (start,) = (each for each in prompt.values() if each["class_type"] == "RunflowRegenerateStart")
    start["inputs"]["seed"] = 70
    better = "a pianist, five fingers on each hand"
    sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.3, improved_prompt=better))
    sandbox.add_verdict(PASSES)
    attempts = loop_of(server.run(prompt, timeout=300))["attempts"]
    assert [each["prompt"] for each in attempts] == [start["inputs"]["prompt"], better]


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("retry_until_hands_are_right", r"ckpt_name: 'v1-5-pruned-emaonly-fp16\.safetensors' not in"),
        ("four_good_ones", r"ckpt_name: 'v1-5-pruned-emaonly-fp16\.safetensors' not in"),
        ("repair_with_edit_model", r"unet_name: 'flux1-dev-kontext_fp8_scaled\.safetensors' not in"),
    ],
)
def test_without_the_model_comfyui_names_it(server: ComfyUI, name: str, missing: str) -> None:
    with pytest.raises(PromptFailed, match=missing):
        server.run(example(server, name))


def test_an_edit_model_repairs_the_best_image_as_it_is_told(server: ComfyUI, sandbox: Sandbox) -> None:
    prompt, before = with_tiny_model(server, "repair_with_edit_model"), len(sandbox.requests)
    for verdict in (ScriptedVerdict(passed=False, score=0.5, issues=["six fingers"]), FAILS, PASSES):
        sandbox.add_verdict(verdict)
    told = loop_of(server.run(prompt, timeout=300))
    assert [each["repairs"] for each in told["attempts"]] == [0, 1, 1]
    assert len({tuple(each["images"]) for each in told["attempts"]}) == 3
    assert "exactly five fingers.\nThe violin" in bodies(sandbox, before)[0]["evaluation_instructions"]
    assert told["winner"] == 3 and told["warnings"] == []


def test_four_good_ones_are_made_and_saved_and_no_more(server: ComfyUI, sandbox: Sandbox) -> None:
    prompt = with_tiny_model(server, "four_good_ones")
    for verdict in (PASSES, FAILS, PASSES, PASSES, FAILS, PASSES, PASSES):
        sandbox.add_verdict(verdict)
    history = server.run(prompt, timeout=300)
    told = loop_of(history)
    assert [each["passed"] for each in told["attempts"]] == [True, False, True, True, False, True]
    saved = saved_images(history)
    assert len(saved) == 4 and all(each["filename"].startswith("good") for each in saved)


def test_a_photograph_is_repaired_step_by_step_without_a_model(comfyui: ComfyUI) -> None:
    told = loop_of(comfyui.run(example(comfyui, "repair_a_photograph")))
    assert [each["repairs"] for each in told["attempts"]] == [0, 1, 2]
    assert [each["verdict"] for each in told["attempts"]] == ["failed", "failed", "passed"]
    assert [each["gained"] for each in told["attempts"]] == [[], ["contrast"], ["exposure"]]
    assert told["warnings"] == []


# --- the garment


def test_a_garment_is_compared_with_its_references_and_saved_only_if_it_is_the_same(
    server: ComfyUI, sandbox: Sandbox
) -> None:
    prompt, before = example(server, "garment_check"), len(sandbox.requests)
    saved = server.base / "output" / "runflow"
    sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.2, issues=["the suit is blue"]))
    server.run(prompt)
    (asked,) = bodies(sandbox, before)
    references = asked["reference_images"]
    assert [each["kind"] for each in references] == ["garment", "garment"]
    assert [each["description"].split()[1] for each in references] == ["round", "suit:"]
    assert "the same colour" in asked["evaluation_instructions"]
    assert list(saved.glob("garment*.png")) == []
    (loader,) = (each for each in prompt.values() if each["inputs"].get("image") == "garment_wrong_colour.jpg")
    loader["inputs"]["image"] = "astronaut.jpg"
    sandbox.add_verdict(PASSES)
    server.run(prompt)
    assert len(list(saved.glob("garment*.png"))) == 1


def test_without_a_key_the_garment_check_says_what_it_needs(comfyui: ComfyUI) -> None:
    with pytest.raises(PromptFailed) as caught:
        comfyui.run(example(comfyui, "garment_check"))
    assert caught.value.history is not None
    (error,) = caught.value.history.errors
    assert error["exception_message"].startswith("[NEEDS_RUNFLOW_KEY]")
    assert "RUNFLOW_API_KEY" in error["exception_message"]
    assert "set judge to local" in error["exception_message"]


# --- the gate in a job without an editor


def gate(server: ComfyUI, *arguments: Any) -> tuple[int, str]:
    """Exit code and what was printed."""
    command = [sys.executable, GATE, "--server", server.url, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_posted_graph_is_the_one_of_the_example(server: ComfyUI) -> None:
    posted = json.loads((GATE.parent / "gate_api.json").read_text("utf-8"))
    assert {name: {key: each[key] for key in ("class_type", "inputs")} for name, each in posted.items()} == example(
        server, "headless_gate"
    )


def test_the_exit_code_is_the_verdict(comfyui: ComfyUI) -> None:
    good, bad = EXAMPLES / "photos" / "coffee.jpg", EXAMPLES / "photos" / "coffee_blurred.jpg"
    code, said = gate(comfyui, good)
    assert code == 0 and re.search(r"coffee\.jpg: passed 1\.00 by local", said), said
    code, said = gate(comfyui, good, bad)
    assert code == 1 and re.search(r"coffee_blurred\.jpg: failed 0\.\d\d by local; blurred", said), said
    assert gate(comfyui)[0] == 0, "the workflow as it stands"
    assert gate(comfyui)[0] == 0, "and again, from ComfyUI's cache"
    assert len(list((comfyui.base / "output" / "approved").glob("image*.png"))) >= 1


def test_what_nobody_judged_is_no_pass(server: ComfyUI, comfyui: ComfyUI, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.add_verdict(ScriptedVerdict(null=True))
    code, said = gate(server, EXAMPLES / "photos" / "rocket.jpg")
    assert code == 3 and "rocket.jpg: unknown by runflow" in said, said
    sandbox.add_verdict(ScriptedVerdict(failure_code="dispatch_failed"))
    code, said = gate(server, EXAMPLES / "photos" / "chelsea.jpg")
    assert code == 3 and "chelsea.jpg: not judged: RunflowEvaluateImage: [" in said, said
    no_verdict = tmp_path / "mine_api.json"
    no_verdict.write_text(json.dumps({**node("1", "LoadImage", image="example.png"), **node("2", "PreviewImage",
                                      images=["1", 0])}))  # fmt: skip
    code, said = gate(comfyui, "--workflow", no_verdict)
    assert code == 3 and "put Show Verdict behind what is to be judged" in said, said
    no_verdict.write_text(json.dumps(node("1", "NodeThatIsMissing")))
    code, said = gate(comfyui, "--workflow", no_verdict)
    assert code == 3 and "ComfyUI refused the workflow" in said, said


def test_a_wrong_use_of_the_gate_is_told_from_a_verdict(comfyui: ComfyUI, tmp_path: Path) -> None:
    assert gate(comfyui, tmp_path / "nothing.png")[0] == 2
    assert gate(comfyui, "--workflow", tmp_path / "nothing.json")[0] == 2


def test_a_verdict_behind_a_loop_is_read_by_the_gate(server: ComfyUI, sandbox: Sandbox, tmp_path: Path) -> None:
    prompt = hands(server, max_attempts=2)
    (end,) = (name for name, each in prompt.items() if each["class_type"] == "RunflowRegenerateEnd")
    (start,) = (each for each in prompt.values() if each["class_type"] == "RunflowRegenerateStart")
    start["inputs"]["seed"] = 700
    mine = tmp_path / "mine_api.json"
    mine.write_text(json.dumps({**prompt, **node("20", "RunflowShowVerdict", evaluation=[end, 7])}))
    sandbox.add_verdict(FAILS)
    sandbox.add_verdict(PASSES)
    code, said = gate(server, "--workflow", mine)
    assert (code, said.strip()) == (0, "mine_api.json: passed 0.90 by runflow")
