"""Two workers on Ray, one of which is killed: every row has its verdict, and nothing is paid twice.

Ray alone takes ten seconds to start.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support import postgres
from support.pictures import picture

from runflow_api import images
from runflow_api.bulk import ray as bulk_ray
from runflow_api.bulk.manifest import Manifest
from runflow_api.bulk.question import RowReader
from runflow_api.bulk.run import BulkRun, Settings
from runflow_api.sandbox.app import Sandbox

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]
ROOT = Path(__file__).resolve().parents[2]
PICTURES, ROWS, WORKERS = 24, 48, 2
BROKEN = 40
"""A line that cannot be read: its picture is judged for the other row that names it."""
SUBMIT = "/v1/evaluations"


class Mortal(bulk_ray.RunflowJudge):
    """The first one that has submitted a batch is killed before it can tell."""

    def __call__(self, batch: Any) -> Any:
        judged = super().__call__(batch)
        with contextlib.suppress(FileExistsError):
            Path(os.environ["RUNFLOW_TEST_KILLED"]).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return judged


def test_a_worker_that_is_killed_loses_nothing_and_pays_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if postgres.programs() is None:
        pytest.skip(postgres.NOT_HERE)
    for number in range(PICTURES):
        images.to_pil(images.to_pixels(picture(number, 48, 48))).save(tmp_path / f"{number}.png")
    lines = [f"{n % PICTURES}.png,a fox,{n}" for n in range(ROWS)]
    lines[BROKEN] = "a,line,that,has,too,many,columns"
    for half, name in enumerate(("1.csv", "2.csv")):
        some = lines[half * ROWS // 2 : (half + 1) * ROWS // 2]
        (tmp_path / name).write_text("\n".join(["image,generation_prompt,mine", *some]))
    manifest = tmp_path / "*.csv"
    killed = tmp_path / "killed"
    with Sandbox(latency=0.2, balance="1000") as sandbox:
        given = {
            "RUNFLOW_BASE_URL": sandbox.url,
            "RUNFLOW_API_KEY": sandbox.api_key,
            "RUNFLOW_JOURNAL_URL": postgres.running().new_database(),
            "RUNFLOW_MAX_EVALUATIONS_PER_DAY": str(PICTURES),
            "RUNFLOW_TEST_KILLED": str(killed),
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "scripts"))),
            "HOME": str(tmp_path / "home"),
            "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(bulk_ray, "RunflowJudge", Mortal)
        monkeypatch.setattr(bulk_ray, "BATCH", 6)
        monkeypatch.setattr(bulk_ray, "BLOCK", 6)
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
        try:
            evaluator = bulk_ray.evaluator_of_this_machine(str(tmp_path / "driver"))
            work = BulkRun(evaluator, RowReader(Manifest(str(manifest))), Settings(), "test")
            written = bulk_ray.run("auto", work, str(tmp_path / "out"), workers=WORKERS)
            found = ray.data.read_parquet(str(tmp_path / "out" / bulk_ray.RESULTS)).take_all()
        finally:
            ray.shutdown()
        evaluator.close()
        assert killed.exists()
        assert written == len(found) == ROWS
        by_number = {row["row"]: row for row in found}
        assert sorted(by_number) == list(range(ROWS)), "numbered as the manifest is"
        broken = by_number.pop(BROKEN)
        assert broken["verdict"] == "unknown" and "another number of columns" in broken["message"]
        assert {row["verdict"] for row in by_number.values()} <= {"passed", "failed"}
        assert all(row["mine"] == str(n) and row["image"] == f"{n % PICTURES}.png" for n, row in by_number.items())
        assert len({row["evaluation_id"] for row in by_number.values()}) == len(sandbox.bills) == PICTURES
