"""The pairs version 2 learns from: one photo as two visits might show it, and where its places are in both.

    load = training_pairs(photos, side=96)
    first, second, there = load(0, seed)      # uint8 (side, side, 3) twice, float32 (P, 2): where PLACES are, -1..1

In this order: mirrored, both or neither → turned, zoomed, sheared, tilted, cut out and squashed to a square, each for
itself, in one resampling with the expression → something in the way → light → blur → noise. Two milliseconds a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from derm_ml.images.geometry import looked_up, project
from derm_ml.training.feeding import LoadSample

REAL = 0.1  # share of the training pairs that are two visits, where there are two: their map is not known
TURN, ZOOM, SHEAR, MOVE = 22.0, 1.2, 0.1, 0.05  # degrees, factor, factor, share of the side: at most
TILT, CUT = 0.06, 0.14  # share of the side: at most, of each corner and of each edge
EXPRESSION = 0.012  # of the side, standard deviation of a grid of 5×5 shifts
_LINE = np.linspace(-0.7, 0.7, 8)
PLACES = np.stack([np.tile(_LINE, 8), np.repeat(_LINE, 8)], axis=1).astype(np.float32)  # of the first picture


def training_pairs(photos: Sequence[Sequence[np.ndarray]], side: int) -> LoadSample:
    """(index, seed) → two pictures (side, side, 3) uint8, and where `PLACES` of the first are in the second (P, 2).

    `photos` holds one photo or two visits, of any size. A place the second does not show is NaN, and of a real pair all
    are: there it is not known.
    """
    return _TrainingPairs(photos, _grid(side))


@dataclass(frozen=True, eq=False)
class _TrainingPairs:
    photos: Sequence[Sequence[np.ndarray]]
    grid: np.ndarray

    def __call__(self, index: int, seed: int) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(seed)
        visits = self.photos[index % len(self.photos)]
        real = len(visits) > 1 and rng.random() < REAL
        one = int(rng.integers(len(visits)))
        mirrored = rng.random() < 0.5
        seen: list[np.ndarray] = []
        shown: list[_Shown] = []
        for photo in (visits[one], visits[1 - one if real else one]):
            turned = np.ascontiguousarray(photo[:, ::-1]) if mirrored else photo
            shown.append(_shown(turned.shape, self.grid, rng))
            seen.append(_taken(shown[-1].of(turned), rng))
        there = np.full_like(PLACES, np.nan) if real else shown[1].places(shown[0].photographed(PLACES))
        there[np.abs(there).max(axis=1) > 1] = np.nan
        return seen[0], seen[1], there


@dataclass(frozen=True, eq=False)
class _Shown:
    """What a picture shows of a photo: `at` (side, side, 2), the photo's pixels, are a homography, `pose` (3, 3) from
    -1..1 to these pixels, and an expression, `shifts` (side, side, 2)."""

    pose: np.ndarray
    shifts: np.ndarray
    at: np.ndarray

    def of(self, photo: np.ndarray) -> np.ndarray:
        """The picture (side, side, 3); black beyond the photo, as exporters and cameras' software fill it."""
        return cv2.remap(photo, self.at[..., 0], self.at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    def photographed(self, places: np.ndarray) -> np.ndarray:
        """Places (P, 2) of the picture, -1..1, → pixels of the photo."""
        return looked_up(self.at, _in_pixels(places, len(self.at)))

    def places(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (P, 2) of the photo → where the picture shows them, -1..1."""
        back = np.linalg.inv(self.pose)
        found = project(back, pixels)
        for _ in range(4):  # contracts fast: an expression is smooth and small
            found = project(back, pixels - looked_up(self.shifts, _in_pixels(found, len(self.at))))
        return found.astype(np.float32)


def _in_pixels(places: np.ndarray, side: int) -> np.ndarray:
    """Places (P, 2) in -1..1 of a picture, outer edge to outer edge, in its pixels."""
    return (np.asarray(places) + 1) * side / 2 - 0.5


def _grid(side: int) -> np.ndarray:
    """The middles of a picture's pixels (side², 3), -1..1, homogeneous."""
    at = ((2 * np.arange(side) + 1) / side - 1).astype(np.float32)
    return np.stack([np.tile(at, side), np.repeat(at, side), np.ones(side * side, np.float32)], axis=1)


def _pose(rng: np.random.Generator) -> np.ndarray:
    """A random homography (3, 3) from a photo to what is shown of it, both -1..1."""
    angle, zoom = np.deg2rad(rng.uniform(-TURN, TURN)), ZOOM ** rng.uniform(-1, 1)
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    shear = np.eye(3)
    shear[[0, 1], [1, 0]] = rng.uniform(-SHEAR, SHEAR, 2)
    turn = np.array([[c, -s, 2 * rng.uniform(-MOVE, MOVE)], [s, c, 2 * rng.uniform(-MOVE, MOVE)], [0, 0, 1]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    moved = corners + 2 * rng.uniform(-TILT, TILT, (4, 2)).astype(np.float32)
    left, top, right, bottom = 2 * rng.uniform(0, CUT, 4)
    low, high = np.array([left - 1, top - 1]), np.array([1 - right, 1 - bottom])
    wide = 2 / (high - low)
    cut = np.array([[wide[0], 0, -1 - wide[0] * low[0]], [0, wide[1], -1 - wide[1] * low[1]], [0, 0, 1]])
    return cut @ cv2.getPerspectiveTransform(corners, moved) @ shear @ turn


def _shown(size: tuple[int, ...], grid: np.ndarray, rng: np.random.Generator) -> _Shown:
    """A random pose and expression for a photo (height, width, …)."""
    height, width = size[:2]
    side = round(len(grid) ** 0.5)
    pixels = np.array([[width / 2, 0, (width - 1) / 2], [0, height / 2, (height - 1) / 2], [0, 0, 1]])
    pose = pixels @ np.linalg.inv(_pose(rng))
    there = grid @ pose.T.astype(np.float32)
    drawn = rng.normal(0, EXPRESSION * min(height, width), (5, 5, 2)).astype(np.float32)
    shifts = cv2.resize(drawn, (side, side), interpolation=cv2.INTER_CUBIC)
    return _Shown(pose, shifts, (there[:, :2] / there[:, 2:]).reshape(side, side, 2) + shifts)


def _taken(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Something in the way, another light, another camera."""
    side = len(picture)
    if rng.random() < 0.2:
        place, size = rng.uniform(0.2, 0.8, 2) * side, rng.uniform(0.04, 0.2, 2) * side
        corners = cv2.boxPoints((tuple(place.tolist()), tuple(size.tolist()), float(rng.uniform(0, 180))))
        cv2.fillPoly(picture, [corners.astype(np.int32)], rng.integers(0, 220, 3).tolist())
    gain = np.exp(rng.normal(0, 0.2)) * np.exp(rng.normal(0, 0.07, 3))
    curve = 255 * np.linspace(0, 1, 256)[:, None] ** np.exp(rng.normal(0, 0.18)) * gain
    lit = cv2.LUT(picture, np.clip(curve, 0, 255).astype(np.uint8)[:, None]).astype(np.float32)
    across, down = rng.normal(0, 0.15, 2)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    lit *= (1 + across * ramp + down * ramp[:, None])[..., None]
    if rng.random() < 0.4:
        lit = cv2.GaussianBlur(lit, (0, 0), float(rng.uniform(0.3, 1.0)))
    lit += rng.standard_normal(lit.shape, np.float32) * np.float32(abs(rng.normal(0, 4)))
    return np.clip(lit, 0, 255).astype(np.uint8)
