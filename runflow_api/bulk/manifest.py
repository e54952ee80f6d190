"""The rows of a manifest, one after the other, whatever their number: Parquet, CSV or JSON lines, wherever fsspec
reaches.

A row names an image, and may hold any field of its question: ``FIELDS``. What it leaves out, or leaves empty, is what
the command line says for all.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInputError
from . import extras

FIELDS = (
    "image", "generation_prompt", "evaluation_instructions", "task_type", "task_description", "references",
    "input_attributes", "run_id", "client_ref", "job_class", "callback_url",
)  # fmt: skip
"""The columns that are read. ``references`` is a list, or one as JSON: paths or addresses, or objects with ``url``,
``kind`` and ``description``."""
SUFFIXES = (".parquet", ".pq", ".csv", ".jsonl", ".ndjson")
READ_AT_ONCE = 1_000
BROKEN = ""
"""In place of its columns: why a row cannot be read. It is a row all the same, and gets its verdict."""
LONGEST_CELL = 32 * 1024 * 1024
"""An image may be inside, as a data URI."""


@dataclass(frozen=True)
class ManifestRow:
    """``number`` counts the rows of the whole manifest from 0; ``values`` are its columns."""

    number: int
    values: dict[str, Any]


class Manifest:
    """The files that ``path`` names: one, a folder of them, or a glob; in the order of their names.

    Raises ``InvalidInputError`` if there are none, or if one cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._files, inside = extras.filesystem(path)
        self._names = self._find(inside)
        first = f"{inside.partition('*')[0]}_"  # also of a glob that begins with its star, it is the folder
        self._base = inside if self._files.isdir(inside) else str(self._files._parent(first))

    @classmethod
    def at(cls, base: str) -> Manifest:
        """One without files: rows that come from elsewhere name their images from ``base``."""
        manifest = cls.__new__(cls)
        manifest.path, manifest._names = base, []
        manifest._files, manifest._base = extras.filesystem(base)
        return manifest

    @property
    def base(self) -> str:
        """Where relative paths begin."""
        return str(self._files.unstrip_protocol(self._base))

    @property
    def addresses(self) -> list[str]:
        """Its files, by addresses that mean the same from everywhere."""
        return [str(self._files.unstrip_protocol(name)) for name in self._names]

    def place(self, image: str) -> tuple[Any, str]:
        """The file system of an image, and its path there: one without a scheme is beside the manifest."""
        if "://" in image or os.path.isabs(image):
            return extras.filesystem(image)
        return self._files, f"{self._base.rstrip('/')}/{image}"

    def address(self, image: str) -> str:
        """The image by an address that means the same from everywhere."""
        files, inside = self.place(image)
        return str(files.unstrip_protocol(inside))

    def _find(self, inside: str) -> list[str]:
        if self._files.isdir(inside):
            found = [name for name in self._files.find(inside) if name.lower().endswith(SUFFIXES)]
        elif "*" in inside:
            found = [str(name) for name in self._files.glob(inside)]
        else:
            found = [inside] if self._files.exists(inside) else []
        wrong = [name for name in found if not name.lower().endswith(SUFFIXES)]
        if not found or wrong:
            what = f"{wrong[0]} is not one" if wrong else "there is no such file"
            raise InvalidInputError(self.path, f"is not a manifest ({what}): name {', '.join(SUFFIXES)} files.")
        return sorted(found)

    def identity(self) -> str:
        """What tells this manifest from another, or from what it was before it was changed."""
        about = [(name.rsplit("/", 1)[-1], self._files.info(name).get("size")) for name in self._names]
        first = self._files.cat_file(self._names[0], start=0, end=1_000_000)
        return hashlib.sha256(json.dumps(about).encode() + first).hexdigest()[:32]

    def count(self) -> int:
        """The number of rows. Parquet knows it; the others are read through."""
        return sum(self._count(name) for name in self._names)

    def numbered_files(self) -> list[tuple[str, int]]:
        """The address of each file, and the number of its first row."""
        sizes = [self._count(name) for name in self._names[:-1]]
        return list(zip(self.addresses, itertools.accumulate(sizes, initial=0), strict=True))

    def _count(self, name: str) -> int:
        if name.lower().endswith((".parquet", ".pq")):
            parquet = extras.load("pyarrow.parquet", "bulk")
            with self._files.open(name, "rb") as file:
                return int(parquet.ParquetFile(file).metadata.num_rows)
        return sum(1 for _ in self._values(name))

    def rows(self) -> Generator[ManifestRow, None, None]:
        """All rows in order."""
        number = 0
        for name in self._names:
            for values in self._values(name):
                yield ManifestRow(number, values)
                number += 1

    def shard(self, index: int, count: int) -> Iterator[ManifestRow]:
        """Every ``count``-th row, from ``index``, which counts from 0."""
        return (row for row in self.rows() if row.number % count == index)

    def sample(self, size: int, total: int) -> list[ManifestRow]:
        """So many rows of ``total`` at random, the same ones each time, in order."""
        chosen = set(random.Random(self.identity()).sample(range(total), min(size, total)))
        last = max(chosen, default=-1)
        found = []
        with contextlib.closing(self.rows()) as rows:
            for row in rows:
                if row.number in chosen:
                    found.append(row)
                if row.number >= last:
                    break
        return found

    # --- the formats ------------------------------------------------------------------------------

    def _values(self, name: str) -> Iterator[dict[str, Any]]:
        suffix = next(suffix for suffix in SUFFIXES if name.lower().endswith(suffix))
        try:
            with self._files.open(name, "rb") as file:
                yield from _READERS[suffix](file)
        except (ValueError, csv.Error, OSError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(name, f"cannot be read: {str(error)[:200]}.") from error


def _from_parquet(file: Any) -> Iterator[dict[str, Any]]:
    parquet = extras.load("pyarrow.parquet", "bulk")
    for batch in parquet.ParquetFile(file).iter_batches(batch_size=READ_AT_ONCE):
        yield from batch.to_pylist()


def _encoding(file: Any) -> str:
    """UTF-8, or, if a byte order mark says so, UTF-16, as PowerShell and Excel write it."""
    mark = file.read(2)
    file.seek(0)
    return "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _from_csv(file: Any) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(LONGEST_CELL)
    with io.TextIOWrapper(file, encoding=_encoding(file), newline="") as text:
        reader = csv.DictReader(text, restkey=BROKEN)
        for values in reader:
            is_broken = BROKEN in values or None in values.values()
            why = f"line {reader.line_num} has another number of columns than the first"
            yield {BROKEN: why} if is_broken else values


def _from_json_lines(file: Any) -> Iterator[dict[str, Any]]:
    with io.TextIOWrapper(file, encoding=_encoding(file)) as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                values = None
            yield values if isinstance(values, dict) else {BROKEN: f"line {number} is not a JSON object"}


_READERS = {
    ".parquet": _from_parquet,
    ".pq": _from_parquet,
    ".csv": _from_csv,
    ".jsonl": _from_json_lines,
    ".ndjson": _from_json_lines,
}
