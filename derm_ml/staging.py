"""A raw folder is changed by one process at a time, and only by renaming what was made ready beside it.

with staging(raw) as work:              an empty folder on the same disk; nobody else changes `raw` meanwhile
    odd = copied(batch, work / "stage")     regular files only; links and special files are named
    linked(raw, work / "raw")               the raw folder again, by hard links
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from derm_ml.deliveries import RECORD
from derm_ml.records import DataError, Problem


@contextmanager
def staging(raw: Path) -> Iterator[Path]:
    """An empty folder beside `raw`, while `only_one` holds it."""
    with only_one(raw), tempfile.TemporaryDirectory(dir=raw.resolve().parent, prefix=_prefix(raw)) as work:
        yield Path(work)


@contextmanager
def only_one(raw: Path) -> Iterator[None]:
    """Hold a task's raw folder; clears what a crash left. Raises `DataError` where another process is changing it."""
    place = raw.resolve().parent
    place.mkdir(parents=True, exist_ok=True)
    with (place / f".{raw.name}.lock").open("w") as lock:  # released by the system if this process dies
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{raw} is being changed by another process: try again when it is done") from None
        for left in place.glob(f"{_prefix(raw)}*"):
            shutil.rmtree(left)
        yield


def copied(batch: Path, stage: Path) -> list[Problem]:
    """Copy what is delivered, file by file; links and special files are not followed but named."""
    stage.mkdir()
    odd = []
    for folder, inner, names in os.walk(batch):
        links = [name for name in inner if (Path(folder) / name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(folder) / name
            relative = path.relative_to(batch)
            if path.is_symlink():
                odd.append(Problem(relative.as_posix(), "it is a link; deliver the file itself"))
            elif not path.is_file():
                odd.append(Problem(relative.as_posix(), "it is neither a file nor a folder; remove it"))
            elif relative.as_posix() != RECORD:
                (stage / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, stage / relative)
    return odd


def linked(raw: Path, view: Path) -> None:
    """The raw folder again at `view`; costs no space where the file system has hard links."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(source, target)

    shutil.copytree(raw, view, symlinks=True, copy_function=link)


def stored_once(known: Path, copy: Path) -> None:
    """Let a copy of known content share the bytes of the known file, so that a cumulative export costs no space."""
    shared = copy.with_name(f".{copy.name}.shared")
    try:
        os.link(known, shared)
    except OSError:  # no hard links here: then it costs its space
        return
    shared.replace(copy)


def _prefix(raw: Path) -> str:
    return f".{raw.name}.intake."
