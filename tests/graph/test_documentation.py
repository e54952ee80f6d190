"""What the documentation promises, done in a real ComfyUI: the tutorial's steps, the recipes, what is stored where."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.prompts import EXAMPLES, Prompt, evaluate, example, load_image, node, show
from support.server import ComfyUI, checkout

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL, RECIPES, PRIVACY = (
    (ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("tutorial", "recipes", "cost-and-privacy")
)
KEY = "rf_test_of_the_documentation"


@pytest.mark.slow
@pytest.mark.comfyui
def test_the_demo_judges_every_photograph() -> None:
    command = [sys.executable, "scripts/demo.py", "--comfyui", str(checkout())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    count = len(list((EXAMPLES / "photos").glob("*.jpg")))
    assert done.returncode == 0 and f"{count} of {count} judged." in done.stdout, done.stdout + done.stderr


def test_the_headless_gate_runs_as_printed(comfyui: ComfyUI) -> None:
    (line,) = re.findall(r"^python (example_workflows/headless/gate\.py .+)$", RECIPES, re.MULTILINE)
    here = {
        "http://127.0.0.1:8188": comfyui.url,
        "one.png": str(EXAMPLES / "photos" / "coffee.jpg"),
        "two.png": str(EXAMPLES / "photos" / "coffee_blurred.jpg"),
    }
    command = [sys.executable, *(here.get(word, word) for word in line.split())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    passed, failed = done.stdout.splitlines()
    assert ": passed " in passed and ": failed " in failed


# --- the recipes and the examples


def recipes() -> dict[str, str]:
    """What each recipe's workflow needs, by its name."""
    return dict(re.findall(r"^\[(\w+)\.json\]\(\.\./example_workflows/\1\.json\) · (.+)$", RECIPES, re.MULTILINE))


FREE = [name for name, needs in recipes().items() if needs == "no key, no model"]


def test_every_example_has_a_recipe_or_is_the_first_verdict() -> None:
    named = set(re.findall(r"example_workflows/(\w+)\.json", RECIPES))
    assert named | {"first_verdict"} == {path.stem for path in EXAMPLES.glob("*.json")}
    assert "first_verdict" in TUTORIAL


@pytest.mark.parametrize("name", [*FREE, "first_verdict"])
def test_what_needs_neither_key_nor_model_runs_in_a_new_comfyui(comfyui: ComfyUI, name: str) -> None:
    outputs = comfyui.run(example(comfyui, name)).outputs.values()
    verdicts = [verdict for output in outputs for verdict in output.get("runflow", ())]
    assert verdicts and all(verdict["judge"] == "local" for verdict in verdicts)


def test_what_needs_more_is_run_by_a_test_of_its_own() -> None:
    others = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for name in set(recipes()) - set(FREE):
        assert f'"{name}"' in others or f'"{name}.json"' in others, name


@pytest.mark.parametrize(("name", "runs"), [("example.png", True), ("coffee_blurred.jpg", False)])
def test_only_what_passes_is_upscaled(comfyui: ComfyUI, name: str, runs: bool) -> None:
    prompt = example(comfyui, "gate_before_upscale")
    upscaler, saver = (name for name, info in prompt.items() if info["class_type"] in ("ImageScaleBy", "SaveImage"))
    (loader,) = (info for info in prompt.values() if info["class_type"] == "LoadImage")
    loader["inputs"]["image"] = name
    history = comfyui.run(prompt)
    assert (upscaler in {*history.executed, *history.cached}) == runs
    assert (saver in history.outputs) == runs


# --- the tutorial


def test_the_dark_photograph_of_part_1_fails_as_it_says(comfyui: ComfyUI) -> None:
    prompt = example(comfyui, "first_verdict")
    (photo,) = (info for info in prompt.values() if info["class_type"] == "RunflowExamplePhoto")
    photo["inputs"]["photo"] = "chelsea_underexposed.jpg"
    (verdict,) = comfyui.run(prompt).outputs["3"]["runflow"]
    assert verdict["verdict"] == "failed" and verdict["issues"][0].startswith("underexposed")


def scores_of(history: Any) -> list[float]:
    """Of all attempts of its loop, from what End's panel is told."""
    (shown,) = (out["runflow_regenerate"][0] for out in history.outputs.values() if "runflow_regenerate" in out)
    return [attempt["score"] for attempt in shown["attempts"]]


def test_the_photographs_get_the_scores_that_it_says(comfyui: ComfyUI) -> None:
    scores = scores_of(comfyui.run(example(comfyui, "regenerate_until_passed")))
    assert "{:.2f}, {:.2f} and {:.2f}".format(*scores) in " ".join(TUTORIAL.split())


def test_with_two_attempts_the_better_of_two_that_failed_comes_out(comfyui: ComfyUI) -> None:
    prompt = example(comfyui, "regenerate_until_passed")
    (end,) = (info for info in prompt.values() if info["class_type"] == "RunflowRegenerateEnd")
    end["inputs"]["max_attempts"] = 2
    history = comfyui.run(prompt)
    scores = scores_of(history)
    assert len(scores) == 2 and max(scores) == scores[0] < 1
    (name,) = (name for name, info in prompt.items() if info["class_type"] == "SaveImage")
    assert np.array_equal(pixels(comfyui, history.outputs[name]), photo("coffee_blurred.jpg"))


