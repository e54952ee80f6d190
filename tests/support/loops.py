"""Prompts with a loop, what a sandbox says of its attempts, and what happened: for the tests of Regenerate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from PIL import Image

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict

from .events import History
from .prompts import Prompt, evaluate, node
from .server import ComfyUI, PromptFailed

NOTHING: Mapping[str, Any] = MappingProxyType({})


def start(prompt: str, seed: int = 7, node_id: str = "1") -> Prompt:
    return node(node_id, "RunflowRegenerateStart", prompt=prompt, seed=seed)


def generate(node_id: str = "2", source: str = "1", **inputs: Any) -> Prompt:
    return node(node_id, "TestGenerate", **{"prompt": [source, 1], "seed": [source, 2], **inputs})


def end(node_id: str = "4", **inputs: Any) -> Prompt:
    return node(
        node_id, "RunflowRegenerateEnd", **{"loop": ["1", 0], "image": ["2", 0], "evaluation": ["3", 4], **inputs}
    )


def record(node_id: str, value: list[Any], name: str) -> Prompt:
    return node(node_id, "TestRecord", value=value, name=name)


OUTPUTS = ("image", "passed", "score", "issues", "prompt", "seed", "attempts", "evaluation")


def records(source: str = "4") -> Prompt:
    """A recorder for each output of End but the kept attempts."""
    made: Prompt = {}
    for index, name in enumerate(OUTPUTS):
        made |= record(f"{source}{index}", [source, index], name)
    return made


def loop(prompt: str, seed: int = 7, **settings: Any) -> Prompt:
    """Start → generate → evaluate → End → a recorder for each output."""
    judge = evaluate("3", ["2", 0], generation_prompt=["1", 1])
    return {**start(prompt, seed), **generate(), **judge, **end(**settings), **records()}


def repairing(prompt: str, seed: int = 7, generate_with: Mapping[str, Any] = NOTHING, **settings: Any) -> Prompt:
    """The same with a body that makes a new image at attempt 1 and changes the best one from attempt 2 on."""
    repair = node("5", "TestRepair", image=["1", 6], prompt=["1", 7], seed=["1", 2])
    chosen = node("6", "RunflowRepairSwitch", attempt=["1", 3], generate=["2", 0], repair=["5", 0])
    judge = evaluate("3", ["6", 0], generation_prompt=["1", 1])
    body = {**generate(**generate_with), **repair, **chosen, **judge}
    return {**start(prompt, seed), **body, **end(**{"image": ["6", 0], **settings}), **records()}


class Since:
    """What happened from here on: runs of test nodes, submissions, bills."""

    def __init__(self, server: ComfyUI, sandbox: Sandbox) -> None:
        self._file, self._sandbox = server.base / "output" / "runs.jsonl", sandbox
        self._runs, self._requests, self._bills = len(self._lines()), len(sandbox.requests), len(sandbox.bills)

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []

    def runs(self, kind: str, name: str | None = None) -> list[dict[str, Any]]:
        lines = self._lines()[self._runs :]
        return [line for line in lines if line["kind"] == kind and name in (None, line.get("name"))]

    @property
    def generated(self) -> list[tuple[str, int]]:
        return [(run["prompt"], run["seed"]) for run in self.runs("generate")]

    @property
    def repaired(self) -> list[tuple[str, str, int]]:
        """(pixels of the image that it began with, what was to be changed, seed) of each repair."""
        return [(run["image"], run["prompt"], run["seed"]) for run in self.runs("repair")]

    @property
    def recorded(self) -> dict[str, Any]:
        """The last value of each recorder."""
        return {run["name"]: run["value"] for run in self.runs("record")}

    @property
    def judged(self) -> list[str]:
        """The prompts that images were judged against, in the order of their submission."""
        submitted = [r for r in self._sandbox.requests[self._requests :] if r.path == "/v1/evaluations"]
        return [record.body["generation_prompt"] for record in submitted]

    @property
    def bills(self) -> int:
        return len(self._sandbox.bills) - self._bills


def verdicts(sandbox: Sandbox, *scripted: ScriptedVerdict) -> None:
    for each in scripted:
        sandbox.add_verdict(each)


def failed(
    score: float = 0.3, improved: str | None = None, issue: str = "six fingers", **lines: bool
) -> ScriptedVerdict:
    """``lines``: what each judge says."""
    return ScriptedVerdict(passed=False, score=score, issues=[issue], improved_prompt=improved, judges=judges_of(lines))


def passed(score: float = 0.9, **lines: bool) -> ScriptedVerdict:
    return ScriptedVerdict(passed=True, score=score, judges=judges_of(lines))


def judges_of(lines: Mapping[str, bool]) -> list[dict[str, Any]]:
    return [{"name": name, "passed": passed} for name, passed in lines.items()]


def summary(history: History) -> dict[str, Any]:
    """What the End that gave the outputs says about its loop."""
    (only,) = [each for output in history.outputs.values() for each in output.get("runflow_regenerate", [])]
    return only


def refusal(server: ComfyUI, graph: Prompt) -> str:
    with pytest.raises(PromptFailed) as caught:
        server.run(graph)
    assert caught.value.history is not None, caught.value
    (error,) = caught.value.history.errors
    return error["exception_message"].strip()


def nested(prompt: str, **outer: Any) -> Prompt:
    """A loop inside a loop: the outer one hands its prompt and seed to the inner one and judges what comes out."""
    return {
        **start(prompt, 100, "11"),
        **start(["11", 1], ["11", 2]),  # type: ignore[arg-type]
        **generate(),
        **evaluate("3", ["2", 0], generation_prompt=["1", 1]),
        **end(max_attempts=2),
        **evaluate("13", ["4", 0], generation_prompt=["11", 1], evaluation_instructions="outer"),
        **end("14", loop=["11", 0], image=["4", 0], evaluation=["13", 4], next_seed="random", **outer),
        **records("14"),
    }


def saved(server: ComfyUI, prefix: str) -> dict[str, Any]:
    """The text chunks of the only file with that prefix, parsed."""
    (file,) = (server.base / "output").glob(f"{prefix}*.png")
    return chunks_of(file)


def chunks_of(file: Path) -> dict[str, Any]:
    with Image.open(file) as image:
        return {name: json.loads(text) for name, text in image.info.items()}
