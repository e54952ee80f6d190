"""What the routes answer: from JSON to JSON of bounded size, or the history as a file; never a secret."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ...runflow_api import background
from ...runflow_api.api.transport import Deadline
from ...runflow_api.errors import ApiError, InvalidInputError, NetworkError, RunflowError
from ...runflow_api.evaluation.question import RATINGS, Rating, resolve
from ...runflow_api.evaluation.verdict import Policy
from ...runflow_api.settings import config, key_file, user_settings
from .. import _prompt_price, _thumbnails
from .guards import THIS_MACHINE_ONLY, Refused

MAX_QUERY = 200
PAGE, MAX_ROWS = 100, 500
MAX_PAGES = 20
"""How many pages of the journal one request looks through for rows that its filters leave."""
MAX_DAYS = 90
MAX_PRICES = 50
PRICE_WITHIN_S = 5.0
CHECK_WITHIN_S = 15.0
"""How long a page waits for Runflow to take a rating, or to confirm a key."""
USUAL_OF = 60
"""How many of the last verdicts say how long one takes."""

log = logging.getLogger("runflow_evaluate")
T = TypeVar("T")
Default = TypeVar("Default", int, None)
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
        panels: Callable[[str], list[Json]],
        note_queued: Callable[[str, str, Mapping[str, str]], list[Json]],
    ) -> None:
        self._evaluator, self.settings, self.directory = evaluator, settings, directory
        self._panels, self._note_queued = panels, note_queued

    async def status(self, params: Json, visitor: Visitor) -> Json:
        """What a panel says before Run: who would judge, and what it would cost."""
        current = self.settings()
        return {
            "judge": resolve("auto", current),
            "prices": await in_thread(self._known_prices) if current.api_key else {},
            "limit": current.max_evaluations_per_prompt,
            "usual": await in_thread(self._usual_seconds) if current.api_key else None,
        }

    def _known_prices(self) -> dict[str, str]:
        """Credits by job class; empty if they cannot be read soon."""
        known = self._evaluator().prices.all(Deadline.after(PRICE_WITHIN_S))
        return {code: f"{price:f}" for code, price in list(known.items())[:MAX_PRICES]}

    def _usual_seconds(self) -> dict[str, float] | None:
        """How long verdicts took of late, ``{"p50": …, "p90": …}``; ``None`` if too few are known."""
        from ...runflow_api.evaluation import polling

        try:
            rows = self._evaluator().journal().history(limit=USUAL_OF)
        except RunflowError as error:
            log.info("How long verdicts take is not known: %s", error)
            return None
        usual = polling.window([row.duration_s for row in rows if row.duration_s is not None])
        return None if usual is None else {"p50": usual.typical, "p90": usual.slow}

    async def history(self, params: Json, visitor: Visitor) -> Json:
        """A page of evaluations, newest first; ``next`` is the ``before`` of the page after it.

        With ``sort`` best or worst, those with the best or worst scores, as many as one page may have.
        """
        return await in_thread(self._page, params)

    def _page(self, params: Json) -> Json:
        from ...runflow_api.journal import views

        before, limit = _number(params, "before", None, 2**62), _number(params, "limit", PAGE, MAX_ROWS)
        rating, known = str(params.get("rating", "")), self._judged_in(str(params.get("workflow", ""))[:MAX_QUERY])
        wanted = {
            "outcome": params.get("outcome") or None,
            "search": str(params.get("search", ""))[:MAX_QUERY],
            "since": float(_number(params, "since", None, 2**40) or 0),
            "sort": params.get("sort") or "newest",
        }
        is_sorted = wanted["sort"] != "newest"
        limit = MAX_ROWS if is_sorted else limit
        kept: list[Json] = []
        for _ in range(MAX_PAGES):
            rows = self._evaluator().journal().history(before=before, limit=limit, **wanted)
            for line in map(views.line, rows):
                if (not rating or line["feedback"]["rating"] == rating) and (known is None or line["id"] in known):
                    kept.append(line)
            before = rows[-1].id if len(rows) == limit and not is_sorted else None
            if before is None or len(kept) >= limit:
                break
        return {"rows": kept, "next": before}

    def _judged_in(self, workflow: str) -> set[str] | None:
        """The ids of the evaluations that nodes of a workflow show; ``None`` if none is named."""
        if not workflow:
            return None
        verdicts = [verdict for state in self._panels(workflow) for verdict in _verdicts_of(state)]
        return {str(verdict["id"]) for verdict in verdicts if verdict.get("id")}

    async def collect(self, params: Json, visitor: Visitor) -> Json:
        """Ask Runflow once for an evaluation that is under way, which costs nothing; its line as it is now."""
        from ...runflow_api.evaluation import lookup
        from ...runflow_api.journal import views

        evaluation_id = str(params.get("id", ""))[:MAX_QUERY]
        reading = lookup.evaluations(self._evaluator(), [evaluation_id], Policy(0.0, "pass"), wait=False)
        await run_with_timeout(reading, CHECK_WITHIN_S)
        row = await in_thread(self._find, evaluation_id)
        if row is None:
            raise Refused(404, "UNKNOWN_EVALUATION", "The journal does not have this evaluation.")
        return {"row": views.line(row)}

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

    async def panels(self, params: Json, visitor: Visitor) -> Json:
        """What the nodes of a workflow showed, newest first: ``{"panels": [state, …]}``, as events send them."""
        workflow = str(params.get("workflow", ""))[:MAX_QUERY]
        return {"panels": await in_thread(self._panels, workflow) if workflow else []}

    async def note_queued(self, params: Json, visitor: Visitor) -> Json:
        """A page queued a prompt: ``nodes`` says what each node with a panel is made from; what is known of it."""
        workflow, prompt = (str(params.get(name, ""))[:MAX_QUERY] for name in ("workflow", "prompt"))
        given = params.get("nodes")
        made_from = {
            str(node)[:MAX_QUERY]: str(made)[:MAX_QUERY]
            for node, made in list(given.items() if isinstance(given, dict) else ())[:MAX_ROWS]
        }
        if not workflow or not prompt:
            raise InvalidInputError("workflow", "and prompt must be given.")
        return {"panels": await in_thread(self._note_queued, workflow, prompt, made_from)}

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
            shown["settings"] = user_settings.changeable(current)
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

    async def price(self, params: Json, visitor: Visitor) -> Json:
        """What queueing ``prompt`` (API format) would spend, and why it would not run; nothing is queued."""
        from ...runflow_api.prompt.reading import check_prompt

        prompt = dict(check_prompt(params.get("prompt")))
        found = await in_thread(_prompt_price.price, prompt, *await _prompt_price.check(prompt))
        return found.to_json()

    def thumbnail(self, name: str, large: bool = False) -> Path | None:
        return _thumbnails.find(self.directory(), name, large)


def _verdicts_of(state: Json) -> Iterator[Json]:
    """What a panel shows: the verdicts of its node, and those of each attempt of a loop."""
    yield from state.get("verdicts") or []
    for attempt in (state.get("loop") or {}).get("attempts") or []:
        yield from attempt.get("members") or []


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
            f"The key comes from the {current.sources['api_key']}, which takes precedence over a stored one: change it "
            "there. Nothing was saved.",
        )


def _number(params: Json, name: str, default: Default, most: int) -> int | Default:
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
