"""A real ComfyUI with this pack in it, in a process of its own: what the demo and the graph tests share.

Standard library only, because `demo.py` runs on whatever Python the person typed. The server never sees the
person's own ComfyUI: every file it reads or writes is under a base directory made for it.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _environment

if TYPE_CHECKING:
    from support.forking import ForkedProcess

PACK_FOLDER = "ComfyUI-Runflow-Evaluate"
BASE_FOLDERS = ("custom_nodes", "input", "output", "models", "temp", "user")
NOT_THE_PACK = {".git", ".venv", ".comfyui", "node_modules", "__pycache__", "dist"}

PYTHON_OPTIONS = ("-X", "utf8", "-u")
START_TIMEOUT = 180  # seconds; about 8 on a workstation, far more when a cold disk reads torch for the first time
STOP_TIMEOUT = 30
REQUEST_TIMEOUT = 60
LOG_TAIL = 60  # lines of the server's log in an error message

# ComfyUI is on loopback: a proxy in the environment must not be asked for it.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerError(RuntimeError):
    """ComfyUI did not start, went away, or answered with an error: the HTTP `status`, and the `body` it sent."""

    def __init__(self, message: str, status: int | None = None, body: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class Server:
    """One ComfyUI process on 127.0.0.1.

    `comfyui` is a checkout, `base` a directory that becomes its base directory (what is in it already stays, so
    that a second server can go on if a first one was killed). `env` is added to an environment without any
    RUNFLOW_ variable. `extra_nodes` are folders copied into `custom_nodes` beside the pack; `pack` is the folder
    to copy as the pack, None for none; `args` go to ComfyUI's command line.
    """

    def __init__(
        self,
        comfyui: Path,
        base: Path,
        *,
        python: str | os.PathLike[str] = sys.executable,
        env: dict[str, str] | None = None,
        extra_nodes: tuple[Path, ...] = (),
        pack: Path | None = _environment.ROOT,
        args: tuple[str, ...] = (),
    ) -> None:
        self.comfyui, self.base, self.python = Path(comfyui).resolve(), Path(base).resolve(), python
        self.env, self.extra_nodes, self.pack, self.args = dict(env or {}), extra_nodes, pack, args
        self.port = 0
        self.process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self.log_file = self.base / "comfyui.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything the server printed so far, restarts included, without colours."""
        text = self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start and return once the server answers; ServerError, with the end of its log, when it does not."""
        prepare_base(self.base, self.comfyui)
        if self.pack is not None:
            copy_pack(self.pack, self.base / "custom_nodes" / PACK_FOLDER)
        for folder in self.extra_nodes:
            shutil.copytree(folder, self.base / "custom_nodes" / folder.name, dirs_exist_ok=True)
        with nullcontext(self.port) if self.port else free_port() as self.port:  # a page that was open finds it again
            self._spawn()
            self._wait_until_it_answers()

    def _spawn(self) -> None:
        _let_children_hear_ctrl_c()
        arguments = [*command(self.comfyui, self.base, self.port), *self.args]
        self.process = self._run(arguments, environment(self.python, self.env))
        _started.add(self)

    def _run(self, arguments: list[str], env: dict[str, str]) -> subprocess.Popen[bytes] | ForkedProcess:
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                [os.fspath(self.python), *PYTHON_OPTIONS, *arguments],
                cwd=self.comfyui,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that `kill` reaches what ComfyUI started; without meaning on Windows
            )

    def _wait_until_it_answers(self) -> None:
        give_up = time.monotonic() + START_TIMEOUT
        while time.monotonic() < give_up:
            try:
                self.request("GET", "/system_stats")
                return
            except ServerError:
                if not self.running:
                    raise ServerError(f"ComfyUI ended while starting.\n{self.tail()}") from None
                time.sleep(0.1)
        self.kill()
        raise ServerError(f"ComfyUI did not answer within {START_TIMEOUT} s.\n{self.tail()}")

    def request(self, method: str, path: str, body: Any = None, timeout: float = REQUEST_TIMEOUT) -> Any:
        """The parsed JSON of the answer (None when it is empty); ServerError for a status ≥ 400 or no answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with _opener.open(request, timeout=timeout) as answer:
                return _parsed(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                said = _parsed(error.read())
            raise ServerError(f"{method} {path}: {error.code} {said}", error.code, said) from error
        except OSError as error:
            raise ServerError(f"{method} {path}: {error}") from error

    def queue_prompt(self, prompt: dict[str, Any], **fields: Any) -> str:
        """Post a prompt in API format; its id. When ComfyUI refuses it, a ServerError of status 400 says why."""
        try:
            return str(self.request("POST", "/prompt", {"prompt": prompt, **fields})["prompt_id"])
        except ServerError as error:
            if error.status != 400:
                raise
            raise ServerError(_refusal(error.body), 400, error.body) from None

    def tail(self, lines: int = LOG_TAIL) -> str:
        """The last lines of the log, to be shown with an error."""
        return "\n".join(["--- the end of ComfyUI's log:", *self.log.splitlines()[-lines:]])

    def stop(self, timeout: float = STOP_TIMEOUT) -> float:
        """End the server as Ctrl-C does (on Windows: terminate it), after `timeout` kill it; seconds it took."""
        began = time.monotonic()
        if self.process is not None and self.running:
            self.process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return time.monotonic() - began

    def kill(self) -> None:
        """End the server and all that it started without a chance to clean up, like a crash or a power cut."""
        if self.process is None or not self.running:
            return
        if os.name == "posix":
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()

    def __enter__(self) -> Server:
        if not self.running:
            self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


_started: weakref.WeakSet[Server] = weakref.WeakSet()


@atexit.register
def _kill_what_still_runs() -> None:
    """However this process ends, a teardown that failed included: no server outlives it."""
    for server in _started:
        server.kill()


def command(comfyui: Path, base: Path, port: int) -> list[str]:
    """Loopback only, no GPU, no browser, no API nodes (that also keeps the frontend off the internet)."""
    address = ["--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"]
    # A file, though nothing in it is kept: ComfyUI's threads trip over an in-memory database and fill the log.
    database = (base / "user" / "comfyui.db").as_posix()
    files = ["--base-directory", str(base), "--database-url", f"sqlite:///{database}"]
    return [str(comfyui / "main.py"), "--cpu", "--disable-api-nodes", *address, *files]


def environment(python: str | os.PathLike[str], extra: dict[str, str]) -> dict[str, str]:
    """This process's environment, without RUNFLOW_ settings, telemetry and downloads; `extra`; the stand-ins."""
    env = {name: value for name, value in os.environ.items() if not name.upper().startswith("RUNFLOW_")}
    env.update({"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"})
    env.update({name: _without_proxy(env.get(name)) for name in ("NO_PROXY", "no_proxy")})
    paths = [env.get("PYTHONPATH", ""), *map(str, _environment.standins_for(python))]
    env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return {**env, **extra}


def _without_proxy(hosts: str | None) -> str:
    return ",".join(filter(None, [hosts, "127.0.0.1,localhost"]))


def prepare_base(base: Path, comfyui: Path) -> None:
    """The folders ComfyUI expects, and the `example.png` that its own input folder ships."""
    for name in BASE_FOLDERS:
        (base / name).mkdir(parents=True, exist_ok=True)
    example = comfyui / "input" / "example.png"
    if example.exists():
        shutil.copy2(example, base / "input")


def copy_pack(source: Path, target: Path) -> None:
    """Copy the pack as a clone would hold it: a copy, so that running it writes nothing into the checkout."""
    shutil.rmtree(target, ignore_errors=True)
    for name in pack_files(source):
        file = source / name
        if file.is_file():  # git lists deleted files until they are committed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # a passing file of somebody at work here
                shutil.copy2(file, target / name)


def pack_files(source: Path) -> list[str]:
    """Relative paths of the pack's files. Git is asked only where the clone's own `.git` is: an unpacked archive
    may lie inside another repository that ignores it, as ComfyUI's does with `custom_nodes`."""
    if (source / ".git").exists():
        listing = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        try:
            found = subprocess.run(listing, cwd=source, capture_output=True, check=True).stdout
            return found.decode().rstrip("\0").split("\0")
        except (OSError, subprocess.CalledProcessError):
            pass  # no git, or one that refuses this owner: look for ourselves
    return _walk(source)


def _walk(source: Path) -> list[str]:
    found = []
    for folder, subfolders, files in os.walk(source):
        subfolders[:] = [name for name in subfolders if name not in NOT_THE_PACK]
        found += [os.path.relpath(os.path.join(folder, name), source) for name in files]
    return found


@contextmanager
def free_port() -> Iterator[int]:
    """A port of 127.0.0.1. On Linux nobody else is given it before the block ends, by when the server should listen.

    It is held by a socket that does not listen: a server binds beside it, as servers do, with SO_REUSEADDR.
    """
    with socket.socket() as holding:
        if sys.platform == "linux":
            holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holding.bind(("127.0.0.1", 0))
        port = int(holding.getsockname()[1])
        if sys.platform != "linux":
            holding.close()
        yield port


def _let_children_hear_ctrl_c() -> None:
    """A shell starts background jobs with SIGINT ignored; ComfyUI would inherit that, and could only be killed."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _refusal(body: Any) -> str:
    """ComfyUI's answer to an invalid prompt, one line per node and input."""
    if not isinstance(body, dict):
        return f"ComfyUI refused the prompt: {body}"
    lines = ["ComfyUI refused the prompt: {message} {details}".format(**body["error"])]
    for node, found in (body.get("node_errors") or {}).items():
        where = f"  node {node} {found['class_type']}"
        lines += [f"{where}: {error['message']}: {error['details']}" for error in found["errors"]]
    return "\n".join(lines)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data.decode(errors="replace")
