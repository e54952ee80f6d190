from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
from support.waiting import wait_until

from runflow_api import background
from runflow_api.evaluation import polling

ROOT = Path(__file__).resolve().parents[2]


def test_calls_run_at_once_up_to_the_number_of_slots() -> None:
    workers, together, most = background.Workers(3), [0], [0]
    lock = threading.Lock()

    def call() -> None:
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        time.sleep(0.05)
        with lock:
            together[0] -= 1

    async def all_of_them() -> None:
        await asyncio.gather(*(workers.run(call) for _ in range(12)))

    background.start(all_of_them()).result(timeout=60)
    assert most[0] == 3


def test_a_hung_call_that_is_cancelled_gives_its_slot_back_at_once() -> None:
    workers, release = background.Workers(1), threading.Event()

    async def hang() -> None:
        await workers.run(release.wait)

    hung = background.start(hang())
    time.sleep(0.05)
    hung.cancel()
    with pytest.raises(CancelledError):
        hung.result(timeout=1)

    async def another() -> int:
        return await workers.run(lambda: 7)

    assert background.start(another()).result(timeout=60) == 7
    release.set()


def test_threads_that_start_at_once_share_one_loop() -> None:
    code = (
        "import threading; from runflow_api import background; found = set(); start = threading.Barrier(16)\n"
        "def look(): start.wait(); found.add(id(background.loop()))\n"
        "threads = [threading.Thread(target=look) for _ in range(16)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]; print(len(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "1", done.stderr


def test_errors_reach_whoever_waits() -> None:
    with pytest.raises(ZeroDivisionError):
        background.call(lambda: 1 // 0).result(timeout=60)


def test_calls_that_follow_each_other_use_one_thread_which_ends_when_no_more_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "IDLE_S", 0.5)
    used: set[int] = set()
    for _ in range(100):
        used.add(background.call(threading.get_ident).result(timeout=60))
        wait_until(lambda: not background.is_busy())
    assert len(used) < 10  # one, if this thread never had to wait for half a second between two calls
    wait_until(lambda: not used & {thread.ident for thread in threading.enumerate()})
    assert background.call(lambda: 7).result(timeout=60) == 7


def test_a_thread_that_hangs_is_given_nothing_else_to_do() -> None:
    release = threading.Event()
    hung = background.call(release.wait)
    assert [background.call(lambda n=n: n).result(timeout=60) for n in range(20)] == list(range(20))
    assert background.is_busy()
    release.set()
    hung.result(timeout=60)
    wait_until(lambda: not background.is_busy())


def test_calls_from_everywhere_at_the_moment_idle_threads_end_are_all_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "IDLE_S", 0.0001)
    done: list[int] = []

    def call_many() -> None:
        for _ in range(500):
            done.append(background.call(lambda: 1).result(timeout=60))

    threads = [threading.Thread(target=call_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == 2000


def test_an_idle_thread_keeps_no_image() -> None:
    image = np.zeros((8, 8, 3), np.float32)
    alive = weakref.ref(image)
    assert background.call(np.sum, image).result(timeout=60) == 0
    del image
    wait_until(lambda: alive() is None)


@pytest.mark.slow
def test_a_process_ends_although_a_call_hangs() -> None:
    code = (
        "import threading; from runflow_api import background; "
        "background.call(threading.Event().wait); print('done', flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "done")


def reads_until(duration: float) -> list[float]:
    """When an evaluation of ``duration`` seconds is looked at, until it is seen to be ready."""
    moments = [polling.next_delay(0.0)]
    while moments[-1] < duration:
        moments.append(moments[-1] + polling.next_delay(moments[-1]))
    return moments


@pytest.mark.parametrize("duration", [1.5, 3.0, 7.0, 15.0])
def test_a_ready_verdict_is_seen_within_a_second(duration: float) -> None:
    assert reads_until(duration)[-1] - duration <= 1.0
    assert len(reads_until(duration)) <= 20


def test_the_lag_stays_a_small_share_of_a_long_evaluation() -> None:
    for duration in (30.0, 60.0, 120.0, 240.0):
        assert reads_until(duration)[-1] - duration <= 0.061 * duration


def test_clocks_that_run_backwards_make_no_negative_delay() -> None:
    assert polling.next_delay(-100.0) > 0
