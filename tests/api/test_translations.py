"""Every language says all that English says, no more, with the same places for numbers and names."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runflow_api.api.models import Action, Evaluation, JudgeOpinion
from runflow_api.cli import commands as cli
from runflow_api.errors import EvaluationTimeoutError
from runflow_api.evaluation.verdict import (
    LOCAL,
    OFF,
    PREFLIGHT,
    RUNFLOW,
    Policy,
    Subject,
    Verdict,
    from_evaluation,
    not_judged,
)
from runflow_api.report import card as cards
from runflow_api.report import fonts
from runflow_api.report import html as report
from runflow_api.report.labels import FOLDER, LANGUAGES, labels

ROOT = Path(__file__).resolve().parents[2]
LOCALES = ROOT / "locales"
TRANSLATED = LANGUAGES[1:]
FILES = ("main", "nodeDefs", "settings", "commands")
SAME = {
    "runflow.notes.title",
    "nodeCategories.Runflow",
    "settingsCategories.Runflow Evaluate",
    "RunflowEvaluate_Judge.options.runflow",
    "RunflowReferenceImage.inputs.url.name",
    "RunflowEvaluationDetails.outputs.8.name",
    "RunflowJudgeModel.inputs.clip.name",
    "runflow.insight.setting.cfg",
    "runflow.insight.setting.loras",
}
"""Names that are the same in every language: of the product, of a choice, and CFG, CLIP, JSON, LoRA or URL."""
SCRIPTS = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "js").rglob("*js")))
LETTERS = {"zh": r"[\u4e00-\u9fff]", "ja": r"[\u3040-\u30ff\u4e00-\u9fff]"}
PLACES = re.compile(r"\{\w+\}|%\w+%")
THEIRS = "☃"
"""What judges and people wrote, in the pages of this file."""


def flat(texts: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def texts(language: str, file: str) -> dict[str, str]:
    return dict(flat(json.loads((LOCALES / language / f"{file}.json").read_text("utf-8"))))


def test_the_report_and_the_page_have_the_same_languages() -> None:
    assert sorted(folder.name for folder in LOCALES.iterdir()) == sorted(LANGUAGES)
    assert sorted(file.stem for file in FOLDER.iterdir()) == sorted(LANGUAGES)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("language", TRANSLATED)
def test_no_text_is_missing_and_none_is_left_over(language: str, file: str) -> None:
    english, translated = texts("en", file), texts(language, file)
    assert list(translated) == list(english)
    for key, text in translated.items():
        assert text.strip() == text != "", key
        assert sorted(PLACES.findall(text)) == sorted(PLACES.findall(english[key])), key


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated(language: str, file: str) -> None:
    english, translated = texts("en", file), texts(language, file)
    assert {key for key, text in translated.items() if text == english[key]} <= SAME
    for key in translated.keys() - SAME:
        assert re.search(LETTERS[language], translated[key]), key


@pytest.mark.parametrize("file", ["nodeDefs", "settings", "commands"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_holds_what_comfyui_reads_as_syntax(language: str, file: str) -> None:
    """The editor compiles these with vue-i18n: braces, ``@`` and ``|`` would break the node's tooltip."""
    assert [key for key, text in texts(language, file).items() if re.search(r"[{}@|]", text)] == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_choice_is_named_as_its_widget_shows_it(language: str) -> None:
    """Values of combos are never translated: what explains them (``auto: …``) keeps them."""
    translated = texts(language, "nodeDefs")
    for key, text in texts("en", "nodeDefs").items():
        for choice in re.findall(r"(?:^|\. )([a-z]+): ", text) if key.endswith(".tooltip") else ():
            assert choice in translated[key], (key, choice)


def test_every_text_of_the_page_is_asked_for() -> None:
    quoted = set(re.findall(r"'(\w+(?:\.\w+)+)'", SCRIPTS))
    made = re.findall(r"`(\w+(?:\.\w+)*\.)\$\{", SCRIPTS)
    for key in texts("en", "main"):
        name = key.removeprefix("runflow.")
        if name != key:
            assert name in quoted or any(name.rpartition(".")[0] + "." == prefix for prefix in made), key


@pytest.mark.parametrize("file", ["settings", "commands"])
def test_settings_and_commands_are_those_of_the_page(file: str) -> None:
    names = {key.partition(".")[0].removeprefix("RunflowEvaluate_") for key in texts("en", file)}
    assert names
    for name in names:
        assert re.search(rf"'(RunflowEvaluate\.)?{name}'", SCRIPTS), name


def test_the_headlines_of_the_settings_are_those_of_the_page() -> None:
    keys = [key for key in texts("en", "main") if key.startswith("settingsCategories.")]
    assert keys
    for key in keys:
        assert f"'{key.partition('.')[2]}'" in SCRIPTS


# --- the report ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", TRANSLATED)
def test_the_words_of_a_report_are_translated_plain_text(language: str) -> None:
    english, translated = vars(labels("en")), vars(labels(language))
    for name, text in translated.items():
        assert PLACES.findall(text) == PLACES.findall(english[name]), name
        assert text != english[name] and html.escape(text) == text and re.search(LETTERS[language], text), name


def test_the_words_of_a_report_are_installed_with_it() -> None:
    files = '"runflow_api.report" = ["texts/*.json", "templates/*.html"]'
    assert files in (ROOT / "pyproject.toml").read_text("utf-8")


