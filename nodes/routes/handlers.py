"""The pack's HTTP routes, under ``/runflow-evaluate/``, for its own web page and nobody else.

Answers are JSON of bounded size, or the history as a file; none holds a secret, and no request names a host or a
path. Every request needs an allowed ``Host`` (a name that was rebound to this machine is none), a change needs a
same-origin JSON request, and key and limits change from this machine only, unless ``web_remote_settings`` in the
config file says else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from aiohttp import web

from ...runflow_api import background
from ...runflow_api.api.transport import Deadline
from ...runflow_api.errors import (
    ApiError,
    ConfigurationError,
    InvalidInputError,
    NetworkError,
    NotFoundError,
    RunflowError,
)
from ...runflow_api.settings import config, key_file, user_settings
from .. import _ask, _thumbnails
from .._late import follow_up, views
from ..regenerate import graph as _loop

PREFIX = "/runflow-evaluate"
PACK = Path(__file__).absolute().parent.parent.parent
MAX_BODY = 16 * 1024
MAX_QUERY = 200
PAGE, MOST_ROWS = 100, 500
MAX_DAYS = 90
PRICE_WITHIN_S = 5.0
PRICE_LIVES_S, PRICE_AGAIN_S = 600.0, 30.0
"""How long prices are taken for true, and how soon they are asked for again after a failure."""
HASH_DIGITS = 16
CHECK_WITHIN_S = 15.0
"""How long a page waits for Runflow to take a rating, or to confirm a key."""
WITH_PANEL = ("RunflowEvaluateImage", "RunflowShowVerdict", "RunflowGetEvaluation", "RunflowRegenerateEnd")
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
"""A proxy on this machine makes every visitor look like this machine; these headers give it away."""

log = logging.getLogger("runflow_evaluate")
T = TypeVar("T")
Json = dict[str, Any]


class Refused(Exception):
    """A request that is not answered: the HTTP status, a stable code and a sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


# --- who may ask --------------------------------------------------------------------------------------


def check_host(host: str, allowed: tuple[str, ...]) -> None:
    """Refuse a name that is neither an address, nor this machine, nor configured (``web_hosts``).

    A page of another site can make its own name point here, but it cannot change the ``Host`` that browsers send.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # [::1 without its end
        name = ""
    if not (config.is_loopback_host(name) or is_address(name) or config.is_host_among(name, allowed)):
        raise Refused(
            403,
            "HOST_NOT_ALLOWED",
            f"Add {(name or host)[:80]!r} to RUNFLOW_WEB_HOSTS, or to web_hosts in config.json.",
        )


def is_address(name: str) -> bool:
    """Whether ``name`` is an IP address, which no rebinding can fake."""
    return bool(name) and (":" in name or name.replace(".", "").isdigit())


def check_same_origin(headers: Mapping[str, str]) -> None:
    """Refuse a change that another site's page may have sent."""
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site", "same-origin")
    try:
        same = origin is None or urlsplit(origin).netloc.lower() == headers.get("Host", "").lower()
    except ValueError:
        same = False
    if not same or site not in ("same-origin", "none"):
        raise Refused(403, "OTHER_ORIGIN", "This changes something: it is taken from ComfyUI's own page only.")


def is_this_machine(peer: str | None, headers: Mapping[str, str]) -> bool:
    return config.is_loopback_host((peer or "").removeprefix("::ffff:")) and not any(n in headers for n in FORWARDED)


async def json_body(params: web.Request) -> Json:
    """The request's JSON object, of at most ``MAX_BODY`` bytes."""
    if params.content_type != "application/json":
        raise Refused(415, "NOT_JSON", "Send JSON.")
    raw = await params.content.read(MAX_BODY + 1)
    while len(raw) <= MAX_BODY and (more := await params.content.read(MAX_BODY + 1)):
        raw += more
    if len(raw) > MAX_BODY:
        raise Refused(413, "TOO_LARGE", f"At most {MAX_BODY} bytes.")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "NOT_JSON", "The body is no JSON.") from error
    if not isinstance(body, dict):
        raise Refused(400, "NOT_JSON", "The body must be one JSON object.")
    return body


