"""Small patches an image is known again by, however it was turned, cropped or drawn over, and the warp between two.

    features = local_features(grey)
    warp, patches = warp_between(features, others)          how many patches agree on it; 0 where none do

SIFT (Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94) with the square root of its histograms (Arandjelović &
Zisserman 2012, doi:10.1109/CVPR.2012.6248018). The patches are spread over the image, so that ink, text or a ruler
takes the place of few of them, and lie on the image itself, never on the black frame around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 112  # pixels a side of a square of the same area: finer detail does not survive JPEG and a smaller copy
FEATURES = 32  # of an image; 64 find no more copies and take twice the memory
GRID = 4  # by as many columns and rows: each gives its two best before any gives its third
FRAME = 12  # of 255: darker is the black frame around a round field of view
CONTRAST = 0.002  # a twentieth of SIFT's usual: skin is smooth, and the strongest are kept anyway
UNIT = 512  # one, in the whole numbers a descriptor is stored in

_ALIKE = 0.75  # cosine of two patches below which they are not looked at: copies' patches mostly lie above 0.85
_LOOSE, _TIGHT = 11.0, 4.0  # pixels a patch may lie from where the warp of one patch, and of all that agree, puts it
_TURN, _SCALE = 30.0, 0.7  # degrees and octaves, likewise
_MOST_SKEWED = 2.0  # ratio of the two scales of a warp: an image squashed from 16 : 9 to a square has 1.78
_MIRRORED = [0, 7, 6, 5, 4, 3, 2, 1]  # the eight directions of a histogram, seen in a mirror
_SIFT = cv2.SIFT_create(contrastThreshold=CONTRAST, edgeThreshold=15)


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """`places` (n, 4) float32: x, y, diameter in pixels and direction in degrees, on a frame of `width` × `height`.

    `descriptors` (n, 128) uint8 of length about `UNIT`; n is at most `FEATURES`, and 0 for a blank image.
    """

    places: np.ndarray
    descriptors: np.ndarray
    width: int
    height: int

    def mirrored(self) -> LocalFeatures:
        """Those of the image flipped left to right."""
        places = self.places.copy()
        places[:, 0] = self.width - 1 - places[:, 0]
        places[:, 3] = (180 - places[:, 3]) % 360
        return LocalFeatures(places, flipped_descriptors(self.descriptors), self.width, self.height)


def local_features(grey: np.ndarray) -> LocalFeatures:
    """The features of a grey image (H, W) uint8."""
    scale = SIDE / (grey.shape[0] * grey.shape[1]) ** 0.5
    width, height = (max(16, round(side * scale)) for side in grey.shape[1::-1])
    grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    inside = cv2.erode(
        (grey > FRAME).astype(np.uint8), np.ones((9, 9), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1
    )
    found = _SIFT.detect(grey, inside)
    chosen, raw = _SIFT.compute(grey, [found[k] for k in _spread(found, width, height)]) if found else ((), None)
    if raw is None or not len(chosen):
        return LocalFeatures(np.empty((0, 4), np.float32), np.empty((0, 128), np.uint8), width, height)
    share = raw / (raw.sum(axis=1, keepdims=True) + 1e-6)
    places = np.array([(*point.pt, point.size, point.angle) for point in chosen], np.float32)
    return LocalFeatures(places, np.minimum(np.sqrt(share) * UNIT, 255).astype(np.uint8), width, height)


def flipped_descriptors(descriptors: np.ndarray) -> np.ndarray:
    """The descriptors (n, 128) of the same patches seen in a mirror."""
    return descriptors.reshape(-1, 4, 4, 8)[:, ::-1, :, _MIRRORED].reshape(-1, 128)


def warp_between(a: LocalFeatures, b: LocalFeatures) -> tuple[np.ndarray, int]:
    """The affine warp (2, 3) from points of `a` to points of `b` on which most patches agree, and how many do.

    Every patch of `a` that resembles one of `b` proposes a turn, a scale and a shift; the proposal most others agree
    with is fitted to them. 0 where none do.
    """
    nothing = np.eye(2, 3), 0
    if not len(a.places) or not len(b.places):
        return nothing
    alike = a.descriptors.astype(np.float32) @ b.descriptors.T.astype(np.float32) / UNIT**2
    best = np.argsort(-alike, axis=1)[:, :2]  # the second, for patterns that repeat
    rows = np.repeat(np.arange(len(best)), best.shape[1])
    near = alike[rows, best.ravel()] > _ALIKE
    i, j = rows[near], best.ravel()[near]
    if not len(i):
        return nothing
    p, q = a.places[i], b.places[j]
    turn = np.deg2rad(q[:, 3] - p[:, 3])
    scale = q[:, 2] / p[:, 2]
    factor = scale * np.exp(1j * turn)  # a point of the plane as a complex number: turning and scaling multiply
    start, end = p[:, 0] + 1j * p[:, 1], q[:, 0] + 1j * q[:, 1]
    off = np.abs(factor[:, None] * (start - start[:, None]) + end[:, None] - end)
    apart = np.abs((np.rad2deg(turn[:, None] - turn) + 180) % 360 - 180)
    agree = (off < _LOOSE) & (apart < _TURN) & (np.abs(np.log2(scale[:, None] / scale)) < _SCALE)
    chosen = agree[(agree * alike[i, j]).sum(axis=1).argmax()]
    warp = _similarity(start[chosen], end[chosen], factor[chosen])
    for _ in range(2):
        left = np.hypot(*(warp @ np.c_[p[:, :2], np.ones(len(p))].T - q[:, :2].T))
        good = agree[chosen].any(axis=0) & (left < (_TIGHT if len(set(i[chosen])) >= 6 else _LOOSE))
        if len(set(i[good])) < 2:
            break
        chosen = good
        warp = _fitted(p[chosen, :2], q[chosen, :2], _similarity(start[chosen], end[chosen], factor[chosen]))
    return warp, len(set(i[chosen]))


def _spread(found: tuple[cv2.KeyPoint, ...], width: int, height: int) -> np.ndarray:
    """Which of the key points are kept: strong and large ones, from everywhere."""
    strength = np.array([point.response * point.size**2 for point in found])
    x, y = np.array([point.pt for point in found]).T
    cell = (y * GRID // height).astype(int) * GRID + (x * GRID // width).astype(int)
    order = np.lexsort((x, y, -strength))
    ranks, seen = np.empty(len(found), int), np.zeros(GRID * GRID, int)
    for k in order:
        ranks[k] = seen[cell[k]]
        seen[cell[k]] += 1
    return order[np.argsort(ranks[order] // 2, kind="stable")][:FEATURES]


def _similarity(start: np.ndarray, end: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Turn, scale and shift (2, 3) by least squares; of a single patch, its own."""
    a, b = start - start.mean(), end - end.mean()
    size = float((np.abs(a) ** 2).sum())
    factor = (a.conj() @ b) / size if size > 1 else factors.mean()
    shift = end.mean() - factor * start.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _fitted(start: np.ndarray, end: np.ndarray, similar: np.ndarray) -> np.ndarray:
    """The affine warp by least squares where the points are enough and spread enough for one, else `similar`."""
    if len(start) < 6:
        return similar
    known = np.c_[start, np.ones(len(start))]
    warp = np.linalg.lstsq(known, end, rcond=None)[0].T
    large, small = np.linalg.svd(warp[:, :2], compute_uv=False)
    return warp if small > 0 and large / small < _MOST_SKEWED and np.linalg.det(warp[:, :2]) > 0 else similar
