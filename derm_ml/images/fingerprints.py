"""Exact and near duplicates among pictures: copies that were flipped, turned, cropped, resized or recompressed.

    >>> prints = {name: fingerprint(rgb) for name, rgb in {"a": image, "b": image[:, ::-1]}.items()}
    >>> [(pair.a, pair.b, pair.kind) for pair in find_duplicates(prints)]
    [('a', 'b', 'near')]

Three steps, each cheaper per pair than the next:

1. **Search.** A picture's low cosine (DCT) coefficients, weighted so that coarse and fine count alike. Their
   magnitudes do not change when the picture is flipped or turned by 90° (up to swapping u and v), so one
   nearest-neighbour query finds all eight orientations. Each picture is queried whole and with its borders cut
   off by 5 and 10 %, against all whole pictures.
2. **Orientation.** With signs, a flip is a change of sign and a transposition a transposition: the best of eight
   is found by eight scalar products. Of every picture the closest few go on.
3. **Alignment.** An affine ECC alignment (Evangelidis & Psarakis 2008, doi:10.1109/TPAMI.2008.113) at 64, then at
   128 pixels, then the correlation of the details, normalised by local contrast so that a dark lesion on plain
   skin, or the black frame of a dermatoscope, does not decide alone.

Measured on ISIC 2017 (256 px) and HAM10000 (200×150): see `THRESHOLD`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from derm_ml.images.index import VectorIndex

SKETCH = 128  # pixels a side: finer detail does not survive JPEG at quality 40 on a 256-pixel picture
SEARCH = 64  # the search needs coarse detail only
FREQUENCIES = 12  # cosines per axis: fewer crowd true copies out, more suffer from a crop between two tried ones
NEIGHBOURS = 6  # per query; planted copies were never below rank 2 of 12,000
CANDIDATES = 4  # per picture that are aligned
MIN_SEARCH = 0.6  # scalar product below which no planted copy was found
MIN_COARSE = 0.5  # correlation at 64 pixels, likewise

# Measured on 12,145 pictures beside 400 planted copies (turned, cropped by up to 10 % a side, JPEG at quality 40):
# copies of the original size scored 0.83 to 1, those also shrunk to half their size 0.58 to 1 (1 % below 0.78).
# Of pairs with different lesion ids all 27 above 0.78 were looked at and show the same lesion; the highest
# pair of different lesions scored 0.74 (two pictures framed by the same black circle).
THRESHOLD = 0.78

_CROPS = sorted({*itertools.product((0.0, 0.1), repeat=4), *itertools.product((0.0, 0.05), repeat=4)})
_ECC_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 1e-3)
FRAME = 12  # of 255: darker is the black frame around a round field of view
_MIN_OVERLAP = 0.5  # of the picture; a crop of 10 % on every side leaves 0.64
_CANDIDATE = np.dtype([("a", "i4"), ("b", "i4"), ("turn", "i1"), ("crop", "i1"), ("score", "f4")])


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`pixels`: sha256 of size and RGB values. `sketch`: (128, 128) uint8 grey, squashed to a square (16 kB)."""

    pixels: str
    sketch: np.ndarray


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two ids, a < b. `exact`: the pixels are identical, score 1. `near`: score in THRESHOLD..1 after alignment."""

    a: str
    b: str
    kind: Literal["exact", "near"]
    score: float


def fingerprint(rgb: np.ndarray) -> Fingerprint:
    """The fingerprint of an RGB picture (H, W, 3) uint8."""
    digest = hashlib.sha256(repr(rgb.shape).encode())
    digest.update(np.ascontiguousarray(rgb).data)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    interpolation = cv2.INTER_AREA if min(grey.shape) >= SKETCH else cv2.INTER_LINEAR
    return Fingerprint(digest.hexdigest(), cv2.resize(grey, (SKETCH, SKETCH), interpolation=interpolation))


def find_duplicates(fingerprints: Mapping[str, Fingerprint], threshold: float = THRESHOLD) -> list[DuplicatePair]:
    """All duplicate pairs, sorted by id, whatever the order of `fingerprints`.

    Of several identical pictures each is paired with the first, and only the first is compared with the rest.
    Takes about 1.5 minutes for 12,000 pictures on 2 cores, and 20 kB of memory a picture.
    """
    first: dict[str, str] = {}
    pairs: list[DuplicatePair] = []
    for name in sorted(fingerprints):
        original = first.setdefault(fingerprints[name].pixels, name)
        if original != name:
            pairs.append(DuplicatePair(original, name, "exact", 1.0))
    names = sorted(first.values())
    if len(names) > 1:
        sketches = np.stack([fingerprints[name].sketch for name in names])
        small = np.stack([_half(sketch) for sketch in sketches])
        candidates = _search(small)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV lets other threads run
            scores = list(pool.map(lambda c: _compare(sketches[c["a"]], sketches[c["b"]], c), candidates))
        for candidate, score in zip(candidates, scores, strict=True):
            if score >= threshold:
                a, b = sorted((names[candidate["a"]], names[candidate["b"]]))
                pairs.append(DuplicatePair(a, b, "near", round(score, 4)))
    return sorted(pairs, key=lambda pair: (pair.a, pair.b))


# --- search -----------------------------------------------------------------------------------------------------


def _half(sketch: np.ndarray) -> np.ndarray:
    return cv2.resize(sketch, (SEARCH, SEARCH), interpolation=cv2.INTER_AREA)


def _search(sketches: np.ndarray) -> np.ndarray:
    """Candidate pairs of (N, 64, 64) sketches: in `a`, cropped by `crop` and turned back by `turn`, may lie `b`."""
    whole = _cosines(sketches, _CROPS[0])
    index = VectorIndex.build(_invariant(whole))
    turned = [_unit(_turn_cosines(whole, turn)) for turn in range(8)]
    best = np.empty(0, _CANDIDATE)
    neighbours = min(NEIGHBOURS, len(sketches))
    for number, crop in enumerate(_CROPS):
        cosines = _cosines(sketches, crop)
        _, found = index.search(_invariant(cosines), neighbours)
        a = np.repeat(np.arange(len(sketches)), neighbours)
        b = found.ravel()
        a, b = a[(b >= 0) & (b != a)], b[(b >= 0) & (b != a)]
        cropped = _unit(cosines)[a]
        scores = np.stack([np.einsum("ij,ij->i", cropped, view[b]) for view in turned])
        near = np.zeros(len(a), _CANDIDATE)
        near["a"], near["b"], near["crop"] = a, b, number
        near["turn"], near["score"] = scores.argmax(axis=0), scores.max(axis=0)
        best = _closest(np.concatenate([best, near[near["score"] >= MIN_SEARCH]]))
    return best


def _closest(pairs: np.ndarray) -> np.ndarray:
    """The best way to match each two pictures, if it is among the closest few of one of them."""
    low, high = np.minimum(pairs["a"], pairs["b"]), np.maximum(pairs["a"], pairs["b"])
    order = np.lexsort((pairs["turn"], pairs["crop"], pairs["a"], -pairs["score"], high, low))
    pairs, low, high = pairs[order], low[order], high[order]
    new = np.ones(len(pairs), bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    pairs, low, high = pairs[new], low[new], high[new]
    ends, rows = np.concatenate([low, high]), np.tile(np.arange(len(pairs)), 2)
    order = np.lexsort((rows, -pairs["score"][rows], ends))
    ends, rows = ends[order], rows[order]
    rank = np.arange(len(ends)) - np.searchsorted(ends, ends)
    return pairs[np.unique(rows[rank < CANDIDATES])]


def _cosines(sketches: np.ndarray, crop: Sequence[float]) -> np.ndarray:
    """Weighted DCT coefficients (N, 12, 12) float32 of the sketches without the `crop` (top, bottom, left, right)."""
    top, bottom, left, right = crop
    rows, columns = _basis(top, 1 - bottom), _basis(left, 1 - right)
    u = np.arange(FREQUENCIES)
    weight = (u[:, None] ** 2 + u**2) ** 0.5  # amplitudes of natural pictures fall as 1 / frequency; the mean gets 0
    parts = np.array_split(sketches, max(1, len(sketches) // 1000))  # as float32 all at once would need gigabytes
    return np.concatenate([rows @ part.astype(np.float32) @ columns.T for part in parts]) * weight.astype(np.float32)


def _basis(start: float, stop: float) -> np.ndarray:
    """Cosines over the stretch start..stop of a side, integrated over each pixel: (12, 64) float32."""
    edges = np.clip((np.linspace(0, 1, SEARCH + 1) - start) / (stop - start), 0, 1)
    u = np.arange(1, FREQUENCIES)[:, None]
    integral = np.diff(np.sin(np.pi * u * edges)) / (np.pi * u) * np.sqrt(2)
    return np.vstack([np.diff(edges), integral]).astype(np.float32)


def _turn_cosines(cosines: np.ndarray, turn: int) -> np.ndarray:
    """The coefficients of the turned pictures, without their pixels; `_turn_picture` does the same to pixels."""
    sign = np.where(np.arange(FREQUENCIES) % 2, -1, 1).astype(np.float32)  # odd cosines change sign in a mirror
    if turn & 4:
        cosines = cosines.transpose(0, 2, 1)
    if turn & 1:
        cosines = cosines * sign[:, None]
    return cosines * sign if turn & 2 else cosines


def _turn_picture(picture: np.ndarray, turn: int) -> np.ndarray:
    if turn & 4:
        picture = picture.T
    if turn & 1:
        picture = picture[::-1]
    return np.ascontiguousarray(picture[:, ::-1] if turn & 2 else picture)


def _invariant(cosines: np.ndarray) -> np.ndarray:
    """Unit vectors (N, 156) float32 that no flip and no turn by 90° changes: magnitudes, (u, v) and (v, u) sorted."""
    magnitude = np.abs(cosines)
    mirrored = magnitude.transpose(0, 2, 1)
    half = np.triu(np.ones((FREQUENCIES, FREQUENCIES), bool))
    both = [np.maximum(magnitude, mirrored)[:, half], np.minimum(magnitude, mirrored)[:, half]]
    return _unit(np.concatenate(both, axis=1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a blank picture's row stays near 0 and is similar to nothing."""
    flat = vectors.reshape(len(vectors), -1)
    return np.ascontiguousarray(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-3))


