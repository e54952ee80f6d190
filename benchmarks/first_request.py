"""From Run to the first request of a large batch with references: what must be done before, and what may wait."""

from __future__ import annotations

import threading
import time
from argparse import Namespace

import api
import numpy as np
import pictures
from measure import median, said, table

from runflow_api import background
from runflow_api.evaluation.evaluator import Evaluator, Job
from runflow_api.evaluation.question import Question, Reference

SIDE, IMAGES, REFERENCES, ROUNDS = 2048, 16, 4, 5
GOAL_S = 1.0
LATENCY_S = 0.2


def run(options: Namespace) -> str:
    wanted = IMAGES + REFERENCES
    known = [each.pixels for each in pictures.squares(pictures.found(options.photos, options.generated), SIDE, 4)]
    made = [pictures.tensor_of(np.roll(known[n % len(known)], 7 * n, axis=1)) for n in range(wanted)]
    batch, references = made[:IMAGES], made[IMAGES:]
    rows, reached = [], 0.0
    with api.running(LATENCY_S) as sandbox:
        for count in (0, REFERENCES):
            taken = [_judged(sandbox, batch, references[:count], f"{count} {n}") for n in range(ROUNDS)]
            middle = {name: median(each[name] for each in taken) for name in taken[0]}
            reached = middle["first request, s"]
            rows.append([f"{IMAGES} images, {count} references", *(f"{middle[name]:.2f}" for name in middle)])
    head = ["2048²", *middle]
    return "\n\n".join(
        [
            f"A journal that is empty each time, medians of {ROUNDS}. The processor's time is the pack's own, on all "
            "cores; the images are distinct photographs.",
            table(head, rows),
            f"Goal with {REFERENCES} references: ≤ {GOAL_S:g} s; {said(reached <= GOAL_S)}.",
        ]
    )


class FirstRequest:
    """When the first evaluation was submitted, by the clock and by the processor."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.at = self.processor = 0.0
        self._lock, self._submit = threading.Lock(), evaluator.client.submit
        evaluator.client.submit = self._noting  # type: ignore[method-assign]

    def _noting(self, *args, **kwargs):
        with self._lock:
            if not self.at:
                self.at, self.processor = time.monotonic(), time.process_time()
        return self._submit(*args, **kwargs)


def _judged(sandbox: api.Api, batch: list, references: list, prompt: str) -> dict[str, float]:
    question = Question(prompt, references=tuple(Reference(pixels) for pixels in references))
    with api.evaluator(sandbox) as evaluator:
        first = FirstRequest(evaluator)
        processor, began = time.process_time(), time.monotonic()
        job = Job(batch, question, "runflow", prompt_token=prompt)
        assert len(background.start(evaluator.evaluate(job)).result()) == len(batch)
        return {
            "first request, s": first.at - began,
            "processor until then, s": first.processor - processor,
            "all judged, s": time.monotonic() - began,
            "processor in all, s": time.process_time() - processor,
        }
