"""What every node with a panel shows: kept here, so that it is there after a reload, a restart, in another browser.

One state for each thing that was judged: by workflow, node and identity, a hash of all that the node's result depends
on. A node that comes out of ComfyUI's cache does not run; its state is found again by its identity. Which state is
about what the editor holds now is told by ``made_from``, a hash that the page makes when it queues a prompt.

States are sent to the page that queued the prompt as they come (``EVENT``), and read by a page that opens a workflow
(``GET /runflow-evaluate/panels``). What is done or stopped is written into the private folder, one file for each
workflow; it follows ``retention_days`` and ``keep_prompts``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comfy.model_management import InterruptProcessingException
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..runflow_api import background
from ..runflow_api._files import private_folder, replace_private
from ..runflow_api.errors import ConfigurationError, RunflowError
from ..runflow_api.prompt.graph import identities as identities_of
from ..runflow_api.prompt.graph import upstream
from . import _runtime

EVENT = "runflow-evaluate.panel"
WAITING, DONE, STOPPED = "waiting", "done", "stopped"
CANCELLED = "CANCELLED"
WITH_PANEL = ("RunflowEvaluateImage", "RunflowShowVerdict", "RunflowGetEvaluation", "RunflowRegenerateEnd")
FOLDER = "shown"
PER_NODE = 8
MOST_NODES, MOST_PROMPTS, MOST_FILES = 500, 200, 300
MOST_IN_MEMORY, MOST_DONE = 50, 1_000
LARGEST = 1_000_000
"""Characters of JSON of one state that are kept on disk."""
NAME_LENGTH = 100
IDENTITY_DIGITS = 16
DAY_S = 86_400
NEEDED = {"workflow", "prompt", "node", "identity", "phase", "at", "code", "numbers", "verdicts", "loop", "made_from"}
"""What is read of a state that was written, maybe by another version."""

log = logging.getLogger("runflow_evaluate")
State = dict[str, Any]
States = dict[str, list[State]]
"""Of one workflow: for each node its states, newest first."""


class Shown:
    """What nodes showed, in memory and in ``directory``. Safe to use from any thread."""

    def __init__(self, directory: Path, retention_days: int = 365, keep_prompts: bool = True) -> None:
        self.directory, self.retention_days, self.keep_prompts = directory, retention_days, keep_prompts
        self._workflows: OrderedDict[str, States] = OrderedDict()
        self._made_from: OrderedDict[str, Mapping[str, str]] = OrderedDict()
        self._done: OrderedDict[str, State] = OrderedDict()  # by identity: ComfyUI's cache knows no workflows
        self._parts: OrderedDict[tuple[str, str], dict[int, list[State]]] = OrderedDict()  # by prompt and clone
        self._lock, self._writing = threading.Lock(), threading.Lock()

    def put(self, state: State) -> None:
        """Make this the newest state of its node, in place of the one about the same."""
        with self._lock:
            state["made_from"] = self._made_from.get(state["prompt"], {}).get(state["node"], "")
            nodes = self._nodes(state["workflow"])
            known = nodes.pop(state["node"], [])
            nodes[state["node"]] = [state, *(each for each in known if not _replaces(state, each))][:PER_NODE]
            while len(nodes) > MOST_NODES:
                del nodes[next(iter(nodes))]
            if state["phase"] == DONE:
                self._done[state["identity"]] = state
                while len(self._done) > MOST_DONE:
                    self._done.popitem(last=False)
        if state["phase"] != WAITING:
            background.call(self._write, state["workflow"])

    def joined(self, prompt: str, clone: str, index: int, verdicts: Sequence[State]) -> list[State]:
        """With those of the other values of a node's list, which end in any order: in the order of the list."""
        with self._lock:
            parts = self._parts.setdefault((prompt, clone), {})
            parts[index] = list(verdicts)
            while len(self._parts) > MOST_PROMPTS:
                self._parts.popitem(last=False)
            return [verdict for number in sorted(parts) for verdict in parts[number]]

    def of(self, workflow: str, is_running: Callable[[str], bool] | None = None) -> list[State]:
        """All states of a workflow; a waiting one only while its prompt runs."""
        with self._lock:
            states = [state for known in self._nodes(workflow).values() for state in known]
        return [
            {**state, "numbers": {**state["numbers"], "elapsed": time.time() - state["at"]}}
            if state["phase"] == WAITING
            else state
            for state in states
            if state["phase"] != WAITING or (is_running is not None and is_running(state["prompt"]))
        ]

    def queued(
        self, workflow: str, prompt: str, made_from: Mapping[str, str], identities: Mapping[str, str]
    ) -> list[State]:
        """A page queued a prompt: what is known of just that, now the newest; and what the prompt showed already."""
        with self._lock:
            self._made_from[prompt] = dict(made_from)
            while len(self._made_from) > MOST_PROMPTS:
                self._made_from.popitem(last=False)
            nodes = self._nodes(workflow)
            for node, made in made_from.items():
                elsewhere = self._done.get(identities.get(node, ""))
                more = [{**elsewhere, "workflow": workflow, "node": node}] if elsewhere else []
                nodes[node] = _take_note([*nodes.get(node, []), *more], prompt, made, identities.get(node))
            found = [state for node in made_from for state in nodes.get(node, []) if state["prompt"] == prompt]
        if found:
            background.call(self._write, workflow)
        return found

    def _nodes(self, workflow: str) -> States:
        """The states of a workflow, read from its file where they are not in memory. The lock is held."""
        if workflow not in self._workflows:
            self._workflows[workflow] = self._read(workflow)
            while len(self._workflows) > MOST_IN_MEMORY:
                self._workflows.popitem(last=False)
        self._workflows.move_to_end(workflow)
        return self._workflows[workflow]

    # --- the files

    def _file(self, workflow: str) -> Path:
        return self.directory / FOLDER / f"{hashlib.sha256(workflow.encode()).hexdigest()[:32]}.json"

    def _read(self, workflow: str) -> States:
        try:
            found = json.loads(self._file(workflow).read_text("utf-8"))
            oldest = time.time() - self.retention_days * DAY_S
            nodes = {
                node: [state for state in known if NEEDED <= state.keys() and state["at"] > oldest]
                for node, known in found["nodes"].items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("What nodes showed could not be read: %s", error)
            return {}
        return nodes

    def _write(self, workflow: str) -> None:
        """Write what is not waiting. Trouble is logged: it costs no verdict."""
        with self._writing:
            with self._lock:
                nodes = {node: [self._kept(each) for each in known] for node, known in self._nodes(workflow).items()}
            kept = {node: [each for each in known if each] for node, known in nodes.items()}
            try:
                folder = private_folder(self.directory / FOLDER)
                replace_private(self._file(workflow), json.dumps({"nodes": kept}).encode())
                self._remove_oldest(folder)
            except (OSError, TypeError, ValueError) as error:
                log.warning("What nodes showed could not be kept: %s", error)

    def _kept(self, state: State) -> State | None:
        """A state as it may lie on the disk."""
        if state["phase"] == WAITING:
            return None
        kept = state if self.keep_prompts else without_prompts(state)
        return kept if len(json.dumps(kept, default=str)) <= LARGEST else None

    def _remove_oldest(self, folder: Path) -> None:
        files = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        oldest = time.time() - self.retention_days * DAY_S
        for number, file in enumerate(files):
            if number >= MOST_FILES or file.stat().st_mtime < oldest:
                file.unlink(missing_ok=True)


def _take_note(known: list[State], prompt: str, made_from: str, identity: str | None) -> list[State]:
    """The states of one node: what a prompt showed already, otherwise what was shown of the same, is its own now."""
    own = [state for state in known if state["prompt"] == prompt]
    for state in own:
        state["made_from"] = made_from
    same = next((state for state in known if state["identity"] == identity and state["phase"] == DONE), None)
    if own or same is None:
        return _distinct(known)
    now = {**same, "prompt": prompt, "made_from": made_from, "at": time.time()}
    return _distinct([now, *known])


def _distinct(states: list[State]) -> list[State]:
    """One for each thing that was judged, the first."""
    first = {(state["phase"], state["identity"]): state for state in reversed(states)}
    return [state for state in states if first[state["phase"], state["identity"]] is state][:PER_NODE]


def _replaces(new: State, old: State) -> bool:
    """A state ends the waiting of its prompt, and takes the place of one about the same."""
    if old["phase"] == WAITING:
        return True
    return bool(new["phase"] != WAITING and (old["identity"] == new["identity"] or old["phase"] == STOPPED))


def without_prompts(state: State) -> State:
    """The state without what a person wrote and what was made of it."""
    loop = state["loop"]
    if loop:
        loop = {**loop, "attempts": [{**attempt, "prompt": ""} for attempt in loop.get("attempts", ())]}
    verdicts = [{**verdict, "improved_prompt": ""} for verdict in state["verdicts"]]
    return {**state, "verdicts": verdicts, "loop": loop}


# --- in ComfyUI ---------------------------------------------------------------------------------------

_shown: list[Shown] = []
_making = threading.Lock()


def panel_states() -> Shown:
    """The process-wide one, with the settings in force."""
    with _making:
        if not _shown:
            _shown.append(Shown(_runtime.private_directory()))
        try:
            current = _runtime.settings()
            _shown[0].retention_days, _shown[0].keep_prompts = current.retention_days, current.keep_prompts
        except ConfigurationError:
            _shown[0].keep_prompts = False  # what was wanted is not known
        return _shown[0]


@contextmanager
def _logged_trouble() -> Iterator[None]:
    """What goes wrong with showing is logged: it costs no verdict."""
    try:
        yield
    except Exception:
        log.exception("What a node shows could not be kept or sent.")


class Panel:
    """The panel of the node that runs: of a clone in a loop, that of the node in the editor. It raises nothing."""

    def __init__(self) -> None:
        self.prompt = self.workflow = self.node = self.identity = ""
        self.client: str | None = None
        self._clone, self._index = "", 0
        self._started, self._has_ended = time.time(), False
        self._said: tuple[Any, ...] = ()
        with _logged_trouble():
            self._find_node()

    def _find_node(self) -> None:
        context = get_executing_context()
        if context is None:
            return
        self.client = PromptServer.instance.client_id
        self.prompt, self._clone, self._index = context.prompt_id, context.node_id, context.list_index or 0
        item, node = queue_item(self.prompt), _display_node(context.node_id)
        self.workflow = workflow_of(item)
        self.identity = identities(item, [node]).get(node, self.prompt)
        self.node = node

    def waiting(self, code: str, message: str = "", **numbers: float) -> None:
        """Say how it waits; nothing if that was said already, or if it has ended. From any thread."""
        said = (code, message, *sorted(numbers.items()))
        if said != self._said and not self._has_ended:
            self._said = said
            self._send(WAITING, code=code, message=message, numbers=numbers, at=self._started)

    def done(self, verdicts: Sequence[State], loop: State | None = None, min_score: float = 0.0) -> None:
        """What came out, as ``ui.runflow`` has it. Of a list of values, with what came out of the others."""
        self._has_ended = True
        more = {
            "verdicts": panel_states().joined(self.prompt, self._clone, self._index, verdicts),
            "min_score": min_score,
        }
        failure = self._failure()
        if failure is None:
            self._send(DONE, loop=loop, **more)
        else:
            self._send(STOPPED, code=failure["code"], message=failure["message"], **more)

    def stopped(self, code: str, message: str = "") -> None:
        self._has_ended = True
        self._send(STOPPED, code=code, message=message)

    def cancelled(self) -> None:
        """Somebody pressed Cancel, or something else failed."""
        self._has_ended = True
        if self._failure() is None:
            self._send(STOPPED, code=CANCELLED)

    def _failure(self) -> State | None:
        """What failed at another value of the node's list: that stays, whatever becomes of this one."""
        known = (
            each
            for each in panel_states().of(self.workflow)
            if (each["node"], each["prompt"]) == (self.node, self.prompt)
        )
        return next((each for each in known if each["phase"] == STOPPED and each["code"] != CANCELLED), None)

    def _send(self, phase: str, **more: Any) -> None:
        if not self.node:
            return
        state = {
            "workflow": self.workflow, "prompt": self.prompt, "node": self.node, "identity": self.identity,
            "phase": phase, "at": time.time(), "code": "", "message": "", "numbers": {}, "min_score": 0.0,
            "verdicts": [], "loop": None, "made_from": "", **more,
        }  # fmt: skip
        elapsed = {"elapsed": time.time() - self._started} if phase == WAITING else {}
        with _logged_trouble():
            panel_states().put(state)
            sent = {**state, "numbers": {**state["numbers"], **elapsed}}
            PromptServer.instance.send_sync(EVENT, sent, self.client)


@contextmanager
def panel() -> Iterator[Panel]:
    """The panel of the node that runs. An error, or Cancel, stays on it."""
    own = Panel()
    try:
        yield own
    except RunflowError as error:
        own.stopped(error.code, str(error))
        raise
    except (InterruptProcessingException, asyncio.CancelledError):  # or another node of the prompt failed
        own.cancelled()
        raise
    except Exception as error:
        own.stopped("ERROR", f"{type(error).__name__}: {error}")
        raise


def _display_node(node_id: str) -> str:
    """The node in the editor that a clone stands for."""
    dynprompt = getattr(get_progress_state(), "dynprompt", None)
    try:
        return str(dynprompt.get_display_node_id(node_id)) if dynprompt else node_id
    except (KeyError, AttributeError):
        return node_id


def queue_item(prompt_id: str) -> tuple[Any, ...] | None:
    """(number, id, prompt, extra_data, outputs to execute, …) of a prompt that runs, waits or has ended."""
    queue = PromptServer.instance.prompt_queue
    running, pending = queue.get_current_queue_volatile()
    item: tuple[Any, ...] | None = next((item for item in (*running, *pending) if item[1] == prompt_id), None)
    return item or queue.get_history(prompt_id).get(prompt_id, {}).get("prompt")


def is_running(prompt_id: str) -> bool:
    running, _ = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    return any(item[1] == prompt_id for item in running)


def workflow_of(item: tuple[Any, ...] | None) -> str:
    """The id of the workflow that a prompt was queued from, "" if it is not known. It may hold anything."""
    found: Any = item[3] if item else {}
    for name in ("extra_pnginfo", "workflow", "id"):
        found = found.get(name) if isinstance(found, dict) else None
    return found[:NAME_LENGTH] if isinstance(found, str) else ""


def identities(item: tuple[Any, ...] | None, nodes: Sequence[str] | None = None) -> dict[str, str]:
    """For each of these nodes of a prompt, or for each with a panel, the hash of all that its result depends on."""
    if item is None:
        return {}
    needed = upstream(item[2], [node for node in item[4] if node in item[2]])
    graph = {node: item[2][node] for node in needed}
    wanted = [node for node, info in graph.items() if info["class_type"] in WITH_PANEL] if nodes is None else nodes
    found = identities_of(graph, [node for node in wanted if node in graph])
    return {node: found[node][:IDENTITY_DIGITS] for node in wanted if node in graph}


def note_queued(workflow: str, prompt: str, made_from: Mapping[str, str]) -> list[State]:
    """What is known of the nodes of a prompt that a page queued."""
    return panel_states().queued(workflow, prompt, made_from, identities(queue_item(prompt)))


def states_of(workflow: str) -> list[State]:
    return panel_states().of(workflow, is_running)
