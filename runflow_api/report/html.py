"""Reports of verdicts as one HTML file and as JSON, worst first: safe to open, to keep and to send on.

The file needs no network and has no script; a content security policy says so to the browser, and every text from
outside is escaped. For the audience "client" ids, costs and prompts are left out, and so are the texts of errors,
which name them.
"""

from __future__ import annotations

import base64
import html as _html
import io
import os
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from ..api.models import JudgeOpinion
from ..errors import InvalidInputError
from ..evaluation.verdict import FAILED, PASSED, RUNFLOW, UNKNOWN, Verdict, credits_text, total_cost
from .labels import LANGUAGES, Labels, labels

Audience = Literal["internal", "client"]
AUDIENCES: tuple[Audience, ...] = get_args(Audience)
THUMBNAIL_SIDE = 560
"""Sharp at twice the width of a column; about 40 KB each."""
THUMBNAIL_QUALITY = 82
RANKS = {FAILED: 0, UNKNOWN: 1, PASSED: 2}
_UUID = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")


@dataclass(frozen=True)
class Entry:
    """One image of a report: its name, its verdict, a JPEG of it and its size (width, height) in pixels."""

    name: str
    verdict: Verdict
    thumbnail: bytes = b""
    size: tuple[int, int] = (0, 0)


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Failed before not judged before passed, and the lower score first."""
    return sorted(entries, key=lambda entry: (RANKS[entry.verdict.outcome], entry.verdict.score))


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
    """Who judged; "" where nobody could."""
    if verdict.is_practice:
        return said.sandbox
    return "" if verdict.judge == RUNFLOW and verdict.error is not None else said.of(verdict.judge)


def cost(verdict: Verdict, said: Labels) -> str:
    """What was paid, in words; "" where nothing is known of it."""
    if verdict.reused:
        return said.reused
    return said.credits.format(n=credits_text(verdict.cost)) if verdict.cost is not None else ""


def check_target(path: Path | None) -> None:
    """Refuse a report that could not be written, before anything is paid for it."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise InvalidInputError("--report", f"{path} is no file that can be written: its folder must exist.")


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
    entries: Sequence[Entry], *, title: str = "", audience: Audience = "internal", language: str = LANGUAGES[0]
) -> str:
    """The whole report as one document, in one of ``LANGUAGES``."""
    said = labels(language)
    cards = "\n".join(_card(number, entry, audience, said) for number, entry in enumerate(ranked(entries), 1))
    return _PAGE.format(
        language=language,
        title=_text(" ".join(title.split()) or said.title),
        style=_STYLE,
        totals=_totals(entries, audience, said),
        cards=cards,
    )


def _text(text: str) -> str:
    """Text stays text, whatever it says; control characters, which HTML forbids, are dropped."""
    return _html.escape("".join(c for c in text if c in "\n\t" or not _is_control(c)), quote=True)


def _is_control(c: str) -> bool:
    return ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) <= 0xDFFF


def _totals(entries: Sequence[Entry], audience: Audience, said: Labels) -> str:
    counts = Counter(entry.verdict.outcome for entry in entries)
    totals = [
        _total(said.of(f"count_{outcome}"), str(counts[outcome]), outcome)
        for outcome in (PASSED, FAILED, UNKNOWN)
        if counts[outcome]
    ]
    scores = [entry.verdict.score for entry in entries if not _has_no_score(entry.verdict)]
    if scores:
        totals.append(_total(said.mean_score, f"{sum(scores) / len(scores):.2f}"))
    paid = total_cost(entry.verdict for entry in entries)
    if audience == "internal" and paid is not None:
        totals.append(_total(said.credits, credits_text(paid)))
    return "".join(totals)


def _total(text: str, number: str, kind: str = "") -> str:
    return f'<li class="{kind}">{text.format(n=f"<b>{_text(number)}</b>")}</li>'


def _card(number: int, entry: Entry, audience: Audience, said: Labels) -> str:
    verdict = entry.verdict
    size = f"{entry.size[0]} × {entry.size[1]} px" if all(entry.size) else ""
    meta = " · ".join(part for part in (size, judged_by(verdict, said)) if part)
    parts = [
        _picture(entry, said),
        f'<div class="body"><p class="verdict"><span class="badge">{said.of(verdict.outcome)}</span>'
        f"{_score(verdict, said)}</p>",
        f'<h2 dir="auto">{_text(entry.name)}</h2><p class="meta">{meta}</p>',
        _list(said.issues, issues_of(verdict, audience)),
        _list(said.strengths, strengths_of(verdict, audience)),
        _internal(verdict, said) if audience == "internal" else "",
        "</div>",
    ]
    return f'<article class="{verdict.outcome}" aria-label="{number}">{"".join(parts)}</article>'


def _picture(entry: Entry, said: Labels) -> str:
    if not entry.thumbnail:
        return f'<div class="picture none">{said.no_picture}</div>'
    data = base64.b64encode(entry.thumbnail).decode("ascii")
    return f'<div class="picture"><img alt="{_text(entry.name)}" src="data:image/jpeg;base64,{data}"></div>'


def _score(verdict: Verdict, said: Labels) -> str:
    if _has_no_score(verdict):
        return f'<span class="score none">{said.no_score}</span>'
    percent = round(100 * verdict.score)
    return (
        f'<span class="score">{verdict.score:.2f}</span>'
        f'<span class="track"><span class="fill" style="width:{percent}%"></span></span>'
    )


