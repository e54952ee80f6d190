"""Run a workflow in a ComfyUI that is already running, and end with its verdict as exit code, for a job or a pipeline.

    python gate.py one.png two.png                      # each in turn in the workflow's Load Image
    python gate.py one.png --node 12                    # in the image of node 12, whatever loader that is
    python gate.py --workflow mine_api.json             # as it stands, once

The workflow is in ComfyUI's API format (File > Export (API)) and has a Show Verdict behind what is to be judged.
Exit code: 0 every image passed, 1 one failed, 2 wrong usage, or a workflow that would judge another image than the one
given, 3 nobody judged (an error, a time-out, no verdict).
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

PASSED, FAILED, USAGE, NOT_JUDGED = range(4)
LOOK_EVERY_S = 0.5
PLAIN = ("STRING", "INT", "FLOAT", "BOOLEAN", "COMBO")
"""What says which picture is loaded, and is no picture."""
ANSWER_WITHIN_S = 30
"""For one request, which ComfyUI answers at once; the run itself may take `--timeout`."""


class UsageError(Exception):
    """What was given is no workflow, or it would judge another image than the one given."""


class NotJudgedError(Exception):
    """The workflow did not come to a verdict; the message says why."""


def main() -> int:
    options = _options()
    try:
        workflow = read_workflow(options.workflow)
        nodes = image_nodes(workflow, options.node) if options.images else []
    except (UsageError, OSError) as error:
        print(f"{options.workflow}: {error}", file=sys.stderr)
        return USAGE
    server = Server(options)
    if options.images and not options.node and (others := other_pictures(server, workflow)):
        print(f"{options.workflow}: {_would_be_judged(others)}", file=sys.stderr)
        return USAGE
    codes = [_judge(server, options, workflow, nodes, image) for image in options.images or [None]]
    return NOT_JUDGED if NOT_JUDGED in codes else max(codes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=_file, metavar="IMAGE", help="takes the place of Load Image's")
    here = Path(__file__).with_name("gate_api.json")
    parser.add_argument("--workflow", type=Path, default=here, metavar="FILE", help=f"default: {here.name}")
    parser.add_argument(
        "--node",
        action="append",
        default=[],
        metavar="ID",
        help="the node whose `image` the images take, again for another; default: every Load Image",
    )
    parser.add_argument("--timeout", type=float, default=1800, metavar="S", help="for each run (%(default)s)")
    server = parser.add_argument_group("where ComfyUI is")
    server.add_argument("--server", default="http://127.0.0.1:8188", metavar="URL", help="ComfyUI (%(default)s)")
    server.add_argument("--prefix", default="", metavar="PATH", help="where a proxy serves it, such as /comfy or /api")
    server.add_argument(
        "--header", action="append", default=[], type=_header, metavar="'NAME: VALUE'", help="sent with every request"
    )
    server.add_argument(
        "--token-file",
        type=_file,
        metavar="FILE",
        help="a file with a token, sent as Authorization: Bearer; not as an argument, which others can read",
    )
    return parser.parse_args()


def _file(name: str) -> Path:
    if not Path(name).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {name}")
    return Path(name)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError("a header is 'Name: value'")
    return name.strip(), value.strip()


class Server:
    """ComfyUI's HTTP API, also behind a proxy that wants a path, headers or a token."""

    def __init__(self, options: argparse.Namespace) -> None:
        prefix = options.prefix.strip("/")
        self._base = options.server.rstrip("/") + (f"/{prefix}" if prefix else "")
        self._session = requests.Session()
        self._session.headers.update(dict(options.header))
        if options.token_file:
            token = options.token_file.read_text("utf-8-sig").strip()
            self._session.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str) -> Any:
        return self._answer(self._session.get(self._base + path, timeout=ANSWER_WITHIN_S))

    def post(self, path: str, **content: Any) -> Any:
        response = self._session.post(self._base + path, timeout=ANSWER_WITHIN_S, **content)
        if path == "/prompt" and response.status_code == 400:
            raise NotJudgedError(f"ComfyUI refused the workflow: {response.text[:500]}")
        return self._answer(response)

    def _answer(self, response: requests.Response) -> Any:
        if not response.ok:
            raise NotJudgedError(f"ComfyUI answered {response.status_code}: {response.text[:500]}")
        try:
            return response.json()
        except ValueError as error:
            raise NotJudgedError(f"{response.url} is not ComfyUI: it answered {response.text[:100]!r}") from error


def read_workflow(file: Path) -> dict[str, Any]:
    """The workflow in ComfyUI's API format, whatever editor saved it. Raises `UsageError` for any other content."""
    try:
        workflow = json.loads(file.read_bytes())  # it sees UTF-8 and UTF-16, with or without a byte order mark
    except (ValueError, RecursionError) as error:
        raise UsageError(f"this is not JSON: {error}") from error
    nodes = workflow.values() if isinstance(workflow, dict) else ()
    if not nodes or not all(isinstance(node, dict) and {"class_type", "inputs"} <= node.keys() for node in nodes):
        raise UsageError("this is not a workflow in ComfyUI's API format: File > Export (API)")
    return workflow


