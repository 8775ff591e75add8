"""Ranking and decision metrics of scores against targets that may be partly unknown.

Targets are 1, 0 or NaN (not known): an unknown one counts as neither. Functions whose last argument is `weights`
are statistics for `intervals.bootstrap`: weights (B, N) → values (B,). `roc_auc` and `average_precision` give
one Metric with a patient-bootstrap interval.

Example:
    >>> str(roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]), list("abcd")).value)
    '0.75'
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from derm_ml.metrics.intervals import measured, ratio
from derm_ml.metrics.metric import Metric, undefined

Groups = Sequence[str] | np.ndarray


def roc_auc(scores: np.ndarray, targets: np.ndarray, groups: Groups) -> Metric:
    """Area under the ROC curve: how often a positive scores above a negative, a tie counting half.

    scores (N,) any real numbers, targets (N,), groups (N,) patient ids. Undefined if a class is missing.
    Raises `ValueError` for scores of two or fewer distinct values: argmax labels are not scores.
    """
    return _ranking(auc, scores, targets, groups)


def average_precision(scores: np.ndarray, targets: np.ndarray, groups: Groups) -> Metric:
    """Area under the precision-recall curve as Σ (Rₖ − Rₖ₋₁) Pₖ. Its chance level is the share of positives."""
    return _ranking(precision_area, scores, targets, groups)


def mean_roc_auc(scores: np.ndarray, targets: np.ndarray, groups: Groups) -> Metric:
    """Mean over the columns of (N, L) of their AUC, the interval being that of the mean. Undefined if one is."""
    for column in range(scores.shape[1]):
        refuse_labels_as_scores(scores[known(targets[:, column]), column])
    n = int(known(targets).any(axis=1).sum())
    why, fewest = "a label has no positives or no negatives here", patients_of_the_rarer(targets, groups)
    return measured(mean_auc, groups, scores, targets, n_cases=n, why=why, rests_on=fewest)


def refuse_labels_as_scores(scores: np.ndarray) -> None:
    """Raises `ValueError` if scores have two or fewer distinct values. Two cases or fewer pass: they are no ranking."""
    why = no_ranking(scores)
    if why:
        raise ValueError(f"{why}: argmax labels are not scores; give probabilities or logits")


def no_ranking(scores: np.ndarray) -> str:
    """Why scores do not rank, empty if they do: more than two cases need more than two distinct values."""
    distinct = len(np.unique(scores))
    return (
        f"the scores of {len(scores)} cases have only {distinct} distinct value(s)"
        if distinct <= 2 < len(scores)
        else ""
    )


def known(targets: np.ndarray) -> np.ndarray:
    """True where a target is known."""
    return ~np.isnan(np.asarray(targets, np.float64))


def auc(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted Mann-Whitney statistic: scores (N,), targets (N,), weights (B, N) → (B,) in 0..1.

    Source: Bamber, J. Math. Psychol. 12 (1975). One sort, then cumulative sums do all resamples at once.
    """
    positives, negatives = (_ascending(scores, targets == k) for k in (1, 0))
    mass, below = weights[:, positives], _sums(weights[:, negatives])
    lower, upper = (np.searchsorted(scores[negatives], scores[positives], side) for side in ("left", "right"))
    beaten = below[:, lower]
    if (lower != upper).any():
        beaten = (beaten + below[:, upper]) / 2  # equal scores count half
    return ratio(np.einsum("bn,bn->b", mass, beaten), mass.sum(axis=1) * below[:, -1])


