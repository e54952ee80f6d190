"""The documentation keeps its word: links lead somewhere, codes are those of the source, commands run as printed."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import node_pages
import pytest
from support.process import copy_pack

from runflow_api.cli import commands as cli
from runflow_api.cli import sandbox
from runflow_api.sandbox.app import Sandbox
from runflow_api.settings import config

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GUIDE = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
"""What a user reads."""
PAGES = sorted({*GUIDE, *ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("example_workflows/**/*.md")})
TROUBLESHOOTING = DOCS / "troubleshooting.md"
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
ids = {"ids": lambda page: page.relative_to(ROOT).as_posix()}


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def prose_of(page: Path) -> str:
    """The page without its code fences."""
    return FENCE.sub("", text_of(page))


# --- links, anchors, pictures


def links_of(page: Path) -> list[str]:
    """Targets of links and pictures that are not web addresses."""
    targets = re.findall(r"\]\(<?([^)>\s]+)>?(?: \"[^\"]*\")?\)", re.sub(r"`[^`\n]*`", "", prose_of(page)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors_of(page: Path) -> set[str]:
    """What GitHub makes of the headings; the second of the same name gets "-1"."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose_of(page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        name = node_pages.anchor(plain)
        found[name if name not in found else f"{name}-{found[name]}"] = found.get(name, 0) + 1
    return set(found)


@pytest.mark.parametrize("page", PAGES, **ids)
def test_every_relative_link_and_anchor_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), f"{page.name}: {link} leads out of the repository"
        assert not anchor or anchor in anchors_of(target), f"{page.name}: {link} names no heading of {target.name}"


def test_every_page_and_picture_is_reached_from_the_readme() -> None:
    seen, to_read = set(), [ROOT / "README.md"]
    while to_read:
        page = to_read.pop()
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links_of(page)} - seen
        seen |= targets
        to_read += [target for target in targets if target.suffix == ".md"]
    shop_window = set(re.findall(r"docs/(\w+\.png)", text_of(ROOT / "pyproject.toml")))
    wanted = {file for file in DOCS.iterdir() if file.suffix in (".md", ".png") and file.name not in shop_window}
    assert not wanted - seen


def test_the_readme_fits_on_a_screen_and_a_half() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= 80
    assert len(re.findall(r"!\[", text_of(ROOT / "README.md"))) == 1


def test_every_environment_variable_that_is_named_is_read() -> None:
    read = {config.KEY_VARIABLE, *config.VARIABLES.values()}
    named = {page.name: set(re.findall(r"\bRUNFLOW_[A-Z_]+[A-Z]", text_of(page))) - all_codes() for page in GUIDE}
    assert {page: names - read for page, names in named.items() if names - read} == {}
    assert len(set().union(*named.values())) > 5


# --- the nodes


def test_the_page_of_the_nodes_is_in_step_with_the_help_pages() -> None:
    assert text_of(node_pages.PAGE) == node_pages.render(), "run: python scripts/node_pages.py"


def test_every_node_is_on_the_page() -> None:
    grouped = {node for nodes in node_pages.GROUPS.values() for node in nodes}
    assert grouped | node_pages.INTERNAL == {page.parent.name for page in node_pages.HELP.glob("*/en.md")}


@pytest.mark.parametrize("page", sorted(node_pages.HELP.glob("*/en.md")), ids=lambda page: page.parent.name)
def test_a_help_page_calls_inputs_and_outputs_by_their_names(page: Path) -> None:
    texts = json.loads(text_of(node_pages.TEXTS))
    names = {name for node in texts.values() for name in (*node.get("inputs", {}), *_outputs(node))}
    own = {*texts[page.parent.name].get("inputs", {}), *_outputs(texts[page.parent.name])}
    said = set(re.findall(r"`([a-z_]+)`", text_of(page)))
    assert said <= names, said - names
    assert text_of(page).startswith(f"# {texts[page.parent.name]['display_name']}\n")
    assert said & own or page.parent.name in {"RunflowShowVerdict", *node_pages.INTERNAL}, "no name of its own"


def _outputs(node: dict[str, dict[str, dict[str, str]]]) -> list[str]:
    return [output["name"] for output in node.get("outputs", {}).values()]


# --- error messages


def _source() -> Iterator[tuple[Path, ast.AST]]:
    for folder in ("runflow_api", "nodes"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(text_of(path))):
                yield path, node


