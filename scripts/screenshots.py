"""A picture of each state of the pack's page, into `docs/`: a real ComfyUI, a real Chromium, the sandbox as judge.

python scripts/screenshots.py                # all of them
python scripts/screenshots.py history loop   # these
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _environment
from _environment import ROOT, say

DOCS = ROOT / "docs"
LIGHT = ("failed",)
"""Taken a second time as Vue nodes in the light theme."""
ON_OLDEST = ("gesture", "inserted")
"""Of ComfyUI's first workflow as the oldest frontend has it; the newest one begins with another."""
ALL = (
    "idle", "will_not_run", "waiting", "failed", "passed", "local", "batch", "gesture", "inserted", "by_hand", "loop",
    "history", "history_detail", "settings", "templates", "app", "insight",
)  # fmt: skip
INSIGHT = "insight"
"""Taken last, of a journal that is filled for it: the history shows only what the other pictures show."""
WAITING_S = 2.5


def main() -> int:
    if not os.environ.get("RUNFLOW_TEST_COMFYUI") and Path(sys.prefix).resolve() != _environment.VENV.resolve():
        python = _environment.ensure_or_exit()
        return subprocess.run([python, __file__, *sys.argv[1:]], check=False).returncode
    sys.path += [str(ROOT), str(ROOT / "tests" / "browser")]
    return take(sys.argv[1:])


def take(names: list[str]) -> int:
    from driver import NEWEST, OLDEST, install, missing

    if needed := missing():
        say(needed)
        return 1
    install()
    DOCS.mkdir(exist_ok=True)
    wanted = names or list(ALL)
    _take_on(NEWEST, [name for name in wanted if name not in ON_OLDEST])
    _take_on(OLDEST, [name for name in wanted if name in ON_OLDEST])
    return 0


def _take_on(frontend: str, names: list[str]) -> None:
    from driver import KEY, Browser, on_frontend
    from support.judged_images import keep_judged
    from support.server import start_comfyui

    from runflow_api.sandbox.app import Sandbox, StoredEvaluation

    class Judge(Sandbox):
        """Answers as Runflow does: the pictures show no practice."""

        def _store(self, *given: Any) -> StoredEvaluation:
            evaluation = super()._store(*given)
            del evaluation.fixed["sandbox"]
            return evaluation

    if not names:
        return
    with tempfile.TemporaryDirectory(prefix="runflow-pictures-", ignore_cleanup_errors=True) as folder:
        base = Path(folder) / "comfyui"
        (base / "input").mkdir(parents=True)
        for photo in (ROOT / "example_workflows" / "photos").glob("*.jpg"):
            shutil.copy2(photo, base / "input")
        with Judge(api_key=KEY, latency=WAITING_S) as sandbox:
            server = start_comfyui(
                base,
                env={"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": KEY},
                extra_nodes=(ROOT / "tests" / "browser" / "stand_ins",),
                args=on_frontend(frontend),
            )
            browser = Browser(Path(folder))
            try:
                _take(browser, server.url, sandbox, folder, [name for name in names if name != INSIGHT])
                if INSIGHT in names:
                    keep_judged(base / "user" / "__runflow_evaluate", 150, rated=70)
                    _take(browser, server.url, sandbox, folder, [INSIGHT])
            finally:
                browser.close()
                server.stop()


def _take(browser, url, sandbox, folder, names) -> None:
    looks = (("canvas", "dark", "", names), ("vue", "light", "_light", [name for name in names if name in LIGHT]))
    for renderer, palette, style, chosen in looks:
        if not chosen:
            continue
        for verdict in _verdicts(chosen):
            sandbox.add_verdict(verdict)
        given = {"folder": folder, "names": chosen, "style": style}
        for name in browser.run("pictures.take", url, renderer, palette=palette, fresh=True, given=given):
            _keep(Path(folder) / name)


def _verdicts(names: list[str] | None) -> list:
    """What the sandbox says, in the order in which the states ask."""
    from runflow_api.sandbox.app import ScriptedVerdict

    cat = ScriptedVerdict(
        passed=False,
        score=0.41,
        issues=["the left ear is cut off by the frame", "the whiskers are blurred"],
        strengths=["soft, even light", "the eyes are sharp"],
        improved_prompt="a cat looking into the camera, both ears in the frame, sharp whiskers, soft window light",
        failure_summary="The crop is too tight.",
        judges=[
            {
                "name": "composition",
                "category": "framing",
                "passed": False,
                "confidence": 0.93,
                "weight": 1.5,
                "reasoning": "The subject does not fit the frame.",
                "evidence": ["upper left corner"],
                "issues": ["the left ear is cut off by the frame"],
            },
            {"name": "sharpness", "category": "technical", "passed": False, "confidence": 0.71, "issues": ["blurred"]},
            {"name": "prompt", "category": "content", "passed": True, "confidence": 0.97},
        ],
    )
    passed = ScriptedVerdict(score=0.94, strengths=["sharp", "true colours"])
    first = ScriptedVerdict(
        passed=False,
        score=0.44,
        issues=["the left ear is cut off"],
        improved_prompt="a cat looking into the camera, both ears in the frame, soft window light",
    )
    second = ScriptedVerdict(
        passed=False,
        score=0.67,
        issues=["the whiskers are blurred"],
        improved_prompt="a cat looking into the camera, both ears in the frame, sharp whiskers, soft window light",
    )
    of_state = {
        "waiting": [passed], "failed": [cat], "passed": [passed], "batch": [passed, cat, passed],
        "loop": [first, second, passed], "app": [passed],
    }  # fmt: skip
    return [verdict for name, said in of_state.items() if not names or name in names for verdict in said]


def _keep(file: Path) -> None:
    """In its true colours: what passed has to look green."""
    from PIL import Image

    with Image.open(file) as picture:
        picture.convert("RGB").save(DOCS / file.name, optimize=True)
    say(f"docs/{file.name}")


if __name__ == "__main__":
    sys.exit(main())
