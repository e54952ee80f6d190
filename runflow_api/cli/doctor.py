"""``doctor``: what could keep evaluations from working, one line each, with what to do. Nothing is paid."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .. import image_files
from .._version import VERSION
from ..api.client import CREATE, EDIT, READ, RunflowClient
from ..api.models import EvaluationStatus
from ..api.transport import Deadline
from ..errors import ApiError, NotFoundError, PermissionDeniedError, RunflowError
from ..journal import about
from ..journal.journal import Journal
from ..settings import config, locations
from ..settings.config import Config
from .exit_codes import CONFIGURATION, OK
from .terminal import GREEN, RED, YELLOW, Painted, Terminal, plain

ANSWER_WITHIN_S = 15.0
CLOCK_MAY_DIFFER_S = 120
"""Days are UTC days and an idempotency key is trusted for 23 h: minutes do not matter, hours do."""
NO_SUCH_ID = "00000000-0000-0000-0000-000000000000"
GOOD, NOTE, BAD = "ok", "note", "fail"
_COLOURS = {GOOD: GREEN, NOTE: YELLOW, BAD: RED}


@dataclass(frozen=True)
class Finding:
    """One line: ``state`` is ok, note (works, but look at it) or fail; ``to_do`` "" if nothing is to be done."""

    name: str
    state: str
    text: str
    to_do: str = ""


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Print every finding as soon as it is there; 4 if one is a failure."""
    failed = False
    for finding in findings(locations.settings_directory(args.comfyui), locations.journal_directory(args.comfyui)):
        failed = failed or finding.state == BAD
        advice = f" \u2192 {finding.to_do}" if finding.to_do else ""
        state = Painted(f"{finding.state:<5}", _COLOURS[finding.state])
        terminal.result(state, f" {finding.name:<18} {finding.text}{advice}", record=vars(finding))
    return CONFIGURATION if failed else OK


def findings(settings_directory: Path, journal_directory: Path) -> Iterator[Finding]:
    """Look at everything that does not need what failed before."""
    yield _program()
    try:
        settings = config.load(settings_directory)
    except (RunflowError, OSError) as error:
        to_do = f"correct the environment, or {settings_directory} and the rights to it"
        yield Finding("configuration", BAD, str(error), to_do)
        return
    if settings.trouble:
        to_do = f"give yourself those rights, or name another user with the rights to {settings_directory}"
        yield Finding("private folder", BAD, f"[FOLDER_UNUSABLE] {settings.trouble}", to_do)
    if settings.unknown:
        names = ", ".join(settings.unknown)
        yield Finding("unknown settings", NOTE, names, "correct the spelling: docs/configuration.md lists all names")
    yield _configuration(settings, settings_directory)
    yield _key(settings, settings_directory)
    yield _journal(settings, journal_directory)
    with closing(RunflowClient(settings)) as client:
        clock = _clock(client)
        yield clock
        if settings.api_key is not None and clock.state != BAD:
            yield from _account(client)


def _program() -> Finding:
    formats = ", ".join(image_files.FORMATS)
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("program", GOOD, f"version {VERSION}, Python {version}, reads {formats}")


def _configuration(settings: Config, directory: Path) -> Finding:
    chosen = [f"{name} from {source}" for name, source in settings.sources.items() if name != "api_key"]
    said = f"{settings.base_url}, {settings.concurrency} requests at once, from {directory}"
    if settings.is_loopback:
        return Finding("configuration", NOTE, f"{said}; this is a sandbox: its verdicts are not Runflow's")
    return Finding("configuration", GOOD, "; ".join([said, *chosen]))


def _key(settings: Config, directory: Path) -> Finding:
    if settings.api_key is None:
        to_do = f"set one ({locations.command_line()} key set, or {config.KEY_VARIABLE}) to be judged by Runflow"
        return Finding("key", NOTE, "not set: images are checked locally", to_do)
    said = f"{settings.masked_key} from {settings.sources['api_key']}"
    path = directory / config.KEY_FILE
    try:
        is_open = os.name == "posix" and path.is_file() and path.stat().st_mode & 0o077
    except OSError as error:
        return Finding("key", NOTE, f"{said}; {path}: {error.strerror}", "correct the rights of that folder")
    if is_open:
        return Finding("key", BAD, f"{said}; others can read {path}", f"chmod 600 {path}, and consider a new key")
    return Finding("key", GOOD, said)


