"""Every check of this repository: lint, types, tests. Arguments are passed on to pytest.

    python scripts/check.py                      # all; 20 to 40 minutes on two cores
    python scripts/check.py tests/api -k retry   # lint and types, and these tests

The first time it sets up what they need inside this clone: `.venv`, and a real ComfyUI in `.comfyui` (some minutes,
about 2 GB). Tests of the page need Node.js and Chromium, and say so where they are missing. 0 when all passed.
"""

from __future__ import annotations

import subprocess
import sys
import time

import _environment
from _environment import ROOT, say

CHECKS = {
    "ruff": ["ruff", "check", "--output-format", "concise", "--extend-exclude", ".comfyui", "."],
    # The root has an __init__.py for ComfyUI; without explicit bases mypy takes the clone's folder for a package.
    "mypy": ["mypy", "--strict", "--explicit-package-bases", "runflow_api"],
    "pytest": ["pytest"],
}


TESTS_FAILED = 1  # pytest's exit code for that, and not for an error of collection or of usage


def main() -> int:
    """Run all checks, also after one failed; 0 when all passed."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        say(str(__doc__).strip())
        return 0
    python = str(_environment.ensure_or_exit())
    began = time.monotonic()
    codes = {}
    for name, command in CHECKS.items():
        arguments = sys.argv[1:] if name == "pytest" else []
        codes[name] = _run([python, "-m", *command, *arguments])
    if codes["pytest"] == TESTS_FAILED:
        # Real servers, a real browser and bounds in seconds: on a busy machine one may miss its moment. What fails
        # twice fails; what passes now is named above, and deserves a look.
        say("\nThe tests that failed, once more on their own:")
        codes["pytest"] = _run([python, "-m", "pytest", "--last-failed", "--last-failed-no-failures", "none"])
    say(f"\nChecks ended in {time.monotonic() - began:.0f} s")
    for name, code in codes.items():
        say(f"  {name:<7} {'passed' if code == 0 else f'FAILED (exit code {code})'}")
    return 1 if any(codes.values()) else 0


def _run(command: list[str]) -> int:
    say(f"\n$ {' '.join(command[1:])}")
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
