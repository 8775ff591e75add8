"""Where the lines of a ledger lie and who may write: a file, locked by the system. What lines say is ledger.py's.

A ledger that several machines share lies in objects instead: shared_lines.py.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from derm_ml import DermError
from derm_ml.machine import writing


class LedgerError(DermError, RuntimeError):
    """The ledger was changed by something else than the platform, or by another process in between."""


class LedgerLines(Protocol):
    """The lines of one ledger, oldest first."""

    @property
    def where(self) -> str:
        """The place in a sentence."""
        ...

    @property
    def writable(self) -> bool:
        """Whether this process may take the lock."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock; whoever comes second waits. It is free again when its holder is gone."""
        ...

    def require_lock(self) -> None:
        """Raise `LedgerError` where the lock was lost to another machine."""
        ...

    def read(self) -> list[str]:
        """All lines as they lie there, also what a crash tore."""
        ...

    def add(self, line: str, after: int) -> None:
        """Write a line behind those `after` that were read, kept when this returns; nothing is ever overwritten."""
        ...

    def set_aside(self) -> dict[str, str]:
        """Keep the lines under another name and begin empty; what is kept: its name and sha256, nothing where empty."""
        ...

    def beside(self, suffix: str) -> LedgerLines:
        """The lines of another ledger in the same place."""
        ...


class FileLines:
    """Lines of a file of this machine, or of a disk that locks for several."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def writable(self) -> bool:
        return os.access(self.path.parent, os.W_OK)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The system frees the lock when a process dies. Raises `WriteError` where its folder cannot be written."""
        with writing(self.path.parent, making=True):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_suffix(".lock").open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def require_lock(self) -> None:
        """The system takes no lock away."""

    def read(self) -> list[str]:
        if not self.path.exists():
            return []
        return self.path.read_bytes().decode("utf-8", errors="replace").split("\n")

    def add(self, line: str, after: int) -> None:
        with writing(self.path, making=True):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # after a crash in the middle of an earlier line: keep it, but on a line of its own
                os.write(descriptor, (("\n" if _torn(self.path) else "") + line + "\n").encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def set_aside(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        number = 1 + len(list(self.path.parent.glob(f"{self.path.stem}.damaged-*")))
        aside = self.path.with_name(f"{self.path.stem}.damaged-{number}.jsonl")
        kept = {"kept": aside.name, "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest()}
        self.path.rename(aside)
        return kept

    def beside(self, suffix: str) -> FileLines:
        return FileLines(self.path.with_name(f"{self.path.stem}.{suffix}.jsonl"))


def _torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
