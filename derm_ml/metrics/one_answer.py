"""What is computed for a single answer, with numpy alone: a service has neither pandas nor SciPy.

Where the numbers come from: prevalence.py, screening.py and conformal.py beside it.

Example:
    >>> round(float(at_prevalence(np.array([0.5]), 0.5, 0.02)[0]), 3)   # one of two there, of fifty here
    0.02
    >>> round(precision_at(0.999, 0.588, 0.018), 3)   # a recall of 99.9 % bought with a specificity of 58.8 %
    0.043
"""

from __future__ import annotations

import numpy as np


def at_prevalence(probabilities: np.ndarray, trained: float | np.ndarray, here: float | np.ndarray) -> np.ndarray:
    """Probabilities that are calibrated at the prevalence `trained`, as they are at the prevalence `here`.

    Of one label (N,) with two numbers in (0, 1); of L classes that exclude each other (N, L) with two arrays (L,) that
    sum to 1. Raises `ValueError` for a prevalence of 0 or 1: no answer could say otherwise.
    """
    p = np.asarray(probabilities, np.float64)
    before, now = (np.asarray(share, np.float64) for share in (trained, here))
    for share in (before, now):
        if not ((share > 0) & (share < 1)).all():
            raise ValueError(f"a prevalence lies between 0 and 1, got {share.tolist()}")
    if p.ndim == 1:
        ill, well = p * now / before, (1 - p) * (1 - now) / (1 - before)
        return ill / (ill + well)
    weighed = p * now / before
    return weighed / weighed.sum(axis=1, keepdims=True)


def precision_at(recall: float, specificity: float, prevalence: float) -> float | None:
    """Positive predictive value at a prevalence, by Bayes' theorem; all in 0..1. None if nobody is flagged."""
    hits, false = prevalence * recall, (1 - prevalence) * (1 - specificity)
    return hits / (hits + false) if hits + false > 0 else None


def prediction_sets(probabilities: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(N, L) bool: the classes whose probability reaches their limit. An empty set: validation held nothing like it."""
    return np.asarray(probabilities, np.float64) >= limits
