"""What ComfyUI checks of a prompt, as far as that can be told without a ComfyUI: sockets, links, circles.

Only of the classes in this table. Whatever is not certain of the others makes a price the most that can be spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .graph import Graph, link, upstream

_TABLE = """
RunflowEvaluateImage image!:IMAGE generation_prompt:STRING evaluation_instructions:STRING judge:COMBO
    min_score:FLOAT if_not_judged:COMBO task_type:STRING task_description:STRING references:RUNFLOW_REFERENCES
    options:RUNFLOW_OPTIONS judge_model:RUNFLOW_JUDGE_MODEL > BOOLEAN FLOAT STRING STRING RUNFLOW_EVALUATION
RunflowEvaluationDetails evaluation!:RUNFLOW_EVALUATION index:INT > STRING STRING STRING STRING STRING STRING STRING
    STRING STRING
RunflowEvaluationOptions input_attributes:STRING run_id:STRING client_ref:STRING job_class:STRING
    callback_url:STRING timeout_s:INT reuse:BOOLEAN upload:COMBO preflight:COMBO wait:BOOLEAN > RUNFLOW_OPTIONS
RunflowExamplePhoto photo!:COMBO > IMAGE
RunflowGetEvaluation evaluation_ids!:STRING wait:BOOLEAN min_score:FLOAT if_not_judged:COMBO timeout_s:INT > BOOLEAN
    FLOAT STRING STRING RUNFLOW_EVALUATION
RunflowGetRun run_id!:STRING wait:BOOLEAN timeout_s:INT > STRING BOOLEAN FLOAT STRING STRING
RunflowJudgeModel clip!:CLIP max_length:INT thinking:BOOLEAN > RUNFLOW_JUDGE_MODEL
RunflowPickBest image!:IMAGE evaluation!:RUNFLOW_EVALUATION > IMAGE INT FLOAT IMAGE RUNFLOW_EVALUATION
    RUNFLOW_EVALUATION
RunflowReferenceImage image:IMAGE url:STRING kind:STRING description:STRING references:RUNFLOW_REFERENCES >
    RUNFLOW_REFERENCES
RunflowRegenerateEnd loop!:RUNFLOW_LOOP image!:IMAGE evaluation:RUNFLOW_EVALUATION max_attempts:INT
    next_prompt:COMBO next_seed:COMBO stop_on_pass:BOOLEAN keep_attempts:BOOLEAN passes_wanted:INT give_up_after:INT
    > IMAGE BOOLEAN FLOAT STRING STRING INT INT RUNFLOW_EVALUATION IMAGE IMAGE
RunflowRegenerateStart prompt!:STRING seed!:INT > RUNFLOW_LOOP STRING INT INT STRING STRING IMAGE STRING
RunflowRepairSwitch attempt!:INT generate:* repair:* repair_from:INT > *
RunflowSaveJudged image!:IMAGE evaluation!:RUNFLOW_EVALUATION filename_prefix:STRING folders:COMBO what:COMBO
    sidecar:BOOLEAN >
RunflowSendFeedback evaluation!:RUNFLOW_EVALUATION rating:COMBO reason:STRING >
RunflowShowVerdict evaluation!:RUNFLOW_EVALUATION >
RunflowSplitByVerdict image!:IMAGE evaluation!:RUNFLOW_EVALUATION > IMAGE IMAGE IMAGE INT INT INT RUNFLOW_EVALUATION
    RUNFLOW_EVALUATION
RunflowVerdictCard image!:IMAGE evaluation!:RUNFLOW_EVALUATION filename_prefix:STRING title:STRING audience:COMBO
    language:COMBO > IMAGE