def _journal(settings: Config, directory: Path) -> Finding:
    try:
        with Journal.open(settings.journal_url, settings.journal_directory(directory)) as journal:
            spend, shared = journal.spent_today(), about.look_at(journal.store)
            where = journal.where if shared is None else f"{journal.where}: {shared.text}"
            said = f"{where}, today {spend.evaluations} of {settings.max_evaluations_per_day} evaluations"
            said = f"{said}, {plain(spend.credits)} credits"
            if shared is not None and abs(shared.clock_ahead_s) > CLOCK_MAY_DIFFER_S:
                text = f"{said}; its clock differs from this machine's by {abs(shared.clock_ahead_s):.0f} s"
                return Finding("journal", NOTE, text, "set the clocks: days and resends depend on them")
            if shared is None and settings.requests_per_second is not None:
                to_do = "give all machines one journal on PostgreSQL (docs/studio.md), or take the setting away"
                return Finding("journal", NOTE, f"{said}; requests_per_second does nothing without one", to_do)
            return Finding("journal", GOOD, said)
    except (RunflowError, OSError) as error:
        return Finding("journal", BAD, str(error), "until then it is not known what was paid before")


def _clock(client: RunflowClient) -> Finding:
    """Reachability and clock in one request, without the key."""
    began = time.monotonic()
    try:
        theirs = client.transport.server_time(Deadline.after(ANSWER_WITHIN_S))
    except RunflowError as error:
        return Finding("network", BAD, str(error), "check the connection, a proxy (HTTPS_PROXY) and RUNFLOW_BASE_URL")
    took = f"answers in {(time.monotonic() - began) * 1000:.0f} ms"
    if theirs is None:
        return Finding("network", GOOD, f"{took}; it does not send its clock time")
    ahead = time.time() - theirs
    if abs(ahead) > CLOCK_MAY_DIFFER_S:
        text = f"{took}; this machine's clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
        return Finding("network", BAD, text, "set the clock: days, limits and resends depend on it")
    return Finding("network", GOOD, f"{took}; clocks agree within {abs(ahead) + 1:.0f} s")


def _account(client: RunflowClient) -> Iterator[Finding]:
    try:
        client.check_account(deadline=Deadline.after(ANSWER_WITHIN_S))
    except RunflowError as error:
        yield Finding("account", BAD, str(error), f"check the key: {locations.command_line()} key show")
        return
    yield Finding("account", GOOD, "the key is accepted")
    yield _statuses(client)
    for scope in (CREATE, READ, EDIT):
        yield _scope(client, scope)


def _statuses(client: RunflowClient) -> Finding:
    """A status that this version does not know is waited for, since nobody can say whether it is an end."""
    try:
        listed = client.statuses(deadline=Deadline.after(ANSWER_WITHIN_S))
    except RunflowError as error:
        return Finding("statuses", NOTE, f"not known: {error}")
    unknown = sorted({str(one.get("code")) for one in listed} - set(EvaluationStatus))
    if unknown:
        return Finding("statuses", NOTE, f"not known here: {', '.join(unknown)}", "look for an update of this pack")
    return Finding("statuses", GOOD, f"all {len(listed)} are known")


def _scope(client: RunflowClient, scope: str) -> Finding:
    """Ask for something that cannot be: only a key with the scope is told so."""
    try:
        _probe(client, scope)
    except PermissionDeniedError as error:
        return Finding(scope, BAD, str(error), f"give the key the scope {scope}")
    except NotFoundError:
        pass
    except ApiError as error:
        if not 400 <= error.status < 500 or error.status in (401, 429):
            return Finding(scope, NOTE, f"not known: {error}")
    except RunflowError as error:
        return Finding(scope, NOTE, f"not known: {error}")
    return Finding(scope, GOOD, "allowed")


def _probe(client: RunflowClient, scope: str) -> None:
    """An empty submission, which is refused before anything is billed, or an id that is nobody's."""
    deadline = Deadline.after(ANSWER_WITHIN_S)
    if scope == CREATE:
        client.submit(b"{}", idempotency_key=NO_SUCH_ID, deadline=deadline)
    elif scope == READ:
        client.get_evaluation(NO_SUCH_ID, deadline=deadline)
    else:
        client.clear_feedback(NO_SUCH_ID, deadline=deadline)
