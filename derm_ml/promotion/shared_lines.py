"""A ledger that several machines write: one object a line in the shared place, and a lock that is kept alive.

Nothing is ever overwritten: a line is written under the next number, and of two who write the same number one is
refused by the store itself. The lock keeps a second promotion waiting; it is a numbered note that its holder renews.
Who finds the last note unchanged for a minute, by their own clock, takes the next number: so a machine that died frees
it. A holder that was away for so long is told before it moves or writes anything more.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from derm_ml.promotion.ledger_lines import LedgerError
from derm_ml.shared import SharedPlace, SharedPlaceError

RENEWED = 10.0  # seconds between two renewals of a lock
LOST = 60.0  # seconds after which a lock that is not renewed is taken: six renewals that failed
_LOOK = 0.5  # seconds between two looks at a lock that somebody holds
_FREE = b"free"


class SharedLines:
    """Lines of a shared ledger, by the name of its task."""

    def __init__(self, place: SharedPlace, name: str) -> None:
        self.name = name
        self._place, self._ledger = place, place.below(f"ledger/{name}")
        self._lock: _Lock | None = None

    @property
    def where(self) -> str:
        return self._ledger.address

    @property
    def writable(self) -> bool:
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises `SharedPlaceError` where the place cannot be written, or writes over what is there."""
        self._place.require_written_once()
        self._lock = _Lock(self._ledger)
        try:
            with self._lock.held():
                yield
        finally:
            self._lock = None

    def require_lock(self) -> None:
        if self._lock is not None and not self._lock.is_mine():
            raise LedgerError(
                f"{self.where}: this process did not renew its lock for {LOST:.0f} seconds, and another one may have "
                "taken it: nothing more is written; run the command again"
            )

    def read(self) -> list[str]:
        found = self._ledger.read_all(f"lines/{name}" for name in self._ledger.names("lines"))
        return [line.decode("utf-8", errors="replace") for line in found]

    def add(self, line: str, after: int) -> None:
        self.require_lock()
        if not self._ledger.create(f"lines/{after + 1:08}.json", line.encode()):
            raise LedgerError(f"{self.where}: another process wrote entry {after + 1} meanwhile; run the command again")

    def set_aside(self) -> dict[str, str]:
        names = self._ledger.names("lines")
        if not names:
            return {}
        number = 1 + sum(name.startswith("damaged-") for name in self._ledger.names())
        digest = hashlib.sha256()
        for name in names:
            line = self._ledger.read(f"lines/{name}") or b""
            digest.update(line + b"\n")
            self._ledger.create(f"damaged-{number}/{name}", line)
        for name in reversed(names):
            self._ledger.remove(f"lines/{name}")
        return {"kept": f"damaged-{number}", "sha256": digest.hexdigest()}

    def beside(self, suffix: str) -> SharedLines:
        return SharedLines(self._place, f"{self.name}.{suffix}")


class _Lock:
    """Numbered notes, of which the highest counts: its holder renews it, and says `free` at the end."""

    def __init__(self, ledger: SharedPlace) -> None:
        self._place = ledger.below("lock")
        self._mine, self._renewed = "", 0.0
        self._holder = f"{socket.gethostname()} {secrets.token_hex(8)}"
        self._end = threading.Event()

    @contextmanager
    def held(self) -> Iterator[None]:
        while not self._taken():
            time.sleep(_LOOK)
        renewing = threading.Thread(target=self._renew, name="renew the ledger's lock", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            self._end.set()
            renewing.join()
            if self.is_mine():
                self._place.note(self._mine, _FREE)

    def is_mine(self) -> bool:
        """Whether nobody took it, and it was renewed in time."""
        return time.monotonic() - self._renewed < LOST and self._place.names()[-1:] == [self._mine]

    def _taken(self) -> bool:
        """Wait until the last note is free or abandoned, then try to write the next one."""
        names = self._place.names()
        last = names[-1] if names else ""
        seen, since = self._place.read(last) if last else _FREE, time.monotonic()
        while seen is not None and seen != _FREE and time.monotonic() - since < LOST:
            time.sleep(_LOOK)
            if (now := self._place.read(last)) != seen:
                seen, since = now, time.monotonic()
        number = f"{int(last or 0) + 1:08}"
        began = time.monotonic()
        if not self._place.create(number, self._said()):
            return False
        if self._place.names()[-1] != number:  # others went on while this one was looking
            self._place.remove(number)
            return False
        self._mine, self._renewed = number, began
        for old in names:
            self._place.remove(old)
        return True

    def _renew(self) -> None:
        while not self._end.wait(RENEWED):
            began = time.monotonic()
            try:
                if not self.is_mine():
                    return
                self._place.note(self._mine, self._said())
            except SharedPlaceError:  # for as long as the lock lasts it may be back
                continue
            self._renewed = began

    def _said(self) -> bytes:
        return f"{self._holder} {secrets.token_hex(4)}".encode()
