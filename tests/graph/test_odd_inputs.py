"""What other packs and clients send: nothing for an image, odd metadata, reports at once, other users' folders."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.pictures import picture
from support.prompts import Prompt, evaluate, load_image, node, show
from support.server import ComfyUI, PromptFailed, checkout

from runflow_api import image_files, images
from runflow_api.cli import commands as command_line
from runflow_api.cli.exit_codes import JUDGED_FAILED, OK
from runflow_api.sandbox.app import Sandbox, ScriptedVerdict

TEST_NODES = (Path(__file__).parent / "test_nodes",)
ORIENTATION = 0x0112
"""The tag of EXIF."""


def refusal(server: ComfyUI, graph: Prompt, **fields: Any) -> str:
    with pytest.raises(PromptFailed) as caught:
        server.run(graph, **fields)
    assert caught.value.history is not None, caught.value
    message: str = caught.value.history.errors[0]["exception_message"]
    return message.strip()


def generate(node_id: str, prompt: str, **inputs: Any) -> Prompt:
    return node(node_id, "TestGenerate", prompt=prompt, seed=1, **inputs)


# --- nothing where an image belongs


def nothing(reader: Prompt) -> Prompt:
    judged = {**generate("2", "something to judge"), **evaluate("3", ["2", 0], judge="local")}
    return {**node("1", "TestNothing"), **judged, **reader}


@pytest.mark.parametrize(
    "reader",
    [
        {**evaluate("4", ["1", 0], judge="local"), **show("5", ["4", 4])},
        {
            **node("4", "RunflowSplitByVerdict", image=["1", 0], evaluation=["3", 4]),
            **node("5", "PreviewImage", images=["4", 0]),
        },
        {
            **node("4", "RunflowPickBest", image=["1", 0], evaluation=["3", 4]),
            **node("5", "PreviewImage", images=["4", 0]),
        },
        node("4", "RunflowVerdictCard", image=["1", 0], evaluation=["3", 4]),
    ],
    ids=["evaluate", "split", "pick", "report"],
)
def test_nothing_for_an_image_is_one_clear_error(server: ComfyUI, reader: Prompt) -> None:
    assert refusal(server, nothing(reader)).startswith("[INVALID_INPUT] image: gets nothing (None) instead of an image")


@pytest.mark.parametrize("extra_pnginfo", [[1, 2], "text", 7, None])
def test_images_are_saved_whatever_a_client_sends_as_metadata(
    server: ComfyUI, sandbox: Sandbox, extra_pnginfo: Any
) -> None:
    sandbox.add_verdict(ScriptedVerdict(failure_code="dispatch_failed"))
    graph = {**generate("1", f"metadata {extra_pnginfo!r}"), **evaluate("2", ["1", 0]), **show("3", ["2", 4])}
    said = refusal(server, graph, extra_data={"extra_pnginfo": extra_pnginfo})
    assert said.startswith("[EVALUATION_FAILED]")
    name = said.split("output/runflow-unjudged/")[1].split(".png")[0]
    with Image.open(server.base / "output" / "runflow-unjudged" / f"{name}.png") as image:
        assert json.loads(image.info["prompt"])["2"]["class_type"] == "RunflowEvaluateImage"


# --- several reports at once


def test_reports_of_one_prompt_never_take_each_others_files(server: ComfyUI) -> None:
    graph: Prompt = {**generate("1", "to report", batch=3), **evaluate("2", ["1", 0], judge="local")}
    graph |= {
        **node("30", "TestStrings", count=4),
        **generate("31", "x", name="listed") | node("31", "TestGenerate", prompt=["30", 0], seed=3),
    }
    graph |= evaluate("32", ["31", 0], judge="local")
    for number in range(4):
        graph |= node(
            f"4{number}",
            "RunflowVerdictCard",
            image=["1", 0],
            evaluation=["2", 4],
            title=f"report {number}",
            filename_prefix="claims/r",
        )
    graph |= node(
        "50", "RunflowVerdictCard", image=["31", 0], evaluation=["32", 4], title="listed", filename_prefix="claims/r"
    )
    history = server.run(graph)
    folder = server.base / "output" / "claims"
    cards = [image["filename"] for output in history.outputs.values() for image in output.get("images", [])]
    assert len(cards) == len(set(cards)) == 4 * 3 + 4
    assert {file.name for file in folder.glob("*.png")} == set(cards)
    for file in folder.glob("*.png"):
        with Image.open(file) as image:
            image.load()  # whole
    titles = sorted(json.loads(file.read_text(encoding="utf-8"))["title"] for file in folder.glob("*.json"))
    assert titles == ["listed"] * 4 + [f"report {number}" for number in range(4)]
    assert len(list(folder.glob("*.html"))) == 8
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == []


# --- whose folders and settings


def test_without_a_private_folder_what_needs_none_works(
    comfyui_factory: Callable[..., ComfyUI], sandbox: Sandbox, tmp_path: Path
) -> None:
    """A file in the place of the folder: also root cannot use that."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "__runflow_evaluate").write_text("not a folder")
    with comfyui_factory(base=tmp_path, env={"RUNFLOW_BASE_URL": sandbox.url}, extra_nodes=TEST_NODES) as server:
        _works_without_private_folder(server)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv, to run as somebody who is not allowed everything",
)
def test_a_private_folder_of_another_user_is_left_alone(tmp_path: Path, sandbox: Sandbox) -> None:
    limited = tmp_path / "python"
    drop = "--bounding-set=-dac_override,-dac_read_search,-fowner --inh-caps=-dac_override,-dac_read_search,-fowner"
    limited.write_text(f'#!/bin/sh\nexec setpriv {drop} {sys.executable} "$@"\n')
    limited.chmod(0o755)
    base = tmp_path / "base"
    private = base / "user" / "__runflow_evaluate"
    private.mkdir(parents=True)
    os.chown(private, 1000, 1000)
    private.chmod(0o700)
    env = {"RUNFLOW_BASE_URL": sandbox.url}
    with ComfyUI(checkout(), base, python=limited, env=env, extra_nodes=TEST_NODES) as server:
        _works_without_private_folder(server)
        graph = {**generate("1", "auto"), **evaluate("2", ["1", 0]), **show("3", ["2", 4])}
        said = refusal(server, graph)
        assert said.startswith("[") and str(private) in said and "belongs to another user" in said


