"""Reports of verdicts as one HTML file and as JSON, worst first: safe to open, to keep and to send on.

The file needs no network and has no script; a content security policy says so to the browser, and every text from
outside is escaped. For the audience "client" ids, costs and prompts are left out, and so are the texts of errors,
which name them.
"""

from __future__ import annotations

import base64
import functools
import io
import os
import re
import stat
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from PIL import Image

from ..api.models import JudgeOpinion
from ..errors import InvalidInputError
from ..evaluation.comparison import AttemptLines, Lines, line_names
from ..evaluation.verdict import (
    FAILED,
    LOCAL_FAILED,
    LOCAL_PASSED,
    PASSED,
    RUNFLOW,
    UNKNOWN,
    Outcome,
    Verdict,
    credits_text,
    total_cost,
)
from .labels import LANGUAGES, Labels, labels

Audience = Literal["internal", "client"]
AUDIENCES: tuple[Audience, ...] = get_args(Audience)
THUMBNAIL_SIDE = 560
"""Sharp at twice the width of a column; about 40 KB each."""
SIDES_OF_MANY = ((1_000, 192), (300, 320), (100, 440))
"""From so many images on, so many pixels a side: a report of thousands must still open."""
THUMBNAIL_QUALITY = 75
RANKS = {FAILED: 0, UNKNOWN: 1, PASSED: 2}
GENERATOR = "runflow-evaluate"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""In every report of this and of earlier versions: a file that has it may be replaced by the next one."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_UUID = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")


@dataclass(frozen=True)
class Entry:
    """One image of a report: its name, its verdict, a JPEG of it and its size (width, height) in pixels.

    ``folder`` is what it is counted and filtered by, ``link`` the address of the image itself, seen from the report.
    """

    name: str
    verdict: Verdict
    thumbnail: bytes = b""
    size: tuple[int, int] = (0, 0)
    folder: str = ""
    link: str = ""


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Failed before not judged before passed, and the lower score first."""
    return sorted(entries, key=lambda entry: (RANKS[entry.verdict.outcome], entry.verdict.score))


def thumbnail_side(images: int) -> int:
    """Pixels a side for a report of so many images."""
    return next((side for at_least, side in SIDES_OF_MANY if images >= at_least), THUMBNAIL_SIDE)


def thumbnail(image: Image.Image, side: int = THUMBNAIL_SIDE) -> bytes:
    """A JPEG of at most ``side`` pixels a side; what is transparent becomes white."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    if small.mode == "RGBA":
        white = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(white, small)
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return buffer.getvalue()


def issues_of(verdict: Verdict, audience: Audience) -> tuple[str, ...]:
    """What is wrong, as that audience may read it."""
    if audience == "internal":
        return verdict.issues
    if verdict.error is not None:
        return ()
    return tuple(_UUID.sub("…", issue) for issue in verdict.issues)


def strengths_of(verdict: Verdict, audience: Audience) -> tuple[str, ...]:
    """What is good, as that audience may read it."""
    said = verdict.evaluation.top_strengths
    return tuple(said if audience == "internal" else (_UUID.sub("…", each) for each in said))


def judged_by(verdict: Verdict, said: Labels) -> str:
    """Who judged; "" if nobody could."""
    if verdict.is_practice:
        return said.sandbox
    return "" if verdict.judge == RUNFLOW and verdict.error is not None else said.of(verdict.judge)


def cost(verdict: Verdict, said: Labels) -> str:
    """What was paid, in words; "" if nothing is known of it."""
    if verdict.reused:
        return said.reused
    return said.credits.format(n=credits_text(verdict.cost)) if verdict.cost is not None else ""


def check_target(path: Path | None, inputs: Iterable[Path] = (), *, option: str = "--report") -> None:
    """Refuse a report that could not be written, or would overwrite something else, before anything is paid for it.

    Raises ``InvalidInputError``. ``inputs`` are the files that the report is about,
    ``option`` is what named it.
    """
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        raise InvalidInputError(option, f"{path} is not a file that can be written: its folder must exist.")
    if path.is_symlink() or (path.exists() and not stat.S_ISREG(path.stat().st_mode)):
        raise InvalidInputError(option, f"{path} is a link or a device. Name a new file.")
    if path.exists():
        if any(path.samefile(each) for each in inputs if each.exists()):
            raise InvalidInputError(option, f"{path} is one of the images to judge. Name a new file.")
        if not _is_report(path):
            raise InvalidInputError(option, f"{path} exists and is not a report of this pack. Name a new file.")
    _try_to_write(folder, option)


