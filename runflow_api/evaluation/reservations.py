"""Who in this process begins which rows and waits for them: what somebody waits for is not given back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from ..journal.journal import Row

Asker = tuple[str, str]
"""A row, by its idempotency key, and the prompt that asks for it."""
BILLS_REMEMBERED = 100_000
"""Far more than are waited for at a time, and not a set that grows with the rows of a run."""


class Reservations:
    """Counts the batches of each prompt that wait for a row. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Counter[Asker] = Counter()

    def join(self, rows: Sequence[Row]) -> None:
        """One batch waits for these rows from now on; equal images of it share one."""
        with self._lock:
            self._waiting.update(_distinct(rows).keys())

    def leave(self, rows: Sequence[Row]) -> list[Row]:
        """That batch waits no longer: the rows that nothing else of its prompt waits for."""
        distinct = _distinct(rows)
        with self._lock:
            self._waiting.subtract(distinct.keys())
            leaving = [row for asker, row in distinct.items() if self._waiting[asker] <= 0]
            self._waiting = +self._waiting
            return leaving

    def count(self, row: Row) -> int:
        """How many batches wait for this row."""
        with self._lock:
            return sum(count for (key, _), count in self._waiting.items() if key == row.idempotency_key)


class OneAtATime:
    """What has a name in common is done one after the other, everything else together."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[str] = set()

    @contextmanager
    def alone_with(self, names: Collection[str]) -> Iterator[None]:
        """Waits until none of them is held. Not to be held by a thread that holds some already."""
        with self._changed:
            self._changed.wait_for(lambda: self._held.isdisjoint(names))
            self._held.update(names)
        try:
            yield
        finally:
            with self._changed:
                self._held.difference_update(names)
                self._changed.notify_all()


class Bills:
    """Which bills were shown already, so that each is shown once. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: set[str] = set()

    def is_first(self, row: Row) -> bool:
        with self._lock:
            is_first = row.idempotency_key not in self._shown
            if len(self._shown) >= BILLS_REMEMBERED:
                self._shown.clear()
            self._shown.add(row.idempotency_key)
            return is_first


def _distinct(rows: Sequence[Row]) -> dict[Asker, Row]:
    return {(row.idempotency_key, row.asked_by): row for row in rows}
