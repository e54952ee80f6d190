"""A manifest in, a verdict for each of its rows out, whatever happens on the way."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from PIL import PngImagePlugin
from support.journals import child_environment
from support.pictures import picture
from support.waiting import wait_until

from runflow_api import images
from runflow_api.bulk.estimate import Sampled
from runflow_api.bulk.manifest import BROKEN, Manifest
from runflow_api.bulk.run import Settings
from runflow_api.cli import commands as cli
from runflow_api.cli.exit_codes import CONFIGURATION, INTERRUPTED, NOT_JUDGED, OK, USAGE
from runflow_api.errors import ConfigurationError, InvalidInputError
from runflow_api.sandbox.app import Fault, Sandbox

ROOT = Path(__file__).resolve().parents[2]
PICTURES, ROWS = 8, 12
"""The last four rows show pictures that came before."""
PRICE = Decimal("0.10")
SUBMIT = "/v1/evaluations"


GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "base.safetensors"}},
    "2": {"class_type": "KSampler", "inputs": {"model": ["1", 0], "seed": 7, "steps": 20, "sampler_name": "euler"}},
    "3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0]}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of them as ComfyUI saves it, with its graph."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(PICTURES):
        saved = PngImagePlugin.PngInfo()
        if number == 0:
            saved.add_text("prompt", json.dumps(GRAPH))
        images.to_pil(images.to_pixels(picture(number, 48, 48))).save(folder / f"{number}.png", pnginfo=saved)
    return folder


@pytest.fixture
def run(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """``bulk`` with these arguments, in this process: its exit code and what it said."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("RUNFLOW_BASE_URL", sandbox.url)
    monkeypatch.setenv("RUNFLOW_API_KEY", sandbox.api_key)

    def call(manifest: Path | str, *arguments: str) -> tuple[int, str]:
        code = cli.main(["bulk", str(manifest), "--output", str(tmp_path / "out"), *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def manifest_in(folder: Path, pictures: Path, more: list[dict[str, Any]] | None = None) -> Path:
    rows = [{"image": str(pictures / f"{n % PICTURES}.png"), "generation_prompt": "a fox"} for n in range(ROWS)]
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *(more or [])]))
    return path


def verdicts(output: Path) -> list[dict[str, Any]]:
    found = pa.dataset.dataset([str(path) for path in sorted(output.glob("*.parquet"))]).to_table().to_pylist()
    return sorted(found, key=lambda row: row["row"])


# --- the manifest -----------------------------------------------------------------------------------