def _works_without_private_folder(server: ComfyUI) -> None:
    for judge in ("local", "off"):
        graph = {**generate("1", judge), **evaluate("2", ["1", 0], judge=judge)}
        server.run({**graph, **node("3", "RunflowShowVerdict", evaluation=["2", 4])})
    for path in ("status", "history", "days", "settings", "thumbnails/0123456789abcdef"):
        assert _status(server, path) != 500, path


def _status(server: ComfyUI, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", f"/runflow-evaluate/{path}")
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_language_is_read_where_comfyui_keeps_the_editors_settings(
    comfyui_factory: Callable[..., ComfyUI], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere" / "default").mkdir(parents=True)
    settings = tmp_path / "elsewhere" / "default" / "comfy.settings.json"
    settings.write_text(json.dumps({"Comfy.Locale": "ja", "Runflow.ApiKey": "rf_live_of_the_deploy_pack_0a1b"}))
    args = ("--user-directory", str(tmp_path / "elsewhere"))
    with comfyui_factory(base=tmp_path / "base", args=args, extra_nodes=TEST_NODES) as server:
        graph = {**generate("1", "in Japanese"), **evaluate("2", ["1", 0], judge="local")}
        server.run({**graph, **node("3", "RunflowVerdictCard", image=["1", 0], evaluation=["2", 4])})
        (page,) = (server.base / "output" / "runflow-report").glob("*.html")
        assert 'lang="ja"' in page.read_text(encoding="utf-8")
        answer = server.request("GET", "/runflow-evaluate/settings")
        assert answer["key"]["importable"] is True


# --- the same file, in the graph and on the command line


def test_a_file_of_any_kind_is_paid_once_in_the_workflow_and_on_the_command_line(
    server: ComfyUI, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Load Image reads with Pillow in 0.3.75 and with PyAV in 0.33, which makes other pixels of most of these."""
    monkeypatch.setenv("RUNFLOW_BASE_URL", sandbox.url)
    monkeypatch.setenv("RUNFLOW_API_KEY", sandbox.api_key)
    for first in ("workflow", "command line"):
        files = _files_of_every_kind(server.base / "input", first)
        graph: Prompt = {}
        for number, file in enumerate(files):
            graph |= load_image(f"{number}", file.name) | evaluate(f"e{number}", [f"{number}", 0], judge="runflow")
            graph |= show(f"s{number}", [f"e{number}", 4])
        arguments = ["evaluate", *map(str, files), "--comfyui", str(server.base), "--prompt", "", "--yes"]
        before = len(sandbox.bills)
        if first == "workflow":
            server.run(graph)
        assert command_line.main(arguments) in (OK, JUDGED_FAILED), capsys.readouterr()
        if first == "command line":
            server.run(graph)
        assert len(sandbox.bills) - before == len(files), first


def _files_of_every_kind(folder: Path, seed: str) -> list[Path]:
    """Files that people have, each another picture, of an odd size: WebP and AVIF keep one colour for two columns."""
    turned, mirrored = Image.Exif(), Image.Exif()
    turned[ORIENTATION], mirrored[ORIENTATION] = 6, 2
    kinds: list[tuple[str, Callable[[Image.Image], Image.Image], dict[str, Any]]] = [
        ("colour.png", _as_it_is, {}),
        ("alpha.png", _with_alpha, {}),
        ("palette.png", lambda image: image.quantize(32), {}),
        ("grey.png", lambda image: image.convert("L"), {}),
        ("grey_alpha.png", lambda image: _with_alpha(image).convert("LA"), {}),
        ("bits.png", lambda image: image.convert("1"), {}),
        ("photo.jpg", _as_it_is, {"quality": 90}),
        ("grey.jpg", lambda image: image.convert("L"), {}),
        ("print.jpg", lambda image: image.convert("CMYK"), {}),
        ("turned.jpg", _as_it_is, {"exif": turned, "subsampling": 0}),
        ("mirrored.jpg", _as_it_is, {"exif": mirrored}),
        ("lossy.webp", _with_alpha, {"quality": 90}),
        ("lossless.webp", _as_it_is, {"lossless": True}),
    ]
    kinds += [("a.avif", _as_it_is, {})] if "AVIF" in image_files.FORMATS else []
    pixels = images.to_pixels(picture(len(seed), 67, 93))
    for number, (name, make, options) in enumerate(kinds):
        make(Image.fromarray(np.roll(pixels, number, axis=0))).save(folder / f"{seed} {name}", **options)
    return [folder / f"{seed} {name}" for name, _, _ in kinds]


def _as_it_is(image: Image.Image) -> Image.Image:
    return image


def _with_alpha(image: Image.Image) -> Image.Image:
    made = image.copy()
    made.putalpha(image.convert("L"))
    return made
