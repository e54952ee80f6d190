"""Settings: what they are, where each came from, and no secret in sight.

A setting comes from the environment, otherwise from ``config.json`` in the pack's private directory, otherwise it
is the default. The key comes from ``RUNFLOW_API_KEY``, otherwise from the file ``api_key`` in that directory.
In ComfyUI the directory is the system user directory, which no HTTP route serves.

This is the only module that reads the environment, so that a reviewer has one place to look at.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from .._files import read_text, rights_trouble
from ..errors import ConfigurationError

KEY_VARIABLE = "RUNFLOW_API_KEY"
SANDBOX_KEY = "rf_test_sandbox"
"""What the sandbox takes unless told otherwise: no money, and a journal of its own."""
KEY_FILE = "api_key"
CONFIG_FILE = "config.json"
DEFAULT_BASE_URL = "https://api.runflow.io"
WHERE_TO_SET_THE_KEY = f"Settings \u2192 Runflow Evaluate, or the environment variable {KEY_VARIABLE}"

MAX_CONCURRENCY = 64
LONGEST_MODEL_NAME = 200
Strictness = Literal["strict", "normal", "lenient"]
"""How much the local judge lets pass."""
LocalCheck = Literal[
    "blur", "exposure", "contrast", "noise", "compression", "resolution", "text",
    "cut_off", "white_noise", "single_pixels", "mosaic", "scan_lines", "motion_blur",
]  # fmt: skip
"""Those of the second line look for damage that is there or is not: they can be off, and nothing else changes them."""
SHOWN_OF_A_KEY = 4
LONG_ENOUGH_TO_SHOW_SOME = 20
"""A masked key shows its last characters only if that leaves at least 16 unknown."""


# --- what a value may be --------------------------------------------------------------------------


def _check_base_url(url: str) -> str:
    """https anywhere, http on this machine only: a key must not travel in the clear."""
    url = url.rstrip("/").removesuffix("/v1")
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("the base URL must not contain a user name, password, query or fragment")
    if not parts.hostname or not (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback_host(parts.hostname))
    ):
        raise ValueError("the base URL must be https://…, or http:// on this machine (127.0.0.1, localhost)")
    return url


def _check_model_url(url: str) -> str:
    """As for the base URL: images and prompts go there, and perhaps a key."""
    try:
        _check_base_url(url)
    except ValueError as error:
        raise ValueError(str(error).replace("the base URL", "the address of the model")) from None
    return url.rstrip("/")


def _check_model_name(name: str) -> str:
    if not name.isprintable() or len(name) > LONGEST_MODEL_NAME:
        raise ValueError(f"the name of a model is printable and has at most {LONGEST_MODEL_NAME} characters")
    return name


def _check_model_key(key: SecretStr) -> SecretStr:
    if not is_sendable(key.get_secret_value()):
        raise ValueError("the key of the model holds characters that no key has")
    return key


def _check_text(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise ValueError("only printable ASCII characters are allowed")
    return text


def _split_hosts(raw: Any) -> Any:
    """A list, or, as a variable of the environment has it, names between commas or blanks."""
    return re.split(r"[\s,]+", raw.strip()) if isinstance(raw, str) else raw


def _check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Names, or ``*.`` and a suffix; a port is left out, since the name is what is compared."""
    names = tuple(re.sub(r":\d+$", "", host.strip().lower()) for host in hosts if host.strip())
    for name in names:
        if not re.fullmatch(r"(\*\.)?[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?", name):
            raise ValueError(f"{name[:80]} is neither a host name nor a pattern such as *.example.com")
    return names


def _refuse_bool(raw: Any) -> Any:
    if isinstance(raw, bool):
        raise ValueError(f"{str(raw).lower()} is not a number")
    return raw


def _check_flag(raw: Any) -> Any:
    if isinstance(raw, str) and raw.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{raw[:60]} is neither true nor false")
    return raw


