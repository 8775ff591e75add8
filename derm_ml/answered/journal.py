"""An append-only journal of predictions: a line of JSON for each answer, handed to the system before it is sent.

    journal = Journal(folder / task, days=90)
    journal.append(record)                       raises OSError where it cannot be written; nothing else is harmed

A process that is killed loses nothing that `append` returned from: the line was handed to the system in one write. A
machine that loses power loses what its system had not written out, on Linux about the last 30 seconds. A line that
was torn by a full disk stays on a line of its own, and readers pass over it.

One file a process and day (UTC), `2026-03-01-<8 hex digits>.jsonl`, held by a lock while it is written to.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Lock

import numpy as np

from derm_ml import formats

OPEN, CLOSED = ".jsonl", ".parquet"
SERVED, CHALLENGER = "served", "challenger"  # whose answer it was: that which was sent, or one that nobody saw
DAYS = 90  # records are kept so long unless somebody says otherwise


@dataclass(frozen=True, slots=True)
class Answered:
    """One prediction: what was asked by its hash alone, and what was said by whom.

    `images` holds the sha256 of the bytes of each image that was sent, `scores` the numbers of the answer by name,
    `embedding` (D,) float of the network's last layer, None where the task has none. Age and sex are not recorded.
    A challenger's answer has the `prediction_id` of the one that was sent, and the role `challenger`.
    """

    prediction_id: str
    task: str
    model_version: str
    dataset_md5: str
    bento: str
    images: tuple[str, ...]
    scores: dict[str, float]
    point: str = ""  # the operating point that decided; empty where the task has none
    predicted: str = ""
    embedding: np.ndarray | None = None
    role: str = SERVED
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))

    def line(self) -> bytes:
        """The record as one line of JSON; the embedding as base64 of little-endian float16, a third of its text."""
        plain = {**asdict(self), "images": list(self.images)}
        if self.embedding is not None:
            packed = np.asarray(self.embedding, "<f2").tobytes()
            plain["embedding"] = base64.b64encode(packed).decode("ascii")
        return json.dumps(formats.ANSWERED.stamped(plain), allow_nan=True, separators=(",", ":")).encode() + b"\n"


class Journal:
    """Appends records below `folder`; files older than `days` are removed when a new day begins (0: never)."""

    def __init__(self, folder: Path, days: int = DAYS) -> None:
        self.folder = folder
        self.days = days
        self._lock = Lock()
        self._file = -1
        self._day = ""
        self._torn = False

    def append(self, record: Answered) -> None:
        """Write one record. Raises `OSError` where there is no room or no right; the next record is tried anew."""
        line = record.line()
        with self._lock:
            self._follow_the_day(record.at[:10])
            if self._torn:
                line = b"\n" + line
            written = os.write(self._file, line)
            self._torn = written < len(line)
            if self._torn:
                raise OSError(28, os.strerror(28), str(self.folder))  # ENOSPC: a short write is a full disk

    def close(self) -> None:
        """Let the file be taken for closed; the next record opens another."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file, self._day, self._torn = -1, "", False

    def _follow_the_day(self, day: str) -> None:
        if day == self._day:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{day}-{secrets.token_hex(4)}{OPEN}"
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(opened, fcntl.LOCK_EX)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._day, self._torn = opened, day, False
        remove_old(self.folder, self.days, date.fromisoformat(day))  # never the file of this very record


def remove_old(folder: Path, days: int, today: date | None = None) -> list[Path]:
    """Remove the files of days that lie more than `days` back (0: none), and return them. A file of any other name,
    and one that cannot be removed, is left."""
    if days <= 0:
        return []
    last = ((today or datetime.now(UTC).date()) - timedelta(days=days)).isoformat()
    gone = []
    for path in files_of_records(folder):
        if path.name[:10] < last:
            path.unlink(missing_ok=True)
            gone.append(path)
    return gone


def files_of_records(folder: Path) -> list[Path]:
    """Journals and tables below `folder`, by day."""
    return sorted(
        path for path in folder.glob("????-??-??-????????.*") if path.suffix in (OPEN, CLOSED) and path.is_file()
    )
