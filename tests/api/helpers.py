"""What the tests of the client and of the evaluator share: pictures, a configuration, an evaluator that hurries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runflow_api import background
from runflow_api.api.client import RunflowClient
from runflow_api.api.transport import Transport
from runflow_api.evaluation.evaluator import Evaluator, Job
from runflow_api.evaluation.question import Options, Question
from runflow_api.evaluation.verdict import BatchVerdict, Policy
from runflow_api.sandbox.app import DEFAULT_KEY, Sandbox
from runflow_api.settings import config

KEY = DEFAULT_KEY


def picture(seed: int = 0, height: int = 288, width: int = 320, channels: int = 3) -> npt.NDArray[np.float32]:
    """A picture with detail at every scale, (height, width, channels) float32 from 0 to 1."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, channels))
    for size in (2, 6, 24, 96, max(height, width)):
        rows, columns = -(-height // size), -(-width // size)
        coarse = rng.random((rows, columns, channels)).repeat(size, 0).repeat(size, 1)[:height, :width]
        total += coarse * size**0.5
    total -= total.min()
    return (total / total.max()).astype(np.float32)


def configuration(sandbox: Sandbox | None = None, **environment: str) -> config.Config:
    values = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key} if sandbox else {}
    return config.load(None, {**values, **environment})


def client(sandbox: Sandbox, *, read_timeout: float = 5.0, **environment: str) -> RunflowClient:
    """A client whose retries come at once."""
    settings = configuration(sandbox, **environment)
    return RunflowClient(settings, Transport(settings, delay=lambda *_: 0.01, timeouts=(2.0, read_timeout)))


def evaluator(sandbox: Sandbox, directory: Path, **keywords: Any) -> Evaluator:
    """An evaluator that looks again after 50 ms, with its journal in ``directory``."""
    made = client(sandbox, **keywords)
    return Evaluator(made.config, directory, client=made, next_delay=lambda *_: 0.05)


def judge(
    evaluator: Evaluator,
    *images: npt.NDArray[Any],
    question: Question | None = None,
    prompt_token: str = "prompt",
    judge: Any = "auto",
    options: Options | None = None,
    **policy: Any,
) -> BatchVerdict:
    """Judge ``images`` and wait for the verdict."""
    job = Job(images, question or Question(), judge, Policy(**policy), options or Options(), prompt_token)
    return background.start(evaluator.evaluate(job)).result(timeout=60)
