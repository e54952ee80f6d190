"""What the pack adds to ComfyUI's start, against an empty V3 pack in the same start."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from measure import HERE, ROOT, median, said, table

STARTS = 5
GOAL_S = 0.15
MARK = "RUNFLOW_BENCHMARK "
HEAVY = {"sqlalchemy", "requests", "pydantic", "PIL", "numpy", "scipy", "urllib3"}


def run(options: Namespace) -> str:
    if options.comfyui is None:
        return "Not measured: no ComfyUI given."
    from support import process

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        process.copy_pack(ROOT, base / "custom_nodes" / process.PACK_FOLDER)
        shutil.copytree(HERE / "nodes" / "second" / "empty_v3", base / "custom_nodes" / "empty_v3")
        starts = [_start(options.comfyui, base, number) for number in range(STARTS + 1)][1:]  # the first one compiles
    ours = [start[process.PACK_FOLDER] for start in starts]
    empty = [start["empty_v3"] for start in starts]
    added = median(a["processor"] - b["processor"] for a, b in zip(ours, empty, strict=True))
    both = {"this pack": ours, "an empty V3 pack": empty}
    rows = [
        [name, *(f"{1e3 * median(each[what] for each in found):.0f}" for what in ("seconds", "processor"))]
        for name, found in both.items()
    ]
    return "\n\n".join(
        [
            f"Medians of {STARTS} starts, both packs in each, compiled before, as timed around ComfyUI's loader. On a "
            "machine that is shared the processor time says more: an import uses nothing else.",
            table(["", "ms", "processor, ms"], rows),
            f"Added: {1e3 * added:.0f} ms of the processor. Goal ≤ {GOAL_S * 1e3:.0f} ms: {said(added <= GOAL_S)}.",
            _imported(ours[-1]["modules"]),
        ]
    )


def _start(comfyui: Path, base: Path, number: int) -> dict[str, Any]:
    """One start; what was printed of each pack."""
    from support import process

    paths = base / "first.yaml"
    folder = (HERE / "nodes" / "first").as_posix()
    paths.write_text(f"first:\n  is_default: true\n  base_path: {folder}\n  custom_nodes: .\n", encoding="utf-8")
    server = process.Server(
        comfyui, base, python=sys.executable, pack=None, args=("--extra-model-paths-config", str(paths))
    )
    server.log_file = base / f"start-{number}.log"
    with server:
        pass
    lines = [line.removeprefix(MARK) for line in server.log.splitlines() if line.startswith(MARK)]
    found = [json.loads(line) for line in lines]
    return {each["pack"]: each for each in found if each["loaded"]}


def _imported(modules: list[str]) -> str:
    """The pack's own modules, and which of the large packages came with them."""
    own = sorted({name.rpartition("runflow_api.")[2] for name in modules if "runflow_api." in name})
    heavy = ", ".join(sorted(HEAVY & set(modules))) or "none"
    ours = f"{len(own)} modules of `runflow_api` ({', '.join(own)})"
    return f"Imported at the start: {ours}; large packages that ComfyUI had not loaded: {heavy}."
