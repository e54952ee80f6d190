"""Where verdicts go: Parquet parts that can be read while more of them come, each of so many consecutive rows.

A part is written when all of its rows have ended, under its final name at once. What is there when a run begins is not
judged again; a run that is stopped leaves the verdicts of unfinished parts beside them, as ``…-partial.parquet``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

from ..errors import InvalidInputError
from ..evaluation.verdict import UNKNOWN, Verdict
from . import extras
from .manifest import ManifestRow

RUN_FILE, DEAD_LETTERS = "run.json", "dead-letters"
PLACES = Decimal("1e-18")
"""The digits of ``cost`` behind the point."""
EXACT = Context(prec=38)


def record_of(row: ManifestRow, verdict: Verdict, kept: Iterable[str] = ()) -> dict[str, Any]:
    """The line of one row. ``score`` is null if none was given; ``cost`` is what the evaluation cost, whoever paid."""
    scored = verdict.evaluation.weighted_pass_rate is not None and verdict.error is None
    cost = verdict.evaluation.cost
    return {
        "row": row.number,
        "image": _as_text(row.values.get("image")),
        "verdict": str(verdict.outcome),
        "passed": verdict.passed,
        "score": verdict.score if scored else None,
        "issues": list(verdict.issues),
        "improved_prompt": verdict.improved_prompt,
        "judge": verdict.judge,
        "evaluation_id": verdict.evaluation.id,
        "cost": None if cost is None else cost.quantize(PLACES, context=EXACT),
        "seconds": verdict.seconds,
        "reused": verdict.reused,
        "code": verdict.error.code if verdict.error else None,
        "message": str(verdict.error) if verdict.error else None,
        "generation_prompt": verdict.subject.prompt,
        "pixel_hash": verdict.subject.pixel_hash,
        "judged_at": time.time(),
        **{name: _as_text(row.values.get(name)) for name in kept},
    }


def _as_text(value: Any) -> str | None:
    """A cell of the manifest as text; an image that is inside the manifest is not repeated."""
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    return f"{text[:40]}…" if text.startswith("data:") else text


class Parts:
    """The output folder of one shard of one manifest."""

    def __init__(self, folder: str, shard: tuple[int, int], kept: Sequence[str]) -> None:
        self._arrow, self._parquet = extras.load("pyarrow", "bulk"), extras.load("pyarrow.parquet", "bulk")
        self.folder = folder
        self._files, self._inside = extras.filesystem(folder)
        self._is_local = "file" in self._files.protocol
        index, count = shard
        self._shard = f"{index + 1}-of-{count}"
        self._kept = list(kept)

    def claim(self, about: Mapping[str, Any]) -> None:
        """Note in the folder which run it is of. Raises ``InvalidInputError`` if it is another's."""
        self.check(about)
        self._files.makedirs(self._inside, exist_ok=True)
        self._put(f"{self._inside}/{RUN_FILE}", json.dumps(dict(about), indent=1).encode())

    def check(self, about: Mapping[str, Any]) -> None:
        """Raise ``InvalidInputError`` if the folder is another run's."""
        place = f"{self._inside}/{RUN_FILE}"
        if not self._files.exists(place):
            return
        found = json.loads(self._files.cat_file(place))
        different = sorted(name for name in about if found.get(name) != about[name])
        if different:
            raise InvalidInputError(
                "--output",
                f"{self.folder} belongs to another run (different: {', '.join(different)}). Name another folder, or "
                f"give the same as before: {', '.join(f'{name} {found.get(name)}' for name in different)}.",
            )

    def is_there(self, block: int, *, retry: bool = False) -> bool:
        """Whether that part is written; with ``retry`` one with rows that nobody judged is to be made again."""
        place = self._place(block)
        if not self._files.exists(place):
            return False
        return not retry or not self._unjudged(place)

    def _unjudged(self, place: str) -> int:
        with self._files.open(place, "rb") as file:
            found = self._parquet.read_table(file, columns=["verdict"]).column("verdict").to_pylist()
        return int(found.count(str(UNKNOWN)))

    def write(self, block: int, records: Sequence[Mapping[str, Any]]) -> None:
        """The whole part."""
        self._put(self._place(block), self._packed(records))
        self._remove(self._place(block, "-partial"))

    def write_partial(self, block: int, records: Sequence[Mapping[str, Any]]) -> None:
        """What is there of a part when the run is stopped."""
        if records and not self._files.exists(self._place(block)):
            self._put(self._place(block, "-partial"), self._packed(records))

    def write_dead(self, block: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Those rows of a part that nobody judged, as a manifest with the reason of each; none if there are none."""
        place = f"{self._inside}/{DEAD_LETTERS}/{self._shard}-{block:06d}.jsonl"
        if not rows:
            self._remove(place)
            return
        self._files.makedirs(f"{self._inside}/{DEAD_LETTERS}", exist_ok=True)
        self._put(place, "".join(f"{json.dumps(line, default=str)}\n" for line in rows).encode())

    def _place(self, block: int, more: str = "") -> str:
        return f"{self._inside}/verdicts-{self._shard}-{block:06d}{more}.parquet"

    def _packed(self, records: Sequence[Mapping[str, Any]]) -> bytes:
        sink = self._arrow.BufferOutputStream()
        self._parquet.write_table(self._table(records), sink)
        packed = bytes(sink.getvalue())
        del sink
        self._arrow.default_memory_pool().release_unused()  # it keeps megabytes for each thread that ever wrote a part
        return packed

    def _table(self, records: Sequence[Mapping[str, Any]]) -> Any:
        return self._arrow.Table.from_pylist(
            [{**record, "judged_at": int(record["judged_at"] * 1e6)} for record in records],
            schema=schema(self._arrow, self._kept),
        )

    def _put(self, place: str, data: bytes) -> None:
        """Whole under its name, or not there: a store of objects does so by itself."""
        if not self._is_local:
            self._files.pipe_file(place, data)
            return
        part = f"{place}.{os.getpid()}.tmp"
        self._files.pipe_file(part, data)
        os.replace(part, place)

    def _remove(self, place: str) -> None:
        if self._files.exists(place):
            self._files.rm_file(place)


def schema(arrow: Any, kept: Sequence[str] = ()) -> Any:
    """The columns of a part."""
    text = arrow.string()
    columns = {
        "row": arrow.int64(), "image": text, "verdict": text, "passed": arrow.bool_(), "score": arrow.float64(),
        "issues": arrow.list_(text), "improved_prompt": text, "judge": text, "evaluation_id": text,
        "cost": arrow.decimal128(38, 18), "seconds": arrow.float64(), "reused": arrow.bool_(), "code": text,
        "message": text, "generation_prompt": text, "pixel_hash": text, "judged_at": arrow.timestamp("us", tz="UTC"),
    }  # fmt: skip
    return arrow.schema([*columns.items(), *((name, text) for name in kept)])