RunflowVerdictSwitch passed!:BOOLEAN on_pass:* on_fail:* > *
LoadImage image!:COMBO > IMAGE MASK
PreviewImage images!:IMAGE >
SaveImage images!:IMAGE filename_prefix!:STRING >
PreviewAny source!:* >
PrimitiveString value!:STRING > STRING
PrimitiveStringMultiline value!:STRING > STRING
PrimitiveInt value!:INT > INT
PrimitiveFloat value!:FLOAT > FLOAT
PrimitiveBoolean value!:BOOLEAN > BOOLEAN
"""
"""Each class with its inputs ("!": required) and, behind ">", its outputs."""
_WIDGETS = {"STRING": str, "INT": int, "FLOAT": float, "BOOLEAN": bool, "COMBO": str}
ANY = "*"
MAX_NAMED = 5
CHOSEN = ("INT", "FLOAT", "COMBO")
"""Types with a range or choices, which this table does not have."""
CHECKED_ELSEWHERE = {
    "RunflowEvaluateImage", "RunflowEvaluationOptions", "RunflowReferenceImage", "LoadImage", "PrimitiveInt",
    "PrimitiveFloat",
}  # fmt: skip
"""Whose ranges and choices the question itself checks, or that have none."""
CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "RunflowEvaluationDetails": {"index": (0,)},
    "RunflowRegenerateEnd": {"next_prompt": ("improved", "keep"), "next_seed": ("increment", "random", "keep")},
    "RunflowSaveJudged": {"folders": ("together", "by_verdict"), "what": ("all", "passed", "failed")},
    "RunflowSendFeedback": {"rating": ("none", "good", "bad", "clear")},
    "RunflowVerdictCard": {"audience": ("internal", "client"), "language": ("auto", "en", "zh", "ja")},
}
"""Values that neither ComfyUI nor the node ever refuses."""
OUTPUTS_VARY = {"PreviewImage", "SaveImage", "PreviewAny"}
"""Which have outputs in newer versions of ComfyUI, and none in older ones."""
ASKS_RUNFLOW = {"RunflowGetEvaluation", "RunflowGetRun"}
"""Who stops the run if Runflow does not have what they ask for."""


@dataclass(frozen=True)
class Sockets:
    """The types of a class's inputs and outputs."""

    inputs: dict[str, str]
    required: frozenset[str]
    outputs: tuple[str, ...]


def _sockets() -> dict[str, Sockets]:
    found: dict[str, Sockets] = {}
    for line in _TABLE.replace("\n    ", " ").strip().splitlines():
        head, _, outputs = line.partition(">")
        name, *given = head.split()
        inputs = dict(each.split(":") for each in given)
        required = frozenset(each.rstrip("!") for each in inputs if each.endswith("!"))
        types = {each.rstrip("!"): kind for each, kind in inputs.items()}
        found[name] = Sockets(types, required, tuple(outputs.split()))
    return found


KNOWN = _sockets()


def circles(graph: Graph) -> dict[str, str]:
    """What stands in a circle of links, or between two, and why nothing can run it: a sentence for each node."""
    before = {name: {source for source in _sources(graph, name) if source in graph} for name in graph}
    after: dict[str, set[str]] = {name: set() for name in graph}
    for name, sources in before.items():
        for source in sources:
            after[source].add(name)
    left = _without_ends(after, _without_ends(before, set(graph)))
    return {name: f"{_called(graph, name)} depends on itself, in a circle of links." for name in graph if name in left}


def _without_ends(needs: dict[str, set[str]], left: set[str]) -> set[str]:
    """What is left after all that needs nothing of what is left has been taken away, again and again."""
    readers: dict[str, list[str]] = {name: [] for name in left}
    open_needs = {name: needs[name] & left for name in left}
    for name, needed in open_needs.items():
        for each in needed:
            readers[each].append(name)
    waiting = [name for name in left if not open_needs[name]]
    while waiting:
        name = waiting.pop()
        for reader in readers[name]:
            open_needs[reader].discard(name)
            if not open_needs[reader]:
                waiting.append(reader)
    return {name for name in left if open_needs[name]}


def wrong_inputs(graph: Graph) -> dict[str, str]:
    """What is wrong with the inputs of the nodes in the table, a sentence for each such node."""
    return {name: why for name in graph if (why := _wrong_inputs(graph, name))}


def certain_outputs(graph: Graph, outputs: Iterable[str]) -> set[str]:
    """The output nodes that ComfyUI takes for certain, if it knows every class and nothing stands in a circle."""
    doubtful = {name for name in graph if _is_doubtful(graph, name)}
    return {name for name in outputs if not doubtful & upstream(graph, [name])}


