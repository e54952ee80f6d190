"""``evaluate`` and ``submit``: many files, bounded memory, one bill for each.

Two passes. The first reads every file once to learn its pixels' hash and its prompt, so that the number of new
evaluations and their price are known, and the day's limits hold, before anything is sent. The second judges, each
file by itself, with as many under way as keep the requests going and the memory small.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import queue
import uuid
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import errors, image_files, images
from ..background import Workers
from ..evaluation.evaluator import CostEstimate, Evaluator, Job
from ..evaluation.failures import OWN_FIELDS, Scope, scope_of
from ..evaluation.question import ImageUrl, Options, Question
from ..evaluation.verdict import FAILED, OFF, RUNFLOW, UNKNOWN, Policy, Subject, Verdict, not_judged
from ..report import html as report
from . import insight, keeping, reading, results
from .exit_codes import CONFIGURATION, INTERRUPTED, JUDGED_FAILED, NOT_JUDGED, OK, USAGE, exit_code
from .pixel_budget import PixelBudget
from .sources import Item, find_items, options_of, question_of
from .terminal import Tally, Terminal, duration, plain, run_cancellable

IN_FLIGHT_PER_REQUEST = 3
"""Evaluations under way for each HTTP request that may be: most of its life an evaluation only waits."""
FROZEN_TOGETHER = 200
"""After so many verdicts the search for garbage leaves them out."""
PIXELS_IN_FLIGHT = 128_000_000
"""384 MB as RGB; an image that is larger is judged alone."""
OWN_OF_A_FILE = OWN_FIELDS | {"generation_prompt", "run_id"}
"""What each file has for itself: the prompt saved in it, and the run that an output is of."""
NEVER_PASSES = Policy()
"""For files that cannot be read, which no policy lets pass."""


def _new_token() -> str:
    return f"cli:{uuid.uuid4()}"


def _new_readers() -> Workers:
    return Workers(os.cpu_count() or 1)


@dataclass
class EvaluateRun:
    """What ``evaluate`` was asked to do, and how far it is."""

    evaluator: Evaluator
    terminal: Terminal
    items: list[Item]
    found: image_files.Found
    judge: Any
    policy: Policy
    wait: bool
    has_report: bool
    takes_saved: bool = False
    how: reading.HowToRead = field(default_factory=reading.HowToRead)
    token: str = field(default_factory=_new_token)
    ended: queue.SimpleQueue[Item] = field(default_factory=queue.SimpleQueue)
    stopped: errors.RunflowError | None = None
    animations: list[Path] = field(default_factory=list)
    readers: Workers = field(default_factory=_new_readers)

    @property
    def judged_by(self) -> str:
        return self.evaluator.resolve(self.judge)

    @property
    def pays(self) -> bool:
        return self.judged_by == RUNFLOW


# --- the command --------------------------------------------------------------------------------------


def run(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> int:
    """Judge, or only submit, the files that ``args`` name; the exit code."""
    work = _prepare(args, terminal, evaluator)
    try:
        _read_all(work, args.prompt is None)
        if work.pays:
            _take_known_reading(work, args)
        if work.pays and not _may_pay(work, args.yes):
            return USAGE
        _judge_all(work)
    except KeyboardInterrupt:
        _say_how_to_go_on(work)
        return INTERRUPTED
    finally:
        gc.unfreeze()
        kept = keeping.keep(work.items, args, terminal)
        saved = _save_report(work, args)
    code = _conclude(work)
    return code if saved and kept else CONFIGURATION


def _prepare(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> EvaluateRun:
    """Everything is checked before a file is opened."""
    how = reading.how_to_read(args)
    question, options = question_of(args, how.decoder), options_of(args)
    policy = Policy(args.min_score, args.if_not_judged)
    if not 0.0 <= policy.min_score <= 1.0:
        raise errors.InvalidInputError("--min-score", f"{policy.min_score:g} is not between 0 and 1.")
    question.check()
    options.check(evaluator.config)
    if args.judge == RUNFLOW or not args.wait:
        evaluator.config.require_key()
    items, found = find_items(args, evaluator, question, options)
    for item in items:
        item.decoder = how.decoder
    report.check_target(args.report, found.files)
    keeping.check(args)
    has_report, takes_saved = bool(args.report), args.take_saved
    return EvaluateRun(evaluator, terminal, items, found, args.judge, policy, args.wait, has_report, takes_saved, how)


# --- the first pass: what there is --------------------------------------------------------------------


def _read_all(work: EvaluateRun, prompts_from_files: bool) -> None:
    """Learn every file's hash and prompt; what cannot be read ends here, and the others go on."""
    read: list[Item] = []

    async def read_one(item: Item) -> None:
        await work.readers.run(reading.read, item, prompts_from_files)
        if item.error is not None and not _is_passed_over(work, item):
            _end(work, item, not_judged(item.error, NEVER_PASSES, Subject(), judge=work.judged_by))
        read.append(item)

    def show() -> None:
        work.terminal.progress("read", len(read), len(work.items))

    run_cancellable(_all(read_one(item) for item in work.items), show)
    passed_over = [item for item in work.items if _is_passed_over(work, item)]
    work.animations = [item.source for item in passed_over if isinstance(item.source, Path)]
    work.items = [item for item in work.items if not _is_passed_over(work, item)]
    _take_saved(work)
    _say_what_has_no_prompt(work)


