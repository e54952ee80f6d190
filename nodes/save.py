"""Save images that say themselves how they were judged: Save Judged Images."""

from __future__ import annotations

import asyncio
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io
from PIL.PngImagePlugin import PngInfo

from ..runflow_api import background, images
from ..runflow_api.errors import InvalidInputError, RunflowError
from ..runflow_api.evaluation import saved_verdict
from ..runflow_api.evaluation.question import require_choice
from ..runflow_api.evaluation.verdict import Verdict
from . import _image_batch, _runtime
from ._schema import EvaluationType, advanced, schema

TOGETHER, BY_VERDICT = FOLDERS = ("together", "by_verdict")
ALL, PASSED, FAILED = WHAT = ("all", "passed", "failed")
COMPRESS_LEVEL = 4
"""As ComfyUI's own Save Image."""
LONGEST_IN_NAME = 40


class RunflowSaveJudged(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowSaveJudged",
            display_name="Save Judged Images",
            description=(
                "Saves images like Save Image, with the verdict and the id of the evaluation in the file beside prompt "
                "and workflow, so that the file itself says how it was judged. All of them or only what passed, in "
                "one folder or in one for each verdict."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The images that were judged, in the same order."),
                EvaluationType.Input("evaluation", tooltip="Their verdicts, from Evaluate Image Quality."),
                io.String.Input(
                    "filename_prefix",
                    optional=True,
                    default="runflow/%verdict%",
                    tooltip=(
                        "Where to save in the output folder. %verdict%, %score% and %judge% are filled in for each "
                        "image, and what Save Image fills in: %year%, %month%, %width% and so on."
                    ),
                ),
                io.Combo.Input(
                    "folders",
                    options=list(FOLDERS),
                    optional=True,
                    default=TOGETHER,
                    tooltip="by_verdict: a folder for each verdict (passed, failed, unknown) at that place.",
                ),
                io.Combo.Input(
                    "what",
                    options=list(WHAT),
                    optional=True,
                    default=ALL,
                    tooltip="failed: all that did not pass, also what nobody judged.",
                ),
                io.Boolean.Input(
                    "sidecar",
                    optional=True,
                    default=False,
                    tooltip="Also write the verdict as a JSON file beside each image.",
                    **advanced(),
                ),
            ],
            outputs=[],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    async def execute(
        cls, image, evaluation, filename_prefix="runflow/%verdict%", folders=TOGETHER, what=ALL, sidecar=False
    ) -> io.NodeOutput:
        require_choice("folders", folders, FOLDERS)
        require_choice("what", what, WHAT)
        batch = _image_batch.check_images("image", image)
        _image_batch.check_count(batch, evaluation)
        pictures, hashes = _image_batch.pictures(batch), await _image_batch.pixel_hashes(batch)
        wanted = [index for index, verdict in enumerate(evaluation) if _is_wanted(verdict, what)]
        judged = [
            Judged(pictures[index], evaluation[index], saved_verdict.record(evaluation[index], hashes[index]), index)
            for index in wanted
        ]
        # Which attempt of a loop is running is known on this side of the thread only.
        chunks = {} if args.disable_metadata else _chunks(cls.hidden.prompt, cls.hidden.extra_pnginfo)
        saving = background.call(_save_all, judged, filename_prefix, folders == BY_VERDICT, sidecar, chunks)
        saved = await asyncio.wrap_future(saving)
        left = len(evaluation) - len(wanted)
        said = f"{len(saved)} saved{f', {left} left out' if left else ''}"
        other = [_image_batch.OTHER_PIXELS] if _image_batch.differ(hashes, evaluation) else []
        _runtime.NodeProgress(cls.hidden.unique_id).text(" · ".join([said, *other]))
        return io.NodeOutput(ui={"images": saved, "text": [f"{said} · {evaluation.summary}"]})


@dataclass(frozen=True)
class Judged:
    """An image to save. ``record`` is what its file says, ``index`` its place in the batch."""

    picture: images.Picture
    verdict: Verdict
    record: dict[str, Any]
    index: int


def _is_wanted(verdict: Verdict, what: str) -> bool:
    return what == ALL or verdict.passed == (what == PASSED)


def _chunks(prompt: Any, extra_pnginfo: Any) -> dict[str, str]:
    """What Save Image writes into its files; a client may send anything as ``extra_pnginfo``."""
    given = extra_pnginfo if isinstance(extra_pnginfo, Mapping) else {}
    chunks = {} if prompt is None else {"prompt": json.dumps(prompt)}
    return chunks | {str(name): json.dumps(value) for name, value in given.items()}


def _save_all(
    judged: Sequence[Judged], prefix: str, by_verdict: bool, sidecar: bool, chunks: Mapping[str, str]
) -> list[dict[str, str]]:
    """Write every image; how ComfyUI names each. No file is ever seen half-written, none is written over."""
    saved = []
    try:
        for each in judged:
            folder, subfolder, name, counter = _place(_filled(prefix, each.verdict, by_verdict), each.picture)
            file = _claim(folder, name.replace("%batch_num%", str(each.index)), counter)
            _write(file, each, chunks)
            if sidecar:
                text = json.dumps(each.record, ensure_ascii=False, indent=2) + "\n"
                file.with_suffix(".json").write_text(text, "utf-8")
            saved.append({"filename": file.name, "subfolder": subfolder, "type": "output"})
    except OSError as error:
        raise RunflowError(
            f"An image could not be saved ({error.strerror or type(error).__name__}); {len(saved)} of {len(judged)} "
            "were.",
            code="IMAGE_NOT_SAVED",
            cost="The verdicts are not lost: run again, and nothing is paid.",
        ) from error
    return saved


def _filled(prefix: str, verdict: Verdict, by_verdict: bool) -> str:
    """The prefix of one image. What the judges said may name no folder."""
    has_score = verdict.evaluation.weighted_pass_rate is not None
    values = {"verdict": str(verdict.outcome), "score": f"{verdict.score:.2f}" if has_score else "none"}
    values["judge"] = re.sub(r"[^0-9A-Za-z._-]", "_", verdict.judge)[:LONGEST_IN_NAME]
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    if not by_verdict:
        return prefix
    folder, _, name = prefix.replace("\\", "/").rpartition("/")
    return "/".join(part for part in (folder, values["verdict"], name) if part)


def _place(prefix: str, picture: images.Picture) -> tuple[Path, str, str, int]:
    """(folder, subfolder, name, counter) as ComfyUI's Save Image counts. It refuses what leads out of its folder."""
    height, width = picture.pixels.shape[:2]
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory(), width, height
        )
    except OSError:
        raise
    except Exception as error:  # ComfyUI raises a bare Exception, and ValueError for another drive of Windows
        raise InvalidInputError(
            "filename_prefix", "leads out of the output folder. Give a name inside it, such as judged/cats."
        ) from error
    return Path(folder), subfolder, name, counter


def _claim(folder: Path, name: str, counter: int) -> Path:
    """A file that exists from here on and is nobody else's: another node may count at the same moment."""
    while True:
        file = folder / f"{name}_{counter:05}_.png"
        try:
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            return file
        except FileExistsError:
            counter += 1


def _write(file: Path, judged: Judged, chunks: Mapping[str, str]) -> None:
    metadata = PngInfo()
    for name, text in chunks.items():
        metadata.add_text(name, text)
    if not args.disable_metadata:
        metadata.add_text(saved_verdict.CHUNK, json.dumps(judged.record))
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        images.to_pil(judged.picture.pixels).save(part, "PNG", pnginfo=metadata, compress_level=COMPRESS_LEVEL)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        raise
