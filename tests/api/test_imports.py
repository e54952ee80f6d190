"""The direction of imports: js → HTTP → nodes → evaluator → client → transport, and never back."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "runflow_api"
COMFYUI = {"torch", "comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server", "execution", "aiohttp"}
FOUNDATION = {"errors", "models", "version"}
JOURNAL = {
    "_migrations",
    "_spool",
    "_journal_trouble",
    "_journal_schema",
    "_journal_rows",
    "_journal_budget",
    "_journal_history",
    "_journal_opening",
}
LEAVES = {
    "config": FOUNDATION,
    "polling": set(),
    "images": FOUNDATION,
    "verdict": FOUNDATION,
    "local_judge": FOUNDATION | {"images"},
    "journal": FOUNDATION | JOURNAL,
    **dict.fromkeys(JOURNAL, FOUNDATION | JOURNAL),
    "errors": set(),
    "models": set(),
    "background": set(),
    "transport": FOUNDATION | {"config"},
    "client": FOUNDATION | {"config", "images", "transport"},
    "request": FOUNDATION | {"config", "images"},
    "details": FOUNDATION,
}


def imported(path: Path) -> set[tuple[int, str]]:
    """(level, first name) of every import in a file, those inside functions too."""
    found: set[tuple[int, str]] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(0, alias.name.split(".")[0]) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            found |= {(node.level, name) for name in names}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_the_api_package_knows_nothing_of_comfyui(path: Path) -> None:
    assert {name for level, name in imported(path) if level == 0} & COMFYUI == set()
    assert {level for level, _ in imported(path)} <= {0, 1}


@pytest.mark.parametrize("module", sorted(LEAVES))
def test_a_leaf_imports_only_what_is_below_it(module: str) -> None:
    siblings = {path.stem for path in PACKAGE.glob("*.py")}
    own = {name for level, name in imported(PACKAGE / f"{module}.py") if level == 1 and name in siblings}
    assert own <= LEAVES[module]


def test_the_path_to_a_verdict_goes_one_way() -> None:
    order = ["transport", "client", "_submission", "evaluator", "follow_up", "cli"]
    for lower, module in enumerate(order):
        own = {name for level, name in imported(PACKAGE / f"{module}.py") if level == 1}
        assert own & set(order[lower + 1 :]) == set(), module


def test_nodes_use_relative_imports_of_the_package_only() -> None:
    for path in (ROOT / "nodes").glob("*.py"):
        assert (0, "runflow_api") not in imported(path), path.name


def test_comfyui_starts_without_what_only_a_running_node_needs() -> None:
    late = {"evaluator", "journal", "follow_up", "views", "client", "local_judge", "cli", "sandbox"}
    for path in (ROOT / "nodes").glob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("runflow_api"):
                module = node.module.partition(".")[2]
                names = {module} if module else {alias.name for alias in node.names}
                assert names & late == set(), f"{path.name}, line {node.lineno}"


def test_the_entry_point_imports_nothing_of_comfyui_before_it_is_called() -> None:
    code = (
        "import runpy, sys; runpy.run_path('__init__.py'); "
        "print(sorted(set(sys.modules) & {'torch', 'comfy', 'nodes'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