def _take_saved(work: EvaluateRun) -> None:
    """The verdicts that files say of themselves: taken where the person wants that, otherwise said before it costs."""
    judged_by, is_loopback = work.judged_by, work.evaluator.config.is_loopback
    said_of = [
        (each, each.saved) for each in work.items if each.saved and reading.says_as_much(each, judged_by, is_loopback)
    ]
    known = [
        (item, saved)
        for item, saved in said_of
        if saved.answers(item.question, item.options, has_prompt=not item.no_prompt)
    ]
    if work.takes_saved:
        if len(known) < len(said_of):
            other = f"{len(said_of) - len(known)} of {len(work.items)} files say a verdict about something else"
            work.terminal.say(f"{other}: another prompt, or no such instructions. It is not taken for this question.")
        for item, saved in known:
            if work.has_report:
                _image(work, item)
            _end(work, item, saved.verdict(work.policy, item.question.generation_prompt))
    elif known and work.pays:
        said = f"{known[0][0].name}: {known[0][1].text}"
        work.terminal.say(
            f"{len(known)} of {len(work.items)} files say how they were judged ({said}). To take that, add --take-saved"
        )


def _is_passed_over(work: EvaluateRun, item: Item) -> bool:
    """An animation that nobody named: a folder of every night may have some."""
    return isinstance(item.error, image_files.AnimationError) and item.source in work.found.from_folders


def _say_what_has_no_prompt(work: EvaluateRun) -> None:
    """Said before anything is paid: without the prompt nobody can judge whether the image follows it."""
    if not work.pays:
        return
    reasons = Counter(item.no_prompt for item in work.items if item.no_prompt)
    for reason, count in reasons.most_common():
        work.terminal.say(f"No prompt for {count} of {len(work.items)} ({reason}). Give one with --prompt.")


def _take_known_reading(work: EvaluateRun, args: argparse.Namespace) -> None:
    """What was paid for under the other decoder is not paid again; and where that cannot be known, it is said."""
    items = [item for item in work.items if item.verdict is None and item.options.reuse]
    depending = [item for item in items if item.depends_on_decoder]
    if work.how.lacks_pyav and depending:
        work.terminal.say(
            f"{len(depending)} of {len(work.items)} files ({depending[0].name}, ...) are other pixels in this ComfyUI: "
            f"its Load Image reads them with PyAV, which is not installed here. {reading.PAID_FOR_AGAIN}"
        )
    if work.how.other is None or not items:
        return
    looked_up: list[Item] = []

    def show() -> None:
        work.terminal.progress("looked up", len(looked_up), len(items))

    question = question_of(args, work.how.other)
    run_cancellable(reading.take_known(items, work.evaluator, work.how.other, question, looked_up), show)


# --- the sum ------------------------------------------------------------------------------------------


def _may_pay(work: EvaluateRun, yes: bool) -> bool:
    """Say what will be paid and ask, unless that is nothing. Raises ``BudgetError`` if a limit forbids it."""
    readable = [(item.pixel_hash, item.question, item.options) for item in work.items if item.verdict is None]
    if not readable:
        return True
    estimate = _estimate(work, readable)
    work.terminal.say(_sum(estimate))
    if yes or not estimate.new:
        return True
    answer = work.terminal.confirms("Go on and pay?")
    if answer is None:
        work.terminal.say(
            "[NOT_CONFIRMED] Nothing was sent and nothing was paid. To pay without being asked, add --yes"
        )
    elif not answer:
        work.terminal.say("Nothing was sent and nothing was paid.")
    return bool(answer)


