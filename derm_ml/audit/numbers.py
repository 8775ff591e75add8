"""Centre and spread that a few odd values do not move."""

from __future__ import annotations

import numpy as np

CLIP = 8.0  # robust standard deviations: one odd number alone must not decide
_TO_SIGMA = 1.4826  # of a normal distribution: standard deviation / median absolute deviation


def robust_scores(values: np.ndarray) -> np.ndarray:
    """(N,) → (N,): distance from the median in robust standard deviations; 0 where half of the values are the same."""
    away = values - np.median(values)
    spread = _TO_SIGMA * np.median(np.abs(away))
    return away / spread if spread > 0 else np.zeros(len(values))


def standardised(vectors: np.ndarray) -> np.ndarray:
    """(N, D) → (N, D') float32: each column robustly centred and scaled, clipped; constant columns left out."""
    centred = vectors - np.median(vectors, axis=0)
    spread = _TO_SIGMA * np.median(np.abs(centred), axis=0)
    spread = np.where(spread > 1e-9, spread, centred.std(axis=0))  # mostly one value: the border of most photos
    kept = spread > 1e-9
    return np.clip(centred[:, kept] / spread[kept], -CLIP, CLIP).astype(np.float32)
