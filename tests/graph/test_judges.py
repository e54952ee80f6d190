"""The judges that cost nothing, in a real ComfyUI: a vision model by address or on the CLIP socket, and a person."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.chat import ChatServer, answer_with, said
from support.events import EventLog
from support.pictures import picture
from support.prompts import evaluate, load_image, node, options, show
from support.server import ComfyUI, PromptFailed, checkout
from support.waiting import AT_MOST_S

from runflow_api import images

HERE = Path(__file__).parent
ASK = "/runflow-evaluate/ask"
writes_text = pytest.mark.skipif(
    not (checkout() / "comfy_extras" / "nodes_textgen.py").is_file(),
    reason="This ComfyUI has no text encoders that write: set RUNFLOW_TEST_COMFYUI to a newer one.",
)
_seeds = itertools.count(900)


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with ChatServer() as running:
        yield running


@pytest.fixture(scope="module")
def server(comfyui_factory: Callable[..., ComfyUI], chat: ChatServer) -> ComfyUI:
    env = {"RUNFLOW_MODEL_URL": chat.url, "RUNFLOW_MODEL_NAME": "llava:7b"}
    nodes = (HERE / "vision_nodes",) if not writes_text.args[0] else ()
    return comfyui_factory(env=env, extra_nodes=(HERE / "test_nodes", *nodes))


def photo(server: ComfyUI) -> str:
    seed = next(_seeds)
    name = f"judged-{seed}.png"
    Image.fromarray(images.to_pixels(picture(seed))).save(server.base / "input" / name)
    return name


def gate(name: str, **inputs: Any) -> dict[str, Any]:
    return {**load_image("1", name), **evaluate("2", ["1", 0], **inputs), **show("3", ["2", 4])}


def verdict(history: Any) -> dict[str, Any]:
    (only,) = history.outputs["3"]["runflow"]
    return only


# --- a model behind an address ----------------------------------------------------------------------


def test_without_a_key_auto_asks_the_model_that_is_configured(server: ComfyUI, chat: ChatServer) -> None:
    answers = iter(["Yes. Five.", "No. The hat is blue.", "Yes.", "a man with a hat, a red one"])
    chat.reply = lambda handler: said(handler, next(answers))
    history = server.run(
        gate(photo(server), generation_prompt="a man with a hat", evaluation_instructions="five fingers\na red hat")
    )
    got = verdict(history)
    assert (got["judge"], got["judged_by"], got["verdict"]) == ("model", "llava:7b on this machine", "failed")
    assert got["score"] == pytest.approx(2 / 3, abs=0.001)
    assert got["issues"] == ["a red hat: The hat is blue."]
    assert got["improved_prompt"] == "a man with a hat, a red one"
    assert got["cost"] == "0"
    assert "judged by llava:7b on this machine" in history.texts["2"][-1]


def test_the_same_image_and_question_are_not_asked_twice(server: ComfyUI, chat: ChatServer) -> None:
    chat.reply = lambda handler: said(handler, "Yes.")
    name = photo(server)
    first = verdict(server.run(gate(name, judge="model", generation_prompt="a man")))
    asked = len(chat.received)
    again = server.run(gate(name, judge="model", generation_prompt="a man", min_score=0.5))
    assert len(chat.received) == asked
    assert verdict(again)["reused"] and not first["reused"]
    history = server.request("GET", "/runflow-evaluate/history")
    assert history["rows"][0]["judged_by"] == "llava:7b on this machine"


def test_babble_is_unknown_and_asked_again_by_the_next_run(server: ComfyUI, chat: ChatServer) -> None:
    chat.reply = lambda handler: said(handler, "☃☃☃")
    name = photo(server)
    got = verdict(server.run(gate(name, judge="model", generation_prompt="a man")))
    assert (got["verdict"], got["passed"]) == ("unknown", False)
    chat.reply = lambda handler: said(handler, "Yes.")
    assert verdict(server.run(gate(name, judge="model", generation_prompt="a man", min_score=0.1)))["passed"]


def test_a_model_that_fails_is_unknown_and_follows_if_not_judged(server: ComfyUI, chat: ChatServer) -> None:
    chat.reply = lambda handler: answer_with(handler, 500, b'{"error":"CUDA out of memory"}')
    name = photo(server)
    with pytest.raises(PromptFailed, match=r"MODEL_FAILED.*CUDA out of memory"):
        server.run(gate(name, judge="model", generation_prompt="a man"))
    got = verdict(server.run(gate(name, judge="model", generation_prompt="a man", if_not_judged="pass")))
    assert (got["verdict"], got["passed"], got["error"]) == ("unknown", True, "MODEL_FAILED")


def test_a_model_that_the_server_does_not_know_stops_whatever_the_policy(server: ComfyUI, chat: ChatServer) -> None:
    chat.reply = lambda handler: answer_with(handler, 404, b'{"error":{"message":"model not found, try pulling it"}}')
    with pytest.raises(PromptFailed, match=r"MODEL_NOT_FOUND.*try pulling it"):
        server.run(gate(photo(server), judge="model", generation_prompt="a man", if_not_judged="pass"))


def test_cancel_does_not_wait_for_a_model_that_hangs(server: ComfyUI, chat: ChatServer) -> None:
    asked, released = threading.Event(), threading.Event()

    def hang(handler: Any) -> None:
        asked.set()
        released.wait(60)

    chat.reply = hang
    prompt_id = server.post(gate(photo(server), judge="model", generation_prompt="a man"))
    assert asked.wait(60)
    server.interrupt_at_once(prompt_id)
    released.set()


# --- a person ---------------------------------------------------------------------------------------


class Page:
    """What an editor's page does with a question: it says that it has it, and answers."""

    def __init__(self, server: ComfyUI, prompt_id: str) -> None:
        self.server = server
        self.question = server.wait_for("runflow-evaluate.ask", prompt_id, timeout=60).data

    def see(self) -> None:
        self.say(seen=True, client=self.server.client_id)

    def say(self, **body: Any) -> dict[str, Any]:
        return self.server.request("POST", ASK, {"id": self.question["id"], **body})


