"""The same model where a disease is rarer or more frequent: probabilities and shares corrected for the prior shift.

    one_answer.at_prevalence(p, trained, here)        probabilities as they are at another prevalence
    prevalence_metric(p, trained, groups)             the prevalence there, estimated from answers without labels
    share_metrics(p, trained, groups)                 the same of each of L classes that exclude each other

Both rest on one assumption: only how often the classes occur has changed, not how each of them looks. A new camera
breaks it, and neither correction can notice. Source: Saerens, Latinne & Decaestecker, Neural Computation 14 (2002).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from derm_ml.metrics.intervals import Statistic, measured
from derm_ml.metrics.metric import Metric, undefined

HALVINGS = 25  # of the interval the share lies in: to 3e-8
STEPS, STILL = 300, 1e-6  # of expectation maximisation over classes: at most so many, or until no share moves more
FEWEST = 50  # answers: of fewer the estimate is little more than the prevalence it started from


def estimated_prevalence(trained: float) -> Statistic:
    """The statistic (probabilities (N,), weights (B, N)) → (B,): the share of positives among cases without labels.

    Where expectation maximisation ends: the share that the probabilities, corrected to that very share, say on average.
    Its likelihood has one maximum, which halving finds in fewer steps.
    """
    if not 0 < trained < 1:
        raise ValueError(f"a prevalence lies between 0 and 1, got {trained}")

    def statistic(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
        p = np.asarray(probabilities, np.float64)
        ill, well = p / trained, (1 - p) / (1 - trained)
        low, high = np.zeros(len(weights)), np.ones(len(weights))
        for _ in range(HALVINGS):
            share = (low + high) / 2
            slope = (weights * ((ill - well) / (well + share[:, None] * (ill - well)))).sum(axis=1)
            low, high = np.where(slope > 0, share, low), np.where(slope > 0, high, share)
        return (low + high) / 2

    return statistic


def prevalence_metric(probabilities: np.ndarray, trained: float, groups: Sequence[str] | np.ndarray) -> Metric:
    """The prevalence among cases without labels (N,), with its interval from resampled patients.

    `trained` is the prevalence the probabilities are calibrated to (`BundleCard.prevalence`). The interval knows how
    few cases there are, not how well the model is calibrated. Undefined below `FEWEST` cases.
    """
    if len(probabilities) < FEWEST:
        return undefined(len(probabilities), f"{FEWEST} answers are needed, there are {len(probabilities)}")
    return measured(estimated_prevalence(trained), groups, np.asarray(probabilities), why="there are no answers")


def estimated_share(trained: np.ndarray, label: int) -> Statistic:
    """The statistic (probabilities (N, L), weights (B, N)) → (B,): the share of one of L classes among cases without
    labels, by expectation maximisation over all of them."""

    def statistic(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
        ratios = np.asarray(probabilities, np.float64) / trained
        typical = _maximised(ratios, weights.mean(axis=0, keepdims=True), trained[None])
        return _maximised(ratios, weights, np.repeat(typical, len(weights), axis=0))[:, label]

    return statistic


def _maximised(ratios: np.ndarray, weights: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The shares (B, L) at which the likelihood is highest, from where they start; ratios (N, L) of p to its prior."""
    whole = weights.sum(axis=1, keepdims=True)
    for _ in range(STEPS):
        said = shares @ ratios.T
        moved = shares * (np.divide(weights, said, out=np.zeros_like(said), where=said > 0) @ ratios) / whole
        if np.abs(moved - shares).max() < STILL:
            return moved
        shares = moved
    return shares


def share_metrics(probabilities: np.ndarray, trained: np.ndarray, groups: Sequence[str] | np.ndarray) -> list[Metric]:
    """`prevalence_metric` of each of L classes that exclude each other: probabilities (N, L), trained (L,)."""
    p, shares = np.asarray(probabilities, np.float64), np.asarray(trained, np.float64)
    if not ((shares > 0) & (shares < 1)).all():
        raise ValueError(f"a prevalence lies between 0 and 1, got {shares.tolist()}")
    if len(p) < FEWEST:
        return [undefined(len(p), f"{FEWEST} answers are needed, there are {len(p)}")] * len(shares)
    return [measured(estimated_share(shares, k), groups, p, why="there are no answers") for k in range(len(shares))]
