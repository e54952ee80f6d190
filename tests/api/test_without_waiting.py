"""Score without waiting, and what a saved file says: nothing is paid twice, and nothing is taken for what it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.evaluators import judge
from support.pictures import picture

from runflow_api import background, images
from runflow_api.api.models import Evaluation
from runflow_api.cli.commands import main
from runflow_api.evaluation import lookup, saved_verdict
from runflow_api.evaluation.evaluator import Evaluator
from runflow_api.evaluation.question import Options
from runflow_api.evaluation.verdict import PASSED, UNKNOWN, Policy, Subject, from_evaluation
from runflow_api.sandbox.app import Sandbox

GO_ON = Options(wait=False)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(latency=0.0) as running:
        yield running


def submissions(sandbox: Sandbox) -> int:
    return sum(request.path == "/v1/evaluations" for request in sandbox.requests)


def test_what_is_under_way_is_neither_waited_for_nor_submitted_again(sandbox: Sandbox, evaluator: Evaluator) -> None:
    sandbox.latency = 3_600.0
    (first,) = judge(evaluator, picture(1), options=GO_ON, prompt_token="a")
    assert (first.outcome, first.passed, first.error, first.reused) == (UNKNOWN, False, None, False)
    assert f"not judged yet: evaluation {first.evaluation.id} is pending" in first.issues
    (again,) = judge(evaluator, picture(1), options=GO_ON, prompt_token="b")
    assert (again.outcome, again.evaluation.id, again.reused) == (UNKNOWN, first.evaluation.id, True)
    (row,) = evaluator.journal().history(outcome="open")
    assert (row.evaluation_id, submissions(sandbox)) == (first.evaluation.id, 1)


def test_what_has_ended_meanwhile_is_collected_and_paid_once(sandbox: Sandbox, evaluator: Evaluator) -> None:
    (first,) = judge(evaluator, picture(2), options=GO_ON, prompt_token="a")
    (by_run,) = judge(evaluator, picture(2), options=GO_ON, prompt_token="b")
    (other,) = judge(evaluator, picture(7), options=GO_ON, prompt_token="c")
    reading = lookup.evaluations(evaluator, [str(other.evaluation.id)], Policy())
    (by_id,) = background.start(reading).result(timeout=60)
    (later,) = judge(evaluator, picture(7), options=GO_ON, prompt_token="d")
    assert [each.outcome for each in (first, by_run, other, by_id, later)] == [UNKNOWN, PASSED, UNKNOWN, PASSED, PASSED]
    assert (submissions(sandbox), len(sandbox.bills), later.cost) == (2, 2, Decimal(0))
    assert evaluator.journal().history(outcome="open") == []


# --- what a file says of itself -----------------------------------------------------------------------


def saved(
    file: Path, seed: int, *, changed: bool = False, score: float = 0.91, practice: bool = False, prompt: str = "a cat"
) -> str:
    """A picture as Save Judged Images writes it; the id of its evaluation. ``changed``: the pixels, afterwards."""
    pixels = images.to_pixels(picture(seed))
    said = Evaluation(id=f"evaluation-{seed}", status_code="completed", overall_passed=True, weighted_pass_rate=score)
    said = said.model_copy(update={"sandbox": True}) if practice else said
    verdict = from_evaluation(said, Policy(), Subject(prompt, images.pixel_hash(pixels)), judge="runflow")
    metadata = PngInfo()
    metadata.add_text(saved_verdict.CHUNK, json.dumps(saved_verdict.record(verdict, images.pixel_hash(pixels))))
    if changed:
        pixels = pixels[::-1]
    Image.fromarray(pixels).save(file, pnginfo=metadata)
    return f"evaluation-{seed}"


@pytest.fixture
def key(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": sandbox.api_key}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("key")
def test_a_saved_verdict_is_said_and_taken_only_if_that_is_asked_for(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = saved(tmp_path / "judged.png", 3)
    assert main(["evaluate", str(tmp_path / "judged.png"), "--json"]) == 2  # nobody is there to confirm the sum
    assert f"passed 0.91 by runflow (evaluation {name}" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "judged.png"), "--json", "--take-saved"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["id"], line["verdict"], line["score"], line["cost"]) == (name, "passed", 0.91, "0")
    assert saved_verdict.AS_SAVED in line["notes"]
    assert submissions(sandbox) == 0


@pytest.mark.usefixtures("key")
def test_pixels_that_were_changed_since_are_not_what_was_judged(sandbox: Sandbox, tmp_path: Path) -> None:
    saved(tmp_path / "changed.png", 4, changed=True)
    assert main(["evaluate", str(tmp_path / "changed.png"), "--take-saved", "--yes"]) == 0
    assert submissions(sandbox) == 1


ASKED = {
    "the same prompt": (["--prompt", "a cat"], 0),
    "no prompt": ([], 0),
    "another prompt": (["--prompt", "a dog"], 1),
    "no prompt on purpose": (["--prompt", ""], 1),
    "instructions": (["--prompt", "a cat", "--instructions", "five fingers"], 1),
    "another task": (["--prompt", "a cat", "--task-type", "headshot"], 1),
}


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(("asked", "paid"), ASKED.values(), ids=ASKED)
def test_a_saved_verdict_is_taken_only_for_what_was_asked(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str], paid: int
) -> None:
    saved(tmp_path / "judged.png", 8)
    main(["evaluate", str(tmp_path / "judged.png"), "--take-saved", "--yes", *asked])
    assert submissions(sandbox) == paid
    assert ("say a verdict about something else" in capsys.readouterr().err) == bool(paid)


@pytest.mark.usefixtures("key")
def test_a_saved_long_prompt_is_compared_as_a_whole(sandbox: Sandbox, tmp_path: Path) -> None:
    saved(tmp_path / "judged.png", 8, prompt="cat " * 2_000 + "end")
    main(["evaluate", str(tmp_path / "judged.png"), "--take-saved", "--yes", "--prompt", "cat " * 2_000 + "end"])
    assert submissions(sandbox) == 0


@pytest.mark.usefixtures("key")
def test_practice_is_told_wherever_its_verdict_is(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "judged.png", tmp_path / "report.html"
    saved(file, 9, practice=True)
    main(["evaluate", str(file), "--take-saved", "--json", "--report", str(page)])
    assert json.loads(capsys.readouterr().out)["practice"] is True
    assert "Judged by the sandbox" in page.read_text("utf-8")
    main(["evaluate", str(file), "--yes", "--json"])
    name = json.loads(capsys.readouterr().out)["id"]
    for command in (["history"], ["get", name]):
        main(command)
        assert "practice" in capsys.readouterr().out
        main([*command, "--json"])
        assert json.loads(capsys.readouterr().out)["practice"] is True


@pytest.mark.usefixtures("key")
def test_a_file_stands_for_its_evaluation(sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = saved(tmp_path / "judged.png", 5)
    main(["get", str(tmp_path / "judged.png")])
    assert [request.path for request in sandbox.requests] == [f"/v1/evaluations/{name}"]
    Image.fromarray(images.to_pixels(picture(6))).save(tmp_path / "plain.png")
    assert main(["get", str(tmp_path / "plain.png")]) == 2
    assert "does not say which evaluation judged it" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "null", "[]", '{"verdict": "splendid"}', "{" * 5_000, '{"verdict": ["passed"]}'])
def test_what_nobody_of_ours_wrote_says_nothing(text: str) -> None:
    assert saved_verdict.parse(text) is None
