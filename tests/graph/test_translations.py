"""ComfyUI serves the texts of every language, English is what the nodes say, and the report follows the editor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import node_texts
import pytest
from PIL import Image
from support.pictures import picture
from support.prompts import evaluate, load_image, node
from support.server import ComfyUI

from runflow_api import images
from runflow_api.report.labels import LANGUAGES, labels

LOCALES = Path(__file__).resolve().parents[2] / "locales"
FILES = ("nodeDefs", "settings", "commands")


def stored(language: str, file: str) -> Any:
    return json.loads((LOCALES / language / f"{file}.json").read_text("utf-8"))


def test_english_is_what_the_nodes_say(comfyui: ComfyUI) -> None:
    same = stored("en", "nodeDefs") == node_texts.texts(comfyui.object_info())
    assert same, "run python scripts/node_texts.py, then translate what is new in the other languages"


@pytest.mark.parametrize("language", LANGUAGES)
def test_comfyui_serves_every_text(comfyui: ComfyUI, language: str) -> None:
    served = comfyui.request("GET", "/i18n")[language]
    assert {file: served[file] for file in FILES} == {file: stored(language, file) for file in FILES}
    assert {key: served[key] for key in stored(language, "main")} == stored(language, "main")


# --- the report ---------------------------------------------------------------------------------------


@pytest.fixture
def locale(comfyui: ComfyUI) -> Iterator[str]:
    """The person has chosen Japanese in the editor's settings."""
    comfyui.request("POST", "/settings/Comfy.Locale", "ja")
    yield "ja"
    comfyui.request("POST", "/settings/Comfy.Locale", "en")


def saved(server: ComfyUI, folder: str, seed: int, **inputs: str) -> tuple[str, Any]:
    """The page and the JSON of a report of one local verdict."""
    drawn = Image.fromarray(images.to_pixels(picture(seed)))
    drawn.save(server.base / "input" / f"{folder}.png")
    prompt = {
        **load_image("1", f"{folder}.png"),
        **evaluate("2", ["1", 0], judge="local"),
        **node("3", "RunflowVerdictCard", image=["1", 0], evaluation=["2", 4], filename_prefix=f"{folder}/r", **inputs),
    }
    server.run(prompt)
    (page,) = (server.base / "output" / folder).glob("*.html")
    (records,) = (server.base / "output" / folder).glob("*.json")
    return page.read_text("utf-8"), json.loads(records.read_text("utf-8"))


def test_a_report_speaks_the_language_of_the_editor(comfyui: ComfyUI, locale: str) -> None:
    page, records = saved(comfyui, "editor", 71)
    assert f'<html lang="{locale}">' in page
    assert labels(locale).title in page
    assert labels(locale).image.format(n=1) in page
    assert (records["title"], records["images"][0]["image"]) == ("Quality report", "Image 1")


def test_a_report_speaks_the_language_that_was_chosen(comfyui: ComfyUI, locale: str) -> None:
    page, _ = saved(comfyui, "chosen", 72, language="zh")
    assert '<html lang="zh">' in page
    assert labels("zh").title in page


def test_a_language_that_the_report_has_not_is_english(comfyui: ComfyUI, locale: str) -> None:
    comfyui.request("POST", "/settings/Comfy.Locale", "fr")
    page, _ = saved(comfyui, "french", 73)
    assert '<html lang="en">' in page
