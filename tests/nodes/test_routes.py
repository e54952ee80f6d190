"""The pack's HTTP routes on a real ComfyUI: who may ask, what may change, and that no secret comes out."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import re
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from support.server import ComfyUI
from support.waiting import wait_until

from runflow_api.api.client import RunflowClient, encode_request
from runflow_api.api.models import EvaluationRequest, EvaluationStatus
from runflow_api.journal.journal import Journal, Limits, Request
from runflow_api.sandbox.app import Sandbox, ScriptedVerdict
from runflow_api.settings.config import Config

KEY = "rf_live_sandbox_of_the_route_tests_0a1b"
ROOT = Path(__file__).resolve().parents[2]
READS = ("status", "history", "days", "settings", "panels")
CHANGES = ("settings", "key", "check", "feedback", "panels")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(api_key=KEY, latency=0.0) as running:
        yield running


@pytest.fixture(scope="module")
def server(comfyui_factory: Callable[..., ComfyUI], sandbox: Sandbox) -> ComfyUI:
    """Listens on every address, as people do to use ComfyUI from another machine."""
    return comfyui_factory(env={"RUNFLOW_BASE_URL": sandbox.url}, args=("--listen", "0.0.0.0"))


@pytest.fixture
def private(server: ComfyUI) -> Iterator[Path]:
    """The pack's private folder; settings and key are taken away afterwards."""
    folder = server.base / "user" / "__runflow_evaluate"
    folder.mkdir(exist_ok=True)
    yield folder
    for name in ("config.json", "api_key"):
        (folder / name).unlink(missing_ok=True)


