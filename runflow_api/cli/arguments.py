"""The arguments of each command, in groups as its help shows them."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..api.models import EVALUATION_EMBEDS, RUN_EMBEDS
from ..evaluation.question import JUDGES, PREFLIGHTS, RATINGS, UPLOADS
from ..evaluation.verdict import WITHOUT_A_PERSON
from ..insight.settings import NAMES as SETTINGS
from ..journal.history import SORTS
from ..journal.journal import OUTCOMES
from ..report.html import AUDIENCES
from ..report.labels import LANGUAGES
from . import key
from .insight import STANDARD_OUTPUT

INSIGHT_JUDGES = ("runflow", "model", "local", "person", "preflight")


def evaluate(parser: argparse.ArgumentParser) -> None:
    """What ``evaluate`` takes."""
    _add_images(parser)
    judging = parser.add_argument_group("who judges, and what counts")
    judging.add_argument(
        "--judge",
        choices=[judge for judge in JUDGES if judge != "person"],
        default="auto",
        help="auto: Runflow if a key is set, otherwise local; local checks the pixels only and is free; off asks "
        "nobody",
    )
    _add_policy(judging)
    _add_timeout(judging)
    add_question(parser)
    add_sending(parser)
    _add_keeping(parser)
    _add_report(parser)
    add_common(parser)
    parser.set_defaults(wait=True)


def submit(parser: argparse.ArgumentParser) -> None:
    """What ``submit`` takes."""
    _add_images(parser)
    add_question(parser)
    add_sending(parser)
    add_common(parser)
    parser.set_defaults(wait=False, judge="runflow", min_score=0.0, if_not_judged="stop", timeout=600, report=None)
    parser.set_defaults(move_failed=None, copy_passed=None, sidecar=False)


def get(parser: argparse.ArgumentParser) -> None:
    """What ``get`` takes."""
    parser.add_argument(
        "ids", nargs="+", type=not_empty, metavar="ID", help="evaluation ids, or images saved by Save Judged Images"
    )
    parser.add_argument("--wait", action="store_true", help="wait for evaluations that are under way")
    embeds = ", ".join(sorted(EVALUATION_EMBEDS))
    parser.add_argument(
        "--embed",
        default="judges,action,gate_failures",
        metavar="NAMES",
        help=f"what else to read: {embeds}, or all",
    )
    _add_policy(parser)
    _add_timeout(parser)
    add_common(parser)


def feedback(parser: argparse.ArgumentParser) -> None:
    """What ``feedback`` takes."""
    ratings = [rating for rating in RATINGS if rating != "none"]
    parser.add_argument("rating", choices=ratings, help="clear takes it back")
    parser.add_argument(
        "ids", nargs="+", type=not_empty, metavar="ID", help="evaluation ids, or images saved by Save Judged Images"
    )
    parser.add_argument("--reason", default="", help="why, in your own words")
    add_common(parser)


def run(parser: argparse.ArgumentParser) -> None:
    """What ``run`` takes."""
    parser.add_argument("id", type=not_empty, metavar="ID", help="the run's id")
    parser.add_argument("--wait", action="store_true", help="wait until it has ended")
    parser.add_argument(
        "--embed", default="", metavar="NAMES", help=f"what else to read: {', '.join(sorted(RUN_EMBEDS))}, or all"
    )
    _add_timeout(parser)
    add_common(parser)


def history(parser: argparse.ArgumentParser) -> None:
    """What ``history`` takes."""
    parser.add_argument("--limit", type=int, default=20, help="how many, newest first, at most 500")
    parser.add_argument("--before", type=int, metavar="ROW", help="the page before this row")
    parser.add_argument("--outcome", choices=OUTCOMES, help="only these")
    parser.add_argument(
        "--search",
        default="",
        metavar="TEXT",
        help="in prompts, evaluation ids and failure codes; or the evaluation of a saved image",
    )
    parser.add_argument(
        "--sort", choices=SORTS, default="newest", help="newest first, or the best or worst score first"
    )
    add_common(parser)


def insight(parser: argparse.ArgumentParser) -> None:
    """What ``insight`` takes."""
    which = parser.add_argument_group("which verdicts, and by what")
    which.add_argument(
        "--by",
        default="checkpoint",
        metavar="SETTING[,SETTING]",
        help=f"one or two of {', '.join(SETTINGS)}; default: checkpoint",
    )
    which.add_argument("--days", type=int, default=0, help="only the last days (UTC); 0 is all, and the default")
    which.add_argument("--judge", default="", choices=("", *INSIGHT_JUDGES), help="only verdicts of this judge")
    which.add_argument("--task", default="", help="only verdicts of this task type")
    costs = parser.add_argument_group("what a mistake costs you, in any unit: for the proposed min_score")
    costs.add_argument("--wrong-pass", type=float, default=1.0, metavar="COST", help="a bad image that passed")
    costs.add_argument("--wrong-rejection", type=float, default=1.0, metavar="COST", help="a good image that failed")
    form = parser.add_argument_group("as what")
    form.add_argument("--csv", action="store_true", help="the figures by setting as CSV on standard output")
    form.add_argument(
        "--html",
        type=_path,
        nargs="?",
        const=STANDARD_OUTPUT,
        metavar="FILE.html",
        help="all of it as a document with plots; without a name on standard output",
    )
    form.add_argument("--language", choices=LANGUAGES, default=LANGUAGES[0], help="the language of the document")
    add_common(parser)


def cost(parser: argparse.ArgumentParser) -> None:
    """What ``cost`` takes."""
    parser.add_argument("--days", type=int, default=7, help="how many days (UTC) to look back, at most 500")
    add_common(parser)


def price(parser: argparse.ArgumentParser) -> None:
    """What ``price`` takes."""
    parser.add_argument(
        "prompt",
        type=not_empty,
        metavar="PROMPT.json",
        help="a workflow in API format (File > Export (API)), or - for standard input",
    )
    parser.add_argument(
        "--input-directory",
        type=_path,
        metavar="DIR",
        help="where its Load Image finds pictures; default: the input folder of that ComfyUI",
    )
    add_common(parser)


def manage_key(parser: argparse.ArgumentParser) -> None:
    """What ``key`` takes."""
    parser.add_argument(
        "action",
        choices=tuple(key.ACTIONS),
        help=(
            "set: type it, or give it on standard input; import: copy the key of Runflow's deploy pack from ComfyUI's "
            "settings; show: masked, with its source; check: ask Runflow; remove: delete the file"
        ),
    )
    add_common(parser)


def doctor(parser: argparse.ArgumentParser) -> None:
    """What ``doctor`` takes."""
    add_common(parser)


def not_empty(text: str) -> str:
    """An argument that must not be empty: an unset variable in a script would otherwise mean the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty. Is a variable not set?")
    return text


