"""Attempts at the same picture compared line by line: which requirements one gained, and which it lost.

A line is one opinion of a verdict: a judge of Runflow, a requirement of the model judge, or a local check. In a loop
the same lines are asked at every attempt, so that attempts can be compared by their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .verdict import BatchVerdict

Lines = Mapping[str, bool | None]
"""Whether each line passed; ``None`` if it was not measured."""


@dataclass(frozen=True)
class Changes:
    """The lines that failed in one attempt and passed in the next (``gained``), and the other way round (``lost``)."""

    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """ "lost: five fingers", then what was gained; a text for each of the two that there is."""
        named = (("lost", self.lost), ("gained", self.gained))
        return tuple(f"{word}: {', '.join(lines)}" for word, lines in named if lines)


NO_CHANGES = Changes()


@dataclass(frozen=True)
class AttemptLines:
    """One attempt in the comparison. ``repairs`` is the attempt that it changed, 0 if it was made anew."""

    number: int
    outcome: str
    score: float
    lines: Lines = field(default_factory=dict)
    repairs: int = 0
    changes: Changes = NO_CHANGES

    def to_json(self) -> dict[str, Any]:
        return {
            "attempt": self.number,
            "repairs": self.repairs,
            "verdict": self.outcome,
            "score": self.score,
            "lines": dict(self.lines),
            "gained": list(self.changes.gained),
            "lost": list(self.changes.lost),
        }


def lines_of(verdict: BatchVerdict | None) -> dict[str, bool | None]:
    """The lines of a verdict, in the order in which they were judged. In a batch a line passes if it does in all."""
    lines: dict[str, bool | None] = {}
    for opinion in (opinion for each in verdict or () for opinion in each.evaluation.judges):
        if opinion.name:
            before = lines.get(opinion.name, True)
            lines[opinion.name] = _both(before, opinion.passed)
    return lines


def compare(before: Lines, after: Lines) -> Changes:
    """What ``after`` gained and lost. What either of them did not measure is neither."""
    shared = [name for name in after if name in before]
    gained = tuple(name for name in shared if before[name] is False and after[name] is True)
    return Changes(gained, tuple(name for name in shared if before[name] is True and after[name] is False))


def line_names(attempts: Iterable[AttemptLines]) -> list[str]:
    """The names of all lines, each once, in the order in which they were met."""
    return list(dict.fromkeys(name for attempt in attempts for name in attempt.lines))


def _both(one: bool | None, other: bool | None) -> bool | None:
    """Failed if one is, else not measured if one is not, else passed."""
    if one is False or other is False:
        return False
    return None if one is None or other is None else True
