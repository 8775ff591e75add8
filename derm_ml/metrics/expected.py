"""What a metric would be if the probabilities mean what they say: an estimate without labels.

    metric = expected_auc_of(probabilities, images)        the AUC, with a 95 % interval from resampled images

Each case counts as a positive with its probability and as a negative with the rest: confidence-based performance
estimation, as NannyML's documentation describes it. `BLIND_SPOT` says what it cannot see.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from derm_ml.metrics.intervals import bootstrap, estimate, ratio
from derm_ml.metrics.metric import Metric, undefined

BLIND_SPOT = (
    "The estimate believes the model's probabilities. It sees that images have become harder; it does not see that the "
    "model is sure and wrong: a new device, a disease it was never shown, or the same look with another meaning leave "
    "it high. Only labels tell."
)
FEWEST = 30  # images: with fewer the interval says next to nothing
_RESAMPLES = 300  # of an estimate whose blind spot is wider than what more of them would add


def expected_auc(p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The expected AUC of probabilities (N,) under weights (B, N) → (B,); NaN where no two cases can be ranked."""
    order = np.argsort(p, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(p[order]) > 0])  # of the cases that are alike
    positive, negative = weights[:, order] * p[order], weights[:, order] * (1 - p[order])
    above, below = np.add.reduceat(positive, starts, axis=1), np.add.reduceat(negative, starts, axis=1)
    lower = np.cumsum(below, axis=1) - below
    itself = (positive * negative).sum(axis=1)  # a case is not ranked against itself
    pairs = positive.sum(axis=1) * negative.sum(axis=1) - itself
    return ratio((above * (lower + below / 2)).sum(axis=1) - itself / 2, pairs)


def expected_auc_of(p: np.ndarray, images: Sequence[str] | np.ndarray) -> Metric:
    """The expected AUC with its interval; `images` (N,) names what is resampled together."""
    if len(p) < FEWEST:
        return undefined(len(p), f"not evaluable: {FEWEST} images are needed")
    value = estimate(expected_auc, p)
    if value is None:
        return undefined(len(p), "every probability is 0 or 1, so no pair is expected to differ")
    low, high = bootstrap(expected_auc, images, p, n=_RESAMPLES)
    return Metric(value, low, high, len(p))