def why_it_ended(server: ComfyUI, page: Page) -> str:
    """What every page was told when the question ended."""
    told = (event.data for event in server.events("runflow-evaluate.ask"))
    (why,) = [data["why"] for data in told if data["phase"] == "closed" and data["id"] == page.question["id"]]
    return str(why)


def test_a_person_rejects_with_a_reason_and_a_better_prompt(server: ComfyUI) -> None:
    prompt_id = server.post(gate(photo(server), judge="person", generation_prompt="a hand"))
    page = Page(server, prompt_id)
    (shown,) = page.question["images"]
    assert (shown["prompt"], shown["verdict"], page.question["node"]) == ("a hand", None, "2")
    page.see()
    assert page.say(index=0, accepted=False, reason="six fingers", prompt="a hand with five fingers") == {"open": 0}
    got = verdict(server.wait(prompt_id))
    assert (got["judge"], got["judged_by"], got["verdict"]) == ("person", "you", "failed")
    assert got["issues"] == ["six fingers"]
    assert got["improved_prompt"] == "a hand with five fingers"
    assert why_it_ended(server, page) == ""


def test_the_first_answer_counts_and_a_late_one_is_told_so(server: ComfyUI) -> None:
    prompt_id = server.post(gate(photo(server), judge="person"))
    page = Page(server, prompt_id)
    page.see()
    page.say(accept_all=True)
    assert verdict(server.wait(prompt_id))["passed"]
    with pytest.raises(Exception, match="answered or ended already"):
        page.say(index=0, accepted=False)


def test_what_a_person_is_asked_about_is_shown_without_loss(server: ComfyUI) -> None:
    name = photo(server)
    prompt_id = server.post(gate(name, judge="person"))
    page = Page(server, prompt_id)
    waiting = server.request("GET", f"{ASK}?client={server.client_id}")["questions"]
    assert [each["id"] for each in waiting] == [page.question["id"]]
    assert server.request("GET", f"{ASK}?client=another-tab")["questions"] == []
    page.see()
    page.say(accept_all=True)
    server.wait(prompt_id)
    assert server.request("GET", f"{ASK}?client={server.client_id}")["questions"] == []


def test_a_person_who_does_not_answer_in_time_has_not_judged(server: ComfyUI) -> None:
    prompt = {
        **gate(photo(server), judge="person", if_not_judged="fail", options=["4", 0]),
        **options("4", timeout_s=2),
    }
    prompt_id = server.post(prompt)
    page = Page(server, prompt_id)
    page.see()
    got = verdict(server.wait(prompt_id))
    assert (got["verdict"], got["passed"], got["error"]) == ("unknown", False, "NOBODY_ANSWERED")
    assert why_it_ended(server, page) == "NOBODY_ANSWERED"


def test_the_question_of_a_tab_that_is_closed_goes_to_the_one_that_is_left(server: ComfyUI) -> None:
    def told(log: EventLog | None, phase: str) -> list[Any]:
        assert log is not None
        events = log.select("runflow-evaluate.ask", None, None)
        return [each.data for each in events if each.data["phase"] == phase and each.data["id"] == question]

    first = EventLog(server.url, "closed-soon")
    first.open()
    server.queue_prompt(gate(photo(server), judge="person"), client_id="closed-soon")
    assert first.wait(lambda: bool(first.select("runflow-evaluate.ask", None, None)), AT_MOST_S)
    question = first.select("runflow-evaluate.ask", None, None)[-1].data["id"]
    server.request("POST", ASK, {"id": question, "seen": True, "client": "closed-soon"})
    left = server.events_log
    assert left is not None and not told(left, "open")
    first.close()
    assert left.wait(lambda: bool(told(left, "open")), AT_MOST_S)
    assert server.request("POST", ASK, {"id": question, "index": 0, "accepted": True}) == {"open": 0}
    assert left.wait(lambda: [each["why"] for each in told(left, "closed")] == [""], AT_MOST_S)


