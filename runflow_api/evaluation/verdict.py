"""The immutable verdict of one image, effective of the person's rules, and what a batch of them says.

A verdict is *passed*, *failed* or *unknown* (not judged). ``passed`` is what a workflow acts on: ``overall_passed``
and, if a minimum is set, a score that reaches it. A null verdict never passes. What nobody judged passes only if the
person said so (``if_not_judged``), and stays *unknown* all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..api.models import Evaluation, EvaluationStatus, JudgeOpinion
from ..errors import InvalidInputError, RunflowError
from .issues import bounded, cut, distinct, issue_lines

if TYPE_CHECKING:
    from .comparison import AttemptLines


class Outcome(str, Enum):
    """What was said of an image; *unknown* is not judged."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"

    __str__ = str.__str__


PASSED, FAILED, UNKNOWN = Outcome.PASSED, Outcome.FAILED, Outcome.UNKNOWN
RUNFLOW, LOCAL, PREFLIGHT, OFF, MODEL, PERSON = "runflow", "local", "preflight", "off", "model", "person"
SEE_CONTENT = (PERSON, RUNFLOW, MODEL)
"""Judges that know what an image shows, the one who is believed most first; the others measure pixels."""
IfNotJudged = Literal["stop", "fail", "pass", "ask"]
IF_NOT_JUDGED: tuple[IfNotJudged, ...] = get_args(IfNotJudged)
WITHOUT_A_PERSON = IF_NOT_JUDGED[:3]
"""The choices if nobody can be asked: the command line, and verdicts that are looked up without their image."""

LOCAL_PASSED = "pixels OK, content not judged (local judge)"
LOCAL_FAILED = "only pixels checked, content not judged (local judge)"
GLANCE = 60
"""Characters of an issue in a summary."""
NO_SCORE = "no score was given"
NO_VERDICT = "no verdict was given"


@dataclass(frozen=True)
class Policy:
    """The person's rules: ``min_score`` 0 to 1 (0 asks for none), and what counts if nobody judged."""

    min_score: float = 0.0
    if_not_judged: IfNotJudged = "stop"

    def check(self) -> None:
        """Raise ``InvalidInputError`` for what is outside its range."""
        if self.if_not_judged not in IF_NOT_JUDGED:
            raise InvalidInputError(
                "if_not_judged", f"“{self.if_not_judged}” is not one of {', '.join(IF_NOT_JUDGED)}."
            )
        if not 0.0 <= self.min_score <= 1.0:
            raise InvalidInputError("min_score", f"{self.min_score:g} is not between 0 and 1.")


@dataclass(frozen=True)
class Subject:
    """What was judged: the prompt it was judged against and the hash of its uint8 pixels."""

    prompt: str = ""
    pixel_hash: str = ""


@dataclass(frozen=True)
class Verdict:
    """What one image got. ``score`` is 0 to 1, ``cost`` credits (``None`` if unknown), time in seconds.

    ``issues`` are what is wrong with the image, and why it was not judged; ``notes`` are how it was judged.
    """

    outcome: Outcome
    passed: bool
    score: float
    issues: tuple[str, ...]
    improved_prompt: str
    judge: str
    subject: Subject = Subject()
    evaluation: Evaluation = field(default_factory=Evaluation)
    cost: Decimal | None = None
    seconds: float = 0.0
    reused: bool = False
    error: RunflowError | None = None
    notes: tuple[str, ...] = ()
    min_score: float = 0.0

    @property
    def summary(self) -> str:
        """One line for a node: outcome, score, the first issue, who judged, time and credits."""
        parts = [self.outcome if self.judge != OFF else "not judged (judge is off)"]
        if self.error is not None:
            parts.append(self.error.code)
        elif self.evaluation.weighted_pass_rate is not None:
            parts.append(f"{self.score:.2f}")
        parts += self._reason
        if self.judge == PREFLIGHT:
            parts.append("broken image, not sent, nothing paid")
        elif self.judge == RUNFLOW:
            parts += _time_and_cost(self.seconds, self.cost, self.reused)
            parts += ["sandbox: practice, not Runflow"] if self.is_practice else []
        return " · ".join([*parts, *self.notes])

    @property
    def _reason(self) -> list[str]:
        """The first issue of what did not pass, cut to a glance, and how many more there are."""
        if self.passed or self.error is not None or not self.issues:
            return []
        first = cut(self.issues[0], GLANCE)
        return [first + (f" (+{len(self.issues) - 1})" if len(self.issues) > 1 else "")]

    @property
    def judged_by(self) -> str:
        """The name of the model and where it runs, or "you"; "" for the other judges."""
        return _judged_by(self.evaluation, self.judge)

    @property
    def defects(self) -> tuple[str, ...]:
        """What the judges found wrong with the image: ``issues`` without what the person's own rules say."""
        return distinct(issue_lines(self.evaluation))

    @property
    def is_practice(self) -> bool:
        """Whether the pack's own sandbox answered: it checks pixels, and nothing was paid."""
        return bool((self.evaluation.model_extra or {}).get("sandbox"))

    def to_ui(self) -> dict[str, Any]:
        """The verdict as the graph's panel and API clients read it: plain JSON."""
        return {
            "id": self.evaluation.id,
            "image": self.subject.pixel_hash,
            "judge": self.judge,
            "verdict": str(self.outcome),
            "passed": self.passed,
            "score": self.score,
            "issues": list(self.issues),
            "notes": list(self.notes),
            "strengths": list(self.evaluation.top_strengths),
            "judged_by": self.judged_by,
            "practice": self.is_practice,
            "judges": [_check(judge) for judge in self.evaluation.judges] if self.judge != RUNFLOW else [],
            "improved_prompt": self.improved_prompt,
            "improved": self.improved_prompt != self.subject.prompt,
            "cost": credits_text(self.cost),
            "seconds": round(self.seconds, 2),
            "reused": self.reused,
            "error": self.error.code if self.error else None,
        }


