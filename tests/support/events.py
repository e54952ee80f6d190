"""What a running ComfyUI tells: its websocket events, and what one prompt did."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import aiohttp

from support.process import ServerError
from support.waiting import AT_MOST_S

CLOSE_TIMEOUT = 10
TEXT_MESSAGE = 3  # BinaryEventTypes.TEXT in ComfyUI's protocol.py


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
        self._of_prompt: defaultdict[str | None, list[Event]] = defaultdict(list)
        self._changed = threading.Condition()
        self._running: str | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._record, name="comfyui-events", daemon=True)

    def open(self) -> None:
        """Connect; returns when the server has greeted this client, from where on no event is missed."""
        self._thread.start()
        if not self.wait(lambda: bool(self._events) or not self._thread.is_alive(), AT_MOST_S) or not self._events:
            raise ServerError("ComfyUI's websocket did not open")

    def close(self) -> None:
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the server went first: the thread is closing its loop by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(CLOSE_TIMEOUT)

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until `condition()`, looked at after each event; false after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def select(self, kind: str | None, prompt_id: str | None, node: str | None) -> list[Event]:
        """The events so far of that kind, prompt and node; None is any."""
        with self._changed:
            events = self._events if prompt_id is None else self._of_prompt[prompt_id]
            return [event for event in events if kind in (None, event.kind) and node in (None, event.node)]

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
            event = Event(kind, data, data.get("prompt_id", self._running), time.monotonic())
            self._events.append(event)
            self._of_prompt[event.prompt_id].append(event)
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
