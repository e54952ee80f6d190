"""What a prompt is said to spend, held against what the sandbox then bills: never less, and equal if nothing is said
of "at most"."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.loops import end, failed, nested, start
from support.pictures import picture
from support.prompts import Prompt, evaluate, load_image, node, options, reference, show
from support.server import ComfyUI, PromptFailed
from support.waiting import wait_until

from runflow_api import images
from runflow_api.cli.commands import main
from runflow_api.prompt.sockets import CHOICES, KNOWN, OUTPUTS_VARY
from runflow_api.sandbox.app import Sandbox

ROOT = Path(__file__).resolve().parents[2]
PRICE = "0.10"
_seeds = itertools.count(70_000)


def environment(sandbox: Sandbox, home: Path) -> dict[str, str]:
    """Of the command, as the server has it."""
    own = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key, "HOME": str(home)}
    return {**own, "RUNFLOW_MAX_EVALUATIONS_PER_PROMPT": "100", "RUNFLOW_MAX_EVALUATIONS_PER_DAY": "100000"}


def photo(server: ComfyUI, flat: bool = False) -> str:
    seed = next(_seeds)
    name = f"price-{seed}.png"
    made = Image.new("RGB", (64, 64), "red") if flat else Image.fromarray(images.to_pixels(picture(seed)))
    made.save(server.base / "input" / name)
    return name


def gate(name: str, **inputs: Any) -> Prompt:
    return {**load_image("1", name), **evaluate("2", ["1", 0], **inputs), **show("3", ["2", 4])}


def known(server: ComfyUI, **inputs: Any) -> Prompt:
    prompt = gate(photo(server))
    server.run(prompt)
    return {**prompt, **evaluate("2", ["1", 0], **inputs)}


def twice(server: ComfyUI, **inputs: Any) -> Prompt:
    return {**gate(photo(server)), **evaluate("4", ["1", 0], **inputs), **show("5", ["4", 4])}


def flat_images(count: int) -> Prompt:
    """Which preflight would not let through."""
    return {
        **node("1", "EmptyImage", width=64, height=64, batch_size=count, color=next(_seeds)),
        **evaluate("2", ["1", 0], options=["8", 0]),
        **show("3", ["2", 4]),
        **options("8", preflight="off"),
    }


def plain_loop(**settings: Any) -> Prompt:
    """A loop of ComfyUI's own nodes: two images for each attempt, of which every second one is equal."""
    return {
        **start("a cat", next(_seeds)),
        **node("2", "EmptyImage", width=64, height=64, batch_size=2, color=["1", 2]),
        **evaluate("3", ["2", 0], options=["8", 0]),
        **options("8", preflight="off"),
        **end(**settings),
        **node("5", "PreviewImage", images=["4", 0]),
    }


def behind_a_switch(server: ComfyUI) -> Prompt:
    judged = {**load_image("1", photo(server)), **evaluate("2", ["1", 0])}
    switch = node("4", "RunflowVerdictSwitch", passed=True, on_pass=["1", 0], on_fail=["2", 4])
    return {**judged, **switch, **node("5", "PreviewAny", source=["4", 0])}


def split(server: ComfyUI) -> Prompt:
    both = node("6", "ImageBatch", image1=["1", 0], image2=["7", 0])
    divided = node("8", "RunflowSplitByVerdict", image=["6", 0], evaluation=["2", 4])
    again = {**evaluate("9", ["8", 0], evaluation_instructions="again"), **show("10", ["9", 4])}
    return {
        **gate(photo(server)),
        **load_image("7", photo(server)),
        **both,
        **evaluate("2", ["6", 0]),
        **divided,
        **again,
    }


def references(server: ComfyUI, count: int) -> Prompt:
    chain: Prompt = {}
    for number in range(count):
        before = {"references": [f"r{number - 1}", 0]} if number else {}
        chain |= {
            **load_image(f"i{number}", photo(server)),
            **reference(f"r{number}", image=[f"i{number}", 0], **before),
        }
    return {**gate(photo(server), references=[f"r{count - 1}", 0]), **chain}


def without(prompt: Prompt, name: str, each: str) -> Prompt:
    prompt[name]["inputs"].pop(each)
    return prompt


def in_a_subgraph(server: ComfyUI) -> Prompt:
    return {**load_image("7:1", photo(server)), **evaluate("7:8:2", ["7:1", 0]), **show("3", ["7:8:2", 4])}


