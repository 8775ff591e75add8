"""Fingerprints of any number of images on disk, in a file without a name that is gone with the process.

prints = StoredPrints(folder)
prints["a"] = fingerprint(rgb)         21 kB on disk, a name and 72 bytes in memory
prints["a"]                            read back; from any thread
prints.keep("b", KeptPrint(key, …))    one that a cache has: it is read there, each time it is asked for
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from derm_ml.images.alignment import SKETCH
from derm_ml.images.fingerprints import Fingerprint
from derm_ml.images.local_features import FEATURES, LocalFeatures

_RECORD = np.dtype(
    [
        ("pixels", "S64"),
        ("sketch", "u1", (SKETCH, SKETCH)),
        ("size", "i4", (2,)),
        ("n", "i4"),
        ("places", "f4", (FEATURES, 4)),
        ("descriptors", "u1", (FEATURES, 128)),
    ]
)


_BYTES = 32  # of a sha256
_ELSEWHERE = -1


@dataclass(frozen=True, slots=True)
class KeptPrint:
    """A fingerprint that a cache has by its `key`, a sha256; `pixels` as of the fingerprint."""

    key: bytes
    pixels: str


def nothing_kept(name: str, kept: KeptPrint) -> Fingerprint:
    """Where there is no cache."""
    raise KeyError(name)


class StoredPrints(MutableMapping[str, Fingerprint]):
    """Name → fingerprint. What is replaced or deleted keeps its place on disk."""

    def __init__(self, folder: Path, read: Callable[[str, KeptPrint], Fingerprint] = nothing_kept) -> None:
        """The file lies on the disk of `folder`. `read` brings what was not stored here, by its name."""
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - as long as this lives
        self._read = read
        self._rows: dict[str, int] = {}  # of what is beside each other below, a row for each name
        self._written = 0
        self._places = array("q")  # in the file, or `_ELSEWHERE`
        self._keys = bytearray()
        self._pixels = bytearray()

    def __setitem__(self, name: str, made: Fingerprint) -> None:
        self._file.write(packed(made))
        self._append(name, self._written, bytes(_BYTES), made.pixels)
        self._written += 1

    def keep(self, name: str, kept: KeptPrint) -> None:
        """One that is read elsewhere."""
        self._append(name, _ELSEWHERE, kept.key, kept.pixels)

    def pixels(self, name: str) -> str:
        """`pixels` of a fingerprint, without reading it."""
        return _of(self._pixels, self._rows[name]).hex()

    def __getitem__(self, name: str) -> Fingerprint:
        row = self._rows[name]
        if self._places[row] == _ELSEWHERE:
            return self._read(name, KeptPrint(_of(self._keys, row), self.pixels(name)))
        return unpacked(os.pread(self._file.fileno(), _RECORD.itemsize, self._places[row] * _RECORD.itemsize))

    def __delitem__(self, name: str) -> None:
        del self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def _append(self, name: str, place: int, key: bytes, pixels: str) -> None:
        self._rows[name] = len(self._places)
        self._places.append(place)
        self._keys += key
        self._pixels += bytes.fromhex(pixels)

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()


def _of(rows: bytearray, row: int) -> bytes:
    return bytes(rows[row * _BYTES : (row + 1) * _BYTES])


def packed(made: Fingerprint) -> bytes:
    """A fingerprint as 21 kB, for `unpacked`."""
    n, record = len(made.features.places), np.zeros(1, _RECORD)
    record["pixels"], record["sketch"], record["n"] = made.pixels.encode(), made.sketch, n
    record["size"] = made.features.width, made.features.height
    record["places"][0, :n], record["descriptors"][0, :n] = made.features.places, made.features.descriptors
    return record.tobytes()


def unpacked(data: bytes) -> Fingerprint:
    """The fingerprint that `packed` gave."""
    record = np.frombuffer(data, _RECORD)[0]
    n, (width, height) = int(record["n"]), record["size"].tolist()
    features = LocalFeatures(record["places"][:n], record["descriptors"][:n], width, height)
    return Fingerprint(record["pixels"].decode(), record["sketch"], features)
