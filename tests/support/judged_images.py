"""A journal as somebody has it after some weeks: verdicts of all judges, and what made the images."""

from __future__ import annotations

import hashlib
import random
import shutil
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from PIL import Image

from runflow_api.insight import page
from runflow_api.journal.image_settings import ImageSettings, Lora, VerdictContext
from runflow_api.journal.journal import Journal, Limits, Request
from runflow_api.journal.schema import ROWS, VERDICTS

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = ("chelsea", "coffee", "rocket", "astronaut", "coffee_blurred")
PROMPTS = ("a cat looking into the camera", "a cup of espresso from above", "a rocket before its start", "a portrait")
MODELS = (
    ("juggernautXL_v9.safetensors", 0.8),
    ("flux1-dev-fp8.safetensors", 0.6),
    ("sd15/dreamshaper_8.safetensors", 0.35),
)
SAMPLERS = ("dpmpp_2m", "euler", "uni_pc_bh2")
JUDGES = (("runflow", ""), ("local", ""), ("model", "qwen2.5-vl-7b"))
PRICE = Decimal("0.1")
STEPS = 20
WEEKS_S = 40 * 86_400.0


def keep_judged(folder: Path, count: int, rated: int = 0, judges: Sequence[tuple[str, str]] = JUDGES) -> None:
    """Put ``count`` images with a verdict of each judge into the journal of a pack's private folder.

    The person has rated the first ``rated``. The last came just now, the first 40 days ago; what Runflow judged has
    cost ``PRICE``. The pictures of the last are kept.
    """
    dice, now = random.Random(count), time.time()
    clock = now
    images = [_made(number, dice) for number in range(count)]
    with Journal.open(None, folder, now=lambda: clock) as book:
        at_once = -(-count // STEPS)
        for first in range(0, count, at_once):
            clock = now - WEEKS_S * (count - at_once - first) / count if first + at_once < count else now
            for judge, name in judges:
                asked = [_asked(number, judge, name, images[number][0]) for number in range(first, count)[:at_once]]
                answers = [_answer(number, judge, images[number][1], dice) for number in range(first, count)[:at_once]]
                _keep(book, judge, asked, answers)
        waiting = page.to_rate(book.store, limit=count)[::-1]
        for each, (_, is_good) in zip(waiting[:rated], images[:rated], strict=True):
            book.rate(each["row"], is_good)
    _keep_pictures(folder, range(max(0, count - 60), count))


def multiply(book: Journal, times: int) -> None:
    """Put every row into the journal so many times in all, each copy about another image, which nobody has rated."""
    with book.store.writing() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(ROWS))
        for number in range(1, times):
            for table in (ROWS, VERDICTS):
                copied = []
                for column in table.columns:
                    if column.name in ("id", "row_id"):
                        copied.append(column + number * count)
                    elif column.name in ("request_hash", "idempotency_key", "pixel_hash", "subject"):
                        copied.append(sa.literal(f"{number} ") + column)
                    elif column.name == "is_good":
                        copied.append(sa.null())
                    else:
                        copied.append(column)
                original = table.columns[0] <= count
                copies = sa.select(*copied).where(original)
                connection.execute(table.insert().from_select(list(table.columns.keys()), copies))


def _made(number: int, dice: random.Random) -> tuple[ImageSettings, bool]:
    """What made an image, and whether it is good."""
    model, share = dice.choice(MODELS)
    sampler = dice.choice((*SAMPLERS, None))
    loras = dice.choice(((), (Lora("detail_tweaker", 0.6),)))
    made = ImageSettings(model, loras, sampler, "karras", dice.choice((20, 30)), 6.5, 768, 1024, number)
    return made, dice.random() < share - 0.15 * (sampler == "euler")


def _asked(number: int, judge: str, name: str, made: ImageSettings) -> Request:
    about = VerdictContext(judge, name, ("image_generation", "headshot")[number % 3 == 0], "", made)
    return Request(
        request_hash=f"kept {judge} {number}",
        account="org:kept" if judge == "runflow" else f"free:{judge}",
        price=PRICE,
        job_class="standard",
        prompt_token=f"run {number}",
        generation_prompt=PROMPTS[number % len(PROMPTS)],
        pixel_hash=hash_of(number),
        context=about,
    )


def _answer(number: int, judge: str, is_good: bool, dice: random.Random) -> dict[str, Any]:
    """Most judges find out whether an image is good; the local one only measures pixels."""
    is_right = dice.random() < (0.5 if judge == "local" else 0.85)
    passed = is_good if is_right else not is_good
    score = round(min(1.0, max(0.0, dice.gauss(0.82 if passed else 0.4, 0.1))), 2)
    return {"id": f"kept-{number}", "status_code": "completed", "overall_passed": passed, "weighted_pass_rate": score}


def _keep(book: Journal, judge: str, asked: list[Request], answers: list[dict[str, Any]]) -> None:
    if judge != "runflow":
        book.record_free(asked, answers)
        return
    for row, answer in zip(book.begin(asked, Limits(10**6, 10**6)), answers, strict=True):
        book.record_submission(row, answer["id"], "kept")
        book.record_result(row, answer, completed=True, cost=PRICE, failure_code=None, duration_s=8.0)


def hash_of(number: int) -> str:
    return hashlib.sha256(f"kept {number}".encode()).hexdigest()


def _keep_pictures(folder: Path, numbers: Sequence[int]) -> None:
    """Small and large, under the names that the pack gives them."""
    for name, side in (("thumbnails", 192), ("pictures", 1280)):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
        encoded = []
        for photo in PHOTOS:
            with Image.open(ROOT / "example_workflows" / "photos" / f"{photo}.jpg") as image:
                image.thumbnail((side, side))
                image.save(folder / name / f"{photo}.tmp", "WEBP")
            encoded.append(folder / name / f"{photo}.tmp")
        for number in numbers:
            shutil.copyfile(encoded[number % len(PHOTOS)], folder / name / f"{hash_of(number)}.webp")
        for file in encoded:
            file.unlink()