def listed(server: ComfyUI) -> Prompt:
    parts = node("4", "RebatchImages", images=["1", 0], batch_size=1)
    return {**flat_images(2), **parts, **evaluate("2", ["4", 0], options=["8", 0])}


def of_another_pack(rounds: int) -> Prompt:
    """A loop of another pack around an Evaluate, with another image at each round."""
    return {
        **node("20", "TestForOpen", rounds=rounds),
        **node("1", "EmptyImage", width=64, height=64, batch_size=1, color=["20", 1]),
        **evaluate("2", ["1", 0], options=["8", 0], evaluation_instructions=f"round {next(_seeds)}"),
        **options("8", preflight="off"),
        **node("21", "TestForClose", flow=["20", 0], value=["2", 1]),
        **node("22", "PreviewAny", source=["21", 0]),
    }


def not_waited_for(_: ComfyUI) -> Prompt:
    prompt = plain_loop(max_attempts=3)
    prompt["8"]["inputs"]["wait"] = False
    return prompt


def loop_of_a_file(server: ComfyUI) -> Prompt:
    prompt = plain_loop(max_attempts=3)
    return {**prompt, **load_image("2", photo(server))}


def saved_by_verdict(server: ComfyUI) -> Prompt:
    saving = node("3", "RunflowSaveJudged", image=["1", 0], evaluation=["2", 4], folders="by_verdict", sidecar=True)
    return {**gate(photo(server)), **saving}


def in_a_report(server: ComfyUI) -> Prompt:
    return {**gate(photo(server)), **node("3", "RunflowVerdictCard", image=["1", 0], evaluation=["2", 4])}


def copied(server: ComfyUI) -> Prompt:
    """Two files of the same pixels, one of them with its colours in another order of compression."""
    name = photo(server)
    other = f"copy-{name}".replace(".png", ".webp")
    with Image.open(server.base / "input" / name) as image:
        image.save(server.base / "input" / other, lossless=True)
    return {**gate(name), **load_image("6", other), **evaluate("4", ["6", 0]), **show("5", ["4", 4])}


def see_through(server: ComfyUI) -> str:
    name = photo(server)
    with Image.open(server.base / "input" / name) as image:
        image.putalpha(90)
        image.save(server.base / "input" / name)
    return name


def fetched_again(server: ComfyUI) -> Prompt:
    (verdict,) = server.run(gate(photo(server))).outputs["3"]["runflow"]
    return {**node("2", "RunflowGetEvaluation", evaluation_ids=verdict["id"]), **show("3", ["2", 4])}


def beside_another(server: ComfyUI) -> Prompt:
    """Get Evaluation stops the run before the image is judged, or after."""
    unknown = node("5", "RunflowGetEvaluation", evaluation_ids="00000000-0000-4000-8000-000000000000")
    return {**gate(photo(server)), **unknown, **show("6", ["5", 4])}


def first_image(server: ComfyUI) -> Prompt:
    first = node("3", "RunflowEvaluationDetails", evaluation=["2", 4], index=0)
    return {**gate(photo(server)), **first, **node("4", "PreviewAny", source=["3", 0])}


def null_inputs(server: ComfyUI) -> Prompt:
    by_address = reference("r", image=None, url="https://images.example/face.png")
    return {**gate(photo(server), references=["r", 0], options=None, judge_model=None), **by_address}


def best_of(_: ComfyUI) -> Prompt:
    picked = node("4", "RunflowPickBest", image=["1", 0], evaluation=["2", 4])
    return {**flat_images(4), **picked, **node("5", "PreviewImage", images=["4", 0])}


