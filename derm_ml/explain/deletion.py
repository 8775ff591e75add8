"""What a classifier says when the cells of a heatmap are covered, hottest first, coldest first and in random order.

Deletion and insertion: Petsiuk et al. 2018, RISE, arXiv:1806.07421. Covering the coldest cells first is insertion read
from its end: what remains is the hottest. A random order read from its end is a random order too, so one serves both.
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


def orders(heat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(3, h · w) the cells of a map (h, w) hottest first, coldest first and at random.

    Cells of the same heat follow the random order: a map that is the same everywhere has no order of its own, and its
    three curves are one.
    """
    chance = rng.permutation(heat.size)
    place = np.argsort(chance)
    flat = heat.ravel()
    return np.stack([np.lexsort((place, -flat)), np.lexsort((place, flat)), chance])


def covered_squares(square: np.ndarray, shape: tuple[int, ...], order: np.ndarray) -> np.ndarray:
    """The square (S, S, 3) uint8 with more and more of its cells, `shape` of them (h, w), covered in this order.

    (T, S, S, 3) uint8 for the steps between none and all.
    """
    steps = covered_counts(order.size)[1:-1]
    found = np.empty((len(steps), *square.shape), np.uint8)
    for step, count in enumerate(steps):
        found[step] = _covered(square, shape, order[:count])
    return found


def all_covered(square: np.ndarray) -> np.ndarray:
    """The square with all cells covered."""
    return np.broadcast_to(_skin(square), square.shape).round().astype(np.uint8)


def area_under(curve: np.ndarray) -> float:
    """The area under a curve (T,) at the steps of `covered_counts`, in 0..1 where the curve is."""
    return float(np.trapezoid(curve, np.linspace(0, 1, len(curve))))


def _covered(square: np.ndarray, shape: tuple[int, ...], cells: np.ndarray) -> np.ndarray:
    grid = np.zeros(shape, np.float32)
    grid.ravel()[cells] = 1
    side = len(square)
    cover = cv2.resize(grid, (side, side), interpolation=cv2.INTER_NEAREST)
    share = np.maximum(cv2.GaussianBlur(cover, (0, 0), max(0.8, FEATHER * side)), cover)[..., None]
    return np.round(square * (1 - share) + _skin(square) * share).astype(np.uint8)


def _skin(square: np.ndarray) -> np.ndarray:
    """(3,) the median colour of the border, but for a black frame."""
    width = max(1, round(RING * len(square)))
    border = np.ones(square.shape[:2], bool)
    border[width:-width, width:-width] = False
    pixels = square[border]
    skin = pixels[pixels.min(axis=1) > _DARK]
    return np.median(skin if len(skin) else pixels, axis=0)
