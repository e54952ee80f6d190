"""What one verdict costs in requests, bytes and connections."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import api
import pictures
from measure import said, table

LATENCY_S = 10.0


def run(options: Namespace) -> str:
    image = pictures.squares(pictures.found(options.photos, options.generated), 1024, 1)[0].pixels
    answers: list[int] = []
    with api.running(LATENCY_S) as sandbox:
        with api.evaluator(sandbox) as evaluator:
            _count_answers(evaluator.client.transport, answers)
            api.judge(evaluator, [image])
        seen, connections = sandbox.requests(), sandbox.connections()
    rows = [
        _row("submit", seen, answers, lambda each: each.method == "POST"),
        _row("polls, without embeds", seen, answers, lambda each: each.method == "GET" and not each.embeds),
        _row("full read", seen, answers, lambda each: each.embeds),
    ]
    submits, full_reads = sum(each.method == "POST" for each in seen), sum(each.embeds for each in seen)
    minimal = [submits, full_reads, connections] == [1, 1, 1]
    text = f"One 1024² picture whose verdict takes {LATENCY_S:g} s, the first of its kind in this journal."
    goal = f"Goal: 1 submit, 1 full read, polls without embeds, 1 connection: {said(minimal)}."
    shown = table(["", "requests", "bytes sent", "bytes received"], rows)
    return f"{text}\n\n{shown}\n\nBodies, without headers. Connections: {connections}. {goal}"


def _count_answers(transport: Any, answers: list[int]) -> None:
    exchange = transport._exchange

    def counted(*arguments: Any) -> Any:
        answer = exchange(*arguments)
        answers.append(len(answer.data))
        return answer

    transport._exchange = counted


def _row(name: str, seen: list[api.Seen], answers: list[int], wanted: Callable[[api.Seen], bool]) -> list[Any]:
    mine = [(each, answer) for each, answer in zip(seen, answers, strict=True) if wanted(each)]
    return [name, len(mine), f"{sum(each.body_bytes for each, _ in mine):,}", f"{sum(size for _, size in mine):,}"]
