"""Licences and known vulnerabilities of everything that the pack depends on, directly or not.

    python scripts/audit.py                  # asks PyPI's database of vulnerabilities
    python scripts/audit.py --service osv    # asks osv.dev

Licences: of the installed packages. Vulnerabilities: of what `pip install -r requirements.txt` takes today.
Exit code 0 when all is well, 1 when something was found, 3 when nobody could be asked: that is no clean bill.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from importlib import metadata
from typing import Any

import _environment
from _environment import HOME, ROOT, say

REQUIREMENTS = ROOT / "requirements.txt"
TOOL = "pip-audit>=2.10,<3"
RUN_TOOL = "import sys; sys.path.insert(0, sys.argv.pop(1)); from pip_audit._cli import audit; audit()"
"""Not through PYTHONPATH: the pip that it starts would take the tool's own packages for installed, and skip them."""
FOUND, NOT_ASKED = 1, 3

ALLOWED = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "HPND", "ISC", "MIT", "MIT-CMU", "MPL-2.0",
    "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
}  # fmt: skip
"""SPDX identifiers that ask no more of a program that only imports the package than to name it."""
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def main() -> int:
    options = _options()
    _environment.continue_inside(__file__)
    refused = [line for name in sorted(closure()) if (line := refusal(name, licence(metadata.metadata(name))))]
    say("\n".join(refused) or f"Licences: {len(closure())} packages, all allowed.")
    return vulnerabilities(options.service) or (FOUND if refused else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="whom to ask (pypi)")
    return parser.parse_args()


# Licences


def closure() -> set[str]:
    """The installed packages that the requirements need, and those that these need, by normalised name."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    open_ends = [Requirement(line) for line in REQUIREMENTS.read_text("utf-8").split()]
    while open_ends:
        requirement = open_ends.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        open_ends += map(Requirement, metadata.requires(name) or [])
    return found


def licence(about: Any) -> str:
    """What a package's metadata says: the SPDX expression, else its classifiers, else its free text."""
    said = [text.rpartition(" :: ")[2] for text in about.get_all("Classifier", []) if text.startswith("License ::")]
    classified = " AND ".join(CLASSIFIERS.get(each, each) for each in said if each != "OSI Approved")
    return about.get("License-Expression") or classified or about.get("License") or ""


def refusal(name: str, licence: str) -> str:
    """Why a licence is not accepted, "" where it is. Every part counts, of an OR too."""
    parts = [part for part in re.split(r"\s+(?:AND|OR|WITH)\s+|[()]", licence) if part.strip()]
    strange = [part.strip() for part in parts if part.strip() not in ALLOWED]
    return f"{name}: the licence {licence[:80]!r} is not among those allowed" if strange or not parts else ""


# Vulnerabilities


def vulnerabilities(service: str) -> int:
    """Ask with pip-audit, say what it found, and return the exit code."""
    tool = HOME / "audit"
    arguments = ["-r", REQUIREMENTS, "-s", service, "--format", "json", "--progress-spinner", "off"]
    try:
        if not (tool / "pip_audit").is_dir():
            _environment.install_into(tool, TOOL)
        done = subprocess.run(
            [sys.executable, "-c", RUN_TOOL, tool, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        vulnerable, unknown = read(json.loads(done.stdout), closure())
    except (_environment.SetupError, ValueError) as error:
        said = error if isinstance(error, _environment.SetupError) else done.stderr.strip()[-500:]
        say(f"Vulnerabilities: {service} could not be asked.\n{said}")
        return NOT_ASKED
    for line in vulnerable + unknown:
        say(line)
    if not vulnerable and not unknown:
        say("Vulnerabilities: none known.")
    return FOUND if vulnerable else NOT_ASKED if unknown else 0


def read(report: dict[str, Any], needed: set[str]) -> tuple[list[str], list[str]]:
    """(what is vulnerable, what nobody knows) of pip-audit's report, which counts the second as clean."""
    vulnerable, packages = [], report["dependencies"]
    unknown = [f"{name}: not in the report" for name in sorted(needed - {each["name"] for each in packages})]
    for package in packages:
        if "skip_reason" in package:
            unknown.append(f"{package['name']}: not looked up ({package['skip_reason']})")
        for hole in package.get("vulns", []):
            mended = ", ".join(hole["fix_versions"]) or "no version yet"
            vulnerable.append(f"{package['name']} {package['version']}: {hole['id']}, mended in {mended}")
    return vulnerable, unknown


if __name__ == "__main__":
    sys.exit(main())
