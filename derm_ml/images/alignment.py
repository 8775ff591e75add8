"""How much of two grey sketches is the same, once one is laid on the other: the proof that two images are copies.

    score = likeness(a, b, warp)         −1..1; `warp` maps points of `a` roughly to points of `b`

An affine ECC alignment (Evangelidis & Psarakis 2008, doi:10.1109/TPAMI.2008.113) at 64, then at 128 pixels, refines the
warp. Then the details of both are correlated, normalised by local contrast so that a dark lesion on plain skin does not
decide alone. What was drawn over one of them (ink, text, hair, a ruler) is no part of the image: the tiles that
differ most are left out.
"""

from __future__ import annotations

import cv2
import numpy as np

from derm_ml.images.local_features import FRAME

SKETCH = 128  # pixels a side of a sketch: finer detail does not survive JPEG at quality 40 on a 256-pixel image
SMALL = 64
TILES = 8  # by as many
KEPT = 0.8  # of the tiles they share, those that agree best
MIN_OVERLAP = 0.5  # of the smaller image; beyond it, little is left to tell two of a kind apart
FLAT = 1e-3  # variance of details, which is about 1 where there are any
# correlations at 64 pixels, of 1468 changed copies of real images that were found: 0.285 or more as their patches lay
# them, 0.82 or more once aligned; of pairs of different images 80 % lie below the first, 99 % below 0.67
MIN_LAID, MIN_ALIGNED = 0.25, 0.6
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 1e-3)


def likeness(a: np.ndarray, b: np.ndarray, warp: np.ndarray) -> float:
    """Correlation (-1..1) of the details of two aligned sketches (128, 128) uint8; 0 where they share too little.

    `warp` (2, 3) maps points of `a` to points of `b`, pixel centres at whole numbers. The larger part is laid on the
    smaller one, so that a crop is compared whole.
    """
    if np.linalg.det(warp[:, :2]) < 1:
        a, b, warp = b, a, cv2.invertAffineTransform(warp)
    back = cv2.invertAffineTransform(warp)  # OpenCV asks where each point of b comes from
    score, back = _align(_small(a), _small(b), _scaled(back, SMALL / SKETCH))
    if score < MIN_ALIGNED:
        return 0.0
    return _align(a, b, _scaled(back, SKETCH / SMALL))[0]


def _small(sketch: np.ndarray) -> np.ndarray:
    return cv2.resize(sketch, (SMALL, SMALL), interpolation=cv2.INTER_AREA)


def _scaled(warp: np.ndarray, scale: float) -> np.ndarray:
    """The same warp between two sketches of `scale` times the size; pixel centres lie at whole numbers."""
    shift = scale * warp[:, 2] + (scale - 1) / 2 * (1 - warp[:, :2].sum(axis=1))
    return np.c_[warp[:, :2], shift].astype(np.float32)


def _align(a: np.ndarray, b: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray]:
    """The better of the warp `start` (2, 3) and its refinement by ECC: (correlation of details, warp).

    On images with hardly any contrast ECC can walk away from a good start, so the start is measured as well.
    """
    side = len(a)
    details = _details(b.astype(np.float32))
    laid = _overlap(a, b, details, start)
    if laid < MIN_LAID:
        return laid, start
    soft_a, soft_b = (cv2.GaussianBlur(p.astype(np.float32), (0, 0), side / 85) for p in (a, b))
    shown = (a > FRAME).astype(np.uint8)
    try:
        _, refined = cv2.findTransformECC(soft_b, soft_a, start.copy(), cv2.MOTION_AFFINE, _STOP, shown, 1)
    except cv2.error:  # OpenCV's way to say that it did not converge
        return laid, start
    aligned = _overlap(a, b, details, refined)
    return (aligned, refined) if aligned > laid else (laid, start)


def _overlap(a: np.ndarray, b: np.ndarray, details: np.ndarray, warp: np.ndarray) -> float:
    """Correlation (-1..1) of the details of warped `a` with those of `b`, 0 where they share too little."""
    size = a.shape
    moved = cv2.warpAffine(a.astype(np.float32), warp, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
    inside = cv2.warpAffine(np.ones_like(a), warp, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST)
    # the round black frame of a camera is the same in all its images, and must not decide
    within = cv2.warpAffine((a > FRAME).astype(np.uint8), warp, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST)
    inside = np.asarray(inside) * np.asarray(within) * (b > FRAME)
    inside = cv2.erode(inside, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    if inside.mean() < MIN_OVERLAP:
        return 0.0
    return _most_alike(_details(moved), details, inside)


def _most_alike(x: np.ndarray, y: np.ndarray, inside: np.ndarray) -> float:
    """The correlation over the tiles in which it is best, as many as hold `KEPT` of the pixels inside."""
    x, y = (v.astype(np.float64) * inside for v in (x, y))
    tiles = np.stack([_by_tile(v) for v in (inside, x, y, x * x, y * y, x * y)])
    order = np.argsort(-_correlation(tiles), kind="stable")
    kept = 1 + int(np.searchsorted(np.cumsum(tiles[0, order]), KEPT * tiles[0].sum()))
    return float(_correlation(tiles[:, order[:kept]].sum(axis=1)))


def _correlation(sums: np.ndarray) -> np.ndarray:
    """Of n pixels, from the sums of 1, x, y, x², y² and xy; what has hardly any details is like nothing."""
    n = np.maximum(sums[0], 1)
    _, x, y, xx, yy, xy = sums / n
    return (xy - x * y) / np.sqrt((np.maximum(xx - x * x, 0) + FLAT) * (np.maximum(yy - y * y, 0) + FLAT))


def _by_tile(values: np.ndarray) -> np.ndarray:
    step = len(values) // TILES
    return values.astype(np.float64).reshape(TILES, step, TILES, step).sum(axis=(1, 3)).ravel()


def _details(image: np.ndarray) -> np.ndarray:
    """Band-passed, and divided by the local contrast plus 0.3 grey levels, below which there is only noise."""
    side = len(image)
    band = cv2.GaussianBlur(image, (0, 0), side / 85) - cv2.GaussianBlur(image, (0, 0), side / 32)
    return band / (np.sqrt(cv2.GaussianBlur(band * band, (0, 0), side / 21)) + 0.3)
