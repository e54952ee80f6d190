"""Text in the picture: what is looked for, how it is compared, and what the optional reader makes of real pixels."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from runflow_api.local_judge import text
from runflow_api.local_judge.checks import CHECKS
from runflow_api.local_judge.judge import judge
from runflow_api.local_judge.text import Line, best_match, check_texts, wanted_texts
from runflow_api.settings.config import Config, LocalCheck, parsed

CORNERS = np.array([[0, 0], [10, 0], [10, 5], [0, 5]], float)


def test_what_stands_in_quotation_marks_of_any_kind_is_looked_for_once() -> None:
    prompt = "a shop sign \"OPEN DAILY\", a poster 'Big Sale', it's late, don't, “Fresh Bread”"
    instructions = '„Brot“ and «Пекарня» and 「パン」 and "OPEN DAILY" and "!!!"'
    assert wanted_texts(prompt, instructions) == ["OPEN DAILY", "Big Sale", "Fresh Bread", "Brot", "Пекарня", "パン"]


def test_what_must_be_absent_is_not_looked_for() -> None:
    assert wanted_texts('no text "SALE"', 'without "water mark", never the word "lorem"') == []


def read(*lines: str) -> list[Line]:
    return [Line(each, CORNERS, 1.0) for each in lines]


@pytest.mark.parametrize(
    ("wanted", "lines", "distance"),
    [
        ("OPEN DAILY", ("open daily",), 0),
        ("OPEN DAILY", ("OPEN", "DAILY"), 0),
        ("OPEN DAILY", ("WE ARE OPEN DAILY 9-5",), 0),
        ("Café", ("CAFÉ",), 0),
        ("don't walk", ("DONT WALK",), 0),
        ("OPEN DAILY", ("OPEN DIALY",), 2),
        ("OPEN DAILY", ("OPEN DAIY",), 1),
        ("OPEN DAILY", ("OPENN DAILY",), 1),
        ("OPEN DAILY", ("OPEN DAILYS",), 1),
        ("OPEN DAILY", ("XOPEN DAILY",), 1),
        ("Café", ("CAFE",), 1),
        ("Brot", ("WEAREBROT",), 0),
        ("cat", (), 3),
        ("cat", ("xyz",), 3),
        ("面包店", ("今日 面包店 营业",), 0),
        ("面包店", ("面饱店",), 1),
    ],
)
def test_letters_are_compared_and_what_is_joined_to_them_counts(
    wanted: str, lines: tuple[str, ...], distance: int
) -> None:
    assert best_match(wanted, read(*lines)).distance == distance


def not_there() -> None:
    raise ModuleNotFoundError("No module named 'rapidocr'", name="rapidocr")


def test_without_the_reader_it_is_said_once_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(text, "_reader", not_there)
    text._say_once.cache_clear()
    picture = np.zeros((300, 300, 3), np.uint8)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            (finding,) = check_texts(picture, ["OPEN"])
            assert finding.passed is None and "pip install runflow-evaluate[text]" in finding.text
        assert check_texts(picture, []) == []
    assert caplog.text.count("pip install runflow-evaluate[text]") == 1


class ReadsTheLargeWordInPart:
    """Misses a word of large letters, unless they are reduced."""

    def read(self, rgb: np.ndarray) -> list[Line]:
        return read("Left", "Wet Paimt")

    def read_again(self, rgb: np.ndarray, lines: list[Line], height: int) -> list[Line]:
        return lines

    def read_reduced(self, rgb: np.ndarray) -> list[Line]:
        return read("Keep Left", "Wet Paint")


def test_a_text_that_was_not_found_whole_is_looked_for_at_half_the_size_and_a_near_miss_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text, "_reader", ReadsTheLargeWordInPart)
    found, wrong = check_texts(np.zeros((64, 64, 3), np.uint8), ["Keep Left", "Wet Paint"])
    assert found.passed is True
    assert wrong.passed is False and "reads “Wet Paimt”" in wrong.text


# --- with the reader --------------------------------------------------------------------------------

has_reader = pytest.mark.skipif(find_spec("rapidocr") is None, reason="pip install runflow-evaluate[text]")


def sign(*words: str, size: int = 40) -> np.ndarray:
    picture = Image.new("RGB", (512, 384), (60, 90, 140))
    brush = ImageDraw.Draw(picture)
    for row, each in enumerate(words):
        brush.text((30, 40 + row * 100), each, font=ImageFont.load_default(size), fill=(250, 245, 220))
    noise = np.random.default_rng(3).normal(0, 2, (384, 512, 1))
    return np.clip(np.asarray(picture, float) + noise, 0, 255).astype(np.uint8)


@has_reader
@pytest.mark.reads_text
def test_a_right_text_passes_and_one_wrong_letter_fails_with_what_was_read() -> None:
    prompt = 'a sign that says "Fish Market"'
    right = judge(sign("Fish Market"), prompt=prompt, reads_text=True)
    wrong = judge(sign("Fish Marget"), prompt=prompt, reads_text=True)
    assert right.overall_passed is True
    assert wrong.overall_passed is False
    assert wrong.top_issues == ["text wrong: “Fish Market” reads “Fish Marget” (1 letter differs)"]
    assert wrong.action is not None and "“Fish Market”, spelled exactly" in str(wrong.action.improved_prompt)
    opinion = next(each for each in wrong.judges if each.name == "text")
    assert opinion.evidence == ["read: “Fish Marget”", "1 of 10 letters differ"]


@has_reader
@pytest.mark.reads_text
def test_a_text_that_is_not_there_is_missing() -> None:
    evaluation = judge(sign("Fish Market"), instructions='the words "Quiet Zone" on the wall', reads_text=True)
    assert evaluation.overall_passed is False
    assert "Quiet Zone" in evaluation.top_issues[0]


@has_reader
@pytest.mark.reads_text
def test_readable_text_that_nobody_asked_for_fails_nothing() -> None:
    assert judge(sign("Fish Market"), reads_text=True).overall_passed is True


# --- own thresholds ---------------------------------------------------------------------------------


def grainy(sigma: float) -> np.ndarray:
    ramp = np.broadcast_to(np.linspace(0.2, 0.8, 400)[:, None, None], (400, 400, 3))
    detail = np.zeros((400, 400, 1))
    detail[::40], detail[:, ::40] = 0.15, 0.15
    return (ramp + detail + np.random.default_rng(5).normal(0, sigma, (400, 400, 1))).astype(np.float32)


def test_film_grain_passes_where_the_person_is_lenient_and_fails_where_strict() -> None:
    picture = grainy(0.08)
    assert judge(picture).overall_passed is False
    as_damage = {"white_noise": "off"}  # grain as fine as this is white noise as well
    assert judge(picture, per_check=as_damage).overall_passed is False
    assert judge(picture, strictness="lenient", per_check=as_damage).overall_passed is True
    assert judge(picture, per_check={"noise": "lenient", **as_damage}).overall_passed is True
    assert judge(grainy(0.055)).overall_passed is True
    assert judge(grainy(0.055), strictness="strict").overall_passed is False


def test_a_check_that_is_off_is_not_made_and_the_limit_in_force_is_said() -> None:
    evaluation = judge(grainy(0.08), per_check={"noise": "off"})
    assert "noise" not in [each.name for each in evaluation.judges]
    noise = next(each for each in judge(grainy(0.08), strictness="lenient").judges if each.name == "noise")
    assert "at most 0.099" in noise.evidence[0]


def test_the_configuration_names_the_checks_that_there_are() -> None:
    made = {each.name for each in judge(grainy(0.01)).judges} - {"non_finite", "flat_colour"}
    assert made | {"text"} == set(LocalCheck.__args__) and set(CHECKS) < made
    assert Config(local_checks={"noise": "lenient", "text": "off"}).local_checks["noise"] == "lenient"
    with pytest.raises(ValueError, match="blur, exposure"):
        parsed("local_checks", {"grain": "lenient"})
    with pytest.raises(ValueError, match="strict, normal or lenient"):
        parsed("local_strictness", "soft")


@has_reader
@pytest.mark.reads_text
def test_a_process_that_ends_while_a_picture_is_read_ends_in_order() -> None:
    script = """
import threading, time
import numpy as np
from runflow_api.local_judge import text

class EndsSlowly:
    def __del__(self, sleep=time.sleep):
        sleep(1.0)  # as torch does: threads come back while Python takes itself apart

def read():
    picture = np.full((64, 64, 3), 255, np.uint8)
    while True:
        reader.read(picture)

reader = text._reader()
slow = EndsSlowly()
threading.Thread(target=read, daemon=True).start()
time.sleep(0.2)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
