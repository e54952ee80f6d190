"""Reports and cards: worst first, self-contained, safe to open and to share."""

from __future__ import annotations

import html.parser
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runflow_api.api.models import Action, Evaluation, JudgeOpinion
from runflow_api.errors import EvaluationTimeoutError, InvalidInputError
from runflow_api.evaluation.verdict import LOCAL, RUNFLOW, Policy, Subject, Verdict, from_evaluation, not_judged
from runflow_api.report import card as cards
from runflow_api.report import fonts
from runflow_api.report import html as report

ID = "c5a1cd75-db25-4e15-a987-2d1d0c906774"
NASTY = '<script>alert("1")</script><img src=x onerror=alert(1)> \u202e & \x1b[31m'
PHOTOS = Path(__file__).resolve().parents[2] / "example_workflows" / "photos"
PICTURE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 160, 3), dtype=np.uint8))


def verdict(score: float | None = 0.5, passed: bool | None = False, judge: str = RUNFLOW, **fields: Any) -> Verdict:
    text = fields.pop("text", "a hand with six fingers")
    evaluation = Evaluation(
        id=ID,
        status_code="completed",
        overall_passed=passed,
        weighted_pass_rate=score,
        cost="0.10",
        top_issues=[text],
        top_strengths=[f"sharp {text}"],
        judges=[JudgeOpinion(name=text, passed=False, reasoning=text)],
        action=Action(improved_prompt=f"improved {text}"),
        **fields,
    )
    return from_evaluation(evaluation, Policy(), Subject(f"prompt {text}", "0" * 64), judge=judge, seconds=12.0)


def unjudged() -> Verdict:
    error = EvaluationTimeoutError(f"Evaluation {ID} goes on.", evaluation_ids=[ID])
    return not_judged(error, Policy(), Subject("a secret prompt"), judge=RUNFLOW)


def page(*verdicts: Verdict, **options: Any) -> str:
    thumbnail = report.thumbnail(PICTURE)
    entries = [report.Entry(f"{n}.png", each, thumbnail, PICTURE.size) for n, each in enumerate(verdicts)]
    return report.html(entries, **options)


