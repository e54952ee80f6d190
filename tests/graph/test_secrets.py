"""The key is nowhere: no route, no history, no log, no saved image, no file but the one that holds it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from support.pictures import picture
from support.prompts import evaluate, load_image, node, show
from support.server import ComfyUI, PromptFailed

from runflow_api import images
from runflow_api.sandbox.app import Fault, Sandbox

KEY = f"rf_test_{uuid.uuid4().hex}"  # written down nowhere
SUBMIT = "/v1/evaluations"
SLOW_NODES = Path(__file__).parent / "slow_nodes"
FILLED_IN = {
    "prompt_id": None,
    "node_class": "RunflowEvaluateImage",
    "file": "comfy.settings.json",
    "id": "Comfy.ColorPalette",
}
PAGES = "?max_items=100&limit=100&offset=0&dir=&type=output&filename=x.png&full_info=true"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=0.1, api_key=KEY) as running:
        yield running


@pytest.fixture(scope="module", params=["environment", "key file"])
def server(comfyui_factory: Callable[..., ComfyUI], sandbox: Sandbox, request, tmp_path_factory) -> ComfyUI:
    """A server that has the key from the environment, and one that has it from the key file."""
    env = {"RUNFLOW_BASE_URL": sandbox.url}
    base = tmp_path_factory.mktemp("secrets")
    if request.param == "environment":
        env["RUNFLOW_API_KEY"] = KEY
    else:
        folder = base / "user" / "__runflow_evaluate"
        folder.mkdir(parents=True, mode=0o700)
        (folder / "api_key").write_text(KEY)
        (folder / "api_key").chmod(0o600)
    return comfyui_factory(base=base, env=env, extra_nodes=(SLOW_NODES,))


@pytest.fixture(scope="module")
def lived(server: ComfyUI, sandbox: Sandbox) -> ComfyUI:
    """The server after a success, a saved image, and errors whose answers repeat the key."""
    server.run({**gate(server, 1), **node("4", "SaveImage", images=["1", 0], filename_prefix="kept")})
    for number, status in enumerate((401, 403, 422, 500), 2):
        body = {"code": "ECHO", "message": f"Bearer {KEY}", "errors": [KEY, {"field": KEY, "message": KEY}]}
        sandbox.add_fault(Fault("POST", SUBMIT, "status", times=None, status=status, body=body))
        with pytest.raises(PromptFailed):
            server.run(gate(server, number))
        sandbox.clear_faults()
    sandbox.add_fault(Fault("GET", "/v1/evaluations/.*", "garbage", times=None, body=f'{{"id": "{KEY}"}}'))
    with pytest.raises(PromptFailed):
        server.run({**gate(server, 9, options=["5", 0]), **node("5", "RunflowEvaluationOptions", timeout_s=2)})
    sandbox.clear_faults()
    return server


def gate(server: ComfyUI, seed: int, **inputs: Any) -> dict[str, Any]:
    name = f"secret-{seed}.png"
    Image.fromarray(images.to_pixels(picture(seed))).save(server.base / "input" / name)
    return {**load_image("1", name), **evaluate("2", ["1", 0], **inputs), **show("3", ["2", 4])}


def routes(server: ComfyUI) -> list[str]:
    listed = server.run(node("9", "TestRoutes")).outputs["9"]["routes"]
    return [line.removeprefix("GET ") for line in listed if line.startswith("GET ")]


def filled_in(server: ComfyUI, path: str) -> str:
    """A path with something plausible in place of each of its variables."""
    known = {**FILLED_IN, "prompt_id": next(iter(server.request("GET", "/history")))}
    return re.sub(r"\{(\w+)[^}]*\}", lambda found: str(known.get(found[1]) or "x"), path)


def test_no_route_of_the_server_tells_the_key(lived: ComfyUI) -> None:
    paths = routes(lived)
    assert {"/history", "/object_info", "/settings", "/prompt"} <= set(paths)
    told = []
    for path in paths:
        if path == "/ws":
            continue
        answer = requests.get(lived.url + filled_in(lived, path) + PAGES, timeout=60)
        if KEY in answer.text or KEY in str(answer.headers):
            told.append(path)
    assert told == []


def test_neither_log_nor_history_nor_any_file_tells_the_key(lived: ComfyUI) -> None:
    assert KEY not in lived.log
    assert KEY not in str(lived.request("GET", "/history"))
    files = [path for path in lived.base.rglob("*") if path.is_file() and path.name != "api_key"]
    assert any(path.name.startswith("kept") for path in files)
    assert any(path.name == "journal.sqlite3" for path in files)
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_errors_that_repeat_the_key_were_shown_without_it(lived: ComfyUI) -> None:
    messages = [str(entry) for entry in lived.request("GET", "/history").values() if "ECHO" in str(entry)]
    assert len(messages) >= 4
    assert all("***" in message for message in messages)


def test_the_private_folder_is_private_and_served_by_no_route(lived: ComfyUI) -> None:
    folder = lived.base / "user" / "__runflow_evaluate"
    assert [path for path in folder.rglob("*") if path.stat().st_mode & 0o077] == []
    for path in ("/userdata/..%2F__runflow_evaluate%2Fjournal.sqlite3", "/userdata/__runflow_evaluate%2Fapi_key"):
        assert requests.get(lived.url + path, timeout=60).status_code >= 400
    for query in ("dir=..%2F__runflow_evaluate&recurse=true", "path=..%2F__runflow_evaluate"):
        assert "journal" not in requests.get(f"{lived.url}/userdata?{query}", timeout=60).text