def _text(node: ast.AST | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _codes(path: Path, node: ast.AST) -> Iterator[str]:
    """The codes that this place of the source gives to an error."""
    is_practice = path.parent.name == "sandbox"
    if isinstance(node, ast.ClassDef):
        for line in node.body:
            if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "code":
                yield _text(line.value)
    elif isinstance(node, ast.Call):
        if getattr(node.func, "id", "") == "Refused":
            yield _text(node.args[1])
        if not is_practice:
            yield from (_text(each.value) for each in node.keywords if each.arg == "code")
    elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "code":
        yield _text(node.value)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
        first = node.targets[0].elts[0]
        if getattr(first, "id", "") == "code" and isinstance(node.value, ast.Tuple):
            yield _text(node.value.elts[0])
    elif isinstance(node, ast.Constant):
        yield from re.findall(r"^\[([A-Z][A-Z_]+)\]", _text(node))


@cache
def all_codes() -> set[str]:
    """Read when a test asks: every worker imports this file."""
    return {code for path, node in _source() for code in _codes(path, node) if code}


RUNFLOWS_OWN = {"EMAIL_NOT_VERIFIED"}
"""Codes of the API, passed on as they are, that have a part of their own."""


def test_the_codes_are_found_in_the_source() -> None:
    assert {
        "RUN_TIMEOUT",
        "TLS_FAILED",
        "TIMEOUT",
        "PORT_UNAVAILABLE",
        "OTHER_ORIGIN",
        "ATTEMPTS_NOT_KEPT",
    } <= all_codes()


def test_every_code_has_its_part_and_none_is_left_over() -> None:
    parts = re.findall(r"^### ([A-Z_]{4,})$", text_of(TROUBLESHOOTING), re.MULTILINE)
    assert len(parts) == len(set(parts))
    assert set(parts) == all_codes() | RUNFLOWS_OWN


def test_every_part_says_what_it_means_what_it_cost_and_what_to_do() -> None:
    parts = re.split(r"^### ", text_of(TROUBLESHOOTING), flags=re.MULTILINE)[1:]
    of_codes = [part for part in parts if re.match(r"[A-Z_]{4,}\n", part)]
    assert len(of_codes) > 10
    for part in of_codes:
        assert re.findall(r"^- \*\*(\w+)\*\*: \S", part, re.MULTILINE) == ["Means", "Cost", "Do"], part[:40]


def test_the_codes_that_the_sandbox_answers_with_are_on_the_page() -> None:
    source = "".join(text_of(path) for path in (ROOT / "runflow_api" / "sandbox").glob("*.py"))
    answered = set(re.findall(r'(?:\d{3}: |code=)"([A-Z_]{4,})"', source))
    assert "EVALUATION_NOT_FOUND" in answered and "BAD_GATEWAY" in answered
    assert answered <= set(re.findall(r"[A-Z_]{4,}", text_of(TROUBLESHOOTING)))


def test_what_the_page_quotes_is_what_the_source_says() -> None:
    said = " ".join(_text(node) for _, node in _source())
    table = re.search(r"\| the text says \| do \|\n\| --- \| --- \|\n(.*?)\n\n", text_of(TROUBLESHOOTING), re.DOTALL)
    assert table
    rows = [row.split(" | ")[0].strip("| ") for row in table[1].splitlines()]
    quoted = [part for row in rows for part in re.split(r"`\w+:`|…|\d+", row) if len(part.strip()) > 4]
    assert len(quoted) > len(rows) / 2
    for part in quoted:
        assert part.strip() in said, part


def test_the_panels_words_are_quoted_as_they_are() -> None:
    words, page = text_of(ROOT / "locales" / "en" / "main.json"), " ".join(text_of(TROUBLESHOOTING).split())
    no_output = "Will not run: nothing that saves or shows reads it. Add Show Verdict."
    for quote in (no_output, "reused, nothing paid", "local · pixels only"):
        assert f"*{quote}*" in page
        assert f'"{quote}"' in words


# --- commands


class Command(NamedTuple):
    page: str
    line: str


COMMANDS = [
    Command(page.name, line.strip())
    for page in GUIDE
    if page.name != "studio.md"  # tests/api/test_studio.py runs those, in order
    for _, language, block in FENCE.findall(text_of(page))
    for line in block.splitlines()
    if language not in ("json", "python") and line.strip()
]
PROGRAM = "python -m runflow_api "
RUN_ELSEWHERE = {
    "python scripts/demo.py": "tests/graph/test_documentation.py",
    "python scripts/check.py": ".ci/run",
    "python example_workflows/headless/gate.py": "tests/graph/test_documentation.py",
}
"""Commands that need a ComfyUI, and where they run."""
OF_THIS_PACK = [command for command in COMMANDS if command.line.startswith(PROGRAM)]
EXIT = {"evaluate": 1}
"""The photographs of the test are good ones and bad ones."""


def is_run_elsewhere(line: str) -> bool:
    return any(line.startswith(command) for command in RUN_ELSEWHERE)


def test_every_command_is_run_or_is_set_up() -> None:
    set_up = [command for command in COMMANDS if command not in OF_THIS_PACK and not is_run_elsewhere(command.line)]
    assert [command.line.split()[0] for command in set_up] == [
        "git", "pip", "30", r"python_embeded\python.exe", "export", "$env:RUNFLOW_BASE_URL",
    ]  # fmt: skip
    clone, pip, nightly, portable, shell, power_shell = (command.line for command in set_up)
    address = re.search(r'^Repository = "(.+)"$', text_of(ROOT / "pyproject.toml"), re.MULTILINE)
    assert address and clone == f"git clone {address[1]}"
    folder = address[1].rpartition("/")[2]
    assert pip == f"pip install -r {folder}/requirements.txt" and (ROOT / "requirements.txt").is_file()
    assert portable.endswith(rf" -m pip install -r ComfyUI\custom_nodes\{folder}\requirements.txt")
    assert f"{PROGRAM}{nightly.rpartition('/python -m runflow_api ')[2]}" in [command.line for command in OF_THIS_PACK]
    printed = sandbox._instructions(Sandbox(port=sandbox.DEFAULT_PORT))
    assert shell in printed and power_shell in printed


def test_the_commands_that_need_a_comfyui_are_run_where_it_says() -> None:
    for command, place in RUN_ELSEWHERE.items():
        script = command.removeprefix("python ")
        assert (ROOT / script).is_file() and script.removesuffix(".py") in text_of(ROOT / place), command


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack in the `custom_nodes` of a ComfyUI folder that has images of tonight."""
    comfyui = tmp_path_factory.mktemp("docs") / "ComfyUI"
    (comfyui / "user").mkdir(parents=True)
    (comfyui / "output" / "tonight").mkdir(parents=True)
    for photo in (ROOT / "example_workflows" / "photos").glob("coffee*.jpg"):
        shutil.copy2(photo, comfyui / "output" / "tonight")
    pack = comfyui / "custom_nodes" / ROOT.name
    copy_pack(ROOT, pack)
    return pack


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with a home of its own, and the sandbox as the API."""
    home = {name: str(tmp_path / "home") for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE")}
    with Sandbox(latency=0.05) as running:
        yield {**os.environ, **home, "RUNFLOW_BASE_URL": running.url, "RUNFLOW_API_KEY": running.api_key}


@pytest.mark.parametrize("command", OF_THIS_PACK, ids=lambda command: f"{command.page}: {command.line}")
@pytest.mark.slow
def test_a_command_runs_as_printed(command: Command, pack: Path, surroundings: dict[str, str]) -> None:
    words = [sys.executable, *shlex.split(command.line)[1:]]
    name = words[3]
    if name == "sandbox":
        return _serves(words, pack, surroundings)
    done = subprocess.run(words, cwd=pack, env=surroundings, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT.get(name, 0), done.stderr
    if "--report" in words:
        assert (pack / words[words.index("--report") + 1]).read_text("utf-8").count("<img") == 2


def _serves(words: list[str], pack: Path, env: dict[str, str]) -> None:
    """It greets and ends at Ctrl-C. On a free port: the usual one may be somebody's."""
    process = subprocess.Popen([*words, "--port", "0"], cwd=pack, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert "sandbox" in process.stdout.readline()
        time.sleep(0.3)
        if os.name == "posix":
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("page", [page for page in GUIDE if PROGRAM in text_of(page)], **ids)
def test_a_page_that_names_a_command_says_how_it_runs_in_an_isolated_python(page: Path) -> None:
    assert "windows-portable" in text_of(page) or "python_embeded" in text_of(page)


@pytest.mark.parametrize("page", GUIDE, **ids)
def test_a_command_named_in_a_sentence_is_one(page: Path) -> None:
    for line in re.findall(r"`python -m runflow_api ([^`…]+)`", prose_of(page)):
        words = line.replace("DIR", ".").replace("FOLDER", ".").split()
        if words != ["COMMAND"]:
            cli.parser().parse_args(words)