def ask(
    server: ComfyUI, method: str, path: str, body: Any = None, *, address: str = "127.0.0.1", **headers: str
) -> tuple[int, Any]:
    """Status and answer; ``headers`` in Python's spelling (``Sec_Fetch_Site``). ``body`` bytes are sent as they are."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection = http.client.HTTPConnection(address, server.port, timeout=60)
    try:
        connection.request(method, f"/runflow-evaluate/{path}", data, sent)
        answer = connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw[:1] == b"{" else raw
    finally:
        connection.close()


def code(answer: tuple[int, Any]) -> str:
    return str(answer[1]["error"]["code"])


@pytest.mark.parametrize("path", READS)
def test_a_name_rebound_to_this_machine_reads_nothing(server: ComfyUI, path: str) -> None:
    assert ask(server, "GET", path)[0] == 200
    refused = ask(server, "GET", path, Host=f"attacker.example:{server.port}")
    assert (refused[0], code(refused)) == (403, "HOST_NOT_ALLOWED")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8188", "[::1]:8188", "192.168.1.5", "my.box"])
def test_addresses_this_machine_and_configured_names_are_allowed(server: ComfyUI, private: Path, host: str) -> None:
    (private / "config.json").write_text(json.dumps({"web_hosts": ["my.box"]}))
    assert ask(server, "GET", "status", Host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["", "attacker.example", "127.0.0.1.attacker.example", "1.2.3.4.example", "my.box.x", "[::1"]
)
def test_names_that_only_look_allowed_are_not(server: ComfyUI, private: Path, host: str) -> None:
    (private / "config.json").write_text(json.dumps({"web_hosts": ["my.box"]}))
    assert ask(server, "GET", "status", Host=host)[0] in (400, 403)


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_sites_page_changes_nothing(server: ComfyUI, private: Path, path: str, headers: dict[str, str]) -> None:
    answer = ask(server, "POST", path, {"action": "set", "key": KEY}, **headers)
    assert answer[0] == 403
    assert not (private / "api_key").exists()


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"action": "set"}', "text/plain", 415),
        (b"action=set", "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"[" * 5_000, "application/json", 400),
        (b'{"key": "' + b"x" * 20_000 + b'"}', "application/json", 413),
    ],
)
def test_a_change_is_one_small_json_object(server: ComfyUI, body: bytes, kind: str, status: int) -> None:
    assert ask(server, "POST", "key", body, Content_Type=kind)[0] == status


def test_a_key_goes_in_and_does_not_come_out(server: ComfyUI, private: Path, sandbox: Sandbox) -> None:
    status, answer = ask(server, "POST", "key", {"action": "set", "key": f" {KEY}\n"})
    assert (status, answer["key"]["masked"], answer["key"]["source"]) == (200, f"rf_live_…{KEY[-4:]}", "key file")
    assert (private / "api_key").read_text() == f"{KEY}\n"
    assert stat.S_IMODE((private / "api_key").stat().st_mode) == 0o600
    assert ask(server, "GET", "status")[1]["prices"]["standard"] == "0.10"
    checked = ask(server, "POST", "check", {})[1]
    assert Decimal(checked["balance"]) > 0
    answers = [ask(server, "GET", path)[1] for path in READS]
    assert KEY not in json.dumps([answer, checked, answers])
    assert KEY not in server.log
    assert ask(server, "POST", "key", {"action": "remove"})[1]["key"]["set"] is False


@pytest.mark.parametrize("key", ["", "two words", "ключ", "x" * 600, 7, None])
def test_what_can_be_no_key_is_not_kept_and_not_quoted(server: ComfyUI, private: Path, key: Any) -> None:
    status, answer = ask(server, "POST", "key", {"action": "set", "key": key})
    assert status == 400
    assert not (private / "api_key").exists()
    assert not key or str(key) not in json.dumps(answer, ensure_ascii=False)


def test_the_deploy_packs_key_is_offered_and_only_imported_on_request(server: ComfyUI, private: Path) -> None:
    official = server.base / "user" / "default" / "comfy.settings.json"
    official.parent.mkdir(exist_ok=True)
    official.write_text(json.dumps({"Runflow.ApiKey": KEY}))
    try:
        before = ask(server, "GET", "settings")[1]["key"]
        assert (before["set"], before["importable"]) == (False, True)
        assert ask(server, "GET", "status")[1]["judge"] == "local"
        imported = ask(server, "POST", "key", {"action": "import"})[1]["key"]
        assert (imported["set"], imported["importable"]) == (True, False), "what is there is not offered again"
        (private / "api_key").write_text(f"{KEY}_older")
        assert ask(server, "GET", "settings")[1]["key"]["importable"] is True
    finally:
        official.unlink()


def test_another_machine_sees_no_key_and_changes_no_setting(server: ComfyUI, private: Path) -> None:
    (private / "api_key").write_text(KEY)
    params = _own_address()
    shown = ask(server, "GET", "settings", address=params)[1]
    assert shown == {"may_change": False, "key": {"set": True}}
    for path, body in (("key", {"action": "remove"}), ("settings", {"concurrency": 1}), ("check", {})):
        refused = ask(server, "POST", path, body, address=params)
        assert (refused[0], code(refused)) == (403, "THIS_MACHINE_ONLY")
    assert (private / "api_key").exists()
    (private / "config.json").write_text(json.dumps({"web_remote_settings": True}))
    assert ask(server, "POST", "settings", {"concurrency": 1}, address=params)[0] == 200


def _own_address() -> str:
    """This machine's address as others see it; nothing is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = str(probe.getsockname()[0])
        except OSError:
            address = "127.0.0.1"
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    return address


@pytest.mark.parametrize("header", ["X_Forwarded_For", "Forwarded", "X_Real_IP"])
def test_a_proxys_visitors_are_not_this_machine(server: ComfyUI, private: Path, header: str) -> None:
    refused = ask(server, "POST", "key", {"action": "set", "key": KEY}, **{header: "203.0.113.9"})
    assert (refused[0], code(refused)) == (403, "THIS_MACHINE_ONLY")
    assert not (private / "api_key").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "https://attacker.example"},
        {"journal_url": "sqlite:////tmp/x"},
        {"web_hosts": ["attacker.example"]},
        {"web_remote_settings": True},
        {"callback_hosts": ["attacker.example"]},
        {"concurrency": 0},
        {"concurrency": "many"},
        {"max_credits_per_day": -1},
        {"keep_prompts": "perhaps"},
        {"concurrency": 2, "base_url": "x"},
    ],
)
def test_no_request_chooses_a_host_a_path_or_nonsense(server: ComfyUI, private: Path, change: dict[str, Any]) -> None:
    assert ask(server, "POST", "settings", change)[0] == 400
    assert not (private / "config.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"concurrency": 1.5}, "concurrency: 1.5 is not a whole number between 1 and 64. Nothing was saved."),
        ({"concurrency": 65}, "concurrency: 65 is not a whole number between 1 and 64. Nothing was saved."),
        (
            {"max_credits_per_day": "much"},
            "max_credits_per_day: much is not an amount of credits from 0. Nothing was saved.",
        ),
    ],
)
def test_a_refused_setting_is_named_with_its_range(
    server: ComfyUI, private: Path, change: dict[str, Any], said: str
) -> None:
    assert ask(server, "POST", "settings", change)[1]["error"]["message"] == said


