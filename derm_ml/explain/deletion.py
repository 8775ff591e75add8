"""What a classifier says when the cells of a heatmap are covered, hottest first, coldest first and in random order.

Deletion and insertion: Petsiuk et al. 2018, RISE, arXiv:1806.07421. Covering the coldest cells first is insertion read
from its end: what remains is the hottest. A random order read from its end is a random order too, so one serves both.

`within` (S, S) bool is the part of the square that an image is of, where it does not fill it: a round field of view.
Only cells inside it are covered: what is done to the black frame says nothing of the image.
"""

from __future__ import annotations

import cv2
import numpy as np

STEPS = 5  # parts a map is covered in: each costs three questions, and the area under a curve needs no more
FEATHER = 0.02  # of the side: a sharp edge of the cover would be a structure of its own
RING = 0.1  # of the side: what lies at the border of an image of a lesion is skin
_DARK = 30  # of 255: the black frame of a dermatoscope is no skin
HOTTEST, COLDEST, RANDOM = range(3)


def covered_counts(cells: int) -> list[int]:
    """How many cells are covered at each step, from none to all: the same ones for every order."""
    return sorted({round(step * cells / STEPS) for step in range(STEPS + 1)})


def cells_within(within: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The cells of a map (h, w), row by row, of which at least half lies inside; all if those are too few to cover."""
    share = cv2.resize(within.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    inside = np.flatnonzero(share >= 0.5)
    return inside if len(inside) >= STEPS else np.arange(share.size)


def orders(heat: np.ndarray, rng: np.random.Generator, cells: np.ndarray | None = None) -> np.ndarray:
    """(3, n) the n `cells` of a map (h, w), all of them by default, hottest first, coldest first and at random.

    Cells of the same heat follow the random order: a map that is the same everywhere has no order of its own, and its
    three curves are one.
    """
    cells = np.arange(heat.size) if cells is None else cells
    chance = rng.permutation(cells)
    place, flat = np.zeros(heat.size, int), heat.ravel()
    place[chance] = np.arange(len(chance))
    hottest, coldest = (cells[np.lexsort((place[cells], sign * flat[cells]))] for sign in (-1, 1))
    return np.stack([hottest, coldest, chance])


def covered_squares(
    square: np.ndarray, shape: tuple[int, ...], order: np.ndarray, within: np.ndarray | None = None
) -> np.ndarray:
    """The square (S, S, 3) uint8 with more and more of its cells, `shape` of them (h, w), covered in this order.

    (T, S, S, 3) uint8 for the steps between none and all.
    """
    steps = covered_counts(order.size)[1:-1]
    found = np.empty((len(steps), *square.shape), np.uint8)
    for step, count in enumerate(steps):
        found[step] = _covered(square, shape, order[:count], within)
    return found


def all_covered(square: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
    """The square with all cells covered."""
    covered = np.broadcast_to(_plain(square, within), square.shape).round().astype(np.uint8)
    return covered if within is None else np.where(within[..., None], covered, square)


def area_under(curve: np.ndarray) -> float:
    """The area under a curve (T,) at the steps of `covered_counts`, in 0..1 where the curve is."""
    return float(np.trapezoid(curve, np.linspace(0, 1, len(curve))))


def _covered(square: np.ndarray, shape: tuple[int, ...], cells: np.ndarray, within: np.ndarray | None) -> np.ndarray:
    grid = np.zeros(shape, np.float32)
    grid.ravel()[cells] = 1
    side = len(square)
    cover = cv2.resize(grid, (side, side), interpolation=cv2.INTER_NEAREST)
    share = np.maximum(cv2.GaussianBlur(cover, (0, 0), max(0.8, FEATHER * side)), cover)[..., None]
    if within is not None:
        share = share * within[..., None]
    return np.round(square * (1 - share) + _plain(square, within) * share).astype(np.uint8)


def _plain(square: np.ndarray, within: np.ndarray | None) -> np.ndarray:
    """(3,) the median colour at the border, of the square or of the field of view in it, but for a black frame."""
    width = max(1, round(RING * len(square)))
    if within is None:
        border = np.ones(square.shape[:2], bool)
        border[width:-width, width:-width] = False
    else:
        frame = cv2.copyMakeBorder(within.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        border = within & (cv2.distanceTransform(frame, cv2.DIST_L2, 3)[1:-1, 1:-1] <= width)
    pixels = square[border]
    skin = pixels[pixels.min(axis=1) > _DARK]
    return np.median(skin if len(skin) else pixels, axis=0)
