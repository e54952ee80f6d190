"""The Runflow evaluation API's HTTP contract on loopback: for developing workflows without paying.

Strict about what the API is strict about (credentials, scopes, limits, unknown fields, idempotency, credit),
judged by the local judge or by scripted verdicts, with faults on request. Nothing is fetched, nothing is
sent on (no callback is called), and nothing is charged.

Where neither the reference pages nor the guides fix an answer, the sandbox chose: job classes and statuses
are bare lists of objects, the balance an object with ``balance``, an unknown ``run_id`` is a 404, an asset
that was not confirmed a 422, and an https image completes without a verdict, because nothing is fetched.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from operator import attrgetter
from types import TracebackType
from typing import Any

from ..api.models import (
    EVALUATION_EMBEDS,
    EVALUATION_TERMINAL,
    RUN_EMBEDS,
    EvaluationStatus,
    Json,
)
from ..settings.config import SANDBOX_KEY
from . import validation as rules
from .faults import Fault, Faults, ScriptedVerdict
from .server import Request, RequestRecord, Route, Server, find_route
from .state import (
    Assets,
    JudgeFunction,
    Ledger,
    Outcome,
    Replay,
    Runs,
    StoredEvaluation,
    evaluation_json,
    now,
    outcome_of,
    references_of,
    submitted_fields,
)
from .validation import HttpError, Response

__all__ = ["Fault", "RequestRecord", "Sandbox", "ScriptedVerdict", "StoredEvaluation"]

DEFAULT_KEY = SANDBOX_KEY
DEFAULT_ORG = "5a9d0b0c-0000-4000-8000-000000000001"
PENDING_SHARE = 0.25
"""The part of an evaluation's latency that it spends as ``pending``; the rest it is ``running``."""
GREETING = "Runflow sandbox: the evaluation API on loopback, judged locally. Nothing is charged.\n"


# --- the sandbox ----------------------------------------------------------------------------------


