"""The pause after a 429 and the rate of requests, kept with all machines that share the journal."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from ..api.transport import Deadline, RateLimiter
from ..errors import Cancelled
from ..journal.journal import Journal, JournalError
from ..journal.pace import Lease

LOOK_EVERY_S = 1.0
"""While nobody was refused, so often it is looked whether somebody was."""
TURN_S = 0.1
WINDOW_S = 10.0

log = logging.getLogger("runflow_evaluate")


class FleetLimiter(RateLimiter):
    """One limiter for the threads of this process, which keeps the pace of the fleet.

    While the journal cannot be used it keeps the pause of this process only: waiting for a verdict goes on.
    """

    def __init__(self, journal: Callable[[], Journal], who: str, most: float | None) -> None:
        super().__init__()
        self._journal = journal
        self._who = who
        self._most = most
        self._turn = threading.Lock()
        self._places: deque[float] = deque()
        self._rate: float | None = None
        self._looked_at = float("-inf")
        self._sent: deque[float] = deque()

    def pause(self, seconds: float) -> None:
        super().pause(seconds)
        try:
            self._journal().pace(self._who, self._most).record_refusal(seconds)
            self._looked_at = float("-inf")
        except JournalError as error:
            log.info("The other machines are not told of a pause: %s", error)

    def wait(self, deadline: Deadline) -> None:
        """Return when this request may be sent, or the deadline is reached. Raises ``Cancelled``."""
        super().wait(deadline)
        while deadline.remaining > 0:
            if deadline.cancelled.is_set():
                raise Cancelled
            if self._turn.acquire(timeout=TURN_S):
                try:
                    at = self._place(deadline)
                finally:
                    self._turn.release()
                if at is not None:
                    deadline.wait(at - time.monotonic())
                    break
        self._note_sent()
        super().wait(deadline)

    @property
    def share(self) -> float | None:
        """How many requests per second this process gets of the fleet's rate; ``None`` if there is no rate."""
        if self._rate is None:
            return None
        recent = sum(at > time.monotonic() - WINDOW_S for at in list(self._sent))
        return max(recent / WINDOW_S, 1 / WINDOW_S)

    def _note_sent(self) -> None:
        now = time.monotonic()
        self._sent.append(now)
        while self._sent and self._sent[0] < now - WINDOW_S:
            self._sent.popleft()

    def _place(self, deadline: Deadline) -> float | None:
        """When this request may be sent; ``None`` to ask again. One thread at a time."""
        if not self._places:
            lease = self._lease()
            now = time.monotonic()
            self._places.extend(now + lease.in_s + number * lease.apart_s for number in range(lease.count))
            if not self._places:
                if lease.rate is None and lease.in_s <= 0:
                    return now
                deadline.wait(min(lease.in_s, LOOK_EVERY_S))
                return None if lease.in_s > 0 else now
        return self._places.popleft()

    def _lease(self) -> Lease:
        try:
            pace = self._journal().pace(self._who, self._most)
            if self._rate is None:
                if time.monotonic() - self._looked_at < LOOK_EVERY_S:
                    return Lease(0)
                self._looked_at = time.monotonic()
                found = pace.peek()
                self._rate = found.rate
                if found.rate is None:
                    return found
            lease = pace.lease()
            self._rate = lease.rate
            return lease
        except JournalError as error:
            log.info("The pace of the other machines is not known: %s", error)
            return Lease(0) if self._rate is None else Lease(1, 1 / (self.share or self._rate), rate=self._rate)
