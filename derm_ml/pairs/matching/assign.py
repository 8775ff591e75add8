"""One-to-one assignment with a gate: every lesion has at most one partner, and a poor one is none."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def assign(gain: np.ndarray) -> list[tuple[int, int]]:
    """The pairs (row, column) whose sum of `gain` (N, M) is largest; a gain ≤ 0 or −inf never pairs.

    Optimal, by the Jonker-Volgenant algorithm of SciPy. Sorted by row.
    """
    if not gain.size:
        return []
    worth = np.where(np.isfinite(gain) & (gain > 0), gain, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if worth[i, j] > 0]
