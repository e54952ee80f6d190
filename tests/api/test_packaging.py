"""What is written in two places is the same in both, and what ships is what was meant to."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import archive
import pytest
import yaml
from PIL import Image

from runflow_api import _version as version
from runflow_api.settings import config, user_settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # mypy brings it along

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
COMFY = PROJECT["tool"]["comfy"]
REPOSITORY = PROJECT["project"]["urls"]["Repository"]
SECURITY = (ROOT / "SECURITY.md").read_text("utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
SHIPPED = archive.files()

# --- one place ----------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_project() -> None:
    assert version.VERSION == PROJECT["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version.VERSION), "the registry takes nothing else"


def test_the_changelog_knows_the_version() -> None:
    released = re.findall(r"^## \[?(\d+\.\d+\.\d+|Unreleased)", CHANGELOG, re.MULTILINE)
    assert version.VERSION in released or released[0] == "Unreleased"


def test_the_version_of_another_project_is_not_taken(tmp_path: Path) -> None:
    other = tmp_path / "pyproject.toml"
    other.write_text('[project]\nname = "something-else"\nversion = "9.9.9"\n')
    with pytest.raises(version.metadata.PackageNotFoundError):
        version.version(other)


def test_the_requirements_are_those_of_the_project() -> None:
    assert PROJECT["project"]["dependencies"] == (ROOT / "requirements.txt").read_text("utf-8").split()


def test_every_address_of_the_repository_is_that_of_the_project() -> None:
    _, owner, name = REPOSITORY.rsplit("/", 2)
    owners: dict[str, set[str]] = {}
    for path in (ROOT / each for each in archive.pack_files(ROOT)):
        if path.suffix in (".md", ".json", ".toml", ".yml", ".yaml", ".py", ".mjs", ".js") and path.is_file():
            for found in re.findall(rf"github(?:usercontent)?\.com/([\w.-]+)/{name}", path.read_text("utf-8")):
                owners.setdefault(found, set()).add(path.name)
    assert set(owners) == {owner}, owners


@pytest.mark.parametrize("path", sorted((ROOT / "example_workflows").glob("*.json")), ids=lambda path: path.stem)
def test_an_example_explains_itself_and_holds_no_secret(path: Path) -> None:
    workflow = json.loads(path.read_text("utf-8"))
    notes = [node for node in workflow["nodes"] if node["type"] in ("Note", "MarkdownNote")]
    assert notes, "an example has a note that says what it is and where the pack comes from"
    assert "rf_live_" not in path.read_text("utf-8")


def test_every_setting_is_documented_with_its_variable_and_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    for name in config.SETTINGS:
        assert f"`{name}`" in page
        assert name not in config.VARIABLES or f"`{config.VARIABLES[name]}`" in page
    assert f"| {config.Config().max_evaluations_per_prompt} |" in page
    assert f"| {config.Config().max_evaluations_per_day} |" in page


def test_every_setting_that_the_page_shows_has_a_name_there() -> None:
    names = json.loads((ROOT / "locales" / "en" / "main.json").read_text("utf-8"))["runflow"]["settings"]["names"]
    assert names.keys() == set(user_settings.CHANGEABLE)


# --- what the registry wants (docs.comfy.org/registry/specifications) ---------------------------------


def test_the_name_is_one_that_the_registry_takes() -> None:
    name = PROJECT["project"]["name"]
    assert re.fullmatch(r"[A-Za-z](?:[-_.]?[A-Za-z0-9])*", name) and len(name) < 100
    assert "comfyui" not in name.lower()


def test_the_registry_gets_all_that_it_shows() -> None:
    assert {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"} <= COMFY.keys()
    assert all(COMFY.values()) and REPOSITORY.startswith("https://github.com/")
    assert "web" not in COMFY, "with WEB_DIRECTORY it would load the page's script twice"
    assert re.fullmatch(r">=\d+\.\d+\.\d+", COMFY["requires-comfyui"])


@pytest.mark.parametrize("which", ["Icon", "Banner"])
def test_a_picture_of_the_registry_has_the_size_it_asks_for(which: str) -> None:
    raw = REPOSITORY.replace("https://github.com", "https://raw.githubusercontent.com") + "/main/"
    assert COMFY[which].startswith(raw)
    with Image.open(ROOT / COMFY[which].removeprefix(raw)) as picture:
        width, height = picture.size
    if which == "Icon":
        assert width == height <= 400
    else:
        assert width * 9 == height * 21


# --- what ships ---------------------------------------------------------------------------------------

TOPS = {
    "__init__.py", "nodes", "runflow_api", "js", "locales", "subgraphs", "example_workflows", "pyproject.toml",
    "requirements.txt", "README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE",
}  # fmt: skip
SUFFIXES = {
    ".py", ".js", ".mjs", ".ts", ".css", ".html", ".json", ".md", ".jpg", ".png", ".webp", ".toml", ".txt", ""
}  # fmt: skip
MOST_BYTES = 4_000_000


def test_the_archive_holds_what_runs_and_nothing_else() -> None:
    assert {name.split("/")[0] for name in SHIPPED} == TOPS
    assert {Path(name).suffix for name in SHIPPED} <= SUFFIXES
    assert not [name for name in SHIPPED if "test" in Path(name).stem or Path(name).name.startswith(".")]
    assert sum((ROOT / name).stat().st_size for name in SHIPPED) < MOST_BYTES


def test_everything_of_the_pack_is_in_the_archive() -> None:
    folders = tuple(f"{top}/" for top in TOPS if (ROOT / top).is_dir())
    ours = {name for name in archive.pack_files(ROOT) if name.startswith(folders) and (ROOT / name).is_file()}
    left_out = {name for name in ours if name.startswith("runflow_api/sandbox/")}
    assert ours - set(SHIPPED) == left_out
    assert left_out, "the sandbox is for development: in the repository and on PyPI"


LOOKED_AT = {
    "runs code that is no file": {"eval", "exec", "compile", "__import__", "runpy", "marshal", "pickle"},
    "runs programs": {"subprocess", "os.system", "os.popen", "pty", "multiprocessing", "pip", "ensurepip"},
    "reads the environment": {"os.environ", "os.getenv", "os.putenv"},
    "opens connections": {"urllib.request", "http.client", "http.server", "socket", "socketserver", "ftplib"},
    "calls the system": {"ctypes", "winreg"},
    "loads modules by name": {"importlib"},
    "unpacks": {"base64.b64decode", "zlib"},
}
EXPLAINED = {
    ("os.environ", "runflow_api/settings/config.py"),
    ("socket", "runflow_api/api/failed_attempts.py"),
    ("http.client", "runflow_api/api/failed_attempts.py"),
    ("urllib.request", "runflow_api/api/failed_attempts.py"),
    ("socket", "runflow_api/api/upload_address.py"),
    ("socket", "runflow_api/model_judge/connection.py"),
    ("importlib", "runflow_api/__init__.py"),
    ("importlib", "runflow_api/bulk/extras.py"),
    ("zlib", "runflow_api/journal/schema.py"),
    ("zlib", "runflow_api/journal/migrations.py"),
    ("ctypes", "runflow_api/_files.py"),
    ("importlib", "runflow_api/_version.py"),
}
"""What a scanner may point at, each explained in SECURITY.md."""


def names_used(tree: ast.AST) -> set[str]:
    """Names called, modules imported, and attributes of modules: ``eval``, ``urllib.request``, ``os.environ``."""
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            used.add(node.func.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Import):
            used |= {name for alias in node.names for name in (alias.name, alias.name.split(".")[0])}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            used |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return used


def test_what_a_scanner_may_point_at_is_explained() -> None:
    looked_at = set().union(*LOOKED_AT.values())
    found = {
        (name, file)
        for file in SHIPPED
        if file.endswith(".py")
        for name in names_used(ast.parse((ROOT / file).read_text("utf-8"))) & looked_at
    }
    assert found == EXPLAINED
    for name, file in EXPLAINED:
        assert any(f"`{name}`" in row and f"`{file}`" in row for row in SECURITY.splitlines()), (name, file)


def test_a_use_of_anything_looked_at_is_found() -> None:
    """The scan above would see each of them, however it is imported."""
    for line, name in {
        "eval('1')": "eval",
        "import subprocess as s": "subprocess",
        "from urllib.request import urlopen": "urllib.request",
        "from urllib import request": "urllib.request",
        "import os\nos.environ['A']": "os.environ",
        "from os import environ": "os.environ",
        "import importlib.util": "importlib",
    }.items():
        assert name in names_used(ast.parse(line)), line


MAKES_CODE_OR_MARKUP = re.compile(r"\beval\(|\bFunction\(|innerHTML|outerHTML|insertAdjacentHTML|document\.write")


def test_the_page_makes_no_code_and_no_markup_from_text() -> None:
    for file in SHIPPED:
        if file.endswith((".js", ".mjs")):
            assert not MAKES_CODE_OR_MARKUP.search((ROOT / file).read_text("utf-8")), file


def test_shipped_python_can_be_shown_by_every_windows_console() -> None:
    """As `comfy-test lint` has it: other signs are written as escapes, and texts for people live in JSON files."""
    found = {
        (file, line)
        for file in SHIPPED
        if file.endswith(".py")
        for line in (ROOT / file).read_text("utf-8").splitlines()
        if line.encode("cp1252", "ignore").decode("cp1252") != line
    }
    assert not found


# --- for those who carry it on ------------------------------------------------------------------------

HAS = {Path(name).as_posix() for name in archive.pack_files(ROOT)}
NAMED = re.compile(r"(?<![\w/.<*-])((?:[\w.-]+/)*[\w-]+\.(?:py|mjs|js|md|json|toml|txt|yml))\b")
NO_FILES = {"config.json", "load_image.json", "main.json", "Node.js"}
"""Two of a user, one of every language, and a program."""


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", ".pre-commit-config.yaml"])
def test_every_file_that_a_page_for_developers_names_exists(page: str) -> None:
    named = set(NAMED.findall((ROOT / page).read_text("utf-8"))) - NO_FILES
    folders = ("", "nodes/", "runflow_api/", "js/", "js/lib/", "scripts/")
    assert named
    assert not [name for name in named if not any(folder + name in HAS for folder in folders)]


def test_the_way_of_an_image_has_at_most_eight_rows_and_names_files_that_exist() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    rows = re.findall(r"^\| \d+ \| (.+?) \|", page, re.MULTILINE)
    assert 0 < len(rows) <= 8
    for name in (
        "nodes/evaluate.py", "nodes/_runtime.py", "evaluation/evaluator.py", "evaluation/bookkeeping.py",
        "journal/journal.py", "evaluation/submission.py", "api/client.py", "api/transport.py", "evaluation/polling.py",
        "evaluation/verdict.py",
    ):  # fmt: skip
        assert any(f"{name}`" in row for row in rows), name
        assert (ROOT / name).is_file() or (ROOT / "runflow_api" / name).is_file(), name


def test_a_report_of_a_bug_asks_for_what_is_needed_to_find_it() -> None:
    forms = [yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")]
    (bug,) = [form for form in forms if form.get("labels") == ["bug"]]
    asked = {part["id"]: part for part in bug["body"] if part["type"] != "markdown"}
    assert "python -m runflow_api doctor" in asked["doctor"]["attributes"]["label"]
    assert {name for name, part in asked.items() if part.get("validations", {}).get("required")} == {
        "what", "doctor", "versions", "workflow",
    }  # fmt: skip


def test_the_checks_run_for_every_push_and_pull_request_on_every_python_that_is_promised() -> None:
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text("utf-8"))
    assert set(flow[True]) == {"push", "pull_request"}, "YAML reads `on` as true"
    matrix = flow["jobs"]["client"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["system"]} == {"ubuntu", "windows", "macos"}
    oldest = re.search(r'^requires-python = ">=(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert oldest and matrix["python"][0] == oldest[1]
    assert "bash .ci/run" in [step.get("run") for step in flow["jobs"]["everything"]["steps"]]


def test_only_a_tag_that_is_the_version_is_published() -> None:
    text = (ROOT / ".github" / "workflows" / "publish.yml").read_text("utf-8")
    flow = yaml.safe_load(text)
    assert flow[True] == {"push": {"tags": ["v*"]}}, "YAML reads `on` as true"
    steps = [step.get("run", step.get("uses", "")) for step in flow["jobs"]["publish"]["steps"]]
    wanted = ("VERSION", ".ci/run", "pip-audit", "publish-node")
    places = [next(n for n, step in enumerate(steps) if part in step) for part in wanted]
    assert places == sorted(places)