def verdicts() -> Iterator[Verdict]:
    for passed, score in ((True, 0.9), (False, 0.4), (None, None)):
        evaluation = Evaluation(
            id="1-2",
            status_code="completed",
            overall_passed=passed,
            weighted_pass_rate=score,
            cost="0.10",
            top_strengths=[THEIRS],
            judges=[JudgeOpinion(name=THEIRS, passed=each, reasoning=THEIRS) for each in (True, False, None)],
            action=Action(improved_prompt=f"{THEIRS}{THEIRS}"),
        )
        for judge in (RUNFLOW, LOCAL, PREFLIGHT, OFF):
            verdict = from_evaluation(evaluation, Policy(), Subject(THEIRS), judge=judge, seconds=1.0)
            yield replace(verdict, issues=(THEIRS,), reused=judge == OFF)
    sandbox = Evaluation.model_validate({"id": "1-2", "overall_passed": True, "sandbox": True})
    yield replace(from_evaluation(sandbox, Policy(), Subject(THEIRS), judge=RUNFLOW), issues=(THEIRS,))
    error = EvaluationTimeoutError("late", evaluation_ids=["1-2"])
    yield replace(not_judged(error, Policy(), Subject(THEIRS), judge=RUNFLOW), issues=(THEIRS,))


@pytest.mark.parametrize("audience", report.AUDIENCES)
@pytest.mark.parametrize("language", TRANSLATED)
def test_a_report_has_no_english_label(language: str, audience: report.Audience) -> None:
    entries = [report.Entry(THEIRS, verdict) for verdict in verdicts()]
    page = report.html(entries, audience=audience, language=language)
    assert f'<html lang="{language}">' in page
    assert f"<title>{labels(language).title}</title>" in page
    body = re.sub(r"<[^>]*>", " ", page.partition("<body>")[2])
    assert set(re.findall(r"[A-Za-z]{2,}", body)) <= {"Runflow", "ID"}


def test_json_is_the_same_in_every_language() -> None:
    """A program that reads it needs no dictionary; only the page speaks."""
    entries = [report.Entry("a.png", verdict) for verdict in verdicts()]
    assert json.dumps(report.records(entries, "client"), ensure_ascii=False).isascii() is False  # the snowman
    assert not re.search(LETTERS["ja"], json.dumps(report.records(entries, "internal"), ensure_ascii=False))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_command_line_writes_a_report_in_that_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    Image.new("RGB", (300, 300), "navy").save(tmp_path / "a.png")
    target = tmp_path / "r.html"
    cli.main(["evaluate", str(tmp_path / "a.png"), "--judge", "local", "--report", str(target), "--language", language])
    page = target.read_text("utf-8")
    assert f'<html lang="{language}">' in page
    assert labels(language).title in page


# --- cards --------------------------------------------------------------------------------------------

PICTURE = Image.new("RGB", (64, 64), "navy")


@pytest.fixture
def font_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The files that this machine has as fonts, besides Pillow's own; every test says which."""
    installed: set[str] = set()
    caches = (fonts._installed, fonts._font_for)
    monkeypatch.setattr(fonts, "_opens", lambda name: name in installed)
    for cached in caches:
        cached.cache_clear()
    yield installed
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("language", TRANSLATED)
@pytest.mark.usefixtures("font_files")
def test_a_card_is_english_where_no_font_has_the_letters(language: str) -> None:
    assert cards.language_of(language) == "en"
    assert cards.language_of("en") == "en"


@pytest.mark.usefixtures("font_files")
def test_chinese_issues_without_a_font_are_said_to_be_missing() -> None:
    verdict = replace(next(verdicts()), issues=("手が六本指です",))
    assert cards._laid_out(verdict, "", "", "internal", "en").incomplete
    assert cards.draw(PICTURE, verdict).width == cards.WIDTH


def test_each_language_is_drawn_with_a_font_of_its_own(font_files: set[str]) -> None:
    """Chinese and Japanese share characters and draw them differently; Windows has fonts for both."""
    font_files |= {"msyh.ttc", "YuGothM.ttc", "arial.ttf"}
    assert fonts._installed("zh")[0] == "msyh.ttc"
    assert fonts._installed("ja")[0] == "YuGothM.ttc"
    assert fonts._installed("en")[0] == "arial.ttf"
    font_files ^= {"msyh.ttc", "NotoSansCJK-Regular.ttc#2", "NotoSansCJK-Regular.ttc"}
    fonts._installed.cache_clear()
    assert fonts._installed("zh")[0] == "NotoSansCJK-Regular.ttc#2"


def test_no_line_begins_with_a_full_stop() -> None:
    sentence = "左手有六根手指。" * 20
    lines = [line for width in range(60, 200, 7) for line in fonts.wrap(sentence, 20, width, 50)]
    assert [line for line in lines if line.startswith("。")] == []


# --- help pages ---------------------------------------------------------------------------------------

HELP = sorted((ROOT / "js" / "docs").iterdir())


@pytest.mark.parametrize("language", TRANSLATED)
@pytest.mark.parametrize("folder", HELP, ids=lambda folder: folder.name)
def test_a_help_page_says_the_same_of_the_same_inputs(folder: Path, language: str) -> None:
    """ComfyUI looks for no English page if the person's language has none."""
    english, translated = ((folder / f"{each}.md").read_text("utf-8") for each in ("en", language))
    assert translated.startswith(f"# {texts(language, 'nodeDefs')[f'{folder.name}.display_name']}\n")
    assert set(re.findall(r"`[^`]+`", translated)) == set(re.findall(r"`[^`]+`", english))
    assert len(re.findall(r"^(?:- |\d\. |$)", translated, re.M)) == len(re.findall(r"^(?:- |\d\. |$)", english, re.M))
