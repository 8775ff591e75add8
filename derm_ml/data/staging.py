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

from derm_ml.data.deliveries import RECORD
from derm_ml.records import DataError, Problem
from derm_ml.tree import files_below


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
    tree = files_below(batch, links="none", hidden=True)
    for name in tree.files():
        if name != RECORD:
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(batch / name, stage / name, follow_symlinks=False)
    return tree.odd


def linked(raw: Path, view: Path) -> None:
    """The raw folder again at `view`; costs no space where the file system has hard links.

    A symbolic link leads to the same file: within the view if its target lies in the raw folder.
    """
    real = os.path.realpath(raw)
    for folder, inner, names in os.walk(raw):
        here = view / os.path.relpath(folder, raw)
        here.mkdir(parents=True, exist_ok=True)
        for name in [*names, *(name for name in inner if (Path(folder) / name).is_symlink())]:
            path = Path(folder) / name
            if path.is_symlink():
                target = os.path.realpath(path)
                within = os.path.relpath(target, real)
                (here / name).symlink_to(target if within.startswith("..") else view.resolve() / within)
                continue
            try:
                os.link(path, here / name)
            except OSError:  # another disk, or a file system without hard links
                if path.is_file():
                    shutil.copyfile(path, here / name)


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
