"""How long a ready verdict lies at the server: our schedule, learned and not, against fixed intervals."""

from __future__ import annotations

import random
import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime

import api
import pictures
from measure import said, table

from runflow_api.evaluation import polling

Delay = Callable[[float], float]
Durations = Callable[[random.Random], float]

LEARNED_FROM = 50
TRIALS = 4000
SPREADS = (0.05, 0.2, 0.5)
"""Standard deviation of the logarithm: 0.2 is a spread of some ± 20 %."""
MEDIANS_S = (4, 8, 15, 30, 60, 120)
REAL_LATENCIES_S = (3.3, 5.7, 8.1, 11.6, 16.4)
REAL_REPEATS = 5
SCHEDULES: dict[str, Callable[..., float] | None] = {
    "fixed 5 s": lambda *_: 5.0,
    "fixed 1 s": lambda *_: 1.0,
    "ours, first use": None,
    "ours, learned": None,
}


def run(_: Namespace) -> str:
    return "\n\n".join([_simulated(), _bands(), _counted(), _real()])


def fixed(interval: float) -> Delay:
    return lambda _: interval


def ours(past: list[float]) -> Delay:
    expected = polling.window(past)
    return lambda elapsed: polling.next_delay(elapsed, expected)


def reads_until(ready: float, delay: Delay) -> tuple[float, int]:
    """(lag in seconds, reads) for a verdict that is ready at ``ready``."""
    moment, reads = delay(0.0), 1
    while moment < ready:
        moment, reads = moment + delay(moment), reads + 1
    return moment - ready, reads


# --- simulated ------------------------------------------------------------------------------------


def _simulated() -> str:
    rows = []
    for median in MEDIANS_S:
        for spread in SPREADS:
            rows.append([f"{median} s, spread {spread:.0%}", *_schedules(_lognormal(median, spread))])
    rows.append(["was 60 s, is now 5 s", *_schedules(lambda _: 60.0, lambda rng: rng.uniform(4, 6))])
    rows.append(["was 5 s, is now 60 s", *_schedules(lambda _: 5.0, lambda rng: rng.uniform(50, 70))])
    head = ["durations (simulated)", "fixed 5 s", "fixed 1 s", "ours, first use", "ours, learned"]
    text = f"Mean lag in seconds · mean number of reads, {TRIALS} durations each, learned from {LEARNED_FROM} others."
    return f"{text}\n\n{table(head, rows)}"


def _lognormal(median: float, spread: float) -> Durations:
    return lambda rng: median * rng.lognormvariate(0, spread)


def _schedules(past: Durations, now: Durations | None = None) -> list[str]:
    rng = random.Random(0)
    known = [past(rng) for _ in range(LEARNED_FROM)]
    durations = [(now or past)(rng) for _ in range(TRIALS)]
    shown = []
    for delay in (fixed(5), fixed(1), ours([]), ours(known)):
        found = [reads_until(duration, delay) for duration in durations]
        lag, reads = (statistics.mean(values) for values in zip(*found, strict=True))
        shown.append(f"{lag:.2f} · {reads:.1f}")
    return shown


def _bands() -> str:
    """The goals' two bands, over all medians and spreads above together."""
    rng, within, above = random.Random(1), [], []
    for median in MEDIANS_S:
        for spread in SPREADS:
            draw = _lognormal(median, spread)
            delay = ours([draw(rng) for _ in range(LEARNED_FROM)])
            for duration in (draw(rng) for _ in range(TRIALS)):
                lag = reads_until(duration, delay)[0]
                if 3 <= duration <= 15:
                    within.append(lag)
                elif duration > 15:
                    above.append(lag / duration)
    lag, share = statistics.mean(within), statistics.mean(above)
    cold = [reads_until(3 + 12 * n / TRIALS, ours([]))[0] for n in range(TRIALS)]
    cold_share = [reads_until(d, ours([]))[0] / d for d in (15 + 225 * n / TRIALS for n in range(TRIALS))]
    rows = [
        ["mean lag, 3 to 15 s", "≤ 0.5 s", f"{lag:.2f} s", f"{statistics.mean(cold):.2f} s", said(lag <= 0.5)],
        ["mean lag above 15 s", "≤ 3 %", f"{share:.1%}", f"{statistics.mean(cold_share):.1%}", said(share <= 0.03)],
    ]
    return table(["all of the above together", "goal", "learned", "first use", ""], rows)


def _counted() -> str:
    rows = []
    for duration, most in ((15.0, 20), (60.0, 30)):
        rng = random.Random(2)
        past = [_lognormal(duration, 0.2)(rng) for _ in range(LEARNED_FROM)]
        learned, first = reads_until(duration, ours(past))[1], reads_until(duration, ours([]))[1]
        rows.append([f"reads for {duration:.0f} s", f"≤ {most}", learned, first, said(learned <= most)])
    why = (
        "First use is an evaluation before five durations of its class are known. It cannot reach 30 reads for 60 s: a "
        "mean lag of 3 % between 15 and 60 s alone takes ln(60 / 15) / ln(1.06) = 24 reads, and 0.5 s before that 12."
    )
    return f"{table(['learned from a spread of 20 %', 'goal', 'learned', 'first use', ''], rows)}\n\n{why}"


# --- real -----------------------------------------------------------------------------------------


def _real() -> str:
    """Real evaluations against sandboxes, all at once: they only wait."""
    cases = [(latency, name) for latency in REAL_LATENCIES_S for name in SCHEDULES for _ in range(REAL_REPEATS)]
    with ExitStack() as stack, ThreadPoolExecutor(len(cases)) as pool:
        apis = {latency: stack.enter_context(api.running(latency)) for latency in REAL_LATENCIES_S}
        lags = list(pool.map(lambda case: _real_lag(apis[case[0]], *case), cases))
    rows = []
    for latency in REAL_LATENCIES_S:
        mine = [[lag for case, lag in zip(cases, lags, strict=True) if case == (latency, name)] for name in SCHEDULES]
        rows.append([f"{latency:g} s", *(f"{statistics.median(each):.2f}" for each in mine)])
    text = f"Real runs: seconds from ready at the sandbox to the whole verdict in hand, medians of {REAL_REPEATS}."
    return f"{text}\n\n{table(['evaluation takes', *SCHEDULES], rows)}"


def _real_lag(sandbox: api.Api, latency: float, name: str) -> float:
    schedule = SCHEDULES[name]
    with api.evaluator(sandbox, **({"next_delay": schedule} if schedule else {})) as evaluator:
        if name == "ours, learned":
            rng = random.Random(latency)
            api.learn(evaluator, [_lognormal(latency, 0.2)(rng) for _ in range(LEARNED_FROM)])
        verdict = api.judge(evaluator, [pictures.squares(pictures.found([], []), 256, 1)[0].pixels], name)
        ready = datetime.fromisoformat(str(verdict[0].evaluation.completed_at).replace("Z", "+00:00"))
        return time.time() - ready.timestamp()
