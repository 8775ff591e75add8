"""The promotion ledger: one line of JSON for every decision, only ever appended to.

ledger = Ledger(Path(".home/ledger/lesion_classification.jsonl"))
with ledger.locked():
    ledger.append({"event": "promoted", "version": 3})
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Ledger:
    """Decisions about the champion of one task, oldest first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the task's promotion lock; a second promotion waits. The system frees it when a process dies."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Write one entry with the time it was written, synced to disk before this returns. Call it `locked()`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry}
        line = json.dumps(written, allow_nan=False) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if _torn(self.path):  # a crash in the middle of an earlier line: keep it, but on a line of its own
                line = "\n" + line
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return written

    def entries(self) -> list[dict[str, Any]]:
        """All whole entries. A line torn by a crash never took effect and is passed over."""
        if not self.path.exists():
            return []
        entries = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return entries


def _torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
