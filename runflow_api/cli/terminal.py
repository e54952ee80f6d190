"""What the command line shows: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, TextIO, TypeVar

from tqdm import tqdm

from .. import background
from ..errors import NotJudgedError
from ..evaluation.evaluator import Progress
from ..evaluation.verdict import FAILED, PASSED, RUNFLOW, UNKNOWN, Outcome, Verdict
from ..settings.config import environment

GREEN, RED, YELLOW, DIM = "32", "31", "33", "2"
COLOURS: dict[str, str] = {PASSED: GREEN, FAILED: RED, UNKNOWN: YELLOW}
LOOK_FOR_CTRL_C_S = 0.1
REDRAW_S = 0.1
COUNTED = "{percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} {desc} [{elapsed}<{remaining}]"
WORDS = "{desc}"

T = TypeVar("T")


class _MovingLine(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # no thread of tqdm's own


class Painted(NamedTuple):
    """Text in a colour, where the terminal has colours."""

    text: str
    colour: str


class Terminal:
    """Writes for a person or, with ``as_json``, one JSON object per line for a script.

    Colours only if the stream is a terminal and NO_COLOR (no-color.org) is not set; the line that moves only if
    standard error is a terminal. Text from outside can neither colour nor steer the terminal.
    """

    def __init__(self, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._moving: _MovingLine | None = None
        self._drawn = 0.0

    def result(self, *parts: str | Painted, record: Mapping[str, Any] | None = None) -> None:
        """One result: its JSON where JSON is asked for and there is some, otherwise its text."""
        self.clear()
        if not self.as_json:
            print("".join(self._shown(part) for part in parts), file=self._out, flush=True)
        elif record is not None:
            print(_plain_json(record), file=self._out, flush=True)

    def say(self, text: str) -> None:
        """Something about the work, for the person."""
        self.clear()
        print(printable(text), file=self._err, flush=True)

    def _shown(self, part: str | Painted) -> str:
        if isinstance(part, str) or not part.text or not self.is_coloured:
            return printable(part if isinstance(part, str) else part.text)
        return f"\x1b[{part.colour}m{printable(part.text)}\x1b[0m"

    @property
    def is_coloured(self) -> bool:
        return not self.as_json and self._out.isatty() and not environment("NO_COLOR")

    def progress(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Draw or redraw the one line that moves: ``done`` of ``total`` if that is known, and words."""
        if not self._err.isatty():
            return
        if self._moving is None or self._moving.total != total:
            self.close()
            form = WORDS if total is None else COUNTED
            self._moving = _MovingLine(total=total, file=self._err, leave=False, bar_format=form, delay=sys.maxsize)
        if time.monotonic() - self._drawn >= REDRAW_S:
            self._drawn = time.monotonic()
            self._moving.ncols = shutil.get_terminal_size().columns - 1  # the last column wraps in some terminals
            self._moving.n = done
            self._moving.set_description_str(on_one_line(text))

    def show_progress(self, progress: Progress) -> None:
        """How far a look-up is."""
        self.progress(progress.text)

    def clear(self) -> None:
        """Take the moving line away; the next ``progress`` draws it again."""
        if self._moving is not None:
            self._moving.clear()

    def close(self) -> None:
        """End the moving line for good."""
        if self._moving is not None:
            self._moving.close()
            self._moving = None

    def confirms(self, question: str) -> bool | None:
        """Ask; ``None`` if nobody is there to answer (standard input is not a terminal)."""
        if not sys.stdin.isatty():
            return None
        self.clear()
        self._err.write(f"{question} [y/N] ")
        self._err.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def show_nothing() -> None:
    """What is shown while waiting if nothing is."""


def run_cancellable(work: Coroutine[Any, Any, T], show: Callable[[], None] = show_nothing) -> T:
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


def _no_outcomes() -> dict[Outcome, int]:
    return dict.fromkeys((PASSED, FAILED, UNKNOWN), 0)


@dataclass
class Tally:
    """Counts and spend of an ``evaluate``; credits are exact."""

    total: int
    outcomes: dict[Outcome, int] = field(default_factory=_no_outcomes)
    reused: int = 0
    credits: Decimal = Decimal(0)
    unknown_costs: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    def add(self, verdict: Verdict) -> None:
        self.outcomes[verdict.outcome] += 1
        self.reused += verdict.reused
        self.credits += verdict.cost or 0
        self.unknown_costs += verdict.cost is None and _may_be_billed(verdict)

    @property
    def counts(self) -> str:
        names = {PASSED: "passed", FAILED: "failed", UNKNOWN: "not judged"}
        said = [f"{count} {names[outcome]}" for outcome, count in self.outcomes.items() if count]
        return ", ".join(said + ([f"{self.reused} of them reused"] if self.reused else [])) or "none yet"

    @property
    def spend(self) -> str:
        """What is known to be paid, and for how many that is not known yet."""
        more = f", {self.unknown_costs} more may be charged" if self.unknown_costs else ""
        return f"{plain(self.credits)} credits{more}"

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


def _may_be_billed(verdict: Verdict) -> bool:
    """Whether Runflow has taken it, or may have, without a cost that is known here."""
    error = verdict.error
    if verdict.judge != RUNFLOW or verdict.reused:
        return False
    if isinstance(error, NotJudgedError) and error.evaluation_ids:
        return True
    return verdict.evaluation.id is not None or (error is not None and error.may_have_been_accepted)


def plain(amount: Decimal) -> str:
    """Credits without an exponent and without zeros that say nothing, but with two digits of cents."""
    whole, _, part = format(amount.normalize(), "f").partition(".")
    return f"{whole}.{part.ljust(2, '0')}" if part else whole


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), seconds / 3600
    return f"{minutes} min" if minutes < 100 else f"{hours:.1f} h"


_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, halves of characters, and what turns the direction of text; line breaks and tabs are kept."""
_UNPRINTABLE_IN_JSON = re.compile(r"[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text from outside cannot move the cursor, colour or hide what is said, or ring the bell: it is escaped."""
    return _UNPRINTABLE.sub(_escaped, text)


def on_one_line(name: str) -> str:
    """A file's name, which may hold line breaks too, so that it cannot look like another line of output."""
    return printable(re.sub(r"[\n\t]", _escaped, name))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def _plain_json(record: Mapping[str, Any]) -> str:
    return _UNPRINTABLE_IN_JSON.sub(_json_escaped, json.dumps(record, ensure_ascii=False))


def _json_escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
