"""Writing files so that a crash leaves the old state or the new one, never a mixture."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from derm_ml.machine import writing


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed over `path`.

    Raises `WriteError` naming `path` if its folder cannot be written or has no room.
    """
    with writing(path, making=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    temporary = Path(name)
    try:
        with writing(path):
            yield temporary
        with writing(path, making=True):
            temporary.chmod(0o644)  # mkstemp makes 0600: others on the machine read results too
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
    with writing(path, making=True):
        if path.exists() and not path.is_dir():  # a file of the user's, not an old result
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        temporary.chmod(0o755)
    try:
        with writing(path):
            yield temporary
        with writing(path, making=True):
            for item in temporary.rglob("*"):
                _sync(item)
            _sync(temporary)
            if path.exists():
                old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
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


def sha256(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_md5(folder: Path) -> str:
    """The md5 DVC gives a tracked folder (`….dir`): over the sorted list of relative path and md5 of each file.

    Computing it here lets a dataset say its own version where no DVC is at hand; a test holds it equal to dvc.lock.
    """
    entries = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        entries.append({"md5": digest, "relpath": path.relative_to(folder).as_posix()})
    entries.sort(key=lambda entry: tuple(entry["relpath"].split("/")))
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
