"""Neutral ids: what stands for a patient, a lesion or an image in everything that leaves this machine.

    ids = installation_ids()
    ids.of("patient", "17")     # '5f0c…', 32 hex digits

A plain hash of a patient number is found by hashing all numbers. These are keyed: HMAC-SHA256 (RFC 2104) with a
secret of the installation, so only who has the secret can tell whom an id means, or make the same id again.
Installations that compare each other's models share one secret by setting `DERM_SECRET`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from derm_ml import DermError
from derm_ml.places import folder

DIGITS = 32  # hex digits of an id: 128 bits, so that two of 10⁸ images never share one
SHORTEST = 32  # characters of a secret
_FILE = "secret"


class SecretError(DermError, RuntimeError):
    """The installation's secret is too short or cannot be read."""


@dataclass(frozen=True, slots=True)
class NeutralIds:
    """Ids under one secret. `key_id` (8 hex digits) names the secret without telling it: ids compare only within it."""

    key: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        return hmac.digest(self.key, b"key id", hashlib.sha256).hex()[:8]

    def of(self, kind: str, value: str) -> str:
        """The id of a value of one kind: the same number as a patient and as a lesion has two ids."""
        return hmac.digest(self.key, f"{kind}\0{value}".encode(), hashlib.sha256).hex()[:DIGITS]


def installation_ids(home: Path | None = None) -> NeutralIds:
    """The ids of this installation: keyed with `DERM_SECRET`, else with `<home>/secret`, which is made on first use.

    Raises `SecretError` for a secret of fewer than 32 characters.
    """
    chosen, source = os.environ.get("DERM_SECRET", ""), "DERM_SECRET"
    if not chosen:
        path = (home or folder("home")) / _FILE
        chosen, source = _kept(path), str(path)
    if len(chosen) < SHORTEST:
        raise SecretError(
            f"{source}: a secret needs at least {SHORTEST} characters, this one has {len(chosen)}; "
            "`openssl rand -hex 32` makes one"
        )
    return NeutralIds(chosen.encode())


def known_ids(home: Path | None = None) -> NeutralIds | None:
    """The same where the secret is there already, else None: a service that runs elsewhere makes none of its own.

    Raises `SecretError` as `installation_ids` does.
    """
    there = os.environ.get("DERM_SECRET") or ((home or folder("home")) / _FILE).exists()
    return installation_ids(home) if there else None


def _kept(path: Path) -> str:
    """The secret in `path`, readable by its owner alone. Of two processes that make it at once, one wins."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{_FILE}.")  # mode 0600
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(name)
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"{path}: the installation's secret cannot be read ({error})") from error
