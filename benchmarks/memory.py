"""Peak extra memory from a tensor to the body that is sent, each way in a process of its own.

The operating system's own peak (resident set), because the encoders allocate outside Python.
"""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import HERE, median, said, table

SIDE, ROUNDS, GOAL = 2048, 3, 2.5
STEPS = ("uint8", "Pillow PNG", "WebP", "body", "comfyui")
TOGETHER = (1, 2, 8)
"""Encodings at once."""
STATUS = Path("/proc/self/status")


def run(options: Namespace) -> str:
    if not STATUS.exists():
        return "Not measured: this needs the peak resident set of Linux."
    steps = [step for step in STEPS if step != "comfyui" or options.comfyui]
    rows = [[_NAMES[step], f"{_measured(options, step):.1f} ×"] for step in steps]
    whole = _measured(options, "body")
    together = [[count, f"{_measured(options, f'together {count}'):.0f} ×"] for count in TOGETHER]
    parts = [
        f"At {SIDE}², as a multiple of the uint8 image ({3 * SIDE * SIDE / 1e6:.1f} MB), the uint8 image included.",
        table(["from the float tensor to", "peak extra memory"], rows),
        f"Goal ≤ {GOAL} ×: {said(whole <= GOAL)}. The lossless WebP encoder itself takes it, for its copies of the "
        "pixels and the lists of references it chooses from; nothing that Pillow passes on lowers that. A PNG stays "
        "near the goal, but takes longer to arrive (see the encoders). Two are made at once, no more:",
        table(["WebP encodings at once", "peak extra memory"], together),
    ]
    return "\n\n".join(parts)


_NAMES = {
    "uint8": "the uint8 image",
    "Pillow PNG": "a PNG by Pillow, level 1",
    "WebP": "the WebP",
    "body": "the body that is sent: WebP, base64, JSON",
    "comfyui": "ComfyUI's base64 PNG",
}


def _measured(options: Namespace, step: str) -> float:
    comfyui = [str(options.comfyui)] if step == "comfyui" else []
    command = [sys.executable, str(HERE / "memory.py"), step, *comfyui]
    runs = (subprocess.run(command, capture_output=True, check=True) for _ in range(ROUNDS))
    return median(float(run.stdout.split()[-1]) for run in runs)


# --- in the process that is measured --------------------------------------------------------------


def _main(step: str, comfyui: list[str]) -> None:
    import numpy as np
    import pictures

    files = pictures.found([], [])["photograph"]
    image = pictures.tensor_of(pictures.square("photograph", files[0], SIDE).pixels)
    if step.startswith("together"):
        work, count = _work("WebP", comfyui), int(step.split()[1])
        whole = lambda: list(ThreadPoolExecutor(count).map(work, [image] * 2 * count))  # noqa: E731
    else:
        work = _work(step, comfyui)
        whole = lambda: work(image)  # noqa: E731
    work(np.ascontiguousarray(image[:64, :64]))  # imports and caches
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _peak()
    whole()
    print((_peak() - before) / image.size)


def _peak() -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def _work(step: str, comfyui: list[str]):
    import encoders
    import encoding

    from runflow_api import images
    from runflow_api.api.client import encode_request
    from runflow_api.evaluation.question import Options, Question, build_request

    if step == "comfyui":
        import comfy_conversion

        return comfy_conversion.load(Path(comfyui[0]))
    png = next(each.encode for each in encoders.available() if each.name == "PNG level 1")
    return {
        "uint8": images.to_pixels,
        "Pillow PNG": lambda image: png(images.to_pixels(image)),
        "WebP": lambda image: images.encode_lossless(images.to_pixels(image)),
        "body": lambda image: encode_request(build_request(encoding.ours(image), [], Question(), Options())),
    }[step]


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
