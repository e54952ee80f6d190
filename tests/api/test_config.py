"""Settings: where each comes from, what a value may be, and what is said where one cannot be used."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.evaluators import judge
from support.journals import posix
from support.pictures import picture

from runflow_api.cli import commands
from runflow_api.errors import ConfigurationError
from runflow_api.evaluation.evaluator import Evaluator
from runflow_api.settings import config, key_file, locations, user_settings

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
        ("RUNFLOW_WEB_REMOTE_SETTINGS", "yes"),
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


# --- names and places -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["max_credit_per_day", "MAX_CREDITS_PER_DAY", "maxCreditsPerDay", "max-credits-per-day", "credits_per_day",
             "max_evaluation_per_day", "daily_limit", "max_evaluations_per_promt", "RUNFLOW_MAX_CREDITS_PER_DAY"]
)  # fmt: skip
def test_a_misspelt_limit_is_an_error_and_not_no_limit(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({name: 5}))
    with pytest.raises(ConfigurationError, match=rf"config file: {name} is not a setting; the limit is called \S*max_"):
        loaded(tmp_path)


def test_a_misspelt_limit_in_the_environment_is_one_too() -> None:
    with pytest.raises(ConfigurationError, match="the limit is called max_credits_per_day"):
        loaded(RUNFLOW_MAX_CREDIT_PER_DAY="5")


def test_any_other_unknown_name_is_kept_for_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"concurency": 3}))
    settings = loaded(tmp_path, RUNFLOW_BASEURL="https://elsewhere.example", RUNFLOW_MODEL_URL="http://localhost")
    assert settings.unknown == ("concurency (config file)", "RUNFLOW_BASEURL (environment)")
    assert settings.concurrency == 8


@pytest.mark.parametrize(
    "url",
    [
        "http://models.example.org:11434", "http://192.168.1.20:11434", "http://127.0.0.1.example.org",
        "https://user:secret@models.example.org", "ftp://127.0.0.1", "127.0.0.1:11434", "https://models.example.org/?k=1",
    ],
)  # fmt: skip
def test_images_go_to_a_model_over_https_or_on_this_machine_only(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the address of the model") as refused:
        loaded(RUNFLOW_MODEL_URL=url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://localhost:11434", "http://[::1]:1234/v1", "https://models.example.org/v1/"])
def test_an_address_of_a_model_on_this_machine_or_over_https_is_taken(url: str) -> None:
    assert loaded(RUNFLOW_MODEL_URL=url).model_url == url.rstrip("/")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_key_and_settings_are_read_as_any_editor_saves_them(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    (tmp_path / "api_key").write_bytes(f"{mark}{SECRET}\r\n".encode(encoding))
    (tmp_path / "config.json").write_bytes((mark + json.dumps({"concurrency": 3})).encode(encoding))
    settings = loaded(tmp_path)
    assert (settings.require_key(), settings.concurrency) == (SECRET, 3)


def test_a_variable_is_read_without_the_byte_order_mark_of_its_file() -> None:
    settings = loaded(RUNFLOW_API_KEY=f"\ufeff{SECRET}\r\n", RUNFLOW_MAX_EVALUATIONS_PER_DAY="\ufeff5")
    assert (settings.require_key(), settings.max_evaluations_per_day) == (SECRET, 5)


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ("comfy.lan, *.Proxy.RunPod.net", ("comfy.lan", "*.proxy.runpod.net")),
        ("comfy.lan:8188 pod-1.ts.net", ("comfy.lan", "pod-1.ts.net")),
    ],
)
def test_hosts_of_the_environment_stand_between_commas_or_blanks(given: str, hosts: tuple[str, ...]) -> None:
    assert loaded(RUNFLOW_WEB_HOSTS=given).web_hosts == hosts


@pytest.mark.parametrize("host", ["*", "*.", "a*b.example", "https://comfy.lan", "comfy.lan/x", "*.*.example"])
def test_a_wildcard_is_the_end_of_a_name_and_never_everything(host: str) -> None:
    with pytest.raises(ConfigurationError, match="RUNFLOW_WEB_HOSTS"):
        loaded(RUNFLOW_WEB_HOSTS=host)


def test_a_suffix_takes_names_below_it_only() -> None:
    hosts = ("comfy.lan", "*.proxy.example")
    assert [config.is_host_among(name, hosts) for name in ("Comfy.lan", "a.proxy.example", "a.b.proxy.example")] == [
        True
    ] * 3
    assert not any(config.is_host_among(name, hosts) for name in ("proxy.example", "evilproxy.example", "lan", ""))


@pytest.mark.parametrize(("given", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_remote_settings_may_come_from_the_environment(given: str, value: bool) -> None:
    assert loaded(RUNFLOW_WEB_REMOTE_SETTINGS=given).web_remote_settings is value


def test_credits_are_exact(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_credits_per_day": 0.1}')
    assert loaded(tmp_path).max_credits_per_day == Decimal("0.1")
    assert loaded(RUNFLOW_MAX_CREDITS_PER_DAY="0.30").max_credits_per_day == Decimal("0.30")


def test_an_address_with_a_password_is_never_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(RUNFLOW_JOURNAL_URL="postgresql://me:sécret@host/db")
    assert "cret" not in str(caught.value)


# --- foreign rights -------------------------------------------------------------------------------


@contextmanager
def foreign(folder: Path) -> Iterator[None]:
    """A folder that only somebody else may enter."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o700)
    if os.geteuid() == 0:
        os.seteuid(65534)
    else:
        folder.chmod(0)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        folder.chmod(0o700)


