"""The fingerprint of an image, by which copies of it are found, and the comparison of two: do they show the same?

    >>> a, b = fingerprint(image), fingerprint(image[:, ::-1])
    >>> compare(a, b, mirrored=True) > 0.95
    True

Which of many images to compare: derm_ml/images/duplicates.py.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np

from derm_ml.images.alignment import SKETCH, likeness
from derm_ml.images.local_features import LocalFeatures, local_features, warp_between

LEAST_PATCHES = 3  # that agree on a warp: of 1468 copies of real images none had fewer than 4


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`pixels`: sha256 of size and RGB values. `sketch`: (128, 128) uint8 grey, squashed to a square (16 kB)."""

    pixels: str
    sketch: np.ndarray
    features: LocalFeatures


def fingerprint(rgb: np.ndarray) -> Fingerprint:
    """The fingerprint of an RGB image (H, W, 3) uint8."""
    digest = hashlib.sha256(repr(rgb.shape).encode())
    digest.update(np.ascontiguousarray(rgb).data)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    interpolation = cv2.INTER_AREA if min(grey.shape) >= SKETCH else cv2.INTER_LINEAR
    sketch = cv2.resize(grey, (SKETCH, SKETCH), interpolation=interpolation)
    return Fingerprint(digest.hexdigest(), sketch, local_features(grey))


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
