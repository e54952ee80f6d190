"""What the journal tells about settings and judges: figures that an independent count agrees with, and their limits."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.journals import STORES, VERDICT, Clock, ask, begin, complete, emptied, fail
from support.judged_images import multiply

from runflow_api.errors import InvalidInputError
from runflow_api.insight import agreement, page, settings, statistics, value
from runflow_api.insight.agreement import Costs
from runflow_api.insight.statistics import Share
from runflow_api.insight.value import Filter
from runflow_api.journal.image_settings import ImageSettings, Lora, VerdictContext
from runflow_api.journal.journal import Journal, Limits, Request
from runflow_api.journal.schema import ROWS, VERDICTS

# --- statistics -----------------------------------------------------------------------------------

# The figures below are printed in the papers named, to four places. They, 1,244 other shares and 3,000 random
# differences were compared with scipy's binomtest(...).proportion_ci("wilson") and statsmodels'
# confint_proportions_2indep(method="newcomb"): nothing is further away than 4e-16.

PUBLISHED = [
    # R. G. Newcombe, "Two-sided confidence intervals for the single proportion: comparison of seven methods",
    # Statistics in Medicine 17 (1998) 857-872, table I, method 3 (score without continuity correction).
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize(("count", "of", "low", "high"), PUBLISHED)
def test_wilson_bounds_are_the_published_ones(count: int, of: int, low: float, high: float) -> None:
    assert statistics.wilson(count, of) == pytest.approx((low, high), abs=5e-5)


PUBLISHED_DIFFERENCES = [
    # R. G. Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven
    # methods", Statistics in Medicine 17 (1998) 873-890, table II, rows (a) to (h), method 10.
    ((56, 70), (48, 80), 0.0524, 0.3339),
    ((9, 10), (3, 10), 0.1705, 0.8090),
    ((6, 7), (2, 7), 0.0582, 0.8062),
    ((5, 56), (0, 29), -0.0381, 0.1926),
    ((0, 10), (0, 20), -0.1611, 0.2775),
    ((0, 10), (0, 10), -0.2775, 0.2775),
    ((10, 10), (0, 20), 0.6791, 1.0),
    ((10, 10), (0, 10), 0.6075, 1.0),
]


@pytest.mark.parametrize(("first", "second", "low", "high"), PUBLISHED_DIFFERENCES)
def test_the_differences_of_two_shares_are_the_published_ones(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    assert statistics.difference(Share(*first), Share(*second)) == pytest.approx((low, high), abs=5e-5)


def test_ranks_are_compared_as_mann_and_whitney_do() -> None:
    order = "bbbbabaabaaa"  # 6 against 6 without ties: U has the mean 18 and the variance 39
    above = sum(order[:at].count("b") for at, each in enumerate(order) if each == "a")
    groups = [(1, 0) if each == "a" else (0, 1) for each in order]
    assert statistics.ranks_apart(groups) == pytest.approx((above - 18) / 39**0.5)


def test_of_nothing_nothing_is_known() -> None:
    assert statistics.wilson(0, 0) == (0.0, 1.0) and Share(0, 0).value is None
    assert statistics.mean(0, 0.0, 0.0).value is None and statistics.mean(1, 0.7, 0.49).low is None


def test_the_interval_of_a_mean_is_students() -> None:
    # 0.2, 0.4, 0.6, 0.8: mean 0.5, standard error 0.1291, t with 3 degrees of freedom 3.182.
    found = statistics.mean(4, 2.0, 1.2)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5 - 0.41082, 0.5 + 0.41082), abs=1e-4)
    assert [statistics.student(n) for n in (1, 30, 31, 60, 1_000)] == pytest.approx(
        [12.706, 2.042, 2.0395, 2.0003, 1.9623], abs=5e-4
    )


# --- 10,000 rows of all judges, counted a second time in Python -------------------------------------

JUDGES = ("runflow", "model", "local", "person", "preflight")
CHECKPOINTS = ("a.safetensors", "b.safetensors", None)
SAMPLERS = ("euler", "dpmpp_2m", None)


def made_up(count: int, seed: int = 5) -> Iterator[dict[str, Any]]:
    """Columns of rows of all judges, some of them open, refused or rated."""
    dice = random.Random(seed)
    for number in range(1, count + 1):
        judge = dice.choices(JUDGES, (5, 2, 3, 1, 1))[0]
        state = dice.choices(("completed", "failed", "open", "closed"), (90, 4, 4, 2))[0]
        passed = dice.choice((True, False, False if judge == "preflight" else None)) if state == "completed" else None
        is_final = state in ("completed", "failed")
        yield {
            "row_id": number,
            "is_final": is_final,
            "judge": judge,
            "judge_name": dice.choice(("qwen", "gemma")) if judge == "model" else "",
            "task": dice.choice(("image_generation", "headshot", "")),
            "day": 20_000 + number % 30,
            "passed": passed,
            "score": round(dice.random(), 2) if passed is not None and dice.random() < 0.9 else None,
            "amount": dice.choice(("0.5", "1.25", "0.1", None)) if judge == "runflow" else "0",
            "is_good": passed if judge == "person" else dice.choice((True, False, None, None)),
            "subject": f"image {number // 3}" if number % 10 else None,
            "checkpoint": dice.choice(CHECKPOINTS),
            "loras": dice.choice(("", "x:0.8", None)),
            "sampler": dice.choice(SAMPLERS),
            "scheduler": None,
            "steps": dice.choice((20, 30, None)),
            "cfg": dice.choice((6.5, 7.0)),
            "width": 512,
            "height": dice.choice((512, 768)),
            "seed": str(2**64 - number),
            "state": state,
        }


def pixels_of(row: dict[str, Any]) -> str:
    """Of most images in the rows made up, several things are asked; of some, the pixels are not known."""
    return f"pixels {row['row_id'] % 3_000}" if row["subject"] else ""


def keep(book: Journal, rows: list[dict[str, Any]]) -> None:
    """Put made up rows into a journal as they would be there, without beginning each."""
    table, beside = [], []
    for row in rows:
        is_free = row["judge"] != "runflow"
        table.append(
            {
                "id": row["row_id"],
                "account": f"free:{row['judge']}" if is_free else "org:1",
                "request_hash": str(row["row_id"]),
                "generation": 0,
                "idempotency_key": f"key {row['row_id']}",
                "state": row["state"],
                "prompt_token": "p",
                "job_class": "standard",
                "pixel_hash": pixels_of(row),
                "generation_prompt": f"prompt {row['row_id'] % 7}",
                "day": row["day"],
                "created_at": row["day"] * 86_400.0,
                "cost": row["amount"],
                "passed": row["passed"],
                "score": row["score"],
            }
        )
        beside.append({name: kept for name, kept in row.items() if name != "state"})
    with book.store.writing() as connection:
        for start in range(0, len(table), 500):
            connection.execute(ROWS.insert(), table[start : start + 500])
            connection.execute(VERDICTS.insert(), beside[start : start + 500])


@pytest.fixture(scope="module", params=STORES[::2] if len(STORES) > 2 else STORES[:1])
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A journal of 10,000 verdicts, and the rows it was made of."""
    with Journal.open(emptied(request.param), tmp_path_factory.mktemp("journal"), now=Clock()) as book:
        rows = list(made_up(10_000))
        keep(book, rows)
        yield book, rows


