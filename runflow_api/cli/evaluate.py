"""``evaluate`` and ``submit``: many files, bounded memory, one bill for each.

Two passes. The first reads every file once to learn its pixels' hash and its prompt, so that the number of new
evaluations and their price are known, and the day's limits hold, before anything is sent. The second judges, each
file by itself, with as many under way as keep the requests going and the memory small.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import queue
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from PIL import Image

from .. import errors, images
from ..background import Workers
from ..evaluation import lookup
from ..evaluation.evaluator import CostEstimate, Evaluator, Job
from ..evaluation.failures import OWN_FIELDS, Scope, scope_of
from ..evaluation.question import ImageUrl, Options, Question, Reference, check_image_url
from ..evaluation.verdict import FAILED, LOCAL, OFF, RUNFLOW, UNKNOWN, Policy, Subject, Verdict, not_judged
from ..report import html as report
from . import image_files
from .exit_codes import CONFIGURATION, INTERRUPTED, JUDGED_FAILED, NOT_JUDGED, OK, USAGE, exit_code
from .terminal import COLOURS, DIM, Tally, Terminal, duration, plain, run_cancellable

IN_FLIGHT_PER_REQUEST = 3
"""Evaluations under way for each HTTP request that may be: most of its life an evaluation only waits."""
PIXELS_IN_FLIGHT = 128_000_000
"""384 MB as RGB; an image that is larger is judged alone."""
OWN_OF_A_FILE = OWN_FIELDS | {"generation_prompt", "run_id"}
"""What each file has for itself: the prompt saved in it, and the run that an output is of."""
NEVER_PASSES = Policy()
"""For invalid input, which no policy lets pass."""
_KIND = re.compile(r"([A-Za-z_][A-Za-z0-9_ -]*)=(.+)", re.DOTALL)


@dataclass
class Item:
    """One image on its way to a verdict: a file, or an address that is passed on."""

    source: Path | ImageUrl
    name: str
    question: Question
    options: Options
    pixel_hash: str = ""
    pixels: int = 0
    size: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()
    no_prompt: str = ""
    error: errors.RunflowError | None = None
    verdict: Verdict | None = None
    thumbnail: bytes = b""


@dataclass
class EvaluateRun:
    """What ``evaluate`` was asked to do, and how far it is."""

    evaluator: Evaluator
    terminal: Terminal
    items: list[Item]
    judge: Any
    policy: Policy
    wait: bool
    keep_thumbnails: bool
    token: str = field(default_factory=lambda: f"cli:{uuid.uuid4()}")
    ended: queue.SimpleQueue[Item] = field(default_factory=queue.SimpleQueue)
    stopped: errors.RunflowError | None = None
    readers: Workers = field(default_factory=lambda: Workers(os.cpu_count() or 1))

    @property
    def judged_by(self) -> str:
        return self.evaluator.resolve(self.judge)

    @property
    def pays(self) -> bool:
        return self.judged_by == RUNFLOW


# --- the command --------------------------------------------------------------------------------------


def run(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> int:
    """Judge, or only submit, the files that ``args`` name; the exit code."""
    work = _work(args, terminal, evaluator)
    try:
        _read_all(work, args.prompt is None)
        if work.pays and not _may_pay(work, args.yes):
            return USAGE
        _judge_all(work)
    except KeyboardInterrupt:
        _say_how_to_go_on(work)
        return INTERRUPTED
    finally:
        if args.report and any(item.verdict for item in work.items):
            _write_report(work, args)
    return _conclusion(work)


def _work(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> EvaluateRun:
    """Everything is checked before a file is opened."""
    question = Question(
        generation_prompt=args.prompt or "",
        evaluation_instructions=args.instructions,
        task_type=args.task_type,
        task_description=args.task_description,
        references=_references(args),
    )
    options = Options(
        input_attributes=args.input_attributes,
        run_id=args.run_id,
        client_ref=args.client_ref,
        job_class=args.job_class,
        callback_url=args.callback_url,
        timeout_s=args.timeout,
        reuse=not args.no_reuse,
        upload=args.upload,
        preflight=args.preflight,
    )
    policy = Policy(args.min_score, args.if_not_judged)
    if not 0.0 <= policy.min_score <= 1.0:
        raise errors.InvalidInputError("--min-score", f"{policy.min_score:g} is not between 0 and 1.")
    question.check()
    options.check(evaluator.config)
    if args.judge == RUNFLOW or not args.wait:
        evaluator.config.require_key()
    report.check_target(args.report)
    sources = _sources(args, evaluator, options)
    items = [Item(source, name, question, each) for source, name, each in sources]
    return EvaluateRun(evaluator, terminal, items, args.judge, policy, args.wait, bool(args.report))


Source = tuple[Path | ImageUrl, str, Options]


def _sources(args: argparse.Namespace, evaluator: Evaluator, options: Options) -> list[Source]:
    """What is to be judged, in the order given: files, then addresses, then outputs of runs."""
    addresses = [given for given in args.files if "://" in given]
    paths = [given for given in args.files if "://" not in given]
    found: list[Source] = [(path, str(path), options) for path in image_files.find(paths, recursive=args.recursive)]
    for address in dict.fromkeys(addresses):
        check_image_url("FILE", address)
        found.append((ImageUrl(address), address, options))
    for run_id in dict.fromkeys(args.run_output):
        of_run = replace(options, run_id=options.run_id or run_id)
        found += [(each, each.identity, of_run) for each in _outputs(evaluator, run_id)]
    if not found:
        raise errors.InvalidInputError("FILE", "nothing is given to judge: name files, folders, or --run-output.")
    return found


def _outputs(evaluator: Evaluator, run_id: str) -> list[ImageUrl]:
    """The images that a run made. Their addresses change at every look, so they are known by run and place."""
    run = run_cancellable(lookup.run(evaluator, run_id, wait=False))
    found = [
        ImageUrl(url, f"run {run_id}{place}")
        for place, url in lookup.media(run.output)
        if image_files.is_image_url(url)
    ]
    if not found:
        raise errors.InvalidInputError("--run-output", f"run {run_id} is {run.status_code} and has no image to judge.")
    return found


def _references(args: argparse.Namespace) -> tuple[Reference, ...]:
    descriptions = [*args.reference_description, *[""] * len(args.reference)]
    if len(args.reference_description) > len(args.reference):
        raise errors.InvalidInputError("--reference-description", "there are more descriptions than references.")
    return tuple(_reference(*pair) for pair in zip(args.reference, descriptions, strict=False))


def _reference(given: str, description: str) -> Reference:
    """``[KIND=]FILE``, or an address in place of the file, which is passed on and never fetched."""
    named = _KIND.fullmatch(given) if not Path(given).is_file() else None
    kind, source = (named[1], named[2]) if named else ("identity", given)
    if "://" in source or source.startswith("data:"):
        check_image_url("--reference", source)
        return Reference(url=source, kind=kind, description=description)
    return Reference(image_files.read(Path(source)).pixels, kind=kind, description=description)


# --- the first pass: what there is --------------------------------------------------------------------


def _read_all(work: EvaluateRun, prompts_from_files: bool) -> None:
    """Learn every file's hash and prompt; what cannot be read ends here, and the others go on."""
    read: list[Item] = []

    async def one(item: Item) -> None:
        await work.readers.run(lambda: _look_at(item, prompts_from_files))
        if item.error is not None:
            _end(work, item, not_judged(item.error, NEVER_PASSES, Subject(), judge=work.judged_by))
        read.append(item)

    def show() -> None:
        work.terminal.bar(f"reading {len(read)}/{len(work.items)}")

    run_cancellable(_all(one(item) for item in work.items), show)
    _say_what_has_no_prompt(work)


