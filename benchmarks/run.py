"""Measure this pack against what a person would use instead, and write ``RESULTS.md`` beside this file.

    python benchmarks/run.py --comfyui DIR                 # everything; some 20 minutes
    python benchmarks/run.py --comfyui DIR encoding memory # some parts; the others keep what was measured before

``--photos`` and ``--generated`` name folders of real pictures; without them the shipped photographs and those of
scikit-image and scikit-learn, where installed, stand in, which are small and enlarged for the larger sizes. Run it on
a machine with nothing else to do, with the Python that ComfyUI runs on.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from measure import HERE, load, machine

PARTS = {
    "encoding": "From a tensor to a data URI",
    "memory": "Peak extra memory",
    "waiting": "From ready at the server to in the graph",
    "first_request": "From Run to the first request",
    "batches": "Batches",
    "command_line": "A folder from the command line",
    "beside": "Beside a synchronous sampler",
    "cancelling": "From Cancel to stopped",
    "startup": "What the pack adds to ComfyUI's start",
    "requests_made": "Requests and bytes for one verdict",
    "pending": "A hundred pending evaluations",
    "write_lock": "The journal's write lock, beside the command line",
    "bookkeeping": "A journal of 100,000 rows",
    "insight": "The insight page over 100,000 verdicts",
    "growth": "Growth from 10 to 10,000 images",
    "loops": "Growth from one attempt of a loop to ten",
}
RESULTS = HERE / "RESULTS.md"
NOTES = HERE / "NOTES.md"


def main() -> int:
    options = _options()
    sections = _earlier()
    for part in options.parts or PARTS:
        print(f"{part} …", flush=True)
        began = time.monotonic()
        text = importlib.import_module(part).run(options)
        when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        took = f"*Measured {when}, {load()}, in {time.monotonic() - began:.0f} s.*"
        sections[part] = f"{text.strip()}\n\n{took}"
        RESULTS.write_text(_page(sections), encoding="utf-8")
        print(f"{text}\n", flush=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--comfyui", type=Path, metavar="DIR", help="a ComfyUI checkout, to measure against and in")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], metavar="DIR", help="folders of photographs")
    parser.add_argument("--generated", type=Path, nargs="*", default=[], metavar="DIR", help="of generated images")
    parser.add_argument("--sources", default="", metavar="TEXT", help="where the pictures are from, for the page")
    parser.add_argument("--quick", action="store_true", help="fewer images in growth: to see that it runs")
    return parser.parse_args()


def _page(sections: dict[str, str]) -> str:
    measured = [f"## {title}\n\n{sections[part]}" for part, title in PARTS.items() if part in sections]
    notes = NOTES.read_text(encoding="utf-8").strip() if NOTES.exists() else ""
    wrote = "`python benchmarks/run.py --comfyui DIR` wrote this page. Ratios count, not absolute figures."
    busy = (
        "The load average stands with each part. Above the number of cores the machine was shared with other work: "
        "what is compared took turns, so ratios hold, but times are several times those of an idle machine."
    )
    head = f"# Benchmarks\n\n{wrote}\n\n{machine()}. {busy}"
    return "\n\n".join(filter(None, [head, notes, *measured])) + "\n"


def _earlier() -> dict[str, str]:
    """What the page says of each part, so that a run of some parts keeps the others."""
    if not RESULTS.exists():
        return {}
    by_title = {title: part for part, title in PARTS.items()}
    found = re.split(r"^## (.+)$", RESULTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pairs = zip(found[1::2], found[2::2], strict=True)
    return {by_title[title]: text.strip() for title, text in pairs if title in by_title}


if __name__ == "__main__":
    sys.exit(main())
