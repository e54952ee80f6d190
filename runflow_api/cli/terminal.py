"""What the command line shows: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TextIO, TypeVar

from .. import background
from ..evaluation.verdict import FAILED, PASSED, UNKNOWN, Outcome, Verdict
from ..settings.config import environment

GREEN, RED, YELLOW, DIM, BOLD = "32", "31", "33", "2", "1"
COLOURS: dict[str, str] = {PASSED: GREEN, FAILED: RED, UNKNOWN: YELLOW}
BAR_CELLS = 24
FULL, EMPTY = "\u2588", "\u2591"  # a full block, and a light shade
REDRAW_S = 0.1
LOOK_FOR_CTRL_C_S = 0.1

T = TypeVar("T")


class Terminal:
    """Writes for a person or, with ``as_json``, one JSON object per line for a script.

    Colours only where the stream is a terminal and NO_COLOR (no-color.org) is not set; the bar only where
    standard error is a terminal.
    """

    def __init__(self, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._bar = ""
        self._drawn = 0.0

    def result(self, text: str, record: Mapping[str, Any] | None = None) -> None:
        """One result: its JSON where JSON is asked for and there is some, else its text."""
        self.clear_bar()
        if self.as_json and record is None:
            return
        print(json.dumps(record, ensure_ascii=False) if self.as_json else printable(text), file=self._out, flush=True)

    def say(self, text: str) -> None:
        """Something about the work, for the person."""
        self.clear_bar()
        print(printable(text), file=self._err, flush=True)

    def colour(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_coloured and text else text

    @property
    def is_coloured(self) -> bool:
        return not self.as_json and self._out.isatty() and not environment("NO_COLOR")

    def bar(self, text: str) -> None:
        """Draw or redraw the one line that moves, at most ten times a second."""
        now = time.monotonic()
        if self._err.isatty() and text != self._bar and now - self._drawn >= REDRAW_S:
            self._bar, self._drawn = text, now
            self._err.write(f"\r\x1b[2K{text}")
            self._err.flush()

    def clear_bar(self) -> None:
        if self._bar:
            self._err.write("\r\x1b[2K")
            self._err.flush()
            self._bar = ""

    def confirms(self, question: str) -> bool | None:
        """Ask; ``None`` where nobody is there to answer (standard input is no terminal)."""
        if not sys.stdin.isatty():
            return None
        self.clear_bar()
        self._err.write(f"{question} [y/N] ")
        self._err.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def run_cancellable(work: Coroutine[Any, Any, T], show: Callable[[], None] = lambda: None) -> T:
    """Wait in the main thread, where Ctrl-C arrives, and ``show`` meanwhile.

    Ctrl-C cancels the work here; what was submitted goes on at Runflow, and is in the journal.
    """
    future = background.start(work)
    try:
        while not wait([future], timeout=LOOK_FOR_CTRL_C_S).done:
            show()
        return future.result()
    finally:
        future.cancel()


@dataclass
class Tally:
    """Counts and spend of an ``evaluate``; credits are exact."""

    total: int
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    reused: int = 0
    credits: Decimal = Decimal(0)
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    def add(self, verdict: Verdict) -> None:
        self.outcomes[verdict.outcome] += 1
        self.reused += verdict.reused
        self.credits += verdict.cost or 0

    @property
    def counts(self) -> str:
        names = {PASSED: "passed", FAILED: "failed", UNKNOWN: "not judged"}
        said = [f"{count} {names[outcome]}" for outcome, count in self.outcomes.items() if count]
        return ", ".join(said + ([f"{self.reused} of them reused"] if self.reused else [])) or "none yet"

    @property
    def spend(self) -> str:
        return f"{plain(self.credits)} credits"

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def bar(self, verb: str = "judged") -> str:
        share = self.done / self.total if self.total else 1.0
        cells = (FULL * round(BAR_CELLS * share)).ljust(BAR_CELLS, EMPTY)
        left = f" · about {duration(self.seconds * (1 - share) / share)} left" if 0 < share < 1 else ""
        counted = f"{self.done}/{self.total} {verb} · {self.counts} · {self.spend}"
        return f"{cells} {counted} · {duration(self.seconds)}{left}"


def plain(amount: Decimal) -> str:
    """Credits without an exponent and without zeros that say nothing, but with two digits of cents."""
    whole, _, part = format(amount.normalize(), "f").partition(".")
    return f"{whole}.{part.ljust(2, '0')}" if part else whole


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), seconds / 3600
    return f"{minutes} min" if minutes < 100 else f"{hours:.1f} h"


_MOVES = re.compile(r"\x1b(?!\[(?:0|1|2|31|32|33)m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of text; of escapes only our own colours are kept."""


def printable(text: str) -> str:
    """Text from outside cannot move the cursor, hide what is said or ring the bell."""
    return _MOVES.sub("?", text)
