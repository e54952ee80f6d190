"""Two workers on Ray, one of which is killed: every row has its verdict, and nothing is paid twice.

Ray alone takes ten seconds to start.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import postgres
from support.pictures import picture
from support.waiting import wait_until

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
SUBMIT = "/v1/evaluations"


class Tracked(bulk_ray.RunflowJudge):
    """Leaves the number of its process where the test finds it."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        Path(os.environ["RUNFLOW_TEST_PIDS"], str(os.getpid())).touch()


def kill_one(folder: Path, sandbox: Sandbox) -> None:
    """A third of the way."""
    wait_until(lambda: len(sandbox.evaluations) >= PICTURES // 3, at_most=300)
    os.kill(int(next(folder.iterdir()).name), signal.SIGKILL)


def test_a_worker_that_is_killed_loses_nothing_and_pays_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if postgres.programs() is None:
        pytest.skip(postgres.NOT_HERE)
    for number in range(PICTURES):
        images.to_pil(images.to_pixels(picture(number, 48, 48))).save(tmp_path / f"{number}.png")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("image,generation_prompt\n" + "".join(f"{n % PICTURES}.png,a fox\n" for n in range(ROWS)))
    pids = tmp_path / "pids"
    pids.mkdir()
    with Sandbox(latency=0.2, balance="1000") as sandbox:
        given = {
            "RUNFLOW_BASE_URL": sandbox.url,
            "RUNFLOW_API_KEY": sandbox.api_key,
            "RUNFLOW_JOURNAL_URL": postgres.running().new_database(),
            "RUNFLOW_MAX_EVALUATIONS_PER_DAY": str(PICTURES),
            "RUNFLOW_TEST_PIDS": str(pids),
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "scripts"))),
            "HOME": str(tmp_path / "home"),
            "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(bulk_ray, "RunflowJudge", Tracked)
        monkeypatch.setattr(bulk_ray, "BATCH", 6)
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
        killer = threading.Thread(target=kill_one, args=(pids, sandbox))
        killer.start()
        try:
            evaluator = bulk_ray.evaluator_of_this_machine(str(tmp_path / "driver"))
            work = BulkRun(evaluator, RowReader(Manifest(str(manifest))), Settings(), "test")
            written = bulk_ray.run("auto", work, str(tmp_path / "out"), workers=WORKERS)
            found = ray.data.read_parquet(str(tmp_path / "out" / bulk_ray.RESULTS)).take_all()
        finally:
            ray.shutdown()
        killer.join()
        evaluator.close()
        assert len(list(pids.iterdir())) > WORKERS, "somebody took the dead one's place"
        assert written == len(found) == ROWS
        assert {row["verdict"] for row in found} <= {"passed", "failed"}
        assert Counter(row["image"] for row in found) == {f"{n}.png": ROWS // PICTURES for n in range(PICTURES)}
        assert len({row["evaluation_id"] for row in found}) == len(sandbox.bills) == PICTURES
