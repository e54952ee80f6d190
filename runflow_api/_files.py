"""Files that are private to the user, and files that are replaced at once."""

from __future__ import annotations

import codecs
import errno
import os
import sys
import uuid
from contextlib import suppress
from pathlib import Path

MAX_TEXT_BYTES = 16 * 1024 * 1024


def private_folder(folder: Path) -> Path:
    """``folder``, made 0700 with those above it that are missing: ``mkdir`` gives its mode to the last one only."""
    if not folder.is_dir():
        if folder.parent != folder:
            private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def write_private(path: Path, data: bytes) -> None:
    """A new file that only its owner can read, on the disk when this returns. Raises ``FileExistsError``."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        _keep_to_owner(path)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_private(path: Path, data: bytes) -> None:
    """A private file in place of the one before, at once: whoever reads sees the old one or the new one, whole."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write_private(part, data)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def read_text(path: Path) -> str:
    """A text that any editor may have saved: UTF-8, or, if a byte order mark says so, UTF-16.

    Raises ``ValueError`` if it is neither, or larger than any such file, and ``OSError`` as reading does.
    """
    with path.open("rb") as file:
        data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise ValueError("too large")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def rights_trouble(path: Path, error: OSError) -> str:
    """What a file system refuses, with the folder and the right that is missing, in one line."""
    folder = path if os.path.isdir(path) else path.parent
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return f"{folder} belongs to another user or is read-only: the right to read and write there is missing"
    return f"{folder} cannot be used ({error.strerror or type(error).__name__})"


def _keep_to_owner(path: Path) -> None:
    """On Windows, where a mode means nothing: an access list with the owner alone, nothing inherited.

    Through the system's own functions, because a started ``icacls`` could be anybody's program of that name. The
    file is still empty when this is called. Elsewhere the mode that the file was made with says it all.
    """
    if sys.platform == "win32":
        import ctypes

        owner_only = "D:P(A;;FA;;;OW)"  # protected; allow: full access: owner rights (SDDL)
        revision, dacl, protected = 1, 0x00000004, 0x80000000
        api, descriptor = ctypes.WinDLL("advapi32", use_last_error=True), ctypes.c_void_p()
        convert = api.ConvertStringSecurityDescriptorToSecurityDescriptorW
        if not convert(ctypes.c_wchar_p(owner_only), revision, ctypes.byref(descriptor), None):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            if not api.SetFileSecurityW(ctypes.c_wchar_p(str(path)), dacl | protected, descriptor):
                raise ctypes.WinError(ctypes.get_last_error())
        finally:
            ctypes.WinDLL("kernel32").LocalFree(descriptor)
