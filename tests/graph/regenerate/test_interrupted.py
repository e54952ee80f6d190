"""A loop that repairs, interrupted and killed at any moment: a question is paid once, however often it is queued."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from support.loops import Since, failed, repairing, verdicts
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox

TEST_NODES = (Path(__file__).parents[1] / "test_nodes",)
ATTEMPTS, INTERRUPTS, INTERRUPTS_OF_A_LOOP = 3, 30, 3
KILLS = int(os.environ.get("RUNFLOW_TEST_KILLS", "2"))
"""Each costs a start of ComfyUI."""
MOST_EVENTS = 70
"""About as many as ComfyUI sends of such a loop."""


def posted_until_some_moment(server: ComfyUI, graph: dict[str, object], chance: random.Random) -> str:
    prompt_id, wanted = server.post(graph), chance.randint(1, MOST_EVENTS)
    assert server.events_log is not None
    server.events_log.wait(
        lambda: len(server.events(prompt_id=prompt_id)) >= wanted or server.ended(prompt_id), timeout=60
    )
    return prompt_id


def questions(sandbox: Sandbox, since: int) -> set[str]:
    """What was asked, each once: the image and what it was judged against."""
    asked = [each.body for each in sandbox.requests[since:] if each.path == "/v1/evaluations"]
    return {f"{body['generated_image_url']} {body['generation_prompt']}" for body in asked if isinstance(body, dict)}


def test_thirty_interrupts_pay_every_question_once(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    sandbox.latency, chance, before = 0.02, random.Random(16), len(sandbox.requests)
    verdicts(sandbox, *(failed(0.3 + 0.01 * number) for number in range(ATTEMPTS * INTERRUPTS)))
    for number in range(INTERRUPTS):
        graph = repairing(prompt, seed=number // INTERRUPTS_OF_A_LOOP * 1000, max_attempts=ATTEMPTS)
        prompt_id = posted_until_some_moment(server, graph, chance)
        server.cancel(prompt_id)
        server.wait(prompt_id, check=False)
        if number % INTERRUPTS_OF_A_LOOP == INTERRUPTS_OF_A_LOOP - 1:
            server.run(graph)
            assert since.recorded["attempts"] == ATTEMPTS
    assert since.bills == len(questions(sandbox, before)) == ATTEMPTS * INTERRUPTS // INTERRUPTS_OF_A_LOOP


def test_kills_pay_every_question_once(comfyui_factory: Callable[..., ComfyUI], sandbox: Sandbox, prompt: str) -> None:
    chance, before = random.Random(5), len(sandbox.requests)
    verdicts(sandbox, *(failed(0.3 + 0.1 * number) for number in range(ATTEMPTS)))
    env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}
    with comfyui_factory(env=env, extra_nodes=TEST_NODES) as server:
        since = Since(server, sandbox)
        graph = repairing(prompt, max_attempts=ATTEMPTS)
        for _ in range(KILLS):
            posted_until_some_moment(server, graph, chance)
            server.kill()
            server.start()
        server.run(graph)
        assert since.recorded["attempts"] == ATTEMPTS
    assert since.bills == len(questions(sandbox, before)) == ATTEMPTS
