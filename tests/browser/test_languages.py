"""A person who works in Chinese or Japanese reads the pack in that language."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driver import NEWEST, Browser
from support.server import ComfyUI

from runflow_api.sandbox.app import Sandbox, ScriptedVerdict

LOCALES = Path(__file__).resolve().parents[2] / "locales"
AGO = {"zh": "秒前|分钟前|刚刚|现在", "ja": "秒前|分前|今"}


def words(language: str, file: str) -> Any:
    return json.loads((LOCALES / language / f"{file}.json").read_text("utf-8"))


def names(sockets: dict[str, Any]) -> list[str]:
    return sorted(each["name"] for each in sockets.values())


@pytest.mark.parametrize(("language", "renderer"), [("zh", "canvas"), ("ja", "vue")])
def test_nodes_settings_panel_and_history_speak_it(
    browser: Browser, server: ComfyUI, sandbox: Sandbox, renderer: str, language: str
) -> None:
    """On frontend 1.32 too, which by itself forgets the texts of packs in every language but English."""
    sandbox.add_verdict(ScriptedVerdict(score=0.92, strengths=["soft light"]))
    said = words(language, "main")["runflow"]
    panel = {
        "idle": said["plan"]["price"].format(price="0.10"),
        "passed": said["panel"]["passed"],
        "more": said["panel"]["more"],
        "strengths": said["details"]["strengths"],
        "ago": AGO[language],
    }
    given = {"language": language, "node": nodes_and_settings(language), "panel": panel}
    browser.run("languages.speaks", server.url, renderer, given=given)


def nodes_and_settings(language: str) -> dict[str, Any]:
    node = words(language, "nodeDefs")["RunflowEvaluateImage"]
    return {
        "title": node["display_name"],
        "inputs": names(node["inputs"]),
        "outputs": names(node["outputs"]),
        "settings": [each["name"] for each in words(language, "settings").values()],
    }


def test_another_language_needs_no_reload_and_a_variant_is_read_too(
    browser: Browser, servers: Callable[[str], ComfyUI]
) -> None:
    wanted = (("ja", "ja"), ("zh-TW", "zh"), ("en", "en"))
    steps = [(language, words(read, "main")["runflow"]["panel"]["idle"]) for language, read in wanted]
    browser.run("languages.changes_at_once", servers(NEWEST).url, "canvas", given={"steps": steps})