@pytest.fixture
def folder_of_another() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        with foreign(Path(name) / "private"):
            yield Path(name) / "private"


@posix
def test_a_folder_of_somebody_else_is_said_by_what_needs_the_key_only(folder_of_another: Path) -> None:
    settings = loaded(folder_of_another, RUNFLOW_API_KEY=SECRET)
    assert settings.concurrency == 8 and str(folder_of_another) in settings.trouble
    with pytest.raises(
        ConfigurationError, match=r"^\[FOLDER_UNUSABLE\] .* belongs to another user.*Nothing was sent"
    ) as one:
        settings.require_key()
    assert "\n" not in str(one.value)


@posix
def test_local_and_off_need_no_private_folder(folder_of_another: Path) -> None:
    evaluator = Evaluator(loaded(folder_of_another), folder_of_another)
    assert judge(evaluator, picture(), judge="local").outcome == "passed"
    assert judge(evaluator, picture(), judge="off").outcome == "unknown"
    for choice in ("auto", "runflow"):
        with pytest.raises(ConfigurationError, match="FOLDER_UNUSABLE"):
            judge(evaluator, picture(), judge=choice)
    evaluator.close()


@posix
def test_what_cannot_be_saved_names_folder_and_right(folder_of_another: Path) -> None:
    for save in (
        lambda: key_file.store(folder_of_another, SECRET),
        lambda: key_file.remove(folder_of_another),
        lambda: user_settings.change(folder_of_another, {"concurrency": 3}),
    ):
        with pytest.raises(ConfigurationError, match=rf"\[FOLDER_UNUSABLE\] .*{folder_of_another}.*right") as caught:
            save()
        assert SECRET not in str(caught.value)


@posix
@pytest.mark.parametrize(("command", "code"), [(("key", "show"), 0), (("doctor",), 4)])
def test_commands_that_look_end_in_one_line_and_no_traceback(
    folder_of_another: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: Any,
    code: int,
) -> None:
    monkeypatch.setattr(locations, "settings_directory", lambda *_: folder_of_another)
    monkeypatch.setattr(locations, "journal_directory", lambda *_: folder_of_another)
    monkeypatch.setenv("RUNFLOW_BASE_URL", "http://127.0.0.1:9")
    assert commands.main(list(command)) == code
    printed = capsys.readouterr()
    assert "[FOLDER_UNUSABLE]" in printed.out + printed.err and "Traceback" not in printed.err
