"""The Node process that drives Chromium, started once and asked scenario by scenario."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import _environment
from support.server import ComfyUI

from runflow_api.sandbox.app import ScriptedVerdict

HERE = Path(__file__).parent
KEY = "rf_test_sandbox_for_browser_tests"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SCENARIO_S = 900
HELD_S = 3600.0
"""Seconds that Runflow takes to judge, and while it is held back."""
WANTS_VERDICTS = '"judge"\n'
NO_NODE = "The browser tests need Node.js with npm (Debian: apt install nodejs npm)."
NO_CHROMIUM = "The browser tests need Chromium (Debian: apt install chromium), or RUNFLOW_TEST_CHROMIUM with its path."


OLDEST, NEWEST = "oldest", "newest"


def on_frontend(frontend: str) -> tuple[str, ...]:
    """ComfyUI's arguments for that frontend: the one that comes with it, or RUNFLOW_TEST_FRONTEND, or the newest."""
    if frontend == OLDEST:
        return ()
    folder = Path(os.environ.get("RUNFLOW_TEST_FRONTEND") or _environment.frontend())
    if not (folder / "index.html").is_file():
        raise BrowserError(f"RUNFLOW_TEST_FRONTEND: {folder} has no index.html; it is the wheel's folder `static`.")
    return ("--front-end-root", str(folder))


class BrowserError(AssertionError):
    """A scenario failed; the message has its stack, what the console said and where the picture is."""


def missing() -> str:
    """What these tests need and this machine has not, in a sentence; "" when nothing is missing."""
    if not (shutil.which("node") and shutil.which("npm")):
        return NO_NODE
    return "" if chromium() else NO_CHROMIUM


def chromium() -> str | None:
    chosen = os.environ.get("RUNFLOW_TEST_CHROMIUM")
    return chosen or next(filter(None, map(shutil.which, CHROMIUM)), None)


def install() -> None:
    """The packages of the lock file, unless they are there; asks no registry when they are."""
    stamp, lock = HERE / "node_modules" / ".package-lock.json", HERE / "package-lock.json"
    if stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime:
        return
    npm = [shutil.which("npm") or "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(npm, cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BrowserError(f"npm ci failed in tests/browser:\n{done.stderr[-2000:]}")


class Browser:
    def __init__(self, pictures: Path) -> None:
        self._pictures, self._count = pictures, 0
        self._start()

    def _start(self) -> None:
        env = {**os.environ, "RUNFLOW_TEST_CHROMIUM": chromium() or ""}
        command = [shutil.which("node") or "node", "serve.mjs"]
        self._process = subprocess.Popen(
            command, cwd=HERE, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def run(
        self,
        scenario: str,
        url: str,
        renderer: str,
        *,
        given: dict[str, Any] | None = None,
        judge: Callable[[], None] | None = None,
        **more: Any,
    ) -> Any:
        """What the scenario returned; ``fresh=True`` gives it a new page, ``fresh="browser"`` one in a browser
        that never saw the server, ``goes_on=True`` the page as the scenario before left it, ``palette="light"`` the
        light theme. ``judge`` is called when the scenario wants what waits to be judged."""
        self._count += 1
        picture = str(self._pictures / f"{scenario}-{renderer}-{self._count}.png")
        asked = {"scenario": scenario, "url": url, "renderer": renderer, "given": given or {}, **more}
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({**asked, "picture": picture}) + "\n")
        self._process.stdin.flush()
        watchdog = threading.Timer(SCENARIO_S, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        while line == WANTS_VERDICTS:
            if judge:
                judge()
            line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            self._process.kill()
            self.close()
            self._start()  # for the next test
            raise BrowserError(f"The browser's process ended, or {scenario} took more than {SCENARIO_S} s.")
        answer = json.loads(line)
        if not answer["ok"]:
            raise BrowserError(f"{answer['error']}\npicture: {answer['picture']}")
        return answer["found"]

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        assert self._process.stdout
        self._process.stdout.close()


class Play(Protocol):
    """Runs a scenario in a test's renderer, on a server (the one with a key if none is named); the sandbox gives
    these verdicts, in order. ``more`` as ``Browser.run`` takes it."""

    def __call__(self, scenario: str, *verdicts: ScriptedVerdict, on: ComfyUI | None = None, **more: Any) -> Any: ...
