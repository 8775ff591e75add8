"""How well lesions were matched over two photos: counts a pair, and statistics over resampled patients.

A statistic takes one column a count, `(n_matched, n_predicted, n_true, weights (B, N)) -> (B,)`, as `intervals` wants
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from derm_ml.metrics.intervals import ratio


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one pair: correct matches, predicted ones, true ones; correct states, and all states."""

    n_matched: int
    n_predicted: int
    n_true: int
    n_states_correct: int = 0
    n_states: int = 0


def count(
    predicted: Iterable[tuple[int, int]],
    true: Iterable[tuple[int, int]],
    states: Sequence[str] = (),
    true_states: Sequence[str] = (),
) -> Counts:
    """Compare matches (number, number) and states with the truth. Raises `ValueError` if states do not line up."""
    if len(states) != len(true_states):
        raise ValueError(f"{len(states)} states were predicted of {len(true_states)} boxes")
    a, b = set(predicted), set(true)
    same = sum(s == t for s, t in zip(states, true_states, strict=True))
    return Counts(len(a & b), len(a), len(b), same, len(states))


def precision(n_matched: np.ndarray, n_predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correct matches of those predicted, over all pairs together (micro)."""
    return ratio(weights @ n_matched, weights @ n_predicted)


def recall(n_matched: np.ndarray, n_true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correct matches of the true ones."""
    return ratio(weights @ n_matched, weights @ n_true)


def f1(n_matched: np.ndarray, n_predicted: np.ndarray, n_true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall: 2 · n_matched / (n_predicted + n_true)."""
    return ratio(2 * (weights @ n_matched), weights @ (n_predicted + n_true))


def share(part: np.ndarray, whole: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of `part` over the sum of `whole`: state accuracy, refusal rate."""
    return ratio(weights @ part, weights @ whole)
