"""The house stays in order: small rooms, short files, few lambdas, and none of the words that were given up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENT, NODES = ROOT / "runflow_api", ROOT / "nodes"
FILES = sorted([*CLIENT.rglob("*.py"), *NODES.rglob("*.py")])

MOST_IN_THE_ROOT = 8
MOST_LINES = 450
MOST_LAMBDAS = 1
"""For 1,000 lines, outside tables of data: what stands in a literal at the top of a module or of a class."""

OLD_MODULES = set("_books _exits _late cards details files keys lettering places preferences request words".split())
OLD_NAMES = set(
    """
    Books noted tidy _forget Patience _endings settled watch look tick within ask Quote Member Address chosen finite
    named follow_up explained _told turn _in_turn _give_back UNTAKEN Judge submitted finished refused rated Desk asked
    _said
    trusted Display waited_for followed _waited _soon note_unknown Place beside made_with Turn Made Known recall let_go
    following Rules Room _Place Work HOPELESS tried is_resend unjudged Refusal Answer shown empty late sink
    """.split()
)


def lines_of(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def named_in(path: Path) -> set[str]:
    """What the file defines for others: classes, functions, constants, and the fields of classes."""
    tree = ast.parse(path.read_text("utf-8"))
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found |= {each.name for each in classes}
    for node in [*tree.body, *(part for each in classes for part in each.body)]:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def lambdas_outside_tables(tree: ast.Module) -> Iterator[ast.Lambda]:
    bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    tables = [
        node.value
        for body in bodies
        for node in body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict | ast.List | ast.Tuple)
    ]
    in_tables = {id(inner) for table in tables for inner in ast.walk(table)}
    return (node for node in ast.walk(tree) if isinstance(node, ast.Lambda) and id(node) not in in_tables)


def test_the_root_of_the_client_is_small() -> None:
    assert len([path for path in CLIENT.iterdir() if path.is_file()]) <= MOST_IN_THE_ROOT


def test_no_file_is_long() -> None:
    long = {path.relative_to(ROOT).as_posix(): lines_of(path) for path in FILES if lines_of(path) > MOST_LINES}
    assert long == {}


@pytest.mark.parametrize("room", [CLIENT, NODES], ids=["runflow_api", "nodes"])
def test_lambdas_are_rare(room: Path) -> None:
    found = {
        f"{path.relative_to(ROOT).as_posix()}:{each.lineno}": None
        for path in sorted(room.rglob("*.py"))
        for each in lambdas_outside_tables(ast.parse(path.read_text("utf-8")))
    }
    lines = sum(map(lines_of, room.rglob("*.py")))
    assert len(found) <= MOST_LAMBDAS * lines / 1_000, sorted(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_word_that_was_given_up_comes_back(path: Path) -> None:
    assert path.stem not in OLD_MODULES
    assert named_in(path) & OLD_NAMES == set()
