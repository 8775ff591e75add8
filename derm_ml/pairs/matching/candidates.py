"""What speaks for and against two boxes being one lesion, once the photos are registered.

Lengths are in units of the distance between the eyes (or what stands for it), so that they mean the same for every
camera.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from derm_ml.asking.pair import Pair
from derm_ml.images.geometry import outline, overlap
from derm_ml.pairs.registration.registration import Registration
from derm_ml.records import Region

NAMES = ("distance", "offset", "overlap", "size", "appearance", "round_trip")
FARTHEST = 0.35  # units: a third of the distance between the eyes. No expression moves skin farther
PATCH = 24  # pixels a side at which two lesions are compared
SETTLED = 4  # matches that may correct a common offset of the boxes


def centres(regions: Sequence[Region]) -> np.ndarray:
    """(N, 2) middles of boxes."""
    return np.array([[(r.x1 + r.x2) / 2, (r.y1 + r.y2) / 2] for r in regions], float).reshape(-1, 2)


def expected_box(region: Region, registration: Registration, shift: np.ndarray) -> Region:
    """The box a lesion of the first photo would have in the second if it had not changed: around its ellipse."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    half = np.array([region.x2 - region.x1, region.y2 - region.y1]) / 2
    ring = centres([region])[0] + np.column_stack([np.cos(angles), np.sin(angles)]) * half
    moved = registration.forward(ring) + shift
    (x1, y1), (x2, y2) = moved.min(axis=0), moved.max(axis=0)
    return Region(region.label, float(x1), float(y1), float(x2), float(y2), region.id)


def growth(region: Region, expected: Region) -> float:
    """Area of the box over the area it would have unchanged: 1 is the same size, 2 twice the area."""

    def area(r: Region) -> float:
        return max(1e-6, (r.x2 - r.x1) * (r.y2 - r.y1))

    return area(region) / area(expected)


def candidate_table(
    pair: Pair, registration: Registration, shift: np.ndarray, any_label: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """((C, 2) numbers of boxes, (C, 6) features by `NAMES`) of all pairs of one label near each other.

    `shift` (2,) pixels is added to every place in the second photo. distance: of the middles, in units; offset: the
    same in sizes of the box; overlap: of the carried polygon with the box, 0..1; size: |log| of the change of area;
    appearance: correlation of the two lesions, each in its own box; round_trip: forward-backward error, in units.
    """
    first, second = pair.first_regions, pair.second_regions
    if not first or not second:
        return np.zeros((0, 2), int), np.zeros((0, len(NAMES)))
    unit = registration.unit
    there = centres(second)
    back = registration.backward(there - shift)
    start = centres(first)
    ends = registration.forward(start) + shift
    patches = [[_patch(p, r) for r in regions] for p, regions in zip(pair.pictures, pair.regions, strict=True)]
    trips = registration.error(start)
    numbers, rows = [], []
    for i, a in enumerate(first):
        size = np.sqrt((a.x2 - a.x1) * (a.y2 - a.y1))
        polygon = registration.forward(outline(a)) + shift
        expected = expected_box(a, registration, shift)
        stretch = np.sqrt(max(1e-6, (expected.x2 - expected.x1) * (expected.y2 - expected.y1))) / size
        for j, b in enumerate(second):
            # measured in both photos and averaged: neither is the reference
            apart = 0.5 * (np.hypot(*(back[j] - start[i])) + np.hypot(*(ends[i] - there[j])) / stretch)
            if apart > FARTHEST * unit or (not any_label and a.label != b.label):
                continue
            numbers.append((i, j))
            rows.append(
                (
                    apart / unit,
                    min(apart / size, 6.0),
                    overlap(polygon, outline(b)),
                    abs(np.log(growth(b, expected))),
                    _correlation(patches[0][i], patches[1][j], registration.is_mirrored),
                    min(float(trips[i]), 0.5),
                )
            )
    return np.array(numbers, int).reshape(-1, 2), np.array(rows, float).reshape(-1, len(NAMES))


def _patch(picture: np.ndarray, region: Region) -> np.ndarray:
    """A lesion with a margin of skin, (PATCH, PATCH) float32: how much darker and redder than its surroundings."""
    x, y = centres([region])[0]
    side = 1.6 * max(region.x2 - region.x1, region.y2 - region.y1, 4)
    matrix = np.array(
        [[PATCH / side, 0, PATCH / 2 - x * PATCH / side], [0, PATCH / side, PATCH / 2 - y * PATCH / side]]
    )
    small = cv2.warpAffine(picture, matrix, (PATCH, PATCH), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    green = np.log1p(small[..., 1].astype(np.float32))  # blood and pigment are darkest in green
    return cv2.GaussianBlur(green, (0, 0), 1.0)


def _correlation(a: np.ndarray, b: np.ndarray, is_mirrored: bool) -> float:
    """The best correlation over a few pixels of shift, -1..1."""
    b = b[:, ::-1] if is_mirrored else b
    inner = np.ascontiguousarray(a[4:-4, 4:-4])
    if inner.std() < 1e-4 or b.std() < 1e-4:
        return 0.0
    found = cv2.matchTemplate(np.ascontiguousarray(b), inner, cv2.TM_CCOEFF_NORMED)
    return float(np.clip(np.nan_to_num(found.max()), -1, 1))
