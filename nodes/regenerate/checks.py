"""Before the first attempt of a loop: refuse what cannot work, and say what it may cost."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future
from decimal import Decimal
from typing import Any

import comfy.model_management

from ...runflow_api import background
from ...runflow_api.api.transport import Deadline
from ...runflow_api.errors import InvalidInputError, RunflowError
from ...runflow_api.evaluation.verdict import RUNFLOW
from ...runflow_api.prompt.classes import REPAIR_SWITCH
from ...runflow_api.prompt.graph import (
    Body,
    Node,
    is_torn_by,
    link,
    links,
    links_read,
    repetitions,
    start_outputs_behind,
    start_outputs_read,
    upstream,
)
from .. import _runtime
from ..routing import FIRST_REPAIR
from .attempts import ATTEMPT_OUT, BEST_OUT, NO_ATTEMPT, PROMPT_OUT, SEED_OUT, LoopSettings, LoopState
from .context import LoopContext
from .lists import least_values, lists_behind, makes_lists
from .saved_metadata import END

PRICE_WITHIN_S = 3.0
"""The price is one small request; a loop does not wait longer for a network that hangs."""
EVALUATE, SPLIT, SWITCH = "RunflowEvaluateImage", "RunflowSplitByVerdict", "RunflowVerdictSwitch"
SWITCHES = (SWITCH, REPAIR_SWITCH)
EVALUATION_OUT, KEPT_OUT, PASSED_OUT = 7, 8, 9
"""End's outputs best_evaluation, attempt_images and passed_images, which are blocked if there is nothing to send."""
SPLIT_COUNTS = range(3, 6)
"""The outputs of Split Passed / Failed that always have a value."""

NO_EFFECT = (
    "is the same at every attempt: it depends on nothing that changes. Connect current_seed to your sampler's seed "
    f"and current_prompt to your text encoder{{kept}}. {NO_ATTEMPT}"
)
FOREIGN_EVALUATION = (
    "does not come from this loop: every attempt would read the same verdict. Connect an Evaluate Image Quality "
    f"that judges the loop's image. {NO_ATTEMPT}"
)
SENDS_NOTHING = f"comes through node {{node}}, {{why}}: then the loop would end with nothing. {{advice}} {NO_ATTEMPT}"
PUT_AFTER_END = "Connect what was judged to End, and put that node after it."
CONNECT_BOTH = "Connect both generate and repair; what comes from a muted node is not connected."
NO_BEST_YET = (
    "depends on best_so_far of Start{through} already at attempt 1, which has no best image yet: then the loop would "
    "end with nothing. Put a Generate or Repair before it: what makes the first image to generate, what changes "
    f"best_so_far to repair, attempt of Start to attempt. {NO_ATTEMPT}"
)
BARE_REPAIR = (
    "repair of node {node}, Generate or Repair, is best_so_far as it is, and attempt 1 has none: then the loop would "
    "end with nothing. Put what changes the image, or VAE Encode, between the two; if it is bypassed, enable it again. "
    f"{NO_ATTEMPT}"
)
UNLIKE_SIDES = (
    "comes through node {node}, a Generate or Repair whose sides are not alike: generate gets {generate}, repair gets "
    f"{{repair}}. Connect the same kind to both; if a node before one is bypassed, enable it again. {NO_ATTEMPT}"
)
PLAIN_TYPES = {"IMAGE", "LATENT", "MASK", "STRING", "INT", "FLOAT", "BOOLEAN", "CONDITIONING", "MODEL", "CLIP", "VAE"}
NUMBERS = {"INT", "FLOAT", "BOOLEAN"}
START_ELSEWHERE = (
    "Start is not in the same loop as End{node}: another loop repeats only one of them. To repeat both, connect an "
    "output of that loop's own first node to Start's prompt or seed; otherwise put both outside it. "
    f"{NO_ATTEMPT}"
)
ONLY_END_INSIDE = (
    "the loop from node {first} to node {last} ({kind}) repeats End {end}, but not Start {start}. To repeat both, "
    "connect an output of node {first} to Start's prompt or seed; otherwise connect the output of node {last} to End. "
    f"{NO_ATTEMPT}"
)
ONLY_START_INSIDE = (
    "the loop from node {first} to node {last} ({kind}) repeats Start {start}, but not End {end}. To repeat both, "
    "connect End's best_image to node {last}; otherwise do not connect node {first} to Start. "
    f"{NO_ATTEMPT}"
)
A_KNOWN_LIST = (
    "comes from node {node}, which makes a list of {count} values, but a loop needs one: every attempt would pay for "
    f"each of them. Make one batch or one text of it, or loop without it. {NO_ATTEMPT}"
)
MAYBE_A_LIST = "node {node} gives a list: if it holds more than one value, the loop ends there with the best attempt"
LOOKS_ITSELF_UP = (
    "node {node} looks for itself in the workflow{when}, and in attempt 2 it is not there under its own id. "
    f"{{instead}}ut that node after End. {NO_ATTEMPT}"
)
ONLY_WITH: dict[str, tuple[str, str]] = {"ImpactControlBridge": ("behavior", "Stop")}
"""Nodes of other packs that fail as clones, by class: the input that decides, and the value with which they work."""
NEVER = {"ImpactInversedSwitch", "WidgetToString", "easy kSamplerSDTurbo", "easy detailerFix"}
"""Nodes of other packs that fail as clones whatever is set."""
WILDCARD = re.compile(r"\{[^{}]*\||__[\w.\-+/*\\]+__")
AT_THE_QUEUE = {"ImpactWildcardProcessor", "ImpactWildcardEncode"}
CHOSEN_AT_THE_QUEUE = (
    "node {node} chose its text when the workflow was queued: it is the same at every attempt. Switch its mode to "
    "Fixed and write the wildcards into populated_text to have a new one at each"
)
UNUSED = {
    PROMPT_OUT: "current_prompt does not reach the image: connect it to your text encoder, or set next_prompt to keep",
    SEED_OUT: "current_seed does not reach the image: connect it to your sampler's seed, or set next_seed to keep",
}

