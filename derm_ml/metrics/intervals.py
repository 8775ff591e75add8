"""How sure a number is: intervals from resampled patients, exact intervals of proportions, paired differences.

A *statistic* is a function `(*arrays, weights) -> values`: `weights` (B, N) says how often each of the N cases was
drawn in each of B resamples, `values` (B,) is the statistic of each resample, NaN where it is undefined. One call
then does a thousand resamples as a few matrix operations. The statistics are in `classification` and `calibration`.

Example:
    >>> bootstrap(weighted_mean, ["a", "a", "b", "c"], np.array([0.0, 1.0, 1.0, 1.0]), n=200)
    (0.5, 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, norm, rankdata

from derm_ml.metrics.metric import Metric, undefined

Statistic = Callable[..., np.ndarray]  # (*arrays, weights (B, N)) -> (B,)
RESAMPLES = 1000  # the ends of a 95 % interval then rest on 25 resamples each
LEVEL = 0.95
_BLOCK = 2_000_000  # numbers of a block of weights: 16 MB, so memory does not grow with the resamples


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of `values` (N,) under weights (B, N) → (B,). NaN values are left out; NaN where nothing is left."""
    known = ~np.isnan(values)
    return ratio(weights @ np.where(known, values, 0.0), weights @ known.astype(np.float64))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Division where nothing by nothing is NaN, quietly: undefined in that resample."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def draws(groups: Sequence[str] | np.ndarray, n: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks (b, N) of weights, `n` rows in all: how often each case is drawn when its group is.

    Whole groups (patients) are drawn with replacement, as many as there are: two images of one patient are not
    independent, and resampling images would give intervals that are too narrow.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // max(1, len(member)))
    for start in range(0, n, step):
        rows = min(step, n - start)
        drawn = rng.integers(len(names), size=(rows, len(names)))
        drawn += np.arange(rows)[:, None] * len(names)
        counts = np.bincount(drawn.ravel(), minlength=rows * len(names)).reshape(rows, len(names))
        yield counts[:, member].astype(np.float64)


def estimate(statistic: Statistic, *arrays: np.ndarray) -> float | None:
    """The statistic of the cases as they are, None where it is undefined."""
    value = float(statistic(*arrays, np.ones((1, len(arrays[0]))))[0])
    return value if np.isfinite(value) else None


def bootstrap(
    statistic: Statistic,
    groups: Sequence[str] | np.ndarray,
    *arrays: np.ndarray,
    n: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float | None, float | None]:
    """Percentile bootstrap over groups: the 95 % interval (low, high) of `statistic(*arrays, weights)`.

    Resamples in which the statistic is undefined (no positive was drawn) are left out. (None, None) with fewer
    than two groups, or when more than half of the resamples are undefined. Source: Efron & Tibshirani,
    An Introduction to the Bootstrap (1993), ch. 13; resampling clusters: Field & Welsh (2007).
    """
    if len(np.unique(np.asarray(groups))) < 2:
        return None, None
    values = np.concatenate([statistic(*arrays, weights) for weights in draws(groups, n, seed)])
    return _percentiles(values)


def measured(
    statistic: Statistic, groups: Sequence[str] | np.ndarray, *arrays: np.ndarray, n_cases: int | None = None, why: str
) -> Metric:
    """A statistic with its patient-bootstrap interval as a Metric; `why` is the note where it is undefined.

    The interval is stretched to hold the value: resamples of a biased statistic (ECE) may all lie above it.
    """
    cases = len(arrays[0]) if n_cases is None else n_cases
    value = estimate(statistic, *arrays) if len(arrays[0]) else None
    if value is None:
        return undefined(cases, why)
    low, high = bootstrap(statistic, groups, *arrays)
    if low is None or high is None:
        return Metric(value, None, None, cases, "too few patients for an interval")
    if low == high:
        return Metric(value, low, high, cases, "every resample gives this value: the interval says little")
    return Metric(value, min(low, value), max(high, value), cases)


