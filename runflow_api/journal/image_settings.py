"""What made an image, and what was asked about it: the facts that a verdict is remembered with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

RUNFLOW = "runflow"
LORAS_BETWEEN = " + "
LONGEST_NAME = 255
MAX_STEPS = 1_000_000
MAX_SIDE = 1_000_000


@dataclass(frozen=True)
class Lora:
    """``weight`` is the strength on the model; ``None`` if the graph does not say it."""

    name: str
    weight: float | None = None

    def __str__(self) -> str:
        return f"{self.name}:{'?' if self.weight is None else format(self.weight, 'g')}"


@dataclass(frozen=True)
class ImageSettings:
    """The settings that made an image. ``None`` is *unknown*; ``loras`` () is known to be none.

    ``width`` and ``height`` in pixels, ``seed`` 0 to 2**64 - 1.
    """

    checkpoint: str | None = None
    loras: tuple[Lora, ...] | None = None
    sampler: str | None = None
    scheduler: str | None = None
    steps: int | None = None
    cfg: float | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    prompt: str | None = None

    @property
    def loras_text(self) -> str | None:
        """The LoRAs as one text, in alphabetical order; "" for none, ``None`` for unknown."""
        return None if self.loras is None else LORAS_BETWEEN.join(sorted(map(str, self.loras)))

    @property
    def size(self) -> str | None:
        return f"{self.width}x{self.height}" if self.width and self.height else None


UNKNOWN_SETTINGS = ImageSettings()


def agreed(found: Sequence[ImageSettings]) -> ImageSettings:
    """What all of these say; what they disagree about is unknown."""
    if not found:
        return UNKNOWN_SETTINGS
    common = {}
    for each in fields(ImageSettings):
        values = {getattr(one, each.name) for one in found}
        common[each.name] = values.pop() if len(values) == 1 else None
    return ImageSettings(**common)


@dataclass(frozen=True)
class VerdictContext:
    """Who is asked what about an image, and what made it.

    ``judge`` is runflow, model, local, person or preflight, ``judge_name`` the name of a model. Two verdicts with the
    same ``instructions`` on the same pixels and prompt are about the same thing.
    """

    judge: str = RUNFLOW
    judge_name: str = ""
    task: str = ""
    instructions: str = ""
    image_settings: ImageSettings = UNKNOWN_SETTINGS