# --- what is asked ------------------------------------------------------------------------------------


class Handlers:
    """The answers, as plain methods from JSON to JSON. ``is_local``: the request may see and change settings."""

    def __init__(
        self,
        evaluator: Callable[[], Any],
        directory: Callable[[], Path],
        comfyui: Callable[[], Path],
        workflow_of: Callable[[str], str],
        graph_of: Callable[[str], _loop.Graph],
    ) -> None:
        self._evaluator, self._directory, self._comfyui = evaluator, directory, comfyui
        self._workflow_of, self._graph_of = workflow_of, graph_of
        self._prices: dict[str, str] = {}
        self._priced_for, self._priced_at = "", 0.0

    def settings(self) -> config.Config:
        return config.load(self._directory())

    async def status(self, params: Json, is_local: bool) -> Json:
        """What a panel says before Run: who would judge, and what it would cost."""
        current = self.settings()
        return {
            "judge": "runflow" if current.api_key else "local",
            "prices": await self._known_prices(current) if current.api_key else {},
        }

    async def history(self, params: Json, is_local: bool) -> Json:
        """A page of evaluations, newest first; ``next`` is the ``before`` of the page after it."""
        return await _in_thread(lambda: self._page(params))

    def _page(self, params: Json) -> Json:
        before, limit = _number(params, "before", None, 2**62), _number(params, "limit", PAGE, MOST_ROWS)
        outcome, search = params.get("outcome") or None, str(params.get("search", ""))[:MAX_QUERY]
        rows = self._evaluator().journal().history(before=before, limit=limit, outcome=outcome, search=search)
        return {"rows": [views.line(row) for row in rows], "next": rows[-1].id if len(rows) == limit else None}

    async def history_csv(self, params: Json, is_local: bool) -> str:
        """All that a search and a filter leave of the history, for spreadsheets."""
        return await _in_thread(lambda: views.as_csv(self._lines(params)))

    async def history_json(self, params: Json, is_local: bool) -> str:
        return await _in_thread(lambda: json.dumps(list(self._lines(params)), indent=2))

    def _lines(self, params: Json) -> Iterator[Json]:
        page: Json = {"next": ""}
        while page["next"] is not None:
            page = self._page({**params, "before": page["next"], "limit": MOST_ROWS})
            yield from page["rows"]

    async def detail(self, params: Json, is_local: bool) -> Json:
        """Everything one evaluation says, from the journal."""
        row = await _in_thread(lambda: self._evaluator().journal().find_evaluation(str(params["id"])[:MAX_QUERY]))
        if row is None:
            raise Refused(404, "UNKNOWN_EVALUATION", "The journal does not have this evaluation.")
        return await _in_thread(lambda: views.detail(row))

    async def days(self, params: Json, is_local: bool) -> Json:
        """Totals per UTC day, today's last, and the limits they count against."""
        days = _number(params, "days", 30, MAX_DAYS)
        current = self.settings()
        credits = current.max_credits_per_day
        totals = await _in_thread(lambda: self._evaluator().journal().per_day(days))
        spent = await _in_thread(lambda: self._evaluator().journal().spent_today())
        return {
            "days": [views.day(total) for total in totals],
            "today": {"evaluations": spent.evaluations, "credits": f"{spent.credits:f}", "unpriced": spent.unpriced},
            "limits": {
                "evaluations": current.max_evaluations_per_day,
                "credits": None if credits is None else float(credits),
            },
        }

    async def prompt(self, params: Json, is_local: bool) -> Json:
        """Which workflow a prompt was queued from: ComfyUI's events name nodes, whose ids another one has too.

        ``nodes``: for each node with a panel a hash of all that its result depends on. A node that ComfyUI has in its
        cache sends nothing; by the hash the page knows which of the verdicts it saw belongs to the prompt.
        """
        prompt_id = str(params["id"])[:MAX_QUERY]
        graph = self._graph_of(prompt_id)
        shown = [node for node, info in graph.items() if info["class_type"] in WITH_PANEL]
        return {
            "workflow": self._workflow_of(prompt_id),
            "nodes": {node: _loop.identity(graph, node)[:HASH_DIGITS] for node in shown},
        }

    async def feedback(self, params: Json, is_local: bool) -> Json:
        """Rate an evaluation; what Runflow has now."""
        evaluation_id, rating = str(params.get("id", "")), str(params.get("rating", ""))
        reason = str(params.get("reason", ""))
        if rating not in ("good", "bad", "clear"):
            raise InvalidInputError("rating", "must be good, bad or clear.")
        sending = follow_up.feedback(self._evaluator(), [evaluation_id], rating, reason)
        (now,) = await run_with_timeout(sending, CHECK_WITHIN_S)
        return {"feedback": views.feedback(now.to_json())}

    async def read_settings(self, params: Json, is_local: bool) -> Json:
        current = self.settings()
        shown: Json = {"may_change": is_local, "key": {"set": current.api_key is not None}}
        if is_local:
            shown["settings"] = user_settings.shown(current)
            shown["key"] |= {
                "masked": current.masked_key,
                "source": current.sources.get("api_key", ""),
                "fixed": _is_fixed(current),
                "importable": not _is_fixed(current) and await _in_thread(lambda: self._importable(current)),
                "sandbox": current.is_loopback,
            }
        return shown

    async def change_settings(self, params: Json, is_local: bool) -> Json:
        _require(is_local)
        await _in_thread(lambda: user_settings.change(self._directory(), params))
        return await self.read_settings({}, is_local)

    async def key(self, params: Json, is_local: bool) -> Json:
        """Set, import or remove the key. It comes in and never goes out."""
        _require(is_local)
        action = params.get("action")
        if action in ("set", "import"):
            _require_free(self.settings())
        if action == "set":
            given = params.get("key")
            await _in_thread(lambda: key_file.store(self._directory(), given if isinstance(given, str) else ""))
        elif action == "import":
            await _in_thread(lambda: key_file.store(self._directory(), key_file.official(self._comfyui())))
        elif action == "remove":
            await _in_thread(lambda: key_file.remove(self._directory()))
        else:
            raise InvalidInputError("action", "must be set, import or remove.")
        self._priced_at = 0.0
        return await self.read_settings({}, is_local)

    async def check(self, params: Json, is_local: bool) -> Json:
        """Ask Runflow whether the key works, and what is left on the account."""
        _require(is_local)
        self.settings().require_key()
        client = self._evaluator().client
        deadline = Deadline.after(CHECK_WITHIN_S)
        account = await _in_thread(lambda: client.check_account(deadline=deadline))
        try:
            balance = await _in_thread(lambda: client.balance(deadline=deadline))
        except (ApiError, NetworkError) as error:
            balance = {}
            log.info("The balance could not be read: %s", error)
        return {"account": _name_of(account), "balance": _balance_of(balance)}

    def thumbnail(self, name: str) -> Path | None:
        return _thumbnails.find(self._directory(), name)

    def _importable(self, current: config.Config) -> bool:
        """Whether the deploy pack has a key, and another one than is set already."""
        try:
            found = key_file.official(self._comfyui())
        except RunflowError:
            return False
        return current.api_key is None or found != current.api_key.get_secret_value()

    async def _known_prices(self, current: config.Config) -> dict[str, str]:
        """Prices by job class, asked for at most once in a while; empty where they cannot be read soon."""
        account = f"{current.base_url} {current.masked_key}"
        fresh = self._priced_for == account and time.monotonic() - self._priced_at < PRICE_LIVES_S
        if not (fresh and self._priced_at):
            self._priced_for, self._priced_at = account, time.monotonic()
            self._prices = {}
            client, deadline = self._evaluator().client, Deadline.after(PRICE_WITHIN_S)
            try:
                classes = await _in_thread(lambda: client.job_classes(deadline=deadline))
                known = {each.code: each.price for each in classes[:50] if each.code and each.price is not None}
                self._prices = {code: f"{price:f}" for code, price in known.items()}
            except RunflowError as error:
                self._priced_at -= PRICE_LIVES_S - PRICE_AGAIN_S
                log.info("The prices could not be read: %s", error)
        return self._prices


