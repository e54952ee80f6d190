"""Prices are looked up once for everybody, kept for a while, and nobody's trouble."""

from __future__ import annotations

import threading
from decimal import Decimal

from support.evaluators import make_client

from runflow_api.api.prices import AGAIN_AFTER_FAILURE_S, PRICES_LIVE_S, PriceList
from runflow_api.api.transport import Deadline
from runflow_api.sandbox.app import Fault, Sandbox

PATH = "/v1/evaluations/job-classes"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_price_is_looked_up_once_and_again_when_it_is_old(sandbox: Sandbox) -> None:
    clock = Clock()
    prices = PriceList(make_client(sandbox), clock=clock)
    assert [prices.price("standard") for _ in range(3)] == [Decimal("0.10")] * 3
    assert prices.price("no such class") is None
    assert len(sandbox.requests) == 1
    clock.now += PRICES_LIVE_S
    assert prices.all()["standard"] == Decimal("0.10")
    assert len(sandbox.requests) == 2


def test_an_outage_is_no_price_and_is_not_asked_for_again_at_once(sandbox: Sandbox) -> None:
    clock = Clock()
    prices = PriceList(make_client(sandbox), clock=clock)
    sandbox.add_fault(Fault("GET", PATH, "status", status=404))
    assert prices.price("standard") is None
    assert prices.all() == {}
    assert len(sandbox.requests) == 1
    clock.now += AGAIN_AFTER_FAILURE_S
    assert prices.price("standard") == Decimal("0.10")


def test_whoever_asks_while_it_is_looked_up_gets_the_same_answer(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("GET", PATH, "late", delay=0.3))
    prices, found = PriceList(make_client(sandbox)), list[Decimal | None]()
    asking = [threading.Thread(target=lambda: found.append(prices.price("standard"))) for _ in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert found == [Decimal("0.10")] * 4
    assert len(sandbox.requests) == 1


def test_an_absurd_price_is_not_known(sandbox: Sandbox) -> None:
    body = [{"code": "standard", "price": "NaN"}, {"code": "quick", "price": "-0.10"}, {"code": "slow", "price": 0.5}]
    sandbox.add_fault(Fault("GET", PATH, "garbage", body=body))
    assert PriceList(make_client(sandbox)).all() == {"slow": Decimal("0.5")}


def test_a_look_up_ends_with_its_deadline(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault("GET", PATH, "hang", times=None))
    assert PriceList(make_client(sandbox)).price("standard", Deadline.after(0.3)) is None
