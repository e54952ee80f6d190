"""A million rows through `bulk` with a Runflow that answers at once: rows per second, memory, and where the time goes.

python benchmarks/bulk.py                      # 1,000,000 rows, 1, 2 and 4 processes, against no journal
python benchmarks/bulk.py --rows 20000 --workers 1 2

Images are addresses, so that nothing is decoded: what is measured is the way from a row to its verdict. Prints Markdown
and, where matplotlib is installed, draws the memory into bulk.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import HERE, ROOT, machine, table

from runflow_api import background
from runflow_api.api.client import RunflowClient
from runflow_api.api.models import Evaluation
from runflow_api.bulk.manifest import Manifest
from runflow_api.bulk.question import RowReader
from runflow_api.bulk.run import NO_LIMIT, BulkRun, Settings
from runflow_api.bulk.verdicts import Parts
from runflow_api.evaluation.bookkeeping import Bookkeeper
from runflow_api.evaluation.evaluator import Evaluator
from runflow_api.evaluation.polling import UsualDurations
from runflow_api.journal.journal import Request, Row, RowState
from runflow_api.settings import config

EVERY_S = 1.0
JOURNALS = {"none": "none", "SQLite": "", "PostgreSQL": "server"}


class AtOnce(RunflowClient):
    """Every evaluation is over when it is submitted."""

    def submit(self, body: bytes, **_: Any) -> Evaluation:
        return _answer(str(uuid.uuid4()), "pending")

    def get_evaluation(self, evaluation_id: str, **_: Any) -> Evaluation:
        return _answer(evaluation_id, "completed")


def _answer(evaluation_id: str, status: str) -> Evaluation:
    fields = {"id": evaluation_id, "status_code": status, "overall_passed": True, "weighted_pass_rate": 0.9}
    return Evaluation.model_validate({**fields, "org_id": "org", "cost": "0.1", "top_issues": ["a finger too many"]})


class NoBooks(Bookkeeper):
    """Keeps nothing: the same code without a journal."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.usual_durations = UsualDurations(lambda _: None)

    def begin(self, requests: Sequence[Request]) -> list[Row]:
        return [self._row(each) for each in requests]

    def _row(self, request: Request) -> Row:
        fields: dict[str, Any] = dict.fromkeys(each.name for each in dataclasses.fields(Row))
        fields |= {"id": uuid.uuid4().int, "request_hash": request.request_hash, "generation": 0}
        fields |= {"idempotency_key": str(uuid.uuid4()), "created_at": time.time(), "is_new": True, "note": ""}
        fields["state"] = RowState.OPEN
        return Row(**fields)

    def release(self, rows: Sequence[Row]) -> None: ...

    def fix_body(self, row: Row, body: bytes) -> bytes:
        return body

    def is_shared(self, row: Row) -> bool:
        return False

    def record_submission(self, row: Row, evaluation: Evaluation) -> None: ...

    def record_result(self, row: Row, evaluation: Evaluation, seconds: float | None = None) -> bool:
        return True


def at_once(*_: Any) -> float:
    return 0.0


def work(manifest: str, output: str, url: str, shard: str) -> None:
    """One process: judges its shard, and prints what it measured as one line of JSON."""
    given = {"RUNFLOW_API_KEY": "rf_test_sandbox", "RUNFLOW_MAX_EVALUATIONS_PER_DAY": "10000000"}
    settings = config.load(None, given | ({} if url == "none" else {"RUNFLOW_JOURNAL_URL": url}))
    settings = settings.model_copy(update={"max_evaluations_per_prompt": NO_LIMIT})
    evaluator = Evaluator(settings, Path(output) / f"home{shard}", client=AtOnce(settings), next_delay=at_once)
    if url == "none":
        books = NoBooks(settings, Path(output), time.time)
        evaluator.bookkeeper = evaluator._bodies._bookkeeper = evaluator._results._bookkeeper = books
    index, count = map(int, shard.split("/"))
    run = BulkRun(evaluator, RowReader(Manifest(manifest)), Settings(shard=(index, count)), "benchmark")
    memory: list[tuple[int, float]] = []
    over = threading.Event()
    watching = threading.Thread(target=_watch, args=(run, memory, over))
    watching.start()
    began, used = time.perf_counter(), time.process_time()
    background.start(run.judge_all(Parts(output, (index, count), ()))).result()
    seconds, used = time.perf_counter() - began, time.process_time() - used
    over.set()
    watching.join()
    print(json.dumps({"rows": run.tally.done, "seconds": seconds, "processor": used, "memory": memory}), flush=True)
    evaluator.close()


def _watch(run: BulkRun, memory: list[tuple[int, float]], over: threading.Event) -> None:
    """Megabytes of this process by the rows that have ended."""
    while not over.wait(EVERY_S):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory.append((run.tally.done, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))


# --- all of it ----------------------------------------------------------------------------------------


def measured(folder: Path, name: str, url: str, workers: int) -> list[dict[str, Any]]:
    output = folder / f"out {name} {workers}"
    output.mkdir()
    command = [sys.executable, __file__, "--work", str(folder / "manifest.csv"), str(output), url]
    processes = [
        subprocess.Popen([*command, f"{index}/{workers}"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for index in range(workers)
    ]
    return [json.loads(process.communicate()[0].splitlines()[0]) for process in processes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--journals", nargs="+", choices=JOURNALS, default=list(JOURNALS))
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(*args.work)
        return
    from support.postgres import Postgres

    server = Postgres()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "manifest.csv").open("w") as file:
            file.write("image,generation_prompt\n")
            file.writelines(f"https://images.example/{n}.png,a fox\n" for n in range(args.rows))
        print(f"{machine()} Load average {os.getloadavg()[0]:.0f}. {args.rows:,} rows.\n", flush=True)
        lines, plots = [], {}
        for name, url in JOURNALS.items():
            if name not in args.journals:
                continue
            for workers in args.workers if name != "SQLite" else [1]:
                address = server.new_database() if url == "server" else url or f"sqlite:///{folder / 'journal.sqlite3'}"
                found = measured(folder, name, address, workers)
                seconds = max(each["seconds"] for each in found)
                rows = sum(each["rows"] for each in found)
                used = sum(each["processor"] for each in found) / rows * 1e3
                first, last = _ends(found[0]["memory"])
                lines.append([name, workers, f"{rows / seconds:.0f}", f"{rows / seconds / workers:.0f}", f"{used:.2f}",
                              f"{first:.0f} → {last:.0f}"])  # fmt: skip
                plots[f"{name}, {workers}"] = found[0]["memory"]
                print(lines[-1], file=sys.stderr, flush=True)
        head = ["journal", "processes", "rows/s", "rows/s each", "processor ms/row", "MB at a quarter → at the end"]
        print(table(head, lines), flush=True)
    server.remove()
    _draw(plots)


def _ends(memory: list[tuple[int, float]]) -> tuple[float, float]:
    if not memory:
        return 0.0, 0.0
    return memory[len(memory) // 4][1], memory[-1][1]


def _draw(plots: dict[str, list[tuple[int, float]]]) -> None:
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name, memory in plots.items():
        pyplot.plot([rows for rows, _ in memory], [megabytes for _, megabytes in memory], label=name)
    pyplot.xlabel("rows of the first process")
    pyplot.ylabel("MB")
    pyplot.ylim(bottom=0)
    pyplot.legend()
    pyplot.savefig(HERE / "bulk.png", dpi=120)


if __name__ == "__main__":
    main()
