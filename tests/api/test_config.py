from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runflow_api.errors import ConfigurationError
from runflow_api.settings import config

SECRET = "rf_live_0123456789abcdefghij"


def loaded(directory: Path | None = None, **environment: str) -> config.Config:
    return config.load(directory, environment)


def test_nothing_set_is_the_real_service_without_a_key() -> None:
    settings = loaded()
    assert (settings.base_url, settings.api_key, settings.concurrency) == ("https://api.runflow.io", None, 8)
    assert (settings.max_evaluations_per_prompt, settings.max_evaluations_per_day) == (20, 1000)
    assert settings.max_credits_per_day is None
    assert settings.masked_key == "not set"


def test_the_environment_comes_before_the_file_and_each_says_where_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"concurrency": 3, "max_evaluations_per_day": 5}))
    settings = loaded(tmp_path, RUNFLOW_CONCURRENCY="4")
    assert (settings.concurrency, settings.sources["concurrency"]) == (4, "environment (RUNFLOW_CONCURRENCY)")
    assert (settings.max_evaluations_per_day, settings.sources["max_evaluations_per_day"]) == (5, "config file")


def test_the_key_file_is_read_where_the_environment_has_none(tmp_path: Path) -> None:
    (tmp_path / "api_key").write_text(f"  {SECRET}\n")
    assert loaded(tmp_path).require_key() == SECRET
    assert loaded(tmp_path).sources["api_key"] == "key file"
    assert loaded(tmp_path, RUNFLOW_API_KEY="rf_other").require_key() == "rf_other"


def test_a_key_never_shows() -> None:
    settings = loaded(RUNFLOW_API_KEY=SECRET)
    assert SECRET not in repr(settings) + str(settings)
    assert settings.masked_key == "rf_live_…ghij"
    assert config.mask("rf_short") == "…"


@pytest.mark.parametrize("key", ["rf live", "rf\nlive", "rf\x00", "schlüssel", "rf\u2028live"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(RUNFLOW_API_KEY=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example/", "https://api.example"),
        ("https://api.example/v1/", "https://api.example"),
        ("http://127.0.0.1:8189", "http://127.0.0.1:8189"),
        ("http://localhost:8189", "http://localhost:8189"),
        ("http://[::1]:8189", "http://[::1]:8189"),
    ],
)
def test_base_urls_that_may_get_the_key(given: str, used: str) -> None:
    assert loaded(RUNFLOW_BASE_URL=given).base_url == used


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://10.0.0.1",
        "ftp://api.example",
        "https://user:pass@api.example",
        "https://api.example?to=elsewhere",
        "https://api.example#there",
        "https://",
        "api.example",
        "http://[::1",
    ],
)
def test_base_urls_that_may_not(url: str) -> None:
    with pytest.raises(ConfigurationError, match="RUNFLOW_BASE_URL"):
        loaded(RUNFLOW_BASE_URL=url)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RUNFLOW_CONCURRENCY", "0"),
        ("RUNFLOW_CONCURRENCY", "many"),
        ("RUNFLOW_CONCURRENCY", "65"),
        ("RUNFLOW_MAX_EVALUATIONS_PER_PROMPT", "-1"),
        ("RUNFLOW_MAX_CREDITS_PER_DAY", "nan"),
        ("RUNFLOW_MAX_CREDITS_PER_DAY", "inf"),
        ("RUNFLOW_MAX_CREDITS_PER_DAY", "-0.1"),
        ("RUNFLOW_ORGANIZATION_ID", "an\norg"),
    ],
)
def test_a_bad_value_is_an_error_that_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        loaded(**{variable: value})


@pytest.mark.parametrize("text", ["{", "[]", "\x00\xff", '"text"'])
def test_a_config_file_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        loaded(tmp_path)


def test_an_empty_variable_is_no_value(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"concurrency": 3}')
    assert loaded(tmp_path, RUNFLOW_CONCURRENCY=" ", RUNFLOW_API_KEY="  ").concurrency == 3


def test_only_config_reads_the_environment() -> None:
    package = Path(config.__file__).parents[1]
    reads = re.compile(r"os\.environ|getenv|from os import")
    assert [path.name for path in package.rglob("*.py") if reads.search(path.read_text("utf-8"))] == ["config.py"]
