"""Images that are like none of the others: of something else, or of the right thing but broken.

    scores = strangeness(vectors)        (N,) float, in standard deviations of the set's own distances

An image is strange if its distance to its k-th nearest neighbour is large (Ramaswamy et al. 2000). k is a twentieth of
the set, so that a batch of strange images does not vouch for itself.
"""

from __future__ import annotations

import numpy as np

from derm_ml.audit.numbers import standardised, upper_scores

CLUSTER = 0.05  # share of the set below which a group of like images is not taken for a kind of its own
FEWEST, MOST = 3, 25  # neighbours: a rare but real class of a large set has more than 25 images
_BLOCK = 512  # rows compared at once: 512 × 100,000 distances are 400 MB


def strangeness(vectors: np.ndarray) -> np.ndarray:
    """(N, D) → (N,): above 0 farther from its neighbours than half of the images are from theirs. 0 for too few."""
    n = len(vectors)
    k = int(np.clip(round(CLUSTER * n), FEWEST, MOST))
    if n <= 2 * k:
        return np.zeros(n)
    points = standardised(vectors)
    squares = (points**2).sum(axis=1)
    distances = np.empty(n)
    for start in range(0, n, _BLOCK):
        part = points[start : start + _BLOCK]
        gaps = squares[start : start + len(part), None] + squares - 2 * part @ points.T
        distances[start : start + len(part)] = np.partition(gaps, k, axis=1)[:, k]  # its own distance is the 0th
    return upper_scores(0.5 * np.log(distances.clip(1e-12)))
