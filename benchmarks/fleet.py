"""Many processes on one journal in PostgreSQL: what is paid when they die, and what rate they keep together.

python benchmarks/fleet.py                                   # 8 workers, 2,000 images; a rate of 10 for five minutes
python benchmarks/fleet.py --workers 4 --images 400 --minutes 3

Each worker is a `bulk` with a home of its own and a shard of the manifest; one that was killed is replaced by another
with a new home. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.dataset as arrow
from measure import ROOT, machine, said, table
from support.pictures import picture
from support.postgres import Postgres

from runflow_api import images
from runflow_api.sandbox.app import Sandbox
from runflow_api.sandbox.server import Request
from runflow_api.sandbox.validation import HttpError, Response

SUBMIT = "/v1/evaluations"


class LimitedSandbox(Sandbox):
    """Takes so many requests a second, with a bucket of one second's worth, and refuses the others (429)."""

    def __init__(self, rate: float, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.rate, self.began = rate, time.monotonic()
        self.taken, self.refused = Counter[int](), Counter[int]()
        self._tokens, self._at, self._bucket = rate, time.monotonic(), threading.Lock()

    def answer(self, request: Request) -> Response:
        with self._bucket:
            now = time.monotonic()
            self._tokens = min(self.rate, self._tokens + (now - self._at) * self.rate)
            self._at = now
            minute = int((now - self.began) // 60)
            if self._tokens < 1:
                self.refused[minute] += 1
                return HttpError(429, "Too many requests.").answer()
            self._tokens -= 1
            self.taken[minute] += 1
        return super().answer(request)


class Fleet:
    """Workers on the shards of one manifest."""

    def __init__(self, folder: Path, sandbox: Sandbox, url: str, workers: int, limit: int) -> None:
        self.folder, self.workers, self._homes = folder, workers, 0
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RUNFLOW_")},
            "PYTHONPATH": str(ROOT),
            "RUNFLOW_BASE_URL": sandbox.url,
            "RUNFLOW_API_KEY": sandbox.api_key,
            "RUNFLOW_JOURNAL_URL": url,
            "RUNFLOW_MAX_EVALUATIONS_PER_DAY": str(limit),
        }
        self.running = [self.start(shard) for shard in range(workers)]

    def start(self, shard: int) -> subprocess.Popen[bytes]:
        self._homes += 1
        home = str(self.folder / f"home{self._homes}")
        command = [sys.executable, "-m", "runflow_api", "bulk", str(self.folder / "manifest.csv"), "--yes"]
        command += ["--output", str(self.folder / "out"), "--shard", f"{shard + 1}/{self.workers}", "--part-rows", "50"]
        environment = {**self._environment, **dict.fromkeys(("HOME", "XDG_DATA_HOME"), home)}
        with (self.folder / f"log{shard}").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def kill(self, shard: int) -> None:
        self.running[shard].kill()
        self.running[shard].wait()
        self.running[shard] = self.start(shard)

    @property
    def is_over(self) -> bool:
        return all(process.poll() is not None for process in self.running)

    def end(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


def write_manifest(folder: Path, rows: int, distinct: int) -> None:
    (folder / "pictures").mkdir()
    for number in range(distinct):
        images.to_pil(images.to_pixels(picture(number, 64, 64))).save(folder / "pictures" / f"{number}.png")
    lines = [f"pictures/{number % distinct}.png,a fox\n" for number in range(rows)]
    (folder / "manifest.csv").write_text("image,generation_prompt\n" + "".join(lines))


def deaths(server: Postgres, workers: int, rows: int, kills: int) -> str:
    """Half of the images are copies; workers are killed and the database is restarted while they run."""
    chance, distinct = random.Random(18), rows // 2
    with tempfile.TemporaryDirectory() as name, Sandbox(latency=0.5, balance="1000000", keep_bodies=False) as sandbox:
        folder = Path(name)
        write_manifest(folder, rows, distinct)
        began = time.monotonic()
        fleet = Fleet(folder, sandbox, server.new_database(), workers, distinct)
        killed = restarted = 0
        try:
            while not fleet.is_over:
                time.sleep(0.2)
                if killed < kills and len(sandbox.evaluations) > distinct * (killed + 1) / (kills + 2):
                    alive = [shard for shard, process in enumerate(fleet.running) if process.poll() is None]
                    if alive:
                        fleet.kill(chance.choice(alive))
                    killed += 1
                    if killed == kills // 2 and not restarted:
                        restarted += 1
                        server.stop("immediate")
                        server.start()
        finally:
            fleet.end()
        seconds = time.monotonic() - began
        found = arrow.dataset(str(folder / "out"), exclude_invalid_files=True).to_table(["row", "verdict"]).to_pylist()
        judged = {row["row"] for row in found if row["verdict"] in ("passed", "failed")}
        facts = [
            ["workers, rows, different questions", f"{workers}, {rows}, {distinct}"],
            ["workers killed (SIGKILL), restarts of PostgreSQL", f"{killed}, {restarted}"],
            ["bills, limit", f"{len(sandbox.bills)}, {distinct}: {said(len(sandbox.bills) == distinct)}"],
            ["rows with a verdict", f"{len(judged)}: {said(judged == set(range(rows)))}"],
            ["seconds", f"{seconds:.0f}"],
        ]
    return table(["workers that die", ""], facts)


def rates(server: Postgres, workers: int, rate: float, minutes: int) -> str:
    """Nobody tells the workers the rate; there is more to do than it allows."""
    rows = int(rate * 60 * (minutes + 1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_manifest(folder, rows, min(rows, 400))
        lines = [f"pictures/{number % min(rows, 400)}.png,prompt {number}\n" for number in range(rows)]
        (folder / "manifest.csv").write_text("image,generation_prompt\n" + "".join(lines))
        with LimitedSandbox(rate, latency=1.0, balance="1000000", keep_bodies=False) as sandbox:
            fleet = Fleet(folder, sandbox, server.new_database(), workers, 10**6)
            sandbox.wait_for_requests("POST", SUBMIT, timeout=600)
            sandbox.began = time.monotonic()
            sandbox.taken.clear()
            sandbox.refused.clear()
            time.sleep(60 * minutes)
            fleet.end()
            lines = [
                [f"minute {minute + 1}", sandbox.taken[minute], sandbox.refused[minute],
                 f"{sandbox.refused[minute] / max(sandbox.taken[minute] + sandbox.refused[minute], 1):.1%}"]
                for minute in range(minutes)
            ]  # fmt: skip
            later = [(sandbox.taken[minute], sandbox.refused[minute]) for minute in range(1, minutes)]
    taken, refused = (sum(column) for column in zip(*later, strict=True))
    kept = f"{taken / (60 * (minutes - 1)):.1f} of {rate:g} requests per second after the first minute"
    share = refused / max(taken + refused, 1)
    goal = f"{share:.2%} answered 429: {said(share <= 0.01)} (≤ 1 %)"
    return (
        table([f"{workers} workers, {rate:g} requests per second", "taken", "429", ""], lines) + f"\n\n{kept}; {goal}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--only", choices=("deaths", "rates"))
    args = parser.parse_args()
    server = Postgres()
    try:
        print(f"{machine()} Load average {os.getloadavg()[0]:.0f}.\n", flush=True)
        if args.only != "rates":
            print(deaths(server, args.workers, args.images, args.kills), "\n", flush=True)
        if args.only != "deaths":
            print(rates(server, args.workers, args.rate, args.minutes), flush=True)
    finally:
        server.remove()


if __name__ == "__main__":
    main()