def _say_what_has_no_prompt(work: EvaluateRun) -> None:
    """Said before anything is paid: without the prompt nobody can judge whether the image follows it."""
    if not work.pays:
        return
    reasons = Counter(item.no_prompt for item in work.items if item.no_prompt)
    for reason, count in reasons.most_common():
        work.terminal.say(f"No prompt for {count} of {len(work.items)} ({reason}). Give one with --prompt.")


def _look_at(item: Item, take_prompt: bool) -> None:
    if isinstance(item.source, ImageUrl):
        item.pixel_hash = item.source.hash
        item.no_prompt = "an address is not fetched" if take_prompt else ""
        return
    try:
        picture = image_files.read(item.source)
    except errors.InvalidInputError as error:
        item.error = error
        return
    item.pixel_hash = images.pixel_hash(picture.pixels)
    item.pixels, item.size = picture.pixels.size // picture.pixels.shape[2], picture.pixels.shape[1::-1]
    item.notes = picture.notes
    if take_prompt and picture.prompt:
        item.question = replace(item.question, generation_prompt=picture.prompt)
    elif take_prompt:
        item.no_prompt = picture.no_prompt


# --- the sum ------------------------------------------------------------------------------------------


def _may_pay(work: EvaluateRun, yes: bool) -> bool:
    """Say what will be paid and ask, unless that is nothing. Raises ``BudgetError`` where a limit forbids it."""
    readable = [(item.pixel_hash, item.question, item.options) for item in work.items if item.error is None]
    if not readable:
        return True
    quote = _quote(work, readable)
    work.terminal.say(_sum(quote))
    if yes or not quote.new:
        return True
    answer = work.terminal.confirms("Go on and pay?")
    if answer is None:
        work.terminal.say("[NOT_CONFIRMED] Nothing was sent and nothing was paid. To pay without being asked: --yes")
    elif not answer:
        work.terminal.say("Nothing was sent and nothing was paid.")
    return bool(answer)