def clopper_pearson(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact two-sided interval of a proportion. (0, 1) without trials.

    999 of 1000 at 95 % is 0.9944 to 0.99997. Source: Clopper & Pearson, Biometrika 26 (1934).
    Raises `ValueError` unless 0 ≤ successes ≤ trials.
    """
    tail = (1 - level) / 2
    return clopper_pearson_low(successes, trials, 1 - tail), _upper(successes, trials, tail)


def clopper_pearson_low(successes: int, trials: int, level: float = LEVEL) -> float:
    """Exact one-sided lower bound of a proportion: with confidence `level` it is at least this. 0 without trials."""
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials is not a proportion")
    return 0.0 if successes == 0 else float(beta.ppf(1 - level, successes, trials - successes + 1))


def positives_needed(recall: float, level: float = LEVEL) -> int:
    """How many positives, all found, prove a recall with confidence `level`: the smallest n with recall^n ≤ 1 − level.

    2995 for 0.999, 299 for 0.99, 59 for 0.95, 29 for 0.90. Raises `ValueError` for a recall outside (0, 1).
    """
    if not 0 < recall < 1:
        raise ValueError(f"a recall that can be proved lies between 0 and 1, got {recall}")
    return math.ceil(math.log(1 - level) / math.log(recall))


@dataclass(frozen=True, slots=True)
class Difference:
    """metric(a) − metric(b) on the same cases: value, 95 % interval, one-sided p (of a being no better than b)."""

    value: float
    low: float
    high: float
    p: float
    n: int


def paired_difference(
    statistic: Statistic,
    groups: Sequence[str] | np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    *arrays: np.ndarray,
    n: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Compare two models on the same cases: both see the same resampled patients.

    `statistic(a, *arrays, weights)` against `statistic(b, *arrays, weights)`. The p value is the share of resamples
    in which a is not above b, counted with one added to both so that it is never 0 (Davison & Hinkley 1997, 4.2).
    Raises `ValueError` when the arrays do not match or the difference is undefined.
    """
    if a.shape != b.shape:
        raise ValueError(f"the two models must be scored on the same cases, got shapes {a.shape} and {b.shape}")
    of_a, of_b = estimate(statistic, a, *arrays), estimate(statistic, b, *arrays)
    if of_a is None or of_b is None:
        raise ValueError("the difference is undefined: the metric is, for one of the models, on these cases")
    blocks = [statistic(a, *arrays, w) - statistic(b, *arrays, w) for w in draws(groups, n, seed)]
    values = np.concatenate(blocks)
    low, high = _percentiles(values)
    if low is None or high is None:
        raise ValueError(f"the difference is undefined in most resamples of {len(np.unique(groups))} patients")
    defined = values[np.isfinite(values)]
    p = (1 + int((defined <= 0).sum())) / (1 + len(defined))
    return Difference(of_a - of_b, low, high, p, len(a))


def delong_difference(a: np.ndarray, b: np.ndarray, targets: np.ndarray) -> Difference:
    """AUC(a) − AUC(b) of two models on the same cases, by the method of DeLong; p is one-sided, as in `Difference`.

    a, b (N,) scores, targets (N,) of 1 and 0. It takes cases for independent: with several images of a patient trust
    the bootstrap. Source: DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988); midranks: Sun & Xu 2014.
    Raises `ValueError` with fewer than two positives or negatives.
    """
    positive = targets == 1
    m, n = int(positive.sum()), int((targets == 0).sum())
    if min(m, n) < 2 or m + n != len(targets):
        raise ValueError(f"DeLong's test needs two positives and two negatives at least, got {m} and {n}")
    areas, of_positives, of_negatives = [], [], []
    for scores in (a, b):
        ranks = rankdata(scores)
        # how often each positive beats a negative, and each negative loses to a positive
        beats = (ranks[positive] - rankdata(scores[positive])) / n
        loses = 1 - (ranks[~positive] - rankdata(scores[~positive])) / m
        areas.append(beats.mean())
        of_positives.append(beats)
        of_negatives.append(loses)
    covariance = np.cov(of_positives) / m + np.cov(of_negatives) / n
    error = math.sqrt(max(0.0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    value = float(areas[0] - areas[1])
    if error < 1e-12:  # the same ranking: nothing to tell apart
        return Difference(value, value, value, 0.0 if value > 0 else 1.0, len(targets))
    half = float(norm.ppf(0.5 + LEVEL / 2)) * error
    return Difference(value, value - half, value + half, float(norm.sf(value / error)), len(targets))


def _percentiles(values: np.ndarray) -> tuple[float | None, float | None]:
    defined = values[np.isfinite(values)]
    if len(defined) < len(values) / 2:
        return None, None
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def _upper(successes: int, trials: int, tail: float) -> float:
    return 1.0 if successes == trials else float(beta.ppf(1 - tail, successes + 1, trials - successes))
