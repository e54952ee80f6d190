"""The command line: ``python -m runflow_api COMMAND``, and ``runflow-evaluate COMMAND`` where it is installed.

Each command is one entry of ``COMMANDS``: its arguments, what it does, what it costs and what it exits with. Help
and documentation are made from that, so that they cannot drift apart.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .._version import VERSION
from ..api.models import EVALUATION_EMBEDS, RUN_EMBEDS
from ..errors import RunflowError
from ..evaluation.evaluator import Evaluator
from ..evaluation.question import JUDGES, PREFLIGHTS, RATINGS, UPLOADS
from ..evaluation.verdict import IF_NOT_JUDGED
from ..journal.journal import OUTCOMES
from ..report.html import AUDIENCES
from ..report.labels import LANGUAGES
from ..sandbox import app as sandbox
from ..settings import config, locations
from . import doctor, evaluate, key, records
from .exit_codes import CONFIGURATION, INTERRUPTED, JUDGED_FAILED, MEANINGS, NOT_JUDGED, OK, USAGE, exit_code
from .terminal import Terminal

PROGRAM = "python -m runflow_api"
NO_LIMIT = 10_000_000
"""The limit per queued prompt is one of the graph: here the person sees the sum, and confirms it."""


@dataclass(frozen=True)
class Command:
    """``run`` gets the parsed arguments and a terminal; ``costs`` is in words, ``exits`` are exit codes."""

    name: str
    does: str
    costs: str
    exits: tuple[int, ...]
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Terminal], int]

    @property
    def epilog(self) -> str:
        exits = "\n".join(f"  {code:>3}  {MEANINGS[code]}" for code in sorted({*self.exits, USAGE}))
        return f"Costs: {self.costs}\n\nExits with:\n{exits}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Every error of the pack is one line on standard error."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:2] == ["key", "set"] and len(given) > 2 and not given[2].startswith("-"):
        # argparse would repeat it: a key belongs neither on the screen nor into the shell's history.
        print("The key is never an argument: run key set and paste it.", file=sys.stderr)
        return USAGE
    args = parser().parse_args(given)
    terminal = Terminal(getattr(args, "json", False))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _survive_any_console()
    try:
        code: int = args.run(args, terminal)
        sys.stdout.flush()
        return code
    except RunflowError as error:
        terminal.say(str(error))
        return exit_code(error)
    except KeyboardInterrupt:
        terminal.say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe (head, less) has gone: nobody is left to be told
        sys.stderr.close()
        return OK


def _survive_any_console() -> None:
    """A console of Windows may lack a character of an issue's text: it shows ``?`` then."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Judge images with Runflow, or locally, from the terminal.",
        epilog=f"{PROGRAM} COMMAND --help says what a command does, costs and exits with.",
    )
    top.add_argument("--version", action="version", version=VERSION)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            help=command.does.partition(". ")[0].rstrip("."),
            description=command.does,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(one)
        one.set_defaults(run=command.run)
    return top


# --- arguments ----------------------------------------------------------------------------------------


def _places(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--comfyui",
        type=Path,
        metavar="DIR",
        help="use the settings, the key and the journal of this ComfyUI; default: the ComfyUI this pack is in, "
        "with a journal of the command line's own",
    )


def _json(one: argparse.ArgumentParser) -> None:
    one.add_argument("--json", action="store_true", help="one JSON object per line on standard output")


def _common(one: argparse.ArgumentParser) -> None:
    _places(one)
    _json(one)


def _policy(one: argparse.ArgumentParser) -> None:
    one.add_argument("--min-score", type=float, default=0.0, metavar="0..1", help="a passing image must reach this too")
    one.add_argument(
        "--if-not-judged",
        choices=IF_NOT_JUDGED,
        default="stop",
        help="what counts where nobody gives a verdict: stop (exit 3, and start no more images while it would meet "
        "them too), fail, pass",
    )


def _timeout(one: argparse.ArgumentParser) -> None:
    one.add_argument("--timeout", type=int, default=600, metavar="SECONDS", help="how long to wait for a verdict")