def text_of(row: dict[str, Any], name: str) -> str | None:
    """A setting as it is shown, worked out without the code that is tested."""
    if name == "size":
        return f"{row['width']}x{row['height']}"
    if name == "judge":
        return row["judge"] + (f": {row['judge_name']}" if row["judge_name"] else "")
    if name == "prompt":
        return f"prompt {row['row_id'] % 7}"
    if name == "loras" and row["loras"] == "":
        return "none"
    if name == "cfg":
        return "7" if row["cfg"] == 7.0 else "6.5"
    return None if row[name] in (None, "") else str(row[name])


@pytest.mark.parametrize(
    "by", [["checkpoint"], ["judge"], ["size"], ["loras"], ["prompt"], ["task", "cfg"], ["checkpoint", "sampler"]]
)
@pytest.mark.parametrize("wanted", [Filter(), Filter(judge="runflow"), Filter(since_day=20_015, task="headshot")])
def test_figures_by_setting_are_those_of_an_independent_count(known: Any, by: list[str], wanted: Filter) -> None:
    book, rows = known
    counted: dict[tuple[str | None, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        is_of_judge = row["judge"] == wanted.judge if wanted.judge else row["judge"] != "preflight"
        if row["is_final"] and is_of_judge and row["day"] >= wanted.since_day and wanted.task in ("", row["task"]):
            counted[tuple(text_of(row, name) for name in by)].append(row)
    groups, whole = value.groups(book.store, by, wanted)
    found = {group.values: group for group in groups}
    all_judged = [row for mine in counted.values() for row in mine if row["passed"] is not None]
    assert (whole.judged, whole.images) == (len(all_judged), len({pixels_of(r) or r["row_id"] for r in all_judged}))
    assert set(found) == set(counted) and counted
    for values, mine in counted.items():
        group, judged = found[values], [row for row in mine if row["passed"] is not None]
        assert (group.evaluations, group.judged) == (len(mine), len(judged))
        assert group.passed == sum(row["passed"] for row in judged)
        assert group.images == len({pixels_of(row) or row["row_id"] for row in judged}) <= group.judged
        scores = [row["score"] for row in mine if row["score"] is not None]
        assert group.score.of == len(scores)
        assert group.score.value == pytest.approx(sum(scores) / len(scores))
        assert group.credits == sum((Decimal(row["amount"]) for row in mine if row["amount"]), Decimal(0))
        assert group.unpriced == sum(row["amount"] is None for row in mine)


def images(rows: Iterable[dict[str, Any]]) -> set[Any]:
    """Each image and question once; a row of which no pixels are known is an image of its own."""
    return {row["subject"] or row["row_id"] for row in rows}


def test_each_day_and_the_whole_are_those_of_an_independent_count(known: Any) -> None:
    book, rows = known
    mine = [row for row in rows if row["is_final"] and row["judge"] != "preflight"]
    days = value.by_day(book.store, Filter())
    assert [day.judged for day in days] == [
        sum(row["passed"] is not None for row in mine if row["day"] == 20_000 + number) for number in range(30)
    ]
    assert value.whole(days).passed == sum(row["passed"] is True for row in mine)
    saved = value.saved(book.store, Filter())
    rejected = [row for row in rows if row["is_final"] and row["passed"] is False]
    assert saved.preflight == len(images(row for row in rejected if row["judge"] == "preflight"))
    assert saved.rejected == len(images(row for row in rejected if row["judge"] not in ("preflight", "person")))
    assert value.saved(book.store, Filter(judge="local")).rejected == len(
        images(row for row in rejected if row["judge"] == "local")
    )
    prices = [Decimal(row["amount"]) for row in rows if row["is_final"] and row["judge"] == "runflow" and row["amount"]]
    assert saved.credits is not None
    assert float(saved.credits) == pytest.approx(float(sum(prices) / len(prices) * saved.preflight))


@pytest.mark.parametrize("wanted", [Filter(), Filter(judge="local"), Filter(since_day=20_015, task="headshot")])
def test_agreement_is_that_of_an_independent_count_of_different_images(known: Any, wanted: Filter) -> None:
    book, rows = known
    found = {(each.judge, each.task): each for each in agreement.agreements(book.store, wanted)}
    rated = [row for row in rows if row["is_final"] and row["passed"] is not None and row["is_good"] is not None]
    rated = [row for row in rated if row["day"] >= wanted.since_day and wanted.task in ("", row["task"])]
    asked_often = 0
    for (judge, task), one in found.items():
        of_judge = [row for row in rated if text_of(row, "judge") == judge and task in (None, row["task"])]
        mine = {pixels_of(row): row for row in of_judge if pixels_of(row)}.values()  # of each image the latest one
        bad, good = ([row for row in mine if row["is_good"] is wanted] for wanted in (False, True))
        asked_often += len(of_judge) - len(mine)
        assert (one.good, one.bad) == (len(good), len(bad))
        assert one.agreed.count == sum(row["passed"] == row["is_good"] for row in mine)
        assert one.wrong_passes.count == sum(row["passed"] for row in bad)
        assert one.wrong_rejections.count == sum(not row["passed"] for row in good)
        assert one.counts == Counter((row["passed"], row["score"], row["is_good"]) for row in mine)
        thrown = agreement.NO_BETTER_THAN_CHANCE  # the dice threw verdicts and ratings
        assert one.finding == (agreement.NOT_ENOUGH if min(len(good), len(bad)) < agreement.NEEDED else thrown)
    judges = {"runflow", "local", "model: qwen", "model: gemma"} if not wanted.judge else {wanted.judge}
    assert asked_often and {judge for judge, _ in found} == judges
    assert len(found) == len(judges) * (1 if wanted.task else 3 + 1)


# --- too few, and no better than chance ---------------------------------------------------------------


def judged(good: int, bad: int, *, right: float = 1.0) -> agreement.Agreement:
    """A judge that is right about this share of both; what it passes it gives 0.9, or 0.6 where it should not have."""
    counts: dict[tuple[bool, float | None, bool], int] = {}
    for is_good, count in ((True, good), (False, bad)):
        hits = round(count * right)
        for passed, times in ((is_good, hits), (not is_good, count - hits)):
            counts[passed, (0.9 if is_good else 0.6) if passed else 0.3, is_good] = times
    return agreement.Agreement("local", "image_generation", {key: each for key, each in counts.items() if each})


def test_nothing_is_proposed_from_too_few_ratings() -> None:
    few = judged(20, 8)
    assert (few.finding, few.missing, few.missing_good, few.missing_bad) == ("not_enough", 12, 0, 12)
    assert few.proposal(Costs()) is None


def test_one_image_asked_in_twenty_ways_is_one_label() -> None:
    def say(pixels: str, is_good: bool, task: str, scores: list[float]) -> None:
        """The judge *local* is right about this image each time, and the person says so each time."""
        abouts = [VerdictContext("local", "", task, f"question {score}") for score in scores]
        questions = [ask(f"{pixels} {each}", account="free:local", pixel_hash=pixels, context=each) for each in abouts]
        said = [{**VERDICT, "overall_passed": is_good, "weighted_pass_rate": score} for score in scores]
        book.record_free(questions, said)
        for row in book.history(limit=len(scores)):
            book.rate(row.id, is_good)

    with Journal.in_memory(now=Clock()) as book:
        scores = [number / agreement.NEEDED for number in range(agreement.NEEDED)]
        say("fox", True, "headshot", scores)
        say("hare", False, "headshot", scores)
        (one,) = agreement.agreements(book.store)
        assert (one.good, one.bad, one.missing) == (1, 1, 38)
        assert (one.finding, one.proposal(Costs())) == ("not_enough", None)
        assert one.counts == {(True, 0.95, True): 1, (False, 0.95, False): 1}  # the latest question of each
        say("fox", False, "product", [0.1])
        whole, *tasks = agreement.agreements(book.store)
        assert [(each.task, each.good, each.bad) for each in tasks] == [("headshot", 1, 1), ("product", 0, 1)]
        assert (whole.task, whole.good, whole.bad) == (None, 0, 2)  # the fox counts once, as it was judged last


def test_a_judge_that_is_no_better_than_chance_is_called_so() -> None:
    assert judged(40, 40, right=0.5).finding == "no_better_than_chance"
    assert judged(20, 20, right=0.55).finding == "no_better_than_chance"
    assert judged(40, 40, right=0.8).finding == "better_than_chance"
    wrong = judged(40, 40, right=0.1)
    assert wrong.finding == "no_better_than_chance"


def test_the_proposed_score_is_the_one_that_would_have_cost_least() -> None:
    mostly_right = judged(40, 40, right=0.8)
    proposed = mostly_right.proposal(Costs(wrong_pass=5))
    assert proposed is not None
    # All 8 wrong passes have 0.6, all 32 right ones 0.9: a min_score of 0.9 rejects the first and keeps the others.
    assert (proposed.min_score, proposed.wrong_passes, proposed.wrong_rejections) == (0.9, 0, 8)
    assert (proposed.passed, proposed.rejected, proposed.cost) == (32, 48, 8)
    assert judged(30, 30).proposal(Costs()) == judged(30, 30).at(0.0, Costs())


def test_scores_may_separate_where_all_pass() -> None:
    all_pass = agreement.Agreement("model: x", "", {(True, 0.9, True): 30, (True, 0.4, False): 30})
    assert all_pass.finding == "no_better_than_chance"
    proposed = all_pass.proposal(Costs())
    assert proposed is not None and (proposed.min_score, proposed.cost) == (0.9, 0)
    scores = {(True, score / 50, is_good): 1 for score in range(50) for is_good in (True, False)}
    assert agreement.Agreement("local", "", scores).proposal(Costs()) is None


def test_costs_that_make_no_sense_are_refused() -> None:
    for costs in (Costs(-1, 1), Costs(float("nan"), 1), Costs(0, 0)):
        with pytest.raises(InvalidInputError):
            costs.check()
    with pytest.raises(InvalidInputError, match="checkpoint"):
        settings.require_names(["moon"])
    with pytest.raises(InvalidInputError):
        settings.require_names(["seed", "size", "judge"])


# --- what the journal keeps ---------------------------------------------------------------------------


@pytest.fixture(params=STORES)
def book(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    if request.param == "memory":
        with Journal.in_memory(now=Clock()) as opened:
            yield opened
        return
    with Journal.open(emptied(request.param), tmp_path, now=Clock()) as opened:
        yield opened


MADE = ImageSettings(
    "a.safetensors", (Lora("y", 0.5), Lora("x", 1)), "euler", "karras", 20, 7.0, 512, 768, 2**64 - 1, "fox"
)


def asked(name: str = "a", judge: str = "runflow", **changes: Any) -> Request:
    about = VerdictContext(judge, "", "headshot", "five fingers", MADE)
    account = "org:1" if judge == "runflow" else f"free:{judge}"
    return ask(name, account=account, pixel_hash="pixels", generation_prompt="a fox", context=about, **changes)


def beside(book: Journal) -> list[dict[str, Any]]:
    with book.store.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(VERDICTS).order_by(VERDICTS.c.row_id))]


def test_a_verdict_remembers_what_made_its_image(book: Journal) -> None:
    (row,) = begin(book, asked())
    assert beside(book)[0]["is_final"] is False
    complete(book, row)
    (kept,) = beside(book)
    assert kept["checkpoint"] == "a.safetensors" and kept["loras"] == "x:1 + y:0.5"
    assert (kept["sampler"], kept["scheduler"], kept["steps"], kept["cfg"]) == ("euler", "karras", 20, 7.0)
    assert (kept["width"], kept["height"], kept["seed"]) == (512, 768, str(2**64 - 1))
    assert (kept["is_final"], kept["passed"], kept["score"], kept["amount"]) == (True, True, 0.9, "0.5")
    (group,), _ = value.groups(book.store, ["prompt"], Filter())
    assert group.values == ("fox",)


def test_prompts_are_not_kept_where_the_person_does_not_want_them(tmp_path: Path) -> None:
    with Journal.open(None, tmp_path, now=Clock(), keep_prompts=False) as book:
        complete(book, begin(book, asked())[0])
        book.record_free([asked("l", "local")], [{**VERDICT, "generation_prompt": "a fox"}])
        assert [group.values for group in value.groups(book.store, ["prompt"], Filter())[0]] == [(None,)]
    assert b"fox" not in b"".join(file.read_bytes() for file in tmp_path.glob("journal*"))


def test_free_verdicts_are_kept_once_and_count_against_no_limit(book: Journal) -> None:
    free = [asked(name, "local") for name in ("x", "y")]
    for _ in range(2):
        book.record_free(free, [{**VERDICT, "overall_passed": False}, VERDICT])
    assert [(row.outcome, row.cost) for row in book.history()] == [("passed", 0), ("failed", 0)]
    assert book.spent_today().evaluations == 0 and book.per_day(1)[0].evaluations == 0
    assert begin(book, ask("paid"), limits=Limits(per_prompt=1, per_day=1))[0].is_new


def test_what_the_person_says_holds_for_every_judge_of_the_same_image_and_question(book: Journal) -> None:
    (row,) = begin(book, asked())
    done = complete(book, row)
    book.record_free([asked("l", "local")], [VERDICT])
    book.record_free([asked("p", "person")], [{**VERDICT, "overall_passed": False}])
    assert [each["is_good"] for each in beside(book)] == [False, False, False]
    book.record_feedback(str(done.evaluation_id), True, None)  # the verdict passed it, and was right
    assert [each["is_good"] for each in beside(book)] == [True, True, True]
    book.record_free([asked("m", "model")], [VERDICT])
    assert beside(book)[-1]["is_good"] is True
    other = ask("o", pixel_hash="pixels", generation_prompt="a fox")
    begin(book, other)
    assert beside(book)[-1]["is_good"] is None
    book.rate(done.id, None)
    assert {each["is_good"] for each in beside(book)} == {None}


def test_images_wait_to_be_rated_each_once_and_no_verdict_is_told(book: Journal) -> None:
    done = complete(book, begin(book, asked())[0])
    book.record_free([asked("l", "local")], [{**VERDICT, "overall_passed": False}])
    (waiting,) = page.to_rate(book.store)
    assert waiting == {"row": done.id + 1, "image": "pixels", "prompt": "a fox", "task": "headshot"}
    book.rate(waiting["row"], True)
    assert page.to_rate(book.store) == []
    said = [(each["judge"], each["passed"]) for each in page.verdicts_on(book.store, waiting["row"])]
    assert said == [("runflow", True), ("local", False)]


def test_one_image_asked_twenty_questions_is_no_finding(book: Journal) -> None:
    def keep_asked(number: int, pixels: str) -> None:
        about = VerdictContext("local", "", "headshot", f"question {number}", MADE)
        request = ask(f"{pixels} {number}", account="free:local", pixel_hash=pixels, context=about)
        book.record_free([request], [VERDICT])

    for number in range(value.ENOUGH):
        keep_asked(number, "pixels")
    shown = page.overview(book.store, ["checkpoint"], Filter(), Costs())
    (group,) = shown["groups"]
    assert (group["judged"], group["images"], group["enough"]) == (20, 1, False)
    assert shown["whole"]["images"] == 1
    assert (group["pass_rate"]["low"], group["pass_rate"]["high"]) == pytest.approx((0.2065, 1.0), abs=5e-5)  # 1 of 1
    for number in range(1, value.ENOUGH):
        keep_asked(0, f"pixels {number}")
    (group,), whole = value.groups(book.store, ["checkpoint"], Filter())
    assert (group.judged, group.images, group.is_enough, whole.images) == (39, 20, True, 20)
    assert group.pass_rate.low == pytest.approx(statistics.wilson(20, 20)[0])


def test_an_image_waits_once_for_each_judge_and_task_and_what_nobody_rated_comes_first(book: Journal) -> None:
    def kept(pixels: str, question: str, judge: str = "local", task: str = "headshot") -> None:
        about = VerdictContext(judge, "", task, question, MADE)
        request = ask(f"{pixels} {question} {judge} {task}", account=f"free:{judge}", pixel_hash=pixels, context=about)
        book.record_free([request], [VERDICT])

    for question in ("hands", "eyes"):
        kept("first", question)
    kept("second", "hands")
    waiting = page.to_rate(book.store)
    assert [each["image"] for each in waiting] == ["second", "first"]
    book.rate(waiting[1]["row"], True)  # one question: a label for the judge and task
    assert [each["image"] for each in page.to_rate(book.store)] == ["second"]
    kept("first", "light", "model")
    assert [each["image"] for each in page.to_rate(book.store)] == ["second", "first"]
    assert [each["image"] for each in page.to_rate(book.store, Filter(judge="local"))] == ["second"]
    assert [each["image"] for each in page.to_rate(book.store, Filter(judge="model"))] == ["first"]
    assert page.to_rate(book.store, Filter(task="image_generation")) == []


def test_a_thumb_down_on_a_rejection_says_that_the_image_is_good(book: Journal) -> None:
    done = complete(book, begin(book, asked())[0], overall_passed=False)
    book.record_feedback(str(done.evaluation_id), False, "it is fine")
    assert beside(book)[0]["is_good"] is True
    book.record_feedback(str(done.evaluation_id), None, None)
    assert beside(book)[0]["is_good"] is None


def test_a_failed_evaluation_has_its_cost_and_no_verdict(book: Journal) -> None:
    fail(book, begin(book, asked())[0])
    (group,), _ = value.groups(book.store, ["checkpoint"], Filter())
    assert (group.evaluations, group.judged, group.credits) == (1, 0, Decimal("0.5"))


def test_pruning_forgets_what_is_beside_and_free_rows_push_out_no_paid_one(tmp_path: Path) -> None:
    clock = Clock()
    with Journal.open(None, tmp_path, now=clock) as book:
        complete(book, begin(book, asked())[0])
        book.record_free([asked(f"l{number}", "local") for number in range(3)], [VERDICT] * 3)
        clock.at += 86_400
        assert book.prune(older_than_days=30, at_most=1) == 2
        assert sorted(each["judge"] for each in beside(book)) == ["local", "runflow"]
        clock.at += 40 * 86_400
        assert book.prune(older_than_days=30, at_most=1) == 2 and beside(book) == []


def test_rows_kept_in_memory_bring_their_settings_home(tmp_path: Path) -> None:
    with Journal.in_memory(now=Clock()) as away, Journal.open(None, tmp_path, now=Clock()) as home:
        row = complete(away, begin(away, asked())[0])
        home.take_over(away.rows_by_key({row.idempotency_key}), "org:1")
        (kept,) = beside(home)
        assert (kept["checkpoint"], kept["passed"], kept["is_final"]) == ("a.safetensors", True, True)
        (group,), _ = value.groups(home.store, ["prompt"], Filter())
        assert group.values == ("fox",)


def test_a_journal_from_before_tells_its_verdicts_and_thumbs(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite3"
    with Journal.open(None, tmp_path, now=Clock()) as book:
        done = complete(book, begin(book, asked())[0], overall_passed=False)
        book.record_feedback(str(done.evaluation_id), False, None)
    with closing(sqlite3.connect(file)) as before:
        before.executescript(
            "DROP TABLE runflow_verdicts; DROP TABLE runflow_image_prompts;"
            "DELETE FROM runflow_schema_version WHERE version > 1;"
        )
    with Journal.open(None, tmp_path, now=Clock()) as book:
        (kept,) = beside(book)
        assert (kept["judge"], kept["passed"], kept["is_good"], kept["amount"]) == ("runflow", False, True, "0.5")
        assert kept["checkpoint"] is None and kept["subject"] is None


# --- the journal of somebody who has used it for years ------------------------------------------------


@pytest.mark.slow
def test_a_page_over_100_000_rows_needs_no_lock(tmp_path: Path) -> None:
    """How long it takes is measured in `benchmarks/insight.py`."""
    with Journal.open(None, tmp_path, now=Clock()) as book:
        keep(book, list(made_up(10_000)))
        multiply(book, 10)
        with closing(sqlite3.connect(tmp_path / "journal.sqlite3", isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")  # somebody writes meanwhile
            shown = page.overview(book.store, ["checkpoint"], Filter(), Costs())
            writer.execute("ROLLBACK")
        assert shown["whole"]["evaluations"] > 80_000
