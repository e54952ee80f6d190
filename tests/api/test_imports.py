"""The direction of imports: every room of the package imports only what stands on a lower floor, and never back."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "runflow_api"
COMFYUI = {"torch", "comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server", "execution", "aiohttp"}
FLOORS = (
    {"cli"},
    {"bulk"},
    {"image_files"},
    {"report", "prompt"},
    {"insight"},
    {"evaluation", "sandbox"},
    {"local_judge", "model_judge"},
    {"api"},
    {"journal", "settings", "images"},
    {"background", "errors", "_files", "_version"},
)
"""From the top down. A room imports from lower floors only: not from beside it, and not from above."""
ENTRANCES = {"__init__", "__main__"}
"""These name the package's public parts, wherever they are."""
LATE = set("evaluation.evaluator evaluation.lookup journal api.client local_judge cli sandbox prompt.price".split())
"""What only a running node needs: ComfyUI starts without it."""


def imported_modules(path: Path, *, whole_file: bool = True) -> Iterator[str]:
    """The absolute name of every module that a file imports; without ``whole_file`` only when it is loaded."""
    tree = ast.parse(path.read_text("utf-8"))
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree) if whole_file else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    """The room of a module of the package, "" for any other: "runflow_api.api.client" is in "api"."""
    parts = module.split(".")
    return parts[1] if parts[0] == "runflow_api" and len(parts) > 1 else ""


FILES = sorted(PACKAGE.rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_stands_below_it(path: Path) -> None:
    room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if room in ENTRANCES:
        return
    rooms = {room_of(module) for module in imported_modules(path)} & set(FLOOR_OF)
    assert {other for other in rooms - {room} if FLOOR_OF[other] <= FLOOR_OF[room]} == set()


def test_every_room_has_its_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - ENTRANCES <= set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_api_package_knows_nothing_of_comfyui(path: Path) -> None:
    assert {module.split(".")[0] for module in imported_modules(path)} & COMFYUI == set()


@pytest.mark.parametrize("path", NODES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nodes_use_relative_imports_of_the_package_only(path: Path) -> None:
    absolute = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Import)]
    assert not {alias.name.split(".")[0] for node in absolute for alias in node.names} & {"runflow_api"}


@pytest.mark.parametrize("path", NODES, ids=lambda path: str(path.relative_to(ROOT)))
def test_comfyui_starts_without_what_only_a_running_node_needs(path: Path) -> None:
    own = {module.removeprefix("runflow_api.") for module in imported_modules(path, whole_file=False)}
    assert {module for module in own if any(f"{module}.".startswith(f"{late}.") for late in LATE)} == set()


def test_the_entry_point_imports_nothing_of_comfyui_before_it_is_called() -> None:
    code = (
        "import runpy, sys; runpy.run_path('__init__.py'); "
        "print(sorted(set(sys.modules) & {'torch', 'comfy', 'nodes'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
