"""What was submitted and never collected is read when ComfyUI starts, if the person wants that. Reading is free."""

from __future__ import annotations

import logging
from typing import Any

from ..runflow_api import background
from ..runflow_api.errors import RunflowError
from . import _runtime

MOST = 200
"""As many as one look-up takes, the newest first."""

log = logging.getLogger("runflow_evaluate")


def collect() -> int:
    """Read what is under way, if the setting is on; how many of them have ended. Blocks; trouble is logged."""
    try:
        current = _runtime.settings()
        if not current.collect_at_start or current.api_key is None:
            return 0
        return _collect()
    except (RunflowError, OSError) as error:  # the next Run, or Collect in the history, says what is the matter
        log.warning("What is under way was not collected: %s", error)
        return 0


def _collect() -> int:
    from ..runflow_api.evaluation import lookup
    from ..runflow_api.evaluation.verdict import Policy

    evaluator = _runtime.evaluator()
    rows: list[Any] = evaluator.journal().history(limit=MOST, outcome="open")
    ids = [row.evaluation_id for row in rows if row.evaluation_id]
    if not ids:
        return 0
    reading = lookup.evaluations(evaluator, list(dict.fromkeys(ids)), Policy(if_not_judged="pass"), wait=False)
    verdicts = background.start(reading).result()
    ended = sum(each.evaluation.is_terminal for each in verdicts)
    log.info("Collected %d of %d evaluations that were under way.", ended, len(verdicts))
    return ended