def _require(is_local: bool) -> None:
    if not is_local:
        raise Refused(
            403,
            "THIS_MACHINE_ONLY",
            "Key and limits change on the machine that ComfyUI runs on. To allow other machines, set "
            "web_remote_settings to true in the pack's config.json.",
        )


def _is_fixed(current: config.Config) -> bool:
    return current.sources.get("api_key", "").startswith("environment")


def _require_free(current: config.Config) -> None:
    if _is_fixed(current):
        raise Refused(
            409,
            "KEY_SET_OUTSIDE",
            f"The key comes from the {current.sources['api_key']}, which wins over a stored one: change it there. "
            "Nothing was saved.",
        )


def _number(params: Json, name: str, default: int | None, most: int) -> int | None:
    raw = params.get(name)
    if raw in (None, ""):
        return default
    try:
        number = int(str(raw)[:20])
    except ValueError as error:
        raise InvalidInputError(name, "is no number.") from error
    return min(max(number, 1), most)


def _name_of(account: Json) -> str:
    """Something that tells the person which account it is, wherever the API puts it."""
    for name in ("organization_name", "org_name", "name", "email", "org_id", "organization_id", "id"):
        if isinstance(account.get(name), str):
            return account[name][:200]
    return ""


def _balance_of(balance: Json) -> str | None:
    for name in ("balance", "credits", "available", "amount"):
        value = balance.get(name)
        if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
            return str(value)[:40]
    return None


