"""What every part of the benchmarks shares: timing in turn, medians, tables, and what machine this is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
for folder in (ROOT, ROOT / "tests", ROOT / "scripts"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

VERSIONS = ("numpy", "pillow", "requests", "urllib3", "pydantic", "sqlalchemy", "torch")


def timed(function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def in_turn(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, A B C A B C …: a machine that slows down does so for all of them."""
    for function in functions.values():
        function()  # the first call pays for caches and lazy imports
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            taken[name].append(timed(function))
    return taken


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def said(condition: bool) -> str:
    return "reached" if condition else "**missed**"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def machine() -> str:
    """Processor, memory, system and versions, without anything that names the machine."""
    cores = f"{os.cpu_count()} cores"
    memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB" if _posix() else ""
    found = [f"{name} {version}" for name in VERSIONS if (version := _version(name))]
    parts = [_processor(), cores, memory, f"{platform.system()} {platform.release().split('-')[0]}"]
    return f"{', '.join(filter(None, parts))}; Python {platform.python_version()}, {', '.join(found)}"


def load() -> str:
    """How busy the machine is with other work, if that can be told."""
    return f"load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"


def _posix() -> bool:
    return hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
