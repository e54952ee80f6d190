"""Where people run ComfyUI: pods, tunnels, proxies and containers. Who is refused is told what to set."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.evaluators import judge, make_evaluator
from support.pictures import picture
from support.process import PACK_FOLDER, copy_pack, free_port
from support.server import ComfyUI

from runflow_api.evaluation.question import Options
from runflow_api.sandbox.app import Sandbox
from runflow_api.settings import key_file

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
SECOND_COPY = f"{PACK_FOLDER}-main"
HOSTS = "my.box, *.proxy.example"
COLLECTED_WITHIN_S = 60
"""It takes a moment; only a collector that does nothing takes so long."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=0.0) as running:
        yield running


@pytest.fixture(scope="module")
def server(
    comfyui_factory: Callable[..., ComfyUI], sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> ComfyUI:
    """What was submitted before it started is to be collected; and somebody has unpacked the pack a second time."""
    base = tmp_path_factory.mktemp("comfyui")
    private = base / "user" / "__runflow_evaluate"
    private.mkdir(parents=True)
    (private / "config.json").write_text('{"collect_at_start": true}')
    evaluator = make_evaluator(sandbox, private)
    judge(evaluator, picture(90), options=Options(wait=False))
    evaluator.close()
    key_file.store(private, sandbox.api_key)
    copy_pack(ROOT, base / "custom_nodes" / SECOND_COPY)
    env = {"RUNFLOW_WEB_HOSTS": HOSTS, "RUNFLOW_BASE_URL": sandbox.url}
    return comfyui_factory(base=base, env=env, args=("--listen", "0.0.0.0", "--multi-user"))


def test_what_was_under_way_is_collected_when_comfyui_starts(server: ComfyUI, sandbox: Sandbox) -> None:
    give_up = time.monotonic() + COLLECTED_WITHIN_S
    while (row := server.request("GET", "/runflow-evaluate/history")["rows"][0])["outcome"] == "open":
        assert time.monotonic() < give_up, server.tail()
        time.sleep(0.1)
    assert (row["outcome"], len(sandbox.bills), len(sandbox.evaluations)) == ("passed", 1, 1)


def test_of_two_copies_of_the_pack_one_is_used_whole_and_the_other_is_named(server: ComfyUI) -> None:
    """Which of them is loaded first depends on the disk."""
    (said,) = [line for line in server.log.splitlines() if "is installed twice" in line]
    used = server.object_info()["RunflowEvaluateImage"]["python_module"].removeprefix("custom_nodes.")
    (other,) = {PACK_FOLDER, SECOND_COPY} - {used}
    folders = server.base / "custom_nodes"
    assert f"{folders / used} is used and {folders / other} is not: remove one of the two" in said
    assert re.search(rf"\(IMPORT FAILED\): {re.escape(str(folders / other))}$", server.log, re.MULTILINE)


def test_users_share_key_and_history_and_only_its_owner_can_import_a_deploy_key(server: ComfyUI) -> None:
    ann, bob = (server.request("POST", "/users", {"username": name}) for name in ("ann", "bob"))
    ask(server.port, "POST", "/settings/Runflow.ApiKey", "rf_key_of_ann_0123456789", Comfy_User=ann)
    seen = {user: ask(server.port, "GET", "settings", Comfy_User=user)[1]["key"] for user in (ann, bob, "nobody")}
    assert [each["importable"] for each in seen.values()] == [True, False, False]
    assert {(each["set"], each["source"]) for each in seen.values()} == {(True, "key file")}
    rows = [ask(server.port, "GET", "history", Comfy_User=user)[1]["rows"] for user in (ann, bob)]
    assert len(rows[0]) == 1 and rows[0] == rows[1]
    assert "of_ann" not in json.dumps(list(seen.values()))


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Status and answer of a route of the pack, or of a whole path; ``headers`` in Python's spelling."""
    where = path if path.startswith("/") else f"/runflow-evaluate/{path}"
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, where, json.dumps(body) if body is not None else None, sent)
        answer = connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw.startswith(b"{") else None
    finally:
        connection.close()


def change(port: int, **headers: str) -> tuple[int, Any]:
    return ask(port, "POST", "settings", {"concurrency": 4}, **headers)


@pytest.mark.parametrize(
    ("host", "allow"),
    [
        ("abc123-8188.pods.example", "abc123-8188.pods.example, or *.pods.example for all names of that kind"),
        ("workstation", "workstation"),
        ("workstation.tail1234.ts.net:8188", "workstation.tail1234.ts.net, or *.tail1234.ts.net"),
        ("proxy.example", "proxy.example"),
    ],
)
def test_a_name_that_is_not_known_is_told_what_to_set(server: ComfyUI, host: str, allow: str) -> None:
    status, answer = ask(server.port, "GET", "status", Host=host)
    assert (status, answer["error"]["code"]) == (403, "HOST_NOT_ALLOWED")
    assert f"set the environment variable RUNFLOW_WEB_HOSTS to {allow}" in answer["error"]["message"]


