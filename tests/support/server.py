"""A real ComfyUI for tests: post a prompt, wait for it, and read what ran, what was cached, what each node sent.

    history = comfyui.run({"1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}}, ...})
    history.outputs["3"]["runflow"]; history.executed; history.cached; history.texts["2"]

Each `ComfyUI` keeps one websocket open from start to end and posts every prompt under its client id, so no event
is missed and nothing has to be subscribed to before a prompt is posted.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import _environment
import aiohttp

from support.process import STOP_TIMEOUT, Server, ServerError

RUN_TIMEOUT = 60  # seconds, as all of these
LAST_EVENT_TIMEOUT = 5  # from a prompt's entry in /history to the event that closes it
LOOK_INTERVAL = 0.25  # how often a waiting test checks that the server still lives; the end itself is an event

TEXT_MESSAGE = 3  # BinaryEventTypes.TEXT in ComfyUI's protocol.py


class PromptFailed(RuntimeError):
    """A prompt was refused (`body`: what ComfyUI said) or did not succeed (`history`); the message names nodes."""

    def __init__(self, message: str, history: History | None = None, body: Any = None) -> None:
        super().__init__(message)
        self.history = history
        self.body = body


@dataclass(frozen=True)
class Event:
    """One websocket message. `prompt_id` is its own, or that of the prompt that was running when it came.

    Progress text is `kind` "progress_text" with `data` {"node", "text"}; other binary messages are "binary" with
    {"type", "bytes"}. `at` is `time.monotonic()` at arrival.
    """

    kind: str
    data: dict[str, Any]
    prompt_id: str | None
    at: float

    @property
    def node(self) -> str | None:
        return self.data.get("node")


@dataclass(frozen=True)
class History:
    """What one prompt did, from `/history` and from the events of its run."""

    prompt_id: str
    entry: dict[str, Any]
    events: list[Event] = field(repr=False)

    @property
    def outputs(self) -> dict[str, dict[str, list[Any]]]:
        """`ui` of each node that sent one, by node id; of cached output nodes too: ComfyUI replays theirs."""
        return self.entry["outputs"]

    @property
    def meta(self) -> dict[str, dict[str, Any]]:
        """For each node of `outputs`: display_node (an expanded node shows on another), parent_node, real_node_id."""
        return self.entry.get("meta", {})

    @property
    def status(self) -> str:
        """ "success" or "error"; an interrupted prompt is an error whose `interrupted` is true."""
        return self.entry["status"]["status_str"]

    @property
    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """(event, data) in order: execution_start, execution_cached, execution_success · _error · _interrupted."""
        return [(name, data) for name, data in self.entry["status"]["messages"]]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """node_id, node_type, exception_type, exception_message, traceback, current_inputs of what failed."""
        return self._data_of("execution_error")

    @property
    def interrupted(self) -> bool:
        return bool(self._data_of("execution_interrupted"))

    @property
    def cached(self) -> set[str]:
        """Nodes whose result of an earlier prompt was used."""
        return {node for data in self._data_of("execution_cached") for node in data["nodes"]}

    @cached_property
    def executed(self) -> list[str]:
        """Nodes that ran, in the order of their first start, expanded ones under their own ids. A node that asks
        for a lazy input or is blocked counts as started: ComfyUI announces it before it asks."""
        started = (event.node for event in self.events if event.kind == "executing")
        return list(dict.fromkeys(node for node in started if node is not None))

    @property
    def texts(self) -> dict[str, list[str]]:
        """Every progress text of each node, in order; the last one stays on the node."""
        texts: dict[str, list[str]] = {}
        for event in self.events:
            if event.kind == "progress_text":
                texts.setdefault(event.data["node"], []).append(event.data["text"])
        return texts

    @property
    def blocked(self) -> list[dict[str, Any]]:
        """Outputs blocked with a message; ComfyUI sends these only over the websocket, shaped like errors."""
        sent = (event.data for event in self.events if event.kind == "execution_error")
        return [data for data in sent if data.get("exception_type") == "ExecutionBlocked"]

    def progress(self, node: str) -> list[tuple[float, float]]:
        """(value, max) of that node in every progress_state message, repeats left out."""
        states = (event.data["nodes"].get(node) for event in self.events if event.kind == "progress_state")
        return list(dict.fromkeys((state["value"], state["max"]) for state in states if state))

    def _data_of(self, message: str) -> list[dict[str, Any]]:
        return [data for name, data in self.messages if name == message]


class EventLog:
    """Everything one websocket client heard, recorded by a thread of its own; `wait` wakes at each new event."""

    def __init__(self, url: str, client_id: str) -> None:
        self._url, self._client_id = url, client_id
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._running: str | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._record, name="comfyui-events", daemon=True)

    def open(self) -> None:
        """Connect; returns when the server has greeted this client, from where on no event is missed."""
        self._thread.start()
        if not self.wait(lambda: bool(self._events) or not self._thread.is_alive(), 10) or not self._events:
            raise ServerError("ComfyUI's websocket did not open")

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join()

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until `condition()`, looked at after each event; false after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def select(self, kind: str | None, prompt_id: str | None, node: str | None) -> list[Event]:
        """The events so far of that kind, prompt and node; None is any."""
        wanted = {"kind": kind, "prompt_id": prompt_id, "node": node}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        with self._changed:
            return [event for event in self._events if all(getattr(event, n) == v for n, v in wanted.items())]

    def _record(self) -> None:
        try:
            self._task = self._loop.create_task(self._listen())
            self._loop.run_until_complete(self._task)
        except (asyncio.CancelledError, aiohttp.ClientError):
            pass  # closed by us, or the server is gone: whoever waits sees that on the process
        finally:
            self._loop.close()
            with self._changed:
                self._changed.notify_all()

    async def _listen(self) -> None:
        address = f"{self._url}/ws?clientId={self._client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            async for message in socket:
                self._add(message)

    def _add(self, message: aiohttp.WSMessage) -> None:
        kind, data = _text(message.data) if message.type == aiohttp.WSMsgType.TEXT else _binary(message.data)
        with self._changed:
            if kind == "execution_start":
                self._running = data["prompt_id"]
            self._events.append(Event(kind, data, data.get("prompt_id", self._running), time.monotonic()))
            self._changed.notify_all()


def _text(message: str) -> tuple[str, dict[str, Any]]:
    event = json.loads(message)
    return event["type"], event.get("data") or {}


def _binary(message: bytes) -> tuple[str, dict[str, Any]]:
    """As `send_progress_text` in ComfyUI's server.py writes it: type, length of the node id, node id, text."""
    (kind,) = struct.unpack_from(">I", message)
    if kind != TEXT_MESSAGE:
        return "binary", {"type": kind, "bytes": len(message)}
    (length,) = struct.unpack_from(">I", message, 4)
    node, text = message[8 : 8 + length], message[8 + length :]
    return "progress_text", {"node": node.decode(), "text": text.decode()}


class ComfyUI(Server):
    """A ComfyUI server of a test, from `start()` (or `with`) to `stop()` or `kill()`; can be started again."""

    events_log: EventLog | None = None

    def start(self) -> None:
        super().start()
        self.client_id = uuid.uuid4().hex
        self.events_log = EventLog(self.url, self.client_id)
        self.events_log.open()

    def stop(self, timeout: float = STOP_TIMEOUT) -> float:
        """End it as Ctrl-C does; how many seconds that took."""
        took = super().stop(timeout)
        self._close_events()
        return took

    def kill(self) -> None:
        """End it like a crash."""
        super().kill()
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
            self.events_log.wait(lambda: self._ended(prompt_id), min(LOOK_INTERVAL, timeout))
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
        self.events_log.wait(lambda: self._ended(prompt_id), LAST_EVENT_TIMEOUT)
        return History(prompt_id, entry, self.events(prompt_id=prompt_id))

    def _ended(self, prompt_id: str) -> bool:
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


def checkout() -> Path:
    """The ComfyUI to test against: RUNFLOW_TEST_COMFYUI, else the one that `scripts/check.py` prepared."""
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
