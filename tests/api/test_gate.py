"""The gate of a job without an editor: it refuses rather than judge another picture than the one it was given."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

GATE = Path(__file__).resolve().parents[2] / "example_workflows" / "headless" / "gate.py"


def load_gate() -> Any:
    spec = importlib.util.spec_from_file_location("gate", GATE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate"] = module
    spec.loader.exec_module(module)
    return module


gate = load_gate()


def workflow(loader: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "1": loader,
        "2": {"class_type": "RunflowEvaluateImage", "inputs": {"image": ["1", 0], "judge": "auto"}},
        "3": {"class_type": "RunflowShowVerdict", "inputs": {"evaluation": ["2", 4]}},
        **more,
    }


LOAD_IMAGE = {"class_type": "LoadImage", "inputs": {"image": "old.png"}}
REFERENCE = {
    "2": {"class_type": "RunflowEvaluateImage", "inputs": {"image": ["1", 0], "references": ["4", 0]}},
    "4": {"class_type": "RunflowReferenceImage", "inputs": {"image": ["5", 0], "url": ""}},
    "5": {"class_type": "LoadImage", "inputs": {"image": "reference.png"}},
}


def test_the_image_of_load_image_is_replaced_and_that_of_a_reference_stays() -> None:
    posted = gate.with_image(
        workflow(LOAD_IMAGE, **REFERENCE), gate.image_nodes(workflow(LOAD_IMAGE, **REFERENCE), []), "new.png"
    )
    assert (posted["1"]["inputs"]["image"], posted["5"]["inputs"]["image"]) == ("new.png", "reference.png")


OTHER_LOADERS = {
    "a pack's loader": {"class_type": "Image Load", "inputs": {"image_path": "/data/old.png"}},
    "of the output folder": {"class_type": "LoadImageOutput", "inputs": {"image": "old.png [output]"}},
    "by address": {"class_type": "FetchPicture", "inputs": {"url": "https://example.invalid/old.webp"}},
    "as text": {"class_type": "ETN_LoadImageBase64", "inputs": {"image": "iVBORw0KGgo="}},
    "none at all": {"class_type": "EmptyImage", "inputs": {"width": 64}},
    "a chosen name": {"class_type": "LoadImage", "inputs": {"image": ["9", 0]}},
}


@pytest.mark.parametrize("loader", OTHER_LOADERS.values(), ids=OTHER_LOADERS)
def test_another_loader_is_refused_before_anything_is_queued(tmp_path: Path, loader: dict[str, Any]) -> None:
    (tmp_path / "mine_api.json").write_text(json.dumps(workflow(loader)))
    Image.new("RGB", (8, 8)).save(tmp_path / "new.png")
    command = [sys.executable, str(GATE), "--server", "http://127.0.0.1:9", "--workflow"]
    command += [str(tmp_path / "mine_api.json"), str(tmp_path / "new.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "--node" in done.stderr or "connected to another node" in done.stderr
    assert "not judged" not in done.stdout


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_workflow_is_read_as_any_editor_saves_it(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "mine_api.json").write_text(json.dumps(workflow(LOAD_IMAGE)), encoding)
    assert gate.read_workflow(tmp_path / "mine_api.json") == workflow(LOAD_IMAGE)


@pytest.mark.parametrize(
    "content", [{"nodes": [], "links": []}, {"prompt": workflow(LOAD_IMAGE)}, [], {}, {"1": {"inputs": {}}}, "text"]
)
def test_what_is_no_workflow_of_the_api_is_wrong_usage_and_no_failed_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: Any
) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(content))
    (tmp_path / "new.png").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["gate.py", "--workflow", str(tmp_path / "mine.json"), str(tmp_path / "new.png")])
    assert gate.main() == 2
    assert "Export (API)" in capsys.readouterr().err


def test_several_load_images_with_different_pictures_need_a_name() -> None:
    several = workflow(
        {"class_type": "ImageBatch", "inputs": {"image1": ["6", 0], "image2": ["7", 0]}},
        **{"6": LOAD_IMAGE, "7": {"class_type": "LoadImage", "inputs": {"image": "other.png"}}},
    )
    with pytest.raises(gate.UsageError, match="--node"):
        gate.image_nodes(several, [])
    assert gate.image_nodes(several, ["7"]) == ["7"]


def test_a_node_that_is_named_takes_the_image_whatever_it_is() -> None:
    assert gate.image_nodes(workflow(OTHER_LOADERS["as text"]), ["1"]) == ["1"]
    with pytest.raises(gate.UsageError, match="no node 8"):
        gate.image_nodes(workflow(LOAD_IMAGE), ["8"])


class Proxy(ThreadingHTTPServer):
    """ComfyUI's answers under a path, for whoever brings the token."""

    seen: list[dict[str, str]]