class Elements(html.parser.HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


# --- the page -----------------------------------------------------------------------------------------


def test_the_worst_comes_first() -> None:
    good, bad, worse, unknown = verdict(0.9, True), verdict(0.4), verdict(0.1), unjudged()
    entries = [report.Entry(name, each) for name, each in zip("gbwu", (good, bad, worse, unknown), strict=True)]
    assert [entry.name for entry in report.ranked(entries)] == ["w", "b", "u", "g"]
    text = report.html(entries)
    assert text.index(">w<") < text.index(">b<") < text.index(">u<") < text.index(">g<")


def test_text_from_outside_stays_text() -> None:
    text = page(verdict(text=NASTY), title=NASTY)
    elements = Elements(text).found
    assert {tag for tag, _ in elements} & {"script", "iframe", "object", "link", "form", "base"} == set()
    assert all(not name.startswith("on") for _, attributes in elements for name in attributes)
    assert text.count("&lt;script&gt;") >= 6
    assert "\x1b" not in text


def test_nothing_is_loaded_from_anywhere() -> None:
    elements = Elements(page(verdict())).found
    sources = [value for _, attributes in elements for name, value in attributes.items() if name in ("src", "href")]
    assert sources
    assert all(value is not None and value.startswith(("data:image/jpeg;base64,", "#image-")) for value in sources)
    assert "url(" not in page(verdict())
    (policy,) = [a["content"] for _, a in elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_team_reads_prompts_ids_and_cost() -> None:
    text = page(verdict())
    for said in (ID, "0.10 credits", "prompt a hand", "improved a hand", "6 fingers".replace("6", "six")):
        assert said in text


def test_a_client_reads_none_of_them() -> None:
    about_itself = verdict(text=f"see evaluation {ID}")
    text = page(verdict(), about_itself, unjudged(), audience="client")
    assert "a hand with six fingers" in text
    for private in (ID, "credits", "prompt a hand", "improved", "secret", "Evaluation"):
        assert private not in text


def test_json_says_the_same_to_each_audience() -> None:
    entries = [report.Entry("a.png", verdict()), report.Entry("b.png", unjudged())]
    internal, client = report.records(entries, "internal"), report.records(entries, "client")
    assert internal[0]["answer"]["id"] == ID
    assert internal[0]["generation_prompt"].startswith("prompt")
    assert ID not in json.dumps(client)
    assert [record["score"] for record in client] == [0.5, None]


def sorted_into_folders(**options: Any) -> str:
    entries = [
        report.Entry("a/one.png", verdict(0.9, True), folder="a", link="a/one.png"),
        report.Entry("a/two.png", verdict(0.2), folder="a", link="a/two%23.png"),
        report.Entry("b/three.png", unjudged(), folder="b", link="javascript.png"),
    ]
    return report.html(entries, **options)


def test_what_is_shown_can_be_narrowed_to_an_outcome_or_a_folder_without_a_script() -> None:
    text = sorted_into_folders()
    radios = [attributes for tag, attributes in Elements(text).found if tag == "input"]
    ids = [attributes.get("id") for attributes in radios if attributes["name"] != "sort"]
    assert ids == [None, "show-failed", "show-unknown", "show-passed", None, "folder-1", "folder-2"]
    for said in ("Failed (1)", "Not judged (1)", "Passed (1)", "all (3)", "a (2)", "b (1)"):
        assert said in text
    for rule in ("#show-failed:checked) article:not(.failed)", "#folder-2:checked) article:not(.in-2)"):
        assert rule in text


def test_every_image_is_linked_where_it_lies_but_not_for_a_client() -> None:
    links = [a["href"] for tag, a in Elements(sorted_into_folders()).found if tag == "a" and a.get("class") != "number"]
    assert links == ["a/two%23.png", "javascript.png", "a/one.png"]
    for_client = sorted_into_folders(audience="client")
    assert "two%23" not in for_client and "folder-1" not in for_client


def test_one_folder_and_one_outcome_need_no_filter() -> None:
    radios = [attributes for tag, attributes in Elements(page(verdict(), verdict())).found if tag == "input"]
    assert {attributes["name"] for attributes in radios} == {"sort"}
    assert "<input" not in page(verdict())


def test_images_can_be_sorted_by_score_and_by_name_without_a_script() -> None:
    found = [attributes for tag, attributes in Elements(sorted_into_folders()).found if tag == "article"]
    assert [each["style"] for each in found] == ["--best: 2; --name: 1", "--best: 1; --name: 2", "--best: 0; --name: 0"]
    assert "body:has(#sort-best:checked) article { order: var(--best); }" in sorted_into_folders()


def test_a_report_of_thousands_still_opens() -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (1024, 1024, 3), dtype=np.uint8))
    assert report.thumbnail_side(1) == report.THUMBNAIL_SIDE
    photo = Image.open(PHOTOS / "chelsea.jpg")
    assert 2_000 * len(report.thumbnail(photo, report.thumbnail_side(2_000))) < 15_000_000
    assert 2_000 * len(report.thumbnail(noise, report.thumbnail_side(2_000))) < 57_000_000
    assert 'loading="lazy"' in page(verdict())


@pytest.mark.parametrize("kind", ["an input", "a link to an input", "a folder", "a text", "a picture", "a device"])
def test_a_report_overwrites_nothing_else(tmp_path: Path, kind: str) -> None:
    image = tmp_path / "a.png"
    PICTURE.save(image)
    (tmp_path / "notes.html").write_text("<!DOCTYPE html><p>mine</p>")
    (tmp_path / "link.html").symlink_to(image)
    target = {
        "an input": image,
        "a link to an input": tmp_path / "link.html",
        "a folder": tmp_path,
        "a text": tmp_path / "notes.html",
        "a picture": tmp_path / "b.png",
        "a device": Path("/dev/null"),
    }[kind]
    PICTURE.save(tmp_path / "b.png")
    before = image.read_bytes()
    with pytest.raises(InvalidInputError, match="--report"):
        report.check_target(target, [image])
    assert image.read_bytes() == before


def test_an_earlier_report_may_be_replaced(tmp_path: Path) -> None:
    report.write(tmp_path / "r.html", page(verdict()))
    report.check_target(tmp_path / "r.html")


def test_the_sentence_about_pixels_is_no_issue() -> None:
    assert report.issues_of(verdict(0.9, True, judge=LOCAL), "internal") == ("a hand with six fingers",)


