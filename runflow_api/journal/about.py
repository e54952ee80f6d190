"""What there is to say of a journal that several machines share."""

from __future__ import annotations

import time
from dataclasses import dataclass

import sqlalchemy as sa

from .errors import translate_errors
from .pace import now_of
from .schema import BODIES, PACE
from .store import Store


@dataclass(frozen=True)
class Shared:
    """The database server: what it is, seconds of one question and answer, how far its clock is ahead of this one,
    bodies under way, and the rate that the machines keep (``None`` if nobody was refused).
    """

    server: str
    answers_in_s: float
    clock_ahead_s: float
    bodies: int
    rate: float | None

    @property
    def text(self) -> str:
        said = [self.server, f"answers in {self.answers_in_s * 1000:.1f} ms"]
        said += [f"{self.bodies} bodies under way"] if self.bodies else []
        said += [f"all machines together keep to {self.rate:.1f} requests per second"] if self.rate else []
        return ", ".join(said)


def look_at(store: Store) -> Shared | None:
    """``None`` for a file."""
    if not store.is_shared:
        return None
    with translate_errors(store.where), store.reading() as connection:
        is_postgresql = connection.dialect.name == "postgresql"
        began = time.monotonic()
        connection.execute(sa.text("SELECT 1"))
        took = time.monotonic() - began
        server, now = connection.dialect.name, time.time()
        if is_postgresql:
            version = connection.scalar(sa.text("SHOW server_version"))
            server, now = f"PostgreSQL {str(version).split()[0]}", now_of(connection)
        bodies = connection.scalar(sa.select(sa.func.count()).select_from(BODIES)) or 0
        rate = connection.scalar(sa.select(sa.func.min(PACE.c.rate)))
    return Shared(server, took, now - time.time(), bodies, rate)
