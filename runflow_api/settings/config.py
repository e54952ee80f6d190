"""Settings: what they are, where each came from, and no secret in sight.

A setting comes from the environment, else from ``config.json`` in the pack's private directory, else it
is the default. The key comes from ``RUNFLOW_API_KEY``, else from the file ``api_key`` in that directory.
In ComfyUI the directory is the system user directory, which no HTTP route serves.

This is the only module that reads the environment, so that a reviewer has one place to look at.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from ..errors import ConfigurationError

KEY_VARIABLE = "RUNFLOW_API_KEY"
SANDBOX_KEY = "rf_test_sandbox"
"""What the sandbox takes unless told otherwise: no money, and a journal of its own."""
KEY_FILE = "api_key"
CONFIG_FILE = "config.json"
DEFAULT_BASE_URL = "https://api.runflow.io"
WHERE_TO_SET_THE_KEY = f"Settings \u2192 Runflow Evaluate, or the environment variable {KEY_VARIABLE}"

MAX_CONCURRENCY = 64
SHOWN_OF_A_KEY = 4
LONG_ENOUGH_TO_SHOW_SOME = 20
"""A masked key shows its last characters only where that leaves at least 16 unknown."""


@dataclass(frozen=True)
class Config:
    """The settings in force. ``sources`` says for each name "environment", "config file" or "default"."""

    api_key: SecretStr | None = None
    base_url: str = DEFAULT_BASE_URL
    organization_id: str | None = None
    journal_url: str | None = None
    max_evaluations_per_prompt: int = 20
    max_evaluations_per_day: int = 1000
    max_credits_per_day: float | None = None
    concurrency: int = 8
    callback_hosts: tuple[str, ...] = ()
    retention_days: int = 365
    retention_evaluations: int = 100_000
    keep_prompts: bool = True
    keep_thumbnails: bool = True
    web_hosts: tuple[str, ...] = ()
    web_remote_settings: bool = False
    model_url: str | None = None
    model_name: str | None = None
    model_key: SecretStr | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

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

    def journal_directory(self, directory: Path) -> Path:
        """Where the journal is, given the private directory. Practice must not use up the limits of the day."""
        return directory / "sandbox" if self.is_sandbox else directory

    def require_key(self) -> str:
        """The key itself, for the one place that sends it."""
        if self.api_key is None:
            raise ConfigurationError(
                f"{KEY_VARIABLE} is not set, and this needs Runflow. Nothing was sent and nothing was paid. "
                f"Set your key ({WHERE_TO_SET_THE_KEY}). For checks of the pixels only, set judge to local.",
                code="MISSING_API_KEY",
            )
        return self.api_key.get_secret_value()


def environment(name: str) -> str:
    """One variable of the environment, "" where it is not set. Here, because only this module reads it."""
    return os.environ.get(name, "")


def mask(key: str) -> str:
    """A key reduced to what identifies it to its owner."""
    if len(key) < LONG_ENOUGH_TO_SHOW_SOME:
        return "…"
    prefix = "rf_live_" if key.startswith("rf_live_") else ""
    return f"{prefix}…{key[-SHOWN_OF_A_KEY:]}"


def is_loopback_host(host: str) -> bool:
    """Whether ``host`` is this machine: ``localhost``, 127.0.0.0/8 or ::1. Nothing is resolved."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(directory: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings in force now.

    Raises ``ConfigurationError`` naming the setting and its source; a bad value is never quietly replaced.
    """
    environ = os.environ if environ is None else environ
    stored = _read_config_file(directory)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, (variable, parse) in _SETTINGS.items():
        raw, source = _pick(environ.get(variable), stored.get(name), variable)
        if raw is not None:
            values[name] = _parsed(parse, raw, source)
            sources[name] = source
    key, source = _find_key(directory, environ)
    if key:
        values["api_key"], sources["api_key"] = SecretStr(key), source
    return Config(**values, sources=sources)


def parsed(name: str, raw: Any) -> Any:
    """The value of one setting. Raises ``ValueError`` or ``TypeError`` that says what is wrong with ``raw``."""
    return _SETTINGS[name][1](raw)


def stored(directory: Path) -> dict[str, Any]:
    """What ``config.json`` holds, unchecked."""
    return _read_config_file(directory)


def _pick(from_environment: str | None, from_file: Any, variable: str) -> tuple[Any, str]:
    if from_environment is not None and from_environment.strip():
        return from_environment.strip(), f"environment ({variable})"
    return from_file, "config file"


def _parsed(parse: Callable[[Any], Any], raw: Any, source: str) -> Any:
    try:
        return parse(raw)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{source}: {error}. Nothing was sent.") from error


def _read_config_file(directory: Path | None) -> dict[str, Any]:
    path = directory / CONFIG_FILE if directory else None
    if path is None or not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"config file: {CONFIG_FILE} cannot be read ({type(error).__name__}).") from error
    if not isinstance(stored, dict):
        raise ConfigurationError(f"config file: {CONFIG_FILE} must hold one JSON object.")
    return stored


def _find_key(directory: Path | None, environ: Mapping[str, str]) -> tuple[str | None, str]:
    key, source = environ.get(KEY_VARIABLE, "").strip(), f"environment ({KEY_VARIABLE})"
    path = directory / KEY_FILE if directory else None
    if not key and path is not None and path.is_file():
        try:
            key, source = path.read_text("utf-8").strip(), "key file"
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"key file: cannot be read ({type(error).__name__}).") from error
    if key and not is_sendable(key):
        # Told here, because an HTTP library would put the offending header into its error.
        raise ConfigurationError(f"{source}: the API key holds characters that no key has. Copy it again.")
    return key or None, source


def is_sendable(key: str) -> bool:
    """Whether a header can carry the key: printable ASCII without spaces."""
    return key.isascii() and key.isprintable() and " " not in key


def _base_url(raw: Any) -> str:
    """https anywhere, http on this machine only: a key must not travel in the clear."""
    url = str(raw).rstrip("/").removesuffix("/v1")
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("the base URL must hold no user name, password, query or fragment")
    if not parts.hostname or not (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback_host(parts.hostname))
    ):
        raise ValueError("the base URL must be https://…, or http:// on this machine (127.0.0.1, localhost)")
    return url


def _model_url(raw: Any) -> str:
    """As for the base URL: the image and the prompt go there, and perhaps a key."""
    url = str(raw).rstrip("/")
    _base_url(url)
    return url


def _model_name(raw: Any) -> str:
    name = str(raw)
    if not name.isprintable() or len(name) > 200:
        raise ValueError("the name of the model must be printable and at most 200 characters long")
    return name


def _model_key(raw: Any) -> SecretStr:
    if not is_sendable(str(raw)):
        raise ValueError("the key of the model holds characters that no key has")
    return SecretStr(str(raw))


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def parse(raw: Any) -> int:
        try:
            number = int(str(raw))
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"{raw} is not a whole number between {low} and {high}")
        return number

    return parse


def _credits(raw: Any) -> float:
    try:
        number = float(str(raw))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError(f"{raw} is not an amount of credits from 0")
    return number


def _text(raw: Any) -> str:
    text = str(raw)
    if not (text.isascii() and text.isprintable()):
        raise ValueError("only printable ASCII characters are allowed")
    return text


def _flag(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"{raw!r} is neither true nor false")
    return raw


def _hosts(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(host, str) for host in raw):
        raise ValueError("a list of host names is needed")
    return tuple(host.lower() for host in raw)


_SETTINGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "base_url": ("RUNFLOW_BASE_URL", _base_url),
    "organization_id": ("RUNFLOW_ORGANIZATION_ID", _text),
    "journal_url": ("RUNFLOW_JOURNAL_URL", _text),
    "max_evaluations_per_prompt": ("RUNFLOW_MAX_EVALUATIONS_PER_PROMPT", _whole(0, 100_000)),
    "max_evaluations_per_day": ("RUNFLOW_MAX_EVALUATIONS_PER_DAY", _whole(0, 10_000_000)),
    "max_credits_per_day": ("RUNFLOW_MAX_CREDITS_PER_DAY", _credits),
    "concurrency": ("RUNFLOW_CONCURRENCY", _whole(1, MAX_CONCURRENCY)),
    "callback_hosts": ("", _hosts),
    "retention_days": ("", _whole(1, 36_500)),
    "retention_evaluations": ("", _whole(1, 10_000_000)),
    "keep_prompts": ("", _flag),
    "keep_thumbnails": ("", _flag),
    "web_hosts": ("", _hosts),
    "web_remote_settings": ("", _flag),
    "model_url": ("RUNFLOW_MODEL_URL", _model_url),
    "model_name": ("RUNFLOW_MODEL_NAME", _model_name),
    "model_key": ("RUNFLOW_MODEL_KEY", _model_key),
}
