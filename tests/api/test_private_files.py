"""Private and atomic files: nobody else reads them, and nobody ever sees half of one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from support.journals import posix

from runflow_api import _files


@pytest.fixture
def careless_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
@pytest.mark.usefixtures("careless_umask")
def test_every_folder_that_is_made_is_the_owners_alone(tmp_path: Path) -> None:
    folder = _files.private_folder(tmp_path / "a" / "b" / "c")
    assert [mode(each) for each in (folder, folder.parent, folder.parent.parent)] == [0o700] * 3
    assert _files.private_folder(folder) == folder


@posix
@pytest.mark.usefixtures("careless_umask")
def test_what_is_replaced_is_private_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o644)
    with file.open() as reader:
        _files.replace_private(file, b"new")
        assert reader.read() == "old"
    assert (file.read_bytes(), mode(file)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_replacement_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        _files.replace_private(tmp_path / "folder", b"a file cannot take a folder's place")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_text_is_read_whatever_byte_order_mark_it_has(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "text").write_text("naïve ☃", encoding)
    assert _files.read_text(tmp_path / "text") == "naïve ☃"


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"caf\xe9", b"x" * (_files.MAX_TEXT_BYTES + 1)])
def test_what_is_no_text_or_far_too_much_is_a_value_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "text").write_bytes(data)
    with pytest.raises(ValueError):
        _files.read_text(tmp_path / "text")
