"""What stands in for a journal that cannot be used: one in memory, whose rows come home when it is back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Concatenate, ParamSpec, TypeVar

from .budget import Limits
from .journal import Journal
from .rows import Request, Row

ROWS_REMEMBERED = 2_000
"""For when the journal cannot be asked. A row takes a few kilobytes."""

P = ParamSpec("P")
T = TypeVar("T")


class Remembered:
    """The rows that this process has begun or seen lately, each as it was last seen. The caller holds a lock."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, Row] = OrderedDict()

    def __iter__(self) -> Iterator[Row]:
        return iter(list(self._rows.values()))

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._rows[row.idempotency_key] = row
            self._rows.move_to_end(row.idempotency_key)
        while len(self._rows) > ROWS_REMEMBERED:
            self._rows.popitem(last=False)

    def latest(self, row: Row) -> Row:
        """What was seen last of ``row``, if it was."""
        return self._rows.get(row.idempotency_key, row)


class StandIn:
    """Rows by their idempotency keys, since ids differ from journal to journal. The caller holds a lock."""

    def __init__(self, journal: Journal) -> None:
        """``journal`` is one in memory."""
        self.journal = journal
        self.changed: set[str] = set()
        """Keys of the rows that the journal does not have, or not as they are here."""
        self._ids: dict[str, int] = {}

    def know(self, rows: Iterable[Row], account: str) -> None:
        """Take rows that the journal has, as this process last saw them: they are not paid again."""
        new = [row for row in rows if row.idempotency_key not in self._ids]
        kept = [(replace(row, account=account), set[str](), None) for row in new]
        self._ids |= self.journal.take_over(kept, account)

    def begin(self, requests: Sequence[Request], limits: Limits) -> list[Row]:
        rows = self.journal.begin(requests, limits)
        for row in rows:
            self._ids[row.idempotency_key] = row.id
            if not row.is_terminal:
                self.changed.add(row.idempotency_key)
        return rows

    def row(self, key: str) -> Row | None:
        """The row as it is here, if it is."""
        return self.journal.get(self._ids[key]) if key in self._ids else None

    def use(self, method: Callable[Concatenate[Journal, Row, P], T], row: Row, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the journal that changes ``row``, which must be known here."""
        self.changed.add(row.idempotency_key)
        return method(self.journal, row.at(self._ids[row.idempotency_key]), *args, **kwargs)

    def release(self, rows: Sequence[Row]) -> None:
        self.changed.update(row.idempotency_key for row in rows)
        self.journal.release([row.at(self._ids[row.idempotency_key]) for row in rows])

    def go_home(self, journal: Journal, account: str, keys: Collection[str]) -> dict[str, Row]:
        """Put these rows into ``journal``, under ``account``. Returns them by key, as they are there."""
        ids = journal.take_over(self.journal.rows_by_key(keys), account)
        return {key: journal.get(row_id) for key, row_id in ids.items()}
