"""What a real ComfyUI tells of the settings that made an image, and what the page gets to see of it."""

from __future__ import annotations

import csv
import io
import urllib.request
from typing import Any
from urllib.parse import urlencode

from support.loops import end, failed, passed, start, verdicts
from support.prompts import Prompt, evaluate, node, show
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox

PAGE = "/runflow-evaluate/insight"
SAMPLED = {"steps": 12, "cfg": 4.5, "sampler_name": "dpmpp_2m", "scheduler": "karras"}


def sampled(checkpoint: str, text: Any, seed: Any) -> Prompt:
    """A checkpoint, a text and a sampler, whose image is judged by node 3."""
    made = node("model", "TestCheckpoint", ckpt_name=checkpoint) | node("text", "TestEncode", text=text)
    return made | node("2", "TestSampler", model=["model", 0], positive=["text", 0], seed=seed, **SAMPLED)


def groups(server: ComfyUI, checkpoint: str, second: str) -> dict[str, Any]:
    """The groups of one checkpoint by a second setting."""
    shown = server.request("GET", f"{PAGE}?{urlencode({'by': f'checkpoint,{second}'})}")
    return {group["values"][1]: group for group in shown["groups"] if group["values"][0] == checkpoint}


def test_each_attempt_of_a_loop_is_remembered_with_its_own_seed_and_prompt(server: ComfyUI, sandbox: Sandbox) -> None:
    verdicts(sandbox, failed(0.3, "a better fox"), passed(0.9))
    looped = sampled("looped.safetensors", ["1", 1], ["1", 2]) | evaluate("3", ["2", 0], generation_prompt=["1", 1])
    looped |= start("a fox", seed=41) | end() | node("9", "PreviewImage", images=["4", 0])
    server.run(looped)
    by_seed = groups(server, "looped.safetensors", "seed")
    assert {seed: group["passed"] for seed, group in by_seed.items()} == {"41": 0, "42": 1}
    assert set(groups(server, "looped.safetensors", "prompt")) == {"a fox", "a better fox"}
    (sampler,) = groups(server, "looped.safetensors", "sampler")
    (size,) = groups(server, "looped.safetensors", "size")
    assert (sampler, size) == ("dpmpp_2m", "96x96")


def test_a_local_verdict_is_in_history_and_insight_and_can_be_rated(server: ComfyUI) -> None:
    graph = sampled("local.safetensors", "a hat", 5) | evaluate("3", ["2", 0], judge="local") | show("4", ["3", 4])
    before = server.request("GET", "/runflow-evaluate/days")["today"]["evaluations"]
    server.run(graph)
    line = server.request("GET", "/runflow-evaluate/history")["rows"][0]
    assert (line["judge"], line["cost"]) == ("local", "0")
    assert server.request("GET", "/runflow-evaluate/days")["today"]["evaluations"] == before
    (group,) = groups(server, "local.safetensors", "judge").values()
    assert (group["values"], group["judged"], group["credits"]) == (["local.safetensors", "local"], 1, "0")
    waiting = server.request("GET", f"{PAGE}/to-rate")["images"]
    assert waiting[0] == {"row": line["row"], "image": line["image"], "prompt": "", "task": "image_generation"}
    said = server.request("POST", f"{PAGE}/rate", {"row": line["row"], "good": False})["verdicts"]
    assert [each["judge"] for each in said] == ["local"]
    assert line["row"] not in [each["row"] for each in server.request("GET", f"{PAGE}/to-rate")["images"]]
    agreement = server.request("GET", PAGE)["agreement"]
    assert any(each["judge"] == "local" and each["bad"] == 1 and each["missing"] == 39 for each in agreement)
    with urllib.request.urlopen(f"{server.url}{PAGE}.csv?by=checkpoint", timeout=60) as answer:
        rows = list(csv.DictReader(io.StringIO(answer.read().decode())))
    assert "local.safetensors" in [row["checkpoint"] for row in rows]
