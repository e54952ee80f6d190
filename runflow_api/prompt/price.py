"""What queueing an API prompt would spend, and why it would not run: asked before anything is queued, and free.

The one code for ComfyUI's route and for the command line. What it says is exact where every pixel that would be
judged can be read now (Load Image) and nothing repeats; otherwise it is the most that can be spent, and says so.
Nothing is written, and nothing is sent but the question for prices.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, TypeVar, cast

from ..api.transport import Deadline
from ..errors import BudgetError, InvalidInputError, RunflowError
from ..evaluation import failures
from ..evaluation.evaluator import Evaluator
from ..evaluation.job import Batch, BatchItem, Job
from ..evaluation.local import preflight
from ..evaluation.polling import Progress
from ..evaluation.question import JUDGES, JudgeChoice, Options, Question, require_choice, resolve
from ..evaluation.verdict import LOCAL, MODEL, OFF, RUNFLOW, Policy, Subject, credits_text
from ..images import Picture
from .classes import EVALUATE, OPTIONS, UNKNOWN_CLASS, Classes, listed
from .graph import link, upstream
from .reading import PromptReader, ReadImage, check_prompt, valid_outputs
from .sockets import MAX_NAMED, certain_outputs, circles, may_stop, wrong_inputs

PRICE_WITHIN_S = 5.0
NOBODY_READS_IT = "Nothing reads this Evaluate: add a Show Verdict."
NO_OUTPUT = "There is no output node, so ComfyUI refuses it."
EQUAL_ATTEMPTS = "next_prompt keep with next_seed keep makes the same attempt again."
SAME_IMAGE = "Its image is the same at every attempt: it does not come after this loop's Start."
UNKNOWN_HERE = "Only ComfyUI can say whether it has these classes of nodes, and it refuses all if it lacks one: {}."
RUNFLOW_DECIDES = "Node {}: whether Runflow knows its {} is told only by asking; what it refuses is not paid."
NO_SUCH_CLASS = "Node {}: Runflow has no job class “{}” now."

log = logging.getLogger("runflow_evaluate")
T = TypeVar("T", Question, Options, Policy)
Wanted = tuple[str, Question, Options]
"""An image that would be paid for: the hash of its pixels, and what is asked about it."""


class WillNotRunError(InvalidInputError):
    """ComfyUI would refuse this, or would not run it."""

    code = "WILL_NOT_RUN"

    def __init__(self, message: str) -> None:
        RunflowError.__init__(self, message)


@dataclass(frozen=True)
class Problem:
    """Why something would not run, or would stop. ``node`` is "" if it is the whole prompt."""

    node: str
    error: RunflowError

    def to_json(self) -> dict[str, str]:
        return {"node": self.node, "code": self.error.code, "message": self.error.text}


@dataclass(frozen=True)
class NodePrice:
    """What one Evaluate would spend. ``images`` and ``attempts`` are ``None`` if they are not known."""

    node: str
    judge: str = ""
    runs: bool = True
    job_class: str | None = "standard"
    evaluations: int = 0
    at_most: bool = False
    images: int | None = None
    attempts: int | None = 1
    price: Decimal | None = None
    wanted: tuple[Wanted, ...] | None = None
    """Every image that it would pay for, if all of them are known."""

    @property
    def credits(self) -> Decimal | None:
        if not self.evaluations:
            return Decimal(0)
        return None if self.price is None else self.price * self.evaluations

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "judge": self.judge,
            "runs": self.runs,
            "evaluations": self.evaluations,
            "at_most": self.at_most,
            "images": self.images,
            "attempts": self.attempts,
            "job_class": self.job_class,
            "price": credits_text(self.price) or None,
            "credits": credits_text(self.credits) or None,
        }


@dataclass(frozen=True)
class PromptPrice:
    """What a prompt would spend. ``runs``: whether ComfyUI would take it; ``limit`` counts per queued prompt."""

    nodes: tuple[NodePrice, ...]
    problems: tuple[Problem, ...]
    runs: bool
    evaluations: int
    at_most: bool
    limit: int
    notes: tuple[str, ...] = ()

    @property
    def credits(self) -> Decimal | None:
        """``None`` if a price is not known; if a limit stops it, what that lets through at the highest price."""
        paid = [node for node in self.nodes if node.evaluations]
        if any(node.price is None for node in paid):
            return None
        together = sum((node.credits or Decimal(0) for node in paid), Decimal(0))
        highest = max((node.price or Decimal(0) for node in paid), default=Decimal(0))
        return min(together, highest * self.evaluations)

    @property
    def text(self) -> str:
        """One line: "at most 3 evaluations, 0.30 credits"."""
        if not self.evaluations:
            return "nothing to pay"
        most, several = "at most " if self.at_most else "", "s" if self.evaluations > 1 else ""
        credits = "the price is not known" if self.credits is None else f"{self.credits:f} credits"
        return f"{most}{self.evaluations} evaluation{several}, {credits}"

    def to_json(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "runs": self.runs,
            "evaluations": self.evaluations,
            "credits": credits_text(self.credits) or None,
            "at_most": self.at_most,
            "limit": self.limit,
            "nodes": [node.to_json() for node in self.nodes],
            "problems": [problem.to_json() for problem in self.problems],
            "notes": list(self.notes),
        }


def price(
    prompt: Any,
    evaluator: Evaluator,
    *,
    read_image: ReadImage,
    classes: Classes = listed,
    outputs: Collection[str] | None = None,
    problems: Sequence[Problem] = (),
) -> PromptPrice:
    """What queueing ``prompt`` (API format) would spend. Blocks for a moment: files are read, prices looked up.

    ``outputs`` are the output nodes that ComfyUI would run and ``problems`` why it would not run others; with
    ``None`` both are worked out from ``classes``. Raises ``InvalidInputError`` for what is no API prompt.
    """
    graph, found, certain = check_prompt(prompt), list(problems), outputs
    notes: list[str] = []
    if outputs is None:
        outputs, lacking = valid_outputs(graph, classes)
        found += [Problem(name, WillNotRunError(why)) for name, why in lacking.items()]
        found += [] if outputs or lacking else [Problem("", WillNotRunError(NO_OUTPUT))]
        needed, in_circles = upstream(graph, outputs), circles(graph)
        wrong = wrong_inputs(graph) | in_circles
        found += [Problem(name, WillNotRunError(why)) for name, why in wrong.items() if name in needed]
        kinds = sorted({str(node["class_type"]) for node in graph.values()})
        unknown = [kind for kind in kinds if classes(kind) == UNKNOWN_CLASS]
        notes = [UNKNOWN_HERE.format(", ".join(unknown[:MAX_NAMED]))] if unknown else []
        # An unknown class, or a circle, may make ComfyUI refuse or stop all of it.
        certain = set() if unknown or needed & in_circles.keys() else certain_outputs(graph, outputs)
    stops = may_stop(graph, upstream(graph, outputs))
    if stops:
        certain = set()
        notes += list(stops.values())[:MAX_NAMED]
    reader = PromptReader(graph, classes, outputs, read_image, certain)
    return _Pricing(reader, evaluator, found, notes).price()


class _Pricing:
    def __init__(self, reader: PromptReader, evaluator: Evaluator, problems: list[Problem], notes: list[str]) -> None:
        self.reader = reader
        self.evaluator = evaluator
        self.config = evaluator.config
        self.problems = problems
        self.notes = notes

    def price(self) -> PromptPrice:
        nodes = []
        for name in self.reader.graph:
            if self.reader.kind(name) == EVALUATE:
                try:
                    nodes.append(self._evaluate(name))
                except RunflowError as error:
                    nodes.append(NodePrice(name, runs=name in self.reader.running))
                    self.problems.append(Problem(name, error))
        self.problems += self._loop_problems()
        return self._summed(self._less_known(self._with_prices(nodes)))

    # --- one Evaluate

    def _evaluate(self, name: str) -> NodePrice:
        """What it would spend at most. Raises what would stop it before anything is paid."""
        reader, inputs = self.reader, self.reader.inputs(name)
        if name not in reader.running:
            if not reader.is_read(name):
                raise WillNotRunError(NOBODY_READS_IT)
            return NodePrice(name, runs=False)
        question, are_texts_known = self._literals(name, Question)
        if any(inputs.get(each) and not link(inputs[each]) for each in ("references", "options", "judge_model")):
            are_texts_known = False  # the node stops at what is no such thing
        policy, _ = self._literals(name, Policy)
        options, are_options_known = self._options(inputs)
        asked, judge = self._judge(name)
        if judge != RUNFLOW:
            if judge != OFF:
                policy.check()
            has_address = self.config.model_url is not None and self.config.model_name
            if judge == MODEL and not link(inputs.get("judge_model")) and not has_address:
                if policy.if_not_judged == "stop":
                    raise failures.needs_model()
                self.notes.append(f"Node {name}: {failures.needs_model().text}")
            if judge == LOCAL and asked == "auto" and policy.if_not_judged == "stop":
                self._refuse_content(inputs, question)
            return NodePrice(name, judge)
        policy.check()
        options.check(self.config)
        if not self.config.api_key and asked is None:
            return NodePrice(name, "")  # whoever it is, Runflow cannot be asked
        self.config.require_key()
        references = reader.references(link(inputs.get("references")))
        question = replace(question, references=references or ())
        question.check()
        found = NodePrice(name, judge, job_class=self._job_class(inputs))
        is_known = None not in (asked, references) and are_texts_known and are_options_known
        attempts, is_open = reader.attempts(name), reader.may_repeat(name)
        if is_known and attempts == 1 and not is_open and name in reader.certain:
            pictures = reader.pictures(link(inputs.get("image")))
            if pictures is not None:
                wanted = tuple(self._worth_paying(pictures, question, options))
                named = self._named_at_runflow(question, options)
                self.notes += [RUNFLOW_DECIDES.format(name, " and its ".join(named))] if named and wanted else []
                return replace(found, images=len(pictures), evaluations=len(wanted), at_most=bool(named), wanted=wanted)
        images, limit = reader.count(link(inputs.get("image"))), self.config.max_evaluations_per_prompt
        most = limit if is_open or images is None else min(images * attempts, limit)
        if not is_open and images is not None and images * attempts > limit:
            self.notes.append(f"Node {name} may ask for {images * attempts} evaluations.")
        return replace(found, images=images, attempts=None if is_open else attempts, evaluations=most, at_most=True)

    def _judge(self, name: str) -> tuple[JudgeChoice | None, str]:
        """What the node says, ``None`` if only the run knows it, and who answers; of several the one that costs."""
        asked = self.reader.plain(name, "judge", "auto")
        if asked is None:
            return None, RUNFLOW
        require_choice("judge", asked, JUDGES)
        chosen = cast("JudgeChoice", asked)
        return chosen, resolve(chosen, self.config, has_model=bool(link(self.reader.inputs(name).get("judge_model"))))

    def _refuse_content(self, inputs: Mapping[str, Any], question: Question) -> None:
        linked = any(link(inputs.get(each)) for each in ("evaluation_instructions", "references"))
        if linked or question.asks_about_content:
            raise failures.needs_key()

    def _literals(self, name: str, kind: type[T]) -> tuple[T, bool]:
        """``kind`` from a node's inputs, and whether all of them are known now; others are as by default."""
        values, are_known = {}, True
        for each in fields(kind):
            if each.name == "references" or each.name not in self.reader.inputs(name):
                continue
            value = self.reader.plain(name, each.name)
            if value is None:
                are_known = False
            else:
                values[each.name] = _like(each.default, value, each.name)
        return kind(**values), are_known

    def _options(self, inputs: Mapping[str, Any]) -> tuple[Options, bool]:
        source = link(inputs.get("options"))
        if source is None:
            return Options(), True
        return self._literals(source[0], Options) if self.reader.kind(source[0]) == OPTIONS else (Options(), False)

    def _job_class(self, inputs: Mapping[str, Any]) -> str | None:
        """``None`` if only the run knows it."""
        source = link(inputs.get("options"))
        if source is None:
            return Options.job_class
        if self.reader.kind(source[0]) != OPTIONS:
            return None
        named = self.reader.plain(source[0], "job_class", Options.job_class)
        return None if named is None else str(named)

    def _named_at_runflow(self, question: Question, options: Options) -> list[str]:
        """What the question names that only Runflow has, so that it may refuse it."""
        has_asset = any(each.url.startswith("runflow://") for each in question.references)
        named = {"run_id": bool(options.run_id.strip()), "asset": has_asset}
        return [what for what, is_named in named.items() if is_named]

    def _worth_paying(self, pictures: Sequence[Picture], question: Question, options: Options) -> Iterator[Wanted]:
        """What preflight lets through."""
        batch = Batch(Job(pictures, question, options=options), Deadline.after(PRICE_WITHIN_S), Progress(len(pictures)))
        for index, picture in enumerate(pictures):
            subject = Subject(question.generation_prompt, picture.hash)
            if preflight(BatchItem(batch, index, picture, subject, options.upload), self.config) is None:
                yield picture.hash, question, options

    # --- loops that cannot work

    def _loop_problems(self) -> Iterator[Problem]:
        for end, body in self.reader.loops.items():
            if self.reader.attempts_of(end) == 1:
                continue
            if all(self.reader.plain(end, each, "") == "keep" for each in ("next_prompt", "next_seed")):
                yield Problem(end, WillNotRunError(EQUAL_ATTEMPTS))
            source = link(self.reader.inputs(end).get("image"))
            if source is not None and source[0] not in (*body.nodes, body.start):
                yield Problem(end, WillNotRunError(SAME_IMAGE))

    # --- the sum

    def _with_prices(self, nodes: list[NodePrice]) -> list[NodePrice]:
        if not any(node.evaluations for node in nodes):
            return nodes
        prices = self.evaluator.prices.all(Deadline.after(PRICE_WITHIN_S))
        highest = max(prices.values(), default=None)
        lacking = [node for node in nodes if prices and node.evaluations and node.job_class not in (None, *prices)]
        self.notes += [NO_SUCH_CLASS.format(node.node, node.job_class) for node in lacking]
        nodes = [replace(node, at_most=True) if node in lacking else node for node in nodes]
        return [
            replace(node, price=highest if node.job_class is None else prices.get(node.job_class)) for node in nodes
        ]

    def _less_known(self, nodes: list[NodePrice]) -> list[NodePrice]:
        """What is known or under way already is not paid again, nor what another node of the prompt asks too.

        Of what only the run knows, one new evaluation is asked for: if even that breaks a limit, nothing is paid.
        """
        token, bookkeeper = f"price:{uuid.uuid4()}", self.evaluator.bookkeeper
        asked, requests = [], []
        for index, node in enumerate(nodes):
            unknown = ((uuid.uuid4().hex, Question(), Options()),) if node.evaluations else ()
            for pixel_hash, question, options in unknown if node.wanted is None else node.wanted:
                job = Job((), question, options=options, prompt_token=token)
                asked.append(index)
                requests.append(job.request(pixel_hash, node.price, self.evaluator.config.base_url))
        if not requests:
            return nodes
        try:
            new = bookkeeper.estimate(requests)
        except BudgetError as error:
            self.problems.append(Problem("", error))
            is_refused_whole = len(set(asked)) == 1
            return [replace(node, evaluations=0) if is_refused_whole else self._at_most(node) for node in nodes]
        except RunflowError as error:
            self.notes.append(f"What was judged before is not known. {error.text}")
            return [self._at_most(node) for node in nodes]
        distinct = {request.request_hash for request in requests}
        is_racing = len(distinct) < len(requests) and not all(request.reuse for request in requests)
        counts = [
            sum(is_new for at, is_new in zip(asked, new, strict=True) if at == index) for index in range(len(nodes))
        ]
        return [
            node if node.wanted is None or is_racing else self._only(node, count)
            for node, count in zip((map(self._at_most, nodes) if is_racing else nodes), counts, strict=True)
        ]

    def _only(self, node: NodePrice, count: int) -> NodePrice:
        return replace(node, evaluations=count, at_most=node.at_most and count > 0)

    def _at_most(self, node: NodePrice) -> NodePrice:
        return replace(node, at_most=node.evaluations > 0)

    def _summed(self, nodes: list[NodePrice]) -> PromptPrice:
        evaluations, limit = sum(node.evaluations for node in nodes), self.config.max_evaluations_per_prompt
        is_stopped = evaluations > 0 and any(
            not problem.node or problem.node in self.reader.running for problem in self.problems
        )
        if evaluations > limit:
            self.notes.append(f"Your limit of {limit} evaluations for one queued prompt would stop it.")
        return PromptPrice(
            nodes=tuple(nodes),
            problems=tuple(self.problems),
            runs=bool(self.reader.outputs),
            evaluations=min(evaluations, limit),
            at_most=any(node.at_most for node in nodes) or is_stopped or evaluations > limit,
            limit=limit,
            notes=tuple(self.notes),
        )


def _like(default: Any, value: Any, name: str) -> Any:
    """``value`` as ComfyUI gives it to the node: a number as a number, a text as a text."""
    kind = type(default)
    try:
        return kind(value) if kind in (bool, int, float) else str(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(name, f"“{str(value)[:60]}” is not a number.") from error