# --- alignment --------------------------------------------------------------------------------------------------


def _compare(a: np.ndarray, b: np.ndarray, candidate: np.void) -> float:
    """Correlation (-1..1) of two sketches after alignment; 0 where they cannot be aligned."""
    b = _turn_picture(b, int(candidate["turn"]))
    top, bottom, left, right = _CROPS[candidate["crop"]]
    wide, high = 1 - left - right, 1 - top - bottom
    # maps a point of b to a point of a; pixel centres lie at whole numbers, hence the halves
    start = np.array([[wide, 0, left * SEARCH + (wide - 1) / 2], [0, high, top * SEARCH + (high - 1) / 2]], np.float32)
    score, warp = _align(_half(a), _half(b), start)
    if score < MIN_COARSE:
        return 0.0
    scale = SKETCH / SEARCH
    warp[:, 2] = scale * warp[:, 2] + (scale - 1) / 2 * (1 - warp[:, :2].sum(axis=1))
    return _align(a, b, warp)[0]


def _align(a: np.ndarray, b: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray]:
    """The better of the warp `start` (2, 3) and its refinement by ECC: (correlation of details, warp).

    On pictures with hardly any contrast ECC can walk away from a good start, so the start is measured as well.
    """
    side = len(a)
    soft_a, soft_b = (cv2.GaussianBlur(p.astype(np.float32), (0, 0), side / 85) for p in (a, b))
    warps, everywhere = [start], np.ones_like(a)
    try:
        _, refined = cv2.findTransformECC(soft_b, soft_a, start.copy(), cv2.MOTION_AFFINE, _ECC_STOP, everywhere, 1)
        warps.append(refined)
    except cv2.error:  # OpenCV's way to say that it did not converge
        pass
    details = _details(b.astype(np.float32))
    return max(((_overlap(a, b, details, warp), warp) for warp in warps), key=lambda item: item[0])


def _overlap(a: np.ndarray, b: np.ndarray, details: np.ndarray, warp: np.ndarray) -> float:
    """Correlation (-1..1) of the details of warped `a` with those of `b`, 0 where they share too little."""
    size = a.shape
    moved = cv2.warpAffine(a.astype(np.float32), warp, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
    inside = cv2.warpAffine(np.ones_like(a), warp, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST)
    # the round black frame of a camera is the same in all its pictures, and must not decide
    within = cv2.warpAffine((a > FRAME).astype(np.uint8), warp, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST)
    inside = np.asarray(inside) * np.asarray(within) * (b > FRAME)
    inside = cv2.erode(inside, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    if inside.mean() < _MIN_OVERLAP:
        return 0.0
    x, y = _details(moved)[inside], details[inside]
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-6))


def _details(picture: np.ndarray) -> np.ndarray:
    """Band-passed, and divided by the local contrast plus 0.3 grey levels, below which there is only noise."""
    side = len(picture)
    band = cv2.GaussianBlur(picture, (0, 0), side / 85) - cv2.GaussianBlur(picture, (0, 0), side / 32)
    return band / (np.sqrt(cv2.GaussianBlur(band * band, (0, 0), side / 21)) + 0.3)
