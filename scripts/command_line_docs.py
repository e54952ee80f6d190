"""Write docs/command-line.md from the commands themselves; a test finds it when the two differ.

python scripts/command_line_docs.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "command-line.md"

HEAD = """# The command line

`python -m runflow_api COMMAND` judges image files with Runflow or locally, without ComfyUI. Run it in the folder of
this pack, with the Python that ComfyUI uses. Results go to standard output, everything else to standard error.

From anywhere else, give the folder: `python path/to/the/pack/runflow_api COMMAND`. The Python of ComfyUI's portable
build for Windows needs that everywhere: `python_embeded\\python.exe
ComfyUI\\custom_nodes\\runflow-evaluate\\runflow_api COMMAND` (a clone's folder is `ComfyUI-Runflow-Evaluate`). If the
pack was installed with pip (`pip install .` in its folder), the same program is `runflow-evaluate COMMAND`.

A file is read in the same way as by ComfyUI's *Load Image*, and its prompt is taken from the saved graph, so that
workflow and command line do not pay for the same picture twice. Newer versions of ComfyUI decode some files, above all
JPEG files, in another way than older ones: a running ComfyUI notes which, and the command line
[does the same](troubleshooting.md#the-same-file-is-paid-in-the-workflow-and-on-the-command-line).

Settings and key come from the environment first. Next comes the private directory (`user/__runflow_evaluate`) of the
ComfyUI whose `custom_nodes` folder contains the pack, or of the one given with `--comfyui DIR`. Without a ComfyUI it is
the user data directory of the platform. The journal, which knows what was paid, is in the user data directory. With
`--comfyui DIR` it is the one of that ComfyUI, so that verdicts of the workflow are reused here, and the other way
round.

| exit code | meaning |
| --- | --- |
"""


def render() -> str:
    """The whole page."""
    from runflow_api.cli.commands import COMMANDS
    from runflow_api.cli.exit_codes import CLOSED_PIPE, MEANINGS, USAGE

    page = HEAD + "".join(f"| {code} | {meaning} |\n" for code, meaning in sorted(MEANINGS.items()))
    for command in COMMANDS:
        codes = ", ".join(map(str, sorted({*command.exits, USAGE, CLOSED_PIPE})))
        page += f"\n## {command.name}\n\n{command.does}\n\nCosts: {command.costs} Exits with {codes}.\n\n"
        page += f"    python -m runflow_api {command.name} {_positionals(command)}".rstrip() + "\n\n"
        page += "\n".join(_table(title, actions) for title, actions in _groups(command))
    return page


def _table(title: str, actions: list[argparse.Action]) -> str:
    rows = "".join(f"| {_names(action)} | {_help(action)} |\n" for action in actions)
    return f"| {title} | what it does |\n| --- | --- |\n{rows}"


def _groups(command: object) -> list[tuple[str, list[argparse.Action]]]:
    """The arguments in groups, as the help shows them."""
    parser = argparse.ArgumentParser(add_help=False)
    command.arguments(parser)  # type: ignore[attr-defined]
    named = [(group.title or "", group._group_actions) for group in parser._action_groups if group._group_actions]
    return [
        ("argument" if title in ("positional arguments", "options", "optional arguments") else title, actions)
        for title, actions in named
    ]


def _actions(command: object) -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    command.arguments(parser)  # type: ignore[attr-defined]
    return parser._actions


def _positionals(command: object) -> str:
    return " ".join(_shown(action) for action in _actions(command) if not action.option_strings)


def _shown(action: argparse.Action) -> str:
    name = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    return f"[{name} ...]" if action.nargs in ("*", "+") else name


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_shown(action)}`".replace("|", "\\|")
    takes_value = action.nargs != 0
    value = str(action.metavar or "\\|".join(map(str, action.choices or ())) or action.dest.upper())
    return f"`{action.option_strings[-1]}{f' {value}' if takes_value else ''}`"


def _help(action: argparse.Action) -> str:
    default = action.default if action.nargs != 0 and action.option_strings else None
    said = (action.help or "").replace("|", "\\|")
    return f"{said} (default: {default})" if default not in (None, "", []) else said


if __name__ == "__main__":
    sys.path.append(str(ROOT))
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render(), "utf-8", newline="\n")
