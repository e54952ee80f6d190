"""How often the local judge is right: ``python benchmarks/local_judge.py [DIR ...] [--graphics DIR ...]``.

Each DIR holds photographs or generated images, or one folder of them per source, named after the source (a
package, or owner__repository). Every image is judged untouched and after each damage below; the table is written
beside this file. Images under ``--graphics`` (logos, depth maps, drawings, charts) are judged untouched only: none
of what they are is a defect. Without arguments it takes the images that installed packages happen to
bring along. Needs numpy, Pillow, pydantic and scipy.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from runflow_api.local_judge.judge import judge  # noqa: E402

Floats = npt.NDArray[np.float32]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
PACKAGES = ("skimage", "sklearn", "matplotlib", "comfyui_workflow_templates_media_image")
MIN_SIDE, MAX_SIDE = 256, 4096
SIZES = (256, 512, 1024, 2048)

TUNED_ON = """\
Thresholds were chosen on 280 other pictures and 111 other graphics: scikit-image, scikit-learn, matplotlib (PyPI),
lomiri-wallpapers-16.04, mate-backgrounds, gnome-backgrounds, sway-backgrounds (Debian),
comfyanonymous/ComfyUI_examples, CompVis/stable-diffusion, Stability-AI/stablediffusion, leejet/stable-diffusion.cpp,
xinntao/Real-ESRGAN, the training part of BIDS/BSDS500, and one half of comfyui-workflow-templates-media-image, parted
by the CRC-32 of the file name without its number. What BSDS500 and those templates contribute above is other files.

A first run on 295 of the pictures above prompted four changes, with values taken from the tuning set: text is told
from blown-out areas, fewer cut-off colours are enough, edges start at 3 levels, pixel art is told by all its channels.
Then 60 validation pictures of BSDS500 joined: of these no untouched one failed, and only two of × 5 of continuous tones
were missed."""

FALLS_SHORT = """\
Where it falls short:

- A gain on 8-bit tones leaves evenly spaced gaps in the histogram, which tell it from a white background. A gain on
  continuous tones (straight from a VAE, or after a resize in floats, as in the table of widths) leaves none; then
  grey pictures, dark pictures and light neutral ones pass as high-key or well lit where few colours are cut off.
- Sharp lettering or a sharp frame over a blurred picture counts as its sharpest detail, so such a blur passes.
- Compression is found on the 8 px grid of the file that was compressed: after a resize it is not. Very smooth or dark
  pictures, and drawings full of hard edges, hide the grid.