@pytest.mark.parametrize(
    "host", ["abc123-8188.proxy.example", "ABC.Proxy.Example:443", "my.box:8188", "192.168.1.5", "[::1]"]
)
def test_names_and_kinds_of_names_that_are_set_are_known(server: ComfyUI, host: str) -> None:
    assert ask(server.port, "GET", "status", Host=host)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "my.box", "Origin": "https://my.box"},
        {"Host": "my.box", "Origin": "http://my.box:8080"},  # nginx with Host $host leaves the port out
        {"Host": "my.box:8188", "Origin": "http://my.box:8188"},
        {"Host": "my.box:443", "Origin": "https://my.box"},
        {"Host": "192.168.1.5:8188", "Origin": "https://my.box", "X_Forwarded_Host": "my.box"},
        {"Host": "192.168.1.5:8188", "Origin": "https://a.proxy.example", "Sec_Fetch_Site": "same-origin"},
    ],
)
def test_comfyuis_own_page_is_known_whatever_a_proxy_makes_of_its_name(
    server: ComfyUI, headers: dict[str, str]
) -> None:
    status, answer = change(server.port, **headers)
    assert (status, answer["error"]["code"]) == (403, "THIS_MACHINE_ONLY")  # the page is known, the machine is not
    assert "RUNFLOW_WEB_REMOTE_SETTINGS" in answer["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "my.box:8188", "Origin": "http://my.box:9999"},
        {"Host": "my.box", "Origin": "https://attacker.example"},
        {"Host": "192.168.1.5:8188", "Origin": "https://attacker.example", "Sec_Fetch_Site": "same-origin"},
        {"Host": "192.168.1.5:8188", "Origin": "https://attacker.example", "X_Forwarded_Host": "attacker.example"},
        {"Host": "127.0.0.1:8188", "Origin": "http://127.0.0.1", "Sec_Fetch_Site": "same-site"},
        {"Host": "my.box", "Origin": "null"},
    ],
)
def test_other_pages_are_not(server: ComfyUI, headers: dict[str, str]) -> None:
    status, answer = change(server.port, **headers)
    assert status == 403  # ComfyUI itself refuses some of them, without words
    assert answer is None or answer["error"]["code"] == "OTHER_ORIGIN"


def test_a_visitor_of_a_proxy_that_says_nothing_but_its_name_is_not_this_machine(server: ComfyUI) -> None:
    assert ask(server.port, "GET", "settings")[1]["may_change"] is True
    for headers in ({"Host": "my.box"}, {"Referer": "https://my.box/"}, {"X_Forwarded_Proto": "https"}):
        assert ask(server.port, "GET", "settings", **headers)[1]["may_change"] is False


@pytest.mark.skipif(NGINX is None, reason="needs nginx")
@pytest.mark.parametrize(
    ("prefix", "lines", "status", "code"),
    [
        ("/", "proxy_set_header Host $host;", 403, "THIS_MACHINE_ONLY"),
        ("/", "proxy_set_header Host $http_host;", 403, "THIS_MACHINE_ONLY"),
        ("/tools/comfy/", "proxy_set_header Host $http_host;", 403, "THIS_MACHINE_ONLY"),
        ("/", "", 403, None),  # ComfyUI itself refuses every change then: a workflow cannot be queued either
    ],
)
def test_behind_nginx(server: ComfyUI, tmp_path: Path, prefix: str, lines: str, status: int, code: str | None) -> None:
    with free_port() as port:
        config = tmp_path / "nginx.conf"
        config.write_text(
            f"pid {tmp_path}/pid; error_log {tmp_path}/error; daemon off; master_process off; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;\n"
            f"fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n"
            f"server {{ listen 127.0.0.1:{port};\n"
            f"location {prefix} {{ proxy_pass http://127.0.0.1:{server.port}/; {lines} }} }} }}\n"
        )
        assert NGINX is not None
        nginx = subprocess.Popen([NGINX, "-c", str(config), "-p", str(tmp_path)])
        name = f"my.box:{port}"
        try:
            _wait_for(port, name)
            route = f"{prefix}runflow-evaluate"
            assert ask(port, "GET", f"{route}/status", Host=name)[0] == 200
            answer = ask(port, "POST", f"{route}/settings", {"concurrency": 4}, Host=name, Origin=f"http://{name}")
            assert (answer[0], answer[1] and answer[1]["error"]["code"]) == (status, code)
            shown = ask(port, "GET", f"{route}/settings", Host=name, Referer=f"http://{name}{prefix}")
            assert shown[1]["may_change"] is False
        finally:
            nginx.terminate()
            nginx.wait(60)


def _wait_for(port: int, name: str) -> None:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        try:
            ask(port, "GET", "status", Host=name)
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("nginx does not answer")
