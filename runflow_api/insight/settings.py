"""The settings by which verdicts can be compared: their names, their columns, and how their values are shown."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ..errors import InvalidInputError
from ..journal.schema import EPOCH, IMAGE_PROMPTS, ROWS, VERDICTS

V = VERDICTS.c
DAYS_OF_A_WEEK = 7
_PROMPT = sa.func.coalesce(IMAGE_PROMPTS.c.prompt, sa.func.nullif(ROWS.c.generation_prompt, ""))
COLUMNS: dict[str, tuple[sa.ColumnElement[Any], ...]] = {
    "checkpoint": (V.checkpoint,),
    "loras": (V.loras,),
    "sampler": (V.sampler,),
    "scheduler": (V.scheduler,),
    "steps": (V.steps,),
    "cfg": (V.cfg,),
    "size": (V.width, V.height),
    "seed": (V.seed,),
    "prompt": (_PROMPT,),
    "judge": (V.judge, V.judge_name),
    "task": (V.task,),
    "day": (V.day,),
    "week": ((V.day - V.day % DAYS_OF_A_WEEK),),
}
"""``week`` begins on a Thursday, as the days of Unix do; of every setting, ``None`` is unknown."""
NAMES = tuple(COLUMNS)
AT_MOST = 2
NO_LORAS = "none"


def require_names(names: list[str]) -> list[str]:
    """One or two known settings, each once. Raises ``InvalidInputError``."""
    wanted = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in wanted:
        if name not in COLUMNS:
            raise InvalidInputError("by", f"“{name[:40]}” is not one of {', '.join(NAMES)}.")
    if not 1 <= len(wanted) <= AT_MOST:
        raise InvalidInputError("by", "names one or two settings, such as checkpoint,sampler.")
    return wanted


def needs_rows(names: list[str]) -> bool:
    return "prompt" in names


def text_of(name: str, values: tuple[Any, ...]) -> str | None:
    """A value as text; ``None`` for unknown."""
    first = values[0]
    if name == "size":
        return f"{first}x{values[1]}" if first and values[1] else None
    if name == "judge":
        return f"{first}: {values[1]}" if values[1] else str(first)
    if name in ("day", "week"):
        return (EPOCH + timedelta(days=int(first))).isoformat()
    if first is None or (name == "task" and not first):
        return None
    if name == "loras" and first == "":
        return NO_LORAS
    return format(first, "g") if isinstance(first, float) else str(first)
