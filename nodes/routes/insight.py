"""What the page shows of the journal's figures, and what the person says of images on the rating page."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...runflow_api.errors import InvalidInputError
from .. import _thumbnails
from .handlers import Json, Visitor, in_thread

MAX_NAME = 100
MAX_LOOKED_AT = 200
"""How many images are looked at for those whose picture is kept."""
MAX_DAYS = 36_500


class InsightHandlers:
    """Reading never writes and needs no lock; a rating is kept on this machine and sent nowhere."""

    def __init__(self, evaluator: Callable[[], Any], directory: Callable[[], Path]) -> None:
        self._evaluator, self._directory = evaluator, directory

    async def overview(self, params: Json, visitor: Visitor) -> Json:
        """Figures by one or two settings, over time, as a whole, and every judge's agreement with the person."""
        return await in_thread(self._overview, params)

    def _overview(self, params: Json) -> Json:
        from ...runflow_api.insight import page
        from ...runflow_api.insight.agreement import Costs
        from ...runflow_api.insight.value import Filter
        from ...runflow_api.journal.schema import DAY_S

        days = min(_number(params, "days", 0.0), MAX_DAYS)
        since = int(time.time() // DAY_S - days + 1) if days >= 1 else 0
        wanted = Filter(since, str(params.get("judge", ""))[:MAX_NAME], str(params.get("task", ""))[:MAX_NAME])
        costs = Costs(_number(params, "wrong_pass", 1.0), _number(params, "wrong_rejection", 1.0))
        by = str(params.get("by") or "checkpoint")[:MAX_NAME].split(",")
        shown: Json = self._evaluator().journal().query(page.overview, by, wanted, costs)
        return shown

    async def csv(self, params: Json, visitor: Visitor) -> str:
        from ...runflow_api.insight import export

        return export.as_csv(await in_thread(self._overview, params))

    async def to_rate(self, params: Json, visitor: Visitor) -> Json:
        """Judged images that nobody has rated for this judge and task and whose picture is kept: no verdict is told."""
        return {"images": await in_thread(self._to_rate, params)}

    def _to_rate(self, params: Json) -> list[Json]:
        from ...runflow_api.insight import page
        from ...runflow_api.insight.value import Filter

        wanted = Filter(judge=str(params.get("judge", ""))[:MAX_NAME], task=str(params.get("task", ""))[:MAX_NAME])
        waiting = self._evaluator().journal().query(page.to_rate, wanted, limit=MAX_LOOKED_AT)
        kept = [each for each in waiting if _thumbnails.find(self._directory(), each["image"], large=True)]
        return kept[: page.TO_RATE]

    async def rate(self, params: Json, visitor: Visitor) -> Json:
        """Keep what the person finds; what the judges had said."""
        row, is_good = params.get("row"), params.get("good")
        if not isinstance(row, int) or isinstance(row, bool) or not 0 < row < 2**62:
            raise InvalidInputError("row", "must be the number of a row.")
        if is_good is not None and not isinstance(is_good, bool):
            raise InvalidInputError("good", "must be true, false or null.")
        return {"verdicts": await in_thread(self._rate, row, is_good)}

    def _rate(self, row: int, is_good: bool | None) -> list[Json]:
        from ...runflow_api.insight import page

        journal = self._evaluator().journal()
        journal.rate(row, is_good)
        verdicts: list[Json] = journal.query(page.verdicts_on, row)
        return verdicts


def _number(params: Json, name: str, default: float) -> float:
    try:
        return float(str(params.get(name) or default)[:20])
    except ValueError as error:
        raise InvalidInputError(name, "is not a number.") from error
