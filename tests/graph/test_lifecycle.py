"""Cancel, exit, crash and come back: nothing is paid twice and nothing is waited for."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.pictures import picture
from support.prompts import evaluate, load_image, node, show
from support.server import ComfyUI

from runflow_api import images
from runflow_api.sandbox.app import Fault, Sandbox

SUBMIT, READ = "/v1/evaluations", "/v1/evaluations/[0-9a-f-]{36}"
SLOW_NODES = Path(__file__).parent / "slow_nodes"
_seeds = itertools.count(1000)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=0.2) as running:
        yield running


@pytest.fixture
def start(comfyui_factory: Callable[..., ComfyUI], sandbox: Sandbox) -> Iterator[Callable[..., ComfyUI]]:
    started: list[ComfyUI] = []

    def make(base: Path | None = None) -> ComfyUI:
        env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}
        started.append(comfyui_factory(base=base, env=env, extra_nodes=(SLOW_NODES,)))
        return started[-1]

    yield make
    for server in started:
        server.stop()


def gate(server: ComfyUI, seed: int | None = None, count: int = 1) -> dict[str, Any]:
    """``count`` evaluations of pictures of their own, side by side."""
    prompt: dict[str, Any] = {}
    for number in range(count):
        name = f"photo-{next(_seeds) if seed is None else seed + number}.png"
        pixels = images.to_pixels(picture(int(name[6:-4])))
        Image.fromarray(pixels).save(server.base / "input" / name)
        prompt |= load_image(f"{number}1", name)
        prompt |= evaluate(f"{number}2", [f"{number}1", 0])
        prompt |= show(f"{number}3", [f"{number}2", 4])
    return prompt


def seconds_to_cancel(server: ComfyUI, prompt_id: str) -> float:
    started = time.monotonic()
    server.interrupt()
    history = server.wait(prompt_id, timeout=15, check=False)
    took = time.monotonic() - started
    assert history.interrupted
    return took


def test_cancel_takes_effect_in_every_state_of_the_wait_and_the_next_queue_pays_once(start, sandbox: Sandbox) -> None:
    server = start()
    hangs = {
        "submit": Fault("POST", SUBMIT, "hang", times=None),
        "upload": Fault("POST", SUBMIT, "hang_upload", times=None),
        "poll": Fault("GET", READ, "hang", times=None),
        "full read": Fault("GET", READ, "hang", times=None, after_skip=1),
        "slow answer": Fault("POST", SUBMIT, "slow", times=None, delay=20.0),
        "outage": Fault("GET", READ, "status", times=None, status=503),
    }
    for state, fault in hangs.items():
        sandbox.add_fault(fault)
        prompt = gate(server, count=3)
        before = len(sandbox.requests)
        prompt_id = server.post(prompt)
        skipped = fault.after_skip
        if fault.kind == "hang_upload":
            server.wait_for("progress_text", prompt_id, timeout=10)
        else:
            fresh = [each for each in sandbox.requests[:before] if each.method == fault.method]
            wanted = [each for each in fresh if fault.matches(fault.method, each.path)]
            sandbox.wait_for_requests(fault.method, fault.path, len(wanted) + 1 + skipped)
        assert seconds_to_cancel(server, prompt_id) < 1.0, state
        sandbox.clear_faults()
        evaluations = len(sandbox.evaluations)
        server.run(prompt)
        assert len(sandbox.evaluations) - evaluations <= 3, state
    assert len(sandbox.evaluations) == len(sandbox.bills) == 3 * len(hangs)


@pytest.mark.parametrize("path", [SUBMIT, READ], ids=["POST unanswered", "waiting"])
def test_kill_and_come_back_is_one_bill(start, sandbox: Sandbox, path: str) -> None:
    method = "POST" if path == SUBMIT else "GET"
    # The server acts on the submission, and its answer never arrives.
    kind = {"kind": "late", "delay": 8.0} if path == SUBMIT else {"kind": "hang"}
    sandbox.add_fault(Fault(method, path, times=1, **kind))
    server = start()
    prompt = gate(server)
    server.post(prompt)
    sandbox.wait_for_requests(method, path)
    server.kill()
    sandbox.clear_faults()
    again = start(server.base)
    (shown,) = again.run(prompt, timeout=60).outputs["03"]["runflow"]
    assert shown["verdict"] in ("passed", "failed")
    assert len(sandbox.bills) == len(sandbox.evaluations) == 1


def test_a_restart_after_completion_pays_nothing(start, sandbox: Sandbox) -> None:
    server = start()
    prompt = gate(server)
    server.run(prompt)
    server.stop()
    (shown,) = start(server.base).run(prompt).outputs["03"]["runflow"]
    assert shown["reused"]
    assert len(sandbox.bills) == 1


@pytest.mark.parametrize("fault", [Fault("POST", SUBMIT, "hang", times=None), Fault("GET", READ, "hang", times=None)])
def test_exit_does_not_wait_for_the_network(start, sandbox: Sandbox, fault: Fault) -> None:
    sandbox.add_fault(fault)
    server = start()
    server.post(gate(server, count=5))
    sandbox.wait_for_requests(fault.method, fault.path, 3)
    assert server.stop() < 3.0


def test_evaluations_go_on_beside_a_node_that_blocks(start, sandbox: Sandbox) -> None:
    sandbox.latency = 2.0
    server = start()
    prompt = {**gate(server), **node("8", "TestSlowSampler", seconds=4.0, image=["01", 0])}
    prompt_id = server.post({**prompt, **node("9", "PreviewAny", source=["8", 0])})
    history = server.wait(prompt_id)
    texts = server.events("progress_text", prompt_id, "02")
    finished = server.wait_for("executed", prompt_id, "9")
    assert float(history.outputs["9"]["text"][0]) < 4.0 * 1.03 + 0.1
    full_reads = [each.at for each in sandbox.requests if each.query]
    assert len(full_reads) == 1
    assert max(full_reads) < finished.at  # the verdict was there before the blocking node let go
    assert len([text for text in texts if text.at < finished.at]) >= 2


def test_what_was_submitted_survives_the_failure_of_another_node(start, sandbox: Sandbox) -> None:
    sandbox.latency = 3.0
    server = start()
    prompt = gate(server, count=2)
    failing = {**prompt, **node("9", "TestRaises", seconds=1.5)}
    history = server.run(failing, check=False)
    assert "another node of the prompt failed" in history.errors[0]["exception_message"]
    assert len(sandbox.evaluations) == 2
    server.run(prompt)
    assert len(sandbox.bills) == 2


def test_images_that_were_cancelled_before_their_verdict_are_kept(start, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("GET", READ, "hang", times=None))
    server = start()
    prompt_id = server.post(gate(server))
    sandbox.wait_for_requests("GET", READ)
    seconds_to_cancel(server, prompt_id)
    folder = server.base / "output" / "runflow-unjudged"
    deadline = time.monotonic() + 5
    while not (found := list(folder.glob("*.png"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(found) == 1
