"""``sandbox``: serve the evaluation API on this machine. The sandbox itself is in the repository and on PyPI only."""

from __future__ import annotations

import argparse
import re
import signal
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidInputError
from ..settings.config import SANDBOX_KEY
from .exit_codes import OK, USAGE
from .terminal import Terminal

if TYPE_CHECKING:
    from ..sandbox.app import RequestRecord, Sandbox

DEFAULT_PORT = 8790
"""ComfyUI listens on 8188, and Comfy's own comfy-api-proxy on 8189."""
NOT_HERE = (
    "[SANDBOX_NOT_INSTALLED] This copy of the pack comes from the registry, which leaves the sandbox out. It is in the "
    "repository and on PyPI: pip install runflow-evaluate, then runflow-evaluate sandbox."
)

ENDING = (signal.SIGINT, signal.SIGTERM)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``sandbox``."""
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, help="port on 127.0.0.1; 0 chooses a free one")
    parser.add_argument("--latency", type=_seconds, default=2.0, help="seconds until an evaluation completes")
    parser.add_argument("--price", type=_credits, default=Decimal("0.10"), help="credits of one evaluation")
    parser.add_argument("--balance", type=_credits, default=Decimal("100"), help="credits to begin with")
    parser.add_argument("--key", type=_test_key, default=SANDBOX_KEY, help="the key to accept; not a real one")
    parser.add_argument("--script", type=Path, metavar="FILE.json", help='{"verdicts": [], "faults": [], "runs": []}')
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="'METHOD PATH KIND [xN]'",
        help="e.g. 'POST /v1/evaluations drop_after x1', 'GET /v1/evaluations/.* status x2 status=429'",
    )


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Serve until Ctrl-C or SIGTERM; 0, or 2 if an option, the script or the port cannot be used.

    Raises ``InvalidInputError`` for a script or a fault that cannot be understood.
    """
    try:
        from ..sandbox import app
    except ModuleNotFoundError as error:
        if not str(error.name).endswith("sandbox"):
            raise
        terminal.say(NOT_HERE)
        return USAGE
    sandbox = _sandbox_of(args)
    try:
        sandbox.start()
    except OSError as error:
        terminal.say(f"[PORT_UNAVAILABLE] {args.port}: {error.strerror}. Choose another with --port.")
        return USAGE
    try:
        _say(f"{app.GREETING}{_instructions(sandbox)}")
        _wait_for_the_end()
        return OK
    finally:
        sandbox.stop()
        _say(_summary(sandbox))


def _wait_for_the_end() -> None:
    """Return at SIGINT or SIGTERM, also if a shell started this with them ignored."""
    earlier = {number: signal.signal(number, signal.default_int_handler) for number in ENDING}
    try:
        while True:
            time.sleep(0.5)  # short, so that Ctrl-C is seen on Windows too
    except KeyboardInterrupt:
        return
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _sandbox_of(args: argparse.Namespace) -> Sandbox:
    from ..sandbox.app import Sandbox
    from ..sandbox.faults import Script, load_script, parse_fault

    script = load_script(args.script) if args.script else Script()
    faults = [*(parse_fault(text) for text in args.fault), *script.faults]
    sandbox = Sandbox(
        args.port,
        args.key,
        args.latency,
        args.price,
        args.balance,
        faults=faults,
        verdicts=script.verdicts,
        keep_bodies=False,
        on_request=_say_request,
    )
    for index, fields in enumerate(script.runs):
        try:
            sandbox.add_run(**fields)
        except TypeError as error:
            raise InvalidInputError("--script", f"runs[{index}]: {error}") from error
    return sandbox


def _instructions(sandbox: Sandbox) -> str:
    return f"""
  sh          export RUNFLOW_BASE_URL={sandbox.url} RUNFLOW_API_KEY={sandbox.api_key}
  PowerShell  $env:RUNFLOW_BASE_URL = "{sandbox.url}"; $env:RUNFLOW_API_KEY = "{sandbox.api_key}"

Price {sandbox.price}, balance {sandbox.balance}, latency {sandbox.latency:g} s. Ctrl-C ends.
"""


def _say_request(record: RequestRecord) -> None:
    _say(_line(record))


def _line(record: RequestRecord) -> str:
    """Method, path, status, milliseconds: no key, no body, no upload token, no control characters."""
    path = re.sub(r"^/uploads/.*", "/uploads/...", re.sub(r"[^!-~]", "?", record.path))
    status = "-" if record.status is None else str(record.status)
    fault = f"  {record.fault}" if record.fault else ""
    return f"{record.method:6} {path}  {status}  {(record.seconds or 0) * 1000:.0f} ms{fault}"


def _summary(sandbox: Sandbox) -> str:
    bills = sandbox.bills
    charged = sum((price for _, price in bills), Decimal(0))
    evaluations = len(sandbox.evaluations)
    return f'\n{evaluations} evaluations, {charged} credits "charged" for {len(bills)} of them. Nothing was paid.'


def _say(text: str) -> None:
    print(text, flush=True)


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65_535:
        raise argparse.ArgumentTypeError("not a port from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("not a number of seconds from 0")
    return value


def _credits(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not value.is_finite() or value < 0:
        raise argparse.ArgumentTypeError("not an amount of credits from 0")
    return value


def _test_key(text: str) -> str:
    if text.startswith("rf_live_"):
        raise argparse.ArgumentTypeError("that looks like a real key; the sandbox prints its key")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", text):
        raise argparse.ArgumentTypeError("letters, digits, - and _ only")
    return text