async def _in_thread(call: Callable[[], T]) -> T:
    """A blocking call in a daemon thread: ComfyUI's own loop goes on, and its exit does not wait."""
    return await asyncio.wrap_future(background.call(call))


async def run_with_timeout(work: Any, seconds: float) -> Any:
    future = background.start(work)
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
    except asyncio.TimeoutError as error:
        raise Refused(504, "TIMEOUT", "Runflow did not answer in time. Sending it again is safe.") from error
    finally:
        future.cancel()


# --- routes -------------------------------------------------------------------------------------------

Method = Callable[[Json, bool], Awaitable[Any]]
Respond = Callable[[Any], web.Response]


def add_to(table: web.RouteTableDef, desk: Handlers) -> None:
    reads = {
        "status": desk.status,
        "history": desk.history,
        "history/{id}": desk.detail,
        "days": desk.days,
        "prompts/{id}": desk.prompt,
        "settings": desk.read_settings,
        "ask": _ask.pending,
    }
    changes = {
        "feedback": desk.feedback,
        "settings": desk.change_settings,
        "key": desk.key,
        "check": desk.check,
        "ask": _ask.answer,
    }
    for name, method in reads.items():
        table.get(f"{PREFIX}/{name}")(_answering(desk, method))
    files = {"history.csv": (desk.history_csv, "text/csv"), "history.json": (desk.history_json, "application/json")}
    for name, (method, kind) in files.items():
        table.get(f"{PREFIX}/{name}")(_answering(desk, method, respond=_file(f"runflow-{name}", kind)))
    for name, method in changes.items():
        table.post(f"{PREFIX}/{name}")(_answering(desk, method, changes=True))
    table.get(f"{PREFIX}/thumbnails/{{name}}")(_thumbnail(desk))
    table.get(f"{PREFIX}/ask/{{id}}/{{index}}")(_asked_picture(desk))