def _quote(work: EvaluateRun, readable: list[tuple[str, Question, Options]]) -> CostEstimate:
    """What is new and what it costs. Where all is known already, nobody is asked for anything."""
    limited = work.evaluator.config.max_credits_per_day is not None
    if limited:
        _check_key(work)
    quote = run_cancellable(work.evaluator.estimate(readable, work.token))
    if limited or not quote.new:
        return quote
    _check_key(work)
    return replace(quote, price=_price(work, readable[0][2].job_class))


def _price(work: EvaluateRun, job_class: str) -> Decimal | None:
    return run_cancellable(work.evaluator.call_api(work.evaluator.prices.price, job_class))


def _check_key(work: EvaluateRun) -> None:
    """A key that is not accepted is told once, instead of for every image."""
    try:
        run_cancellable(work.evaluator.call_api(work.evaluator.client.check_account))
    except errors.AuthenticationError:
        raise
    except errors.RunflowError:
        pass  # the account need not be readable to evaluate; an outage is waited out later


def _sum(quote: CostEstimate) -> str:
    known = f"{quote.known} known or under way already, paid once" if quote.known else ""
    total = "the price is not known" if quote.total is None else f"{plain(quote.total)} credits"
    each = "" if quote.price is None else f" at {plain(quote.price)}"
    new = f"{quote.new} new evaluations{each}: {total}" if quote.new else "no new evaluations, nothing to pay"
    return " · ".join(part for part in (new, known) if part)


# --- the second pass: verdicts ------------------------------------------------------------------------


def _judge_all(work: EvaluateRun) -> None:
    tally = Tally(len(work.items))

    def show() -> None:
        while not work.ended.empty():
            item = work.ended.get()
            assert item.verdict is not None
            tally.add(item.verdict)
            work.terminal.result(_line(work, item), _record(item))
        work.terminal.bar(tally.bar("judged" if work.wait else "submitted"))

    try:
        run_cancellable(_judge_each(work), show)
    finally:
        show()
        work.terminal.say(_totals(work, tally))


async def _judge_each(work: EvaluateRun) -> None:
    slots = asyncio.Semaphore(IN_FLIGHT_PER_REQUEST * work.evaluator.config.concurrency)
    budget = PixelBudget(PIXELS_IN_FLIGHT)
    turns: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def one(item: Item) -> None:
        # Copies of an image go one after the other: the first is paid, and the others reuse its verdict.
        turn = turns[item.pixel_hash, item.question.generation_prompt]
        async with turn, slots, budget.for_pixels(item.pixels):
            if work.stopped is None:
                _end(work, item, await _verdict(work, item))

    await _all(one(item) for item in work.items if item.verdict is None)


async def _verdict(work: EvaluateRun, item: Item) -> Verdict:
    """The file's verdict. Whatever would meet the next one too keeps that from being started."""
    policy = replace(work.policy, if_not_judged="fail") if work.policy.if_not_judged == "stop" else work.policy
    try:
        image = await work.readers.run(lambda: _image(work, item))
        job = Job([image], item.question, work.judge, policy, item.options, work.token, work.wait)
        verdict = (await work.evaluator.evaluate(job))[0]
    except errors.RunflowError as error:
        subject = Subject(item.question.generation_prompt)
        verdict = not_judged(error, NEVER_PASSES, subject, judge=work.judged_by)
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
    pixels = image_files.read(item.source).pixels
    if work.keep_thumbnails:
        shown = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels  # Pillow refuses a channel axis of 1
        item.thumbnail = report.thumbnail(Image.fromarray(shown))
    return pixels


def _end(work: EvaluateRun, item: Item, verdict: Verdict) -> None:
    item.verdict = verdict
    work.ended.put(item)