def _estimate(work: EvaluateRun, readable: list[tuple[str, Question, Options]]) -> CostEstimate:
    """What is new and what it costs. If all is known already, nobody is asked for anything."""
    limited = work.evaluator.config.max_credits_per_day is not None
    if limited:
        _check_key(work)
    estimate = run_cancellable(work.evaluator.estimate(readable, work.token))
    if limited or not estimate.new:
        return estimate
    _check_key(work)
    price = run_cancellable(work.evaluator.call_api(work.evaluator.prices.price, readable[0][2].job_class))
    return replace(estimate, price=price)


def _check_key(work: EvaluateRun) -> None:
    """A key that is not accepted is told once, instead of for every image."""
    try:
        run_cancellable(work.evaluator.call_api(work.evaluator.client.check_account))
    except errors.AuthenticationError:
        raise
    except errors.RunflowError:
        pass  # the account need not be readable to evaluate; an outage is waited out later


def _sum(estimate: CostEstimate) -> str:
    known = f"{estimate.known} known or under way already, paid once" if estimate.known else ""
    total = "the price is not known" if estimate.total is None else f"{plain(estimate.total)} credits"
    each = "" if estimate.price is None else f" at {plain(estimate.price)}"
    new = f"{estimate.new} new evaluations{each}: {total}" if estimate.new else "no new evaluations, nothing to pay"
    return " · ".join(part for part in (new, known) if part)


# --- the second pass: verdicts ------------------------------------------------------------------------


def _judge_all(work: EvaluateRun) -> None:
    tally = Tally(len(work.items))
    verb = "judged" if work.wait else "submitted"

    def show() -> None:
        while not work.ended.empty():
            item = work.ended.get()
            _count(tally, item)
            line = results.line_of(item, wait=work.wait, said_at_the_end=work.evaluator.bookkeeper.trouble)
            work.terminal.result(*line, record=results.record_of(item))
        work.terminal.progress(f"{verb}: {tally.counts}, {tally.spend}", tally.done, tally.total)

    try:
        run_cancellable(_judge_each(work), show)
        show()
    finally:
        work.terminal.close()
        while not work.ended.empty():  # they count even if nobody reads the results any more
            _count(tally, work.ended.get())
        _say_totals(work, tally)


def _count(tally: Tally, item: Item) -> None:
    assert item.verdict is not None
    tally.add(item.verdict)


async def _judge_each(work: EvaluateRun) -> None:
    slots = asyncio.Semaphore(IN_FLIGHT_PER_REQUEST * work.evaluator.config.concurrency)
    budget = PixelBudget(PIXELS_IN_FLIGHT)
    copies: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
    ended = itertools.count(1)

    async def judge(item: Item) -> None:
        # Copies of an image go one after the other: the first is paid, and the others reuse its verdict.
        one_at_a_time = copies[item.pixel_hash, item.question.generation_prompt]
        async with one_at_a_time, slots, budget.for_pixels(item.pixels):
            if work.stopped is None:
                _end(work, item, await _verdict(work, item))
                if next(ended) % FROZEN_TOGETHER == 0:
                    _freeze()

    await _all(judge(item) for item in work.items if item.verdict is None)


async def _verdict(work: EvaluateRun, item: Item) -> Verdict:
    """The file's verdict. Whatever would meet the next one too keeps that from being started."""
    policy = replace(work.policy, if_not_judged="fail") if work.policy.if_not_judged == "stop" else work.policy
    subject = Subject(item.question.generation_prompt, item.pixel_hash)
    try:
        image = await work.readers.run(_image, work, item)
        job = Job([image], item.question, work.judge, policy, item.options, work.token, work.wait)
        job = replace(job, image_settings=item.image_settings)
        verdict = (await work.evaluator.evaluate(job))[0]
    except errors.RunflowError as error:
        is_refused = isinstance(error, errors.ApiError) and scope_of(error, OWN_OF_A_FILE) is Scope.ONE_IMAGE
        verdict = not_judged(error, policy if is_refused else NEVER_PASSES, subject, judge=work.judged_by)
    if _stops_all(work, verdict.error):
        work.stopped = work.stopped or verdict.error
    return verdict