log = logging.getLogger("runflow_evaluate")


async def check_loop(context: LoopContext, state: LoopState, settings: LoopSettings) -> None:
    """Runs before the first attempt: says on Start what the loop may cost.

    Raises ``InvalidInputError`` for a loop that cannot work.
    """
    body = context.body(state)
    settings.check()
    refuse_wiring(context, body, settings)
    context.begin_metadata(body, state)
    cost = await worst_case(context, body, settings)
    said = _unused_outputs(context, body, settings) if cost else []
    if context.max_attempts(settings) > 1:
        said += [*_lists_of_repairs(context, body), *_chosen_at_the_queue(context, body)]
    for warning in [*context.warnings(body), *said]:
        log.warning("Regenerate End %s: %s.", context.node_id, warning)
    attempt = f"attempt 1 of {context.max_attempts(settings)}"
    context.say_on_start(body, " · ".join([attempt, *([cost] if cost else []), *said]))


# --- what is refused ----------------------------------------------------------------------------------


def refuse_wiring(context: LoopContext, body: Body, settings: LoopSettings) -> None:
    """Raise ``InvalidInputError`` for what is wrong with how the loop is wired."""
    if body.start not in context.graph:
        raise InvalidInputError("loop", START_ELSEWHERE.format(node=""))
    _refuse_half_repeated(context, body)
    _refuse_repair_of_nothing(context, body)
    _refuse_bare_repair(context, body)
    if context.max_attempts(settings) > 1:
        for node in body.nodes:
            inner = context.body_inside(node)
            if inner is not None and inner.start not in (body.start, *body.nodes):
                where = f" {context.shown_on(node)}, which is inside this loop"
                raise InvalidInputError("loop", START_ELSEWHERE.format(node=where))
        _refuse_equal_attempts(context, body, settings)
        _refuse_what_fails_as_a_clone(context, body)
        _refuse_known_lists(context, body)
        _refuse_unlike_sides(context, body)
        for name in ("image", "evaluation"):
            for node, why in _senders_of_nothing(context, body, name):
                # ComfyUI does not run an End whose image is blocked, and says nothing.
                advice = CONNECT_BOTH if context.class_of(node) == REPAIR_SWITCH else PUT_AFTER_END
                shown = context.shown_on(node)
                raise InvalidInputError(name, SENDS_NOTHING.format(node=shown, why=why, advice=advice))


