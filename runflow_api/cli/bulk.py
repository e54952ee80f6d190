"""``bulk``: a manifest of any number of images, sampled before it is paid for."""

from __future__ import annotations

import argparse
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from .. import errors
from ..bulk import estimate
from ..bulk import ray as bulk_ray
from ..bulk.manifest import FIELDS, SUFFIXES, Manifest
from ..bulk.question import RowReader
from ..bulk.run import BulkRun, Settings, Tally
from ..bulk.verdicts import Parts
from ..evaluation.evaluator import Evaluator
from ..evaluation.question import JUDGES
from ..evaluation.verdict import RUNFLOW, UNKNOWN, Policy, Verdict
from . import arguments
from .exit_codes import INTERRUPTED, NOT_JUDGED, OK, USAGE, exit_code
from .reading import PAID_FOR_AGAIN, how_to_read
from .sources import options_of, question_of
from .terminal import Terminal, duration, plain, run_cancellable

SAMPLED_FROM = 2_000
"""A manifest with fewer rows is judged without a sample, unless one is row_job for."""
SAMPLE = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``bulk`` takes."""
    suffixes = ", ".join(SUFFIXES)
    parser.add_argument(
        "manifest",
        type=arguments.not_empty,
        metavar="MANIFEST",
        help=f"a file ({suffixes}), a folder or a glob, here or at s3://…, gs://…; columns: {', '.join(FIELDS)}",
    )
    parser.add_argument(
        "--output", required=True, type=arguments.not_empty, metavar="DIR", help="where the verdicts go, as Parquet"
    )
    judging = parser.add_argument_group("who judges, and what counts")
    judging.add_argument(
        "--judge",
        choices=[judge for judge in JUDGES if judge != "person"],
        default="auto",
        help="auto: Runflow if a key is set, otherwise local",
    )
    judging.add_argument("--min-score", type=float, default=0.0, metavar="0..1", help="a passing image must reach this")
    judging.add_argument("--timeout", type=int, default=600, metavar="SECONDS", help="how long to wait for a verdict")
    arguments.add_question(parser)
    arguments.add_sending(parser)
    money = parser.add_argument_group("how much, and how many at once")
    money.add_argument(
        "--sample",
        type=_whole,
        metavar="N",
        help=f"judge so many at random first, and say what the whole would come to; default: {SAMPLE} from "
        f"{SAMPLED_FROM} rows on, 0 for none",
    )
    money.add_argument("--sample-only", action="store_true", help="end after the sample")
    money.add_argument(
        "--budget", type=_credits, metavar="CREDITS", help="all processes of this run together never pay more"
    )
    money.add_argument(
        "--in-flight", type=_positive, default=64, metavar="N", help="evaluations under way at once; default: 64"
    )
    money.add_argument(
        "--shard", type=_shard, default=(0, 1), metavar="I/N", help="judge every N-th row only, beginning with the I-th"
    )
    money.add_argument("--part-rows", type=_positive, default=1_000, metavar="N", help="rows in a part; default: 1000")
    money.add_argument("--retry", action="store_true", help="ask again about rows that nobody judged")
    money.add_argument("--keep", action="append", default=[], metavar="COLUMN", help="copy it into the verdicts")
    money.add_argument(
        "--ray", type=arguments.not_empty, metavar="ADDRESS", help="on Ray: auto, local, or the address of a cluster"
    )
    arguments.add_common(parser)


def _whole(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("is less than 0.")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("is less than 1.")
    return value


def _credits(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError("is not an amount of credits.") from error
    if not value.is_finite() or value < 0:
        raise argparse.ArgumentTypeError("is not an amount of credits.")
    return value


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError("is not I/N with I from 1 to N, such as 2/8.")
    return int(index) - 1, int(count)


# --- the command --------------------------------------------------------------------------------------


def run(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator) -> int:
    """Judge the manifest that ``args`` names; the exit code."""
    how = how_to_read(args)
    question, options = question_of(args, how.decoder), replace(options_of(args), timeout_s=args.timeout)
    policy = Policy(args.min_score, "fail")
    policy.check()
    question.check()
    options.check(evaluator.config)
    evaluator.bookkeeper.budget = args.budget
    pays = evaluator.resolve(args.judge) == RUNFLOW
    if pays:
        evaluator.config.require_key()
    manifest = Manifest(args.manifest)
    identity, total = manifest.identity(), manifest.count()
    if not total:
        raise errors.InvalidInputError(args.manifest, "has no rows.")
    settings = Settings(args.judge, policy, args.in_flight, args.part_rows, args.shard, args.retry, tuple(args.keep))
    parts = Parts(args.output, args.shard, args.keep)
    about = {"manifest": identity, "part_rows": args.part_rows, "shards": args.shard[1]}
    parts.check(about)
    reader = RowReader(manifest, question, options, how.decoder)
    if how.other is not None:
        reader.otherwise = RowReader(manifest, question_of(args, how.other), options, how.other)
    work = BulkRun(evaluator, reader, settings, f"bulk:{identity}")
    if pays and how.lacks_pyav:
        terminal.say(LACKS_PYAV)
    try:
        if pays and not _may_pay(args, terminal, evaluator, work, total):
            return USAGE
        if work.stopped is None and not args.sample_only:
            work.tally = Tally()
            parts.claim(about)
            if args.ray:
                return _judge_on_ray(args, terminal, work, total)
            _judge_all(terminal, evaluator, work, parts, _rows_of(total, args.shard))
    except KeyboardInterrupt:
        terminal.say(f"Interrupted. {GO_ON}")
        return INTERRUPTED
    finally:
        work.write_partials(parts)
    return _conclude(terminal, work, args.output)


def _judge_on_ray(args: argparse.Namespace, terminal: Terminal, work: BulkRun, total: int) -> int:
    written = bulk_ray.run(args.ray, work, args.output)
    place = f"{args.output.rstrip('/')}/{bulk_ray.RESULTS}"
    terminal.result(f"{written} of {total} rows · {place}", record={"rows": written, "output": place})
    return OK if written == total else NOT_JUDGED


LACKS_PYAV = (
    "This ComfyUI's Load Image reads files with PyAV, which is not installed here: JPEG, WebP, AVIF and some PNG files "
    f"are other pixels there. {PAID_FOR_AGAIN}"
)
GO_ON = "Run the same command again to go on: what is judged is not judged again, and nothing is paid for twice."


def _rows_of(total: int, shard: tuple[int, int]) -> int:
    index, count = shard
    return len(range(index, total, count))


def _may_pay(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator, work: BulkRun, total: int) -> bool:
    """Say what it may cost, judge a sample if that is wanted, and ask."""
    size = args.sample if args.sample is not None else SAMPLE if total >= SAMPLED_FROM and args.shard[1] == 1 else 0
    price = run_cancellable(evaluator.call_api(evaluator.prices.price, args.job_class))
    each = f" at {plain(price)}" if price is not None else ", the price is not known"
    rows = _rows_of(total, args.shard)
    at_most = "" if price is None else f": at most {plain(price * rows)} credits"
    terminal.say(f"{rows} rows{each}{at_most}; what was judged before costs nothing")
    _say_limits(args, terminal, evaluator, rows)
    if size:
        sample = min(size, total)
        costs = "" if price is None else f", at most {plain(price * sample)} credits"
        if not _confirms(args, terminal, f"Judge {sample} at random first{costs}?"):
            return False
        found = estimate.sampled(_sample(terminal, work, args, total))
        terminal.say(_in_words(found, rows))
        if args.sample_only or work.stopped is not None:
            return True
    return _confirms(args, terminal, "Go on and pay?")


def _say_limits(args: argparse.Namespace, terminal: Terminal, evaluator: Evaluator, rows: int) -> None:
    limit = evaluator.config.max_evaluations_per_day
    if rows > limit:
        terminal.say(
            f"Your limit is {limit} evaluations per day: it ends there, and goes on when it is run again the next day "
            "(RUNFLOW_MAX_EVALUATIONS_PER_DAY)."
        )
    if args.budget is not None:
        terminal.say(f"It pays at most {plain(args.budget)} credits, earlier runs of this manifest included.")


def _confirms(args: argparse.Namespace, terminal: Terminal, question: str) -> bool:
    if args.yes:
        return True
    answer = terminal.confirms(question)
    if answer is None:
        terminal.say("[NOT_CONFIRMED] Nothing was sent. To pay without being row_job, add --yes")
    elif not answer:
        terminal.say("Nothing more was sent.")
    return bool(answer)


def _sample(terminal: Terminal, work: BulkRun, args: argparse.Namespace, total: int) -> list[Verdict]:
    rows = work.manifest.sample(args.sample if args.sample is not None else SAMPLE, total)

    def show() -> None:
        terminal.progress(f"sample: {work.tally.waiting}", work.tally.done, len(rows))

    verdicts = run_cancellable(work.judge_rows(rows), show)
    terminal.close()
    return [verdict for verdict in verdicts if verdict is not None]


def _in_words(found: estimate.Sampled, rows: int) -> str:
    share, off = found.interval
    credits = found.credits_for(rows)
    said = [f"{found.judged} judged at random: {share:.0%} ± {off:.0%} pass"]
    if found.rows > found.judged:
        said.append(f"{found.rows - found.judged} of {found.rows} could not be judged")
    said.append(
        "what the whole would cost is not known"
        if credits is None
        else f"the whole would cost about {plain(_round(credits))} credits"
    )
    return ", ".join(said)


def _round(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01")) if amount < 100 else amount.to_integral_value()


def _judge_all(terminal: Terminal, evaluator: Evaluator, work: BulkRun, parts: Parts, rows: int) -> None:
    def show() -> None:
        tally = work.tally
        left = rows - tally.skipped - tally.done
        ends = f"{duration(left / tally.rate)} left" if tally.done else ""
        spent = f"{plain(work.spent)} credits" if work.spent is not None else ""
        said = [f"{tally.rate:.1f} rows/s", spent, ends, tally.waiting, evaluator.bookkeeper.trouble]
        terminal.progress(" · ".join(part for part in said if part), tally.skipped + tally.done, rows)

    try:
        run_cancellable(work.judge_all(parts), show)
    finally:
        terminal.close()


def _conclude(terminal: Terminal, work: BulkRun, output: str) -> int:
    tally = work.tally
    counts = [f"{count} {outcome}" for outcome, count in sorted(tally.outcomes.items())]
    before = [f"{tally.skipped} judged before"] if tally.skipped else []
    codes = [f"{count} × {code}" for code, count in tally.codes.most_common(5)]
    terminal.result(
        " · ".join([*counts, *before, f"{tally.reused} reused", *codes, output]),
        record={"outcomes": dict(tally.outcomes), "skipped": tally.skipped, "reused": tally.reused,
                "codes": dict(tally.codes), "output": output},
    )  # fmt: skip
    if work.stopped is not None:
        terminal.say(f"Stopped: {work.stopped}\n{GO_ON}")
        return exit_code(work.stopped)
    return NOT_JUDGED if tally.outcomes[str(UNKNOWN)] else OK
