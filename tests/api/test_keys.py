"""The key file: private from its first moment, replaced at once, and never quoted."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from runflow_api._files import write_private
from runflow_api.errors import ConfigurationError, InvalidInputError
from runflow_api.settings import config, key_file

KEY = "rf_live_0123456789abcdef0123"
posix = pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX; Windows has an access list")


@pytest.fixture
def careless_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_stored_key_is_the_key_in_force(tmp_path: Path) -> None:
    key_file.store(tmp_path / "private", f"  {KEY}\n")
    settings = config.load(tmp_path / "private", {})
    assert settings.require_key() == KEY
    assert settings.sources["api_key"] == "key file"
    assert KEY not in repr(settings)


@posix
@pytest.mark.usefixtures("careless_umask")
def test_only_the_owner_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    path = key_file.store(tmp_path / "private", KEY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@posix
def test_a_key_file_that_others_could_read_is_replaced_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / config.KEY_FILE
    path.write_text("old")
    path.chmod(0o644)
    with path.open() as reader:
        key_file.store(tmp_path, KEY)
        assert reader.read() == "old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_left_beside_it(tmp_path: Path) -> None:
    key_file.store(tmp_path, KEY)
    key_file.store(tmp_path, f"{KEY}9")
    assert [path.name for path in tmp_path.iterdir()] == [config.KEY_FILE]


@pytest.mark.parametrize("bad", ["", "  \n", "rf live", "rf_live_é", "a\nb", "x" * 600])
def test_what_cannot_be_a_key_is_refused_without_being_quoted(tmp_path: Path, bad: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        key_file.store(tmp_path, bad)
    assert not bad.strip() or bad not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        key_file.store(tmp_path / "file" / "below", KEY)
    assert KEY not in str(caught.value)


def test_removing_says_whether_there_was_one(tmp_path: Path) -> None:
    key_file.store(tmp_path, KEY)
    assert key_file.remove(tmp_path)
    assert not key_file.remove(tmp_path)


def test_the_key_of_the_deploy_pack_is_read_from_comfyuis_settings(tmp_path: Path) -> None:
    path = tmp_path / key_file.OFFICIAL_SETTINGS
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"Comfy.Locale": "en", "Runflow.ApiKey": f" {KEY} "}))
    assert key_file.official(path) == KEY
    assert json.loads(path.read_text())["Runflow.ApiKey"] == f" {KEY} "


@pytest.mark.parametrize("settings", [None, "{}", '{"Runflow.ApiKey": ""}', '{"Runflow.ApiKey": 7}', "[]", "{", "\xff"])
def test_no_key_to_import_is_a_clear_error(tmp_path: Path, settings: str | None) -> None:
    path = tmp_path / key_file.OFFICIAL_SETTINGS
    path.parent.mkdir(parents=True)
    if settings is not None:
        path.write_text(settings, "latin-1")
    with pytest.raises(ConfigurationError, match="imported"):
        key_file.official(path)


def test_with_several_users_the_one_who_has_the_key_is_found_and_none_is_guessed(tmp_path: Path) -> None:
    """ComfyUI's ``--multi-user`` keeps each user's settings in a folder of their own."""
    for user, settings in {"default": {}, "ada_1": {"Runflow.ApiKey": KEY}, "bob_2": {"Runflow.ApiKey": "  "}}.items():
        (tmp_path / user).mkdir()
        (tmp_path / user / "comfy.settings.json").write_text(json.dumps(settings))
    (tmp_path / "__manager").mkdir()
    (tmp_path / "__manager" / "comfy.settings.json").write_text(json.dumps({"Runflow.ApiKey": "rf_live_no_user"}))
    assert key_file.official_settings(tmp_path) == tmp_path / "ada_1" / "comfy.settings.json"

    (tmp_path / "bob_2" / "comfy.settings.json").write_text(json.dumps({"Runflow.ApiKey": f"{KEY}2"}))
    with pytest.raises(ConfigurationError, match="ada_1, bob_2") as caught:
        key_file.official_settings(tmp_path)
    assert KEY not in str(caught.value)


def test_a_private_file_is_never_written_over_another(tmp_path: Path) -> None:
    write_private(tmp_path / "one", b"1")
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "one", b"2")