def mean_auc(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean AUC over the columns of scores and targets (N, L), weights (B, N) → (B,)."""
    return np.mean([auc(scores[:, k], targets[:, k], weights) for k in range(scores.shape[1])], axis=0)


def mean_precision_area(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision averaged over the columns of scores and targets (N, L), weights (B, N) → (B,)."""
    return np.mean([precision_area(scores[:, k], targets[:, k], weights) for k in range(scores.shape[1])], axis=0)


def precision_area(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted average precision: scores (N,), targets (N,), weights (B, N) → (B,) in 0..1."""
    falling = -np.asarray(scores)
    positives, negatives = (_ascending(falling, targets == k) for k in (1, 0))
    mass = weights[:, positives]
    found, false = (
        _sums(weights[:, rows])[:, np.searchsorted(falling[rows], falling[positives], "right")]
        for rows in (positives, negatives)
    )
    flagged = found + false
    precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
    return ratio(np.einsum("bn,bn->b", mass, precision), mass.sum(axis=1))


def accuracy(predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of right classes: predicted (N,) int, truth (N,) int, weights (B, N) → (B,)."""
    return ratio(weights @ (predicted == truth).astype(np.float64), weights.sum(axis=1))


def balanced_accuracy(predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean recall over the classes that occur: predicted (N,) int, truth (N,) int, weights (B, N) → (B,)."""
    recalls = np.stack([recall_of(k, predicted, truth, weights) for k in np.unique(truth)])
    occurs = np.isfinite(recalls)
    return ratio(np.where(occurs, recalls, 0.0).sum(axis=0), occurs.sum(axis=0).astype(np.float64))


def recall_of(k: int, predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the cases of class `k` that are predicted as `k`, weights (B, N) → (B,)."""
    return sensitivity(predicted == k, (truth == k).astype(np.float64), weights)


def sensitivity(flagged: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the positives that are flagged: flagged (N,) bool, targets (N,), weights (B, N) → (B,)."""
    return ratio(weights @ (flagged & (targets == 1)).astype(np.float64), weights @ (targets == 1).astype(np.float64))


def specificity(flagged: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the negatives that are not flagged: flagged (N,) bool, targets (N,), weights (B, N) → (B,)."""
    return sensitivity(~flagged, 1 - targets, weights)


def mean_of_sensitivity_and_specificity(flagged: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Balanced accuracy of independent labels: flagged and targets (N, L), averaged over L, weights (B, N) → (B,)."""
    columns = range(flagged.shape[1])
    halves = [[f(flagged[:, k], targets[:, k], weights) for f in (sensitivity, specificity)] for k in columns]
    return np.mean(halves, axis=(0, 1))


def confusion_matrix(predicted: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Counts (classes, classes) int: row = truth, column = predicted. Cells sum to N."""
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def roc_curve(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(false positive rate, true positive rate, threshold), from (0, 0) at +inf to (1, 1), one point a distinct score.

    Raises `ValueError` if a class is missing.
    """
    scores, targets = scores[known(targets)], targets[known(targets)]
    positives, negatives = mass_by_score(scores, targets, np.ones((1, len(scores))))
    if not positives.sum() or not negatives.sum():
        raise ValueError("a ROC curve needs positives and negatives")
    rates = [np.r_[0.0, np.cumsum(mass[0, ::-1])] / mass.sum() for mass in (negatives, positives)]
    return rates[0], rates[1], np.r_[np.inf, np.unique(scores)[::-1]]


def precision_recall_curve(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(recall, precision), from few to all flagged, one point a distinct score.

    Raises `ValueError` without positives.
    """
    scores, targets = scores[known(targets)], targets[known(targets)]
    positives, negatives = mass_by_score(scores, targets, np.ones((1, len(scores))))
    if not positives.sum():
        raise ValueError("a precision-recall curve needs positives")
    found, false = (np.cumsum(mass[0, ::-1]) for mass in (positives, negatives))
    return found / found[-1], found / (found + false)


def _ranking(statistic, scores: np.ndarray, targets: np.ndarray, groups: Groups) -> Metric:
    keep = known(targets)
    scores, targets, groups = np.asarray(scores)[keep], np.asarray(targets)[keep], np.asarray(groups)[keep]
    refuse_labels_as_scores(scores)
    n = len(scores)
    positives = int((targets == 1).sum())
    if positives in (0, n):
        return undefined(n, f"needs positives and negatives, has {positives} and {n - positives}")
    fewest = patients_of_the_rarer(targets, groups)
    return measured(statistic, groups, scores, targets, why="needs positives and negatives", rests_on=fewest)


def patients_of_the_rarer(targets: np.ndarray, groups: Groups) -> int:
    """How many groups a ranking rests on: the fewer of those with a positive and those with a negative; of (N, L)
    targets those of the label with the fewest."""
    columns, names = np.asarray(targets, np.float64).reshape(len(targets), -1).T, np.asarray(groups)
    return min(len(np.unique(names[y == which])) for y in columns for which in (0, 1))


def patients_of_the_rarest(truth: np.ndarray, groups: Groups) -> int:
    """The fewest groups of any class of truth (N,) int: what a mean over classes rests on."""
    names = np.asarray(groups)
    return min((len(np.unique(names[truth == k])) for k in np.unique(truth)), default=0)


def _ascending(scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The places `inside` (N,) bool, by ascending score. Raises `ValueError` for a score that is no finite number."""
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite numbers")
    places = np.flatnonzero(inside)
    return places[np.argsort(scores[places], kind="stable")]


def _sums(weights: np.ndarray) -> np.ndarray:
    """(B, N) → (B, N + 1): the sum of the first 0, 1, …, N columns."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def mass_by_score(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each distinct score, ascending: two arrays (B, distinct scores)."""
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite numbers")
    order = np.argsort(scores, kind="stable")
    ascending, targets, weights = scores[order], targets[order], weights[:, order]
    starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
    positives, negatives = weights * (targets == 1), weights * (targets == 0)
    if len(starts) == len(scores):
        return positives, negatives
    return np.add.reduceat(positives, starts, axis=1), np.add.reduceat(negatives, starts, axis=1)
