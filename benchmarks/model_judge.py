"""How often a vision model of yours agrees with people, on a folder of labelled images.

    python benchmarks/model_judge.py FOLDER --url http://127.0.0.1:11434 --model qwen3-vl:8b

``FOLDER/labels.csv`` has the columns file, prompt, instructions and label (passed or failed). Images are taken as Load
Image does; nothing is written down. No result is shipped: no weights were at hand where this pack was made.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from runflow_api.errors import RunflowError  # noqa: E402
from runflow_api.model_judge.endpoint import ChatEndpoint  # noqa: E402
from runflow_api.model_judge.judge import judge  # noqa: E402
from runflow_api.settings import config  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default=config.environment("RUNFLOW_MODEL_URL"))
    parser.add_argument("--model", default=config.environment("RUNFLOW_MODEL_NAME"))
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one image")
    arguments = parser.parse_args()
    url, key = config.parsed("model_url", arguments.url), config.environment("RUNFLOW_MODEL_KEY")
    counts: Counter[tuple[str, str]] = Counter()
    seconds = []
    with (arguments.folder / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            model = ChatEndpoint(url, arguments.model, key, timeout_s=arguments.timeout)
            started = time.monotonic()
            said, issues = verdict_of(model, arguments.folder / row["file"], row)
            seconds.append(time.monotonic() - started)
            counts[row["label"].strip(), said] += 1
            if said != row["label"].strip():
                print(f"{row['file']}: people say {row['label']}, the model {said}: {issues}")
    report(counts, seconds)
    return 0


def verdict_of(model: ChatEndpoint, path: Path, row: dict[str, str]) -> tuple[str, str]:
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    try:
        evaluation = judge(model, pixels, prompt=row.get("prompt", ""), instructions=row.get("instructions", ""))
    except RunflowError as error:
        return "unknown", str(error)
    said = {True: "passed", False: "failed", None: "unknown"}[evaluation.overall_passed]
    return said, "; ".join(evaluation.top_issues)


def report(counts: Counter[tuple[str, str]], seconds: list[float]) -> None:
    print("\n| people say | model says passed | failed | unknown |\n| --- | --- | --- | --- |")
    for label in ("passed", "failed"):
        print(f"| {label} | {' | '.join(str(counts[label, said]) for said in ('passed', 'failed', 'unknown'))} |")
    judged = sum(count for (_, said), count in counts.items() if said != "unknown")
    agree = counts["passed", "passed"] + counts["failed", "failed"]
    print(f"\nagrees in {agree} of {judged} that it judged ({agree / max(1, judged):.0%})")
    print(
        f"seconds for an image: median {statistics.median(seconds or [0.0]):.1f}, longest {max(seconds or [0.0]):.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