def test_a_key_that_the_environments_key_would_hide_is_not_stored(
    comfyui_factory: Callable[..., ComfyUI], tmp_path: Path, sandbox: Sandbox
) -> None:
    env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": KEY}
    with comfyui_factory(base=tmp_path, env=env, args=("--enable-cors-header",)) as running:
        # Without that argument ComfyUI looks at the origin first, and stumbles over one that is none.
        malformed = ask(running, "POST", "key", {"action": "remove"}, Origin="http://[")
        assert (malformed[0], code(malformed)) == (403, "OTHER_ORIGIN")
        for body in ({"action": "set", "key": f"{KEY}_other"}, {"action": "import"}):
            refused = ask(running, "POST", "key", body)
            assert (refused[0], code(refused)) == (409, "KEY_SET_OUTSIDE")
            assert "environment (RUNFLOW_API_KEY)" in refused[1]["error"]["message"]
    assert not (tmp_path / "user" / "__runflow_evaluate" / "api_key").exists()


def test_settings_are_kept_and_go_back_to_the_default(server: ComfyUI, private: Path) -> None:
    ask(server, "POST", "settings", {"max_credits_per_day": 2.5, "keep_thumbnails": False})
    shown = {each["name"]: each for each in ask(server, "GET", "settings")[1]["settings"]}
    assert (shown["max_credits_per_day"]["value"], shown["max_credits_per_day"]["source"]) == (2.5, "config file")
    assert ask(server, "GET", "days")[1]["limits"]["credits"] == 2.5
    ask(server, "POST", "settings", {"max_credits_per_day": None, "keep_thumbnails": None})
    assert json.loads((private / "config.json").read_text()) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files as Linux shows them")
def test_changed_settings_leave_no_connection_to_the_journal_behind(server: ComfyUI, private: Path) -> None:
    def connections() -> int:
        """By their write-ahead logs: SQLite may keep the main file of a closed one open while another holds a lock."""
        assert server.process is not None
        count = 0
        for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                count += os.readlink(link).endswith("journal.sqlite3-wal")
        return count

    ask(server, "GET", "history")
    before = connections()
    assert before > 0
    for concurrency in range(2, 12):
        ask(server, "POST", "settings", {"concurrency": concurrency})
        assert ask(server, "GET", "history")[0] == 200
    wait_until(lambda: connections() <= before)


@pytest.mark.parametrize(
    "name", ["0" * 64, "../api_key", "..%2f..%2fapi_key", "%2e%2e%2fapi_key", "x.webp", "A" * 64, "0" * 5_000]
)
def test_a_thumbnail_is_named_by_a_hash_and_by_nothing_else(server: ComfyUI, private: Path, name: str) -> None:
    (private / "api_key").write_text(KEY)
    status, answer = ask(server, "GET", f"thumbnails/{name}")
    assert status in (204, 404)
    assert KEY.encode() not in (answer if isinstance(answer, bytes) else json.dumps(answer).encode())