class Sandbox:
    """The API on ``http://127.0.0.1:port`` while the ``with`` block lasts; it keeps its state beyond.

    ``price`` and ``balance`` are credits as decimal text, ``latency`` seconds. ``keys`` are further keys
    with their scopes; ``api_key`` has every scope. Without ``org_id`` a request's ``X-Organization-Id`` is
    believed; with it, another organisation is a 403. ``judge`` stands in for ``local_judge.judge``, ``clock``
    for the monotonic one. ``latency`` and ``price`` may be changed at any time: they are frozen per
    evaluation at submission. ``keep_bodies`` false forgets bodies, and images once they are judged.
    """

    def __init__(
        self,
        port: int = 0,
        api_key: str = DEFAULT_KEY,
        latency: float = 2.0,
        price: str | Decimal = "0.10",
        balance: str | Decimal = "100",
        org_id: str | None = None,
        faults: Iterable[Fault] = (),
        verdicts: Iterable[ScriptedVerdict] = (),
        *,
        keys: Mapping[str, Collection[str]] | None = None,
        judge: JudgeFunction | None = None,
        clock: Callable[[], float] = time.monotonic,
        keep_bodies: bool = True,
        on_request: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self.api_key, self.latency, self.price, self.org_id = api_key, latency, Decimal(price), org_id
        self.clock, self.keep_bodies = clock, keep_bodies
        self._port, self._judge, self._on_request = port, judge, on_request
        self._keys = dict(keys or {})
        self._faults, self._verdicts = Faults(faults), deque(verdicts)
        self._ledger = Ledger(Decimal(balance))
        self._evaluations: dict[str, StoredEvaluation] = {}
        self._runs, self._assets = Runs(clock), Assets()
        self._replays: dict[tuple[str, str], Replay] = {}
        self._requests: list[RequestRecord] = []
        self._changed = threading.Condition()
        self._server: Server | None = None
        self._connections = 0

    # --- for the person who runs it

    def start(self) -> Sandbox:
        """Listen. Raises ``OSError`` if the port is taken. A second start takes the first one's port."""
        if self._server is None:
            self._server = Server(self, self._port)
            self._port = self._server.server_address[1]
        return self

    def stop(self) -> None:
        """Close every connection, hung ones too, and wait for their threads."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            self._connections += server.connections

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        if not self._port:
            raise RuntimeError("the sandbox has not been started")
        return f"http://127.0.0.1:{self._port}"

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request that arrived, in order."""
        with self._changed:
            return list(self._requests)

    @property
    def connections(self) -> int:
        """How many TCP connections were accepted."""
        return self._connections + (self._server.connections if self._server else 0)

    @property
    def evaluations(self) -> dict[str, StoredEvaluation]:
        with self._changed:
            return dict(self._evaluations)

    @property
    def bills(self) -> list[tuple[str, Decimal]]:
        """(evaluation id, price) of everything that is charged by now, looked at by a client or not."""
        self._settle_all()
        return self._ledger.bills()

    @property
    def balance(self) -> Decimal:
        """What is left after the charges so far; prices that are only reserved are not subtracted."""
        self._settle_all()
        return self._ledger.balance

    def add_fault(self, fault: Fault) -> None:
        self._faults.add(fault)

    def clear_faults(self) -> None:
        self._faults.clear()

    def add_verdict(self, verdict: ScriptedVerdict) -> None:
        with self._changed:
            self._verdicts.append(verdict)

    def clear_verdicts(self) -> None:
        """Forget the scripted verdicts that no evaluation has taken yet."""
        with self._changed:
            self._verdicts.clear()

    def add_run(self, status_code: str = "succeeded", *, latency: float = 0.0, **fields: Any) -> str:
        """Add a run and return its id. It is ``running`` for ``latency`` seconds, then as ``fields`` say.

        ``fields`` are those of ``models.Run``. Raises ``TypeError`` for another name.
        """
        with self._changed:
            return self._runs.add(self._org({}), status_code, latency, fields)

    def wait_for_requests(
        self, method: str, path: str = ".*", count: int = 1, timeout: float = 60.0
    ) -> list[RequestRecord]:
        """Block until ``count`` requests of ``method`` whose path matches the regex have arrived, whole.

        Raises ``TimeoutError``.
        """
        ends = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [r for r in self._requests if r.method == method and re.fullmatch(path, r.path)]
                if len(found) >= count:
                    return found
                if not self._changed.wait(ends - time.monotonic()):
                    raise TimeoutError(f"{len(found)} of {count} requests {method} {path} in {timeout} s")

    # --- for the server

    def take_fault(self, method: str, path: str) -> Fault | None:
        return self._faults.take(method, path)

    def arrived(self, record: RequestRecord) -> None:
        with self._changed:
            self._requests.append(record)
            self._changed.notify_all()

    def answered(self, record: RequestRecord) -> None:
        record.seconds = time.monotonic() - record.at
        if self._on_request is not None:
            self._on_request(record)

    def answer(self, request: Request) -> Response:
        """Carry ``request`` out. Raises ``Stopped`` only."""
        try:
            route, ids = find_route(_ROUTES, request.method, request.path)
            if route.needs_key:
                request = replace(request, key=self._authenticated(request, route.scope))
            if route.action is not Sandbox._submit:  # which pauses with its idempotency key taken
                request.pause()
            return route.action(self, request, *ids)
        except HttpError as refusal:
            return refusal.answer()

    def _authenticated(self, request: Request, scope: str | None) -> str:
        """The bearer key, if it is one of ours and holds ``scope``: else 401 ``UNAUTHORIZED`` or a 403."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or (key != self.api_key and key not in self._keys):
            raise HttpError(401, "The API key is missing or not valid.")
        if scope is not None and not self._holds(key, scope):
            raise HttpError(403, f"The API key does not have the scope {scope}.")
        self._org(request.headers)
        return key

    def _holds(self, key: str, scope: str) -> bool:
        return key == self.api_key or scope in self._keys[key]

    def _org(self, headers: Mapping[str, str]) -> str:
        named = headers.get("x-organization-id")
        if named and self.org_id and named.lower() != self.org_id.lower():
            raise HttpError(403, "The API key does not belong to this organization.")
        return self.org_id or named or DEFAULT_ORG

    # --- evaluations

    def _submit(self, request: Request) -> Response:
        """``POST /v1/evaluations``: 202, and with an ``Idempotency-Key`` the same 202 every time."""
        payload = request.json()
        body = rules.checked(rules.SubmissionBody, payload)
        token = request.headers.get("idempotency-key")
        if not token:
            return self._create(request, body)
        digest = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
        return self._once((request.key, token), digest, request, body)

    def _once(self, key: tuple[str, str], digest: str, request: Request, body: rules.SubmissionBody) -> Response:
        """Create the evaluation for an idempotency key, or repeat the answer that the key had before."""
        with self._changed:
            earlier = self._replays.get(key)
            if earlier is not None:
                return earlier.answer_for(digest)
            replay = self._replays[key] = Replay(digest)
        try:
            replay.answer = self._create(request, body)
        except BaseException:
            with self._changed:
                del self._replays[key]  # a refusal is not kept: after a top-up the same key goes through
            raise
        return replay.answer

    def _create(self, request: Request, body: rules.SubmissionBody) -> Response:
        request.pause()
        if body.run_id is not None:
            self._runs.find(body.run_id)
        image = self._assets.image("generated_image_url", body.generated_image_url)
        given = [self._assets.image(f"reference_images[{i}].url", r.url) for i, r in enumerate(references_of(body))]
        references = [data for data in given if data is not None]
        evaluation_id, price = str(uuid.uuid4()), Decimal(self.price)
        self._reserve(evaluation_id, price)
        evaluation = self._store(evaluation_id, self._org(request.headers), body, image, references, price)
        return rules.json_answer(
            202, evaluation_json(evaluation, {"status_code": EvaluationStatus.PENDING.value}, frozenset())
        )

    def _reserve(self, evaluation_id: str, price: Decimal) -> None:
        """Submit page: "Admission requires credits covering the job class's price"."""
        if self._ledger.reserve(evaluation_id, price):
            return
        self._settle_all()  # what failed unbilled gives its reservation back
        if not self._ledger.reserve(evaluation_id, price):
            raise HttpError(402, f"The balance does not cover the price of {price} credits.")

    def _store(
        self,
        evaluation_id: str,
        org_id: str,
        body: rules.SubmissionBody,
        image: bytes | None,
        references: list[bytes],
        price: Decimal,
    ) -> StoredEvaluation:
        fixed = submitted_fields(evaluation_id, org_id, body)
        without_images = {"generated_image_url": fixed["generated_image_url"], "reference_images": None}
        with self._changed:
            script = self._verdicts.popleft() if self._verdicts else None
            latency = self.latency if script is None or script.latency is None else script.latency
            evaluation = StoredEvaluation(
                evaluation_id,
                org_id,
                body.model_copy(update=without_images),
                image,
                references,
                price,
                self.clock(),
                now(),
                latency,
                script,
                fixed,
            )
            self._evaluations[evaluation_id] = evaluation
        return evaluation

    def _get_evaluation(self, request: Request, evaluation_id: str) -> Response:
        """``GET /v1/evaluations/{id}``; judges, gate failures and action only if embedded."""
        embeds = rules.embeds(request.query, EVALUATION_EMBEDS)
        return rules.json_answer(200, self._view(self._find(request, evaluation_id), embeds))

    def _feedback(self, request: Request, evaluation_id: str) -> Response:
        """``PATCH …/feedback``: "reason is dropped when is_positive is null"."""
        evaluation = self._find(request, evaluation_id)
        body = rules.checked(rules.FeedbackBody, request.json())
        reason = None if body.is_positive is None else body.reason
        evaluation.feedback = {"feedback_is_positive": body.is_positive, "feedback_reason": reason}
        return rules.json_answer(200, self._view(evaluation, frozenset()))

    def _find(self, request: Request, evaluation_id: str) -> StoredEvaluation:
        with self._changed:
            evaluation = self._evaluations.get(evaluation_id.lower())
        if evaluation is None or evaluation.org_id != self._org(request.headers):
            raise HttpError(404, "There is no such evaluation.", code="EVALUATION_NOT_FOUND")
        return evaluation

    def _view(self, evaluation: StoredEvaluation, embeds: frozenset[str]) -> Json:
        outcome = self._settle(evaluation)
        answer = evaluation_json(evaluation, outcome.fields if outcome else self._unfinished(evaluation), embeds)
        if "run" in embeds and evaluation.body.run_id:
            answer["run"] = self._runs.view(evaluation.body.run_id, frozenset())
        return answer

    def _unfinished(self, evaluation: StoredEvaluation) -> Json:
        begun = self.clock() >= evaluation.submitted_s + PENDING_SHARE * evaluation.latency
        return {"status_code": (EvaluationStatus.RUNNING if begun else EvaluationStatus.PENDING).value}

    def _settle_all(self) -> None:
        for evaluation in sorted(self.evaluations.values(), key=attrgetter("due")):
            self._settle(evaluation)

    def _settle(self, evaluation: StoredEvaluation) -> Outcome | None:
        """Judge and charge, once, an evaluation whose time has come; ``None`` if it has not."""
        with evaluation.lock:
            if evaluation.outcome is None and self.clock() >= evaluation.due:
                evaluation.outcome = outcome_of(evaluation, self._judge)
                self._ledger.settle(evaluation.id, evaluation.outcome.billed)
                if not self.keep_bodies:
                    evaluation.image, evaluation.references = None, []
            return evaluation.outcome

    # --- runs, account, prices

    def _get_run(self, request: Request, run_id: str) -> Response:
        """``GET /v1/runs/{id}``; the page says that the summary "is gated behind evaluations:read"."""
        embeds = rules.embeds(request.query, RUN_EMBEDS)
        answer = self._runs.view(run_id, embeds)
        if not self._holds(request.key, "evaluations:read"):
            answer["current_evaluation_summary"] = None
        return rules.json_answer(200, answer)

    def _job_classes(self, request: Request) -> Response:
        classes = [
            {"code": code, "name": code.capitalize(), "price": str(self.price), "is_active": active}
            for code, active in rules.JOB_CLASSES.items()
        ]
        return rules.json_answer(200, classes)

    def _statuses(self, request: Request) -> Response:
        codes = [status.value for status in EvaluationStatus]
        return rules.json_answer(200, [{"code": c, "is_terminal": c in EVALUATION_TERMINAL} for c in codes])

    def _me(self, request: Request) -> Response:
        scopes = ["*"] if request.key == self.api_key else sorted(self._keys[request.key])
        return rules.json_answer(200, {"type": "api_key", "org_id": self._org(request.headers), "scopes": scopes})

    def _get_balance(self, request: Request) -> Response:
        self._settle_all()
        return rules.json_answer(200, self._ledger.summary())

    # --- uploads

    def _start_upload(self, request: Request) -> Response:
        """``POST /v1/asset-uploads`` -> the address for the bytes, which nobody can guess."""
        asset = self._assets.announce(rules.checked(rules.UploadBody, request.json()))
        return rules.json_answer(201, {"asset_id": asset.id, "upload_url": f"{self.url}/uploads/{asset.token}"})

    def _put_upload(self, request: Request, token: str) -> Response:
        """``PUT upload_url``."""
        self._assets.put(token, request.headers, request.body)
        return Response(200, b"", "text/plain")

    def _confirm_upload(self, request: Request, asset_id: str) -> Response:
        """``POST /v1/asset-uploads/{id}/confirmations``."""
        rules.checked(rules.EmptyBody, request.json())
        asset = self._assets.confirm(asset_id)
        return rules.json_answer(200, {"asset_id": asset.id, "url": f"runflow://assets/{asset.id}"})

    def _greet(self, request: Request) -> Response:
        return Response(200, GREETING.encode(), "text/plain; charset=utf-8")


_ROUTES = (
    Route("GET", "/", Sandbox._greet, needs_key=False),
    Route("POST", "/v1/evaluations", Sandbox._submit, "evaluations:create"),
    Route("GET", "/v1/evaluations/job-classes", Sandbox._job_classes),
    Route("GET", "/v1/evaluations/statuses", Sandbox._statuses),
    Route("GET", "/v1/evaluations/([^/]+)", Sandbox._get_evaluation, "evaluations:read"),
    Route("PATCH", "/v1/evaluations/([^/]+)/feedback", Sandbox._feedback, "evaluations:edit"),
    Route("GET", "/v1/runs/([^/]+)", Sandbox._get_run),
    Route("GET", "/v1/auth/me", Sandbox._me),
    Route("GET", "/v1/billing/balance", Sandbox._get_balance),
    Route("POST", "/v1/asset-uploads", Sandbox._start_upload),
    Route("POST", "/v1/asset-uploads/([^/]+)/confirmations", Sandbox._confirm_upload),
    Route("PUT", "/uploads/([^/]+)", Sandbox._put_upload, needs_key=False),
)
