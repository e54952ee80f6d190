"""The registry's archive in a clean ComfyUI: it works without a key, without the network, and as any folder."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import archive
import pytest
from support.server import ComfyUI
from support.workflows import to_prompt

FOLDERS = ("ComfyUI-Runflow-Evaluate-0.1.0", "Runflow Evaluate")
"""What people call a folder that they unpacked themselves: with dots, and with a space."""


class Outside:
    """A proxy that lets nobody out and knows who tried: every address but loopback is asked for here."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                caller, _ = self._door.accept()
            except OSError:
                return
            with caller:
                caller.settimeout(5)
                self.asked.append(caller.recv(200))

    def close(self) -> None:
        self._door.close()


@pytest.fixture
def outside() -> Iterator[Outside]:
    proxy = Outside()
    yield proxy
    proxy.close()


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_archive_works_without_key_and_network(
    comfyui_factory: Callable[..., ComfyUI], outside: Outside, tmp_path: Path, folder: str
) -> None:
    pack = tmp_path / "custom_nodes" / folder
    archive.unpack(pack)
    shipped = {path.relative_to(pack) for path in pack.rglob("*")}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), outside.url)

    with comfyui_factory(base=tmp_path, pack=None, env=proxies) as server:
        assert "(IMPORT FAILED)" not in server.log
        example = json.loads((pack / "example_workflows" / "first_verdict.json").read_text("utf-8"))
        history = server.run(to_prompt(example, server.object_info()))
        verdicts = [verdict for output in history.outputs.values() for verdict in output.get("runflow", [])]
        assert verdicts and all(each["judge"] == "local" and each["cost"] in (None, "0") for each in verdicts)
        assert {each["verdict"] for each in verdicts} <= {"passed", "failed"}

        assert "first_verdict" in server.request("GET", "/workflow_templates")[folder]
        script = f"/extensions/{quote(folder)}/runflow.js"
        assert script in server.request("GET", "/extensions")
        if " " in folder:
            assert f"ComfyUI does not serve scripts from a folder named '{folder}'" in server.log
        else:
            with urllib.request.urlopen(server.url + script) as answer:
                assert answer.read() == (pack / "js" / "runflow.js").read_bytes()
            assert "does not serve scripts" not in server.log

        assert not outside.asked
        server.request("POST", "/runflow-evaluate/key", {"action": "set", "key": "rf_test_of_the_archive"})
        server.request("GET", "/runflow-evaluate/status")
        assert b"api.runflow.io:443" in outside.asked[0], "with a key the same trap catches what goes out"

    written = {path.relative_to(pack) for path in pack.rglob("*")} - shipped
    assert not [path for path in written if "__pycache__" not in path.parts], "the pack writes nothing into its folder"
