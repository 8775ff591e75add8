"""Who may ask: tokens, by name, from the environment or a file, and patience with those who guess.

    DERM_TOKEN          one token
    DERM_TOKENS_FILE    one "name token" a line, # for comments; read again when it changes, so that tokens are
                        exchanged without a restart: add the new one, move the clients, remove the old one

Names stand in the log beside each request. Tokens are compared by their digests, all of them each time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import re
import time
from collections import deque
from pathlib import Path

from derm_ml import DermError
from derm_ml.files import file_identity
from derm_ml.places import setting_path

TOKEN, FILE = "DERM_TOKEN", "DERM_TOKENS_FILE"
SHORTEST = 32  # characters: `openssl rand -hex 16` or better cannot be guessed
MINUTE = 60.0
FREE = 5  # wrong tokens a minute from one address that are answered at once
SLOWEST = 4.0  # seconds
HELD = 64  # answers held back at the same time; above that they are refused at once
ADDRESSES = 4096  # that are remembered

_LINE = re.compile(r"([A-Za-z0-9_.-]{1,64})\s+(\S+)")

logger = logging.getLogger("bentoml.serving")


class TokenError(DermError):
    """The tokens cannot be used; the message names the line, never a token."""


class Tokens:
    """The tokens of one service. Raises `TokenError` for one that is too short, or a file that cannot be read."""

    def __init__(self, token: str = "", file: Path | None = None) -> None:
        self._fixed = {"default": _digest(token)} if token else {}
        if token and len(token) < SHORTEST:
            raise TokenError(
                f"{TOKEN} has {len(token)} characters; at least {SHORTEST} are needed: openssl rand -hex 32"
            )
        self._file = file
        self._named: dict[str, bytes] = {}
        self._seen: tuple[int, int] | None = None
        if file is not None:
            self._named = read_tokens(file)
            self._seen = file_identity(file)

    @classmethod
    def from_environment(cls) -> Tokens:
        """What DERM_TOKEN and DERM_TOKENS_FILE say."""
        return cls(os.environ.get(TOKEN, "").strip(), setting_path(FILE))

    def __bool__(self) -> bool:
        """Whether there is any token: without one only this machine is answered."""
        return bool(self._fixed) or self._file is not None

    def name_of(self, token: bytes) -> str:
        """The name of a token, or "" for a wrong one."""
        self._refresh()
        given, found = hashlib.sha256(token).digest(), ""
        for name, digest in {**self._fixed, **self._named}.items():
            if hmac.compare_digest(given, digest):
                found = name
        return found

    def _refresh(self) -> None:
        if self._file is None or (seen := file_identity(self._file)) == self._seen:
            return
        self._seen = seen
        try:
            self._named = read_tokens(self._file)
        except TokenError as error:
            logger.error("the tokens read before stay valid: %s", error)


def read_tokens(path: Path) -> dict[str, bytes]:
    """Name → digest of each token of a file. Raises `TokenError` naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenError(
            f"{path}: the tokens cannot be read ({type(error).__name__}); {FILE} names this file"
        ) from None
    found: dict[str, bytes] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise TokenError(f"{path}, line {number}: expected a name and a token, separated by a space")
        if len(match[2]) < SHORTEST:
            raise TokenError(f"{path}, line {number}: the token has fewer than {SHORTEST} characters")
        if match[1] in found:
            raise TokenError(f"{path}, line {number}: the name is duplicated")
        found[match[1]] = _digest(match[2])
    if not found:
        raise TokenError(f"{path}: holds no token; write one 'name token' a line")
    return found


class Patience:
    """Holds back the answer to a wrong token, longer with each one from the same address; the right one never waits."""

    def __init__(self) -> None:
        self._failures: dict[str, deque[float]] = {}
        self._held = 0

    def delay(self, address: str) -> float:
        """Count a wrong token from `address`; the seconds its answer is to be held back."""
        now = time.monotonic()
        recent = self._failures.pop(address, deque(maxlen=32))
        while recent and now - recent[0] > MINUTE:
            recent.popleft()
        recent.append(now)
        self._failures[address] = recent  # the last in the dictionary: the first is the one to forget
        while len(self._failures) > ADDRESSES:
            del self._failures[next(iter(self._failures))]
        return min(SLOWEST, 0.1 * 2 ** (len(recent) - FREE)) if len(recent) > FREE else 0.0

    async def hold(self, address: str) -> bool:
        """Wait as long as `delay` says; False, at once, if too many are being held already."""
        seconds = self.delay(address)
        if self._held >= HELD:
            return False
        self._held += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._held -= 1
        return True


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
