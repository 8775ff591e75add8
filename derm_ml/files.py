"""Files: written so that a crash leaves the old state or the new one, read so that an odd entry does no harm.

    with replacing_file(path) as temporary: …        whole or not at all
    with open_plain(path) as file: …                 a regular file, never a pipe or a device

What is written has the mode the process's umask leaves; `private_by_default` sets it at every entrance.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from derm_ml import DermError
from derm_ml.machine import writing

_NAME = 40  # characters of a file's name that its temporary name repeats: both must fit into the 255 bytes of a name


class NotAFile(DermError, OSError):
    """A path that should be a file is a folder, a pipe, a device or, where none is allowed, a link."""


class UmaskError(DermError, ValueError):
    """`DERM_UMASK` is no umask."""


def private_by_default() -> None:
    """Let this process and all it starts write files for their owner alone (0600, folders 0700).

    `DERM_UMASK`, three octal digits such as 027, widens that for a group. Raises `UmaskError` for anything else.
    """
    given = os.environ.get("DERM_UMASK", "").strip() or "077"
    if not 3 <= len(given) <= 4 or set(given) - set("01234567") or int(given, 8) > 0o777:
        raise UmaskError(
            f"DERM_UMASK is '{given[:20]}'; write three octal digits, such as 077 (private) or 027 (group)"
        )
    if int(given, 8) & 0o700:
        raise UmaskError(f"DERM_UMASK is {given}: it takes rights from the owner; begin it with 0, such as 027")
    os.umask(int(given, 8))


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed over `path`.

    Raises `WriteError` naming `path` if its folder cannot be written or has no room.
    """
    temporary = _beside(path)
    with writing(path, making=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    try:
        with writing(path):
            yield temporary
        with writing(path, making=True):
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; on success it takes the place of `path`.

    A folder cannot be renamed over a full one, so the old one is first renamed away: a reader sees the old
    folder, for an instant none, then the new one. Raises `WriteError` as `replacing_file` does.
    """
    temporary = _beside(path)
    with writing(path, making=True):
        if path.exists() and not path.is_dir():  # a file of the user's, not an old result
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    try:
        with writing(path):
            yield temporary
        with writing(path, making=True):
            for item in temporary.rglob("*"):
                _sync(item)
            _sync(temporary)
            if path.exists():
                old = _beside(path)
                old.mkdir()
                path.rename(old / path.name)
                temporary.rename(path)
                shutil.rmtree(old)
            else:
                temporary.rename(path)
            _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically. NaN is refused: a metric that is undefined is null."""
    with replacing_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=False, allow_nan=False) + "\n", encoding="utf-8")


def _beside(path: Path) -> Path:
    """A name of its own beside `path`: hidden, so that no reader takes it for a file of the user's."""
    return path.with_name(f".{path.name[:_NAME]}.{secrets.token_hex(4)}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_plain(path: Path, follow_links: bool = True) -> BufferedReader:
    """Open a regular file for reading. A pipe or a device is not opened, and with `follow_links=False` no link is.

    Raises `NotAFile` saying what the path is instead, and `OSError` as `open` does.
    """
    found = os.stat(path, follow_symlinks=follow_links)
    if not stat.S_ISREG(found.st_mode):
        raise NotAFile(f"{path} is {kind_of(found.st_mode)}, not a file; put the file itself there")
    # between the look and the opening somebody may have changed it: the open file is looked at again
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    handle = os.open(path, flags)
    opened = os.fstat(handle)
    if not stat.S_ISREG(opened.st_mode):
        os.close(handle)
        raise NotAFile(f"{path} became {kind_of(opened.st_mode)} while it was opened; try again")
    return os.fdopen(handle, "rb")


def kind_of(mode: int) -> str:
    """`st_mode` in words: "a folder", "a link", "a named pipe", …"""
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a device",
        stat.S_IFCHR: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")


def file_identity(path: Path) -> tuple[int, int] | None:
    """Inode and time of change (ns), which differ after a file was replaced by a rename; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def sha256(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or is not there."""
    return not folder.exists() or (folder.is_dir() and next(folder.iterdir(), None) is None)