def _list(name: str, lines: Sequence[str]) -> str:
    items = "".join(f'<li dir="auto">{_text(line)}</li>' for line in lines)
    return f"<h3>{name}</h3><ul>{items}</ul>" if items else ""


def _internal(verdict: Verdict, said: Labels) -> str:
    """What only the team reads: prompts, judges, ids, cost."""
    evaluation = verdict.evaluation
    prompt, improved = verdict.subject.prompt, verdict.improved_prompt
    time = said.seconds.format(n=f"{verdict.seconds:.1f}") if verdict.seconds else ""
    facts = {said.evaluation: evaluation.id, said.cost: cost(verdict, said), said.time: time}
    rows = "".join(f"<dt>{name}</dt><dd>{_text(value)}</dd>" for name, value in facts.items() if value)
    return "".join(
        [
            _paragraph(said.prompt, prompt),
            _paragraph(said.improved_prompt, improved if improved != prompt else ""),
            _judges(evaluation.judges, said),
            f"<dl>{rows}</dl>" if rows else "",
        ]
    )


def _paragraph(name: str, text: str) -> str:
    return f'<h3>{name}</h3><p class="prompt" dir="auto">{_text(text)}</p>' if text.strip() else ""


def _judges(judges: Sequence[JudgeOpinion], said: Labels) -> str:
    rows = "".join(_judge_row(judge, said) for judge in judges)
    headline = said.judges.format(n=len(judges))
    return f"<details><summary>{headline}</summary><table>{rows}</table></details>" if rows else ""


def _judge_row(judge: JudgeOpinion, said: Labels) -> str:
    kind = {True: PASSED, False: FAILED, None: UNKNOWN}[judge.passed]
    reason = judge.reasoning or "; ".join(issue.detail or "" for issue in judge.issues)
    return (
        f'<tr><th dir="auto">{_text(judge.name or "")}</th><td class="{kind}">{said.of(f"judge_{kind}")}</td>'
        f'<td dir="auto">{_text(reason)}</td></tr>'
    )


_STYLE = """
:root { color-scheme: light dark; --page: #f4f5f7; --card: #fff; --ink: #1c2230; --soft: #626b7d; --line: #e2e5eb;
  --passed: #16794a; --failed: #c0283a; --unknown: #96690b; --dark: #10141c; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1b2029; --ink: #e8ebf1; --soft: #9aa4b5;
  --line: #2c333f; --passed: #4cc38a; --failed: #ff7a86; --unknown: #e2b04a; --dark: #0b0e13; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header, main { max-width: 1480px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 32px; padding-bottom: 20px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 10px; letter-spacing: -0.01em; }
.totals { display: flex; flex-wrap: wrap; gap: 8px; list-style: none; margin: 0; padding: 0; }
.totals li { background: var(--card); border: 1px solid var(--line); border-radius: 99px; padding: 3px 13px; }
.totals li.passed b { color: var(--passed); } .totals li.failed b { color: var(--failed); }
.totals li.unknown b { color: var(--unknown); }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 20px; align-items: start;
  padding-bottom: 48px; }
article { --tone: var(--unknown); background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  overflow: hidden; break-inside: avoid; }
article.passed { --tone: var(--passed); } article.failed { --tone: var(--failed); }
.picture { background: var(--dark); height: 300px; display: flex; justify-content: center; align-items: center;
  border-bottom: 3px solid var(--tone); }
.picture img { display: block; max-width: 100%; max-height: 100%; object-fit: contain; }
.picture.none { color: #98a1b0; }
.body { padding: 14px 18px 18px; }
.verdict { display: flex; align-items: center; gap: 10px; margin: 0 0 8px; }
.badge { background: var(--tone); color: var(--card); border-radius: 99px; padding: 2px 12px; font-weight: 650; }
.score { font-weight: 650; font-size: 18px; font-variant-numeric: tabular-nums; }
.score.none { color: var(--soft); font-size: 14px; font-weight: 400; }
.track { flex: 1; height: 6px; border-radius: 3px; background: var(--line); overflow: hidden; }
.fill { display: block; height: 100%; background: var(--tone); }
h2 { font-size: 16px; line-height: 1.35; margin: 0; }
h3 { font-size: 12px; letter-spacing: 0.05em; text-transform: uppercase; color: var(--soft); margin: 14px 0 3px; }
ul { margin: 0; padding-inline-start: 18px; } .totals, .totals li { margin: 0; }
.meta { color: var(--soft); margin: 0; font-size: 13px; }
.prompt { margin: 0; white-space: pre-wrap; border-inline-start: 3px solid var(--line); padding-inline-start: 10px; }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: 13px; margin-top: 6px; }
th, td { text-align: start; vertical-align: top; padding: 4px 8px 4px 0; border-top: 1px solid var(--line); }
td.passed { color: var(--passed); } td.failed { color: var(--failed); } td.unknown { color: var(--unknown); }
dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 12px; margin: 14px 0 0; font-size: 13px; }
dt { color: var(--soft); } dd { margin: 0; font-variant-numeric: tabular-nums; }
@media print { body { background: #fff; } main { display: block; } article { margin-bottom: 16px; } }
"""

_PAGE = """<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1 dir="auto">{title}</h1><ul class="totals">{totals}</ul></header>
<main>
{cards}
</main>
</body>
</html>
"""
