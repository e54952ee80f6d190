"""Repair instead of regenerate: what an attempt that changes the best image so far begins with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ...runflow_api.evaluation.verdict import BatchVerdict

MAX_LINES, MAX_CHARACTERS = 12, 1_000
"""Of what is said to the next attempt, which people join to prompts: more does not help, and has to be judged too."""
CHANGE = "Change only what is wrong: {issues}. Keep everything else exactly as it is."
IMPROVE = "Improve this picture, and change as little as possible. It must show: {prompt}"
KEEP = "Above all keep what is right: {lines}."


class BestImage(str):
    """The best image, as an input of the node that stands in for Start in the next attempt.

    ComfyUI's cache compares the text, which is made of the pixels' hashes: with the same best image the same attempt
    is in its cache. The image itself hangs on it only until the next End has run, because ComfyUI keeps graphs, and
    keys of its cache, longer than their results.
    """

    image: torch.Tensor | None = None

    @classmethod
    def of(cls, image: torch.Tensor | None, hashes: Iterable[str]) -> BestImage:
        made = cls("+".join(hashes))
        made.image = image
        return made

    def drop(self) -> None:
        self.image = None


def repair_prompt(verdict: BatchVerdict | None, prompt: str, keep: Iterable[str]) -> str:
    """What to tell a model that edits images: what is wrong with it, and what to ``keep``.

    If nothing is known to be wrong, it is asked for what ``prompt`` describes.
    """
    wrong = [line.removesuffix(": failed").rstrip(".") for each in verdict or () for line in each.defects]
    issues = few_lines(list(dict.fromkeys(wrong)))
    asked = CHANGE.format(issues="; ".join(issues)) if issues else IMPROVE.format(prompt=prompt)
    kept = few_lines(list(keep))
    return f"{asked} {KEEP.format(lines='; '.join(kept))}" if kept else asked


def few_lines(lines: Sequence[str]) -> list[str]:
    """The first lines, whole, and few enough to stand in a prompt."""
    few = list(lines[:MAX_LINES])
    while few and len("\n".join(few)) > MAX_CHARACTERS:
        few = few[:-1] if len(few) > 1 else [f"{few[0][: MAX_CHARACTERS - 1]}…"]
    return few