class PixelBudget:
    """Lets images in while there is room for their pixels; one that is larger than all room goes alone."""

    def __init__(self, pixels: int) -> None:
        self._all = self._free = pixels
        self._changed = asyncio.Condition()

    def for_pixels(self, pixels: int) -> _Place:
        return _Place(self, min(pixels, self._all))

    async def take(self, pixels: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels

    async def give(self, pixels: int) -> None:
        async with self._changed:
            self._free += pixels
            self._changed.notify_all()


@dataclass(frozen=True)
class _Place:
    budget: PixelBudget
    pixels: int

    async def __aenter__(self) -> None:
        await self.budget.take(self.pixels)

    async def __aexit__(self, *_: object) -> None:
        await self.budget.give(self.pixels)


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Await all; where one raises or this is cancelled, the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


# --- what is said -------------------------------------------------------------------------------------


def _line(work: EvaluateRun, item: Item) -> str:
    verdict = item.verdict
    assert verdict is not None
    paint = work.terminal.colour
    submitted = not work.wait and _is_submitted(verdict)
    outcome = "submitted" if submitted else verdict.outcome
    rest = f"{verdict.score:.2f}" if verdict.judge == LOCAL else verdict.summary.partition(" · ")[2]
    head = f"{paint(f'{outcome:<9}', COLOURS[verdict.outcome])} {item.name}"
    parts = [head, verdict.evaluation.id or ""] if submitted else [head, rest]
    lines = [" · ".join(part for part in parts if part)]
    said = [*item.notes, *(() if submitted else verdict.issues)]
    return "\n".join([*lines, *(paint(f"          {line}", DIM) for line in said)])


def _is_submitted(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.error is None and not verdict.evaluation.is_terminal


def _record(item: Item) -> dict[str, Any]:
    assert item.verdict is not None
    return {
        "file": item.name,
        **item.verdict.to_ui(),
        "status": item.verdict.evaluation.status_code,
        "generation_prompt": item.question.generation_prompt,
        "no_prompt": item.no_prompt or None,
        "notes": list(item.notes),
    }


def _totals(work: EvaluateRun, tally: Tally) -> str:
    left = len(work.items) - tally.done
    if not work.wait:
        sent = sum(_is_submitted(item.verdict) for item in work.items)
        return f"{sent} of {tally.total} submitted · read them with get or evaluate · {duration(tally.seconds)}"
    parts = [f"{tally.done} of {tally.total} done", tally.counts]
    parts += [tally.spend] if work.pays else []
    parts += [f"{left} not started"] if left and work.stopped else []
    return " · ".join([*parts, duration(tally.seconds)])


def _say_how_to_go_on(work: EvaluateRun) -> None:
    waiting = sum(item.verdict is None for item in work.items)
    work.terminal.say(
        f"Interrupted. {len(work.items) - waiting} of {len(work.items)} have their verdict. What was submitted goes on "
        "at Runflow and is paid once.\nTo go on, run the same command again: verdicts that are there are reused, what "
        "is under way is picked up, and nothing is paid twice."
    )


def _conclusion(work: EvaluateRun) -> int:
    """The exit code of all: what could not be judged outranks what failed."""
    if work.stopped is not None:
        work.terminal.say(f"Stopped: {work.stopped}\nRun the same command again to go on; nothing is paid twice.")
        return exit_code(work.stopped)
    verdicts = [item.verdict for item in work.items if item.verdict is not None]
    if any(_is_wrong(verdict.error) for verdict in verdicts):
        return NOT_JUDGED
    stops = work.policy.if_not_judged == "stop"
    unknown = [v for v in verdicts if v.outcome == UNKNOWN and v.judge != OFF and (work.wait or v.error)]
    if stops and unknown:
        needs_key = any(isinstance(verdict.error, errors.NeedsKeyError) for verdict in unknown)
        return CONFIGURATION if needs_key else NOT_JUDGED
    if not work.wait:
        return JUDGED_FAILED if any(verdict.outcome == FAILED for verdict in verdicts) else OK
    return OK if all(verdict.passed for verdict in verdicts) else JUDGED_FAILED


def _is_wrong(error: errors.RunflowError | None) -> bool:
    """Whether it is nothing that a policy decides: a file that is no image, or what would be wrong with every one."""
    return error is not None and (
        isinstance(error, errors.InvalidInputError) or scope_of(error, OWN_OF_A_FILE) is Scope.EVERY_IMAGE
    )


def _short_name(item: Item) -> str:
    """Without the folder, which may name a customer; of an address without what signs it."""
    return item.name.partition("?")[0] if isinstance(item.source, ImageUrl) else item.source.name


def _write_report(work: EvaluateRun, args: argparse.Namespace) -> None:
    entries = [
        report.Entry(_short_name(item), item.verdict, item.thumbnail, item.size)
        for item in work.items
        if item.verdict is not None
    ]
    report.write(args.report, report.html(entries, title=args.title, audience=args.audience, language=args.language))
    work.terminal.say(f"Report of {len(entries)} images: {args.report}")
