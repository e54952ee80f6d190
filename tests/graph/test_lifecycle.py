"""Cancel, exit, crash and come back: nothing is paid twice and nothing is waited for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.pictures import picture
from support.prompts import evaluate, load_image, node, show
from support.server import ComfyUI
from support.waiting import LESS_THAN_ANY_HANG_S, wait_until

from runflow_api import images
from runflow_api.sandbox.app import Fault, Sandbox

SUBMIT, READ = "/v1/evaluations", "/v1/evaluations/[0-9a-f-]{36}"
SLOW_NODES = Path(__file__).parent / "slow_nodes"
LATENCY = 0.2
_seeds = itertools.count(1000)


@pytest.fixture(scope="module")
def own_sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=LATENCY) as running:
        yield running


@pytest.fixture(scope="module")
def own_server(comfyui_factory: Callable[..., ComfyUI], own_sandbox: Sandbox) -> ComfyUI:
    env = {"RUNFLOW_BASE_URL": own_sandbox.url, "RUNFLOW_API_KEY": own_sandbox.api_key}
    return comfyui_factory(env=env, extra_nodes=(SLOW_NODES,))


@pytest.fixture
def sandbox(own_sandbox: Sandbox) -> Iterator[Sandbox]:
    yield own_sandbox
    own_sandbox.clear_faults()
    own_sandbox.latency = LATENCY


@pytest.fixture
def server(own_server: ComfyUI) -> ComfyUI:
    """Running; a test that ends it leaves it to the next one to start it again, where it was."""
    if not own_server.running:
        own_server.start()
    return own_server


class Since:
    """What the sandbox was asked and billed from here on."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox, self._bills, self._evaluations = sandbox, len(sandbox.bills), len(sandbox.evaluations)

    @property
    def bills(self) -> int:
        return len(self._sandbox.bills) - self._bills

    @property
    def evaluations(self) -> int:
        return len(self._sandbox.evaluations) - self._evaluations


@pytest.fixture
def since(sandbox: Sandbox) -> Since:
    return Since(sandbox)


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


def test_cancel_takes_effect_in_every_state_of_the_wait_and_the_next_queue_pays_once(
    server: ComfyUI, sandbox: Sandbox, since: Since
) -> None:
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
            server.wait_for("progress_text", prompt_id, timeout=60)
        else:
            fresh = [each for each in sandbox.requests[:before] if each.method == fault.method]
            wanted = [each for each in fresh if fault.matches(fault.method, each.path)]
            sandbox.wait_for_requests(fault.method, fault.path, len(wanted) + 1 + skipped)
        server.interrupt_at_once(prompt_id)
        sandbox.clear_faults()
        before_again = since.evaluations
        server.run(prompt)
        assert since.evaluations - before_again <= 3, state
    assert since.evaluations == since.bills == 3 * len(hangs)


@pytest.mark.parametrize("path", [SUBMIT, READ], ids=["POST unanswered", "waiting"])
def test_kill_and_come_back_is_one_bill(server: ComfyUI, sandbox: Sandbox, since: Since, path: str) -> None:
    method = "POST" if path == SUBMIT else "GET"
    # The server acts on the submission, and its answer never arrives.
    kind = {"kind": "late", "delay": 8.0} if path == SUBMIT else {"kind": "hang"}
    sandbox.add_fault(Fault(method, path, times=1, **kind))
    prompt = gate(server)
    asked = len(sandbox.wait_for_requests(method, path, 0))
    server.post(prompt)
    sandbox.wait_for_requests(method, path, asked + 1)
    server.kill()
    sandbox.clear_faults()
    server.start()
    (shown,) = server.run(prompt, timeout=60).outputs["03"]["runflow"]
    assert shown["verdict"] in ("passed", "failed")
    assert since.bills == since.evaluations == 1


def test_a_restart_after_completion_pays_nothing(server: ComfyUI, since: Since) -> None:
    prompt = gate(server)
    server.run(prompt)
    server.stop()
    server.start()
    (shown,) = server.run(prompt).outputs["03"]["runflow"]
    assert shown["reused"]
    assert since.bills == 1


@pytest.mark.parametrize("fault", [Fault("POST", SUBMIT, "hang", times=None), Fault("GET", READ, "hang", times=None)])
def test_exit_does_not_wait_for_the_network(server: ComfyUI, sandbox: Sandbox, fault: Fault) -> None:
    sandbox.add_fault(fault)
    asked = len(sandbox.wait_for_requests(fault.method, fault.path, 0))
    server.post(gate(server, count=5))
    sandbox.wait_for_requests(fault.method, fault.path, asked + 3)
    server.stop(LESS_THAN_ANY_HANG_S)  # and kills it then
    assert server.process is not None and server.process.returncode == 0, server.tail()


@pytest.mark.reads_text
def test_exit_while_text_is_read_ends_in_order(server: ComfyUI) -> None:
    """C++ that comes back while Python takes itself apart would abort the process, as if ComfyUI had crashed."""
    server.stop()
    server.start()  # with the reader
    prompt = gate(server, count=3)
    for number in range(3):
        prompt[f"{number}2"]["inputs"] |= {"judge": "local", "generation_prompt": 'a sign "Fish Market"'}
    prompt_id = server.post(prompt)
    for number in range(3):  # all are waiting: torch in a node that runs may abort any ComfyUI that is ended
        server.wait_for("progress", prompt_id, node=f"{number}2")
    server.stop(60)
    assert server.process is not None and server.process.returncode == 0, server.tail()


def test_evaluations_go_on_beside_a_node_that_blocks(server: ComfyUI, sandbox: Sandbox) -> None:
    sandbox.latency = 2.0
    before = len(sandbox.requests)
    prompt = {**gate(server), **node("8", "TestSlowSampler", seconds=4.0, image=["01", 0])}
    prompt_id = server.post({**prompt, **node("9", "PreviewAny", source=["8", 0])})
    server.wait(prompt_id)
    texts = server.events("progress_text", prompt_id, "02")
    finished = server.wait_for("executed", prompt_id, "9")
    full_reads = [each.at for each in sandbox.requests[before:] if each.query]
    assert len(full_reads) == 1
    assert max(full_reads) < finished.at  # the verdict was there before the blocking node let go
    assert len([text for text in texts if text.at < finished.at]) >= 2


def test_what_was_submitted_survives_the_failure_of_another_node(
    server: ComfyUI, sandbox: Sandbox, since: Since
) -> None:
    sandbox.latency = 3.0
    prompt = gate(server, count=2)
    failing = {**prompt, **node("9", "TestRaises", seconds=1.5)}
    history = server.run(failing, check=False)
    assert "another node of the prompt failed" in history.errors[0]["exception_message"]
    assert since.evaluations == 2
    server.run(prompt)
    assert since.bills == 2


def test_images_that_were_cancelled_before_their_verdict_are_kept(server: ComfyUI, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("GET", READ, "hang", times=None))
    folder = server.base / "output" / "runflow-unjudged"
    before = set(folder.glob("*.png"))
    asked = len(sandbox.wait_for_requests("GET", READ, 0))
    prompt_id = server.post(gate(server))
    sandbox.wait_for_requests("GET", READ, asked + 1)
    server.interrupt_at_once(prompt_id)
    wait_until(lambda: set(folder.glob("*.png")) - before)
    assert len(set(folder.glob("*.png")) - before) == 1
