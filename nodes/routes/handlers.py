"""What the routes answer: from JSON to JSON of bounded size, or the history as a file; never a secret."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ...runflow_api import background
from ...runflow_api.api.transport import Deadline
from ...runflow_api.errors import ApiError, InvalidInputError, NetworkError, RunflowError
from ...runflow_api.evaluation.question import RATINGS, Rating
from ...runflow_api.settings import config, key_file, user_settings
from .. import _thumbnails
from ..regenerate.graph import Graph, identities
from .guards import THIS_MACHINE_ONLY, Refused

MAX_QUERY = 200
PAGE, MAX_ROWS = 100, 500
MAX_DAYS = 90
MAX_PRICES = 50
PRICE_WITHIN_S = 5.0
HASH_DIGITS = 16
CHECK_WITHIN_S = 15.0
"""How long a page waits for Runflow to take a rating, or to confirm a key."""
WITH_PANEL = ("RunflowEvaluateImage", "RunflowShowVerdict", "RunflowGetEvaluation", "RunflowRegenerateEnd")

log = logging.getLogger("runflow_evaluate")
T = TypeVar("T")
Json = dict[str, Any]


@dataclass(frozen=True)
class Visitor:
    """Whose page asks.

    ``is_local``: it may see and change settings. ``editor_settings``: the file where ComfyUI keeps this user's choices.
    """

    is_local: bool
    editor_settings: Path


class Handlers:
    """The answers, as plain methods from JSON to JSON."""

    def __init__(
        self,
        evaluator: Callable[[], Any],
        settings: Callable[[], config.Config],
        directory: Callable[[], Path],
        workflow_of: Callable[[str], str],
        graph_of: Callable[[str], Graph],
    ) -> None:
        self._evaluator, self.settings, self.directory = evaluator, settings, directory
        self._workflow_of, self._graph_of = workflow_of, graph_of

    async def status(self, params: Json, visitor: Visitor) -> Json:
        """What a panel says before Run: who would judge, and what it would cost."""
        current = self.settings()
        return {
            "judge": "runflow" if current.api_key else "local",
            "prices": await in_thread(self._known_prices) if current.api_key else {},
        }

    def _known_prices(self) -> dict[str, str]:
        """Credits by job class; empty where they cannot be read soon."""
        known = self._evaluator().prices.all(Deadline.after(PRICE_WITHIN_S))
        return {code: f"{price:f}" for code, price in list(known.items())[:MAX_PRICES]}

    async def history(self, params: Json, visitor: Visitor) -> Json:
        """A page of evaluations, newest first; ``next`` is the ``before`` of the page after it."""
        return await in_thread(self._page, params)

    def _page(self, params: Json) -> Json:
        before, limit = _number(params, "before", None, 2**62), _number(params, "limit", PAGE, MAX_ROWS)
        outcome, search = params.get("outcome") or None, str(params.get("search", ""))[:MAX_QUERY]
        rows = self._evaluator().journal().history(before=before, limit=limit, outcome=outcome, search=search)
        from ...runflow_api.journal import views

        return {"rows": [views.line(row) for row in rows], "next": rows[-1].id if len(rows) == limit else None}

    async def history_csv(self, params: Json, visitor: Visitor) -> str:
        """All that a search and a filter leave of the history, for spreadsheets."""
        from ...runflow_api.journal import views

        return await in_thread(views.as_csv, self._lines(params))

    async def history_json(self, params: Json, visitor: Visitor) -> str:
        return json.dumps(await in_thread(list, self._lines(params)), indent=2)

    def _lines(self, params: Json) -> Iterator[Json]:
        page: Json = {"next": ""}
        while page["next"] is not None:
            page = self._page({**params, "before": page["next"], "limit": MAX_ROWS})
            yield from page["rows"]

    async def detail(self, params: Json, visitor: Visitor) -> Json:
        """Everything one evaluation says, from the journal."""
        from ...runflow_api.journal import views

        row = await in_thread(self._find, str(params["id"])[:MAX_QUERY])
        if row is None:
            raise Refused(404, "UNKNOWN_EVALUATION", "The journal does not have this evaluation.")
        return await in_thread(views.detail, row)

    def _find(self, evaluation_id: str) -> Any:
        return self._evaluator().journal().find_evaluation(evaluation_id)

    async def days(self, params: Json, visitor: Visitor) -> Json:
        """Totals per UTC day, today's last, and the limits they count against."""
        days = _number(params, "days", 30, MAX_DAYS)
        current = self.settings()
        from ...runflow_api.journal import views

        credits = current.max_credits_per_day
        totals, spent = await in_thread(self._spent, days)
        return {
            "days": [views.day(total) for total in totals],
            "today": {"evaluations": spent.evaluations, "credits": f"{spent.credits:f}", "unpriced": spent.unpriced},
            "limits": {
                "evaluations": current.max_evaluations_per_day,
                "credits": None if credits is None else float(credits),
            },
        }

    def _spent(self, days: int) -> tuple[Any, Any]:
        journal = self._evaluator().journal()
        return journal.per_day(days), journal.spent_today()

    async def prompt(self, params: Json, visitor: Visitor) -> Json:
        """Which workflow a prompt was queued from: ComfyUI's events name nodes, whose ids another one has too.

        ``nodes``: for each node with a panel a hash of all that its result depends on. A node that ComfyUI has in its
        cache sends nothing; by the hash the page knows which of the verdicts it saw belongs to the prompt.
        """
        prompt_id = str(params["id"])[:MAX_QUERY]
        graph = self._graph_of(prompt_id)
        shown = [node for node, info in graph.items() if info["class_type"] in WITH_PANEL]
        hashes = identities(graph, shown)
        return {
            "workflow": self._workflow_of(prompt_id),
            "nodes": {node: hashes[node][:HASH_DIGITS] for node in shown},
        }

    async def feedback(self, params: Json, visitor: Visitor) -> Json:
        """Rate an evaluation; what Runflow has now."""
        from ...runflow_api.evaluation import lookup
        from ...runflow_api.journal import views

        evaluation_id, reason = str(params.get("id", "")), str(params.get("reason", ""))
        rating: Rating | None = next((each for each in RATINGS if each == params.get("rating")), None)
        if rating is None or rating == "none":
            raise InvalidInputError("rating", "must be good, bad or clear.")
        sending = lookup.feedback(self._evaluator(), [evaluation_id], rating, reason)
        (now,) = await run_with_timeout(sending, CHECK_WITHIN_S)
        return {"feedback": views.feedback(now.to_json())}

    async def read_settings(self, params: Json, visitor: Visitor) -> Json:
        current = self.settings()
        shown: Json = {"may_change": visitor.is_local, "key": {"set": current.api_key is not None}}
        if visitor.is_local:
            shown["settings"] = user_settings.shown(current)
            shown["key"] |= {
                "masked": current.masked_key,
                "source": current.sources.get("api_key", ""),
                "fixed": _is_fixed(current),
                "importable": not _is_fixed(current)
                and await in_thread(_is_importable, current, visitor.editor_settings),
                "sandbox": current.is_loopback,
            }
        return shown

    async def change_settings(self, params: Json, visitor: Visitor) -> Json:
        _require_local(visitor)
        await in_thread(user_settings.change, self.directory(), params)
        return await self.read_settings({}, visitor)

    async def key(self, params: Json, visitor: Visitor) -> Json:
        """Set, import or remove the key. It comes in and never goes out."""
        _require_local(visitor)
        action = params.get("action")
        if action in ("set", "import"):
            _require_not_fixed(self.settings())
        if action == "set":
            given = params.get("key")
            await in_thread(key_file.store, self.directory(), given if isinstance(given, str) else "")
        elif action == "import":
            imported = await in_thread(key_file.official, visitor.editor_settings)
            await in_thread(key_file.store, self.directory(), imported)
        elif action == "remove":
            await in_thread(key_file.remove, self.directory())
        else:
            raise InvalidInputError("action", "must be set, import or remove.")
        return await self.read_settings({}, visitor)

    async def check(self, params: Json, visitor: Visitor) -> Json:
        """Ask Runflow whether the key works, and what is left on the account."""
        _require_local(visitor)
        self.settings().require_key()
        client = self._evaluator().client
        deadline = Deadline.after(CHECK_WITHIN_S)
        account = await in_thread(partial(client.check_account, deadline=deadline))
        try:
            balance = await in_thread(partial(client.balance, deadline=deadline))
        except (ApiError, NetworkError) as error:
            balance = {}
            log.info("The balance could not be read: %s", error)
        return {"account": _name_of(account), "balance": _balance_of(balance)}

    def thumbnail(self, name: str) -> Path | None:
        return _thumbnails.find(self.directory(), name)


