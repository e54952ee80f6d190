"""The command line: ``python -m runflow_api COMMAND``, and ``runflow-evaluate COMMAND`` where it is installed.

Each command is one entry of ``COMMANDS``: its arguments, what it does, what it costs and what it exits with. Help
and documentation are made from that, so that they cannot drift apart.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from .. import background
from .._version import VERSION
from ..bulk.run import NO_LIMIT
from ..errors import RunflowError
from ..evaluation.evaluator import Evaluator
from ..settings import config, locations
from . import arguments, bulk, doctor, evaluate, insight, key, price, records, sandbox
from .exit_codes import (
    CLOSED_PIPE,
    CONFIGURATION,
    INTERRUPTED,
    JUDGED_FAILED,
    MEANINGS,
    NOT_JUDGED,
    OK,
    USAGE,
    exit_code,
)
from .terminal import Terminal, printable

_KEY = re.compile(r"rf_(?:live|test)_[A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Command:
    """``run`` gets the parsed arguments and a terminal; ``costs`` is in words, ``exits`` are exit codes.

    Every command may also exit with ``USAGE`` and ``CLOSED_PIPE``.
    """

    name: str
    does: str
    costs: str
    exits: tuple[int, ...]
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Terminal], int]

    @property
    def epilog(self) -> str:
        exits = "\n".join(f"  {code:>3}  {MEANINGS[code]}" for code in sorted({*self.exits, USAGE, CLOSED_PIPE}))
        return f"Costs: {self.costs}\n\nExits with:\n{exits}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Every error is one line on standard error."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        _survive_any_console()
        if _gives_a_key_away(given):
            # argparse would repeat it: a key belongs neither on the screen nor into the shell's history.
            print("The key is never an argument: run “key set” and paste it.", file=sys.stderr)
            return USAGE
        code = _run(parser().parse_args(given))
        sys.stdout.flush()
        return code
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.errno == errno.EPIPE:
            _let_go_of_the_pipe()
            return CLOSED_PIPE
        _say_why(error)
        return CONFIGURATION


def program() -> NoReturn:
    """The process of the command line: ends with the exit code of its command.

    At once, if calls are still under way that nobody waits for: the libraries that read text in pictures abort the
    process when Python takes itself apart around them.
    """
    code = main()
    if background.is_busy():
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run(args: argparse.Namespace) -> int:
    terminal = Terminal(getattr(args, "json", False))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        code: int = args.run(args, terminal)
        return code
    except RunflowError as error:
        terminal.say(str(error))
        return exit_code(error)
    except KeyboardInterrupt:
        terminal.say("Interrupted.")
        return INTERRUPTED
    finally:
        terminal.close()


def _gives_a_key_away(given: Sequence[str]) -> bool:
    """Whether an argument looks like a key, or stands where somebody would put one."""
    if given[:1] != ["key"]:
        looks_like_one = any(each.startswith("rf_live_") and not os.path.exists(each) for each in given)
        return looks_like_one and given[:1] != ["sandbox"]  # which says itself that it takes no real one
    free = [each for before, each in itertools.pairwise(given) if before != "--comfyui"]
    known = (*key.ACTIONS, "--json", "--comfyui", "-h", "--help")
    return any(each not in known and not each.startswith("--comfyui=") for each in free)


def _survive_any_console() -> None:
    """A console of Windows may lack a character of an issue's text: it is escaped then."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _let_go_of_the_pipe() -> None:
    """Whoever read it (head, less) has gone: nobody is left to be told, and nothing may be flushed at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())


def _say_why(error: OSError) -> None:
    """A full disk, rights that are missing, a file that has gone: one line with what the system says."""
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    try:
        print(printable(f"[FILE_ERROR] {where}{reason}."), file=sys.stderr)
        sys.stderr.flush()
    finally:
        _let_go_of_the_pipe()  # what is still in a buffer cannot be written either


class _Parser(argparse.ArgumentParser):
    """Repeats neither a key nor what would steer the terminal when it says what is wrong with an argument."""

    def error(self, message: str) -> NoReturn:
        super().error(_KEY.sub("rf_…", printable(message)))


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog=locations.command_line(),
        description="Judge images with Runflow, or locally, from the terminal.",
        epilog=f"{locations.command_line()} COMMAND --help says what a command does, costs and exits with.",
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
        "Judge image files, folders and globs, and wait for the verdicts. Shows the number of new evaluations and "
        "their total price, and asks before it pays. Earlier verdicts are reused.",
        "one evaluation for each image that was not judged before, if Runflow judges; local is free.",
        JUDGING,
        arguments.evaluate,
        _with_evaluator(evaluate.run),
    ),
    Command(
        "submit",
        "Submit images without waiting for their verdicts, and print the ids. Read them later with get, or with "
        "evaluate, which picks them up.",
        "one evaluation for each image that was not submitted before; asks first.",
        JUDGING,
        arguments.submit,
        _with_evaluator(evaluate.run),
    ),
    Command(
        "bulk",
        "Judge the rows of a manifest, however many, and write their verdicts as Parquet. Says what a sample of them "
        "comes to, and asks before it pays. Run again, it goes on where it was.",
        "one evaluation for each different question that was not judged before; never more than --budget.",
        (OK, USAGE, NOT_JUDGED, CONFIGURATION, INTERRUPTED),
        bulk.add_arguments,
        _with_evaluator(bulk.run),
    ),
    Command(
        "get",
        "Read evaluations by id. Prints verdict, score, issues and judges, or with --json the whole answer.",
        FREE,
        JUDGING,
        arguments.get,
        _with_evaluator(records.get),
    ),
    Command(
        "feedback",
        "Tell Runflow whether verdicts were good or bad, or take that back.",
        FREE,
        (OK, USAGE, NOT_JUDGED, CONFIGURATION),
        arguments.feedback,
        _with_evaluator(records.feedback),
    ),
    Command(
        "run",
        "Read a Runflow run by id. Prints its status, its current verdict, its output and why it failed.",
        FREE,
        (OK, JUDGED_FAILED, USAGE, NOT_JUDGED, CONFIGURATION),
        arguments.run,
        _with_evaluator(records.run),
    ),
    Command(
        "history",
        "List what was submitted from here, newest first. Reads the journal on this machine only.",
        FREE,
        (OK, USAGE, CONFIGURATION),
        arguments.history,
        _with_evaluator(records.history),
    ),
    Command(
        "insight",
        "Show what the journal tells: pass rate, attempts and credits per kept image by the settings that made the "
        "images, and whether each judge agrees with your thumbs and verdicts. Reads the journal on this machine only.",
        FREE,
        (OK, USAGE, CONFIGURATION),
        arguments.insight,
        _with_evaluator(insight.run),
    ),
    Command(
        "cost",
        "Show what was spent per day (UTC), the limits in force, the prices, and the balance if a key is set.",
        FREE,
        (OK, USAGE, NOT_JUDGED, CONFIGURATION),
        arguments.cost,
        _with_evaluator(records.cost),
    ),
    Command(
        "price",
        "Say what queueing an API prompt in ComfyUI would spend, and why it would not run. Nothing is queued. What "
        "only the run can know is counted as the most it can be, and said so.",
        FREE,
        (OK, USAGE, NOT_JUDGED, CONFIGURATION),
        arguments.price,
        price.run,
    ),
    Command(
        "key",
        "Set, import, show, check or remove the API key. It is kept in a file that only you can read, is never an "
        "argument, and is never printed.",
        FREE,
        (OK, USAGE, NOT_JUDGED, CONFIGURATION),
        arguments.manage_key,
        key.run,
    ),
    Command(
        "sandbox",
        "Serve the evaluation API on this machine, judged locally, to try workflows and scripts. Ctrl-C ends it.",
        FREE,
        (OK, USAGE),
        sandbox.add_arguments,
        sandbox.run,
    ),
    Command(
        "doctor",
        "Check configuration, key, reachability, scopes, clock, journal and image formats: one line each, with "
        "what to do.",
        FREE,
        (OK, CONFIGURATION),
        arguments.doctor,
        doctor.run,
    ),
)