def test_history_pages_filters_and_is_bounded(server: ComfyUI, private: Path) -> None:
    price, limits = Decimal("0.10"), Limits(10_000, 10_000)
    with Journal.open(None, private) as journal:
        rows = journal.begin([_ask(f"row {n}", price) for n in range(620)], limits)
        for row, passed in ((rows[1], False), (rows[2], None)):
            ended = {"id": f"e-{row.id}", "overall_passed": passed}
            journal.record_result(row, ended, completed=True, cost="0.10", failure_code=None, duration_s=1.5)
        journal.record_submission(rows[0], "e-first", "org")
        issues = ["x" * 99_999] * 900
        answer = {"id": "e-first", "overall_passed": True, "weighted_pass_rate": 0.9, "top_issues": issues}
        journal.record_result(rows[0], answer, completed=True, cost="0.10", failure_code=None, duration_s=1.5)
    page = ask(server, "GET", "history?limit=100000")[1]
    assert (len(page["rows"]), page["rows"][0]["prompt"]) == (500, "row 619")
    rest = ask(server, "GET", f"history?limit=500&before={page['next']}")[1]
    assert (len(rest["rows"]), rest["next"]) == (120, None)
    (passed,) = ask(server, "GET", "history?outcome=passed")[1]["rows"]
    assert (passed["id"], passed["score"], passed["cost"], passed["seconds"]) == ("e-first", 0.9, "0.10", 1.5)
    assert [row["prompt"] for row in ask(server, "GET", "history?search=row+61")[1]["rows"]][-1] == "row 61"
    detail = ask(server, "GET", "history/e-first")[1]
    assert len(json.dumps(detail)) < 1_000_000
    assert ask(server, "GET", "days?days=2")[1]["days"][-1] | {"date": ""} == {
        "date": "", "evaluations": 620, "judged": 2, "passed": 1, "credits": "62.00",
    }  # fmt: skip


def test_the_history_is_filtered_by_rating_and_by_time(server: ComfyUI, private: Path) -> None:
    with Journal.open(None, private) as journal:
        rows = journal.begin([_ask(f"rated {n}", Decimal("0.10")) for n in range(3)], Limits(10_000, 10_000))
        for row in rows:
            journal.record_submission(row, f"e-rated-{row.id}", "org")
            ended = {"id": f"e-rated-{row.id}", "overall_passed": True}
            journal.record_result(row, ended, completed=True, cost="0.10", failure_code=None, duration_s=1.0)
        journal.record_feedback(f"e-rated-{rows[1].id}", False, "no")

    def prompts(query: str) -> list[str]:
        return [row["prompt"] for row in ask(server, "GET", f"history?search=rated&{query}")[1]["rows"]]

    assert prompts("rating=bad") == ["rated 1"]
    assert prompts("rating=none") == ["rated 2", "rated 0"]
    assert len(prompts(f"since={int(rows[0].created_at)}")) == 3
    assert prompts(f"since={int(rows[0].created_at) + 3600}") == []
    assert prompts("workflow=of-nobody") == []
    assert len(json.loads(ask(server, "GET", "history.json?search=rated&rating=bad")[1])) == 1


def test_what_is_under_way_is_collected_and_costs_nothing(server: ComfyUI, private: Path, sandbox: Sandbox) -> None:
    sandbox.add_verdict(ScriptedVerdict())
    evaluation_id = _submitted(sandbox)
    with Journal.open(None, private) as journal:
        (row,) = journal.begin([_ask("under way", Decimal("0.10"))], Limits(10_000, 10_000))
        journal.record_submission(row, evaluation_id, "org")
    assert ask(server, "GET", "history?search=under+way")[1]["rows"][0]["outcome"] == "open"
    (private / "api_key").write_text(KEY)
    status, answer = ask(server, "POST", "collect", {"id": evaluation_id})
    assert (status, answer["row"]["outcome"]) == (200, "passed")
    assert ask(server, "GET", "history?search=under+way")[1]["rows"][0]["outcome"] == "passed"
    assert ask(server, "POST", "collect", {"id": "nothing"})[0] == 400


