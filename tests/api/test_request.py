from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pictures import picture

from runflow_api.errors import InvalidInputError
from runflow_api.evaluation.job import Job
from runflow_api.evaluation.question import (
    LONGEST,
    Options,
    Question,
    Reference,
    build_request,
    parse_attributes,
    request_hash,
    validate,
)
from runflow_api.images import MAX_URL_CHARACTERS
from runflow_api.settings import config

CONFIG = config.load(None, {})
PIXELS = "0" * 64
BASE = "https://api.runflow.io"


def check_both(question: Question, options: Options, settings: config.Config) -> None:
    """Off asks for no key, so that only the question and the options can be refused."""
    validate(Job([picture(0, 16, 16)], question, "off", options=options), settings)
    question.prepared()


def refused(question: Question | None = None, options: Options | None = None) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        check_both(question or Question(), options or Options(), CONFIG)
    return caught.value


@pytest.mark.parametrize(("field", "limit"), [item for item in LONGEST.items() if item[0] != "callback_url"])
def test_texts_may_reach_their_limit_and_no_further(field: str, limit: int) -> None:
    kind = Question if hasattr(Question(), field) else Options

    def check(length: int) -> None:
        made = kind(**{field: "x" * length})
        check_both(*((made, Options()) if kind is Question else (Question(), made)), CONFIG)

    check(limit)
    with pytest.raises(InvalidInputError, match=f"{field}: has {limit + 1} characters, at most {limit} allowed"):
        check(limit + 1)


@pytest.mark.parametrize("text", ["", "   "])
def test_a_task_type_and_a_job_class_are_needed(text: str) -> None:
    assert refused(Question(task_type=text)).field == "task_type"
    assert refused(options=Options(job_class=text)).field == "job_class"


def test_half_a_character_is_refused_here_and_not_by_the_encoder() -> None:
    assert refused(Question(generation_prompt="a \ud800 cat")).field == "generation_prompt"


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a":' * 600 + "1" + "}" * 600,
        "[1]",
        "1",
        '"x"',
        "{",
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a":' * 9 + "1" + "}" * 9,
        '{"a": "' + "x" * 64_000 + '"}',
    ],
)
def test_attributes_are_one_bounded_json_object(text: str) -> None:
    assert refused(options=Options(input_attributes=text)).field == "input_attributes"


def test_attributes_nested_to_the_limit_of_the_parser_are_refused_not_crashed_on() -> None:
    assert refused(options=Options(input_attributes='{"a":' * 10_000 + "1" + "}" * 10_000)).field == "input_attributes"


@given(st.text(max_size=200))
def test_any_text_as_attributes_is_an_object_or_refused(text: str) -> None:
    try:
        parsed = parse_attributes(text)
    except InvalidInputError:
        return
    assert parsed is None or isinstance(parsed, dict)


@pytest.mark.parametrize("run_id", ["1", "not-a-uuid", "3c90c3cc-0d44-4b50-8888-8dd25736052"])
def test_a_run_is_named_by_its_uuid(run_id: str) -> None:
    assert refused(options=Options(run_id=run_id)).field == "run_id"


@pytest.mark.parametrize("timeout_s", [0, -1, 86_401])
def test_the_time_out_is_bounded(timeout_s: int) -> None:
    assert refused(options=Options(timeout_s=timeout_s)).field == "timeout_s"


@pytest.mark.parametrize(
    "url",
    ["https://collector.example/hook", "http://allowed.example/hook", "https://u:p@allowed.example", "x", "https://"],
)
def test_callbacks_go_only_to_hosts_that_the_person_allowed(url: str) -> None:
    allowing = config.Config(callback_hosts=("allowed.example",))
    check_both(Question(), Options(callback_url="https://Allowed.example/hook"), allowing)
    with pytest.raises(InvalidInputError, match="callback_url"):
        check_both(Question(), Options(callback_url=url), allowing)


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example/a.png",
        "runflow://assets/3c90c3cc-0d44-4b50-8888-8dd25736052a",
        "data:image/png;base64,AAAA",
    ],
)
def test_references_take_the_three_forms_of_the_api(url: str) -> None:
    check_both(Question(references=(Reference(url=url),)), Options(), CONFIG)


@pytest.mark.parametrize(
    "url",
    [
        "http://images.example/a.png",
        "file:///etc/passwd",
        "data:text/html;base64,AAAA",
        "data:image/png,plain",
        "runflow://assets/../secrets",
        "https://user:pass@images.example/a.png",
        "https://images.example/a b.png",
        "https://",
        "ftp://images.example",
        "data:image/png;base64," + "A" * MAX_URL_CHARACTERS,
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    assert refused(Question(references=(Reference(url=url),))).field.startswith("references[1]")


def test_five_references_are_too_many() -> None:
    references = (Reference(url="https://images.example/a.png"),) * 5
    assert "5 given, at most 4 allowed" in str(refused(Question(references=references)))


def test_a_reference_is_an_image_or_an_address() -> None:
    assert refused(Question(references=(Reference(),)))
    both = Reference(pixels=picture(), url="https://images.example/a.png")
    assert refused(Question(references=(both,)))
    assert refused(Question(references=(Reference(pixels=np.full((8, 8, 3), np.nan)),)))


def hashed(question: Question | None = None, options: Options | None = None, pixels: str = PIXELS) -> str:
    return request_hash(pixels, question or Question(), options or Options(), BASE)


def test_everything_that_is_asked_is_in_the_hash() -> None:
    first = Reference(url="https://images.example/a.png")
    second = Reference(pixels=picture(1))
    asked = [
        hashed(),
        hashed(pixels="1" * 64),
        hashed(Question("a prompt")),
        hashed(Question(evaluation_instructions="look")),
        hashed(Question(task_type="headshot")),
        hashed(Question(task_description="described")),
        hashed(Question(references=(first, second))),
        hashed(Question(references=(second, first))),
        hashed(Question(references=(Reference(url=first.url, kind="garment"), second))),
        hashed(Question(references=(Reference(url=first.url, description="the coat"), second))),
        hashed(options=Options(input_attributes='{"a": 1}')),
        hashed(options=Options(run_id="3c90c3cc-0d44-4b50-8888-8dd25736052a")),
        hashed(options=Options(client_ref="mine")),
        hashed(options=Options(job_class="quick")),
        hashed(options=Options(callback_url="https://allowed.example")),
        request_hash(PIXELS, Question(), Options(), "https://elsewhere.example"),
    ]
    assert len(set(asked)) == len(asked)


def test_what_only_this_pack_reads_is_not() -> None:
    same = [
        hashed(options=Options(timeout_s=5)),
        hashed(options=Options(reuse=False)),
        hashed(options=Options(upload="asset")),
        hashed(options=Options(preflight="full")),
        hashed(options=Options(input_attributes="  ")),
    ]
    assert set(same) == {hashed()}


def test_attributes_that_mean_the_same_are_the_same_question() -> None:
    one, other = (hashed(options=Options(input_attributes=text)) for text in ('{"a":1,"b":2}', '{ "b": 2, "a": 1 }'))
    assert one == other


def test_empty_fields_are_left_out_of_the_body() -> None:
    body = build_request("data:image/png;base64,AAAA", [], Question("a cat"), Options())
    assert body.model_dump(exclude_none=True) == {
        "generated_image_url": "data:image/png;base64,AAAA",
        "task_type": "image_generation",
        "generation_prompt": "a cat",
        "job_class": "standard",
    }
