"""Points, polygons and boxes under a map from one picture to another.

Source of the similarity: Umeyama, IEEE TPAMI 13 (1991). Polygons are convex: a box stays convex under every map here
that does not fold the picture.
"""

from __future__ import annotations

import cv2
import numpy as np

from derm_ml.records import Region


def project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 2) under a homography (3, 3)."""
    moved = np.asarray(points, float).reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2]
    return moved[:, :2] / np.where(np.abs(moved[:, 2:]) < 1e-12, 1e-12, moved[:, 2:])


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares similarity (3, 3) without reflection that takes points (N ≥ 2, 2) to points (N, 2).

    Raises `ValueError` if the source points are one point.
    """
    a, b = np.asarray(source, float), np.asarray(target, float)
    from_, to = a.mean(axis=0), b.mean(axis=0)
    spread = float(((a - from_) ** 2).sum())
    if spread <= 0:
        raise ValueError("all points are one point: they do not fix a similarity")
    u, s, vt = np.linalg.svd((b - to).T @ (a - from_))
    sign = np.array([1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    turn = u @ np.diag(sign) @ vt * float((s * sign).sum() / spread)
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, to - turn @ from_
    return matrix


def scaling(across: float, down: float) -> np.ndarray:
    """The homography (3, 3) from a picture's pixels to those of the picture resized by these factors.

    (0, 0) is the centre of the first pixel, and it is the edges that a resize keeps: x becomes (x + ½) · s − ½.
    """
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1.0]])


def resized(before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray:
    """`scaling` between the pictures of two shapes (height, width, …)."""
    return scaling(after[1] / before[1], after[0] / before[0])


def flip(width: int) -> np.ndarray:
    """The homography (3, 3) that mirrors a picture of that width left to right."""
    return np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])


def scale_of(matrix: np.ndarray, point: np.ndarray) -> float:
    """By what factor the homography enlarges lengths at a point (2,): the square root of its Jacobian there."""
    x, y = point
    u, v, w = matrix @ (x, y, 1.0)
    jacobian = (matrix[:2, :2] * w - np.outer((u, v), matrix[2, :2])) / w**2
    return float(np.sqrt(abs(np.linalg.det(jacobian))))


def outline(region: Region, each: int = 4) -> np.ndarray:
    """The edge of a box as a polygon (4 · each, 2), clockwise in the picture, so that it can bend."""
    along = np.arange(each) / each
    x1, y1, x2, y2 = region.box
    return np.concatenate(
        [
            np.column_stack([x1 + along * (x2 - x1), np.full(each, y1)]),
            np.column_stack([np.full(each, x2), y1 + along * (y2 - y1)]),
            np.column_stack([x2 - along * (x2 - x1), np.full(each, y2)]),
            np.column_stack([np.full(each, x1), y2 - along * (y2 - y1)]),
        ]
    )


def area(polygon: np.ndarray) -> float:
    """Area of a simple polygon (N, 2), whichever way round."""
    x, y = polygon[:, 0], polygon[:, 1]
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two convex polygons (N, 2), (M, 2), in 0..1."""
    hulls = [cv2.convexHull(p.astype(np.float32)) for p in (a, b)]
    areas = [float(cv2.contourArea(h)) for h in hulls]
    if min(areas) <= 0:
        return 0.0
    common = float(cv2.intersectConvexConvex(hulls[0], hulls[1])[0])
    return float(np.clip(common / (sum(areas) - common), 0, 1))


def share_inside(polygon: np.ndarray, width: int, height: int) -> float:
    """The share of a convex polygon's area that lies in a picture of that size, 0..1."""
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    hull = cv2.convexHull(polygon.astype(np.float32))
    whole = float(cv2.contourArea(hull))
    return 0.0 if whole <= 0 else float(np.clip(cv2.intersectConvexConvex(hull, frame)[0] / whole, 0, 1))


def looked_up(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`field` (h, w, C) float32 at points (N, 2) in pixels, between them linear, the edge beyond the edge: (N, C)."""
    at = np.asarray(points, np.float32).reshape(1, -1, 2)
    if not at.size:  # OpenCV refuses to look up nothing
        return np.zeros((0, field.shape[2]))
    found = [  # and takes at most 32,767 points in a row
        cv2.remap(field, part[..., 0], part[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for part in np.array_split(at, max(1, -(-at.shape[1] // 30_000)), axis=1)
    ]
    return np.concatenate(found, axis=1).reshape(at.shape[1], -1)