@dataclass(frozen=True)
class BatchVerdict:
    """The verdicts of a batch, one per image and in order. Never empty. ``attempts``: all of the loop before it."""

    verdicts: tuple[Verdict, ...]
    attempts: tuple[AttemptLines, ...] = ()

    @property
    def min_score(self) -> float:
        """The score that was to be reached, 0 for none."""
        return max(verdict.min_score for verdict in self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def __getitem__(self, index: int) -> Verdict:
        return self.verdicts[index]

    def select(self, indices: Iterable[int]) -> BatchVerdict:
        """The verdicts at these positions, in the order given."""
        return BatchVerdict(tuple(self.verdicts[index] for index in indices))

    @property
    def ranked(self) -> tuple[int, ...]:
        """The positions from best to worst: what passed, then what was judged, then by judge, then by score."""
        return tuple(sorted(range(len(self.verdicts)), key=lambda index: _rank(self.verdicts[index])))

    @property
    def passed(self) -> bool:
        """Whether all passed."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def score(self) -> float:
        """The lowest score."""
        return min(verdict.score for verdict in self.verdicts)

    @property
    def worst(self) -> Verdict:
        """The image that failed hardest: the lowest score among those that did not pass, if any."""
        return min(self.verdicts, key=lambda verdict: (verdict.passed, verdict.score))

    @property
    def issues(self) -> str:
        """One issue per line; in a batch each line names its image, counted from 1.

        Short enough to be joined to a prompt: of very many the first are named, and how many more there are.
        """
        return "\n".join(bounded([f"{name}{line}" for name, each in self._named() for line in each.issues]))

    @property
    def notes(self) -> str:
        """How they were judged, one note per line, as ``issues`` has them."""
        return "\n".join(f"{name}{line}" for name, each in self._named() for line in each.notes)

    def _named(self) -> Iterator[tuple[str, Verdict]]:
        for number, verdict in enumerate(self.verdicts, 1):
            yield f"image {number}: " if len(self.verdicts) > 1 else "", verdict

    @property
    def improved_prompt(self) -> str:
        return self.worst.improved_prompt

    @property
    def outcome(self) -> Outcome:
        """unknown if any is, otherwise failed if any is, otherwise passed."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        return next(outcome for outcome in (UNKNOWN, FAILED, PASSED) if outcome in outcomes)

    @property
    def summary(self) -> str:
        """One line for a node."""
        if len(self.verdicts) == 1:
            return self.verdicts[0].summary
        counts = [
            f"{n} {outcome}"
            for outcome in (PASSED, FAILED, UNKNOWN)
            if (n := sum(verdict.outcome == outcome for verdict in self.verdicts))
        ]
        judges = {verdict.judge for verdict in self.verdicts}
        notes = list(dict.fromkeys(note for verdict in self.verdicts for note in verdict.notes))
        seconds = max(verdict.seconds for verdict in self.verdicts)
        paid = _time_and_cost(seconds, total_cost(self), False) if RUNFLOW in judges else []
        return " · ".join([", ".join(counts), f"lowest {self.score:.2f}", *paid, *notes])


def _rank(verdict: Verdict) -> tuple[bool, bool, int, float]:
    return not verdict.passed, verdict.outcome == UNKNOWN, order_of_judge(verdict.judge), -verdict.score


def order_of_judge(judge: str) -> int:
    """0 for the judge who is believed most, whose scores are not compared with those of others."""
    return SEE_CONTENT.index(judge) if judge in SEE_CONTENT else len(SEE_CONTENT)


def from_evaluation(
    evaluation: Evaluation,
    policy: Policy,
    subject: Subject,
    *,
    judge: str,
    seconds: float = 0.0,
    reused: bool = False,
    notes: Iterable[str] = (),
) -> Verdict:
    """The effective verdict of a completed evaluation. ``notes``: what there is to say of how it was judged."""
    score = _usable_score(evaluation)
    outcome = _outcome(evaluation, score, policy)
    notes = [*notes, *([LOCAL_PASSED if outcome == PASSED else LOCAL_FAILED] if judge == LOCAL else [])]
    notes += [f"judged by {named}"] if (named := _judged_by(evaluation, judge)) else []
    improved = (evaluation.action.improved_prompt if evaluation.action else None) or ""
    return Verdict(
        outcome=outcome,
        passed=outcome == PASSED,
        score=score or 0.0,
        issues=distinct([*_rule_lines(evaluation, score, policy), *issue_lines(evaluation)]),
        improved_prompt=improved if improved.strip() else subject.prompt,
        judge=judge,
        subject=subject,
        evaluation=evaluation,
        cost=Decimal(0) if reused else evaluation.cost,
        seconds=seconds,
        reused=reused,
        notes=distinct(notes),
        min_score=policy.min_score,
    )


def _judged_by(evaluation: Evaluation, judge: str) -> str:
    named = (evaluation.model_extra or {}).get("judged_by") if judge in (MODEL, PERSON) else None
    return named if isinstance(named, str) else ""


def not_judged(
    error: RunflowError,
    policy: Policy,
    subject: Subject,
    *,
    judge: str,
    evaluation: Evaluation | None = None,
    seconds: float = 0.0,
    notes: Iterable[str] = (),
) -> Verdict:
    """The unknown verdict of an image that nobody judged; ``passed`` is as the person decided."""
    return Verdict(
        outcome=UNKNOWN,
        passed=policy.if_not_judged == "pass",
        score=0.0,
        issues=(f"not judged: {error}",),
        improved_prompt=subject.prompt,
        judge=judge,
        subject=subject,
        evaluation=evaluation or Evaluation(),
        cost=evaluation.cost if evaluation else None,
        seconds=seconds,
        error=error,
        notes=distinct(notes),
    )


def not_asked(subject: Subject) -> Verdict:
    """Judge off: nobody was asked, nothing was paid, and everything passes."""
    return Verdict(
        outcome=UNKNOWN,
        passed=True,
        score=0.0,
        issues=(),
        improved_prompt=subject.prompt,
        judge=OFF,
        subject=subject,
        cost=Decimal(0),
    )


def total_cost(verdicts: Iterable[Verdict]) -> Decimal | None:
    """The credits of all, exactly; ``None`` if not one cost is known."""
    known = [verdict.cost for verdict in verdicts if verdict.cost is not None]
    return sum(known, Decimal(0)) if known else None


def credits_text(amount: Decimal | None) -> str:
    """Credits in plain digits, as JSON and texts have them; "" if unknown."""
    return "" if amount is None else f"{amount:f}"


def _outcome(evaluation: Evaluation, score: float | None, policy: Policy) -> Outcome:
    if evaluation.status_code != EvaluationStatus.COMPLETED or evaluation.overall_passed is None:
        return UNKNOWN
    reaches = policy.min_score <= 0 or (score is not None and score >= policy.min_score)
    return PASSED if evaluation.overall_passed and reaches else FAILED


def _usable_score(evaluation: Evaluation) -> float | None:
    score = evaluation.weighted_pass_rate
    return score if score is not None and 0.0 <= score <= 1.0 else None


def _rule_lines(evaluation: Evaluation, score: float | None, policy: Policy) -> Iterator[str]:
    """What the person's own rules, or the lack of an answer, decided."""
    if evaluation.overall_passed is None:
        yield NO_VERDICT
    if score is None:
        given = evaluation.weighted_pass_rate
        outside = f" ({given:g} is not between 0 and 1)" if given is not None else ""
        wanted = f", your minimum is {policy.min_score:.2f}" if policy.min_score > 0 else ""
        yield f"{NO_SCORE}{outside}{wanted}"
    elif score < policy.min_score:
        yield _below(score, policy.min_score)


def _below(score: float, minimum: float) -> str:
    """ "0.80, below your 0.85", with as many digits as tell the two apart."""
    digits = next((n for n in range(2, 9) if f"{score:.{n}f}" != f"{minimum:.{n}f}"), 9)
    return f"score {score:.{digits}f}, below your {minimum:.{digits}f}"


def _check(judge: JudgeOpinion) -> dict[str, Any]:
    """One local check: what it measured, and its limit. Runflow's judges are in the journal, these nowhere else."""
    return {
        "name": judge.name,
        "passed": judge.passed,
        "confidence": judge.confidence,
        "weight": judge.weight,
        "reasoning": judge.reasoning,
        "evidence": judge.evidence,
    }


def _time_and_cost(seconds: float, cost: Decimal | None, reused: bool) -> Sequence[str]:
    if reused:
        return ["reused, nothing paid"]
    time = f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return [time, *([f"{credits_text(cost)} credits"] if cost is not None else [])]
