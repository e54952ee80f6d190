"""Judge the shipped photographs in a real ComfyUI, with no key, no GPU and nothing installed beforehand.

    python scripts/demo.py           # set up once, judge each photograph, print the verdicts
    python scripts/demo.py --open    # and leave the editor open, with the workflow in it

Exit code 0 when every photograph was judged, whatever the verdict; 1 when something did not run.
"""

from __future__ import annotations

import argparse
import copy
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _environment
from _environment import ROOT, say
from support.process import PACK_FOLDER, Server, ServerError
from support.workflows import to_prompt

WORKFLOW = ROOT / "example_workflows" / "first_verdict.json"
PHOTOS = ROOT / "example_workflows" / "photos"
PROMPT_TIMEOUT = 120  # seconds; a local verdict takes less than one
LOOK_INTERVAL = 0.1


def main() -> int:
    options = _options()
    if options.comfyui and not (options.comfyui / "main.py").is_file():
        say(f"--comfyui: {options.comfyui} holds no ComfyUI (no main.py in it).")
        return 2
    sys.stdout.reconfigure(errors="replace")  # a Windows console may lack a character of an issue's text
    python = sys.executable if options.comfyui else _environment.ensure_or_exit()
    comfyui = options.comfyui or _environment.COMFYUI
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that ComfyUI is ended too
    with tempfile.TemporaryDirectory(prefix="runflow-demo-", ignore_cleanup_errors=True) as base:
        try:
            return _demo(Server(comfyui, Path(base), python=python), options.open)
        except ServerError as error:
            say(f"\nThe demo did not run. {error}")
            return 1
        except KeyboardInterrupt:
            return 0 if options.open else 130


def _options() -> argparse.Namespace:
    what = "Judge the shipped photographs in a real ComfyUI, locally: RUNFLOW_ variables are ignored."
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--open", action="store_true", help="leave ComfyUI running and print its address")
    elsewhere = "use this ComfyUI, with the Python that runs the demo, and set nothing up"
    parser.add_argument("--comfyui", type=Path, metavar="DIR", help=elsewhere)
    return parser.parse_args()


def _demo(server: Server, keep_open: bool) -> int:
    say("Starting ComfyUI (5 to 60 seconds) ...")
    with server:
        missing = judge_all(server)
        if keep_open:
            _stay(server)
    return 1 if missing else 0


def judge_all(server: Server) -> int:
    """Run the shipped workflow on each photograph and print its verdict; how many could not be judged."""
    prompt = shipped_prompt(server)
    photos = sorted(PHOTOS.glob("*.jpg"))
    say(f"Judging {len(photos)} photographs with {WORKFLOW.name}; the local judge measures pixels, not content.\n")
    missing = 0
    for photo in photos:
        try:
            say(f"{photo.name:<26}{line_of(run(server, with_photo(prompt, photo.name)))}")
        except ServerError as error:
            say(f"{photo.name:<26}did not run: {error}")
            missing += 1
    say(f"\n{len(photos) - missing} of {len(photos)} judged.")
    return missing


def shipped_prompt(server: Server) -> dict[str, Any]:
    """The shipped workflow as a prompt; ServerError, with the log, when the pack did not load."""
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    try:
        return to_prompt(workflow, server.request("GET", "/object_info"))
    except ValueError as error:
        raise ServerError(f"{error}\n{server.tail()}") from error


def with_photo(prompt: dict[str, Any], name: str) -> dict[str, Any]:
    """The prompt with that photograph in it."""
    changed = copy.deepcopy(prompt)
    for node in changed.values():
        if node["class_type"] == "RunflowExamplePhoto":
            node["inputs"]["photo"] = name
    return changed


def run(server: Server, prompt: dict[str, Any]) -> dict[str, Any]:
    """Queue a prompt, wait for its end, and return its verdict; ServerError when it gave none."""
    entry = _wait(server, server.queue_prompt(prompt))
    for name, data in entry["status"]["messages"]:
        if name == "execution_error":
            raise ServerError(f"{data['node_type']}: {data['exception_message'].strip()}")
    verdicts = [verdict for output in entry["outputs"].values() for verdict in output.get("runflow", [])]
    if not verdicts:
        raise ServerError("the workflow ended without a verdict")
    return verdicts[0]


def _wait(server: Server, prompt_id: str) -> dict[str, Any]:
    give_up = time.monotonic() + PROMPT_TIMEOUT
    while time.monotonic() < give_up:
        history = server.request("GET", f"/history/{prompt_id}")
        if prompt_id in history:
            return history[prompt_id]
        time.sleep(LOOK_INTERVAL)
    raise ServerError(f"no verdict within {PROMPT_TIMEOUT} s\n{server.tail()}")


def line_of(verdict: dict[str, Any]) -> str:
    """Verdict, score, judge and issues in one line."""
    issues = verdict.get("issues") or ""
    lines = issues.splitlines() if isinstance(issues, str) else issues
    score = verdict.get("score")
    shown = "   -" if score is None else f"{score:.2f}"
    return f"{verdict['verdict']:<9}{shown}  {verdict['judge']:<7}{'; '.join(map(str, lines))}".rstrip()


def _stay(server: Server) -> None:
    template = f"?template={WORKFLOW.stem}&source={PACK_FOLDER}"
    say(f"\nThe editor is open at {server.url}/{template}\nPress Ctrl-C to end it.")
    assert server.process is not None
    server.process.wait()


if __name__ == "__main__":
    sys.exit(main())