def test_a_headless_run_ends_unknown_after_a_moment(server: ComfyUI) -> None:
    prompt_id = server.post(gate(photo(server), judge="person", if_not_judged="fail"))
    assert verdict(server.wait(prompt_id, timeout=60))["error"] == "NOBODY_TO_ASK"


def test_cancel_takes_the_question_away(server: ComfyUI) -> None:
    prompt_id = server.post(gate(photo(server), judge="person"))
    page = Page(server, prompt_id)
    page.see()
    server.interrupt()
    assert server.wait(prompt_id, check=False).interrupted
    assert why_it_ended(server, page) == "CANCELLED"
    with pytest.raises(Exception, match="answered or ended already"):
        page.say(accept_all=True)


def test_ask_asks_where_nobody_else_judged(server: ComfyUI, chat: ChatServer) -> None:
    chat.reply = lambda handler: answer_with(handler, 500, b"{}")
    prompt_id = server.post(gate(photo(server), judge="model", generation_prompt="a man", if_not_judged="ask"))
    page = Page(server, prompt_id)
    assert page.question["images"][0]["verdict"]["error"] == "MODEL_FAILED"
    page.see()
    page.say(index=0, accepted=True)
    got = verdict(server.wait(prompt_id))
    assert (got["judge"], got["passed"]) == ("person", True)


# --- a model on the CLIP socket ---------------------------------------------------------------------


@writes_text
def test_comfyuis_own_model_is_asked_and_its_babble_is_unknown(server: ComfyUI) -> None:
    prompt = {
        **gate(
            photo(server),
            judge="model",
            generation_prompt="a man",
            evaluation_instructions="five fingers",
            judge_model=["6", 0],
        ),
        **node("5", "TestTinyVisionModel", seed=1),
        **node("6", "RunflowJudgeModel", clip=["5", 0], max_length=16, thinking=False),
    }
    got = verdict(server.run(prompt))
    assert (got["judge"], got["judged_by"]) == ("model", "qwen3vl_tiny on this machine")
    assert (got["verdict"], got["passed"]) == ("unknown", False)
    assert len([line for line in got["issues"] if "neither yes nor no" in line]) == 2


@writes_text
def test_the_same_weights_give_the_same_words(server: ComfyUI) -> None:
    def words(seed: int) -> list[str]:
        prompt = {
            **gate(name, judge="model", generation_prompt="a man", judge_model=["6", 0]),
            **node("5", "TestTinyVisionModel", seed=seed),
            **node("6", "RunflowJudgeModel", clip=["5", 0], max_length=16),
        }
        issues: list[str] = verdict(server.run(prompt))["issues"]
        server.free()
        return issues

    name = photo(server)
    assert words(3) == words(3)
    assert words(3) != words(4)


@writes_text
def test_an_encoder_that_cannot_see_says_so_by_name(server: ComfyUI) -> None:
    prompt = {
        **gate(photo(server), judge="model", generation_prompt="a man", judge_model=["6", 0]),
        **node("5", "TestBlindTextEncoder"),
        **node("6", "RunflowJudgeModel", clip=["5", 0]),
    }
    with pytest.raises(PromptFailed, match=r"MODEL_CANNOT_SEE.*text encoder l cannot see images"):
        server.run(prompt)


@writes_text
def test_a_full_gpu_is_unknown_with_advice_and_follows_if_not_judged(server: ComfyUI) -> None:
    prompt = {
        **gate(photo(server), judge="model", generation_prompt="a man", judge_model=["6", 0]),
        **node("5", "TestModelWithoutMemory"),
        **node("6", "RunflowJudgeModel", clip=["5", 0]),
    }
    with pytest.raises(PromptFailed, match=r"MODEL_OUT_OF_MEMORY.*not enough memory for qwen3vl_tiny.*smaller"):
        server.run(prompt)
    prompt["2"]["inputs"]["if_not_judged"] = "fail"
    got = verdict(server.run(prompt))
    assert (got["verdict"], got["passed"], got["error"]) == ("unknown", False, "MODEL_OUT_OF_MEMORY")


@writes_text
def test_exit_while_a_model_writes_ends_in_order(server: ComfyUI) -> None:
    """The last of this file: it ends the server."""
    if not server.running:
        server.start()
    prompt = {
        **gate(photo(server), judge="model", generation_prompt="a man", judge_model=["6", 0]),
        **node("5", "TestTinyVisionModel", seed=1),
        **node("6", "RunflowJudgeModel", clip=["5", 0], max_length=8192),
    }
    server.wait_for("executing", server.post(prompt), node="2")
    server.stop(60)
    assert server.process is not None and server.process.returncode == 0, server.tail()
