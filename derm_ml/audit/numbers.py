"""Centre and spread that a few odd values do not move."""

from __future__ import annotations

import numpy as np

CLIP = 8.0  # robust standard deviations: one odd number alone must not decide
_HIGH, _HIGH_SIGMA = 0.85, 1.0364  # of a normal distribution, 85 % lie below 1.0364 standard deviations
_TO_SIGMA = 1.4826  # of a normal distribution: standard deviation / median absolute deviation


def upper_scores(values: np.ndarray) -> np.ndarray:
    """(N,) → (N,): distance from the median in standard deviations of the upper side, 0 where that has none.

    The deviation is taken from the 85 % quantile: distances are skewed, so the whole spread would be too small a
    measure, and up to 15 % of odd values do not move it.
    """
    middle, high = np.quantile(values, (0.5, _HIGH))
    spread = (high - middle) / _HIGH_SIGMA
    return (values - middle) / spread if spread > 0 else np.zeros(len(values))


def standardised(vectors: np.ndarray) -> np.ndarray:
    """(N, D) → (N, D') float32: each column robustly centred and scaled, clipped; constant columns left out."""
    centred = vectors - np.median(vectors, axis=0)
    spread = _TO_SIGMA * np.median(np.abs(centred), axis=0)
    spread = np.where(spread > 1e-9, spread, centred.std(axis=0))  # mostly one value: the border of most photos
    kept = spread > 1e-9
    return np.clip(centred[:, kept] / spread[kept], -CLIP, CLIP).astype(np.float32)
