"""One rate for all machines: found without being told, kept with few refusals."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

import pytest

from runflow_api.journal.pace import AHEAD_S, FIRST_RATE, Pace

PROCESSES, LIMIT, BURST = 8, 10.0, 10.0
MINUTES = 10
LATENCY_S = (0.05, 0.4)


@dataclass
class Server:
    """So many requests a second, with a bucket for one second's worth."""

    limit: float = LIMIT
    tokens: float = BURST
    at: float = 0.0

    def takes(self, now: float) -> bool:
        self.tokens = min(BURST, self.tokens + (now - self.at) * self.limit)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def live(server: Server, most: float | None, seconds: float) -> list[tuple[float, bool]]:
    """When requests arrived and whether they were taken, of processes that always have something to ask."""
    chance = random.Random(7)
    pace, known_at, arrived = Pace(), [0.0] * PROCESSES, []
    events = [(chance.random(), process, "ask", True) for process in range(PROCESSES) for _ in range(8)]
    heapq.heapify(events)
    while events:
        now, process, what, taken = heapq.heappop(events)
        if now > seconds:
            break
        if what == "answer":
            if not taken:
                pace = pace.after_refusal(now, 0.5, most)
            heapq.heappush(events, (now, process, "ask", True))
            continue
        if what == "ask":
            pace = pace.raised(now, most)
            if pace.rate is None and now < pace.paused_until and now - known_at[process] > 1:
                known_at[process] = now  # looked up once a second
                heapq.heappush(events, (pace.paused_until, process, "ask", True))
                continue
            if pace.rate is not None:
                early = max(pace.next_at, pace.paused_until) - now - AHEAD_S
                if early > 0:
                    heapq.heappush(events, (now + early + 0.01 * chance.random(), process, "ask", True))
                    continue
                pace, at = pace.leased(now, 1)
                heapq.heappush(events, (at, process, "send", True))
                continue
        jitter = chance.uniform(0, 0.05)
        is_taken = server.takes(now + jitter) if now + jitter >= server.at else server.takes(server.at)
        arrived.append((now, is_taken))
        heapq.heappush(events, (now + jitter + chance.uniform(*LATENCY_S), process, "answer", is_taken))
    return arrived


@pytest.mark.parametrize("most", [None, LIMIT, 100.0])
def test_processes_find_the_servers_limit_and_stay_at_it(most: float | None) -> None:
    later = [taken for at, taken in live(Server(), most, 60 * MINUTES) if at > 60]
    assert later.count(False) <= 0.01 * len(later)
    assert later.count(True) >= 0.85 * LIMIT * 60 * (MINUTES - 1)


def test_a_limit_that_is_raised_is_found() -> None:
    server = Server()
    live(server, None, 60)
    server.limit = 5 * LIMIT
    later = live(Server(5 * LIMIT), None, 60 * MINUTES)
    assert sum(taken for at, taken in later if at > 60 * (MINUTES - 1)) >= 0.7 * 5 * LIMIT * 60


def test_the_first_refusal_sets_a_rate_and_one_burst_lowers_it_once() -> None:
    pace = Pace().after_refusal(100.0, 1.0, None)
    assert (pace.rate, pace.paused_until) == (FIRST_RATE, 101.0)
    assert pace.after_refusal(100.5, 2.0, None) == Pace(FIRST_RATE, None, 0.0, 102.5, 101.0), "sent before the pause"
    again = pace.after_refusal(104.0, 1.0, None)
    assert again.rate is not None and again.rate < FIRST_RATE


def test_a_rate_of_the_persons_own_is_never_passed() -> None:
    pace = Pace().raised(100.0, 3.0)
    for minute in range(60):
        pace = pace.raised(100.0 + 60 * minute, 3.0)
        assert pace.rate is not None and pace.rate <= 3.0


@pytest.mark.parametrize("jump", [-3 * 3600.0, 3 * 3600.0])
def test_a_clock_that_is_set_back_or_ahead_makes_nobody_wait_and_keeps_the_rate(jump: float) -> None:
    now = 1_000_000.0
    paused, _ = Pace().after_refusal(now, 30.0, None).leased(now, 1)
    assert paused.by_clock(now) == paused  # it is the pause that Runflow asked for
    later = paused.by_clock(now + jump)
    assert max(later.next_at, later.paused_until) <= now + jump
    assert later.rate == FIRST_RATE
    assert later.raised(now + jump + 60, None).rate == pytest.approx(1.05 * FIRST_RATE)
