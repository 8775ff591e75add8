"""Fingerprints of any number of images on disk, in a file without a name that is gone with the process.

prints = StoredPrints(folder)
prints["a"] = fingerprint(rgb)         21 kB on disk, a name and a number in memory
prints["a"]                            read back; from any thread
prints.keep("b", KeptPrint(key, …))    one that a cache has: it is read there, each time it is asked for
"""

from __future__ import annotations

import os
import tempfile
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


@dataclass(frozen=True, slots=True)
class KeptPrint:
    """A fingerprint that a cache has by its `key`; `pixels` as of the fingerprint."""

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
        self._places: dict[str, int | KeptPrint] = {}
        self._written = 0
        self.pixels: dict[str, str] = {}  # of every name, without reading anything

    def __setitem__(self, name: str, made: Fingerprint) -> None:
        self._file.write(packed(made))
        self._places[name], self.pixels[name] = self._written, made.pixels
        self._written += 1

    def keep(self, name: str, kept: KeptPrint) -> None:
        """One that is read elsewhere."""
        self._places[name], self.pixels[name] = kept, kept.pixels

    def __getitem__(self, name: str) -> Fingerprint:
        place = self._places[name]
        if isinstance(place, KeptPrint):
            return self._read(name, place)
        return unpacked(os.pread(self._file.fileno(), _RECORD.itemsize, place * _RECORD.itemsize))

    def __delitem__(self, name: str) -> None:
        del self._places[name], self.pixels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()


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