def _answering(
    desk: Handlers, method: Method, *, changes: bool = False, respond: Respond | None = None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(params: web.Request) -> web.Response:
        try:
            current = _configured(desk)
            check_host(params.headers.get("Host", ""), current.web_hosts)
            if changes:
                check_same_origin(params.headers)
            body = await json_body(params) if changes else {**params.query, **params.match_info}
            is_local = current.web_remote_settings or is_this_machine(params.remote, params.headers)
            return (respond or _json)(await method(body, is_local))
        except Refused as error:
            return _json(error_body(error.code, str(error)), error.status)
        except RunflowError as error:
            return _json(error_body(error.code, error.text), _status_of(error))

    return answer


def _file(name: str, kind: str) -> Respond:
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}"'}
    return lambda text: web.Response(text=text, content_type=kind, headers=headers)


def _configured(desk: Handlers) -> config.Config:
    """The settings that guard the routes; the strict defaults where the file cannot be read."""
    try:
        return desk.settings()
    except ConfigurationError:
        return config.Config()


def _thumbnail(desk: Handlers) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(params: web.Request) -> web.StreamResponse:
        try:
            check_host(params.headers.get("Host", ""), _configured(desk).web_hosts)
        except Refused as error:
            return _json(error_body(error.code, str(error)), error.status)
        file = await _in_thread(lambda: desk.thumbnail(params.match_info["name"]))
        if file is None:
            # No error: which images have one is not known to the page, and a 404 would fill its console.
            return web.Response(status=204)
        headers = {
            "Content-Type": "image/webp",
            "Cache-Control": "private, max-age=86400",
            "X-Content-Type-Options": "nosniff",
        }
        return web.Response(body=await _in_thread(file.read_bytes), headers=headers)

    return answer


def _asked_picture(desk: Handlers) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(params: web.Request) -> web.StreamResponse:
        try:
            check_host(params.headers.get("Host", ""), _configured(desk).web_hosts)
        except Refused as error:
            return _json(error_body(error.code, str(error)), error.status)
        encoded = await _ask.picture(params.match_info["id"], params.match_info["index"])
        if encoded is None:
            return web.Response(status=204)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=encoded.data, content_type=encoded.mime_type, headers=headers)

    return answer


def error_body(code: str, message: str) -> Json:
    return {"error": {"code": code, "message": message}}


def _status_of(error: RunflowError) -> int:
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, InvalidInputError | ConfigurationError):
        return 400
    return 502 if isinstance(error, ApiError | NetworkError) else 409


def _json(body: Json, status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.json_response(body, status=status, headers=headers)


def register() -> None:
    """Add the routes to ComfyUI's server, which also serves them under ``/api``. Without a server: nothing."""
    import folder_paths
    from server import PromptServer

    from .. import _runtime
    from ..regenerate import saved_metadata as _winners

    def user_directory() -> Path:
        return Path(folder_paths.get_user_directory())

    if quote(PACK.name) != PACK.name:  # aiohttp does not find them: its issue 13433
        log.warning("ComfyUI serves no scripts out of a folder named %r. Rename it to runflow-evaluate.", PACK.name)
    server = getattr(PromptServer, "instance", None)

    def graph_of(prompt_id: str) -> _loop.Graph:
        """What runs, or ran, of a prompt. The rest of it was not checked by ComfyUI and may be anything."""
        running = _winners.running(prompt_id)
        item = running or server.prompt_queue.get_history(prompt_id).get(prompt_id, {}).get("prompt")
        return {node: item[2][node] for node in _loop.upstream(item[2], item[4])} if item else {}

    if server is not None:
        desk = Handlers(_runtime.evaluator, _runtime.private_directory, user_directory, _winners.workflow_of, graph_of)
        add_to(server.routes, desk)