def _refuse_half_repeated(context: LoopContext, body: Body) -> None:
    """A loop of another pack that repeats Start or End alone: from its second round on one has no other."""
    for other in context.foreign_loops():
        if is_torn_by(body, other):
            text = ONLY_START_INSIDE if body.start in other.nodes else ONLY_END_INSIDE
            nodes = {"first": other.start, "last": other.end, "start": body.start, "end": body.end}
            shown = {name: context.shown_on(node) for name, node in nodes.items()}
            raise InvalidInputError("loop", text.format(kind=context.class_of(other.end), **shown))


def _refuse_equal_attempts(context: LoopContext, body: Body, settings: LoopSettings) -> None:
    read = context.reaching(body)
    if not read & settings.changing:
        kept = [name for name, socket in (("prompt", PROMPT_OUT), ("seed", SEED_OUT)) if socket in read]
        kept_now = "".join(f"; the {name} is connected, but next_{name} is keep" for name in kept)
        raise InvalidInputError("image", NO_EFFECT.format(kept=kept_now))
    evaluation = link(context.inputs["evaluation"])
    if evaluation is not None and evaluation[0] not in body.nodes:
        raise InvalidInputError("evaluation", FOREIGN_EVALUATION)


def _refuse_repair_of_nothing(context: LoopContext, body: Body) -> None:
    """``best_so_far`` has nothing at attempt 1: it may be read only through what is asked for later, a lazy input."""
    if BEST_OUT not in start_outputs_read(context.graph, body):
        return
    graph = _asked_for(context, body)
    for name in ("image", "evaluation"):
        if BEST_OUT in start_outputs_behind(graph, body, name):
            first = link(context.inputs[name])
            behind = upstream(graph, [first[0]] if first else [])
            readers = [node for node in body.nodes if node in behind and _reads(graph[node], body.start, BEST_OUT)]
            through = f", which node {', '.join(map(context.describe, readers))} reads," if readers else ""
            raise InvalidInputError(name, NO_BEST_YET.format(through=through))


def _reads(node: Node, start: str, socket: int) -> bool:
    return any(source == (start, socket) for _, source in links(node))


def _refuse_bare_repair(context: LoopContext, body: Body) -> None:
    """``best_so_far`` straight into ``repair``, as the editor joins it where the edit between them is bypassed.

    ComfyUI gives a node all that it has of a node it waited for, lazy or not: with ``attempt`` comes the blocked image.
    """
    for node in body.nodes:
        repair = link(context.graph[node]["inputs"].get("repair")) if context.class_of(node) == REPAIR_SWITCH else None
        if repair == (body.start, BEST_OUT):
            raise InvalidInputError("image", BARE_REPAIR.format(node=context.shown_on(node)))


def _without(node: Node, inputs: Collection[str]) -> Node:
    return {**node, "inputs": {name: value for name, value in node["inputs"].items() if name not in inputs}}


def _refuse_what_fails_as_a_clone(context: LoopContext, body: Body) -> None:
    for node in body.nodes:
        kind = context.class_of(node)
        name, harmless = ONLY_WITH.get(kind, ("", ""))
        if name and context.graph[node]["inputs"].get(name, harmless) != harmless:
            when, instead = f" if its {name} is not {harmless}", f"Set {name} to {harmless}, or p"
        elif kind in NEVER:
            when, instead = "", "P"
        else:
            continue
        text = LOOKS_ITSELF_UP.format(node=context.describe(node), when=when, instead=instead)
        raise InvalidInputError("loop", text)


def _refuse_known_lists(context: LoopContext, body: Body) -> None:
    graph = _asked_for(context, body, ever=True)
    for name in ("image", "evaluation"):
        for node in lists_behind(graph, [link(context.inputs.get(name))]):
            if (count := least_values(context.everything[node])) > 1:
                raise InvalidInputError(name, A_KNOWN_LIST.format(node=context.describe(node), count=count))


