"""The command line against the sandbox over real HTTP: what it prints, pays and exits with."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import command_line_docs
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.pictures import picture

from runflow_api import image_files, images
from runflow_api.api.models import Evaluation
from runflow_api.cli import commands as cli
from runflow_api.cli import terminal as _terminal
from runflow_api.cli.exit_codes import (
    CLOSED_PIPE,
    CONFIGURATION,
    INTERRUPTED,
    JUDGED_FAILED,
    MEANINGS,
    NOT_JUDGED,
    OK,
    USAGE,
)
from runflow_api.cli.pixel_budget import PixelBudget
from runflow_api.errors import InvalidInputError
from runflow_api.journal.journal import Journal
from runflow_api.report import html as report
from runflow_api.sandbox.app import Fault, Sandbox, ScriptedVerdict
from runflow_api.settings import config, locations
from runflow_api.settings.load_image import Decoder, note_decoder

ROOT = Path(__file__).resolve().parents[2]
LIVE_KEY = "rf_live_0123456789abcdef0123"
PAID = ["--yes", "--prompt", "a cup"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user data directory of this test's own."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return locations.user_data_directory()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Passes every image that no script says else about."""
    passed = Evaluation(overall_passed=True, weighted_pass_rate=1.0)
    with Sandbox(latency=0.05, judge=lambda *_, **__: passed) as running:
        yield running


@pytest.fixture
def at_sandbox(sandbox: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    monkeypatch.setenv("RUNFLOW_BASE_URL", sandbox.url)
    monkeypatch.setenv("RUNFLOW_API_KEY", sandbox.api_key)
    return sandbox


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return folder(tmp_path / "pictures", 4)


def folder(path: Path, count: int) -> Path:
    """``count`` different images."""
    path.mkdir()
    pixels = images.to_pixels(picture(50, 256, 256))
    for number in range(count):
        Image.fromarray(np.roll(pixels, number, axis=1)).save(path / f"{number}.png", compress_level=1)
    return path


Run = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with --json: exit code, records, and what was said beside them."""

    def run(*argv: object) -> tuple[int, list[dict[str, Any]], str]:
        capsys.readouterr()
        code = cli.main([*map(str, argv), "--json"])
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return run


def usage_error(*argv: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([*map(str, argv)])
    return int(caught.value.code or 0)


# --- evaluate -----------------------------------------------------------------------------------------


def test_a_folder_is_judged_and_every_image_paid_once(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    code, records, said = run("evaluate", pictures, *PAID)
    assert code == OK
    assert sorted(Path(record["file"]).name for record in records) == ["0.png", "1.png", "2.png", "3.png"]
    assert all(record["verdict"] == "passed" and record["cost"] == "0.10" for record in records)
    assert "4 new evaluations at 0.10: 0.40 credits" in said
    assert "4 of 4 done · 4 passed · 0.40 credits" in said
    assert len(at_sandbox.bills) == 4


def test_the_second_time_costs_nothing_and_asks_nothing(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    run("evaluate", pictures, *PAID)
    code, records, said = run("evaluate", pictures, "--prompt", "a cup")
    assert code == OK
    assert all(record["reused"] for record in records)
    assert "nothing to pay" in said
    assert len(at_sandbox.bills) == 4


def test_what_another_decoder_made_of_a_file_is_not_paid_again(
    at_sandbox: Sandbox, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an update of ComfyUI, whose Load Image then reads with PyAV, and back."""
    pytest.importorskip("av")
    private = tmp_path / "comfyui" / "user" / locations.PRIVATE_FOLDER
    image = Image.fromarray(images.to_pixels(picture(51, 64, 93)))
    image.save(tmp_path / "before.jpg")
    image.save(tmp_path / "after.webp")
    image.save(tmp_path / "reference.jpg", quality=50)
    asked = ["--comfyui", tmp_path / "comfyui", "--reference", tmp_path / "reference.jpg", *PAID]

    note_decoder(private, Decoder.PILLOW)
    run("evaluate", tmp_path / "before.jpg", *asked)
    note_decoder(private, Decoder.PYAV)
    for decoder in (Decoder.PYAV, Decoder.PILLOW):
        note_decoder(private, decoder)
        code, records, _ = run("evaluate", tmp_path / "before.jpg", tmp_path / "after.webp", *asked)
        assert (code, len(records), len(at_sandbox.bills)) == (OK, 2, 2)

    row = {"image": "before.jpg", "references": ["reference.jpg"]}
    (tmp_path / "rows.jsonl").write_text(f'{json.dumps(row)}\n{{"image": "after.webp"}}\n')
    for decoder in (Decoder.PILLOW, Decoder.PYAV):
        note_decoder(private, decoder)
        code, _, said = run("bulk", tmp_path / "rows.jsonl", "--output", tmp_path / f"judged by {decoder}", *asked)
        assert (code, len(at_sandbox.bills)) == (OK, 2), said

    image.save(tmp_path / "new.jpg", quality=60)
    journal = sqlite3.connect(private / "sandbox" / "journal.sqlite3", isolation_level=None)
    with closing(journal):
        journal.execute("BEGIN IMMEDIATE")  # as a ComfyUI that writes: looking neither waits for it nor holds it up
        code, _, said = run("evaluate", tmp_path / "new.jpg", tmp_path / "before.jpg", *asked[:-3], "--prompt", "a cup")
        assert (code, len(at_sandbox.bills)) == (USAGE, 2)
        assert "1 new evaluation" in said and "1 known" in said

    note_decoder(private, Decoder.PYAV)
    monkeypatch.setattr(image_files, "has_pyav", bool)  # as where PyAV is not installed
    _, _, said = run("evaluate", tmp_path / "before.jpg", tmp_path / "after.webp", *asked)
    assert "2 of 2 files" in said and "pip install av" in said
    _, _, said = run("bulk", tmp_path / "rows.jsonl", "--output", tmp_path / "without", *asked[:-3])
    assert "pip install av" in said


def test_one_failed_image_exits_1(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    at_sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.3, issues=["six fingers"]))
    code, records, _ = run("evaluate", pictures, *PAID)
    assert code == JUDGED_FAILED
    assert sorted(record["verdict"] for record in records) == ["failed", "passed", "passed", "passed"]


