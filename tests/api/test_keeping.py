"""What becomes of judged files, what ``insight`` prints, and that nothing of anybody's is overwritten."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.pictures import picture

from runflow_api import images
from runflow_api.cli import commands as cli
from runflow_api.cli.exit_codes import JUDGED_FAILED, OK, USAGE

GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "base.safetensors"}},
    "2": {
        "class_type": "KSampler",
        "inputs": {"model": ["1", 0], "seed": 7, "steps": 20, "cfg": 6, "sampler_name": "euler", "scheduler": "karras"},
    },
    "3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0]}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}},
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user data directory of this test's own, and no key."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """One that passes and one that fails, both with the graph that made them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    info = PngInfo()
    info.add_text("prompt", json.dumps(GRAPH))
    Image.fromarray(images.to_pixels(picture(50, 256, 256))).save(folder / "good.png", pnginfo=info)
    Image.fromarray(np.full((256, 256, 3), 90, np.uint8)).save(folder / "flat.png", pnginfo=info)
    return folder


def evaluate(pictures: Path, *more: object) -> int:
    return cli.main(["evaluate", str(pictures), "--judge", "local", *map(str, more)])


def printed(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    capsys.readouterr()
    assert cli.main([*map(str, argv)]) == OK
    return capsys.readouterr().out


def test_failed_files_are_moved_passed_ones_copied_and_each_has_its_verdict_beside_it(
    pictures: Path, tmp_path: Path
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "best" / "of"
    report = tmp_path / "report.html"
    arguments = ("--move-failed", bad, "--copy-passed", good, "--sidecar", "--report", report)
    assert evaluate(pictures, *arguments) == JUDGED_FAILED
    assert sorted(file.name for file in pictures.iterdir()) == ["good.png", "good.png.runflow.json"]
    assert sorted(file.name for file in bad.iterdir()) == ["flat.png", "flat.png.runflow.json"]
    assert sorted(file.name for file in good.iterdir()) == ["good.png", "good.png.runflow.json"]
    kept = json.loads((bad / "flat.png.runflow.json").read_text("utf-8"))
    assert (kept["verdict"], kept["judge"]) == ("failed", "local")
    page = report.read_text("utf-8")
    assert 'href="bad/flat.png"' in page and "base.safetensors" in page and 'id="sort-best"' in page
    evaluate(pictures, *arguments)  # what is there already is not copied a second time
    assert sorted(file.name for file in good.iterdir()) == ["good.png", "good.png.runflow.json"]


def test_no_file_of_anybodys_is_overwritten(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "flat.png").write_text("somebody's")
    (pictures / "good.png.runflow.json").write_text("{}")
    assert evaluate(pictures, "--move-failed", bad, "--sidecar") != OK
    assert (bad / "flat.png").read_text() == "somebody's" and (bad / "flat (2).png").is_file()
    assert (pictures / "good.png.runflow.json").read_text() == "{}"
    assert "good.png.runflow.json exists and is not a verdict" in capsys.readouterr().err


def test_what_nobody_judged_stays_where_it_is(pictures: Path, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    arguments = ["--judge", "off", "--move-failed", str(bad), "--copy-passed", str(good)]
    cli.main(["evaluate", str(pictures), *arguments])
    assert len(list(pictures.iterdir())) == 2 and not bad.exists() and not good.exists()


def test_folders_that_cannot_be_used_are_refused_before_anything_is_judged(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert evaluate(pictures, "--move-failed", tmp_path / "file") == USAGE
    assert evaluate(pictures, "--move-failed", tmp_path / "a", "--copy-passed", tmp_path / "a") == USAGE


def test_somebody_without_a_key_has_a_history_and_insight(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        evaluate(pictures)
    shown: dict[str, Any] = json.loads(printed(capsys, "insight", "--by", "checkpoint,sampler", "--json"))
    (group,) = shown["groups"]
    assert group["values"] == ["base.safetensors", "euler"] and (group["judged"], group["passed"]) == (2, 1)
    assert shown["saved"]["rejected"] == 1 and shown["agreement"] == []
    (row,) = csv.DictReader(io.StringIO(printed(capsys, "insight", "--by", "size", "--csv")))
    assert (row["size"], row["attempts_per_kept"], row["credits"]) == ("256x256", "2.0", "0")
    said = printed(capsys, "insight", "--judge", "local")
    assert "50 % (9–91 %) of 2 passed" in said and "too few to be a finding" in said
    scores = [json.loads(line)["score"] for line in printed(capsys, "history", "--sort", "best", "--json").splitlines()]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)
    assert cli.main(["insight", "--by", "moon"]) == USAGE
    capsys.readouterr()
    for wrong in ("nowhere/page.html", "page.txt"):
        assert cli.main(["insight", "--html", wrong]) == USAGE
        refused = capsys.readouterr().err
        assert "--html" in refused and "--report" not in refused and not Path(wrong).exists()


@pytest.mark.parametrize("language", ["en", "ja", "zh"])
def test_the_document_needs_no_network_and_no_script(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], language: str
) -> None:
    evaluate(pictures)
    page = tmp_path / "insight.html"
    assert cli.main(["insight", "--by", "checkpoint,steps", "--html", str(page), "--language", language]) == OK
    text = page.read_text("utf-8")
    assert "<svg" in text and "<script" not in text and "default-src 'none'" in text and f'lang="{language}"' in text
    assert "base.safetensors" in text
    said = printed(capsys, "insight", "--by", "checkpoint,steps", "--language", language, "--html")
    assert said.rstrip("\n") == text.rstrip("\n")
