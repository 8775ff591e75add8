"""Signed bundles (Ed25519, RFC 8032): a sha256 inside bundle.json is worth as much as whoever wrote bundle.json.

    openssl genpkey -algorithm ed25519 -out signing.pem          the private key, of who trains or approves
    openssl pkey -in signing.pem -pubout >> trusted.pem          the public key, for who promotes and serves

DERM_SIGNING_KEY   path of a private key: every bundle that is trained is signed with it (`derm sign MODEL` signs later)
DERM_TRUSTED_KEYS  path of a file of public keys: promotion, serving and prediction then open no bundle that is not
                   signed by one of them

Signed are the bytes of bundle.json, which names every other file by its sha256.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import TYPE_CHECKING

from derm_ml import DermError
from derm_ml.files import replacing_file
from derm_ml.places import setting_path

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNING_KEY, TRUSTED_KEYS = "DERM_SIGNING_KEY", "DERM_TRUSTED_KEYS"
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


class SigningError(DermError, ValueError):
    """A key cannot be used, or something is not signed by a key that is trusted here."""


def sign(card: Path, signature: Path) -> None:
    """Sign a file with the key `DERM_SIGNING_KEY` names. Raises `SigningError` without a usable one."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = setting_path(SIGNING_KEY)
    if path is None:
        raise SigningError(f"set {SIGNING_KEY} to the path of a private key (`openssl genpkey -algorithm ed25519`)")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:  # TypeError: the key needs a password
        raise SigningError(f"{SIGNING_KEY}={path}: not a readable private key ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningError(f"{SIGNING_KEY}={path}: not an Ed25519 key; `openssl genpkey -algorithm ed25519` makes one")
    with replacing_file(signature) as temporary:
        temporary.write_bytes(base64.b64encode(key.sign(card.read_bytes())) + b"\n")


def sign_where_a_key_is_set(card: Path, signature: Path) -> None:
    """`sign` where `DERM_SIGNING_KEY` is set; without it an older signature, which no longer fits, is removed."""
    if setting_path(SIGNING_KEY):
        sign(card, signature)
    else:
        signature.unlink(missing_ok=True)


def refuse_untrusted(card: Path, signature: Path) -> None:
    """Nothing without `DERM_TRUSTED_KEYS`; with it, raises `SigningError` unless one of its keys signed the file."""
    from cryptography.exceptions import InvalidSignature

    path = setting_path(TRUSTED_KEYS)
    if path is None:
        return
    keys = _trusted(path)
    try:
        found = base64.b64decode(signature.read_bytes())
    except FileNotFoundError:
        raise SigningError(
            f"{card.parent} is not signed, and {TRUSTED_KEYS} is set: sign it with `derm sign`"
        ) from None
    except (OSError, binascii.Error) as error:
        raise SigningError(f"{signature}: not a readable signature ({error})") from error
    signed = card.read_bytes()
    for key in keys:
        try:
            key.verify(found, signed)
        except InvalidSignature:
            continue
        return
    raise SigningError(f"{signature} is not a signature of {card.name} by any of the {len(keys)} keys in {path}")


def _trusted(path: Path) -> list[Ed25519PublicKey]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        keys = [load_pem_public_key(pem) for pem in _PEM.findall(path.read_bytes())]
    except (OSError, ValueError) as error:
        raise SigningError(f"{TRUSTED_KEYS}={path}: no readable public keys ({error})") from error
    found = [key for key in keys if isinstance(key, Ed25519PublicKey)]
    if not found or len(found) < len(keys):
        raise SigningError(f"{TRUSTED_KEYS}={path}: expected Ed25519 public keys in PEM (`openssl pkey -pubout`)")
    return found
