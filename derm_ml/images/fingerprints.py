"""Exact and near duplicates among images: copies that were flipped, turned by any angle, cropped, drawn over, resized.

    >>> prints = {name: fingerprint(rgb) for name, rgb in {"a": image, "b": image[:, ::-1]}.items()}
    >>> [(pair.a, pair.b, pair.kind) for pair in find_duplicates(prints)]
    [('a', 'b', 'near')]

Three steps, each dearer a pair than the one before and asked of fewer:

1. **Search** (patch_search.py): images that share patches turned and scaled alike.
2. **Warp** (local_features.py): how one would lie on the other, and how many patches agree.
3. **Proof** (alignment.py): laid on each other, their details must be the same.

Recall by kind of change and false pairs: docs/results.md, by benchmarks/duplicates.py.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from derm_ml.images.alignment import SKETCH, likeness
from derm_ml.images.local_features import FEATURES, LocalFeatures, local_features, warp_between
from derm_ml.images.patch_search import CELL, PatchSearch

# Different lesions score at most 0.69 (12,160 images of ISIC 2017 and HAM10000), different eyes 0.79 (1100 of ODIR-5K),
# synthetic faces of different people 0.82; of planted copies see docs/results.md
THRESHOLD = 0.85
LEAST_PATCHES = 2  # that agree on a warp; an image out of focus has few that are found again
AT_ONCE = 512  # images whose patches are searched together: some 10 MB
SEED = 1234


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`pixels`: sha256 of size and RGB values. `sketch`: (128, 128) uint8 grey, squashed to a square (16 kB)."""

    pixels: str
    sketch: np.ndarray
    features: LocalFeatures


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two ids, a < b. `exact`: the pixels are identical, score 1. `near`: score in THRESHOLD..1 after alignment."""

    a: str
    b: str
    kind: Literal["exact", "near"]
    score: float


def fingerprint(rgb: np.ndarray) -> Fingerprint:
    """The fingerprint of an RGB image (H, W, 3) uint8."""
    digest = hashlib.sha256(repr(rgb.shape).encode())
    digest.update(np.ascontiguousarray(rgb).data)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    interpolation = cv2.INTER_AREA if min(grey.shape) >= SKETCH else cv2.INTER_LINEAR
    sketch = cv2.resize(grey, (SKETCH, SKETCH), interpolation=interpolation)
    return Fingerprint(digest.hexdigest(), sketch, local_features(grey))


def find_duplicates(
    fingerprints: Mapping[str, Fingerprint],
    threshold: float = THRESHOLD,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[DuplicatePair]:
    """All duplicate pairs, sorted by id, whatever the order of `fingerprints`.

    Of several identical images each is paired with the first, and only the first is compared with the rest. Takes 5 kB
    of memory an image beside `fingerprints`, which may lie on disk (`StoredPrints`), and all cores.
    """
    first: dict[str, str] = {}
    pairs: list[DuplicatePair] = []
    for name in sorted(fingerprints):
        original = first.setdefault(fingerprints[name].pixels, name)
        if original != name:
            pairs.append(DuplicatePair(original, name, "exact", 1.0))
    names = sorted(first.values())
    seen: set[int] = set()
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV lets other threads run
        for done, found in candidates(fingerprints, names):
            waiting = []
            for a, b, flipped in zip(*(found[part].tolist() for part in ("a", "b", "mirrored")), strict=True):
                if (key := min(a, b) * len(names) + max(a, b)) not in seen:
                    seen.add(key)
                    waiting.append((names[a], names[b], flipped))
            told = pool.map(lambda w: compare(fingerprints[w[0]], fingerprints[w[1]], w[2]), waiting)
            for (a, b, _), score in zip(waiting, told, strict=True):
                if score >= threshold:
                    pairs.append(DuplicatePair(min(a, b), max(a, b), "near", round(score, 4)))
            progress(done, len(names))
    return sorted(pairs, key=lambda pair: (pair.a, pair.b))


def candidates(fingerprints: Mapping[str, Fingerprint], names: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
    """How many of the images have been asked about, and which pairs of them are worth a look."""
    if len(names) < 2:
        return
    if not len(centres := _centres(fingerprints, names)):
        return
    search = PatchSearch(centres)
    starts = range(0, len(names), AT_ONCE)
    for start in starts:
        search.add([fingerprints[name].features for name in names[start : start + AT_ONCE]])
    for start in starts:
        places = range(start, min(start + AT_ONCE, len(names)))
        yield places.stop, search.candidates(places, [fingerprints[names[k]].features for k in places])


def _centres(fingerprints: Mapping[str, Fingerprint], names: Sequence[str]) -> np.ndarray:
    """One patch for each cell of the search, each of another image, drawn by chance but always the same."""
    rng, drawn = np.random.default_rng(SEED), np.empty((len(names), 128), np.uint8)
    n = 0
    for name in names[:: CELL // FEATURES]:
        if len(descriptors := fingerprints[name].features.descriptors):
            drawn[n] = descriptors[rng.integers(len(descriptors))]
            n += 1
    return drawn[:n]


def compare(a: Fingerprint, b: Fingerprint, mirrored: bool) -> float:
    """How alike the details of two images are (-1..1) once one lies on the other; 0 where no warp lays it there."""
    own = a.features.mirrored() if mirrored else a.features
    warp, patches = warp_between(own, b.features)
    if patches < LEAST_PATCHES:
        return 0.0
    to_b = _sketch_frame(b.features) @ np.vstack([warp, (0, 0, 1)]) @ np.linalg.inv(_sketch_frame(own))
    return likeness(np.ascontiguousarray(a.sketch[:, ::-1]) if mirrored else a.sketch, b.sketch, to_b[:2])


def _sketch_frame(features: LocalFeatures) -> np.ndarray:
    """From the frame of the patches to that of the sketch (3, 3); pixel centres lie at whole numbers."""
    x, y = SKETCH / features.width, SKETCH / features.height
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
