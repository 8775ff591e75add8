"""All randomness of a training run is derived from (seed, epoch, sample), never from the state of a worker.

Any number of workers, and any resume, therefore sees the same pictures in the same order.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derived(*parts: int | str) -> int:
    """A 63-bit seed from the parts, the same on every machine."""
    digest = hashlib.blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    return np.random.default_rng(derived(*parts))