def _path(text: str) -> Path:
    return Path(not_empty(text))


# --- groups -------------------------------------------------------------------------------------------

Group = argparse._ActionsContainer
"""A parser, or a group of one."""


def _add_images(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which images")
    group.add_argument(
        "files",
        nargs="*",
        type=not_empty,
        metavar="FILE",
        help="image files, folders or globs; also https://… and runflow://assets/…",
    )
    group.add_argument(
        "--run-output",
        action="append",
        type=not_empty,
        default=[],
        metavar="RUN",
        help="judge what this Runflow run of yours made",
    )
    group.add_argument("--recursive", action="store_true", help="include subfolders")


def add_question(parser: argparse.ArgumentParser) -> None:
    """What holds for every image."""
    group = parser.add_argument_group("what is asked about them")
    group.add_argument(
        "--prompt",
        help="the prompt that made the images; default: the one that ComfyUI or A1111 saved in each file",
    )
    group.add_argument("--instructions", default="", help="what must be right, in your own words; needs a key")
    group.add_argument("--task-type", default="image_generation", help="what kind of generation made the images")
    group.add_argument("--task-description", default="", help="a longer description of the task")
    group.add_argument(
        "--reference",
        action="append",
        type=not_empty,
        default=[],
        metavar="[KIND=]SOURCE",
        help="an image to compare with, up to 4 times: a file, https://… or runflow://assets/…; kind: identity",
    )
    group.add_argument(
        "--reference-description",
        action="append",
        default=[],
        metavar="TEXT",
        help="what matters in the reference at the same position",
    )
    group.add_argument(
        "--input-attributes", default="", metavar="JSON", help='an object shown to the judges: {"style": "corporate"}'
    )


def _add_policy(group: Group) -> None:
    group.add_argument(
        "--min-score", type=float, default=0.0, metavar="0..1", help="a passing image must reach this too"
    )
    group.add_argument(
        "--if-not-judged",
        choices=WITHOUT_A_PERSON,
        default="stop",
        help=(
            "what counts if nobody gives a verdict: stop (exit 3, and start no more images if they would fail in the "
            "same way), fail, pass"
        ),
    )


def _add_timeout(group: Group) -> None:
    group.add_argument("--timeout", type=int, default=600, metavar="SECONDS", help="how long to wait for a verdict")


def add_sending(parser: argparse.ArgumentParser) -> None:
    """How images are sent and paid."""
    group = parser.add_argument_group("how they are sent and paid")
    group.add_argument("--yes", action="store_true", help="pay without being asked")
    group.add_argument("--no-reuse", action="store_true", help="pay for a new verdict even if there is a finished one")
    group.add_argument(
        "--take-saved",
        action="store_true",
        help="take the verdict that a file saved by Save Judged Images says of itself, and pay nothing for it",
    )
    group.add_argument("--job-class", default="standard", help="the priced class; see the command cost")
    group.add_argument(
        "--preflight",
        choices=PREFLIGHTS,
        default="broken",
        help="fail an image before paying: broken (one flat colour) or full (every local check)",
    )
    group.add_argument("--upload", choices=UPLOADS, default="auto", help="how the image travels")
    group.add_argument(
        "--run-id", default="", metavar="UUID", help="one of your Runflow runs, to which the evaluation belongs"
    )
    group.add_argument("--client-ref", default="", help="your own label, returned with the verdict")
    group.add_argument(
        "--callback-url", default="", help="receives a signed callback; its host must be in callback_hosts"
    )


def _add_keeping(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what becomes of the files")
    group.add_argument("--move-failed", type=_path, metavar="DIR", help="move the files of failed images there")
    group.add_argument("--copy-passed", type=_path, metavar="DIR", help="copy the files of passed images there")
    group.add_argument(
        "--sidecar", action="store_true", help="write each verdict beside its image, as NAME.runflow.json"
    )


def _add_report(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the report")
    group.add_argument(
        "--report", type=_path, metavar="FILE.html", help="write a contact sheet, worst first, in one file"
    )
    group.add_argument("--title", default="", help="the title of the report")
    group.add_argument(
        "--audience",
        choices=AUDIENCES,
        default="internal",
        help="client leaves out ids, cost, prompts, folders and links",
    )
    group.add_argument(
        "--language",
        choices=LANGUAGES,
        default=LANGUAGES[0],
        help="the language of the report's labels; what the judges wrote stays as it is",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every command takes."""
    group = parser.add_argument_group("where, and in which form")
    group.add_argument(
        "--comfyui",
        type=_path,
        metavar="DIR",
        help=(
            "use the settings, the key and the journal of this ComfyUI; default: settings and key of the ComfyUI this "
            "pack is in, with a separate journal for the command line"
        ),
    )
    group.add_argument("--json", action="store_true", help="one JSON object per line on standard output")
