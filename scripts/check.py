"""Every check of this repository: lint, types, tests. Other arguments are passed on to pytest.

    python scripts/check.py                      # all; up to 12 minutes on two cores
    python scripts/check.py --fast               # lint, types and the tests without servers; up to a minute
    python scripts/check.py tests/api -k retry   # lint and types, and these tests

The first time it sets up what they need inside this clone: `.venv`, and a real ComfyUI in `.comfyui` (some minutes,
about 2 GB). Tests of the page need Node.js and Chromium, and say so if they are missing. 0 when all passed.
"""

from __future__ import annotations

import subprocess
import sys
import time

import _environment
from _environment import ROOT, say

LINT = {
    "ruff check": ["ruff", "check", "--output-format", "concise", "--extend-exclude", ".comfyui", "."],
    "ruff format": ["ruff", "format", "--check", "--extend-exclude", ".comfyui", "."],
    # The root has an __init__.py for ComfyUI; without explicit bases mypy takes the clone's folder for a package.
    "mypy": ["mypy", "--strict", "--explicit-package-bases", "runflow_api"],
}
ON_WORKERS = ["pytest", "-n", "4"]
"""Twice as many as the smallest machine has processors: tests of the graph and the page often wait."""
WITHOUT_SERVERS = ["-m", "not comfyui and not browser and not slow"]


def main() -> int:
    """Run all checks, also after one failed; 0 when all passed."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        say(str(__doc__).strip())
        return 0
    if arguments == ["--fast"]:
        tests = [*ON_WORKERS, *WITHOUT_SERVERS]
    elif arguments:
        tests = ["pytest", *arguments]
    else:
        tests = ON_WORKERS
    python = str(_environment.ensure_or_exit())
    results = [_run(name, [python, "-m", *command]) for name, command in {**LINT, "pytest": tests}.items()]
    say("\nThe checks")
    for name, code, seconds in results:
        say(f"  {name:<11} {'passed' if code == 0 else f'FAILED (exit code {code})'} in {seconds:.0f} s")
    return 1 if any(code for _, code, _ in results) else 0


def _run(name: str, command: list[str]) -> tuple[str, int, float]:
    """Name, exit code and seconds of one check; what it prints goes to the terminal."""
    say(f"\n$ {' '.join(command[1:])}")
    began = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    return name, code, time.monotonic() - began


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
