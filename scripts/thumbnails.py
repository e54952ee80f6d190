"""The picture of each example in ComfyUI's template browser: a JPG beside its JSON, of the editor after it ran.

python scripts/thumbnails.py                 # all of them
python scripts/thumbnails.py garment_check   # this one
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import _environment
from _environment import ROOT, say

EXAMPLES = ROOT / "example_workflows"
SHOWN = {
    "best_of_batch": [8, 9, 10],
    "first_verdict": [1, 2],
    "four_good_ones": [7, 8, 9],
    "garment_check": [5, 6],
    "gate_before_upscale": [4, 5, 6],
    "headless_gate": [2, 3, 4],
    "quality_switch": [4, 5, 6],
    "regenerate_until_passed": [10, 11],
    "repair_a_photograph": [4, 5, 6, 7],
    "repair_with_edit_model": [9, 16, 18, 19],
    "retry_until_hands_are_right": [5, 6, 7, 8],
    "split_with_rejects": [8, 9, 10],
}
"""The nodes that tell what an example is for."""
IN_APP_MODE = {"verdict_app": ROOT / "docs" / "app.png"}
"""Taken from the pictures of the documentation (`screenshots.py`)."""
NOT_RUN = {"four_good_ones", "repair_with_edit_model", "retry_until_hands_are_right"}
"""They need a model."""
SIZE = (640, 480)
QUALITY = 82


def main() -> int:
    _environment.continue_inside(__file__)
    sys.path += [str(ROOT), str(ROOT / "tests" / "browser")]
    names = sys.argv[1:] or [*sorted(SHOWN), *IN_APP_MODE]
    for name in IN_APP_MODE.keys() & names:
        _keep(IN_APP_MODE[name], EXAMPLES / f"{name}.jpg")
    shown = [name for name in names if name in SHOWN]
    return take(shown) if shown else 0


def take(names: list[str]) -> int:
    from driver import KEY, Browser, install, missing
    from support.server import start_comfyui

    from runflow_api.sandbox.app import Sandbox

    if needed := missing():
        say(needed)
        return 1
    install()
    with tempfile.TemporaryDirectory(prefix="runflow-thumbnails-", ignore_cleanup_errors=True) as folder:
        base = Path(folder) / "comfyui"
        (base / "input").mkdir(parents=True)
        for photo in (EXAMPLES / "photos").rglob("*.jpg"):
            shutil.copy2(photo, base / "input")
        with Sandbox(api_key=KEY) as sandbox:
            env = {"RUNFLOW_BASE_URL": sandbox.url, "RUNFLOW_API_KEY": KEY}
            with start_comfyui(base, env=env) as server:
                browser = Browser(Path(folder))
                try:
                    for name in names:
                        _take(browser, server.url, sandbox, Path(folder), name)
                finally:
                    browser.close()
    return 0


def _take(browser, url, sandbox, folder, name) -> None:
    from runflow_api.sandbox.app import ScriptedVerdict

    sandbox.clear_verdicts()
    if name == "garment_check":
        blue = ScriptedVerdict(passed=False, score=0.31, issues=["the suit is blue; in the references it is orange"])
        sandbox.add_verdict(blue)
    picture = folder / f"{name}.png"
    given = {
        "workflow": json.loads((EXAMPLES / f"{name}.json").read_text("utf-8")),
        "ids": SHOWN[name],
        "runs": name not in NOT_RUN,
        "path": str(picture),
        "ratio": SIZE[0] / SIZE[1],
    }
    browser.run("examples.pictures", url, "canvas", given=given)
    _keep(picture, EXAMPLES / f"{name}.jpg")


def _keep(picture: Path, target: Path) -> None:
    from PIL import Image, ImageOps

    with Image.open(picture) as image:
        small = ImageOps.fit(image.convert("RGB"), SIZE, Image.Resampling.LANCZOS, centering=(1, 0))
    small.save(target, quality=QUALITY, optimize=True, progressive=True)
    say(f"{target.relative_to(ROOT).as_posix()} {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
