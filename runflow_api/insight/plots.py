"""Plots as SVG text: bars with their intervals, a grid of two settings, a line over time. No script, no font, no file.

Colours are readable on light and on dark paper. What is too few to be a finding is drawn pale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

INK, SOFT, BAR, LINE = "#7a8496", "#9aa4b5", "#2f9e6e", "#8a93a3"
WIDTH, ROW, LABEL, MARGIN = 720, 26, 230, 8
MAX_BARS, MAX_SIDE = 24, 12
MAX_LABEL, MAX_LABEL_OF_GRID = 34, 16
Json = Mapping[str, Any]


def bars(groups: Sequence[Json], unknown: str = "unknown") -> str:
    """The pass rate of each group as a bar, with its interval and the number of verdicts."""
    shown = [group for group in groups if group["judged"]][:MAX_BARS]
    space = WIDTH - LABEL - 90
    parts = []
    for number, group in enumerate(shown):
        rate, top = group["pass_rate"], MARGIN + number * ROW
        label = " · ".join(_named(value, unknown) for value in group["values"])
        middle, opacity = top + ROW / 2, 1 if group["enough"] else 0.4
        low, high = LABEL + rate["low"] * space, LABEL + rate["high"] * space
        parts += [
            _text(LABEL - 8, middle + 4, _cut(label, MAX_LABEL), "end", title=label),
            f'<rect x="{LABEL}" y="{top + 5}" width="{rate["share"] * space:.1f}" height="{ROW - 10}" rx="2" '
            f'fill="{BAR}" opacity="{opacity}"/>',
            f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8" '
            f'stroke="{INK}" fill="none" opacity="{opacity}"/>',
            _text(WIDTH - 4, middle + 4, f"{rate['share']:.0%} ({group['judged']})", "end"),
        ]
    return _svg(WIDTH, 2 * MARGIN + ROW * max(1, len(shown)), parts)


def grid(groups: Sequence[Json], unknown: str = "unknown") -> str:
    """Pass rates of two settings: a row for each value of the first, a column for each of the second."""
    cells = {(_named(group["values"][0], unknown), _named(group["values"][1], unknown)): group for group in groups}
    rows = list(dict.fromkeys(row for row, _ in cells))[:MAX_SIDE]
    columns = list(dict.fromkeys(column for _, column in cells))[:MAX_SIDE]
    width, height, head = (WIDTH - LABEL) / max(1, len(columns)), 34, 30
    parts = [
        _text(LABEL + (at + 0.5) * width, head - 10, _cut(name, MAX_LABEL_OF_GRID), "middle", title=name)
        for at, name in enumerate(columns)
    ]
    for down, row in enumerate(rows):
        top = head + down * height
        parts.append(_text(LABEL - 8, top + height / 2 + 4, _cut(row, MAX_LABEL), "end", title=row))
        for at, column in enumerate(columns):
            group = cells.get((row, column))
            if group is None or not group["judged"]:
                continue
            rate, opacity = group["pass_rate"], 0.15 + 0.75 * group["pass_rate"]["share"]
            left = LABEL + at * width
            fill = BAR if group["enough"] else SOFT
            parts += [
                f'<rect x="{left + 1:.1f}" y="{top + 1}" width="{width - 2:.1f}" height="{height - 2}" rx="3" '
                f'fill="{fill}" opacity="{opacity:.2f}"/>',
                _text(left + width / 2, top + height / 2 + 4, f"{rate['share']:.0%} ({group['judged']})", "middle"),
            ]
    return _svg(WIDTH, head + height * max(1, len(rows)) + MARGIN, parts)


def over_time(days: Sequence[Json]) -> str:
    """The pass rate of each day as a line in its interval."""
    shown = [day for day in days if day["judged"]]
    height, space = 140, WIDTH - 60
    parts = [_text(40, 16 + part * (height - 20), f"{1 - part:.0%}", "end") for part in (0.0, 0.5, 1.0)]
    if shown:
        step = space / max(1, len(shown) - 1)
        upper = [(50 + at * step, 12 + (1 - day["pass_rate"]["high"]) * (height - 20)) for at, day in enumerate(shown)]
        lower = [(50 + at * step, 12 + (1 - day["pass_rate"]["low"]) * (height - 20)) for at, day in enumerate(shown)]
        line = [(50 + at * step, 12 + (1 - day["pass_rate"]["share"]) * (height - 20)) for at, day in enumerate(shown)]
        parts += [
            f'<polygon points="{_points([*upper, *reversed(lower)])}" fill="{BAR}" opacity="0.18"/>',
            f'<polyline points="{_points(line)}" fill="none" stroke="{BAR}" stroke-width="2"/>',
            *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{BAR}"/>' for x, y in line),
            _text(50, height + 18, str(shown[0]["date"]), "start"),
            _text(50 + space, height + 18, str(shown[-1]["date"]), "end"),
        ]
    return _svg(WIDTH, height + 26, parts)


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _named(value: str | None, unknown: str) -> str:
    return unknown if value is None else value


def _cut(text: str, longest: int) -> str:
    """The end of a name says more than its folder."""
    return text if len(text) <= longest else f"…{text[1 - longest :]}"


def _text(x: float, y: float, text: str, anchor: str, title: str = "") -> str:
    more = f"<title>{_clean(title)}</title>" if title else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{_clean(text)}{more}</text>'


def _clean(text: str) -> str:
    """Text that XML may hold: no control characters, no half characters."""
    return escape("".join(c for c in text if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff"))


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="system-ui, sans-serif" font-size="12" role="img">{"".join(parts)}</svg>'
    )