Number = BeforeValidator(_refuse_bool)
Flag = Annotated[bool, BeforeValidator(_check_flag)]
Text = Annotated[str, AfterValidator(_check_text)]
Hosts = Annotated[tuple[str, ...], BeforeValidator(_split_hosts), AfterValidator(_check_hosts)]


class Config(BaseModel):
    """The settings in force. ``sources`` says for each name where it came from, unless it is the default.

    ``unknown`` are names in ``config.json`` and in the environment that are not settings. ``trouble`` is one line where
    the private folder cannot be read: what needs the key is refused with it, everything else goes on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    api_key: SecretStr | None = None
    base_url: Annotated[str, AfterValidator(_check_base_url)] = DEFAULT_BASE_URL
    organization_id: Text | None = None
    journal_url: Text | None = None
    max_evaluations_per_prompt: Annotated[int, Number, Field(ge=0, le=100_000)] = 20
    max_evaluations_per_day: Annotated[int, Number, Field(ge=0, le=10_000_000)] = 1000
    max_credits_per_day: Annotated[Decimal, Number, Field(ge=0, allow_inf_nan=False)] | None = None
    requests_per_second: Annotated[float, Number, Field(gt=0, le=10_000, allow_inf_nan=False)] | None = None
    concurrency: Annotated[int, Number, Field(ge=1, le=MAX_CONCURRENCY)] = 8
    callback_hosts: Hosts = ()
    retention_days: Annotated[int, Number, Field(ge=1, le=36_500)] = 365
    retention_evaluations: Annotated[int, Number, Field(ge=1, le=10_000_000)] = 100_000
    keep_prompts: Flag = True
    keep_thumbnails: Flag = True
    collect_at_start: Flag = False
    web_hosts: Hosts = ()
    web_remote_settings: Flag = False
    model_url: Annotated[str, AfterValidator(_check_model_url)] | None = None
    model_name: Annotated[str, AfterValidator(_check_model_name)] | None = None
    model_key: Annotated[SecretStr, AfterValidator(_check_model_key)] | None = None
    local_strictness: Strictness = "normal"
    local_checks: Mapping[LocalCheck, Strictness | Literal["off"]] = Field(default_factory=dict)
    sources: Mapping[str, str] = Field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def masked_key(self) -> str:
        """The key as it may be shown to its owner: ``rf_live_…9f3a``, or "not set"."""
        return mask(self.api_key.get_secret_value()) if self.api_key else "not set"

    @property
    def is_loopback(self) -> bool:
        return is_loopback_host(urlsplit(self.base_url).hostname or "")

    @property
    def is_sandbox(self) -> bool:
        """Whether this is practice: the sandbox's own key, on this machine."""
        return self.is_loopback and self.api_key is not None and self.api_key.get_secret_value() == SANDBOX_KEY

    @property
    def has_own_limits(self) -> bool:
        """Whether the person has set a limit per day or in credits; the defaults are not theirs."""
        return "max_evaluations_per_day" in self.sources or "max_credits_per_day" in self.sources

    @property
    def has_shared_journal(self) -> bool:
        """Whether a database server has the journal, which other machines may use too."""
        return bool(self.journal_url) and not str(self.journal_url).startswith("sqlite")

    @property
    def needs_journal(self) -> bool:
        """Whether nothing may be paid for while the journal cannot be used."""
        return self.has_own_limits or self.has_shared_journal

    @property
    def rows_kept(self) -> int | None:
        """How many evaluations the journal keeps. What others share is not cut to the default of one machine."""
        is_chosen = "retention_evaluations" in self.sources
        return self.retention_evaluations if is_chosen or not self.has_shared_journal else None

    def journal_directory(self, directory: Path) -> Path:
        """Where the journal is, given the private directory. Practice must not use up the limits of the day."""
        return directory / "sandbox" if self.is_sandbox else directory

    def require_key(self) -> str:
        """The key itself, for the one place that sends it. Raises ``ConfigurationError`` if it is not known."""
        if self.trouble:
            raise ConfigurationError(f"{self.trouble} Nothing was sent and nothing was paid.", code="FOLDER_UNUSABLE")
        if self.api_key is None:
            raise ConfigurationError(
                f"{KEY_VARIABLE} is not set, and this needs Runflow. Nothing was sent and nothing was paid. "
                f"Set your key ({WHERE_TO_SET_THE_KEY}). For checks of the pixels only, set judge to local.",
                code="MISSING_API_KEY",
            )
        return self.api_key.get_secret_value()


