"""How well lesions were matched over two photos: counts a pair, and statistics over resampled patients.

A statistic takes one column a count, `(right, said, there, weights (B, N)) -> (B,)`, as `intervals` wants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from derm_ml.metrics.intervals import ratio


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one pair: matches that are right, that were said, that there are; states that are right, and all states."""

    right: int
    said: int
    there: int
    states_right: int = 0
    states: int = 0


def count(
    said: Iterable[tuple[int, int]],
    there: Iterable[tuple[int, int]],
    states: Sequence[str] = (),
    true_states: Sequence[str] = (),
) -> Counts:
    """Compare matches (number, number) and states with the truth. Raises `ValueError` if states do not line up."""
    if len(states) != len(true_states):
        raise ValueError(f"{len(states)} states were said of {len(true_states)} boxes")
    a, b = set(said), set(there)
    same = sum(s == t for s, t in zip(states, true_states, strict=True))
    return Counts(len(a & b), len(a), len(b), same, len(states))


def precision(right: np.ndarray, said: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Right matches of those said, over all pairs together (micro)."""
    return ratio(weights @ right, weights @ said)


def recall(right: np.ndarray, there: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Right matches of those there are."""
    return ratio(weights @ right, weights @ there)


def f1(right: np.ndarray, said: np.ndarray, there: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall: 2 · right / (said + there)."""
    return ratio(2 * (weights @ right), weights @ (said + there))


def share(part: np.ndarray, whole: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of `part` over the sum of `whole`: state accuracy, refusal rate."""
    return ratio(weights @ part, weights @ whole)