def image_nodes(workflow: dict[str, Any], named: list[str]) -> list[str]:
    """The nodes whose `image` the given image takes. Raises `UsageError` where another image would be judged.

    Only Load Image is known to load what was uploaded. Any other node that brings in a picture would bring the old one,
    and the verdict would be about that. References stay as they are.
    """
    verdicts = [name for name, node in workflow.items() if _is_verdict(node)]
    if not verdicts:
        raise UsageError("there is no Show Verdict: put one behind what is to be judged")
    if named:
        _check_named(workflow, named)
        return _each_verdict_has_one(workflow, verdicts, named)
    needed = _behind_the_verdict(workflow)
    chosen = [name for name in needed if workflow[name]["class_type"] == "LoadImage"]
    others = [f"{workflow[name]['class_type']} ({name})" for name in needed if _brings_an_image(workflow[name])]
    if others:
        raise UsageError(_would_be_judged(others))
    if not chosen:
        raise UsageError("no Load Image leads to Show Verdict: name the node that takes the image with --node")
    if any(isinstance(workflow[name]["inputs"].get("image"), list) for name in chosen):
        raise UsageError("the `image` of Load Image is connected to another node, which would choose the picture")
    if len({workflow[name]["inputs"].get("image") for name in chosen}) > 1:
        raise UsageError(f"there are several Load Image ({', '.join(chosen)}): name the one to use with --node")
    return _each_verdict_has_one(workflow, verdicts, chosen)


def _check_named(workflow: dict[str, Any], named: list[str]) -> None:
    if wrong := [name for name in named if "image" not in workflow.get(name, {}).get("inputs", {})]:
        raise UsageError(f"there is no node {', '.join(wrong)} with an input `image`")
    for name in named:
        if workflow[name]["class_type"] != "LoadImage" and isinstance(workflow[name]["inputs"]["image"], list):
            raise UsageError(f"the `image` of {_called(workflow, [name])} is connected to another node: name that one")
    judged = _judged_images(workflow, [name for name, node in workflow.items() if _is_verdict(node)])
    if apart := [name for name in named if name not in judged]:
        raise UsageError(
            f"{_called(workflow, apart)} does not lead to what Show Verdict judges, so that the old picture would be "
            f"judged under the new name; {_leading(workflow, judged)}"
        )


def _each_verdict_has_one(workflow: dict[str, Any], verdicts: list[str], nodes: list[str]) -> list[str]:
    """The nodes, if each Show Verdict is about one of them: what it says is printed as the given image's verdict."""
    for verdict in verdicts:
        judged = _judged_images(workflow, [verdict])
        if not judged & set(nodes):
            raise UsageError(
                f"{_called(workflow, [verdict])} is not about {_called(workflow, nodes)}, and would judge another "
                f"picture under the new name; {_leading(workflow, judged)}"
            )
    return nodes


def _leading(workflow: dict[str, Any], judged: set[str]) -> str:
    loaders = [name for name in workflow if name in judged and "image" in workflow[name]["inputs"]]
    loaders = [name for name in loaders if not isinstance(workflow[name]["inputs"]["image"], list)]
    return f"what leads to it: {_called(workflow, loaders) or 'no node with an `image` of its own'}"


def _called(workflow: dict[str, Any], names: list[str]) -> str:
    return ", ".join(f"{workflow[name]['class_type']} ({name})" for name in names)


def _is_verdict(node: dict[str, Any]) -> bool:
    return bool(node["class_type"] == "RunflowShowVerdict")


def _would_be_judged(others: list[str]) -> str:
    return (
        f"{', '.join(others)} would go on loading the old picture, and that would be judged. Use Load Image, or name "
        "the node that takes the image with --node"
    )


def other_pictures(server: Server, workflow: dict[str, Any]) -> list[str]:
    """What brings a picture out of nowhere, as this ComfyUI knows its nodes: of a clipboard, a camera, a folder.

    What it does not know is not named: the run will say so.
    """
    found = []
    for name in _behind_the_verdict(workflow):
        kind, links = workflow[name]["class_type"], _links(workflow[name])
        if kind.startswith(("LoadImage", "Empty")):
            continue
        given = [_outputs(server, workflow[source]["class_type"])[slot : slot + 1] for source, slot in links
                 if source in workflow]  # fmt: skip
        if len(given) == len(links) and all(each and each[0] in PLAIN for each in given):
            found += [f"{kind} ({name})"] if "IMAGE" in _outputs(server, kind) else []
    return found


def _outputs(server: Server, kind: str) -> list[Any]:
    """The types of a node's outputs as this ComfyUI tells them; none if it does not."""
    try:
        return list(server.get(f"/object_info/{quote(kind, safe='')}")[kind]["output"])
    except (NotJudgedError, OSError, requests.RequestException, LookupError, TypeError):
        return []