def test_the_history_is_saved_whole_and_no_spreadsheet_takes_a_cell_for_a_formula(
    server: ComfyUI, private: Path
) -> None:
    with Journal.open(None, private) as journal:
        asks = [_ask(f'=saved|{n} a "b",\nc', Decimal("0.10")) for n in range(501)]
        journal.begin(asks, Limits(10_000, 10_000))
    status, table = ask(server, "GET", "history.csv?search=%3Dsaved")
    rows = list(csv.reader(io.StringIO(table.decode(), newline="")))
    assert (status, len(rows), rows[0][0]) == (200, 502, "created_at")
    assert dict(zip(rows[0], rows[1], strict=True))["prompt"] == '\'=saved|500 a "b",\nc'
    saved = json.loads(ask(server, "GET", "history.json?search=%3Dsaved&outcome=open")[1])
    assert [row["prompt"] for row in saved] == [f'=saved|{n} a "b",\nc' for n in reversed(range(501))]
    assert code(ask(server, "GET", "history.csv", Host=f"attacker.example:{server.port}")) == "HOST_NOT_ALLOWED"


def judged_by_nobody(method: str = "area") -> dict[str, Any]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "4": {"class_type": "ImageScaleBy", "inputs": {"image": ["1", 0], "upscale_method": method, "scale_by": 1}},
        "2": {"class_type": "RunflowEvaluateImage", "inputs": {"image": ["4", 0], "judge": "local"}},
        "3": {"class_type": "RunflowShowVerdict", "inputs": {"evaluation": ["2", 4]}},
    }


def run_of(server: ComfyUI, workflow: str, prompt: dict[str, Any]) -> str:
    return server.run(prompt, extra_data={"extra_pnginfo": {"workflow": {"id": workflow}}}).prompt_id


