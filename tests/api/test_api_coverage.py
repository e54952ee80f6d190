"""docs/api-coverage.md names every operation and field of the API, and nothing that does not exist."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from runflow_api.api import models
from runflow_api.cli.commands import COMMANDS
from runflow_api.sandbox.app import _ROUTES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "api-coverage.md").read_text("utf-8")
SECTIONS = {part.partition("\n")[0].strip(): part for part in PAGE.split("\n## ")[1:]}
FIELDS: dict[str, list[str]] = json.loads((Path(__file__).parent / "data" / "api_fields.json").read_text("utf-8"))
"""What the API's reference pages name, by the section of the page that lists it."""
RECORDS = {
    name: kind
    for name, kind in inspect.getmembers(models, inspect.isclass)
    if issubclass(kind, BaseModel) and kind not in (models.Record, BaseModel)
}


def rows(section: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", SECTIONS[section], re.MULTILINE))


def node_ids() -> set[str]:
    """The ids of all nodes, read without importing ComfyUI."""
    sources = [path.read_text("utf-8") for path in (ROOT / "nodes").rglob("*.py")]
    return {found for source in sources for found in re.findall(r'node_id="(\w+)"', source)}


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_every_field_of_the_api_has_a_row(name: str) -> None:
    assert set(rows(name)) == set(FIELDS[name])


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_every_field_of_a_record_is_one_of_the_api(name: str) -> None:
    assert set(RECORDS[name].model_fields) <= set(FIELDS[name])


@pytest.mark.parametrize("name", ["EvaluationRequest", "ReferenceImage"])
def test_everything_that_can_be_submitted_is_in_the_record_that_is_submitted(name: str) -> None:
    assert set(RECORDS[name].model_fields) == set(FIELDS[name])


def test_the_fields_of_feedback_have_a_row() -> None:
    assert set(rows("Feedback")) == {"is_positive", "reason"}


def test_every_operation_has_a_row() -> None:
    shown = SECTIONS["Operations"].replace("{id}", "([^/]+)").replace("…/", "/v1/asset-uploads/([^/]+)/")
    api = [route for route in _ROUTES if route.path.startswith("/v1/")]
    assert [route for route in api if f"{route.method} {route.path}" not in shown] == []


def test_every_embed_can_be_asked_for() -> None:
    assert "`get --embed`" in SECTIONS["Operations"]
    assert "`run --embed`" in SECTIONS["Operations"]


def test_every_node_that_is_named_exists() -> None:
    named = set(re.findall(r"`(Runflow(?!Client)\w+)`", PAGE))
    assert named
    assert named <= node_ids()


def test_every_socket_that_is_named_exists() -> None:
    """After a node's name come names of its inputs and outputs."""
    named = re.findall(r"`(Runflow\w+)` ((?:`\w+`(?:, | or )?)+)", PAGE)
    assert len(named) > 5
    for node, sockets in named:
        source = next(_text(p) for p in (ROOT / "nodes").rglob("*.py") if f'node_id="{node}"' in _text(p))
        shared = _text(ROOT / "nodes" / "_schema.py")
        known = {value for value in _strings(source) | _strings(shared) if re.fullmatch(r"[\w ]+", value)}
        known |= {word for value in known for word in value.split()}
        others = {command.name for command in COMMANDS} | node_ids()
        for socket in re.findall(r"`(\w+)`", sockets):
            assert socket in known | others, (node, socket)


def _text(path: Path) -> str:
    return path.read_text("utf-8")


def _strings(source: str) -> set[str]:
    nodes = ast.walk(ast.parse(source))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_option_that_is_named_exists() -> None:
    commands = {command.name: command for command in COMMANDS}
    used = re.findall(rf"`({'|'.join(commands)}) (--[\w-]+)`", PAGE)
    assert used
    for name, option in used:
        parser = argparse.ArgumentParser(add_help=False)
        commands[name].arguments(parser)
        assert option in parser._option_string_actions, (name, option)
