"""What is written in two places is the same in both."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runflow_api import config
from runflow_api.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")


def test_the_version_is_one() -> None:
    assert re.findall(r'^version = "(.+)"$', PYPROJECT, re.MULTILINE) == [VERSION]


def test_the_requirements_are_those_of_the_project() -> None:
    (listed,) = re.findall(r"^dependencies = \[\n(.*?)^\]", PYPROJECT, re.MULTILINE | re.DOTALL)
    assert re.findall(r'"(.+)"', listed) == (ROOT / "requirements.txt").read_text("utf-8").split()


def test_every_command_and_file_that_the_readme_names_exists() -> None:
    for script in re.findall(r"^python (\S+\.py)", README, re.MULTILINE):
        assert (ROOT / script).is_file()
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("path", sorted((ROOT / "example_workflows").glob("*.json")), ids=lambda path: path.stem)
def test_an_example_explains_itself_and_holds_no_secret(path: Path) -> None:
    workflow = json.loads(path.read_text("utf-8"))
    notes = [node for node in workflow["nodes"] if node["type"] in ("Note", "MarkdownNote")]
    assert notes, "an example has a note that says what it is and where the pack comes from"
    assert "rf_live_" not in path.read_text("utf-8")


def test_every_setting_is_documented_with_its_variable_and_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    for name, (variable, _) in config._SETTINGS.items():
        assert f"`{name}`" in page
        assert not variable or f"`{variable}`" in page
    assert f"| {config.Config().max_evaluations_per_prompt} |" in page
    assert f"| {config.Config().max_evaluations_per_day} |" in page