class Answers(BaseHTTPRequestHandler):
    def _answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _handle(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append({**self.headers, "path": self.path})  # type: ignore[attr-defined]
        if self.headers.get("Authorization") != "Bearer secret":
            return self._answer({"error": "who are you"}, 401)
        verdict = {"verdict": "passed", "score": 1.0, "judge": "local", "issues": []}
        history = {"status": {"messages": [], "status_str": "success"}, "outputs": {"3": {"runflow": [verdict]}}}
        answers = {
            "/comfy/object_info/ClipboardPicture": {"ClipboardPicture": {"output": ["IMAGE", "MASK"]}},
            "/comfy/object_info/PrimitiveInt": {"PrimitiveInt": {"output": ["INT"]}},
            "/comfy/upload/image": {"name": "new.png"},
            "/comfy/prompt": {"prompt_id": "p"},
        }
        self._answer(answers.get(self.path, {"p": history}))

    do_GET = do_POST = _handle

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    server = Proxy(("127.0.0.1", 0), Answers)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


NOT_JUDGED = {
    "beside it": ({"6": LOAD_IMAGE}, "6", "LoadImage (6)"),
    "only a reference": (REFERENCE, "5", "LoadImage (5)"),
    "only the prompt": (
        {
            "2": {"class_type": "RunflowEvaluateImage", "inputs": {"image": ["1", 0], "generation_prompt": ["7", 0]}},
            "6": LOAD_IMAGE,
            "7": {"class_type": "Describe", "inputs": {"picture": ["6", 0]}},
        },
        "6",
        "LoadImage (6)",
    ),
    "of one verdict of two": (
        {
            "6": LOAD_IMAGE,
            "7": {"class_type": "RunflowEvaluateImage", "inputs": {"image": ["6", 0]}},
            "8": {"class_type": "RunflowShowVerdict", "inputs": {"evaluation": ["7", 4]}},
        },
        "6",
        "RunflowShowVerdict (3)",
    ),
    "a verdict of before": (
        {
            "2": {"class_type": "RunflowGetEvaluation", "inputs": {"evaluation_ids": "e"}},
        },
        "1",
        "LoadImage (1)",
    ),
}


@pytest.mark.parametrize(("more", "named", "said"), NOT_JUDGED.values(), ids=NOT_JUDGED)
def test_a_named_node_that_is_not_what_is_judged_is_refused_before_anything_is_sent(
    proxy: Proxy, tmp_path: Path, more: dict[str, Any], named: str, said: str
) -> None:
    (tmp_path / "mine_api.json").write_text(json.dumps(workflow(LOAD_IMAGE, **more)))
    Image.new("RGB", (8, 8)).save(tmp_path / "new.png")
    command = [sys.executable, str(GATE), "--server", f"http://127.0.0.1:{proxy.server_port}", "--workflow"]
    command += [str(tmp_path / "mine_api.json"), str(tmp_path / "new.png"), "--node", named]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, proxy.seen) == (2, []), done.stdout + done.stderr
    leading = "no node" if "GetEvaluation" in str(more) else "LoadImage (1)"
    assert said in done.stderr and f"what leads to it: {leading}" in done.stderr


def test_a_named_node_that_gets_its_image_from_another_is_no_loader() -> None:
    scaled = workflow({"class_type": "ImageScale", "inputs": {"image": ["6", 0]}}, **{"6": LOAD_IMAGE})
    with pytest.raises(gate.UsageError, match=r"ImageScale \(1\) is connected"):
        gate.image_nodes(scaled, ["1"])
    assert gate.image_nodes(scaled, ["6"]) == ["6"]


@pytest.mark.parametrize(("token", "code"), [("secret", 0), ("wrong", 3)])
def test_a_proxy_gets_its_path_its_headers_and_its_token(proxy: Proxy, tmp_path: Path, token: str, code: int) -> None:
    (tmp_path / "mine_api.json").write_text(json.dumps(workflow(LOAD_IMAGE)))
    (tmp_path / "token").write_text(f"{token}\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "new.png")
    command = [sys.executable, str(GATE), "--server", f"http://127.0.0.1:{proxy.server_port}", "--prefix", "/comfy/"]
    command += ["--token-file", str(tmp_path / "token"), "--header", "X-Pod: 7"]
    command += ["--workflow", str(tmp_path / "mine_api.json"), str(tmp_path / "new.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert all(each["path"].startswith("/comfy/") and each["X-Pod"] == "7" for each in proxy.seen)
    assert token not in done.stdout + done.stderr


@pytest.mark.parametrize("inputs", [{}, {"frame": ["8", 0]}], ids=["alone", "with a number from another node"])
def test_a_node_that_this_comfyui_says_brings_a_picture_is_refused(
    proxy: Proxy, tmp_path: Path, inputs: dict[str, Any]
) -> None:
    both = {"class_type": "ImageBatch", "inputs": {"image1": ["6", 0], "image2": ["7", 0]}}
    nodes = {
        "6": LOAD_IMAGE,
        "7": {"class_type": "ClipboardPicture", "inputs": inputs},
        "8": {"class_type": "PrimitiveInt", "inputs": {"value": 3}},
    }
    (tmp_path / "mine_api.json").write_text(json.dumps(workflow(both, **nodes)))
    (tmp_path / "token").write_text("secret")
    Image.new("RGB", (8, 8)).save(tmp_path / "new.png")
    command = [sys.executable, str(GATE), "--server", f"http://127.0.0.1:{proxy.server_port}", "--prefix", "comfy"]
    command += ["--token-file", str(tmp_path / "token"), "--workflow", str(tmp_path / "mine_api.json")]
    done = subprocess.run(
        [*command, str(tmp_path / "new.png")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2 and "ClipboardPicture (7)" in done.stderr, done.stdout + done.stderr
    assert not any(each["path"].endswith(("/prompt", "/upload/image")) for each in proxy.seen)