def _question(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "files", nargs="*", metavar="FILE", help="image files, folders, globs; https://… and runflow://assets/… too"
    )
    one.add_argument(
        "--run-output", action="append", default=[], metavar="RUN", help="judge what this run of yours made"
    )
    one.add_argument("--recursive", action="store_true", help="take folders with all that is below them")
    one.add_argument(
        "--prompt", help="the prompt that made the images; default: the one that ComfyUI saved in each PNG"
    )
    one.add_argument("--instructions", default="", help="what must be right, in your own words; needs a key")
    one.add_argument("--task-type", default="image_generation", help="what kind of generation made the images")
    one.add_argument("--task-description", default="", help="a longer description of the task")
    one.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="[KIND=]SOURCE",
        help="an image to compare with, up to 4 times: a file, https://… or runflow://assets/…; kind: identity",
    )
    one.add_argument(
        "--reference-description",
        action="append",
        default=[],
        metavar="TEXT",
        help="what matters in the reference of the same place",
    )


def _sending(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--input-attributes", default="", metavar="JSON", help='an object shown to the judges: {"style": "corporate"}'
    )
    one.add_argument("--run-id", default="", metavar="UUID", help="one of your Runflow runs, to associate")
    one.add_argument("--client-ref", default="", help="your own label, echoed back")
    one.add_argument("--job-class", default="standard", help="the priced class; see the command cost")
    one.add_argument(
        "--callback-url", default="", help="receives a signed callback; its host must be in callback_hosts"
    )
    one.add_argument("--no-reuse", action="store_true", help="pay for a new verdict where a finished one is there")
    one.add_argument("--upload", choices=UPLOADS, default="auto", help="how the image travels")
    one.add_argument(
        "--preflight",
        choices=PREFLIGHTS,
        default="broken",
        help="fail an image before paying: broken (one flat colour) or full (every local check)",
    )
    one.add_argument("--yes", action="store_true", help="pay without being asked")


def _report(one: argparse.ArgumentParser) -> None:
    one.add_argument("--report", type=Path, metavar="FILE.html", help="write a contact sheet, worst first, in one file")
    one.add_argument("--title", default="", help="the title of the report")
    one.add_argument(
        "--audience", choices=AUDIENCES, default="internal", help="client leaves out ids, cost and prompts"
    )
    one.add_argument(
        "--language",
        choices=LANGUAGES,
        default=LANGUAGES[0],
        help="of the report's labels; what the judges wrote stays as it is",
    )


def _evaluate_arguments(one: argparse.ArgumentParser) -> None:
    _question(one)
    one.add_argument(
        "--judge",
        choices=JUDGES,
        default="auto",
        help="auto: Runflow where a key is set, else local; local checks the pixels only and is free; off asks nobody",
    )
    _policy(one)
    _timeout(one)
    _sending(one)
    _report(one)
    _common(one)
    one.set_defaults(wait=True)


def _submit_arguments(one: argparse.ArgumentParser) -> None:
    _question(one)
    _sending(one)
    _common(one)
    defaults = {"judge": "runflow", "min_score": 0.0, "if_not_judged": "stop", "timeout": 600, "report": None}
    one.set_defaults(wait=False, **defaults)


def _get_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument("ids", nargs="+", metavar="ID", help="evaluation ids")
    one.add_argument("--wait", action="store_true", help="wait for those that are under way")
    one.add_argument(
        "--embed",
        default="judges,action,gate_failures",
        metavar="NAMES",
        help=f"what to read along: {', '.join(sorted(EVALUATION_EMBEDS))}, or all",
    )
    _policy(one)
    _timeout(one)
    _common(one)


def _feedback_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument("rating", choices=[rating for rating in RATINGS if rating != "none"], help="clear takes it back")
    one.add_argument("ids", nargs="+", metavar="ID", help="evaluation ids")
    one.add_argument("--reason", default="", help="why, in your own words")
    _common(one)


def _run_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument("id", metavar="ID", help="the run's id")
    one.add_argument("--wait", action="store_true", help="wait until it has ended")
    one.add_argument(
        "--embed", default="", metavar="NAMES", help=f"what to read along: {', '.join(sorted(RUN_EMBEDS))}, or all"
    )
    _timeout(one)
    _common(one)


def _history_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument("--limit", type=int, default=20, help="how many, newest first, at most 500")
    one.add_argument("--before", type=int, metavar="ROW", help="the page before this row")
    one.add_argument("--outcome", choices=OUTCOMES, help="only these")
    one.add_argument("--search", default="", metavar="TEXT", help="in prompts, evaluation ids and failure codes")
    _common(one)


