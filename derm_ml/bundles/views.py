"""Test-time augmentation: the views of a square a network is asked with, and how what it says of each is turned back.

for do, undo in VIEWS["flips"]: ...
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from derm_ml.images.settings import Views

Turn = Callable[[np.ndarray], np.ndarray]  # (N, H, W, C) → (N, H, W, C)


def _transposed(x: np.ndarray) -> np.ndarray:
    return x.swapaxes(1, 2)


def _view(flip_rows: bool, flip_columns: bool, transpose: bool) -> tuple[Turn, Turn]:
    """One element of D4 on arrays (N, H, W, C), and its inverse."""
    axes = tuple(axis for axis, flip in ((1, flip_rows), (2, flip_columns)) if flip)

    def do(x: np.ndarray) -> np.ndarray:
        flipped = np.flip(x, axes) if axes else x
        return _transposed(flipped) if transpose else flipped

    def undo(x: np.ndarray) -> np.ndarray:
        back = _transposed(x) if transpose else x
        return np.flip(back, axes) if axes else back

    return do, undo


VIEWS: dict[Views, list[tuple[Turn, Turn]]] = {
    "none": [_view(False, False, False)],
    "flips": [_view(r, c, False) for r in (False, True) for c in (False, True)],
    "d4": [_view(r, c, t) for t in (False, True) for r in (False, True) for c in (False, True)],
}


def mean_map(maps: list[np.ndarray], views: Views) -> np.ndarray:
    """The maps (N, C, h, w) of each view, turned back and averaged: (N, C, h, w) over the square as it is."""
    back = [undo(m.transpose(0, 2, 3, 1)) for m, (_, undo) in zip(maps, VIEWS[views], strict=True)]
    return np.stack(back).mean(axis=0).transpose(0, 3, 1, 2)
