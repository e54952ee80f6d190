"""How fast all machines together may ask: one rate and one pause, in the database that they share.

Nobody knows the server's limit beforehand. Until it refuses (429) there is none; then the fleet keeps a rate that is
lowered at each refusal and raised slowly while there is none, more carefully near the rate that was refused last. Times
are the database's, so that clocks of machines need not agree.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import sqlalchemy as sa

from .errors import translates_errors
from .schema import PACE
from .store import Store

FIRST_RATE = 64.0
"""Requests per second after the first refusal; each further one in a row halves it."""
LOWEST_RATE = 0.1
IN_A_ROW_S = 15.0
LOWERED_IN_A_ROW, LOWERED = 0.5, 0.85
SETTLE_S = 2.0
"""A refusal so soon after a change is of a request that was sent before it."""
NEAR = 0.85
"""Of the rate that was refused last: from there on it is raised more carefully."""
OUTGROWN = 1.2
"""Times the rate that was refused last: it is not the limit any more."""
QUICKLY, CAREFULLY = (5.0, 1.05), (10.0, 1.01)
"""After so many seconds without a refusal, by so much."""
AHEAD_S = 0.5
"""Places in the queue are given so long before their time: a process that dies takes few with it."""

MOST_AHEAD_S = 120.0
"""No pause and no place in the queue is further ahead: a time that is was written before the database's clock was set
back."""


@dataclass(frozen=True)
class Pace:
    """``rate`` in requests per second, ``None`` for as many as anybody wants; ``ceiling`` is the rate refused last.

    ``next_at`` is when the next request may be sent, ``changed_at`` since when the rate holds: seconds of the
    database's clock.
    """

    rate: float | None = None
    ceiling: float | None = None
    next_at: float = 0.0
    paused_until: float = 0.0
    changed_at: float = 0.0

    def by_clock(self, now: float) -> Pace:
        """The same without times that lie further ahead than any that was given: nobody waits until they come."""
        latest = now + MOST_AHEAD_S
        if max(self.next_at, self.paused_until, self.changed_at) <= latest:
            return self
        return replace(self, next_at=0.0, paused_until=0.0, changed_at=min(self.changed_at, now))

    def after_refusal(self, now: float, pause_s: float, most: float | None) -> Pace:
        """After a 429 that asks for a pause. ``most`` is the rate that the person has set, if any."""
        paused = replace(self, paused_until=max(self.paused_until, now + pause_s))
        if self.rate is not None and now < self.changed_at + SETTLE_S:
            return paused
        changed = replace(paused, changed_at=now + pause_s)
        if self.rate is None:
            return replace(changed, rate=min(FIRST_RATE, most or FIRST_RATE))
        is_in_a_row = now < self.changed_at + IN_A_ROW_S
        rate = max(self.rate * (LOWERED_IN_A_ROW if is_in_a_row else LOWERED), LOWEST_RATE)
        return replace(changed, rate=rate, ceiling=self.rate)

    def raised(self, now: float, most: float | None) -> Pace:
        """Where nothing was refused for a while."""
        if self.rate is None:
            return self if most is None else replace(self, rate=most)
        is_near = self.ceiling is not None and self.rate >= NEAR * self.ceiling
        after_s, factor = CAREFULLY if is_near else QUICKLY
        if now - max(self.changed_at, self.paused_until) < after_s:
            return self
        rate = min(self.rate * factor, most or float("inf"))
        is_over = self.ceiling is not None and rate > OUTGROWN * self.ceiling
        return replace(self, rate=rate, ceiling=None if is_over else self.ceiling, changed_at=now)

    def leased(self, now: float, count: int) -> tuple[Pace, float]:
        """The pace after ``count`` places were given away, and the time of the first of them."""
        assert self.rate is not None
        first = max(self.next_at, self.paused_until, now)
        return replace(self, next_at=first + count / self.rate), first


@dataclass(frozen=True)
class Lease:
    """``count`` places: the first in ``in_s`` seconds, the others ``apart_s`` after each other.

    With ``count`` 0 there is no rate to keep, or none is free yet: ask again in ``in_s``.
    """

    count: int
    in_s: float = 0.0
    apart_s: float = 0.0
    rate: float | None = None


class SharedPace:
    """The pace of everybody who has this ``name`` in this database. Blocks; raises ``JournalError``, without waiting
    for a server that is away.
    """

    rides_out_s = 0.0

    def __init__(self, store: Store, name: str, most: float | None) -> None:
        self.where = store.where
        self._store = store
        self._name = name
        self._most = most

    @translates_errors
    def peek(self) -> Lease:
        """Whether there is a rate, and how long the pause is; without changing anything."""
        with self._store.reading() as connection:
            now, pace = self._read(connection, lock=False)
        return Lease(0, max(0.0, pace.paused_until - now), rate=pace.rate or self._most)

    @translates_errors
    def lease(self) -> Lease:
        """The next places, if there are some soon."""
        with self._store.writing() as connection:
            if connection.dialect.name == "postgresql":
                # What is lost in a crash are moments of waiting: not worth a wait for the disk at each request.
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            now, pace = self._read(connection, lock=True)
            pace = pace.raised(now, self._most)
            if pace.rate is None:
                return Lease(0, max(0.0, pace.paused_until - now))
            too_early = max(pace.next_at, pace.paused_until) - now - AHEAD_S
            if too_early > 0:
                return Lease(0, too_early, rate=pace.rate)
            count = max(1, round(pace.rate / 50))
            pace, first = pace.leased(now, count)
            self._write(connection, pace)
            return Lease(count, first - now, 1 / (pace.rate or 1.0), pace.rate)

    @translates_errors
    def record_refusal(self, pause_s: float) -> None:
        """The server refused (429): everybody pauses so long, and is slower afterwards."""
        with self._store.writing() as connection:
            now, pace = self._read(connection, lock=True)
            self._write(connection, pace.after_refusal(now, pause_s, self._most))

    def _read(self, connection: sa.Connection, *, lock: bool) -> tuple[float, Pace]:
        wanted = sa.select(PACE).where(PACE.c.name == self._name)
        found = connection.execute(wanted.with_for_update() if lock else wanted).first()
        if found is None and lock:
            self._insert(connection)
            return self._read(connection, lock=True)
        now = now_of(connection)
        if found is None:
            return now, Pace()
        pace = Pace(found.rate, found.ceiling, found.next_at, found.paused_until, found.changed_at)
        return now, pace.by_clock(now)

    def _insert(self, connection: sa.Connection) -> None:
        """Another process may be faster: then its row is there."""
        values = {"name": self._name, "next_at": 0.0, "paused_until": 0.0, "changed_at": 0.0}
        there = sa.select(PACE.c.name).where(PACE.c.name == self._name).exists()
        columns = [sa.literal(value).label(name) for name, value in values.items()]
        if connection.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert

            connection.execute(insert(PACE).values(**values).on_conflict_do_nothing())
        else:
            connection.execute(PACE.insert().from_select(list(values), sa.select(*columns).where(~there)))

    def _write(self, connection: sa.Connection, pace: Pace) -> None:
        connection.execute(PACE.update().where(PACE.c.name == self._name).values(**vars(pace)))


def now_of(connection: sa.Connection) -> float:
    """Unix time by the database's clock."""
    if connection.dialect.name == "postgresql":
        return float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())")))
    return time.time()
