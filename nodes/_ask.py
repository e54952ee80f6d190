"""The judge who is a person: the prompt waits here until somebody at the editor has said what they think.

A question is sent to the page that queued the prompt (``EVENT``), which says that it has it, and then answers image by
image; the first answer counts. If that page is not open, or is closed later, every other one is offered the question.
Each question ends in one of five ways: all images are answered; no page takes it within ``SEEN_WITHIN_S`` (an API
client, a page without the pack); the page is closed and no other one takes over within ``REOPENED_WITHIN_S``; the time
is up; the prompt is cancelled. However it ends, every page is told to put it away, and why.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from server import PromptServer

from ..runflow_api import background, images
from ..runflow_api.errors import InvalidInputError, NotFoundError, NotJudgedError, RunflowError

if TYPE_CHECKING:
    from ..runflow_api.api.transport import Deadline
    from ..runflow_api.evaluation.job import AskedImage, PersonAnswer

EVENT = "runflow-evaluate.ask"
LOOK_S = 0.2
SEEN_WITHIN_S = 15.0
"""A page that has the pack says within this that it shows the question."""
REOPENED_WITHIN_S = 30.0
"""A reload is no goodbye."""
LONGEST_REASON = 2_000
LONGEST_PROMPT = 10_000


class _Ending(NamedTuple):
    """Why an image has no answer."""

    code: str
    message: str
    advice: str


NOBODY = _Ending(
    code="NOBODY_TO_ASK",
    message="Nobody could be asked: no editor has the question open.",
    advice="Queue it in ComfyUI's editor and keep the tab open, or choose another judge.",
)
CLOSED = _Ending(
    code="EDITOR_CLOSED",
    message="The editor was closed before you answered.",
    advice="Run again to be asked again.",
)
LATE = _Ending(
    code="NOBODY_ANSWERED",
    message="You were asked, and the time that timeout_s allows was over before you answered.",
    advice="Run again to be asked again, or raise timeout_s.",
)
CANCELLED = "CANCELLED"

_open: dict[str, Question] = {}
_lock = threading.Lock()


class Question:
    """Images that wait for a person; ``client`` is the page that queued the prompt, "" for none."""

    def __init__(self, asked: Sequence[AskedImage], client: str, node: str) -> None:
        self.id = uuid.uuid4().hex
        self.asked = asked
        self.client = client
        self.node = node
        self.answers: list[PersonAnswer | None] = [None] * len(asked)
        self.is_seen = False

    @property
    def is_answered(self) -> bool:
        return all(answer is not None for answer in self.answers)

    def to_json(self) -> dict[str, Any]:
        """What the page shows; the pictures have addresses of their own."""
        pictures = [
            {
                "prompt": each.prompt,
                "instructions": each.instructions,
                "verdict": each.verdict.to_ui() if each.verdict else None,
                "image": each.picture.hash,
                "answered": answer is not None,
            }
            for each, answer in zip(self.asked, self.answers, strict=True)
        ]
        return {"id": self.id, "phase": "open", "node": self.node, "images": pictures}


class Editor:
    """Whoever is at the page that queued the running prompt: a ``Person`` of the evaluator."""

    def __init__(self, node_id: str | None) -> None:
        self._server = PromptServer.instance
        self._client = self._server.client_id or ""
        self._node = node_id or ""

    async def answers_to(self, asked: Sequence[AskedImage], deadline: Deadline) -> list[PersonAnswer | RunflowError]:
        question = Question(asked, self._client, self._node)
        why = CANCELLED
        with _lock:
            _open[question.id] = question
        try:
            ending = await self._wait(question, deadline)
            why = "" if question.is_answered else ending.code
        finally:
            with _lock:
                del _open[question.id]
            self._server.send_sync(EVENT, {"id": question.id, "phase": "closed", "why": why})
        return [answer or _no_answer(ending) for answer in question.answers]

    def _send(self, question: Question) -> bool:
        """To the page whose question it is, or to all pages where that one is not there; whether it is there."""
        is_there = question.client in self._server.sockets
        self._server.send_sync(EVENT, question.to_json(), question.client if is_there else None)
        return is_there

    async def _wait(self, question: Question, deadline: Deadline) -> _Ending:
        """Ask, until all is answered or something else ended it; for images without an answer, what that was."""
        began = gone_since = time.monotonic()
        was_there = self._send(question)
        while not question.is_answered:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            if not question.is_seen and now - began > SEEN_WITHIN_S:
                return NOBODY
            if question.client in self._server.sockets:
                was_there, gone_since = True, now
            elif was_there:
                was_there = self._send(question)  # to the pages that are left
            elif question.is_seen and now - gone_since > REOPENED_WITHIN_S:
                return CLOSED
            if deadline.remaining <= 0:
                return LATE
        return LATE


def _no_answer(ending: _Ending) -> RunflowError:
    return NotJudgedError(ending.message, code=ending.code, cost="Nothing was paid.", advice=ending.advice)


# --- the routes' side -----------------------------------------------------------------------------


async def pending(params: Mapping[str, Any], _visitor: object = None) -> dict[str, Any]:
    """The questions for the page ``client``: its own, and those whose page is gone."""
    client, sockets = str(params.get("client", "")), PromptServer.instance.sockets
    with _lock:
        return {"questions": [each.to_json() for each in _open.values() if _is_for(each, client, sockets)]}


def _is_for(question: Question, client: str, sockets: Mapping[str, Any]) -> bool:
    return question.client == client or question.client not in sockets


async def answer(body: Mapping[str, Any], _visitor: object = None) -> dict[str, Any]:
    """What a page says of a question: ``seen`` with its ``client``, ``accept_all``, or the answer to one image.

    ``{"id", "index", "accepted", "reason", "prompt"}``; the first answer to an image counts. Gives how many are open.
    """
    from ..runflow_api.evaluation.job import PersonAnswer  # there since the question was asked

    with _lock:
        question = _open.get(str(body.get("id")))
        if question is None:
            raise NotFoundError("This question was answered or ended already.", status=404)
        if body.get("seen") is True:
            question.is_seen, question.client = True, str(body.get("client") or question.client)
        elif body.get("accept_all") is True:
            question.answers = [each or PersonAnswer(True) for each in question.answers]
        else:
            index = _index(body, len(question.answers))
            given = PersonAnswer(
                _flag(body, "accepted"), _text(body, "reason", LONGEST_REASON), _text(body, "prompt", LONGEST_PROMPT)
            )
            question.answers[index] = question.answers[index] or given
        return {"open": sum(each is None for each in question.answers)}


async def picture(question_id: str, index: str) -> images.EncodedImage | None:
    """An image that is asked about, whole and without loss; ``None`` where it is not asked about."""
    with _lock:
        question = _open.get(question_id)
    if question is None or not index.isdecimal() or int(index) >= len(question.asked):
        return None
    asked = question.asked[int(index)].picture
    return await asyncio.wrap_future(background.call(images.encode_lossless, asked.pixels))


def _index(body: Mapping[str, Any], count: int) -> int:
    index = body.get("index")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
        raise InvalidInputError("index", f"must be a number from 0 to {count - 1}.")
    return index


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool):
        raise InvalidInputError(name, "must be true or false.")
    return value


def _text(body: Mapping[str, Any], name: str, longest: int) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidInputError(name, f"must be a text of at most {longest} characters.")
    return value