def panels(server: ComfyUI, workflow: str) -> dict[str, list[dict[str, Any]]]:
    """The states of each node, newest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for state in ask(server, "GET", f"panels?workflow={workflow}")[1]["panels"]:
        found.setdefault(state["node"], []).append(state)
    return found


def test_what_nodes_showed_is_known_by_what_was_judged(server: ComfyUI) -> None:
    first, other = run_of(server, "w-7", judged_by_nobody()), run_of(server, "w-7", judged_by_nobody("bicubic"))
    shown = panels(server, "w-7")
    assert shown.keys() == {"2", "3"}
    assert [state["prompt"] for state in shown["2"]] == [other, first]
    assert len({state["identity"] for state in shown["2"]}) == 2
    assert {state["phase"] for states in shown.values() for state in states} == {"done"}
    assert shown["3"][0]["verdicts"][0]["judge"] == "local"
    assert panels(server, "of-nobody") == {}


def test_a_page_says_what_a_prompt_is_made_from_and_hears_what_is_known_of_just_that(server: ComfyUI) -> None:
    run_of(server, "w-8", judged_by_nobody())
    run_of(server, "w-8", judged_by_nobody("bicubic"))
    again = run_of(server, "w-8", judged_by_nobody())  # out of ComfyUI's cache: Evaluate sends nothing
    told = {"workflow": "w-8", "prompt": again, "nodes": {"2": "made", "3": "made too"}}
    _, answer = ask(server, "POST", "panels", told)
    assert {(state["node"], state["made_from"]) for state in answer["panels"]} == {("2", "made"), ("3", "made too")}
    newest = panels(server, "w-8")["2"][0]
    assert (newest["prompt"], newest["made_from"]) == (again, "made")
    other = run_of(server, "w-8b", judged_by_nobody())
    told = {"workflow": "w-8b", "prompt": other, "nodes": {"2": "made", "3": "made too"}}
    assert len(ask(server, "POST", "panels", told)[1]["panels"]) == 2, "ComfyUI's cache knows no workflows"
    assert ask(server, "POST", "panels", {"workflow": "", "prompt": ""})[0] == 400


def test_what_nodes_showed_is_private_and_as_long_as_prompts_are_kept_whole(server: ComfyUI, private: Path) -> None:
    run_of(server, "w-9", judged_by_nobody("bilinear"))
    folder = private / "shown"
    wait_until(lambda: any("w-9" in file.read_text() for file in folder.glob("*.json")))
    (file,) = [file for file in folder.glob("*.json") if "w-9" in file.read_text()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_prompts_that_are_not_kept_are_not_in_what_nodes_showed(server: ComfyUI, private: Path) -> None:
    (private / "config.json").write_text(json.dumps({"keep_prompts": False}))
    prompt = judged_by_nobody()
    prompt["2"]["inputs"]["generation_prompt"] = "a secret wish"
    run_of(server, "w-10", prompt)
    folder = private / "shown"
    wait_until(lambda: any("w-10" in file.read_text() for file in folder.glob("*.json")))
    (written,) = [text for text in (file.read_text() for file in folder.glob("*.json")) if "w-10" in text]
    assert "secret wish" not in written
    assert panels(server, "w-10")["3"][0]["verdicts"][0]["judge"] == "local"


def test_the_page_knows_the_shape_of_what_is_sent(server: ComfyUI) -> None:
    """`js/lib/types.d.ts` says what Python sends."""
    run_of(server, "w-11", judged_by_nobody("lanczos"))
    types = (ROOT / "js" / "lib" / "types.d.ts").read_text("utf-8")
    state = panels(server, "w-11")["3"][0]
    for shape, sent in (("PanelState", state), ("Verdict", state["verdicts"][0])):
        body = types.split(f"export interface {shape} {{")[1].split("\n}")[0]
        declared = set(re.findall(r"^  (\w+)\??:", body, re.MULTILINE)) - {"received"}
        assert declared <= sent.keys(), shape


def _ask(prompt: str, price: Decimal) -> Request:
    return Request(prompt, "org:route", price, "standard", "token", generation_prompt=prompt)


@pytest.mark.parametrize("query", ["limit=x", "before=x", "outcome=nonsense", "limit=1e9"])
def test_a_query_that_means_nothing_is_refused(server: ComfyUI, query: str) -> None:
    assert ask(server, "GET", f"history?{query}")[0] == 400


def test_an_unknown_evaluation_is_not_found(server: ComfyUI) -> None:
    assert ask(server, "GET", "history/nothing")[0] == 404


def test_a_rating_reaches_runflow_and_the_journal(server: ComfyUI, private: Path, sandbox: Sandbox) -> None:
    (private / "api_key").write_text(KEY)
    sandbox.add_verdict(ScriptedVerdict())
    made = _submitted(sandbox)
    with Journal.open(None, private) as journal:
        (row,) = journal.begin([_ask("rated", Decimal("0.10"))], Limits(10_000, 10_000))
        journal.record_submission(row, made, "org")
        answer = {"id": made, "status_code": EvaluationStatus.COMPLETED, "overall_passed": True}
        journal.record_result(row, answer, completed=True, cost="0.10", failure_code=None, duration_s=1.0)
    rated = ask(server, "POST", "feedback", {"id": made, "rating": "bad", "reason": "no"})
    assert rated == (200, {"feedback": {"rating": "bad", "reason": "no"}})
    assert sandbox.evaluations[made].feedback["feedback_is_positive"] is False
    assert ask(server, "GET", f"history/{made}")[1]["feedback"] == {"rating": "bad", "reason": "no"}
    ask(server, "POST", "feedback", {"id": made, "rating": "clear"})
    assert ask(server, "GET", f"history/{made}")[1]["feedback"] == {"rating": "none", "reason": ""}


def _submitted(sandbox: Sandbox) -> str:
    client = RunflowClient(Config(api_key=SecretStr(KEY), base_url=sandbox.url))
    try:
        body = EvaluationRequest(generated_image_url="https://example.com/x.png", task_type="image_generation")
        return str(client.submit(encode_request(body), idempotency_key="route-test").id)
    finally:
        client.close()


@pytest.mark.parametrize(
    "body", [{"id": "../x", "rating": "good"}, {"id": "", "rating": "good"}, {"id": "e1", "rating": "maybe"}, {}]
)
def test_a_rating_that_means_nothing_is_refused(server: ComfyUI, private: Path, body: dict[str, Any]) -> None:
    (private / "api_key").write_text(KEY)
    assert ask(server, "POST", "feedback", body)[0] == 400


def test_a_broken_config_file_is_said_and_guards_strictly(server: ComfyUI, private: Path) -> None:
    (private / "config.json").write_text("{")
    answer = ask(server, "GET", "status")
    assert (answer[0], code(answer)) == (400, "INVALID_CONFIGURATION")
    assert ask(server, "GET", "status", Host="attacker.example")[0] == 403
