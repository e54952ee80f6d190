"""The pack's HTTP routes, under ``/runflow-evaluate/``, for its own web page and nobody else.

No request names a host or a path. Every request needs an allowed ``Host``, a change needs a same-origin JSON request,
and key and limits change from this machine only, unless ``web_remote_settings`` says otherwise.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from server import PromptServer

from ...runflow_api._files import rights_trouble
from ...runflow_api.errors import (
    ApiError,
    ConfigurationError,
    InvalidInputError,
    NetworkError,
    NotFoundError,
    RunflowError,
)
from ...runflow_api.settings import config
from .. import _ask, _shown
from .._runtime import editor_settings_file, evaluator, private_directory, settings
from .guards import MAX_BODY, MAX_PROMPT, Refused, check_host, check_same_origin, is_this_machine, json_body
from .handlers import Handlers, Json, Visitor, in_thread
from .insight import InsightHandlers

PREFIX = "/runflow-evaluate"
PACK = Path(__file__).absolute().parent.parent.parent

log = logging.getLogger("runflow_evaluate")
Method = Callable[[Json, Visitor], Awaitable[Any]]
Respond = Callable[[Any], web.Response]


def add_to(table: web.RouteTableDef, handlers: Handlers, insight: InsightHandlers) -> None:
    reads: dict[str, Method] = {
        "status": handlers.status,
        "history": handlers.history,
        "history/{id}": handlers.detail,
        "days": handlers.days,
        "panels": handlers.panels,
        "settings": handlers.read_settings,
        "ask": _ask.pending,
        "insight": insight.overview,
        "insight/to-rate": insight.to_rate,
    }
    changes: dict[str, Method] = {
        "panels": handlers.note_queued,
        "feedback": handlers.feedback,
        "collect": handlers.collect,
        "settings": handlers.change_settings,
        "key": handlers.key,
        "check": handlers.check,
        "ask": _ask.answer,
        "insight/rate": insight.rate,
    }
    for name, method in reads.items():
        table.get(f"{PREFIX}/{name}")(_answering(handlers, method))
    files = {
        "history.csv": (handlers.history_csv, "text/csv"),
        "history.json": (handlers.history_json, "application/json"),
        "insight.csv": (insight.csv, "text/csv"),
    }
    for name, (whole_file, kind) in files.items():
        as_file = partial(_file, name=f"runflow-{name}", kind=kind)
        table.get(f"{PREFIX}/{name}")(_answering(handlers, whole_file, respond=as_file))
    for name, method in changes.items():
        table.post(f"{PREFIX}/{name}")(_answering(handlers, method, changes=True))
    table.post(f"{PREFIX}/price")(_answering(handlers, handlers.price, changes=True, most=MAX_PROMPT))
    table.get(f"{PREFIX}/thumbnails/{{name}}")(_thumbnail(handlers))
    table.get(f"{PREFIX}/ask/{{id}}/{{index}}")(_asked_picture(handlers))


def _answering(
    handlers: Handlers, method: Method, *, changes: bool = False, respond: Respond | None = None, most: int = MAX_BODY
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            current = _configured(handlers)
            check_host(request.headers.get("Host", ""), current.web_hosts)
            if changes:
                check_same_origin(request.headers, current.web_hosts)
            body = await json_body(request, most) if changes else {**request.query, **request.match_info}
            is_local = current.web_remote_settings or is_this_machine(request.remote, request.headers)
            visitor = Visitor(is_local, editor_settings(request))
            return (respond or _json)(await method(body, visitor))
        except Refused as error:
            return _json(error_body(error.code, str(error)), error.status)
        except RunflowError as error:
            return _json(error_body(error.code, error.text), _status_of(error))
        except OSError as error:  # the private folder belongs to another user, or the disk is full
            return _json(error_body("FOLDER_NOT_USABLE", f"{rights_trouble(handlers.directory(), error)}."), 409)

    return answer


def _file(text: str, name: str, kind: str) -> web.Response:
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(text=text, content_type=kind, headers=headers)


def _configured(handlers: Handlers) -> config.Config:
    """The settings that guard the routes; the strict defaults where the file cannot be read."""
    try:
        return handlers.settings()
    except ConfigurationError:
        return config.Config()


def _asked_picture(handlers: Handlers) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            check_host(request.headers.get("Host", ""), _configured(handlers).web_hosts)
        except Refused as error:
            return _json(error_body(error.code, str(error)), error.status)
        encoded = await _ask.picture(request.match_info["id"], request.match_info["index"])
        if encoded is None:
            return web.Response(status=204)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=encoded.data, content_type=encoded.mime_type, headers=headers)

    return answer


def _thumbnail(handlers: Handlers) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            check_host(request.headers.get("Host", ""), _configured(handlers).web_hosts)
        except Refused as error:
            return _json(error_body(error.code, str(error)), error.status)
        file = await in_thread(handlers.thumbnail, request.match_info["name"], "large" in request.query)
        if file is None:
            # No error: which images have one is not known to the page, and a 404 would fill its console.
            return web.Response(status=204)
        headers = {
            "Content-Type": "image/webp",
            "Cache-Control": "private, max-age=86400",
            "X-Content-Type-Options": "nosniff",
        }
        return web.Response(body=await in_thread(file.read_bytes), headers=headers)

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


def _other_copy(table: web.RouteTableDef) -> str | None:
    """The folder of the copy of the pack that has added its routes already, ``None`` if there is none."""
    for route in table:
        if isinstance(route, web.RouteDef) and route.path.startswith(f"{PREFIX}/"):
            file = Path(inspect.getfile(route.handler))
            return str(next((folder for folder in file.parents if (folder / "pyproject.toml").is_file()), file))
    return None


def editor_settings(request: web.Request) -> Path:
    """The settings file of the user whose page asks, as ComfyUI tells users apart with ``--multi-user``."""
    try:
        user = PromptServer.instance.user_manager.get_request_user_id(request)
    except KeyError:  # ComfyUI knows no such user
        user = "default"
    return editor_settings_file(user)


def register() -> None:
    """Add the routes to ComfyUI's server, which also serves them under ``/api``.

    Raises ``ConfigurationError`` in a second copy of the pack: ComfyUI would take the nodes of this one and the routes
    of the other, and what a person answers in the editor would reach no node.
    """
    if other := _other_copy(PromptServer.instance.routes):
        raise ConfigurationError(
            f"ComfyUI-Runflow-Evaluate is installed twice. {other} is used and {PACK} is not: remove one of the two "
            "folders from custom_nodes and restart ComfyUI."
        )
    if quote(PACK.name) != PACK.name:  # aiohttp does not find them: its issue 13433
        log.warning("ComfyUI does not serve scripts from a folder named %r. Rename it to runflow-evaluate.", PACK.name)
    handlers = Handlers(evaluator, settings, private_directory, _shown.states_of, _shown.note_queued)
    add_to(PromptServer.instance.routes, handlers, InsightHandlers(evaluator, private_directory))
