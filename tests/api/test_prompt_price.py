"""The price that the command line says without a ComfyUI: exact only where nothing can be refused, never too little."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.pictures import picture
from support.prompts import Prompt, evaluate, load_image, node, options, reference, show

from runflow_api import images
from runflow_api.cli.commands import main
from runflow_api.sandbox.app import Sandbox

LINK = ["1", 0]
UUID = "00000000-0000-4000-8000-000000000000"


def gate(**inputs: Any) -> Prompt:
    return {**load_image("1", "photo.png"), **evaluate("2", LINK, **inputs), **show("3", ["2", 4])}


def with_options(**inputs: Any) -> Prompt:
    return {**gate(options=["8", 0]), **options("8", **inputs)}


NOTHING = "nothing to pay"
EXACT, MOST, MANY = "1 evaluation, 0.10 credits", "at most 1 evaluation, 0.10 credits", "at most 20 evaluations"
CASES: dict[str, tuple[Prompt, str, str]] = {
    # what, the price, and what is told of it
    "plain": (gate(), EXACT, ""),
    "in a subgraph": (
        {**load_image("5:3", "photo.png"), **evaluate("5:4", ["5:3", 0]), **show("3", ["5:4", 4])}, EXACT, ""
    ),
    "a plain value": ({**gate(generation_prompt=["7", 0]), **node("7", "PrimitiveString", value="a")}, EXACT, ""),
    # what Runflow may refuse
    "an unknown job class": (with_options(job_class="gold"), "at most 1 evaluation, the price is not known", "gold"),
    "an unknown run": (with_options(run_id=UUID), MOST, "run_id"),
    "an unknown asset": (
        {**gate(references=["r", 0]), **reference("r", url=f"runflow://assets/{UUID}")}, MOST, "asset"
    ),
    # what ComfyUI may refuse
    "an unknown class": ({**gate(), **node("9", "NobodyHasThis", a=1)}, MOST, "NobodyHasThis"),
    "a class that we do not have": ({**gate(), **node("9", "RunflowNobody", a=1)}, MOST, "RunflowNobody"),
    "an output that is not there": ({**gate(), **show("3", ["2", 99])}, MOST, "output 99"),
    "an output below zero": ({**gate(), **show("3", ["2", -1])}, MOST, "output -1"),
    "an output that only newer versions have": (
        {**gate(), **node("6", "PreviewImage", images=LINK), **evaluate("2", ["6", 0])}, MANY, ""
    ),
    "an output of another type": ({**gate(), **show("3", ["2", 0])}, MOST, "gets BOOLEAN"),
    "a mask as image": ({**gate(), **evaluate("2", ["1", 1])}, MANY, "gets MASK"),
    "a list as text": ({**gate(), **show("3", "['2', 4]")}, NOTHING, "Nothing reads"),
    "an image as text": ({**gate(), **node("2", "RunflowEvaluateImage", image="['1', 0]")}, MANY, "instead of a link"),
    "ids that are numbers": ({**gate(), **node("2", "RunflowEvaluateImage", image=[1, 0])}, MANY, "no link"),
    "no image": ({**gate(), **node("2", "RunflowEvaluateImage", image=None)}, NOTHING, "nothing connected to image"),
    "a link to nothing": (gate(references=["77", 0]), MOST, "not there"),
    "a prompt that is a list": (gate(generation_prompt=["a", "b", "c"]), MOST, "no link"),
    "a score that is a word": (gate(min_score="high"), NOTHING, "not a number"),
    "a time without end": (with_options(timeout_s=1e999), NOTHING, "not a number"),
    "options that are text": (gate(options="fast"), MOST, "instead of a link"),
    "a judge over a link": (
        {**gate(judge=["7", 0]), **node("7", "PrimitiveString", value="runflow")}, MOST, "takes COMBO"
    ),
    "a judge of another pack": ({**gate(judge=["7", 0]), **node("7", "AnyString", text="off")}, MANY, "AnyString"),
    "a judge that is null": (gate(judge=None), MOST, "instead of a value"),
    "an unknown judge": (gate(judge="mine"), NOTHING, "is not one of"),
    "a circle": (
        {**gate(), **node("1", "ImageScaleBy", image=["4", 0]), **node("4", "ImageInvert", image=["1", 0])},
        MANY,
        "depends on itself",
    ),
    "a circle beside it": (
        {
            **gate(),
            **node("4", "ImageInvert", image=["5", 0]),
            **node("5", "ImageInvert", image=["4", 0]),
            **node("6", "PreviewImage", images=["5", 0]),
        },
        MOST,
        "depends on itself",
    ),
    "a node of itself": (gate(references=["2", 4]), MOST, "depends on itself"),
    "its own reference": ({**gate(references=["r", 0]), **reference("r", references=["r", 0])}, NOTHING, "either"),
    "a choice that only ComfyUI knows": (
        {**gate(), **node("3", "RunflowSendFeedback", evaluation=["2", 4], rating="splendid")}, MOST, ""
    ),
    "choices that nobody refuses": (
        {
            **gate(),
            **node("3", "RunflowSaveJudged", image=LINK, evaluation=["2", 4], folders="by_verdict", what="all"),
            **node("4", "RunflowEvaluationDetails", evaluation=["2", 4], index=0),
            **show("5", ["2", 4]),
        },
        EXACT,
        "",
    ),
    "links that are null": (gate(options=None, judge_model=None, references=None), EXACT, ""),
    "a reference without an image": (
        {**gate(references=["r", 0]), **reference("r", image=None, url="https://images.example/a.png")}, EXACT, ""
    ),
    # what may stop the run
    "an input that it does not have": (gate(hello=["1", 0]), MOST, "has no input hello"),
    "an input that it does not have, linked to nothing": (gate(hello=["88", 0]), MOST, "has no input hello"),
    "another evaluation beside it": (
        {**gate(), **node("5", "RunflowGetEvaluation", evaluation_ids=UUID), **show("6", ["5", 4])}, MOST, "Get"
    ),
    # who is not there
    "no model": (gate(judge="model"), NOTHING, "There is no vision model to ask."),
    "no model, which may pass": (gate(judge="model", if_not_judged="pass"), NOTHING, "There is no vision model"),
}  # fmt: skip


@pytest.fixture
def comfyui(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name, value in {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "input").mkdir()
    (tmp_path / "user").mkdir()
    Image.fromarray(images.to_pixels(picture(31))).save(tmp_path / "input" / "photo.png")
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_the_command_is_exact_only_where_nothing_can_be_refused(
    comfyui: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    prompt, said, told = CASES[case]
    (comfyui / "prompt.json").write_text(json.dumps(prompt))
    code = main(["price", str(comfyui / "prompt.json"), "--json", "--comfyui", str(comfyui)])
    written = capsys.readouterr()
    assert written.out, written.err
    price = json.loads(written.out)
    assert price["text"].startswith(said) and told in json.dumps(price, ensure_ascii=False), price
    assert (code == 0) == (not price["problems"])
    assert "Traceback" not in written.err
