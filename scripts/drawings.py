"""Icon and banner of the registry as PNG, drawn by Chromium from the SVG files beside them.

    python scripts/drawings.py

The banner's letters are Inter (Debian, Ubuntu: apt install fonts-inter).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
DRAWINGS = ("icon", "banner")
PAGE = "<style>*{{margin:0}}html{{background:transparent}}img{{display:block}}</style><img src='{address}'>"


def main() -> int:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        print("Chromium or Chrome is needed, and neither is on PATH.")
        return 1
    for name in DRAWINGS:
        draw(browser, DOCS / f"{name}.svg", DOCS / f"{name}.png")
        print(f"docs/{name}.png")
    return 0


def draw(browser: str, source: Path, target: Path) -> None:
    """One picture, as large as the SVG says; CalledProcessError where the browser fails."""
    width, height = re.findall(r'(?:width|height)="(\d+)"', source.read_text("utf-8"))[:2]
    with tempfile.TemporaryDirectory(prefix="runflow-drawing-") as folder:
        page = Path(folder) / "page.html"
        page.write_text(PAGE.format(address=source.as_uri()), "utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        look = ["--default-background-color=00000000", "--force-device-scale-factor=1"]
        size = f"--window-size={width},{height}"
        files = [f"--user-data-dir={folder}", f"--screenshot={target}", page.as_uri()]
        subprocess.run([browser, *options, *look, size, *files], check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
