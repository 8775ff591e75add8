"""Is the skin around a place to be seen in the other photo, or does hair or a plaster cover it?

The light of the two photos is evened out by one gain, one gamma and one slope a colour channel; what is left over
around a place, in the ring of skin beside the lesion, tells whether it is the same skin.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from derm_ml.pairs.faces.face import Face
from derm_ml.pairs.registration.registration import Registration
from derm_ml.records import Region

NAMES = ("ring", "ring_share", "lesion", "round_trip")
SIDE = 320  # the comparison is of areas, not of details
DIFFERENT = 0.25  # of the logarithm: a quarter brighter or darker after the light is evened out


class PhotoDifference:
    """What differs between a photo and the other as seen from there, beyond the light."""

    def __init__(self, first: np.ndarray, second: np.ndarray, registration: Registration) -> None:
        scale = SIDE / max(first.shape[:2])
        size = (max(8, round(first.shape[1] * scale)), max(8, round(first.shape[0] * scale)))
        seen = registration.second_in_first(second)
        there = registration.second_in_first(np.full(second.shape[:2], 255, np.uint8)) > 200
        small = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (first, seen)]
        inside = cv2.resize(there.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        self.scale = scale
        self.inside = inside
        self.difference = _beyond_light(small[0], small[1], inside, _head(registration.faces[0], scale, size))
        self.registration = registration

    def features(self, regions: Sequence[Region]) -> np.ndarray:
        """(N, 4) by `NAMES`, of boxes in the first photo: median of the ring and of the lesion, the share of the ring
        that differs, and the forward-backward error in units.
        """
        rows = []
        for region in regions:
            x, y = (region.x1 + region.x2) / 2 * self.scale, (region.y1 + region.y2) / 2 * self.scale
            half = max(2.0, max(region.x2 - region.x1, region.y2 - region.y1) / 2 * self.scale)
            near = _window(self.difference, self.inside, x, y, 1.9 * half, 1.1 * half)
            at = _window(self.difference, self.inside, x, y, half, 0)
            error = float(self.registration.error(np.array([[x, y]]) / self.scale)[0])
            rows.append((np.median(near), (near > DIFFERENT).mean(), np.median(at), min(error, 0.5)))
        return np.array(rows, float).reshape(-1, len(NAMES))


def _beyond_light(a: np.ndarray, b: np.ndarray, inside: np.ndarray, head: np.ndarray) -> np.ndarray:
    """(h, w) float32: the largest difference of any channel's logarithm once light is evened out. 0 where unknown."""
    height, width = inside.shape
    rows, columns = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    logs = [np.log(cv2.GaussianBlur(p, (0, 0), 1.0).astype(np.float32) + 8) for p in (a, b)]
    base = inside & head if (inside & head).sum() > 500 else inside
    worst = np.zeros((height, width), np.float32)
    for channel in range(3):
        x = np.stack([logs[0][..., channel], rows, columns, np.ones_like(rows)], axis=-1)
        y = logs[1][..., channel]
        keep = base.copy()
        residual = np.zeros_like(y)
        for _ in range(4):  # least trimmed squares: what covers the skin must not set the light
            if keep.sum() < 50:
                break
            weights = np.linalg.lstsq(x[keep], y[keep], rcond=None)[0]
            residual = np.abs(y - x @ weights)
            keep = base & (residual <= np.quantile(residual[base], 0.75))
        worst = np.maximum(worst, residual)
    return np.where(inside, worst, 0).astype(np.float32)


def _head(face: Face | None, scale: float, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size[::-1], np.uint8)
    if face:
        x1, y1, x2, y2 = (scale * v for v in face.box)
        middle = (round((x1 + x2) / 2), round((y1 + y2) / 2))
        cv2.ellipse(mask, middle, (max(1, round(0.6 * (x2 - x1))), max(1, round(0.6 * (y2 - y1)))), 0, 0, 360, 1, -1)
    return mask > 0


def _window(values: np.ndarray, inside: np.ndarray, x: float, y: float, outer: float, inner: float) -> np.ndarray:
    """Values between two distances of (x, y) where both photos have pixels; [0] where there are none."""
    height, width = values.shape
    reach = int(np.ceil(outer))
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    bottom, right = min(height, int(y) + reach + 1), min(width, int(x) + reach + 1)
    if bottom <= top or right <= left:
        return np.zeros(1)
    rows, columns = np.mgrid[top:bottom, left:right]
    away = np.maximum(np.abs(rows - y), np.abs(columns - x))
    keep = (away <= outer) & (away >= inner) & inside[top:bottom, left:right]
    found = values[top:bottom, left:right][keep]
    return found if found.size else np.zeros(1)