def _require_local(visitor: Visitor) -> None:
    if not visitor.is_local:
        raise Refused(403, "THIS_MACHINE_ONLY", THIS_MACHINE_ONLY)


def _is_importable(current: config.Config, editor_settings: Path) -> bool:
    """Whether the deploy pack has a key, and another one than is set already."""
    try:
        found = key_file.official(editor_settings)
    except RunflowError:
        return False
    return current.api_key is None or found != current.api_key.get_secret_value()


def _is_fixed(current: config.Config) -> bool:
    return current.sources.get("api_key", "").startswith("environment")


def _require_not_fixed(current: config.Config) -> None:
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
        raise InvalidInputError(name, "is not a number.") from error
    return min(max(number, 1), most)


def _name_of(account: Json) -> str:
    """Something that tells the person which account it is, wherever the API puts it."""
    for name in ("organization_name", "org_name", "name", "email", "org_id", "organization_id", "id"):
        if isinstance(account.get(name), str):
            return str(account[name])[:200]
    return ""


def _balance_of(balance: Json) -> str | None:
    for name in ("balance", "credits", "available", "amount"):
        value = balance.get(name)
        if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
            return str(value)[:40]
    return None


async def in_thread(call: Callable[..., T], *args: Any) -> T:
    """A blocking call in a daemon thread: ComfyUI's own loop goes on, and its exit does not wait."""
    return await asyncio.wrap_future(background.call(call, *args))


async def run_with_timeout(work: Any, seconds: float) -> Any:
    future = background.start(work)
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
    except asyncio.TimeoutError as error:
        raise Refused(504, "TIMEOUT", "Runflow did not answer in time. Sending it again is safe.") from error
    finally:
        future.cancel()