def test_the_own_minimum_score_fails_what_runflow_passed(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    at_sandbox.add_verdict(ScriptedVerdict(passed=True, score=0.8))
    code, (record,), _ = run("evaluate", pictures / "0.png", *PAID, "--min-score", 0.85)
    assert code == JUDGED_FAILED
    assert "score 0.80, below your 0.85" in record["issues"]


def test_nothing_is_paid_without_a_yes(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    code, records, said = run("evaluate", pictures, "--prompt", "a cup")
    assert code == USAGE
    assert records == []
    assert "[NOT_CONFIRMED]" in said
    assert "--yes" in said
    assert at_sandbox.evaluations == {}


@pytest.mark.parametrize(
    ("answer", "code", "paid"), [("y\n", OK, 1), ("\n", USAGE, 0), ("no\n", USAGE, 0), ("", USAGE, 0)]
)
def test_at_a_terminal_it_asks(
    at_sandbox: Sandbox, pictures: Path, run: Run, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, paid: int
) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(answer))
    assert run("evaluate", pictures / "0.png", "--prompt", "a cup")[0] == code
    assert len(at_sandbox.bills) == paid


class Typed(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_limit_per_prompt_does_not_hold_here(
    at_sandbox: Sandbox, pictures: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNFLOW_MAX_EVALUATIONS_PER_PROMPT", "1")
    assert run("evaluate", pictures, *PAID)[0] == OK


@pytest.mark.parametrize("limit", [{"EVALUATIONS": "3"}, {"CREDITS": "0.35"}])
def test_a_limit_of_the_day_refuses_all_before_the_first(
    at_sandbox: Sandbox, pictures: Path, run: Run, monkeypatch: pytest.MonkeyPatch, limit: dict[str, str]
) -> None:
    for name, value in limit.items():
        monkeypatch.setenv(f"RUNFLOW_MAX_{name}_PER_DAY", value)
    code, _, said = run("evaluate", pictures, *PAID)
    assert code == NOT_JUDGED
    assert "[BUDGET_EXCEEDED]" in said
    assert at_sandbox.evaluations == {}
    assert run("evaluate", pictures / "0.png", pictures / "1.png", pictures / "2.png", *PAID)[0] == OK


def test_a_wrong_key_is_told_once(
    at_sandbox: Sandbox, pictures: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNFLOW_API_KEY", "rf_test_wrong")
    code, records, said = run("evaluate", pictures, *PAID)
    assert (code, records) == (CONFIGURATION, [])
    assert said.count("[UNAUTHORIZED]") == 1


def test_without_credit_no_more_images_are_started(at_sandbox: Sandbox, tmp_path: Path, run: Run) -> None:
    at_sandbox.add_fault(Fault("POST", "/v1/evaluations", "status", status=402, times=None))
    code, records, said = run("evaluate", folder(tmp_path / "many", 60), *PAID)
    assert code == NOT_JUDGED
    assert 1 <= len(records) < 60
    assert "not started" in said
    assert "Stopped: [INSUFFICIENT_CREDIT]" in said


def test_one_failed_evaluation_does_not_lose_the_others(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    at_sandbox.add_verdict(ScriptedVerdict(failure_code="processing_failed"))
    code, records, _ = run("evaluate", pictures, *PAID)
    assert code == NOT_JUDGED
    assert sorted(record["verdict"] for record in records) == ["passed", "passed", "passed", "unknown"]


@pytest.mark.parametrize(("choice", "code"), [("fail", JUDGED_FAILED), ("pass", OK)])
def test_what_is_not_judged_counts_as_chosen(
    at_sandbox: Sandbox, pictures: Path, run: Run, choice: str, code: int
) -> None:
    at_sandbox.add_verdict(ScriptedVerdict(failure_code="processing_failed"))
    assert run("evaluate", pictures / "0.png", *PAID, "--if-not-judged", choice)[0] == code


def test_a_broken_file_is_named_and_the_others_are_judged(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    (pictures / "2.png").write_bytes(b"no image")
    code, records, _ = run("evaluate", pictures, *PAID)
    assert code == NOT_JUDGED
    (broken,) = [record for record in records if record["error"]]
    assert "2.png" in broken["issues"][0]
    assert len(at_sandbox.bills) == 3


def test_a_broken_file_passes_under_no_policy(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    (pictures / "2.png").write_bytes(b"no image")
    assert run("evaluate", pictures, *PAID, "--if-not-judged", "pass")[0] == NOT_JUDGED


def test_copies_of_an_image_are_paid_once_and_counted_once(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    (pictures / "copy.png").write_bytes((pictures / "0.png").read_bytes())
    _, _, said = run("evaluate", pictures, *PAID)
    assert "4 new evaluations at 0.10: 0.40 credits" in said
    assert "5 passed, 1 of them reused · 0.40 credits" in said
    assert len(at_sandbox.bills) == 4


def test_what_is_known_needs_no_network(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    run("evaluate", pictures, *PAID)
    requests = len(at_sandbox.requests)
    assert run("evaluate", pictures, *PAID)[0] == OK
    assert len(at_sandbox.requests) == requests


def test_without_a_key_the_pixels_are_checked_for_free(home: Path, run: Run) -> None:
    photos = ROOT / "example_workflows" / "photos"
    code, records, said = run("evaluate", photos / "coffee.jpg", photos / "rocket.jpg")
    assert code == OK
    assert {record["judge"] for record in records} == {"local"}
    assert "credits" not in said


def test_instructions_without_a_key_are_a_matter_of_configuration(home: Path, pictures: Path, run: Run) -> None:
    assert run("evaluate", pictures, "--instructions", "hands")[0] == CONFIGURATION
    assert run("evaluate", pictures, "--judge", "runflow")[0] == CONFIGURATION


@pytest.mark.parametrize(
    "wrong", [["missing.png"], [], ["--min-score", "2"], ["--input-attributes", "{"], ["--report", "no/where/r.html"]]
)
def test_wrong_input_exits_2_before_anything_is_sent(
    at_sandbox: Sandbox, pictures: Path, run: Run, wrong: list[str]
) -> None:
    given = wrong if wrong == [] or wrong == ["missing.png"] else [pictures / "0.png", *wrong]
    assert run("evaluate", *given, "--yes")[0] == USAGE
    assert at_sandbox.requests == []


def test_every_option_of_the_node_reaches_the_api(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    at_sandbox.keep_bodies = True
    run_id = at_sandbox.add_run()
    options: dict[str, Any] = {
        "--prompt": "a cup", "--instructions": "hands", "--task-type": "headshot", "--task-description": "portraits",
        "--input-attributes": '{"style": "corporate"}', "--run-id": run_id, "--client-ref": "mine",
        "--job-class": "standard", "--reference": f"garment={pictures / '1.png'}", "--reference-description": "blue",
    }  # fmt: skip
    argv = [word for pair in options.items() for word in pair]
    assert run("evaluate", pictures / "0.png", "--yes", *argv)[0] == OK
    (request,) = [r for r in at_sandbox.requests if r.method == "POST"]
    body = request.body
    (reference,) = body.pop("reference_images")
    assert body.pop("generated_image_url").startswith("data:image/")
    assert reference.pop("url").startswith("data:image/")
    assert reference == {"kind": "garment", "description": "blue"}
    assert body == {
        "generation_prompt": "a cup", "evaluation_instructions": "hands", "task_type": "headshot",
        "task_description": "portraits", "input_attributes": {"style": "corporate"}, "run_id": run_id,
        "client_ref": "mine", "job_class": "standard",
    }  # fmt: skip


def test_a_reference_used_again_is_uploaded_once(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    code, _, _ = run("evaluate", pictures, *PAID, "--reference", pictures / "0.png", "--upload", "asset")
    assert code == OK
    uploads = [r for r in at_sandbox.requests if r.path == "/v1/asset-uploads"]
    assert len(uploads) == 4 + 1


def test_addresses_and_the_output_of_a_run_are_passed_on_and_not_fetched(at_sandbox: Sandbox, run: Run) -> None:
    run_id = at_sandbox.add_run(
        output={"images": ["https://example.invalid/a.png?sig=1"], "clip": "https://example.invalid/b.mp4"}
    )
    argv = ("evaluate", "https://example.invalid/c.png", "--run-output", run_id, *PAID, "--if-not-judged", "pass")
    _, records, _ = run(*argv)
    assert {record["file"] for record in records} == {"https://example.invalid/c.png", f"run {run_id}/images/0"}
    assert len(at_sandbox.bills) == 2
    at_sandbox._runs.find(run_id).fields["output"]["images"] = ["https://example.invalid/a.png?sig=2"]
    assert "nothing to pay" in run(*argv)[2]


def test_a_png_of_comfyui_is_judged_against_its_own_prompt(at_sandbox: Sandbox, tmp_path: Path, run: Run) -> None:
    graph = {
        "1": {"class_type": "KSampler", "inputs": {"positive": ["2", 0]}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a prompt of its own"}},
    }
    info = PngInfo()
    info.add_text("prompt", json.dumps(graph))
    path = tmp_path / "saved.png"
    Image.fromarray(images.to_pixels(picture(1, 64, 64))).save(path, pnginfo=info)
    _, (own,), _ = run("evaluate", path, "--yes")
    _, (given,), _ = run("evaluate", path, *PAID)
    assert own["generation_prompt"] == "a prompt of its own"
    assert given["generation_prompt"] == "a cup"


def test_images_without_a_prompt_are_told_before_anything_is_paid(
    at_sandbox: Sandbox, pictures: Path, run: Run
) -> None:
    _, records, said = run("evaluate", pictures)
    assert "No prompt for 4 of 4 (its metadata does not contain a ComfyUI prompt)" in said
    assert records == []


def test_a_judge_that_reads_no_prompt_asks_for_none(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    _, records, said = run("evaluate", pictures, "--judge", "local")
    assert len(records) == 4
    assert "No prompt" not in said


def test_a_contact_sheet_is_written(at_sandbox: Sandbox, pictures: Path, tmp_path: Path, run: Run) -> None:
    target = tmp_path / "sheet.html"
    code, _, said = run("evaluate", pictures, *PAID, "--report", target, "--title", "<script>")
    assert code == OK
    page = target.read_text("utf-8")
    assert page.count("<article") == 4
    assert "<script" not in page
    assert str(target) in said


def test_images_wait_for_their_verdicts_together(at_sandbox: Sandbox, tmp_path: Path, run: Run) -> None:
    at_sandbox.latency = 3.0
    at_once = config.Config().concurrency
    code, records, _ = run("evaluate", folder(tmp_path / "many", 3 * at_once), *PAID)
    assert (code, len(records), len(at_sandbox.bills)) == (OK, 3 * at_once, 3 * at_once)
    ready = sorted(each.due for each in at_sandbox.evaluations.values())
    submitted = [due - at_sandbox.latency for due in ready]
    assert submitted[at_once - 1] < ready[0], "as many as may be under way were sent before the first was judged"


# --- real files, bad days -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [413, 422])
def test_one_refused_image_is_named_with_the_api_s_words_and_the_others_are_judged(
    at_sandbox: Sandbox, pictures: Path, run: Run, status: int
) -> None:
    at_sandbox.add_fault(Fault("POST", "/v1/evaluations", "status", status=status, times=1))
    argv = ("evaluate", pictures, *PAID, "--upload", "data_uri")
    code, records, said = run(*argv)
    assert code == NOT_JUDGED
    assert sorted(record["verdict"] for record in records) == ["passed", "passed", "passed", "unknown"]
    (refused,) = [record for record in records if record["verdict"] == "unknown"]
    assert refused["score"] is None and refused["error"] in refused["issues"][0]
    assert "3 passed, 1 not judged" in said and "0.30 credits" in said and "nothing was paid" not in said
    assert len(at_sandbox.bills) == 3


@pytest.mark.parametrize(("choice", "expected"), [("fail", JUDGED_FAILED), ("pass", OK)])
def test_a_refused_image_counts_as_the_policy_says(
    at_sandbox: Sandbox, pictures: Path, run: Run, choice: str, expected: int
) -> None:
    at_sandbox.add_fault(Fault("POST", "/v1/evaluations", "status", status=422, times=1))
    assert run("evaluate", pictures, *PAID, "--if-not-judged", choice)[0] == expected


@pytest.mark.parametrize(
    "argv",
    [
        ["evaluate", "", "--yes"],
        ["evaluate", " ", "--yes"],
        ["submit", "", "--yes"],
        ["evaluate", "--run-output", "", "--yes"],
        ["evaluate", "a.png", "--report", "", "--yes"],
        ["evaluate", "a.png", "--comfyui", "", "--yes"],
        ["get", ""],
        ["run", ""],
    ],
)
def test_an_empty_argument_is_an_error_and_not_the_current_folder(
    at_sandbox: Sandbox, pictures: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.chdir(pictures)
    assert usage_error(*argv) == USAGE
    assert at_sandbox.requests == []


def test_animations_and_other_suffixes_of_a_folder_are_said_once(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(pictures / "clip.webp", save_all=True, append_images=frames[1:])
    frames[0].save(pictures / "clip.gif", save_all=True, append_images=frames[1:])
    code, records, said = run("evaluate", pictures, *PAID)
    assert (code, len(records)) == (OK, 4)
    assert said.count("Not looked at: 1 animation (clip.webp, ...); 1 .gif.") == 1
    assert "4 of 4 done" in said
    assert run("evaluate", pictures / "clip.webp", *PAID)[0] == NOT_JUDGED


def test_the_judges_of_a_paid_verdict_are_in_the_json(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    opinion = {"name": "hands", "passed": False, "reasoning": "six", "issues": [{"detail": "six fingers"}]}
    at_sandbox.add_verdict(ScriptedVerdict(passed=False, score=0.3, judges=[opinion]))
    _, (record,), _ = run("evaluate", pictures / "0.png", *PAID)
    (judge,) = record["judges"]
    assert (judge["name"], judge["passed"], judge["issues"]) == ("hands", False, ["six fingers"])


def test_the_text_shows_prompt_and_evaluation_id(
    at_sandbox: Sandbox, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", str(pictures / "0.png"), *PAID]) == OK
    said = capsys.readouterr().out
    assert next(iter(at_sandbox.evaluations)) in said
    assert "prompt: a cup" in said


def test_what_was_not_judged_has_no_score(
    at_sandbox: Sandbox, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "0.png").write_bytes(b"no image")
    for judge in ("runflow", "local"):
        cli.main(["evaluate", str(pictures / "0.png"), *PAID, "--judge", judge])
        assert "0.00" not in capsys.readouterr().out


def test_pixels_that_are_fine_are_no_issue(home: Path, tmp_path: Path, run: Run) -> None:
    Image.fromarray(images.to_pixels(picture(50, 320, 320))).save(tmp_path / "a.png")
    _, (record,), _ = run("evaluate", tmp_path / "a.png", "--judge", "local")
    assert not any("content not judged" in issue for issue in record["issues"])


@pytest.mark.parametrize(
    "argv",
    [
        ["key", LIVE_KEY],
        ["key", "set", LIVE_KEY],
        ["key", f"--key={LIVE_KEY}"],
        ["key", "secret-of-another-form"],
        ["key", "set", "--json", LIVE_KEY],
        ["evaluate", LIVE_KEY],
    ],
)
def test_a_key_is_never_echoed_wherever_it_is_put(
    home: Path, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    assert cli.main(argv) == USAGE
    out, err = capsys.readouterr()
    assert LIVE_KEY not in out + err and "secret-of" not in out + err
    assert "never an argument" in err


def test_a_report_never_overwrites_an_image(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    before = (pictures / "0.png").read_bytes()
    code, _, said = run("evaluate", pictures, *PAID, "--report", pictures / "0.png")
    assert code == USAGE and "--report" in said
    assert (pictures / "0.png").read_bytes() == before
    assert at_sandbox.evaluations == {}


def test_a_report_that_cannot_be_saved_after_all_is_one_line_and_loses_no_verdict(
    at_sandbox: Sandbox, pictures: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write", no_space)
    code, records, said = run("evaluate", pictures, *PAID, "--report", tmp_path / "r.html")
    assert (code, len(records)) == (CONFIGURATION, 4)
    assert "[REPORT_NOT_SAVED]" in said and "No space left on device" in said


def test_a_report_names_folders_and_links_relative_to_itself(at_sandbox: Sandbox, tmp_path: Path, run: Run) -> None:
    (tmp_path / "night").mkdir()
    folder(tmp_path / "night" / "a", 1)
    folder(tmp_path / "night" / "b c", 2)
    run("evaluate", tmp_path / "night", "--recursive", *PAID, "--report", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert ">a/0.png<" in page and ">b c/1.png<" in page
    assert 'href="night/b%20c/1.png"' in page
    assert "b c (2)" in page


@pytest.mark.parametrize(
    "argv", [["-m", "runflow_api"], ["-I", str(ROOT / "runflow_api")], [str(ROOT / "runflow_api")]]
)
def test_it_runs_as_a_module_and_as_a_folder(argv: list[str], tmp_path: Path) -> None:
    folder = ROOT if argv[0] == "-m" else tmp_path
    command = [sys.executable, *argv, "--help"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    named = f"{sys.executable} {ROOT / 'runflow_api'}" if argv[0] == "-I" else "python -m runflow_api"
    assert done.stdout.startswith(f"usage: {named}")  # as it can be typed again there


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there that few have")
@pytest.mark.parametrize("name", ["runflow-evaluate", "ComfyUI-Runflow-Evaluate"])
def test_an_isolated_python_finds_the_comfyui_around_the_pack_under_both_names(name: str, tmp_path: Path) -> None:
    private = tmp_path / "user" / "__runflow_evaluate"
    private.mkdir(parents=True)
    (private / "api_key").write_text("rf_test_of_the_comfyui_around_it_7f3a")
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "custom_nodes" / name).symlink_to(ROOT, target_is_directory=True)
    command = [sys.executable, "-I", f"custom_nodes/{name}/runflow_api", "key", "show"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "7f3a" in done.stdout, done.stderr


# --- stopping and going on ----------------------------------------------------------------------------


def start(*argv: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runflow_api", *map(str, argv)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("how", [signal.SIGINT, getattr(signal, "SIGKILL", signal.SIGTERM)])
def test_stopped_half_way_and_started_again_the_bill_is_one_for_each(
    at_sandbox: Sandbox, tmp_path: Path, run: Run, how: int
) -> None:
    at_sandbox.latency = 1.0
    many = folder(tmp_path / "many", 60)
    with start("evaluate", many, *PAID, "--json") as process:
        at_sandbox.wait_for_requests("POST", "/v1/evaluations", count=30, timeout=60)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == INTERRUPTED
        assert "run the same command again" in said
    at_sandbox.latency = 0.05
    code, records, _ = run("evaluate", many, *PAID)
    assert (code, len(records)) == (OK, 60)
    assert len(at_sandbox.bills) == 60


# --- submit, get, feedback, run -----------------------------------------------------------------------


def test_what_was_submitted_is_read_later_and_rated(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    at_sandbox.latency = 5.0
    code, records, said = run("submit", pictures, *PAID)
    assert code == OK
    assert "4 of 4 submitted" in said
    ids = [record["id"] for record in records]
    assert run("get", *ids)[0] == NOT_JUDGED
    code, verdicts, _ = run("get", *ids, "--wait", "--embed", "all")
    assert code == OK
    assert [verdict["answer"]["id"] for verdict in verdicts] == ids
    assert len(run("evaluate", pictures, "--prompt", "a cup")[1]) == 4
    assert len(at_sandbox.bills) == 4
    code, (rated,), _ = run("feedback", "bad", ids[0], "--reason", "wrong")
    assert (code, rated["feedback_is_positive"], rated["feedback_reason"]) == (OK, False, "wrong")
    run("feedback", "clear", ids[0])
    assert at_sandbox.evaluations[ids[0]].feedback == {"feedback_is_positive": None, "feedback_reason": None}


@pytest.mark.parametrize("command", [["get"], ["feedback", "good"], ["run"]])
def test_an_unknown_id_exits_2(at_sandbox: Sandbox, run: Run, command: list[str]) -> None:
    code, _, said = run(*command, "00000000-0000-4000-8000-000000000000")
    assert code == USAGE
    assert "NOT_FOUND]" in said


@pytest.mark.parametrize(("status", "code"), [("succeeded", OK), ("failed", JUDGED_FAILED), ("running", NOT_JUDGED)])
def test_a_run_exits_with_how_it_ended(at_sandbox: Sandbox, run: Run, status: str, code: int) -> None:
    run_id = at_sandbox.add_run(status, output={"a": 1}, node_runs=[{"node_id": None, "state_code": "done"}])
    got, (answer,), _ = run("run", run_id, "--embed", "node_runs")
    assert (got, answer["status_code"], answer["node_runs"][0]["state_code"]) == (code, status, "done")


def test_an_unknown_embed_is_refused(at_sandbox: Sandbox, run: Run) -> None:
    assert run("get", "0" * 8, "--embed", "everything")[0] == USAGE


# --- history, cost, doctor ----------------------------------------------------------------------------


def test_history_and_cost_tell_what_was_paid(at_sandbox: Sandbox, pictures: Path, run: Run) -> None:
    run("evaluate", pictures, *PAID)
    code, rows, said = run("history", "--limit", 3)
    assert code == OK
    assert [row["cost"] for row in rows] == ["0.10"] * 3
    assert f"--before {rows[-1]['row']}" in said
    assert len(run("history", "--outcome", "failed")[1]) == 0
    code, lines, _ = run("cost", "--days", 1)
    assert code == OK
    assert lines[0]["evaluations"] == 4
    assert lines[-1]["balance"]["balance"] == "99.60"


def test_the_journal_is_of_the_command_line_or_of_the_comfyui_that_is_named(
    at_sandbox: Sandbox, pictures: Path, home: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "comfyui" / "user").mkdir(parents=True)
    run("evaluate", pictures / "0.png", *PAID)
    run("evaluate", pictures / "0.png", *PAID, "--comfyui", tmp_path / "comfyui")
    for directory in (home, tmp_path / "comfyui" / "user" / "__runflow_evaluate"):
        with Journal.open(None, directory / "sandbox") as journal:
            assert len(journal.history()) == 1
    assert run("history", "--comfyui", tmp_path)[0] == USAGE


def test_doctor_finds_nothing_wrong(at_sandbox: Sandbox, run: Run) -> None:
    code, findings, _ = run("doctor")
    assert code == OK
    states = {finding["name"]: finding["state"] for finding in findings}
    assert states.pop("configuration") == "note"  # a sandbox is named as one
    assert set(states.values()) == {"ok"}
    assert {"evaluations:create", "evaluations:read", "evaluations:edit", "journal", "network"} <= set(states)
    assert at_sandbox.evaluations == {}


def test_doctor_says_what_to_do(sandbox: Sandbox, home: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox._keys["rf_test_reader"] = {"evaluations:read"}
    monkeypatch.setenv("RUNFLOW_BASE_URL", sandbox.url)
    monkeypatch.setenv("RUNFLOW_API_KEY", "rf_test_reader")
    code, findings, _ = run("doctor")
    wrong = {finding["name"]: finding["to_do"] for finding in findings if finding["state"] == "fail"}
    assert code == CONFIGURATION
    assert wrong == {
        "evaluations:create": "give the key the scope evaluations:create",
        "evaluations:edit": "give the key the scope evaluations:edit",
    }


def test_doctor_tells_an_address_where_nobody_answers(home: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFLOW_BASE_URL", "http://127.0.0.1:9")
    code, findings, _ = run("doctor")
    assert code == CONFIGURATION
    assert "[CONNECTION_FAILED]" in findings[-1]["text"]


# --- key ----------------------------------------------------------------------------------------------


def test_a_key_is_set_from_standard_input_shown_masked_and_removed(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{LIVE_KEY}\n"))
    code, (shown,), said = run("key", "set")
    assert (code, shown) == (OK, {"key": "rf_live_…0123", "source": "key file"})
    assert LIVE_KEY not in said
    assert (home / config.KEY_FILE).read_text().strip() == LIVE_KEY
    monkeypatch.setenv("RUNFLOW_API_KEY", "rf_test_other")
    assert "is not used" in run("key", "show")[2]
    monkeypatch.delenv("RUNFLOW_API_KEY")
    assert run("key", "remove")[1] == [{"key": "not set", "source": None}]
    assert not (home / config.KEY_FILE).exists()


def test_a_key_is_never_an_argument_and_is_not_repeated(home: Path, run: Run) -> None:
    code, printed, said = run("key", "set", LIVE_KEY)
    assert code == USAGE
    assert "never an argument" in said
    assert LIVE_KEY not in f"{printed}{said}"


def test_a_key_is_imported_only_when_asked(home: Path, tmp_path: Path, run: Run) -> None:
    settings = tmp_path / "comfyui" / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"Runflow.ApiKey": LIVE_KEY}))
    there = ["--comfyui", tmp_path / "comfyui"]
    assert run("key", "show", *there)[1] == [{"key": "not set", "source": None}]
    code, (shown,), said = run("key", "import", *there)
    assert (code, shown["key"]) == (OK, "rf_live_…0123")
    assert LIVE_KEY not in said
    assert run("key", "import")[0] == USAGE


def test_a_key_is_checked_with_runflow(at_sandbox: Sandbox, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, (account,), _ = run("key", "check")
    assert (code, account["accepted"]) == (OK, True)
    monkeypatch.setenv("RUNFLOW_API_KEY", "rf_test_wrong")
    assert run("key", "check")[0] == CONFIGURATION
    monkeypatch.delenv("RUNFLOW_API_KEY")
    assert run("key", "check")[0] == CONFIGURATION


# --- the terminal -------------------------------------------------------------------------------------


def test_images_in_memory_are_bounded_by_their_pixels() -> None:
    """A large one waits for room, and one that is larger than all room goes alone."""
    inside: list[int] = []
    most: list[int] = []

    async def one(budget: PixelBudget, pixels: int) -> None:
        async with budget.for_pixels(pixels):
            inside.append(pixels)
            most.append(sum(min(each, 100) for each in inside))
            await asyncio.sleep(0.001)
            inside.remove(pixels)

    async def all_of_them() -> None:
        budget = PixelBudget(100)
        await asyncio.gather(*(one(budget, pixels) for pixels in (60, 50, 40, 1_000, 10, 90)))

    asyncio.run(all_of_them())
    assert len(most) == 6
    assert max(most) <= 100


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_by(screen: io.StringIO, *parts: Any, as_json: bool = False) -> str:
    _terminal.Terminal(as_json, out=screen).result(*parts, record={"name": parts[0]} if as_json else None)
    return screen.getvalue()


RED = _terminal.Painted("x", _terminal.RED)


def test_colours_only_on_a_terminal_and_not_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert shown_by(Screen(), RED) == "\x1b[31mx\x1b[0m\n"
    assert shown_by(io.StringIO(), RED) == "x\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown_by(Screen(), RED) == "x\n"


def test_the_moving_line_is_drawn_only_on_a_terminal_and_taken_away_before_lines() -> None:
    screen, pipe = Screen(), io.StringIO()
    for err in (screen, pipe):
        terminal = _terminal.Terminal(out=io.StringIO(), err=err)
        terminal.progress("half way")
        terminal.say("a line")
        terminal.close()
    assert "half way" in screen.getvalue() and screen.getvalue().endswith("\ra line\n")
    assert pipe.getvalue() == "a line\n"


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_moving_line_never_wraps(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Screen()
    terminal = _terminal.Terminal(out=io.StringIO(), err=screen)
    terminal.progress(
        "judged: 1,234 passed, 567 failed, 89 not judged, 200 of them reused, 156.70 credits", 1_890, 9_999
    )
    lines = screen.getvalue().split("\r")
    assert "1890/9999" in screen.getvalue()
    assert max(len(line) for line in lines) < columns


@pytest.mark.parametrize("colour", [True, False])
def test_text_from_outside_can_neither_steer_nor_colour_the_terminal(colour: bool) -> None:
    name = "a\x1b]0;title\x07b\x1b[2Jc\u202ed\x9be\x1b[32mgreen\udcff.png"
    said = shown_by(Screen() if colour else io.StringIO(), name)
    assert not set(said) & {"\x1b", "\x07", "\u202e", "\x9b", "\udcff"}
    assert r"\x1b[32mgreen" in said
    (line,) = shown_by(io.StringIO(), name, as_json=True).splitlines()
    assert not set(line) & {"\x1b", "\x07", "\u202e", "\x9b", "\udcff"}
    assert json.loads(line) == {"name": name}


def test_a_name_with_line_breaks_stays_on_its_line(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder(tmp_path / "pictures", 1) / "0.png"
    path = path.rename(path.with_name("a\npassed    b.png"))
    cli.main(["evaluate", str(path), "--judge", "local"])
    assert r"a\npassed    b.png" in capsys.readouterr().out


@pytest.mark.parametrize("streams", ["stdout", "both"])
def test_a_reader_that_goes_away_ends_with_141(at_sandbox: Sandbox, pictures: Path, streams: str) -> None:
    """Also if a payment was not confirmed: whoever reads the exit code must not take it for done."""
    paid = PAID if streams == "stdout" else PAID[1:]
    with start("evaluate", pictures, *paid) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        if streams == "both":
            process.stderr.close()
            process.stderr = None
        assert process.wait(timeout=60) == CLOSED_PIPE
        if process.stderr is not None:
            said = process.stderr.read()
            assert "Traceback" not in said and "Exception" not in said
    assert len(at_sandbox.bills) == (0 if streams == "both" else len(at_sandbox.evaluations))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_one_line(pictures: Path, home: Path) -> None:
    command = [sys.executable, "-m", "runflow_api", "evaluate", str(pictures), "--judge", "local"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == CONFIGURATION
    assert "[FILE_ERROR] No space left on device." in done.stderr
    assert "Traceback" not in done.stderr


# --- help, documentation, places ----------------------------------------------------------------------


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_help_says_what_a_command_does_costs_and_exits_with(
    command: cli.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert usage_error(command.name, "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert command.does in said
    assert f"Costs: {command.costs}" in said
    assert all(f"{code} {MEANINGS[code]}" in said for code in command.exits)


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_argument_is_explained(command: cli.Command) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    command.arguments(parser)
    assert all(action.help for action in parser._actions)


def test_the_documentation_is_what_the_commands_say() -> None:
    assert command_line_docs.PAGE.read_text("utf-8") == command_line_docs.render()


def test_a_missing_or_unknown_command_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert usage_error() == USAGE
    assert usage_error("frobnicate") == USAGE


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.local/share/runflow-evaluate"),
        ("linux", {"XDG_DATA_HOME": "relative"}, "home/.local/share/runflow-evaluate"),
        ("darwin", {"XDG_DATA_HOME": "/data"}, "home/Library/Application Support/runflow-evaluate"),
        ("win32", {}, "home/AppData/Local/runflow-evaluate"),
    ],
)
def test_the_user_data_directory_is_where_the_platform_has_it(
    platform: str, variables: dict[str, str], expected: str
) -> None:
    found = locations.user_data_directory(platform, lambda name: variables.get(name, ""), Path("home"))
    assert found == Path(expected)
    named = locations.user_data_directory("linux", lambda _: str(Path.cwd()), Path("home"))
    assert named == Path.cwd() / "runflow-evaluate"


def test_a_pack_inside_a_comfyui_uses_its_private_directory(tmp_path: Path) -> None:
    pack = tmp_path / "custom_nodes" / "pack"
    pack.mkdir(parents=True)
    assert locations.comfyui_of(pack) is None
    (tmp_path / "user").mkdir()
    assert locations.settings_directory(None, pack) == tmp_path / "user" / "__runflow_evaluate"
    with pytest.raises(InvalidInputError):
        locations.private_directory(pack)


def test_the_private_directory_is_the_one_that_the_nodes_use() -> None:
    bridge = (ROOT / "nodes" / "_runtime.py").read_text("utf-8")
    assert 'get_system_user_directory("runflow_evaluate")' in bridge
    assert locations.PRIVATE_FOLDER == "__runflow_evaluate"