def photo(name: str) -> np.ndarray:
    with Image.open(EXAMPLES / "photos" / name) as image:
        return np.asarray(image)


def pixels(server: ComfyUI, output: dict[str, Any]) -> np.ndarray:
    """Of the one image that an output node saved."""
    (saved,) = output["images"]
    with Image.open(server.base / "output" / saved["subfolder"] / saved["filename"]) as image:
        return np.asarray(image)


def by_hand() -> Prompt:
    """The workflow that the tutorial wires from an empty graph, link by link."""
    return {
        **load_image("first", "coffee_blurred.jpg"),
        **load_image("second", "coffee.jpg"),
        **node("batch", "ImageBatch", image1=["first", 0], image2=["second", 0]),
        **node("start", "RunflowRegenerateStart", prompt="a cup of coffee on a wooden table", seed=0),
        **node("from", "ImageFromBatch", image=["batch", 0], batch_index=["start", 2], length=1),
        **evaluate("judge", ["from", 0], judge="local"),
        **node("end", "RunflowRegenerateEnd", loop=["start", 0], image=["from", 0], evaluation=["judge", 4]),
        **node("save", "SaveImage", images=["end", 0], filename_prefix="by-hand"),
    }


def test_the_loop_from_an_empty_graph_does_what_it_says(comfyui: ComfyUI) -> None:
    for name in ("coffee.jpg", "coffee_blurred.jpg"):
        shutil.copy2(EXAMPLES / "photos" / name, comfyui.base / "input")
    history = comfyui.run(by_hand())
    assert np.array_equal(pixels(comfyui, history.outputs["save"]), photo("coffee.jpg"))
    scores = scores_of(history)
    assert len(scores) == 2 and scores[0] < scores[1] == 1


def test_the_tutorials_table_names_the_nodes_of_its_loop(comfyui: ComfyUI) -> None:
    """By what this ComfyUI calls them, and by what finds them in its search: a part of the name or of the id."""
    rows = re.findall(r"^ *\| `([\w :]+)` \| (.+) \|$", TUTORIAL, re.MULTILINE)
    info = comfyui.object_info()
    for kind in {each["class_type"] for each in by_hand().values()}:
        name = (info[kind]["display_name"] or kind).removesuffix(" (DEPRECATED)")
        typed = [typed for typed, row in rows if name in row]
        assert typed and (typed[0] in name.lower() or typed[0] in kind.lower()), name


# --- cost and privacy


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=0.1, api_key=KEY) as running:
        yield running


TEXTS = {
    "generation_prompt": "zebra-in-the-prompt",
    "evaluation_instructions": "zebra-in-the-instructions",
    "task_description": "zebra-in-the-description",
}


def kept(folder: Path) -> bytes:
    """Everything in the folder's files, with the packed answers of the journal unpacked."""
    found = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    with sqlite3.connect(folder / "journal.sqlite3") as journal:
        packed = journal.execute("SELECT packed FROM runflow_answers").fetchall()
    journal.close()
    return found + b"".join(zlib.decompress(each) for (each,) in packed)


def test_what_is_stored_where_less_of_it_and_nothing_of_it(
    comfyui_factory: Callable[..., ComfyUI], sandbox: Sandbox, tmp_path: Path
) -> None:
    env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": KEY}
    prompt = {**load_image("1", "example.png"), **evaluate("2", ["1", 0], **TEXTS), **show("3", ["2", 4])}
    folder = tmp_path / "user" / "__runflow_evaluate"
    with comfyui_factory(base=tmp_path, env=env) as server:
        server.run(prompt)
        server.free()
        server.run(prompt)
        assert len(sandbox.evaluations) == 1, "the same question is paid once"
    named = set(re.findall(r"^\| [`…]+.*?(\w+)(?:\.\w+)?` ", PRIVACY, re.MULTILINE)) | {"journal"}
    assert {path.name.partition(".")[0] for path in folder.iterdir()} <= named
    assert list(folder.glob("spool/*")) == [] and len(list(folder.glob("thumbnails/*"))) == 1
    assert all(text.encode() in kept(folder) for text in TEXTS.values())
    if sys.platform != "win32":
        assert {stat.S_IMODE(each.stat().st_mode) for each in folder.rglob("*") if each.is_file()} == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    shutil.rmtree(folder)  # "Delete it", and then "Keep less"
    folder.mkdir(mode=0o700)
    (folder / "config.json").write_text(json.dumps({"keep_prompts": False, "keep_thumbnails": False}))
    sandbox.add_verdict(ScriptedVerdict(improved_prompt="a lion"))  # kept, and in practice much like the prompt
    with comfyui_factory(base=tmp_path, env=env) as server:
        server.run(prompt)
    assert len(sandbox.evaluations) == 2, "what was paid is forgotten too"
    assert not (folder / "thumbnails").exists()
    left = kept(folder)
    assert list(sandbox.evaluations)[-1].encode() in left, "the evaluation itself is kept"
    assert not [text for text in TEXTS.values() if text.encode() in left]
