"""A real ComfyUI for tests: post a prompt, wait for it, and read what ran, what was cached, what each node sent.

    history = comfyui.run({"1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}}, ...})
    history.outputs["3"]["runflow"]; history.executed; history.cached; history.texts["2"]

Each `ComfyUI` keeps one websocket open from start to end and posts every prompt under its client id, so no event
is missed and nothing has to be subscribed to before a prompt is posted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import _environment

from support.events import Event, EventLog, History
from support.forking import ForkedProcess, ForkingPython
from support.process import PYTHON_OPTIONS, STOP_TIMEOUT, Server, ServerError, environment
from support.waiting import AT_MOST_S, LESS_THAN_ANY_HANG_S

RUN_TIMEOUT = 180  # seconds, as all of these; only a hung prompt takes so long, also on a busy machine
LOOK_INTERVAL = 0.25  # how often a waiting test checks that the server still lives; the end itself is an event


class PromptFailed(RuntimeError):
    """A prompt was refused (`body`: what ComfyUI said) or did not succeed (`history`); the message names nodes."""

    def __init__(self, message: str, history: History | None = None, body: Any = None) -> None:
        super().__init__(message)
        self.history = history
        self.body = body


class ComfyUI(Server):
    """A ComfyUI server of a test, from `start()` (or `with`) to `stop()` or `kill()`; can be started again."""

    events_log: EventLog | None = None

    def start(self) -> None:
        super().start()
        self.client_id = uuid.uuid4().hex
        self.events_log = EventLog(self.url, self.client_id)
        self.events_log.open()

    def _run(self, arguments: list[str], env: dict[str, str]) -> subprocess.Popen[bytes] | ForkedProcess:
        if sys.platform != "linux" or self.python != sys.executable:  # elsewhere these libraries cannot be forked
            return super()._run(arguments, env)
        return forking_python(env["PYTHONPATH"]).start(arguments, self.comfyui, env, self.log_file)

    def stop(self, timeout: float = STOP_TIMEOUT) -> float:
        """End it as Ctrl-C does; how many seconds that took."""
        try:
            return super().stop(timeout)
        finally:
            self._close_events()

    def kill(self) -> None:
        """End it like a crash."""
        try:
            super().kill()
        finally:
            self._close_events()

    def __enter__(self) -> ComfyUI:
        super().__enter__()
        return self

    def _close_events(self) -> None:
        if self.events_log is not None:
            self.events_log.close()

    # Prompts

    def post(self, prompt: dict[str, Any], extra_data: dict[str, Any] | None = None, **fields: Any) -> str:
        """Queue a prompt in API format; its id. PromptFailed with the nodes' errors when ComfyUI refuses it."""
        try:
            return self.queue_prompt(prompt, client_id=self.client_id, extra_data=extra_data or {}, **fields)
        except ServerError as error:
            if error.status != 400:
                raise
            raise PromptFailed(str(error), body=error.body) from None

    def run(self, prompt: dict[str, Any], timeout: float = RUN_TIMEOUT, check: bool = True, **fields: Any) -> History:
        """Queue a prompt and wait for its end. PromptFailed when it did not succeed, unless `check` is false."""
        return self.wait(self.post(prompt, **fields), timeout, check)

    def wait(self, prompt_id: str, timeout: float = RUN_TIMEOUT, check: bool = True) -> History:
        """Wait for the end of a queued prompt; after `timeout` cancel it, so that it holds up nothing after it."""
        assert self.events_log is not None
        give_up = time.monotonic() + timeout
        while (history := self.history(prompt_id)) is None:
            if not self.running:
                raise ServerError(f"ComfyUI ended while it ran a prompt.\n{self.tail()}")
            if time.monotonic() > give_up:
                self.cancel(prompt_id)
                raise TimeoutError(f"The prompt did not end within {timeout} s.\n{self.tail()}")
            self.events_log.wait(lambda: self.ended(prompt_id), min(LOOK_INTERVAL, timeout))
        if check and history.status != "success":
            raise PromptFailed(_failure(history), history)
        return history

    def history(self, prompt_id: str) -> History | None:
        """What a finished prompt did, None while it is queued or running."""
        entry = self.request("GET", f"/history/{prompt_id}").get(prompt_id)
        if entry is None:
            return None
        assert self.events_log is not None
        # Events are sent before or just after the entry is written, but may still be on their way to us.
        self.events_log.wait(lambda: self.ended(prompt_id), AT_MOST_S)
        return History(prompt_id, entry, self.events(prompt_id=prompt_id))

    def ended(self, prompt_id: str) -> bool:
        """Whether the last event of a prompt has come."""
        return any(event.node is None for event in self.events("executing", prompt_id))

    def events(self, kind: str | None = None, prompt_id: str | None = None, node: str | None = None) -> list[Event]:
        """What the websocket heard so far: progress_state, progress_text, executing, executed, status, ..."""
        assert self.events_log is not None
        return self.events_log.select(kind, prompt_id, node)

    def wait_for(
        self, kind: str, prompt_id: str | None = None, node: str | None = None, timeout: float = RUN_TIMEOUT
    ) -> Event:
        """The first such event, waited for if it has not come yet; TimeoutError when it does not come."""
        assert self.events_log is not None
        if not self.events_log.wait(lambda: bool(self.events(kind, prompt_id, node)), timeout):
            raise TimeoutError(f"No {kind} event of node {node} within {timeout} s.\n{self.tail()}")
        return self.events(kind, prompt_id, node)[0]

    def interrupt(self) -> None:
        """What Cancel does in the browser."""
        self.request("POST", "/interrupt")

    def interrupt_at_once(self, prompt_id: str) -> History:
        """Press Cancel, and wait for the end of that prompt: it comes although what the prompt waits for hangs."""
        self.interrupt()
        history = self.wait(prompt_id, timeout=LESS_THAN_ANY_HANG_S, check=False)
        assert history.interrupted
        return history

    def cancel(self, prompt_id: str) -> None:
        """Take that prompt out of the queue, or interrupt it if it is running; others go on."""
        self.request("POST", "/queue", {"delete": [prompt_id]})
        self.request("POST", "/interrupt", {"prompt_id": prompt_id})

    def free(self) -> None:
        """Unload models and drop every cached node result."""
        self.request("POST", "/free", {"unload_models": True, "free_memory": True})

    def object_info(self, node_class: str | None = None) -> dict[str, Any]:
        """The definitions of all nodes, or of that one."""
        info = self.request("GET", f"/object_info/{node_class}" if node_class else "/object_info")
        return info[node_class] if node_class else info

    def queue(self) -> dict[str, list[Any]]:
        """queue_running and queue_pending."""
        return self.request("GET", "/queue")


