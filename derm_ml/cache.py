"""Results that are kept so that nobody computes them twice: bytes by kind and key, in one SQLite file.

    with Cache(path) as cache: …        Cache(None) keeps nothing
    cache.put("photo", key, data)       written with the next sixty or so
    cache.get("photo", key)             the same bytes, or None
    cache.passing.put("image", key, …)  in a file of its own, which `forget_unused` removes: for what is large

A key names everything a result follows from, so a cache changes when something is computed and never what. What is read
is compared with its checksum: a damaged entry is None and goes, a damaged file is begun anew. Several processes may use
one file; one that is killed loses what it put last. A file that cannot be written is one that keeps nothing: what a
cache speeds up works without it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from derm_ml.machine import writing

_WAITING, _BYTES = 64, 32 * 2**20  # entries and bytes that are written at once: what is lost with a process
_LARGEST = 900 * 2**20  # SQLite keeps no blob of 1 GB
_PASSING = "-passing"
_PATIENCE = 60.0  # seconds another process may write
_LIBRARIES = ("numpy", "pillow", "opencv-python-headless", "faiss-cpu", "pydicom", "pillow-heif")
_TABLE = """
CREATE TABLE IF NOT EXISTS kept (kind TEXT, key BLOB, checksum BLOB, data BLOB, PRIMARY KEY (kind, key));
CREATE TEMP TABLE used (kind TEXT, key BLOB, PRIMARY KEY (kind, key)) WITHOUT ROWID;
"""


class Cache:
    """Bytes by kind and key; from any thread."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._passing: Cache | None = None
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, bytes], bytes] = {}
        self._heavy = 0
        self._db: sqlite3.Connection | None = None
        self._usable = path is not None

    @staticmethod
    def remove(path: Path) -> None:
        """Remove the files of a cache. Raises `WriteError` where they cannot be."""
        for passing in ("", _PASSING):
            for end in ("", "-wal", "-shm"):
                with writing(path, making=True):
                    path.with_name(f"{path.name}{passing}{end}").unlink(missing_ok=True)

    @property
    def passing(self) -> Cache:
        """The cache beside this one for what is needed until `forget_unused`, and as large as all else together."""
        with self._lock:  # threads that each made one would lose what the others put
            if self._passing is None:
                self._passing = Cache(self._path and self._path.with_name(f"{self._path.name}{_PASSING}"))
            return self._passing

    def get(self, kind: str, key: bytes) -> bytes | None:
        """What was put, or None. It counts as used."""
        with self._lock:
            if (waiting := self._waiting.get((kind, key))) is not None:
                return waiting
            rows = self._asked("SELECT checksum, data FROM kept WHERE kind = ? AND key = ?", (kind, key))
            if not rows:
                return None
            checksum, data = rows[0]
            if not isinstance(data, bytes) or checksum != _checksum(kind, key, data):
                self._asked("DELETE FROM kept WHERE kind = ? AND key = ?", (kind, key))
                return None
            self._use(kind, key)
            return data

    def put(self, kind: str, key: bytes, data: bytes) -> None:
        """Keep `data`; the same key always comes with the same bytes."""
        with self._lock:
            if not self._usable or len(data) > _LARGEST:
                return
            self._waiting[kind, key] = data
            self._heavy += len(data)
            if len(self._waiting) >= _WAITING or self._heavy >= _BYTES:
                self._write()

    def keep(self, kind: str, key: bytes) -> None:
        """Count it as used without reading it."""
        with self._lock:
            self._use(kind, key)

    def flush(self) -> None:
        """Write what waits."""
        if self._passing is not None:
            self._passing.flush()
        with self._lock:
            self._write()

    def forget_unused(self) -> None:
        """Remove, to the last byte, what this process has not used, and all that was passing."""
        if self._passing is not None:
            self._passing.close()
            self._passing = None
        if self._path is not None:
            with suppress(OSError):
                Cache.remove(self._path.with_name(f"{self._path.name}{_PASSING}"))
        with self._lock:
            self._write()
            self._asked(
                "DELETE FROM kept WHERE NOT EXISTS (SELECT 1 FROM used WHERE used.kind = kept.kind "
                "AND used.key = kept.key)"
            )
            self._asked("PRAGMA wal_checkpoint(TRUNCATE)")  # what was removed is not left in the log beside the file

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits and let go of the file."""
        if self._passing is not None:
            self._passing.close()
        with self._lock:
            self._write()
            if self._db is not None:
                self._db.close()
            self._db, self._usable = None, False

    def _reached(self, making: bool) -> sqlite3.Connection | None:
        """The file, opened when it is first needed: who is refused before has made none."""
        if self._db is None and self._usable and self._path is not None and (making or self._path.exists()):
            self._db = self._opened()
            self._usable = self._db is not None
        return self._db

    def _opened(self, again: bool = True) -> sqlite3.Connection | None:
        if self._path is None:
            return None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._path, timeout=_PATIENCE, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.Error):
            return None
        try:
            # a file that shrinks when entries go, of images that may have been withdrawn: nothing of them stays behind
            db.execute("PRAGMA auto_vacuum = FULL")
            db.execute("PRAGMA secure_delete = ON")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(_TABLE)
            return db
        except sqlite3.OperationalError:  # locked, read-only, no room
            db.close()
            return None
        except sqlite3.DatabaseError:
            db.close()
            return self._begun_anew() if again else None

    def _begun_anew(self) -> sqlite3.Connection | None:
        """The file is damaged: its entries are computed again."""
        assert self._path is not None
        with suppress(OSError):
            Cache.remove(self._path)
        return self._opened(again=False)

    def _asked(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[bytes, bytes]]:
        """The rows of one statement; none where the file does not give them."""
        if (db := self._reached(making=False)) is None:
            return []
        try:
            return db.execute(statement, values).fetchall()
        except sqlite3.OperationalError:
            return []
        except sqlite3.DatabaseError:
            db.close()
            self._db = self._begun_anew()
            return []

    def _use(self, kind: str, key: bytes) -> None:
        self._asked("INSERT OR IGNORE INTO used VALUES (?, ?)", (kind, key))

    def _write(self) -> None:
        waiting, self._waiting, self._heavy = self._waiting, {}, 0
        if not waiting or (db := self._reached(making=True)) is None:
            return
        try:
            db.execute("BEGIN IMMEDIATE")
            for (kind, key), data in waiting.items():
                row = (kind, key, _checksum(kind, key, data), data)
                db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", row)
                db.execute("INSERT OR IGNORE INTO used VALUES (?, ?)", (kind, key))
            db.execute("COMMIT")
        except sqlite3.OperationalError:
            if db.in_transaction:
                db.execute("ROLLBACK")
        except sqlite3.DatabaseError:
            db.close()
            self._db = self._begun_anew()


FORGETFUL = Cache(None)


def code_digest(*modules: str) -> bytes:
    """What a result depends on beside its input: the text of the modules that compute it, and their libraries."""
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):  # some are extras
            digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    for name in modules:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        digest.update(Path(found.origin).read_bytes())
    return digest.digest()


def _checksum(kind: str, key: bytes, data: bytes) -> bytes:
    digest = hashlib.blake2b(kind.encode() + b"\0" + key, digest_size=16)
    digest.update(data)
    return digest.digest()