def _refuse_unlike_sides(context: LoopContext, body: Body) -> None:
    """The editor joins a bypassed node's output with any input if what reads it takes anything, as our switch does."""
    for node in body.nodes:
        if context.class_of(node) == REPAIR_SWITCH:
            kinds = {side: context.type_over(node, side) for side in ("generate", "repair")}
            found = set(kinds.values())
            if len(found) > 1 and found <= PLAIN_TYPES and not found <= NUMBERS:
                raise InvalidInputError("image", UNLIKE_SIDES.format(node=context.shown_on(node), **kinds))


def _lists_of_repairs(context: LoopContext, body: Body) -> Iterator[str]:
    """The nodes that may give more than one value, but not before the second attempt: then the first one is paid."""
    sources = [link(context.inputs.get(name)) for name in ("image", "evaluation")]
    at_once = lists_behind(_asked_for(context, body), sources)
    for node in lists_behind(_asked_for(context, body, ever=True), sources):
        if node not in at_once and makes_lists(context.everything[node]):
            yield MAYBE_A_LIST.format(node=context.describe(node))


def _asked_for(context: LoopContext, body: Body, ever: bool = False) -> dict[str, Node]:
    """The graph with the inputs that attempt 1 surely asks for; ``ever``: and all that our switches may ask for."""
    graph = {**context.everything}
    for node in upstream(context.graph, [body.end]):
        kind = context.class_of(node)
        if kind != END and not (ever and kind in SWITCHES):  # an inner loop asks for its image at once
            graph[node] = _without(graph[node], context.lazy_inputs(node) - {_taken_at_first(context, body, node)})
    return graph


def _taken_at_first(context: LoopContext, body: Body, node: str) -> str:
    """The side that a Generate or Repair takes at attempt 1, "" for another node or if that is not known."""
    attempt = context.graph[node]["inputs"].get("attempt")
    first = 1 if link(attempt) == (body.start, ATTEMPT_OUT) else attempt
    known = context.class_of(node) == REPAIR_SWITCH and isinstance(first, int)
    return ("repair" if first >= FIRST_REPAIR else "generate") if known else ""


def _senders_of_nothing(context: LoopContext, body: Body, name: str) -> Iterator[tuple[str, str]]:
    """(node, why) for each node of the body that may block what End's input ``name`` reads."""
    switches = {node for node in body.nodes if context.class_of(node) in SWITCHES}
    for node, socket in sorted(links_read(context.graph, body, name, switches.__contains__)):
        inputs, kind = context.graph[node]["inputs"], context.class_of(node)
        if kind == SPLIT and socket not in SPLIT_COUNTS:
            yield node, "Split Passed / Failed, which sends nothing on if its side is empty"
        elif kind == SWITCH and not {"on_pass", "on_fail"} <= inputs.keys():
            yield node, "a Quality Switch that sends nothing on if a side is not connected"
        elif kind == REPAIR_SWITCH and not {"generate", "repair"} <= inputs.keys():
            yield node, "a Generate or Repair that sends nothing on if a side is not connected"
        elif kind == END and socket == PASSED_OUT:
            yield node, "whose passed_images are not sent on if none passed"
        elif kind == END and socket == KEPT_OUT and inputs.get("keep_attempts", False) is False:
            yield node, "whose attempt_images are not sent on while its keep_attempts is off"
        elif kind == END and socket == EVALUATION_OUT and "evaluation" not in inputs:
            yield node, "an End that has no evaluation to send on, because none is connected to it"


def _unused_outputs(context: LoopContext, body: Body, settings: LoopSettings) -> list[str]:
    """What is to change from attempt to attempt, and would not change the image."""
    reaching = context.reaching(body)
    changes_otherwise = context.max_attempts(settings) == 1 or BEST_OUT in reaching
    in_vain = set() if changes_otherwise else settings.changing - reaching
    return [text for socket, text in UNUSED.items() if socket in in_vain]


