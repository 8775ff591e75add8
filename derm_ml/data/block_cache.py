"""Parts of remote files in a folder of bounded size, for any number of threads and processes.

    cache = BlockCache(folder, limit=20 * 10**9)
    with cache.alone(name):                            one fetches, whoever else wants the same waits
        cache.keep(name, data)                         what was not read for longest makes room
    cache.read(name, start=100, size=50)               None where it is not there, or cut short

What is read must be compared with a hash by whoever asks: a file on a disk can be damaged in any way.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from derm_ml.machine import writing

_LOCKS = "locks"  # a folder in that of the cache
_SIZE = f"{_LOCKS}/size"  # how many bytes are kept, or more: whoever holds it may add and remove
_LOCK_FILES = 64  # names that share one wait for each other without need, so many more than there are processes
_KEPT = 0.9  # of the limit, where room is made: then the folder is listed only once in a tenth of the limit


@dataclass(frozen=True, slots=True)
class BlockCache:
    """Files of at most `limit` bytes together, at any time."""

    folder: Path
    limit: int

    def read(self, name: str, start: int, size: int) -> bytes | None:
        """A part of a file, which counts as used; None where it is not there whole."""
        try:
            with (self.folder / name).open("rb") as file:
                os.utime(file.fileno())
                file.seek(start)
                data = file.read(size)
        except FileNotFoundError:
            return None
        return data if len(data) == size else None

    def keep(self, name: str, data: bytes) -> None:
        """Keep a file, whole or not at all; one beyond the limit is not kept. Raises `WriteError`."""
        if len(data) > self.limit:
            return
        path, temporary = self.folder / name, self.folder / f".{name}"
        with writing(path), self._locked(self.folder / _SIZE) as file:
            file.seek(0)
            said = file.read()
            held = int(said) if said.isdigit() else self._make_room(self.limit)
            if held + len(data) > self.limit:
                held = self._make_room(int(self.limit * _KEPT) - len(data))
            file.truncate(0)
            file.write(b"%d" % (held + len(data)))  # first: who is killed here leaves a number that is too large
            file.flush()
            temporary.write_bytes(data)
            temporary.replace(path)

    def drop(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._locked(self.folder / _SIZE):
            (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Nobody else is inside with this name. A process that ends leaves it."""
        with self._locked(self.folder / _LOCKS / f"{zlib.crc32(name.encode()) % _LOCK_FILES:02}"):
            yield

    def _make_room(self, limit: int) -> int:
        """Remove the files that were not read for longest until the rest has at most `limit` bytes; how many it has."""
        found = [(entry.stat(), entry.path) for entry in os.scandir(self.folder) if entry.is_file()]
        held = sum(stat.st_size for stat, path in found)
        for stat, path in sorted(found, key=lambda file: file[0].st_mtime_ns):
            if held <= limit:
                break
            Path(path).unlink(missing_ok=True)
            held -= stat.st_size
        return held

    @contextmanager
    def _locked(self, path: Path) -> Iterator[IO[bytes]]:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed; threads wait too
            yield file