@cache
def forking_python(python_path: str) -> ForkingPython:
    """The one that imports from there; a second start is fast."""
    return ForkingPython(PYTHON_OPTIONS, environment(sys.executable, {"PYTHONPATH": python_path}))


def checkout() -> Path:
    """The ComfyUI to test against: RUNFLOW_TEST_COMFYUI, otherwise the one that `scripts/check.py` prepared."""
    chosen = os.environ.get("RUNFLOW_TEST_COMFYUI")
    comfyui = Path(chosen) if chosen else _environment.COMFYUI
    if (comfyui / "main.py").exists():
        return comfyui
    if chosen:
        raise ServerError(f"RUNFLOW_TEST_COMFYUI is {chosen}, and there is no ComfyUI (no main.py) in it.")
    raise ServerError("These tests need a real ComfyUI, which is not set up yet: run `python scripts/check.py`.")


def start_comfyui(base: Path, **options: Any) -> ComfyUI:
    """Start a server on this Python; `options` as for `Server`: env, extra_nodes, pack, args."""
    server = ComfyUI(checkout(), base, python=sys.executable, **options)
    try:
        server.start()
    except BaseException:
        server.kill()
        raise
    return server


def _failure(history: History) -> str:
    if history.interrupted:
        return "The prompt was interrupted."
    said = "  node {node_id} {node_type}: {exception_type}: {exception_message}"
    lines = [said.format(**error) + "".join(error["traceback"][-2:]) for error in history.errors]
    return "\n".join(["The prompt failed.", *lines])
