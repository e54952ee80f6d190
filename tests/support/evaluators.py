"""A configuration, a client and an evaluator for a sandbox, which retry and look again at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def configuration(sandbox: Sandbox | None = None, **environment: str) -> config.Config:
    values = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key} if sandbox else {}
    return config.load(None, {**values, **environment})


def make_client(sandbox: Sandbox, *, read_timeout: float = 5.0, **environment: str) -> RunflowClient:
    """A client whose retries come at once."""
    settings = configuration(sandbox, **environment)
    return RunflowClient(settings, Transport(settings, delay=lambda *_: 0.01, timeouts=(2.0, read_timeout)))


def make_evaluator(sandbox: Sandbox, directory: Path, **keywords: Any) -> Evaluator:
    """An evaluator that looks again after 50 ms, with its journal in ``directory``."""
    made = make_client(sandbox, **keywords)
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
