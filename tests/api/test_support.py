"""What tests share keeps its promises: no server outlives the process that started it, and a forked one is like any."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.forking import ForkedProcess, ForkingPython
from support.process import PYTHON_OPTIONS
from support.waiting import AT_MOST_S, wait_until

ROOT = Path(__file__).resolve().parents[2]
IS_LINUX = sys.platform.startswith("linux")
SERVES = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
STARTS = """
import sys
from pathlib import Path
sys.path += [{scripts!r}, {tests!r}]
from support.process import Server
from support.server import ComfyUI
from support.waiting import wait_until
class Forked(Server):
    _run = ComfyUI._run
server = {kind}(Path({folder!r}), Path({folder!r}) / "base", pack=None)
server.start()
print(server.process.pid, server.log.split()[1], flush=True)
{end}
"""
TELLS = """
import atexit, os, sys, time
atexit.register(print, "ended in order")
print(sys.argv, sys.path[0], __file__, os.getcwd(), dict(os.environ), sys.stdin.read())
print([name for name in globals() if not name.startswith("__")], flush=True)
if sys.argv[1] == "stays":
    time.sleep(600)
"""


def lives(pid: int) -> bool:
    """Whether that process runs; one that ended and that nobody has collected yet does not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not IS_LINUX, reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("Server", "raise RuntimeError('a teardown failed')"),
        ("Server", "sys.exit()"),
        ("Server", "input()"),
        ("Forked", "input()"),
    ],
)
def test_no_server_outlives_the_process_that_started_it(tmp_path: Path, kind: str, end: str) -> None:
    (tmp_path / "main.py").write_text(SERVES)
    folders = {"scripts": str(ROOT / "scripts"), "tests": str(ROOT / "tests"), "folder": str(tmp_path)}
    command = [sys.executable, "-c", STARTS.format(kind=kind, end=end, **folders)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, text=True) as starter:
        assert starter.stdout is not None
        pids = [int(each) for each in starter.stdout.readline().split()]
        if end == "input()":
            assert len(pids) == 2 and all(map(lives, pids))
            os.kill(starter.pid, signal.SIGINT)
    assert len(pids) == 2
    wait_until(lambda: not any(map(lives, pids)))


@pytest.mark.slow
@pytest.mark.skipif(not IS_LINUX, reason="elsewhere nothing is forked")
def test_what_is_forked_runs_and_ends_as_what_is_started(tmp_path: Path) -> None:
    (tmp_path / "tells.py").write_text(TELLS)
    env = {"SAYS": "ä", "LC_CTYPE": "C.UTF-8"}

    def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as printed:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": printed, "stderr": printed}
            return subprocess.Popen([sys.executable, *PYTHON_OPTIONS, *command], cwd=tmp_path, env=env, **pipes)

    def outcome(process: subprocess.Popen[bytes] | ForkedProcess, log: Path) -> tuple[int, list[str]]:
        wait_until(lambda: log.exists() and log.read_text().count("\n") > 1)
        if "stays" in log.read_text():
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
        code = process.wait(AT_MOST_S)
        assert not lives(process.pid)
        return code, [line for line in log.read_text().splitlines() if not line.startswith(" ")]

    with ForkingPython(PYTHON_OPTIONS, dict(os.environ)) as forking:
        for how, code in (("ends", 0), ("stays", -signal.SIGINT)):
            command = [str(tmp_path / "tells.py"), how]
            log, log_of_forked = tmp_path / how, tmp_path / f"{how}.forked"
            forked = outcome(forking.start(command, tmp_path, env, log_of_forked), log_of_forked)
            assert forked == outcome(start(command, log), log)
            assert forked[0] == code
            assert forked[1][-1] == "ended in order"
