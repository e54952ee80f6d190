"""What an evaluation costs: one look-up, kept for a while, for whoever asks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from decimal import Decimal

from ..errors import RunflowError
from .client import RunflowClient
from .transport import Deadline

PRICES_LIVE_S = 600.0
AGAIN_AFTER_FAILURE_S = 30.0

log = logging.getLogger("runflow_evaluate")


class PriceList:
    """The prices of one client's account. Safe to use from several threads; calls block while one looks them up.

    ``clock`` counts seconds and never goes back.
    """

    def __init__(self, client: RunflowClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._looking_up = threading.Lock()
        self._prices: dict[str, Decimal] = {}
        self._fresh_until = float("-inf")

    def price(self, job_class: str, deadline: Deadline | None = None) -> Decimal | None:
        """The price of one evaluation of this class in credits; ``None`` if it is not known."""
        return self.all(deadline).get(job_class)

    def all(self, deadline: Deadline | None = None) -> dict[str, Decimal]:
        """The known prices in credits by job class; empty if they cannot be read. Raises nothing for that.

        ``deadline`` bounds the look-up, also the wait for one that is under way.
        """
        within = min(deadline.remaining, threading.TIMEOUT_MAX) if deadline else threading.TIMEOUT_MAX
        if not self._looking_up.acquire(timeout=max(within, 0.0)):
            return {}
        try:
            if self._clock() >= self._fresh_until:
                self._look_up(deadline)
            return dict(self._prices)
        finally:
            self._looking_up.release()

    def _look_up(self, deadline: Deadline | None) -> None:
        try:
            classes = self._client.job_classes(deadline=deadline)
        except RunflowError as error:
            log.warning("The prices could not be read: %s", error)
            self._prices, lives = {}, AGAIN_AFTER_FAILURE_S
        else:
            self._prices = {each.code: each.price for each in classes if each.code and each.price is not None}
            lives = PRICES_LIVE_S
        self._fresh_until = self._clock() + lives
