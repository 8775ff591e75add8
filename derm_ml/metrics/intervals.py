"""How sure a number is: intervals from resampled patients, exact intervals of proportions, paired differences.

A *statistic* is a function `(*arrays, weights) -> values`: `weights` (B, N) says how often each of the N cases was
drawn in each of B resamples, `values` (B,) is the statistic of each resample, NaN where it is undefined. One call
then does a thousand resamples as a few matrix operations. The statistics are in `classification` and `calibration`.

How often the intervals hold the true value is measured by `benchmarks/coverage.py`; docs/intervals.md has the table.

Example:
    >>> low, high = bootstrap(weighted_mean, np.arange(40), (np.arange(40) < 30) * 1.0, n=200)
    >>> round(low, 2), round(high, 2)
    (0.58, 0.87)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import beta, norm, rankdata
from scipy.stats import t as student

from derm_ml.metrics.metric import Metric, undefined

Statistic = Callable[..., np.ndarray]  # (*arrays, weights (B, N)) -> (B,)
RESAMPLES = 1000  # the ends of a 95 % interval then rest on 25 resamples each
LEVEL = 0.95
REACH = float(norm.ppf(0.5 + LEVEL / 2))  # standard deviations of a normal variable to either side: 1.96
SHARE = (0.0, 1.0)  # the range of most metrics: their intervals are symmetric on the logit scale, and stay inside
BLOCKS = 200  # parts of which one after the other is left out to see how few cases a value rests on
FEW = 10  # groups: fewer give intervals whose coverage strays, see docs/intervals.md
FEW_NOTE = "rests on {} patients: its 95 % interval may cover less (docs/intervals.md)"
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
        yield counts.astype(np.float64)[:, member]


def estimate(statistic: Statistic, *arrays: np.ndarray) -> float | None:
    """The statistic of the cases as they are, None where it is undefined."""
    value = float(statistic(*arrays, np.ones((1, len(arrays[0]))))[0])
    return value if np.isfinite(value) else None


def bootstrap(
    statistic: Statistic,
    groups: Sequence[str] | np.ndarray,
    *arrays: np.ndarray,
    limits: tuple[float, float] | None = SHARE,
    rests_on: int | None = None,
    n: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float | None, float | None]:
    """The interval (low, high) of `statistic(*arrays, weights)` from resampled groups; it holds the value.

    The standard deviation of the resamples times a quantile of Student's t, on the logit scale of `limits` (None: a
    statistic without limits, as it is). The degrees of freedom follow from how unevenly the groups move the statistic:
    a few patients with a positive carry an AUC, whatever the number of the others. At a limit itself the far end is the
    exact bound of `rests_on` groups without an error (None: all of them; 0: no bound follows from their number).

    Resamples in which the statistic is undefined (no positive was drawn) are left out. (None, None) with fewer than
    two groups, where the statistic or more than half of its resamples are undefined. Sources: resampling clusters,
    Field & Welsh, J. R. Stat. Soc. B 69 (2007); the logit scale, Pepe, The Statistical Evaluation of Medical Tests
    (2003), 5.2; degrees of freedom from the fourth moment, Satterthwaite, Biometrics Bulletin 2 (1946).
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    value = estimate(statistic, *arrays) if len(names) > 1 else None
    if value is None:
        return None, None
    spread = _spread(np.concatenate([statistic(*arrays, weights) for weights in draws(groups, n, seed)]))
    if spread is None:
        return None, None
    factor = float(student.ppf(0.5 + level / 2, _freedom(statistic, member, arrays)))
    if limits is None:
        return value - factor * spread, value + factor * spread
    return _within(value, factor * spread, limits, len(names) if rests_on is None else rests_on, level)


def _within(value: float, half: float, limits: tuple[float, float], rests_on: int, level: float) -> tuple[float, float]:
    """value ± half on the logit scale between `limits`; at a limit, the exact bound of that many groups alike."""
    lowest, width = limits[0], limits[1] - limits[0]
    share, half = (value - lowest) / width, half / width
    if not -1e-9 <= share <= 1 + 1e-9:
        raise ValueError(f"a value of {value} lies outside its limits {limits[0]:g} to {limits[1]:g}")
    if min(share, 1 - share) < 1e-12:
        exact = 1 - ((1 - level) / 2) ** (1 / rests_on) if rests_on else 0.0
        reach = min(1.0, max(half, exact))
        return (lowest, lowest + reach * width) if share < 0.5 else (limits[1] - reach * width, limits[1])
    centre, half = logit(share), half / (share * (1 - share))
    low, high = (lowest + width * float(expit(centre + side)) for side in (-half, half))
    return min(low, value), max(high, value)  # where half is 0, logit and expit may differ in the last digit


