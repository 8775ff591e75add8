"""SIFT features of a picture, matched, and the homography most of them agree on.

Sources: SIFT, Lowe 2004 (IJCV 60); RootSIFT, Arandjelović & Zisserman 2012; MAGSAC++, Baráth et al. 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from derm_ml.images.geometry import project

FEATURES = 3000  # of the strongest; skin has thousands of weak ones
CONTRAST = 0.012  # skin is flat: OpenCV's 0.04 leaves a cheek empty
RATIO = 0.82  # Lowe's test; a little above his 0.8, MAGSAC takes the rest out
FEWEST = 6  # matches a homography is looked for in: it has four degrees of freedom in pairs


@dataclass(frozen=True, slots=True)
class Features:
    """Points (N, 2) in pixels and their RootSIFT descriptors (N, 128) float32 of length one."""

    points: np.ndarray
    descriptors: np.ndarray


def find_features(grey: np.ndarray, mask: np.ndarray | None = None) -> Features:
    """SIFT of a grey picture (H, W) uint8, where `mask` (H, W) uint8 is not 0."""
    sift = cv2.SIFT_create(FEATURES, contrastThreshold=CONTRAST)
    points, descriptors = sift.detectAndCompute(grey, mask)
    if descriptors is None:
        return Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    return Features(np.array([p.pt for p in points], float), root(descriptors))


def root(descriptors: np.ndarray) -> np.ndarray:
    """SIFT (N, 128) → RootSIFT: the square root of the L1-normalised histogram, of length one."""
    return np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)


def flipped(features: Features, width: int) -> Features:
    """Features of a mirrored picture at their places in the picture itself."""
    return Features(features.points * (-1, 1) + (width - 1, 0), features.descriptors)


def match_features(a: Features, b: Features) -> np.ndarray:
    """(M, 2) int: mutual nearest neighbours that pass the ratio test in one direction."""
    if min(len(a.points), len(b.points)) < 2:
        return np.zeros((0, 2), int)
    alike = a.descriptors @ b.descriptors.T
    best = alike.argmax(axis=1)
    first = alike[np.arange(len(best)), best]
    alike[np.arange(len(best)), best] = -1
    second = alike.max(axis=1)
    alike[np.arange(len(best)), best] = first
    mutual = alike.argmax(axis=0)[best] == np.arange(len(best))
    distances = np.sqrt(np.maximum(0, 2 - 2 * np.array([first, second])))
    keep = mutual & (distances[0] < RATIO * distances[1])
    return np.column_stack([np.flatnonzero(keep), best[keep]])


def agreed_homography(source: np.ndarray, target: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray] | None:
    """The homography (3, 3) most of the matches (M, 2) → (M, 2) agree on to `tolerance` pixels, and which (M,) bool.

    MAGSAC's homography, RANSAC's and RANSAC's affine map are tried, for each has scenes it fails on; the one with most
    agreeing matches wins, the affine map unless another has 5 % more. None where nothing sensible is found.
    """
    if len(source) < FEWEST:
        return None
    a, b = source.astype(np.float32), target.astype(np.float32)
    affine = cv2.estimateAffine2D(a, b, method=cv2.RANSAC, ransacReprojThreshold=tolerance, maxIters=5000)[0]
    found = [] if affine is None else [np.vstack([affine, [0, 0, 1]])]
    if len(source) >= 4 * FEWEST:
        found += [cv2.findHomography(a, b, how, tolerance, maxIters=5000)[0] for how in (cv2.USAC_MAGSAC, cv2.RANSAC)]
    best, agreeing = None, np.zeros(len(source), bool)
    for matrix in found:
        if matrix is None or not np.isfinite(matrix).all():
            continue
        inside = np.hypot(*(project(matrix, source) - target).T) < tolerance
        if inside.sum() > 1.05 * agreeing.sum() and _sensible(matrix, a[inside]):
            best, agreeing = matrix, inside
    return None if best is None else (best, agreeing)


def _sensible(matrix: np.ndarray, points: np.ndarray) -> bool:
    """Whether a homography keeps its sign and enlarges by a factor between ¼ and 4 at the points it was made from."""
    if len(points) < FEWEST or not np.isfinite(matrix).all():
        return False
    x, y = points.mean(axis=0)
    depth = points @ matrix[2, :2] + matrix[2, 2]
    enlarged = np.linalg.det(matrix) / (matrix[2] @ (x, y, 1)) ** 3
    return bool((depth > 0).all() or (depth < 0).all()) and 1 / 16 < abs(enlarged) < 16


def dense(grey: np.ndarray, places: np.ndarray, size: float = 16.0) -> np.ndarray:
    """RootSIFT (N, 128) at given places (N, 2), upright, over `size` pixels."""
    height, width = grey.shape
    kept = np.clip(places, 0, (width - 1, height - 1))  # SIFT leaves points outside out, and all rows would shift
    points = [cv2.KeyPoint(float(x), float(y), size) for x, y in kept]
    found, descriptors = cv2.SIFT_create().compute(grey, points)
    assert len(found) == len(points)
    return root(descriptors)