CASES: dict[str, tuple[Callable[[ComfyUI], Prompt], str, str]] = {
    # what, what is said of it, and the code of what is in the way
    "a file that is new": (lambda s: gate(photo(s)), "1", ""),
    "a file that is known": (known, "0", ""),
    "a known file, without reuse": (lambda s: {**known(s, options=["8", 0]), **options("8", reuse=False)}, "1", ""),
    "a known file, asked something else": (lambda s: known(s, evaluation_instructions="five fingers"), "1", ""),
    "one question of two nodes": (twice, "1", ""),
    "two questions about one file": (lambda s: twice(s, task_type="headshot"), "2", ""),
    "a file of one colour": (lambda s: gate(photo(s, flat=True)), "0", ""),
    "a prompt over a link": (
        lambda s: {**gate(photo(s), generation_prompt=["8", 0]), **node("8", "PrimitiveString", value="a cat")}, "1", ""
    ),
    "in a subgraph": (in_a_subgraph, "1", ""),
    "with options": (lambda s: {**gate(photo(s), options=["8", 0]), **options("8", client_ref="shop 7")}, "1", ""),
    "two references": (lambda s: references(s, 2), "1", ""),
    "five references": (lambda s: references(s, 5), "0", "INVALID_INPUT"),
    "nobody": (lambda s: gate(photo(s), judge="off"), "0", ""),
    "no image": (lambda s: without(gate(photo(s)), "2", "image"), "0", "WILL_NOT_RUN"),
    "nothing that shows it": (
        lambda s: {**gate(photo(s)), **node("3", "PreviewImage", images=["1", 0])}, "0", "WILL_NOT_RUN"
    ),
    "no output at all": (lambda s: {**load_image("1", photo(s)), **evaluate("2", ["1", 0])}, "0", "WILL_NOT_RUN"),
    "a file that is not there": (lambda s: gate("gone.png"), "0", "WILL_NOT_RUN"),
    "a callback that is not allowed": (
        lambda s: {**gate(photo(s), options=["8", 0]), **options("8", callback_url="https://a.example/x")},
        "0",
        "INVALID_INPUT",
    ),
    "a batch": (lambda s: flat_images(3), "at most 3", ""),
    "a list": (listed, "at most 100", ""),
    "images of another pack": (
        lambda s: {**gate(""), **node("1", "TestGenerate", prompt="a", seed=next(_seeds), batch=3)}, "at most 100", ""
    ),
    "a file that is scaled first": (
        lambda s: {
            **load_image("7", photo(s)),
            **node("1", "ImageScaleBy", image=["7", 0], upscale_method="area", scale_by=0.5),
            **evaluate("2", ["1", 0]),
            **show("3", ["2", 4]),
        },
        "at most 1",
        "",
    ),
    "behind a switch": (behind_a_switch, "at most 1", ""),
    "what a split lets through": (split, "at most 100", ""),
    "a loop": (lambda s: plain_loop(max_attempts=3), "at most 6", ""),
    "a loop with one attempt": (lambda s: plain_loop(max_attempts=1), "at most 2", ""),
    "a loop in a loop": (lambda s: nested(f"two cats {next(_seeds)}", max_attempts=2), "at most 100", ""),
    "a loop of another pack": (lambda _: of_another_pack(3), "at most 100", ""),
    "a loop that repeats itself": (
        lambda s: plain_loop(next_prompt="keep", next_seed="keep"), "0", "WILL_NOT_RUN"
    ),
    "a loop that wants two passes": (lambda s: plain_loop(max_attempts=4, passes_wanted=2), "at most 8", ""),
    "a loop that gives up": (lambda s: plain_loop(max_attempts=5, give_up_after=1), "at most 10", ""),
    "a loop that does not wait": (not_waited_for, "at most 6", ""),
    "a loop of one file": (loop_of_a_file, "at most 1", "WILL_NOT_RUN"),
    "without waiting": (lambda s: {**gate(photo(s), options=["8", 0]), **options("8", wait=False)}, "1", ""),
    "saved by its verdict": (saved_by_verdict, "1", ""),
    "in a report": (in_a_report, "1", ""),
    "pixels only": (lambda s: gate(photo(s), judge="local"), "0", ""),
    "a model that is not there": (lambda s: gate(photo(s), judge="model", if_not_judged="pass"), "0", ""),
    "one file of two nodes and names": (copied, "1", ""),
    "a known file, by a stricter rule": (lambda s: known(s, min_score=0.99, if_not_judged="pass"), "0", ""),
    "a file of one colour, sent all the same": (
        lambda s: {**gate(photo(s, flat=True), options=["8", 0]), **options("8", preflight="off")}, "1", ""
    ),
    "a reference at an address": (
        lambda s: {
            **gate(photo(s), references=["r", 0]), **reference("r", url="https://images.example/face.png", kind="style")
        },
        "1",
        "",
    ),
    "a batch of references": (
        lambda s: {
            **gate(photo(s), references=["r", 0]),
            **node("9", "EmptyImage", width=64, height=64, batch_size=3, color=next(_seeds)),
            **reference("r", image=["9", 0]),
        },
        "at most 1",
        "",
    ),
    "a file with transparency": (lambda s: gate(see_through(s)), "1", ""),
    "an evaluation that was made before": (fetched_again, "0", ""),
    "the best of a batch": (best_of, "at most 4", ""),
    "beside an evaluation that nobody knows": (beside_another, "at most 1", ""),
    "an input that Evaluate does not have": (lambda s: gate(photo(s), hello=["1", 0]), "at most 1", ""),
    "details of the first image": (first_image, "1", ""),
    "inputs that are null": (null_inputs, "1", ""),
    "a muted node of two": (
        lambda s: {**gate(photo(s)), **evaluate("5", ["77", 0]), **show("6", ["5", 4])}, "1", "WILL_NOT_RUN"
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_is_said_is_what_is_billed(
    server: ComfyUI,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    make, said, code = CASES[case]
    if "loop" in case:
        for number in range(12):
            sandbox.add_verdict(failed(0.2 + number / 100, f"better {number}"))
    prompt = make(server)
    price = server.request("POST", "/runflow-evaluate/price", {"prompt": prompt})
    most = "at most " if price["at_most"] else ""
    assert (f"{most}{price['evaluations']}", code) == (said, next((p["code"] for p in price["problems"]), "")), price
    for name, value in environment(sandbox, tmp_path).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "prompt.json").write_text(json.dumps(prompt))
    main(["price", str(tmp_path / "prompt.json"), "--json", "--comfyui", str(server.base)])
    without_comfyui = json.loads(capsys.readouterr().out)
    before, there = len(sandbox.bills), set(sandbox.evaluations)
    try:
        server.run(prompt, check=False)
    except PromptFailed:
        assert not price["runs"]
    asked = [each for number, each in sandbox.evaluations.items() if number not in there]
    # Charged is what is judged, and a prompt need not have waited for that; looking at the bills judges what is due.
    wait_until(lambda: len(sandbox.bills) >= before and all(each.outcome for each in asked))
    billed = len(sandbox.bills) - before
    for told in (price, without_comfyui):
        assert billed <= told["evaluations"] if told["at_most"] else billed == told["evaluations"], told
    if not price["at_most"]:
        assert float(price["credits"]) == pytest.approx(billed * float(PRICE))


def test_the_table_of_sockets_is_what_comfyui_has(server: ComfyUI) -> None:
    """The command line checks links by this table, where no ComfyUI is there to be asked."""
    there = server.object_info()
    assert KNOWN.keys() <= there.keys()
    made_inside = {"RunflowRegenerateAttempt"}
    assert {name for name in there if name.startswith("Runflow")} - made_inside <= KNOWN.keys()
    for name, sockets in KNOWN.items():
        given = there[name]["input"]
        required = {each: _type(spec[0]) for each, spec in given.get("required", {}).items()}
        optional = {each: _type(spec[0]) for each, spec in given.get("optional", {}).items()}
        assert (name, sockets.inputs) == (name, required | optional)
        assert (name, sockets.required) == (name, required.keys())
        assert name in OUTPUTS_VARY or (name, sockets.outputs) == (name, tuple(there[name]["output"]))
        for each, choices in CHOICES.get(name, {}).items():
            assert set(choices) <= _taken({**given["required"], **given.get("optional", {})}[each])


def _type(given: Any) -> str:
    """A list of choices is how older nodes write COMBO."""
    return "COMBO" if isinstance(given, list) else str(given)


def _taken(spec: Any) -> set[Any]:
    """The choices of an input, or the least number."""
    return set(spec[1]["options"] if spec[0] == "COMBO" else [spec[1]["min"]] if spec[0] == "INT" else spec[0])


def test_without_comfyui_the_same_is_said(server: ComfyUI, sandbox: Sandbox, tmp_path: Path) -> None:
    cases = {"known": known(server), "new": gate(photo(server)), "missing": without(gate(photo(server)), "2", "image")}
    expected = {
        name: server.request("POST", "/runflow-evaluate/price", {"prompt": prompt}) for name, prompt in cases.items()
    }
    assert [each["text"] for each in expected.values()] == [
        "nothing to pay",
        f"1 evaluation, {PRICE} credits",
        "nothing to pay",
    ]
    for name, prompt in cases.items():
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(prompt))
        env = environment(sandbox, tmp_path)
        command = [sys.executable, "runflow_api", "price", str(file), "--json", "--comfyui", str(server.base)]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == (2 if name == "missing" else 0), done.stderr
        told = json.loads(done.stdout)
        assert (told["text"], told["runs"]) == (expected[name]["text"], expected[name]["runs"])
