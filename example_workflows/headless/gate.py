"""Run a workflow in a ComfyUI that is already running, and end with its verdict as exit code, for a job or a pipeline.

    python gate.py one.png two.png                      # each in turn in the workflow's Load Image
    python gate.py --workflow mine_api.json             # as it stands, once

The workflow is in ComfyUI's API format (File > Export (API)) and has a Show Verdict behind what is to be judged.
Exit code: 0 every image passed, 1 one failed, 2 wrong usage, 3 nobody judged (an error, a time-out, no verdict).
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import requests

PASSED, FAILED, USAGE, NOT_JUDGED = range(4)
LOOK_EVERY_S = 0.5
ANSWER_WITHIN_S = 30
"""For one request, which ComfyUI answers at once; the run itself may take `--timeout`."""


class NotJudgedError(Exception):
    """The workflow did not come to a verdict; the message says why."""


def main() -> int:
    options = _options()
    try:
        workflow = json.loads(options.workflow.read_text("utf-8"))
    except (OSError, ValueError) as error:
        print(f"{options.workflow}: {error}", file=sys.stderr)
        return USAGE
    codes = [_judged(options, workflow, image) for image in options.images or [None]]
    return NOT_JUDGED if NOT_JUDGED in codes else max(codes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=_file, metavar="IMAGE", help="takes the place of every Load Image's")
    here = Path(__file__).with_name("gate_api.json")
    parser.add_argument("--workflow", type=Path, default=here, metavar="FILE", help=f"default: {here.name}")
    parser.add_argument("--server", default="http://127.0.0.1:8188", metavar="URL", help="ComfyUI (%(default)s)")
    parser.add_argument("--timeout", type=float, default=1800, metavar="S", help="for each run (%(default)s)")
    return parser.parse_args()


def _file(name: str) -> Path:
    if not Path(name).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {name}")
    return Path(name)


def _judged(options: argparse.Namespace, workflow: dict[str, Any], image: Path | None) -> int:
    """Run the workflow, print its verdicts, and give the exit code for them."""
    name = image or options.workflow.name
    try:
        prompt = workflow if image is None else with_image(workflow, upload(options.server, image))
        verdicts = run(options.server, prompt, options.timeout)
    except (NotJudgedError, OSError, requests.RequestException) as error:
        print(f"{name}: not judged: {error}")
        return NOT_JUDGED
    for verdict in verdicts:
        said = [f"{verdict['verdict']} {verdict['score']:.2f} by {verdict['judge']}", *verdict["issues"]]
        print(f"{name}: {'; '.join(said)}")
    return exit_code([verdict["verdict"] for verdict in verdicts])


def exit_code(verdicts: list[str]) -> int:
    if not set(verdicts) <= {"passed", "failed"}:
        return NOT_JUDGED
    return FAILED if "failed" in verdicts else PASSED


def upload(server: str, image: Path) -> str:
    """The name by which Load Image finds it."""
    with image.open("rb") as file:
        answer = requests.post(f"{server}/upload/image", files={"image": file}, timeout=ANSWER_WITHIN_S)
    answer.raise_for_status()
    return str(answer.json()["name"])


def with_image(workflow: dict[str, Any], name: str) -> dict[str, Any]:
    changed = copy.deepcopy(workflow)
    for node in changed.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = name
    return changed


def run(server: str, prompt: dict[str, Any], timeout: float) -> list[dict[str, Any]]:
    """Queue the prompt, wait for its end, and return the verdicts that Show Verdict gave."""
    # Without any client_id ComfyUI 0.3.75 leaves what it has in its cache out of the history.
    posted = {"prompt": prompt, "client_id": uuid.uuid4().hex}
    answer = requests.post(f"{server}/prompt", json=posted, timeout=ANSWER_WITHIN_S)
    if not answer.ok:
        raise NotJudgedError(f"ComfyUI refused the workflow: {answer.text}")
    entry = _ended(server, answer.json()["prompt_id"], timeout)
    for event, data in entry["status"]["messages"]:
        if event == "execution_error":
            raise NotJudgedError(f"{data['node_type']}: {data['exception_message'].strip()}")
    if entry["status"]["status_str"] != "success":
        raise NotJudgedError("the run was cancelled")
    verdicts = list(_verdicts(prompt, entry))
    if not verdicts:
        raise NotJudgedError("no verdict: put Show Verdict behind what is to be judged")
    return verdicts


def _ended(server: str, prompt_id: str, timeout: float) -> dict[str, Any]:
    give_up = time.monotonic() + timeout
    while time.monotonic() < give_up:
        answer = requests.get(f"{server}/history/{prompt_id}", timeout=ANSWER_WITHIN_S)
        answer.raise_for_status()
        if prompt_id in answer.json():
            return answer.json()[prompt_id]
        time.sleep(LOOK_EVERY_S)
    raise NotJudgedError(f"ComfyUI did not end the run within {timeout:g} s; it goes on there")


def _verdicts(prompt: dict[str, Any], entry: dict[str, Any]) -> Any:
    """One for each image. What a node shows in a loop is filed under its clone's id: `meta` has the node's own."""
    for node, output in entry["outputs"].items():
        shown_on = entry.get("meta", {}).get(node, {}).get("display_node", node)
        if prompt.get(shown_on, {}).get("class_type") == "RunflowShowVerdict":
            yield from output.get("runflow", ())


if __name__ == "__main__":
    sys.exit(main())