def _stops_all(work: EvaluateRun, error: errors.RunflowError | None) -> bool:
    """Whether the next image would meet the same, so that it is not worth starting."""
    if error is None or isinstance(error, errors.InvalidInputError):
        return False
    scope = scope_of(error, OWN_OF_A_FILE)
    return scope is Scope.EVERY_IMAGE or (scope is Scope.FOR_NOW and work.policy.if_not_judged == "stop")


def _image(work: EvaluateRun, item: Item) -> image_files.Pixels | ImageUrl:
    if isinstance(item.source, ImageUrl):
        return item.source
    pixels = image_files.read(item.source, decoder=item.decoder).pixels
    if work.has_report:
        item.thumbnail = report.thumbnail(images.to_pil(pixels), report.thumbnail_side(len(work.items)))
    return pixels


def _freeze() -> None:
    """Leave what is there out of the next search for garbage: one among the verdicts of many thousands of files stops
    everything for a third of a second, also the thread that has the journal's lock."""
    gc.collect()
    gc.freeze()


def _end(work: EvaluateRun, item: Item, verdict: Verdict) -> None:
    item.verdict = verdict
    work.ended.put(item)


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Await all; if one raises or this is cancelled, the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    _freeze()
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


# --- the end ------------------------------------------------------------------------------------------


def _say_totals(work: EvaluateRun, tally: Tally) -> None:
    left = len(work.items) - tally.done
    if work.wait:
        parts = [f"{tally.done} of {tally.total} done", tally.counts]
        parts += [tally.spend] if work.pays else []
    else:
        sent = sum(results.is_submitted(item.verdict) for item in work.items)
        parts = [f"{sent} of {tally.total} submitted", "read them with get or evaluate"]
    parts += [f"{left} not started"] if left and work.stopped else []
    work.terminal.say(" · ".join([*parts, duration(tally.seconds)]))
    for line in (image_files.passed_over(work.found, work.animations), work.evaluator.bookkeeper.trouble):
        if line:
            work.terminal.say(line)


def _say_how_to_go_on(work: EvaluateRun) -> None:
    waiting = sum(item.verdict is None for item in work.items)
    work.terminal.say(
        f"Interrupted. {len(work.items) - waiting} of {len(work.items)} have their verdict. What was submitted goes on "
        "at Runflow and is paid for once.\nTo go on, run the same command again: finished verdicts are reused, "
        "evaluations under way are picked up, and nothing is paid for twice."
    )


def _conclude(work: EvaluateRun) -> int:
    """The exit code of all: what could not be judged outranks what failed."""
    if work.stopped is not None:
        work.terminal.say(f"Stopped: {work.stopped}\nRun the same command again to go on; nothing is paid twice.")
        return exit_code(work.stopped)
    verdicts = [item.verdict for item in work.items if item.verdict is not None]
    if any(_is_wrong(verdict.error) for verdict in verdicts):
        return NOT_JUDGED
    unknown = [v for v in verdicts if v.outcome == UNKNOWN and v.judge != OFF and (work.wait or v.error)]
    if unknown and work.policy.if_not_judged == "stop":
        needs_key = any(isinstance(verdict.error, errors.NeedsKeyError) for verdict in unknown)
        return CONFIGURATION if needs_key else NOT_JUDGED
    if not work.wait:
        return JUDGED_FAILED if any(verdict.outcome == FAILED for verdict in verdicts) else OK
    return OK if all(verdict.passed for verdict in verdicts) else JUDGED_FAILED


def _is_wrong(error: errors.RunflowError | None) -> bool:
    """Whether no policy decides about it: a file that is not an image, or what is wrong with every image."""
    return error is not None and (
        isinstance(error, errors.InvalidInputError) or scope_of(error, OWN_OF_A_FILE) is Scope.EVERY_IMAGE
    )


def _save_report(work: EvaluateRun, args: argparse.Namespace) -> bool:
    """Whether the report is saved, or none is wanted."""
    if not args.report or not any(item.verdict for item in work.items):
        return True
    try:
        count = results.write_report(work.items, args, insight.section_of_report(work.evaluator, args.language))
    except results.ReportNotSavedError as error:
        work.terminal.say(str(error))
        return False
    work.terminal.say(f"Report of {count} images: {args.report}")
    return True