def _chosen_at_the_queue(context: LoopContext, body: Body) -> Iterator[str]:
    """Wildcards that follow the seed of the attempt, but are filled in by Impact Pack before anything runs."""
    for node in body.nodes:
        seed = link(context.graph[node]["inputs"].get("seed"))
        follows = context.class_of(node) in AT_THE_QUEUE and seed == (body.start, SEED_OUT)
        populated = context.graph[node]["inputs"].get("populated_text")
        if follows and isinstance(populated, str) and not WILDCARD.search(populated):
            yield CHOSEN_AT_THE_QUEUE.format(node=context.describe(node))


# --- what it may cost ---------------------------------------------------------------------------------


async def worst_case(context: LoopContext, body: Body, settings: LoopSettings) -> str:
    """ "at most 3 evaluations, 0.30 credits …": what all attempts may cost, as far as that is known."""
    counts, most = paid_evaluations(context, body), context.max_attempts(settings)
    evaluations = sum(counts.values()) * most
    if not evaluations:
        return ""
    prices = {job_class: await _price(job_class) for job_class in counts}
    credits = ""
    if None not in prices.values():
        credits = f", {sum((prices[job_class] or 0) * count for job_class, count in counts.items()) * most:f} credits"
    limit = _runtime.settings().max_evaluations_per_prompt
    stopped = f" · your limit of {limit} for one prompt would end it before" if evaluations > limit else ""
    each = "".join(["for each image of a batch", *_rounds(context, body, counts)])
    return f"at most {evaluations} evaluations{credits} {each}{stopped}"


def paid_evaluations(context: LoopContext, body: Body) -> Counter[str | None]:
    """How many evaluations one attempt may pay for, for each priced class; ``None`` is an unknown class."""
    inner = {node: found for node in body.nodes if (found := context.body_inside(node)) is not None}
    times = repetitions(body, inner, context.max_attempts_inside)
    counts: Counter[str | None] = Counter()
    for node in body.nodes:
        if context.class_of(node) == EVALUATE and _may_cost(context.graph[node]["inputs"]):
            counts[_job_class(context, node)] += times[node]
    return counts


def _rounds(context: LoopContext, body: Body, counts: Counter[str | None]) -> Iterator[str]:
    """Loops of other packs repeat this as often as they like: how often is not known here."""
    for other in context.foreign_loops():
        evaluates = any(context.class_of(node) == EVALUATE for node in other.nodes)
        if body.end in other.nodes or (other.end in body.nodes and evaluates):
            yield f" and each round of the loop that ends at node {context.shown_on(other.end)}"


def _may_cost(evaluate: Mapping[str, Any]) -> bool:
    """Whether Runflow may answer; a judge that comes over a link may be any."""
    judge = evaluate.get("judge", "auto")
    try:
        return not isinstance(judge, str) or _runtime.evaluator().resolve(judge) == RUNFLOW
    except RunflowError:
        return False  # Evaluate will say what is wrong with the configuration


def _job_class(context: LoopContext, evaluate: str) -> str | None:
    source = link(context.graph[evaluate]["inputs"].get("options"))
    if source is None:
        return "standard"
    options = context.everything.get(source[0], {})
    known = options.get("class_type") == "RunflowEvaluationOptions"
    job_class = options["inputs"].get("job_class", "standard") if known else None
    return job_class if isinstance(job_class, str) else None


async def _price(job_class: str | None) -> Decimal | None:
    """The price of one evaluation in credits; ``None`` if it cannot be known, or not soon."""
    if job_class is None:
        return None
    try:
        prices = _runtime.evaluator().prices
    except RunflowError:
        return None  # Evaluate will say what is wrong with the configuration
    looking_up = background.call(prices.price, job_class, Deadline.after(PRICE_WITHIN_S))
    price: Decimal | None = await run_with_timeout(looking_up)
    return price


async def run_with_timeout(answer: Future[Any]) -> Any:
    """The answer, ``None`` if it takes too long; Cancel is heard meanwhile."""
    waiting, give_up = asyncio.wrap_future(answer), time.monotonic() + PRICE_WITHIN_S
    while not waiting.done() and time.monotonic() < give_up:
        comfy.model_management.throw_exception_if_processing_interrupted()
        await asyncio.wait({waiting}, timeout=_runtime.LOOK_FOR_CANCEL_S)
    return waiting.result() if waiting.done() else None
