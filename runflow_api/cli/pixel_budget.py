"""Room for the pixels of the images that are judged at the same time, so that memory is bounded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


class PixelBudget:
    """Lets images in while there is room for their pixels; one that is larger than all room goes alone."""

    def __init__(self, pixels: int) -> None:
        self._all = self._free = pixels
        self._changed = asyncio.Condition()

    def for_pixels(self, pixels: int) -> _Share:
        return _Share(self, min(pixels, self._all))

    async def take(self, pixels: int) -> None:
        async with self._changed:
            while self._free < pixels:
                await self._changed.wait()
            self._free -= pixels

    async def give(self, pixels: int) -> None:
        async with self._changed:
            self._free += pixels
            self._changed.notify_all()


@dataclass(frozen=True)
class _Share:
    budget: PixelBudget
    pixels: int

    async def __aenter__(self) -> None:
        await self.budget.take(self.pixels)

    async def __aexit__(self, *_: object) -> None:
        await self.budget.give(self.pixels)