def _cost_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument("--days", type=int, default=7, help="how many days (UTC) to look back, at most 500")
    _common(one)


def _key_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "action",
        choices=tuple(key.ACTIONS),
        help="set: read from standard input, or asked for; import: copy the one of Runflow's deploy pack from "
        "ComfyUI's settings; show: masked, with its source; check: ask Runflow; remove: delete the file",
    )
    _common(one)


# --- commands -----------------------------------------------------------------------------------------


def _with_evaluator(
    command: Callable[[argparse.Namespace, Terminal, Evaluator], int],
) -> Callable[[argparse.Namespace, Terminal], int]:
    """Give a command the evaluator of the settings in force."""

    def run(args: argparse.Namespace, terminal: Terminal) -> int:
        settings = config.load(locations.settings_directory(args.comfyui))
        settings = settings.model_copy(update={"max_evaluations_per_prompt": NO_LIMIT})
        evaluator = Evaluator(settings, locations.journal_directory(args.comfyui))
        try:
            return command(args, terminal, evaluator)
        finally:
            evaluator.close()

    return run


JUDGING = (OK, JUDGED_FAILED, USAGE, NOT_JUDGED, CONFIGURATION, INTERRUPTED)
FREE = "nothing."

COMMANDS = (
    Command(
        "evaluate",
        "Judge image files, folders and globs, and wait for the verdicts. Says the number of new evaluations and "
        "their sum, and asks before it pays; what was judged before is reused.",
        "one evaluation for each image that was not judged before, where Runflow judges; local is free.",
        JUDGING,
        _evaluate_arguments,
        _with_evaluator(evaluate.run),
    ),
    Command(
        "submit",
        "Submit images without waiting for their verdicts, and print the ids. Read them later with get, or with "
        "evaluate, which picks them up.",
        "one evaluation for each image that was not submitted before; asks first.",
        JUDGING,
        _submit_arguments,
        _with_evaluator(evaluate.run),
    ),
    Command(
        "get",
        "Read evaluations by id. Prints verdict, score, issues and judges, or with --json the whole answer.",
        FREE,
        JUDGING,
        _get_arguments,
        _with_evaluator(records.get),
    ),
    Command(
        "feedback",
        "Tell Runflow whether verdicts were good or bad, or take that back.",
        FREE,
        (OK, USAGE, NOT_JUDGED, CONFIGURATION),
        _feedback_arguments,
        _with_evaluator(records.feedback),
    ),
    Command(
        "run",
        "Read a Runflow run by id. Prints its status, its current verdict, its output and why it failed.",
        FREE,
        (OK, JUDGED_FAILED, USAGE, NOT_JUDGED, CONFIGURATION),
        _run_arguments,
        _with_evaluator(records.run),
    ),
    Command(
        "history",
        "List what was submitted from here, newest first. Reads the journal on this machine only.",
        FREE,
        (OK, USAGE, CONFIGURATION),
        _history_arguments,
        _with_evaluator(records.history),
    ),
    Command(
        "cost",
        "Show what was spent per day (UTC), the limits in force, the prices, and the balance where a key is set.",
        FREE,
        (OK, USAGE, NOT_JUDGED, CONFIGURATION),
        _cost_arguments,
        _with_evaluator(records.cost),
    ),
    Command(
        "key",
        "Set, import, show, check or remove the API key. It is kept in a file that only you can read, is never an "
        "argument, and is never printed.",
        FREE,
        (OK, USAGE, NOT_JUDGED, CONFIGURATION),
        _key_arguments,
        key.run,
    ),
    Command(
        "sandbox",
        "Serve the evaluation API on this machine, judged locally, to try workflows and scripts. Ctrl-C ends it.",
        FREE,
        (OK, USAGE),
        sandbox.add_arguments,
        lambda args, terminal: sandbox.run(args),
    ),
    Command(
        "doctor",
        "Check configuration, key, reachability, scopes, clock, journal and image formats: one line each, with "
        "what to do.",
        FREE,
        (OK, CONFIGURATION),
        _common,
        doctor.run,
    ),
)