def _links(node: dict[str, Any]) -> list[tuple[str, int]]:
    given = [value for value in node["inputs"].values() if isinstance(value, list) and len(value) == 2]
    return [(str(source), slot) for source, slot in given if isinstance(slot, int)]


def _behind_the_verdict(workflow: dict[str, Any]) -> list[str]:
    """Every node that what is judged depends on, without the references that it is compared with."""
    return _behind(workflow, [name for name, node in workflow.items() if _is_verdict(node)], {})


def _judged_images(workflow: dict[str, Any], verdicts: list[str]) -> set[str]:
    """What leads to the very pixels that are judged: not what only gives Evaluate a prompt, for example."""
    return set(_behind(workflow, verdicts, {"RunflowEvaluateImage": "image"}))


def _behind(workflow: dict[str, Any], waiting: list[str], only: dict[str, str]) -> list[str]:
    """Those nodes and what they depend on; of the classes in ``only``, what this one input depends on."""
    found: dict[str, None] = {}
    while waiting:
        name = waiting.pop()
        if name in found or name not in workflow or workflow[name]["class_type"] == "RunflowReferenceImage":
            continue
        found[name] = None
        inputs, kind = workflow[name]["inputs"], workflow[name]["class_type"]
        read = [inputs.get(only[kind])] if kind in only else inputs.values()
        waiting += [str(value[0]) for value in read if isinstance(value, list) and value]
    return list(found)


def _brings_an_image(node: dict[str, Any]) -> bool:
    """Whether a node that is not Load Image names a picture itself, by a file, a path or an address."""
    if node["class_type"] in ("LoadImage", "LoadImageMask"):
        return False
    loads = any(word in node["class_type"].lower() for word in ("loadimage", "load image", "imageload", "image load"))
    names = [value for value in node["inputs"].values() if isinstance(value, str)]
    return loads or any(re.search(r"\.(png|jpe?g|webp|avif|gif|bmp|tiff?)$", name, re.IGNORECASE) for name in names)


def _judge(
    server: Server, options: argparse.Namespace, workflow: dict[str, Any], nodes: list[str], image: Path | None
) -> int:
    """Run the workflow, print its verdicts, and give the exit code for them."""
    name = image or options.workflow.name
    try:
        prompt = workflow if image is None else with_image(workflow, nodes, upload(server, image))
        verdicts = run(server, prompt, options.timeout)
    except (NotJudgedError, OSError, requests.RequestException) as error:
        print(f"{name}: not judged: {error}")
        return NOT_JUDGED
    for verdict in verdicts:
        score = "" if verdict["verdict"] == "unknown" else f" {verdict['score']:.2f}"
        print(f"{name}: {'; '.join([verdict['verdict'] + score + ' by ' + verdict['judge'], *verdict['issues']])}")
    return exit_code([verdict["verdict"] for verdict in verdicts])


def exit_code(verdicts: list[str]) -> int:
    if not set(verdicts) <= {"passed", "failed"}:
        return NOT_JUDGED
    return FAILED if "failed" in verdicts else PASSED


def upload(server: Server, image: Path) -> str:
    """The name by which Load Image finds it."""
    with image.open("rb") as file:
        answer = server.post("/upload/image", files={"image": file})
    folder = answer.get("subfolder") or ""
    return f"{folder}/{answer['name']}" if folder else str(answer["name"])


def with_image(workflow: dict[str, Any], nodes: list[str], name: str) -> dict[str, Any]:
    changed = copy.deepcopy(workflow)
    for node in nodes:
        changed[node]["inputs"]["image"] = name
    return changed


def run(server: Server, prompt: dict[str, Any], timeout: float) -> list[dict[str, Any]]:
    """Queue the prompt, wait for its end, and return the verdicts that Show Verdict gave."""
    # Without any client_id ComfyUI 0.3.75 leaves what it has in its cache out of the history.
    answer = server.post("/prompt", json={"prompt": prompt, "client_id": uuid.uuid4().hex})
    entry = _ended(server, answer["prompt_id"], timeout)
    for event, data in entry["status"]["messages"]:
        if event == "execution_error":
            raise NotJudgedError(f"{data['node_type']}: {data['exception_message'].strip()}")
    if entry["status"]["status_str"] != "success":
        raise NotJudgedError("the run was cancelled")
    verdicts = list(_verdicts(prompt, entry))
    if not verdicts:
        raise NotJudgedError("no verdict: put Show Verdict behind what is to be judged")
    return verdicts


def _ended(server: Server, prompt_id: str, timeout: float) -> dict[str, Any]:
    give_up = time.monotonic() + timeout
    while time.monotonic() < give_up:
        history = server.get(f"/history/{prompt_id}")
        if prompt_id in history:
            return history[prompt_id]
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