def _spread(values: np.ndarray) -> float | None:
    """Standard deviation of the resamples that are defined; None where more than half are not."""
    defined = values[np.isfinite(values)]
    return float(defined.std(ddof=1)) if len(defined) >= max(2, len(values) / 2) else None


def _freedom(statistic: Statistic, member: np.ndarray, arrays: Sequence[np.ndarray]) -> float:
    """Degrees of freedom of the spread: how many groups, by their weight, the statistic rests on, less one.

    member (N,) int: the group of each case. Parts of the groups (each by itself up to `BLOCKS`) are left out in turn;
    the kurtosis of what that changes says how uneven they are. 1 where the statistic needs one of the parts.
    """
    parts = min(BLOCKS, int(member.max()) + 1)
    order = np.random.default_rng(0).permutation(int(member.max()) + 1)
    part = (order % parts)[member]
    step = max(1, _BLOCK // len(member))
    values = np.concatenate(
        [
            statistic(*arrays, (part != np.arange(start, min(start + step, parts))[:, None]).astype(np.float64))
            for start in range(0, parts, step)
        ]
    )
    if not np.isfinite(values).all():
        return 1.0
    moved = values - values.mean()
    squares = float((moved**2).sum())
    if squares == 0:
        return parts - 1.0
    kurtosis = parts * float((moved**4).sum()) / squares**2
    return parts - 1.0 if kurtosis <= 1 else min(parts - 1.0, 2 * parts / (kurtosis - 1))


def measured(
    statistic: Statistic,
    groups: Sequence[str] | np.ndarray,
    *arrays: np.ndarray,
    n_cases: int | None = None,
    why: str,
    limits: tuple[float, float] | None = SHARE,
    rests_on: int | None = None,
) -> Metric:
    """A statistic with its interval (`bootstrap`) as a Metric; `why` is the note where it is undefined.

    `limits` are those of the statistic, `rests_on` the number of groups it needs: of an AUC the fewer of those with a
    positive and those with a negative (None: all groups). Few of them are noted with what coverage to expect.
    """
    cases = len(arrays[0]) if n_cases is None else n_cases
    value = estimate(statistic, *arrays) if len(arrays[0]) else None
    if value is None:
        return undefined(cases, why)
    low, high = bootstrap(statistic, groups, *arrays, limits=limits, rests_on=rests_on)
    if low is None or high is None:
        return Metric(value, None, None, cases, "too few patients for an interval")
    if low == high:
        return Metric(
            value, low, high, cases, "all bootstrap samples gave the same value; the interval is not informative"
        )
    count = len(np.unique(np.asarray(groups))) if rests_on is None else rests_on
    return Metric(value, low, high, cases, FEW_NOTE.format(count) if 0 < count < FEW else "")


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
    """metric(a) − metric(b) on the same cases: value, interval, one-sided p of a being no better than b.

    The interval reaches `REACH` standard deviations to either side, 95 %, unless it was asked to reach further.
    """

    value: float
    low: float
    high: float
    p: float
    n: int
    groups: int = 0  # that were resampled; 0: not counted


def paired_difference(
    statistic: Statistic,
    groups: Sequence[str] | np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    *arrays: np.ndarray,
    n: int = RESAMPLES,
    seed: int = 0,
    reach: float = REACH,
) -> Difference:
    """Compare two models on the same cases: both see the same resampled patients.

    `statistic(a, *arrays, weights)` against `statistic(b, *arrays, weights)`. Interval and p value take the difference
    for normal, with the standard deviation of the resamples: percentiles of them reject a true null too often.
    `reach` standard deviations go to either side.
    Raises `ValueError` when the arrays do not match or the difference is undefined.
    """
    if a.shape != b.shape:
        raise ValueError(f"the two models must be scored on the same cases, got shapes {a.shape} and {b.shape}")
    of_a, of_b = estimate(statistic, a, *arrays), estimate(statistic, b, *arrays)
    if of_a is None or of_b is None:
        raise ValueError("the difference is undefined: the metric is, for one of the models, on these cases")
    blocks = [statistic(a, *arrays, w) - statistic(b, *arrays, w) for w in draws(groups, n, seed)]
    values, value, count = np.concatenate(blocks), of_a - of_b, len(np.unique(np.asarray(groups)))
    spread = _spread(values) if count > 1 else None
    if spread is None:
        raise ValueError(f"the difference is undefined in most resamples of {count} patients")
    if spread < 1e-12:  # as of the same ranking: nothing to tell apart
        return Difference(value, value, value, 0.0 if value > 0 else 1.0, len(a), count)
    half = reach * spread
    return Difference(value, value - half, value + half, float(norm.sf(value / spread)), len(a), count)


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
    half = REACH * error
    return Difference(value, value - half, value + half, float(norm.sf(value / error)), len(targets))


def _upper(successes: int, trials: int, tail: float) -> float:
    return 1.0 if successes == trials else float(beta.ppf(1 - tail, successes + 1, trials - successes))
