"""What a clinic asks of a screening test: precision where it will be used, biopsies for one cancer, net benefit.

Functions whose last argument is `weights` are statistics for `intervals.bootstrap`: weights (B, N) → values (B,).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from derm_ml.metrics.classification import (
    known,
    mass_by_score,
    patients_of_the_rarer,
    refuse_labels_as_scores,
    sensitivity,
    specificity,
)
from derm_ml.metrics.intervals import bootstrap, estimate, measured, ratio
from derm_ml.metrics.metric import Metric, undefined
from derm_ml.metrics.one_answer import precision_at

HIGH_RECALL = 0.8  # where the partial area begins: the rule of ISIC 2024
PREVALENCES = (0.01, 0.02, 0.05, 0.10)  # from a screened population to a referral clinic


def precision_metric(
    flagged: np.ndarray, targets: np.ndarray, groups: Sequence[str] | np.ndarray, prevalence: float | None = None
) -> Metric:
    """Precision of flagged (N,) bool at `prevalence` (None: that of these cases), with its patient bootstrap."""
    keep = known(targets)
    flagged, targets, groups = flagged[keep], targets[keep], np.asarray(groups)[keep]
    if not (targets == 1).any() or not (targets == 0).any():
        return undefined(len(targets), "needs positives and negatives")

    def precision(flagged: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        share = ratio(weights @ (targets == 1).astype(float), weights.sum(axis=1)) if prevalence is None else prevalence
        hits = share * sensitivity(flagged, targets, weights)
        false = (1 - share) * (1 - specificity(flagged, targets, weights))
        return ratio(hits, hits + false)

    # at a precision of 1 no bound follows from the number of patients alone: `precision_limits` knows more
    return measured(precision, groups, flagged, targets, why="nobody is flagged", rests_on=0)


def precision_limits(recall: Metric, spared: Metric, prevalence: float, resampled: Metric) -> tuple[float, float]:
    """The 95 % interval of the precision at `prevalence`, of recall and specificity `spared` with their intervals.

    The wider of the `resampled` interval and that from both lower to both upper limits, which is conservative: where
    no negative is flagged every resample says 1, and only the exact limits know how few negatives that rests on.
    """
    ends = []
    for a, b, blank in ((recall.low, spared.low, 0.0), (recall.high, spared.high, 1.0)):
        found = None if a is None or b is None else precision_at(a, b, prevalence)
        ends.append(blank if found is None else found)
    low, high = ends
    if resampled.low is not None and resampled.high is not None:
        low, high = min(low, resampled.low), max(high, resampled.high)
    return low, high


def partial_auc(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area between the ROC curve and a recall of 0.8: scores (N,), targets (N,), weights (B, N) → (B,) in 0..0.2.

    Chance is 0.02. It sees only thresholds a screening test could use. Source: the score of ISIC 2024 (SLICE-3D,
    Kurtansky et al. 2024); McClish, Med. Decis. Making 9 (1989).
    """
    false, true = _rates(scores, targets, weights)
    width, low, high = np.diff(false, axis=1), true[:, :-1], true[:, 1:]
    above_low, above_high = np.maximum(low - HIGH_RECALL, 0), np.maximum(high - HIGH_RECALL, 0)
    rise = high - low
    # a segment that crosses the line counts from where it crosses
    share = np.divide(above_high - above_low, rise, out=np.ones_like(rise), where=rise > 0)
    area = (width * share * (above_low + above_high) / 2).sum(axis=1)
    return np.where(np.isfinite(false[:, -1]) & np.isfinite(true[:, -1]), area, np.nan)


def partial_auc_metric(scores: np.ndarray, targets: np.ndarray, groups: Sequence[str] | np.ndarray) -> Metric:
    """The partial area with its patient bootstrap. Raises `ValueError` for labels given as scores."""
    keep = known(targets)
    scores, targets, groups = scores[keep], targets[keep], np.asarray(groups)[keep]
    refuse_labels_as_scores(scores)
    why, fewest = "needs positives and negatives", patients_of_the_rarer(targets, groups)
    return measured(partial_auc, groups, scores, targets, why=why, limits=(0.0, 1 - HIGH_RECALL), rests_on=fewest)


def specificity_at_recall(recall: float):
    """The statistic: the highest specificity of any threshold that reaches `recall` on these very cases.

    It describes the ROC curve and compares two of them; it is no promise, for its threshold is fitted where it is
    measured.
    """

    def statistic(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        false, true = _rates(scores, targets, weights)
        first = np.argmax(true >= recall - 1e-9, axis=1)
        found = 1 - np.take_along_axis(false, first[:, None], axis=1)[:, 0]
        return np.where(np.isfinite(true[:, -1]) & np.isfinite(false[:, -1]), found, np.nan)

    return statistic


def precision_at_recall(recall: float):
    """The statistic: the precision at the highest threshold that reaches `recall` on these very cases.

    At the prevalence of these cases; like `specificity_at_recall` it compares two curves and promises nothing.
    """

    def statistic(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        hits, false = (np.cumsum(mass[:, ::-1], axis=1) for mass in mass_by_score(scores, targets, weights))
        reached = hits >= (recall - 1e-9) * hits[:, -1:]
        first = np.argmax(reached, axis=1)[:, None]
        found, needless = (np.take_along_axis(mass, first, axis=1)[:, 0] for mass in (hits, false))
        return np.where((hits[:, -1] > 0) & (false[:, -1] > 0), ratio(found, found + needless), np.nan)

    return statistic


def net_benefit(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray, threshold: float) -> np.ndarray:
    """True positives minus false ones, weighed by the odds of `threshold`, a case: weights (B, N) → (B,).

    Who would biopsy at a risk of 5 % holds one cancer worth 19 needless biopsies. Source: Vickers & Elkin, Med.
    Decis. Making 26 (2006).
    """
    flagged = probabilities >= threshold
    hits = weights @ (flagged & (targets == 1)).astype(np.float64)
    false = weights @ (flagged & (targets == 0)).astype(np.float64)
    return ratio(hits - false * threshold / (1 - threshold), weights.sum(axis=1))


def decision_curve(
    probabilities: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    thresholds: Sequence[float],
    resamples: int = 300,
) -> list[dict[str, float | None]]:
    """One row a threshold: net benefit of the model with its interval, of biopsying everybody, and of nobody (0)."""
    keep = known(targets)
    p, y, patients = probabilities[keep], targets[keep], np.asarray(groups)[keep]
    rows: list[dict[str, float | None]] = []
    for threshold in thresholds:

        def at(p: np.ndarray, y: np.ndarray, weights: np.ndarray, threshold: float = threshold) -> np.ndarray:
            return net_benefit(p, y, weights, threshold)

        low, high = bootstrap(at, patients, p, y, limits=None, n=resamples)
        everybody = estimate(at, np.ones_like(p), y)
        rows.append(
            {"threshold": float(threshold), "model": estimate(at, p, y), "low": low, "high": high,
             "biopsy_all": everybody, "biopsy_none": 0.0}
        )  # fmt: skip
    return rows


def _rates(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates (B, distinct scores + 1) from (0, 0) to (1, 1); NaN where a class is missing."""
    positives, negatives = (mass[:, ::-1] for mass in mass_by_score(scores, targets, weights))
    rates = []
    for mass in (negatives, positives):
        total = mass.sum(axis=1, keepdims=True)
        cumulated = np.concatenate([np.zeros_like(total), np.cumsum(mass, axis=1)], axis=1)
        rates.append(np.divide(cumulated, total, out=np.full_like(cumulated, np.nan), where=total > 0))
    return rates[0], rates[1]