SETTINGS = tuple(name for name in Config.model_fields if name not in ("api_key", "sources", "unknown", "trouble"))
"""What ``config.json`` may hold."""
_FILE_ONLY = {
    "local_strictness",
    "local_checks",
    "callback_hosts",
    "retention_days",
    "retention_evaluations",
    "keep_prompts",
    "keep_thumbnails",
    "collect_at_start",
}
VARIABLES = {name: f"RUNFLOW_{name.upper()}" for name in SETTINGS if name not in _FILE_ONLY}
"""The settings that the environment may set, and by which variable."""
LIMITS = tuple(name for name in SETTINGS if name.startswith("max_"))


# --- reading them ---------------------------------------------------------------------------------


def load(directory: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings in force now.

    Raises ``ConfigurationError`` naming the setting and its source: a bad value, or a misspelt limit, is never quietly
    replaced. A folder that cannot be read is not an error yet, but is kept as ``trouble``.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    trouble = ""
    found: dict[str, Any] = {}
    key, key_source = _given(environ, KEY_VARIABLE), f"environment ({KEY_VARIABLE})"
    try:
        found = stored(directory) if directory else {}
        if directory and not key:
            key, key_source = _read_key(directory / KEY_FILE), "key file"
    except OSError as error:
        assert directory is not None
        trouble = f"The settings cannot be read: {rights_trouble(directory, error)}."
    for name in SETTINGS:
        given = _given(environ, VARIABLES.get(name, ""))
        raw, source = (given, f"environment ({VARIABLES[name]})") if given else (found.get(name), "config file")
        if raw is not None:
            values[name], sources[name] = _checked(name, raw, source), source
    if key:
        if not is_sendable(key):
            # Told here, because an HTTP library would put the offending header into its error.
            raise ConfigurationError(
                f"{key_source}: the API key contains characters that keys do not have. Copy it again."
            )
        values["api_key"], sources["api_key"] = SecretStr(key), key_source
    unknown = (*_misspelt(found, SETTINGS, "config file"), *_unknown_variables(environ))
    return Config(**values, sources=sources, unknown=unknown, trouble=trouble)


def _given(environ: Mapping[str, str], name: str) -> str:
    """A variable's value without what stands around it: blanks, and the byte order mark of the file it came from."""
    return environ.get(name, "").strip().strip("\ufeff").strip()


def stored(directory: Path) -> dict[str, Any]:
    """What ``config.json`` holds, unchecked; empty if there is none.

    Raises ``ConfigurationError`` if it is not a JSON object, and ``OSError`` if it cannot be read.
    """
    try:
        found = json.loads(read_text(directory / CONFIG_FILE))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"config file: {CONFIG_FILE} cannot be read ({type(error).__name__}).") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"config file: {CONFIG_FILE} must contain one JSON object.")
    return found


def parsed(name: str, raw: Any) -> Any:
    """The value of one setting. Raises ``ValueError`` that says what is wrong with ``raw``."""
    try:
        return getattr(Config.model_validate({name: raw}), name)
    except ValidationError as error:
        raise ValueError(_in_words(name, raw, error)) from None


def _checked(name: str, raw: Any, source: str) -> Any:
    try:
        return parsed(name, raw)
    except ValueError as error:
        raise ConfigurationError(f"{source}: {name}: {error}. Nothing was sent.") from error


