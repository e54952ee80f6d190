"""From the socket of a node to HTTP, in a real ComfyUI: few frames in few files, as ARCHITECTURE.md says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from support import way
from support.evaluators import KEY
from support.pictures import picture
from support.prompts import evaluate, load_image, show
from support.server import ComfyUI

from runflow_api import images
from runflow_api.sandbox.app import Sandbox

MOST_FRAMES, MOST_FILES = 13, 6
WAY_NODES = Path(__file__).parent / "way_nodes"


def test_few_frames_in_few_files_lead_from_the_socket_to_the_submission(
    comfyui_factory: Callable[..., ComfyUI],
) -> None:
    with Sandbox(latency=0.1) as sandbox:
        env = {
            "RUNFLOW_BASE_URL": sandbox.url,
            "RUNFLOW_API_KEY": KEY,
            "RUNFLOW_TEST_SUPPORT": str(Path(way.__file__).parent),
        }
        with comfyui_factory(env=env, extra_nodes=(WAY_NODES,)) as server:
            Image.fromarray(images.to_pixels(picture(1))).save(server.base / "input" / "photo.png")
            server.run({**load_image("1", "photo.png"), **evaluate("2", ["1", 0]), **show("3", ["2", 4])})
            frames = json.loads((server.base / "output" / "way.json").read_text("utf-8"))
    functions, files = {function for _, function in frames}, {file for file, _ in frames}
    assert {"execute", "evaluate", "submit", "send"} <= functions
    assert len(frames) <= MOST_FRAMES, frames
    assert len(files) <= MOST_FILES, files