- Soft abstract graphics with no edge narrower than 0.7 % of their side read as blurred."""

CAME_APART = "## Pictures that came apart"
"""This section of the page is measured and written by hand: it is kept when the rest is written anew."""


# --- damages: (H, W, C) float32 of 0..1 in and out ------------------------------------------------


def blurred(x: Floats) -> Floats:
    sigma = 0.006 * x.shape[1]
    return np.asarray(gaussian_filter(x, (sigma, sigma, 0), mode="nearest"), np.float32)


def gained(factor: float) -> Callable[[Floats], Floats]:
    return lambda x: np.clip(x * np.float32(factor), 0, 1)


def gained_continuous(x: Floats) -> Floats:
    """As from a source without 8-bit steps: the rounding is undone by noise of its size first."""
    return gained(5)(x + np.random.default_rng(0).uniform(-0.5, 0.5, x.shape).astype(np.float32) / 255)


def compressed(offset: int) -> Callable[[Floats], Floats]:
    def compress(x: Floats) -> Floats:
        levels = (np.clip(x, 0, 1) * 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels).save(buffer, "JPEG", quality=3)
        return as_floats(Image.open(buffer))[offset:, offset:]

    return compress


def noisy(x: Floats) -> Floats:
    noise = np.random.default_rng(0).normal(0, 0.2, x.shape).astype(np.float32)
    return np.clip(x + noise, 0, 1)


def not_finite(x: Floats) -> Floats:
    y = x.copy()
    y[:, :, -1] = np.nan
    return y


def flat(x: Floats) -> Floats:
    return np.broadcast_to(x.mean(axis=(0, 1), dtype=np.float64).astype(np.float32), x.shape).copy()


@dataclass(frozen=True)
class Damage:
    """``check`` is the judge that must fail, ``word`` what its issue must say."""

    name: str
    apply: Callable[[Floats], Floats]
    check: str
    word: str


DAMAGES = (
    Damage("Gaussian blur, sigma 0.6 % of the width", blurred, "blur", "blurred"),
    Damage("exposure × 0.06", gained(0.06), "exposure", "underexposed"),
    Damage("exposure × 5", gained(5), "exposure", "overexposed"),
    Damage("JPEG quality 3", compressed(0), "compression", "compressed"),
    Damage("Gaussian noise, sigma 0.2", noisy, "noise", "noisy"),
    Damage("NaN in one channel", not_finite, "non_finite", "broken"),
    Damage("one flat colour", flat, "flat_colour", "flat"),
    Damage("JPEG quality 3, cropped off its grid", compressed(3), "compression", "compressed"),
    Damage("exposure × 5 of continuous tones", gained_continuous, "exposure", "overexposed"),
)


# --- judging --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """One image at one size. ``failed`` and ``named`` hold, per damage, whether it failed and was named."""

    path: Path
    issues: tuple[str, ...]
    failed: tuple[bool, ...]
    named: tuple[bool, ...]


def as_floats(picture: Image.Image, alpha: bool = False) -> Floats:
    """0..1 with one channel for grey, four where transparency is asked for and there, otherwise three."""
    see_through = alpha and ("A" in picture.getbands() or "transparency" in picture.info)
    picture = picture.convert("L" if picture.mode in ("L", "1", "I;16") else "RGBA" if see_through else "RGB")
    levels = np.asarray(picture, np.float32) / np.float32(255)
    return levels[:, :, None] if levels.ndim == 2 else levels


def load(path: Path, width: int, alpha: bool) -> Floats | None:
    """The image, no side above 4096; scaled down to ``width`` if given; None where it is smaller than wanted."""
    with Image.open(path) as picture:
        scale = width / picture.width if width else min(1.0, MAX_SIDE / max(picture.size))
        size = (round(picture.width * scale), round(picture.height * scale))
        if scale > 1 or min(size) < MIN_SIDE:
            return None
        image = as_floats(picture, alpha)
    if scale == 1:
        return image
    planes = [Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS) for plane in np.moveaxis(image, 2, 0)]
    return np.clip(np.stack([np.asarray(plane) for plane in planes], axis=2), 0, 1)


def examine(task: tuple[Path, int, bool]) -> Outcome | None:
    path, width, damaged = task
    image = load(path, width, alpha=not damaged)
    if image is None:
        return None
    verdict = judge(image)
    answers = [examine_damage(image, damage) for damage in DAMAGES] if damaged else []
    failed, named = tuple(zip(*answers, strict=True)) if answers else ((), ())
    return Outcome(path, tuple(verdict.top_issues), failed, named)


def examine_damage(image: Floats, damage: Damage) -> tuple[bool, bool]:
    verdict = judge(damage.apply(image))
    said = [issue.detail or "" for one in verdict.judges if one.name == damage.check for issue in one.issues]
    return verdict.overall_passed is False, any(damage.word in text for text in said)


# --- report ---------------------------------------------------------------------------------------


def images(folders: list[Path]) -> list[Path]:
    found = (path for folder in folders for path in folder.rglob("*"))
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file())


def installed() -> list[Path]:
    specs = (importlib.util.find_spec(name) for name in PACKAGES)
    return [Path(spec.origin).parent for spec in specs if spec and spec.origin]


def source(path: Path, folders: list[Path]) -> str:
    """The folder below the one that was named, or that one itself."""
    root = next(folder for folder in folders if path.is_relative_to(folder))
    parts = path.relative_to(root).parts
    name = parts[0] if len(parts) > 1 and root.name not in PACKAGES else root.name
    kind, _, rest = name.partition("__")
    registry = {"deb": "Debian", "pypi": "PyPI"}.get(kind)
    return f"{rest} ({registry})" if registry else name.replace("__", "/")


def share(hits: int, count: int) -> str:
    return f"{hits / count:.1%} ({hits} of {count})" if count else "none measured"


def table(outcomes: list[Outcome]) -> Iterator[str]:
    passed = sum(not outcome.issues for outcome in outcomes)
    yield "| damage | fail | fail and name it |"
    yield "| --- | --- | --- |"
    yield f"| none: untouched | {share(len(outcomes) - passed, len(outcomes))} | |"
    for index, damage in enumerate(DAMAGES):
        failed, named = (sum(getattr(o, field)[index] for o in outcomes) for field in ("failed", "named"))
        yield f"| {damage.name} | {share(failed, len(outcomes))} | {share(named, len(outcomes))} |"


def size_table(by_size: dict[int, list[Outcome]]) -> Iterator[str]:
    yield "| width | images | untouched pass | " + " | ".join(damage.name for damage in DAMAGES[:5]) + " |"
    yield "| --- " * 8 + "|"
    for size, outcomes in by_size.items():
        if outcomes:
            count = len(outcomes)
            cells = [f"{sum(o.named[i] for o in outcomes) / count:.1%}" for i in range(5)]
            passing = f"{sum(not o.issues for o in outcomes) / count:.1%}"
            yield f"| {size} | {count} | {passing} | {' | '.join(cells)} |"


def mistakes(title: str, outcomes: list[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        if outcome.issues:
            yield f"- {title}: `{outcome.path.name[-60:]}`: {'; '.join(outcome.issues)}"


def sources(paths: list[Path], folders: list[Path]) -> str:
    counts = Counter(source(path, folders) for path in paths)
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def kept_by_hand(page: Path) -> list[str]:
    """The lines of the section ``CAME_APART``, as the page has them."""
    text = page.read_text("utf-8") if page.is_file() else ""
    return text[text.index(CAME_APART) :].splitlines() if CAME_APART in text else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--graphics", nargs="*", type=Path, default=[])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=HERE / "LOCAL_JUDGE.md")
    options = parser.parse_args()
    folders = options.folders or installed()
    pictures, drawings = images(folders), images(options.graphics)
    tasks = [(path, size, True) for size in (0, *SIZES) for path in pictures]
    with ProcessPoolExecutor(options.jobs) as pool:
        results = list(pool.map(examine, tasks, chunksize=4))
        drawn = [o for o in pool.map(examine, [(path, 0, False) for path in drawings]) if o]
    by_size = {
        size: [o for (_, at, _), o in zip(tasks, results, strict=True) if at == size and o] for size in (0, *SIZES)
    }
    native = by_size.pop(0)
    if not native:
        raise SystemExit(f"no images of {MIN_SIDE} px or more found: name folders of images")
    lines = [
        "# Local judge: how often it is right",
        "",
        "Written by `python benchmarks/local_judge.py`; its docstring says how. The images are not part of this",
        "repository. Collages, screenshots and deliberately degraded inputs of restoration examples were left out.",
        "",
        f"Photographs and generated images ({len(native)}): {sources([o.path for o in native], folders)}.",
        "",
        TUNED_ON if options.folders else "Some of these images were used to choose thresholds: name folders of others.",
        "",
        *table(native),
        "",
        FALLS_SHORT,
        "",
        "The same images, scaled down to one width (those that are wider), fail and named:",
        "",
        *size_table(by_size),
        "",
        *graphics_lines(drawn, options.graphics),
        speed(),
        "",
        "Untouched images that failed:",
        "",
        *(list(mistakes("picture", native)) + list(mistakes("graphic", drawn)) or ["- none"]),
    ]
    lines += ["", *kept_by_hand(options.output)]
    options.output.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print("\n".join(lines))
    for index, damage in enumerate(DAMAGES):
        print(damage.name, [o.path.name[-50:] for o in native if not o.named[index]], file=sys.stderr)


def speed() -> str:
    """Median of nine checks of a 1024 x 1024 float image, in this process alone."""
    image = np.random.default_rng(0).random((1024, 1024, 3), dtype=np.float32)
    times: dict[str, list[float]] = {"broken": [], "full": []}
    for _ in range(9):
        for checks, seconds in times.items():
            started = time.perf_counter()
            judge(image, checks="full" if checks == "full" else "broken")
            seconds.append(time.perf_counter() - started)
    broken, full = (1000 * float(np.median(seconds)) for seconds in times.values())
    return f"Time for 1024 x 1024 floats on one core: broken {broken:.0f} ms, full {full:.0f} ms."


def graphics_lines(drawn: list[Outcome], folders: list[Path]) -> list[str]:
    if not drawn:
        return []
    passed = share(sum(not o.issues for o in drawn), len(drawn))
    names = sources([o.path for o in drawn], folders)
    kinds = "Logos, depth and edge maps, drawings, charts, screenshots"
    return [f"{kinds}, untouched: {passed} pass. From: {names}.", ""]


if __name__ == "__main__":
    main()