def test_a_report_is_replaced_at_once(tmp_path: Path) -> None:
    report.write(tmp_path / "r.html", "one")
    report.write(tmp_path / "r.html", "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("r.html", "two")]


@pytest.mark.parametrize("target", [".", "missing/r.html"])
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_paid(tmp_path: Path, target: str) -> None:
    with pytest.raises(InvalidInputError, match="--report"):
        report.check_target(tmp_path / target)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_thumbnail_is_small_and_its_transparency_white(mode: str) -> None:
    big = Image.new("RGBA", (3000, 1500), (0, 0, 0, 0)).convert(mode)
    with Image.open(__import__("io").BytesIO(report.thumbnail(big))) as small:
        assert small.size == (560, 280)
        assert mode != "RGBA" or small.getpixel((5, 5)) == (255, 255, 255)


# --- cards --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (4000, 100), (100, 4000), (1024, 1024)])
def test_a_card_fits_every_image(size: tuple[int, int]) -> None:
    card = cards.draw(Image.new("RGB", size, "navy"), verdict())
    assert card.mode == "RGB"
    assert card.width == cards.WIDTH
    assert cards.SHORTEST <= card.height < 2000


def test_cards_of_a_batch_have_one_size_and_keep_their_image() -> None:
    long = cards.draw(PICTURE, verdict(text="word " * 400))
    short = cards.draw(PICTURE, verdict(0.9, True))
    assert long.height > short.height
    first, second = cards.same_size([long, short])
    assert first.size == second.size
    assert np.asarray(second)[:, cards.MARGIN : cards.MARGIN + cards.PICTURE].std() > 10


def test_a_long_text_is_cut_and_never_drawn_over_the_edge() -> None:
    card = cards.draw(PICTURE, verdict(text="W" * 3000), title="T" * 300)
    edge = np.asarray(card)[:, -cards.MARGIN + 4 :]
    assert (edge == 255).all()


@pytest.mark.parametrize("judge", [RUNFLOW, LOCAL, "preflight", "off"])
def test_every_judge_has_a_card(judge: str) -> None:
    assert cards.draw(PICTURE, verdict(judge=judge)).height >= cards.SHORTEST
    assert cards.draw(PICTURE, unjudged(), audience="client").height >= cards.SHORTEST


# --- fonts --------------------------------------------------------------------------------------------


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with no font but Pillow's own."""
    caches = (fonts._installed, fonts._font_for, fonts._has)
    for cached in caches:
        cached.cache_clear()
    monkeypatch.setattr(fonts, "FALLBACKS", ())
    monkeypatch.setattr(fonts, "PREFERRED", {})
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.usefixtures("no_fonts")
def test_what_no_font_has_is_said_to_be_missing() -> None:
    assert fonts.drawable("six fingers: 手が六本 ok") == "six fingers: [...] ok"
    assert not fonts.is_complete("手")
    assert fonts.is_complete('plain "ASCII" (0.80)')


@pytest.mark.usefixtures("no_fonts")
def test_accents_and_signs_are_simplified_before_they_are_left_out() -> None:
    assert fonts.drawable("Größe ≥ café — “ok”…") == "Grosse >= cafe - “ok”…"
    assert not fonts.is_complete("é")


@pytest.mark.usefixtures("no_fonts")
def test_a_card_with_missing_letters_says_where_they_are() -> None:
    plain, missing = cards.draw(PICTURE, verdict(0.5)), cards.draw(PICTURE, verdict(text="手が六本指です"))
    assert cards._laid_out(verdict(text="手"), "", "t", "internal", "en").incomplete
    assert not cards._laid_out(verdict(), "", "t", "internal", "en").incomplete
    assert plain.size[0] == missing.size[0]


@pytest.mark.parametrize("text", ["a word and another " * 12, "手" * 200, "x" * 500, "", "\n\n", "mixed 手 word " * 30])
def test_lines_fit_their_width(text: str) -> None:
    lines = fonts.wrap(text, 20, 300, 5)
    assert len(lines) <= 5
    assert all(fonts.length(line, 20) <= 300 for line in lines)


def test_what_was_cut_ends_in_an_ellipsis() -> None:
    assert fonts.wrap("word " * 100, 20, 200, 2)[-1].endswith("...")
    assert fonts.wrap("word", 20, 200, 2) == ["word"]