@pytest.fixture(params=["rows.parquet", "rows.csv", "rows.jsonl"])
def rows_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Ten rows in each format."""
    rows = [{"image": f"{n}.png", "generation_prompt": f"prompt {n}, with a comma"} for n in range(10)]
    path = tmp_path / str(request.param)
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_format_gives_the_same_rows_and_shards_share_them_out(rows_file: Path) -> None:
    manifest = Manifest(str(rows_file))
    rows = list(manifest.rows())
    assert [row.values["generation_prompt"] for row in rows] == [f"prompt {n}, with a comma" for n in range(10)]
    shards = [[row.number for row in manifest.shard(index, 3)] for index in range(3)]
    assert shards == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]] and manifest.count() == 10
    assert Manifest(f"{rows_file.parent}/*{rows_file.suffix}").base == manifest.base, "images are beside it"
    sample = [row.number for row in manifest.sample(4, 10)]
    assert len(set(sample)) == 4 and sample == [row.number for row in manifest.sample(4, 10)]


def test_a_folder_of_manifests_anywhere_is_one(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    for number in range(2):
        files.pipe_file(f"/bulk/{number}.jsonl", b'{"image": "a.png"}\n')
    manifest = Manifest("memory://bulk")
    assert [row.number for row in manifest.rows()] == [0, 1]
    assert manifest.address("a.png") == "memory:///bulk/a.png"
    with pytest.raises(InvalidInputError, match="not a manifest"):
        Manifest(str(tmp_path / "none.csv"))


def test_a_line_that_cannot_be_read_is_a_row_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png"}\nnot json\n[1]\n')
    (tmp_path / "rows.csv").write_text("image,generation_prompt\na.png,b\nb.png\n")
    assert [BROKEN in row.values for row in Manifest(str(tmp_path / "rows.jsonl")).rows()] == [False, True, True]
    assert [BROKEN in row.values for row in Manifest(str(tmp_path / "rows.csv")).rows()] == [False, True]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_manifest_is_read_as_any_program_saves_it(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "rows.csv").write_text("image,generation_prompt\na.png,\u6771\u4eac\n", encoding)
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png", "generation_prompt": "\u6771\u4eac"}\n', encoding)
    for name in ("rows.csv", "rows.jsonl"):
        assert [row.values for row in Manifest(str(tmp_path / name)).rows()] == [
            {"image": "a.png", "generation_prompt": "\u6771\u4eac"}
        ]


def test_an_interval_holds_the_share_and_the_sum_grows_with_the_rows() -> None:
    centre, half = Sampled(200, 200, 166, Decimal("20.4")).interval
    assert centre - half < 0.83 < centre + half and half == pytest.approx(0.052, abs=0.002)
    assert Sampled(200, 200, 166, Decimal("20.4")).credits_for(10_000) == 1_020
    assert Sampled(5, 0, 0, None).interval == (0.5, 0.5)


# --- a run ------------------------------------------------------------------------------------------


def test_every_row_gets_its_verdict_copies_are_paid_once_and_a_second_run_pays_nothing(
    run: Callable[..., tuple[int, str]],
    sandbox: Sandbox,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = manifest_in(tmp_path, pictures, [{"image": "gone.png", "mine": "m13"}, {"image": 7}])
    code, said = run(manifest, "--yes", "--part-rows", "5", "--keep", "mine")
    assert code == NOT_JUDGED and "2 × INVALID_INPUT" in said
    found = verdicts(tmp_path / "out")
    assert [row["row"] for row in found] == list(range(ROWS + 2))
    assert Counter(row["code"] for row in found) == {None: ROWS, "INVALID_INPUT": 2}
    assert {row["verdict"] for row in found[:ROWS]} <= {"passed", "failed"} and found[ROWS]["mine"] == "m13"
    assert len({row["evaluation_id"] for row in found[:ROWS]}) == len(sandbox.bills) == PICTURES
    assert {row["cost"] for row in found[:ROWS]} == {PRICE}
    dead = list(Manifest(str(tmp_path / "out" / "dead-letters")).rows())
    assert [row.values["row"] for row in dead] == [ROWS, ROWS + 1]
    capsys.readouterr()
    assert cli.main(["insight", "--by", "checkpoint,seed", "--json"]) == OK
    made = {tuple(each["values"]): each["judged"] for each in json.loads(capsys.readouterr().out)["groups"]}
    assert made == {("base.safetensors", "7"): 1, (None, None): PICTURES - 1}

    images.to_pil(images.to_pixels(picture(0, 48, 48))).save(tmp_path / "gone.png")
    code, said = run(manifest, "--yes", "--part-rows", "5", "--keep", "mine")
    assert (code, verdicts(tmp_path / "out")) == (OK, found) and f"{ROWS + 2} judged before" in said
    run(manifest, "--yes", "--part-rows", "5", "--keep", "mine", "--retry")
    again = verdicts(tmp_path / "out")
    assert [row["verdict"] == "unknown" for row in again] == [False] * (ROWS + 1) + [True]
    assert len(sandbox.bills) == PICTURES + 1, "another prompt, so another question"


def test_nothing_is_paid_without_a_word_and_no_budget_is_passed(
    run: Callable[..., tuple[int, str]], sandbox: Sandbox, pictures: Path, tmp_path: Path
) -> None:
    manifest = manifest_in(tmp_path, pictures)
    code, said = run(manifest)
    assert code == USAGE and "NOT_CONFIRMED" in said and "at most 1.20 credits" in said and not sandbox.bills
    code, said = run(manifest, "--yes", "--budget", "0.5", "--part-rows", "100")
    assert code == NOT_JUDGED and "BUDGET_EXCEEDED" in said and "--budget" in said
    assert len(sandbox.bills) == 5
    assert 5 <= len(verdicts(tmp_path / "out")) < ROWS, "what was paid can be read"
    assert run(manifest, "--yes", "--budget", "0.8", "--part-rows", "100")[0] == OK
    assert len(sandbox.bills) == PICTURES and len(verdicts(tmp_path / "out")) == ROWS


def test_a_sample_says_what_the_whole_would_come_to(
    run: Callable[..., tuple[int, str]], sandbox: Sandbox, pictures: Path, tmp_path: Path
) -> None:
    manifest = manifest_in(tmp_path, pictures)
    code, said = run(manifest, "--yes", "--sample", "4", "--sample-only")
    assert code == OK and "4 judged at random:" in said and "% pass, the whole would cost about" in said
    paid = len(sandbox.bills)
    assert paid <= 4 and not list((tmp_path / "out").glob("*.parquet"))
    run(manifest, "--yes")
    assert len(sandbox.bills) == PICTURES, "the sample was not paid again"


def test_shards_make_a_whole_and_a_folder_takes_no_other_manifest(
    run: Callable[..., tuple[int, str]], sandbox: Sandbox, pictures: Path, tmp_path: Path
) -> None:
    manifest = manifest_in(tmp_path, pictures)
    for shard in ("1/2", "2/2"):
        assert run(manifest, "--yes", "--shard", shard)[0] == OK
    assert [row["row"] for row in verdicts(tmp_path / "out")] == list(range(ROWS))
    assert len(sandbox.bills) == PICTURES
    code, said = run(manifest, "--yes", "--shard", "1/3")
    assert code == USAGE and "belongs to another run (different: shards)" in said


def test_an_outage_is_waited_out_and_what_would_meet_every_row_ends_the_run(
    run: Callable[..., tuple[int, str]],
    sandbox: Sandbox,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runflow_api.bulk.run.FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr("runflow_api.api.transport.FIRST_DELAY_S", 0.01)
    manifest = manifest_in(tmp_path, pictures)
    sandbox.add_fault(Fault("POST", SUBMIT, "status", times=60))
    assert run(manifest, "--yes")[0] == OK and len(sandbox.bills) == PICTURES
    sandbox.add_fault(Fault("POST", SUBMIT, "status", times=None, status=401))
    other = manifest.with_name("other.jsonl")
    other.write_text(manifest.read_text().replace("a fox", "an owl"))
    code, said = run(other, "--yes", "--output", str(tmp_path / "other"))
    assert code == CONFIGURATION and "Stopped: [UNAUTHORIZED]" in said and not list(tmp_path.glob("other/*.parquet"))


def test_a_run_that_is_killed_or_interrupted_goes_on_where_it_was(
    sandbox: Sandbox, pictures: Path, tmp_path: Path
) -> None:
    manifest, output = manifest_in(tmp_path, pictures), tmp_path / "out"
    command = [sys.executable, "-m", "runflow_api", "bulk", str(manifest), "--output", str(output), "--yes"]
    environment = {
        **child_environment(),
        "RUNFLOW_BASE_URL": sandbox.url,
        "RUNFLOW_API_KEY": sandbox.api_key,
        **dict.fromkeys(("HOME", "XDG_DATA_HOME", "USERPROFILE", "LOCALAPPDATA"), str(tmp_path / "home")),
    }
    sandbox.latency = 30.0
    for number in (signal.SIGKILL, signal.SIGINT):
        before = len(sandbox.requests)
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: len(sandbox.requests) >= before + 12, at_most=240)  # noqa: B023
        process.send_signal(number)
        said = process.communicate(timeout=120)[1]
        assert process.returncode == (INTERRUPTED if number == signal.SIGINT else -signal.SIGKILL), said
    for stored in sandbox.evaluations.values():
        stored.latency = 0.0
    sandbox.latency = 0.0
    assert subprocess.run(command, env=environment, timeout=120, capture_output=True).returncode == OK
    assert [row["row"] for row in verdicts(output)] == list(range(ROWS))
    assert len(sandbox.bills) == PICTURES


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigurationError, match=r"EXTRA_NOT_INSTALLED.*fsspec.*runflow-evaluate\[bulk\]"):
        Manifest(str(tmp_path / "rows.csv"))


def test_settings_of_a_run_are_those_of_the_command_line() -> None:
    parsed = cli.parser().parse_args(["bulk", "m.csv", "--output", "o"])
    settings = Settings()
    assert (parsed.in_flight, parsed.part_rows, parsed.shard) == (
        settings.in_flight,
        settings.part_rows,
        settings.shard,
    )
