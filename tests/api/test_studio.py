"""docs/studio.md keeps its word: its commands run as they are printed, one after the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import postgres
from support.pictures import picture

from runflow_api import images
from runflow_api.bulk.manifest import FIELDS
from runflow_api.sandbox.app import Sandbox

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "studio.md").read_text("utf-8")
FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [block for language, block in FENCES if not language]
SET_UP = 'pip install "runflow-evaluate[postgresql,bulk]"\n'

pytestmark = pytest.mark.slow


def test_the_commands_of_the_page_set_up_a_journal_and_judge_a_manifest(sandbox: Sandbox, tmp_path: Path) -> None:
    if postgres.programs() is None:
        pytest.skip(postgres.NOT_HERE)
    server = postgres.running()
    for number in range(4):
        images.to_pil(images.to_pixels(picture(number, 48, 48))).save(tmp_path / f"{number}.png")
    (tmp_path / "manifest.csv").write_text("image,generation_prompt\n" + "".join(f"{n}.png,a fox\n" for n in range(4)))
    assert COMMANDS[0] == SET_UP, "what the tests have already"
    script = "".join(COMMANDS[1:]).replace("db.example", f"127.0.0.1:{server.port}")
    (tmp_path / "python").symlink_to(sys.executable)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(postgres.programs()), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path / "home"),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": "tests",
        "RUNFLOW_BASE_URL": sandbox.url,
        "RUNFLOW_API_KEY": sandbox.api_key,
    }
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = r"ok +journal +postgresql database runflow on 127\.0\.0\.1: PostgreSQL \d+"
    assert re.search(found, done.stdout), done.stdout
    assert "2 judged at random:" in done.stderr and len(sandbox.bills) == 4
    assert {path.name for path in (tmp_path / "shared").glob("*.parquet")} == {
        "verdicts-1-of-2-000000.parquet",
        "verdicts-2-of-2-000000.parquet",
    }
    assert (tmp_path / "journal.dump").stat().st_size > 1_000


def test_the_page_names_every_column_of_a_manifest() -> None:
    assert [name for name in FIELDS if f"`{name}`" not in PAGE] == []
