"""A Python that has ComfyUI's libraries imported, and forks for every ComfyUI that a test starts: these imports are
three of the four seconds that a start takes, and the tests start dozens.

From `main.py` on a forked ComfyUI does what any other does, and it ends as a whole Python does. Run as a program, this
file is that Python: it is asked on stdin, line by line, to start a program or whether one has ended.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

LIBRARIES = (
    "torch",
    "transformers.models.clip.tokenization_clip",
    "scipy.stats",
    "torchsde",
    "av",
    "aiohttp.web",
    "alembic.context",
    "sqlalchemy.orm",
    "pydantic_settings",
    "requests",
)
"""What ComfyUI imports and what takes long; others come with these. An absent one is not needed by that ComfyUI."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""A process that forks must have one thread only. And on a busy machine torch's threads wait for each other, ten times
as long as one of them needs alone."""
LOOK_S = 0.01


class ForkingPython:
    """Starts programs in processes that have imported the libraries already; it ends with the process that made it.

    `options` are Python's own, `env` is the environment in which the libraries are imported.
    """

    def __init__(self, options: Sequence[str], env: dict[str, str]) -> None:
        self._ask_lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, *options, __file__],
            env=env | ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the tests, which then end what they started
        )

    def start(self, command: list[str], cwd: Path, env: dict[str, str], log: Path) -> ForkedProcess:
        """Run a Python file with these arguments; what it prints goes to the end of `log`."""
        pid = self.ask(command=command, cwd=str(cwd), env=env, log=str(log))
        return ForkedProcess(self, command, pid)

    def ask(self, **question: Any) -> Any:
        with self._ask_lock:
            assert self._process.stdin and self._process.stdout
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"The Python that forks ended with exit code {self._process.wait()}.")
        return json.loads(answer)

    def __enter__(self) -> ForkingPython:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate()  # nothing more to ask


class ForkedProcess:
    """Like `subprocess.Popen`, for a process that is no child of this one."""

    def __init__(self, parent: ForkingPython, args: list[str], pid: int) -> None:
        self._parent, self.args, self.pid = parent, args, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._parent.ask(ended=self.pid)
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        """`poll` once it has ended; subprocess.TimeoutExpired if it has not within `timeout` seconds."""
        give_up = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > give_up:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(LOOK_S)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def fork_when_asked() -> dict[str, Any]:
    """Answer questions until there are no more. Returns in each forked process, with what it was asked to run."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a forked process does not go through all these objects again
    for line in sys.stdin:
        question = json.loads(line)
        if "ended" in question:
            pid, status = os.waitpid(question["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif not (answer := os.fork()):
            return dict(question)
        print(json.dumps(answer), flush=True)
    sys.exit()


def become(command: list[str], cwd: str, env: dict[str, str], log: str) -> None:
    """Turn this process into one that was started with this command."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    nothing, printed = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for opened, standard in ((nothing, 0), (printed, 1), (printed, 2)):
        os.dup2(opened, standard)
    os.close(nothing)
    os.close(printed)
    file = command[0]
    sys.argv, sys.path[0] = command, os.path.dirname(file)
    sys.modules["__main__"] = program = ModuleType("__main__")
    program.__file__ = file
    exec(compile(Path(file).read_bytes(), file, "exec"), vars(program))


if __name__ == "__main__":
    become(**fork_when_asked())