def _is_report(path: Path) -> bool:
    """Whether ``path`` is empty or an earlier report, so that nothing of anybody else's is lost."""
    try:
        with path.open("rb") as file:
            head = file.read(4_096).decode("utf-8", "replace")
    except OSError:
        return False
    return not head or (head.startswith("<!DOCTYPE html>") and _POLICY in head)


def _try_to_write(folder: Path, option: str) -> None:
    probe = folder / f".{uuid.uuid4().hex}.part"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInputError(option, f"the folder {folder} cannot be written to ({reason}).") from error


def write(path: Path, text: str) -> None:
    """Replace ``path`` at once, so that nobody ever opens half a report."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_text(text, "utf-8", newline="\n")
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


# --- JSON ---------------------------------------------------------------------------------------------


def records(entries: Iterable[Entry], audience: Audience) -> list[dict[str, Any]]:
    """One object for each image, worst first."""
    return [_record(entry, audience) for entry in ranked(entries)]


def _record(entry: Entry, audience: Audience) -> dict[str, Any]:
    verdict = entry.verdict
    shared = {
        "image": entry.name,
        "verdict": verdict.outcome,
        "passed": verdict.passed,
        "score": None if _has_no_score(verdict) else verdict.score,
        "issues": list(issues_of(verdict, audience)),
        "strengths": list(strengths_of(verdict, audience)),
        "judge": verdict.judge,
    }
    if audience == "client":
        return shared
    return {
        **verdict.to_ui(),
        **shared,
        "pixel_hash": verdict.subject.pixel_hash,
        "generation_prompt": verdict.subject.prompt,
        "answer": verdict.evaluation.to_json(),
    }


def _has_no_score(verdict: Verdict) -> bool:
    return verdict.evaluation.weighted_pass_rate is None


# --- HTML ---------------------------------------------------------------------------------------------


def html(
    entries: Sequence[Entry],
    *,
    title: str = "",
    audience: Audience = "internal",
    language: str = LANGUAGES[0],
    attempts: Sequence[AttemptLines] = (),
    insight: Mapping[str, Any] | None = None,
) -> str:
    """The whole report as one document, in one of ``LANGUAGES``. A client gets no folders, links or attempts.

    ``attempts`` are those of the loop that the images came out of. ``insight`` is what ``report/insight.py`` makes of
    the journal, for the internal audience only.
    """
    said = labels(language)
    shown = ranked(entries)
    counts = Counter(entry.verdict.outcome for entry in shown)
    folders = Counter(entry.folder or "./" for entry in shown) if audience == "internal" else Counter[str]()
    places = {name: number for number, name in enumerate(sorted(folders), 1)}
    return _template().render(
        generator=GENERATOR,
        language=language,
        title=" ".join(title.split()) or (said.title if entries or insight is None else said.insight),
        insight=insight if audience == "internal" else None,
        orders=_orders(shown),
        said=said,
        totals=_totals(shown, counts, audience, said),
        outcomes={str(outcome): counts[outcome] for outcome in RANKS if counts[outcome]},
        folders={name: folders[name] for name in sorted(folders)},
        attempts=[_attempt(each, said) for each in attempts] if audience == "internal" else [],
        line_rows=_line_rows(attempts) if audience == "internal" else [],
        cards=[_card(entry, audience, said, places.get(entry.folder or "./", 0)) for entry in shown],
    )


def _orders(shown: Sequence[Entry]) -> list[tuple[int, int]]:
    """The place of each image when the best comes first, and when they go by name."""
    best = {index: place for place, index in enumerate(reversed(range(len(shown))))}
    by_name = sorted(range(len(shown)), key=lambda index: shown[index].name)
    names = {index: place for place, index in enumerate(by_name)}
    return [(best[index], names[index]) for index in range(len(shown))]


@functools.cache
def _template() -> Template:
    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, finalize=_without_controls
    )
    return environment.get_template("report.html")


def _without_controls(value: Any) -> Any:
    """What a template shows: control characters, which HTML forbids, are dropped from texts."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _CONTROLS.sub("", value)