def _is_doubtful(graph: Graph, name: str) -> bool:
    kind, inputs = str(graph[name]["class_type"]), graph[name]["inputs"]
    if kind not in KNOWN or _wrong_inputs(graph, name) or any(_varies(graph, each) for each in _sources(graph, name)):
        return True
    if kind in CHECKED_ELSEWHERE:
        return False
    types, choices = KNOWN[kind].inputs, CHOICES.get(kind, {})
    literal = {each: value for each, value in inputs.items() if not isinstance(value, list)}
    return any(types.get(each) in CHOSEN and value not in choices.get(each, ()) for each, value in literal.items())


def may_stop(graph: Graph, names: Iterable[str]) -> dict[str, str]:
    """Which of these nodes may fail in the run, and so keep others from being paid: a sentence for each.

    ComfyUI hands on a link to an input that a class does not have, and the node then fails.
    """
    found = {}
    for name in names:
        if name not in graph:
            continue
        kind, inputs = str(graph[name]["class_type"]), graph[name]["inputs"]
        extra = (
            [each for each, value in inputs.items() if link(value) and each not in KNOWN[kind].inputs]
            if kind in KNOWN
            else []
        )
        if extra:
            found[name] = (
                f"{_called(graph, name)} has no input {' and '.join(extra[:MAX_NAMED])}, and may stop the run."
            )
        elif kind in ASKS_RUNFLOW:
            found[name] = f"{_called(graph, name)} stops the run if Runflow does not have what it asks for."
    return found


def _wrong_inputs(graph: Graph, name: str) -> str:
    """In one sentence; "" if nothing is wrong, or for a class that is not in the table."""
    kind, inputs = str(graph[name]["class_type"]), graph[name]["inputs"]
    if kind not in KNOWN:
        return ""
    missing = [each for each in sorted(KNOWN[kind].required) if inputs.get(each) is None]
    if missing:
        return f"{_called(graph, name)} has nothing in {' and '.join(missing)}."
    for each, wanted in KNOWN[kind].inputs.items():
        if each in inputs and (wrong := _wrong(graph, wanted, inputs[each])):
            return f"{_called(graph, name)}: {each} {wrong}."
    return ""


def _wrong(graph: Graph, wanted: str, value: Any) -> str:
    """What is the matter with a value of an input; "" if nothing is."""
    if isinstance(value, list):
        return _wrong_link(graph, wanted, value)
    if wanted == ANY or (value is None and wanted not in _WIDGETS):
        return ""
    if wanted not in _WIDGETS:
        return f"is {type(value).__name__} instead of a link"
    if value is None or isinstance(value, dict):
        return f"is {type(value).__name__} instead of a value"
    try:
        _WIDGETS[wanted](value)
    except (TypeError, ValueError, OverflowError):
        return "is no number"
    return "" if wanted != "COMBO" or isinstance(value, str) else "is none of its choices"


def _wrong_link(graph: Graph, wanted: str, value: list[Any]) -> str:
    source = link(value)
    if source is None or not isinstance(value[1], int) or isinstance(value[1], bool):
        return "is a list that is no link"
    if source[0] not in graph:
        return f"is linked to node {source[0]}, which is not there"
    known = KNOWN.get(str(graph[source[0]]["class_type"]))
    if known is None or _varies(graph, source[0]):
        return ""
    if not 0 <= source[1] < len(known.outputs):
        return f"is linked to output {source[1]} of {_called(graph, source[0])}, which has {len(known.outputs)}"
    given = known.outputs[source[1]]
    if ANY not in (wanted, given) and wanted != given:
        return f"takes {wanted}, and gets {given} from {_called(graph, source[0])}"
    return ""


def _sources(graph: Graph, name: str) -> Iterator[str]:
    for value in graph[name]["inputs"].values():
        source = link(value)
        if source is not None:
            yield source[0]


def _varies(graph: Graph, name: str) -> bool:
    return name in graph and graph[name]["class_type"] in OUTPUTS_VARY


def _called(graph: Graph, name: str) -> str:
    return f"{graph[name]['class_type']} ({name})"
