"""A process that asks about numbered pictures until it is done or killed: ``worker.py URL DIRECTORY TOKEN N N …``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve()
GIVEN = {
    "RUNFLOW_JOURNAL_URL": "RUNFLOW_TEST_CHILD_URL",
    "RUNFLOW_MAX_EVALUATIONS_PER_DAY": "RUNFLOW_TEST_CHILD_LIMIT",
}
"""Settings that a test may give."""
sys.path += [str(HERE.parents[2]), str(HERE.parents[1])]

from support.evaluators import KEY  # noqa: E402
from support.pictures import picture  # noqa: E402

from runflow_api import background  # noqa: E402
from runflow_api.api.client import RunflowClient  # noqa: E402
from runflow_api.api.transport import Transport  # noqa: E402
from runflow_api.evaluation.evaluator import Evaluator, Job  # noqa: E402
from runflow_api.settings import config  # noqa: E402


def main(url: str, directory: str, token: str, *numbers: str) -> None:
    own = {"RUNFLOW_BASE_URL": url, "RUNFLOW_API_KEY": KEY, "RUNFLOW_MAX_EVALUATIONS_PER_PROMPT": "1000"}
    given = {name: os.environ.get(variable, "") for name, variable in GIVEN.items()}
    settings = config.load(None, own | given)
    client = RunflowClient(settings, Transport(settings, delay=lambda *_: 0.02, timeouts=(2.0, 2.0)))
    evaluator = Evaluator(settings, Path(directory), client=client, next_delay=lambda *_: 0.05)
    print("ready", flush=True)
    jobs = [Job([picture(int(number), 64, 64)], prompt_token=token) for number in numbers]
    futures = [background.start(evaluator.evaluate(job)) for job in jobs]
    for number, future in zip(numbers, futures, strict=True):
        print(number, future.result()[0].evaluation.id, flush=True)
    evaluator.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