def _totals(
    entries: Sequence[Entry], counts: Mapping[Outcome, int], audience: Audience, said: Labels
) -> list[dict[str, object]]:
    totals = [
        _total(said.of(f"count_{outcome}"), str(counts[outcome]), str(outcome))
        for outcome in (PASSED, FAILED, UNKNOWN)
        if counts[outcome]
    ]
    scores = [entry.verdict.score for entry in entries if not _has_no_score(entry.verdict)]
    if scores:
        totals.append(_total(said.mean_score, f"{sum(scores) / len(scores):.2f}"))
    paid = total_cost(entry.verdict for entry in entries)
    if audience == "internal" and paid is not None:
        totals.append(_total(said.credits, credits_text(paid)))
    return totals


def _total(text: str, number: str, kind: str = "") -> dict[str, object]:
    return {"kind": kind, "text": escape(text).format(n=Markup("<b>{}</b>").format(number))}


def _card(entry: Entry, audience: Audience, said: Labels, folder: int) -> dict[str, object]:
    """What the template shows of one image."""
    verdict, for_team = entry.verdict, audience == "internal"
    size = f"{entry.size[0]} × {entry.size[1]} px" if all(entry.size) else ""
    data = base64.b64encode(entry.thumbnail).decode("ascii")
    notes = [note for note in verdict.notes if note not in (LOCAL_PASSED, LOCAL_FAILED)]  # which judged_by says
    return {
        "outcome": str(verdict.outcome),
        "folder": folder,
        "name": entry.name,
        "link": entry.link if for_team else "",
        "picture": f"data:image/jpeg;base64,{data}" if data else "",
        "score": None if _has_no_score(verdict) else verdict.score,
        "meta": " · ".join(part for part in (size, judged_by(verdict, said), *(notes if for_team else ())) if part),
        "lists": [
            (said.issues, issues_of(verdict, audience)),
            (said.strengths, strengths_of(verdict, audience)),
        ],
        "texts": _prompts(verdict, said) if for_team else [],
        "judges": [_opinion(judge) for judge in verdict.evaluation.judges] if for_team else [],
        "facts": _facts(verdict, said) if for_team else [],
    }


def _attempt(attempt: AttemptLines, said: Labels) -> dict[str, object]:
    """What the template shows of one attempt of a loop beside its lines."""
    repairs = [said.repairs.format(n=attempt.repairs)] if attempt.repairs else []
    changes = [(said.lost, attempt.changes.lost), (said.gained, attempt.changes.gained)]
    return {
        "number": attempt.number,
        "outcome": attempt.outcome,
        "score": attempt.score,
        "texts": [*repairs, *(text.format(lines=", ".join(lines)) for text, lines in changes if lines)],
    }


def _line_rows(attempts: Sequence[AttemptLines]) -> list[tuple[str, list[str]]]:
    """Each line with its outcome in each attempt; "" where it was not asked."""
    return [(name, [_line_outcome(each.lines, name) for each in attempts]) for name in line_names(attempts)]


def _line_outcome(lines: Lines, name: str) -> str:
    return str({True: PASSED, False: FAILED, None: UNKNOWN}[lines[name]]) if name in lines else ""


def _prompts(verdict: Verdict, said: Labels) -> list[tuple[str, str]]:
    prompt, improved = verdict.subject.prompt, verdict.improved_prompt
    return [(said.prompt, prompt), (said.improved_prompt, improved if improved != prompt else "")]


def _facts(verdict: Verdict, said: Labels) -> list[tuple[str, str]]:
    time = said.seconds.format(n=f"{verdict.seconds:.1f}") if verdict.seconds else ""
    facts = ((said.evaluation, verdict.evaluation.id), (said.cost, cost(verdict, said)), (said.time, time))
    return [(name, value) for name, value in facts if value]


def _opinion(judge: JudgeOpinion) -> dict[str, str]:
    kind = {True: PASSED, False: FAILED, None: UNKNOWN}[judge.passed]
    reason = judge.reasoning or "; ".join(issue.detail or "" for issue in judge.issues)
    return {"name": judge.name or "", "outcome": str(kind), "reason": reason}
