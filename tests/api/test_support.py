"""What tests share keeps its promises: no server outlives the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
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
from support.waiting import wait_until
server = Server(Path({folder!r}), Path({folder!r}) / "base", pack=None)
server.start()
print(server.process.pid, server.log.split()[1], flush=True)
{end}
"""


def lives(pid: int) -> bool:
    """Whether that process runs; one that ended and that nobody has collected yet does not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("end", ["raise RuntimeError('a teardown failed')", "sys.exit()", "input()"])
def test_no_server_outlives_the_process_that_started_it(tmp_path: Path, end: str) -> None:
    (tmp_path / "main.py").write_text(SERVES)
    folders = {"scripts": str(ROOT / "scripts"), "tests": str(ROOT / "tests"), "folder": str(tmp_path)}
    command = [sys.executable, "-c", STARTS.format(end=end, **folders)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, text=True) as starter:
        assert starter.stdout is not None
        pids = [int(each) for each in starter.stdout.readline().split()]
        if end == "input()":
            assert len(pids) == 2 and all(map(lives, pids))
            os.kill(starter.pid, signal.SIGINT)
    assert len(pids) == 2
    wait_until(lambda: not any(map(lives, pids)))