def _in_words(name: str, raw: Any, error: ValidationError) -> str:
    """What pydantic found, as a person would say it. An address may hold a password and is not repeated."""
    found = error.errors(include_url=False, include_input=False)[0]
    if found["type"] == "value_error":
        return str(found["ctx"]["error"])
    default = Config.model_fields[name].default
    shown = str(raw)[:60]
    if name == "max_credits_per_day":
        return f"{shown} is not an amount of credits from 0"
    if name == "requests_per_second":
        return f"{shown} is not a number of requests above 0"
    if isinstance(default, bool):
        return f"{shown} is neither true nor false"
    if isinstance(default, int):
        low, high = (getattr(rule, limit) for limit in ("ge", "le") for rule in Config.model_fields[name].metadata
                     if hasattr(rule, limit))  # fmt: skip
        return f"{shown} is not a whole number between {low} and {high}"
    if name in ("local_strictness", "local_checks"):
        checks = ", ".join(get_args(LocalCheck))
        return f"{shown} is not strict, normal or lenient, for one check (of {checks}) also off"
    return "a list of host names is needed" if isinstance(default, tuple) else "text is needed"


def _read_key(path: Path) -> str:
    try:
        return read_text(path).strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
    except ValueError as error:
        raise ConfigurationError(f"key file: cannot be read ({type(error).__name__}).") from error


# --- misspelt names -------------------------------------------------------------------------------


def _misspelt(names: Iterable[str], known: Iterable[str], source: str) -> tuple[str, ...]:
    """The names that are not settings. Raises ``ConfigurationError`` for one that was meant to be a limit."""
    unknown = tuple(name for name in names if name not in known)
    for name in unknown:
        if limit := _limit_that_is_meant(name):
            raise ConfigurationError(
                f"{source}: {name[:60]} is not a setting; the limit is called {limit}. Nothing is sent until this is "
                "corrected, because otherwise you would not have that limit."
            )
    return tuple(f"{name[:60]} ({source})" for name in unknown)


def _limit_that_is_meant(name: str) -> str:
    plain = re.sub(r"[^a-z]", "", name.lower()).removeprefix("runflow")
    spelt = {limit.replace("_", ""): limit for limit in LIMITS}
    close = difflib.get_close_matches(plain, spelt, n=1, cutoff=0.75)
    if close:
        return spelt[close[0]]
    return " or ".join(LIMITS) if plain.startswith("max") or "limit" in plain or "perday" in plain else ""


def _unknown_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    ours = [name for name in environ if name.upper().startswith("RUNFLOW_") and not name.startswith(_NOT_OURS)]
    return _misspelt(ours, {KEY_VARIABLE, *VARIABLES.values()}, "environment")


_NOT_OURS = ("RUNFLOW_TEST_", "RUNFLOW_BENCHMARK")


# --- in pieces ------------------------------------------------------------------------------------


def environment(name: str) -> str:
    """One variable of the environment, "" if it is not set. Here, because only this module reads it."""
    return os.environ.get(name, "")


def mask(key: str) -> str:
    """A key reduced to what identifies it to its owner."""
    if len(key) < LONG_ENOUGH_TO_SHOW_SOME:
        return "…"
    prefix = "rf_live_" if key.startswith("rf_live_") else ""
    return f"{prefix}…{key[-SHOWN_OF_A_KEY:]}"


def is_sendable(key: str) -> bool:
    """Whether a header can carry the key: printable ASCII without spaces."""
    return key.isascii() and key.isprintable() and " " not in key


def is_loopback_host(host: str) -> bool:
    """Whether ``host`` is this machine: ``localhost``, 127.0.0.0/8 or ::1. Nothing is resolved."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_host_among(name: str, hosts: Iterable[str]) -> bool:
    """Whether ``name`` is one of ``hosts``, or ends as one of them that begins with ``*.`` says."""
    name = name.lower()
    return any(name == host or (host.startswith("*.") and name.endswith(host[1:])) for host in hosts)
