"""Does a probability of 0.8 mean 8 of 10? Temperature, expected calibration error, Brier score, reliability table.

The temperature is fitted on validation only. ECE and Brier score are measured on probabilities as they are served.

Example:
    >>> logits, targets = np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]]), np.array([[1, 0], [0, 1], [0, 1]])
    >>> round(fit_temperature(logits, targets, "softmax"), 2)  # sure of itself, and wrong in one of three
    5.77
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, log_softmax

from derm_ml.metrics.heads import ClassifierHead
from derm_ml.metrics.intervals import ratio
from derm_ml.metrics.metric import Metric, undefined
from derm_ml.records import DataError

BINS = 10  # of equal mass: with 150 validation images a bin still has 15
# Outside this range a temperature says more about a validation set without an error than about the network.
COLDEST, HOTTEST = 0.25, 10.0
FEWEST_EYES = 10  # with a finding, and without it: fewer say nothing of how much the other eye tells
_BLOCK = 2_000_000  # random numbers at a time: 16 MB
MOST_BIAS = 6.0  # odds of 400: without a bound, a label that validation does not hold would get an infinite bias


def fit_temperature(logits: np.ndarray, targets: np.ndarray, head: ClassifierHead) -> float:
    """The temperature T in [0.25, 10] that minimises the negative log likelihood of `logits / T`.

    logits and targets (N, L) of the validation split; targets 1, 0 or NaN. Softmax uses the cases with exactly one
    positive and all labels known; sigmoid every known target. Source: Guo et al. 2017 (arXiv 1706.04599), sec. 4.2.
    Raises `ValueError` if no target can be used or a logit is not finite.
    """
    logits, targets = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    if not np.isfinite(logits).all():
        raise DataError("a logit is not finite: the network diverged, there is nothing to calibrate")
    usable = one_positive(targets)[:, None] if head == "softmax" else ~np.isnan(targets)
    if not usable.any():
        raise DataError("no case has the targets calibration needs (softmax: exactly one positive label a case)")

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if head == "softmax":
            likelihood = log_softmax(scaled, axis=1) * targets
        else:
            likelihood = targets * log_expit(scaled) + (1 - targets) * log_expit(-scaled)
        return -float(np.where(usable, likelihood, 0.0).sum())

    best = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))


def fit_temperature_and_bias(
    logits: np.ndarray, targets: np.ndarray, head: ClassifierHead = "sigmoid"
) -> tuple[float, tuple[float, ...]]:
    """Temperature T in [0.25, 10] and a bias for each label, so that head(logit / T + bias) fits best.

    logits and targets (N, L), targets 1, 0 or NaN. Of independent labels (sigmoid): a network that saw rare labels more
    often than they are is too sure of them, which no temperature can mend. Source: Platt 1999, Probabilistic outputs
    for support vector machines, section 2.2. Of labels that exclude each other (softmax): at another place they are
    as frequent as they are there. Biases add up to 0. Source: Alexandari et al. 2020 (arXiv 1901.06852), section 3.3.
    Raises `ValueError` if no target can be used or a logit is not finite.
    """
    logits, targets = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    start = fit_temperature(logits, targets, head)
    loss = _softmax_loss(logits, targets) if head == "softmax" else _sigmoid_loss(logits, targets)
    bounds = [(1 / HOTTEST, 1 / COLDEST), *[(-MOST_BIAS, MOST_BIAS)] * logits.shape[1]]
    first = np.r_[1 / start, np.zeros(logits.shape[1])]
    scale, *bias = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds).x
    if head == "softmax":
        bias = np.subtract(bias, np.mean(bias))
    return float(1 / scale), tuple(float(b) for b in bias)


# of (1 / T, bias of each label): the mean negative log likelihood and its gradient
_Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


def _sigmoid_loss(logits: np.ndarray, targets: np.ndarray) -> _Loss:
    usable = ~np.isnan(targets)
    # Platt's targets stop short of 0 and 1, so that a validation set told apart without an error gives no certainty
    found, others = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    right = np.where(targets == 1, (found + 1) / (found + 2), 1 / (others + 2))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = logits * parameters[0] + parameters[1:]
        likelihood = right * log_expit(scaled) + (1 - right) * log_expit(-scaled)
        error = np.where(usable, expit(scaled) - right, 0.0)
        slope = np.r_[(error * logits).sum(), error.sum(axis=0)]
        return -float(likelihood[usable].sum()) / usable.sum(), slope / usable.sum()

    return loss


def _softmax_loss(logits: np.ndarray, targets: np.ndarray) -> _Loss:
    keep = one_positive(targets)
    logits, right = logits[keep], targets[keep]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        likelihood = log_softmax(logits * parameters[0] + parameters[1:], axis=1)
        error = np.exp(likelihood) - right
        return -float((likelihood * right).sum(axis=1).mean()), np.r_[(error * logits).sum(), error.sum(0)] / len(right)

    return loss


def fit_fellow_shares(logits: np.ndarray, fellows: np.ndarray, targets: np.ndarray) -> tuple[float, ...]:
    """How much the same person's other eye says of each label: its share in the mean of both logits, 0 to 0.5.

    logits and targets (N, L) of the validation split, `fellows` (N,) the places of the other eyes, -1 where there is
    none. By logistic regression of each label on both logits; 0 where fewer than `FEWEST_EYES` eyes with it, or without
    it, have a fellow.
    """
    known = fellows >= 0
    both = np.stack([logits[known], logits[fellows[known]]], axis=2).astype(np.float64)
    return tuple(_fellow_share(both[:, k], targets[known, k]) for k in range(logits.shape[1]))


def _fellow_share(both: np.ndarray, target: np.ndarray) -> float:
    usable = ~np.isnan(target)
    both, sign = both[usable], 2 * target[usable].astype(np.float64) - 1
    if min((sign > 0).sum(), (sign < 0).sum()) < FEWEST_EYES:
        return 0.0

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (both @ parameters[:2] + parameters[2])
        error = -sign * expit(-margin)
        return -float(log_expit(margin).mean()), np.r_[both.T @ error, error.sum()] / len(sign)

    bounds = [(1 / HOTTEST, 1 / COLDEST), (0, 1 / COLDEST), (-MOST_BIAS, MOST_BIAS)]
    own, other, _ = minimize(loss, np.array([1.0, 0.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(min(0.5, other / (own + other)))


def one_positive(targets: np.ndarray) -> np.ndarray:
    """(N, L) → (N,) bool: every label is known and exactly one is positive."""
    return ~np.isnan(targets).any(axis=1) & (np.nansum(targets, axis=1) == 1)


def confidence(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the likeliest label (N,), and 1.0 where it is the right one, from (N, L) of one positive each."""
    top = probabilities.argmax(axis=1)
    return probabilities.max(axis=1), targets[np.arange(len(targets)), top].astype(np.float64)


def bins_of(probabilities: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The bin (N,) int of each probability: bins of equal mass, so that none rests on a handful of cases.

    Equal probabilities share a bin, so there may be fewer bins than asked for.
    """
    inner = np.unique(np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(inner, probabilities, side="left")


def ece(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error: |mean probability − share of positives|, averaged over bins of equal mass.

    probabilities (N,), targets (N,) with NaN unknown, weights (B, N) → (B,) in 0..1. The bins are those of the
    unweighted cases. It is biased upwards in small samples, as its resamples are: `ece_by_chance` says by how much.
    """
    keep = ~np.isnan(targets)
    p, y, w = probabilities[keep].astype(np.float64), targets[keep].astype(np.float64), weights[:, keep]
    if not len(p):
        return np.full(len(weights), np.nan)
    member = bins_of(p)
    gaps = [np.abs(w[:, member == k] @ (p - y)[member == k]) for k in np.unique(member)]
    return ratio(np.sum(gaps, axis=0), w.sum(axis=1))


def mean_ece(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """ECE of each label of (N, L), averaged over the labels: what fits independent (sigmoid) labels."""
    return np.mean([ece(probabilities[:, k], targets[:, k], weights) for k in range(targets.shape[1])], axis=0)


def ece_by_chance(
    probabilities: np.ndarray, targets: np.ndarray, groups: Sequence[str] | np.ndarray, draws: int = 400, seed: int = 0
) -> np.ndarray:
    """What ECE (draws,) these cases would show were the probabilities right: never 0, for a bin holds few cases.

    probabilities and targets (N,) or (N, L), of several labels the mean. Targets are drawn anew from the probabilities
    (consistency resampling: Bröcker & Smith, Weather and Forecasting 22, 2007), case by case; what the images of one
    patient have in common widens the result by the design effect of `groups`. Empty where a label has no known target.
    """
    p, y = (np.asarray(a, np.float64).reshape(len(targets), -1) for a in (probabilities, targets))
    if not len(p) or np.isnan(y).all(axis=0).any():
        return np.zeros(0)
    member = np.unique(np.asarray(groups), return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    return np.mean([_drawn_ece(p[:, k], y[:, k], member, draws, rng) for k in range(p.shape[1])], axis=0)


def _drawn_ece(p: np.ndarray, y: np.ndarray, member: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    keep = ~np.isnan(y)
    p, y, member = p[keep], y[keep], member[keep]
    _, bins = np.unique(bins_of(p), return_inverse=True)
    order = np.argsort(bins, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(bins[order]) > 0])
    found = []
    step = max(1, _BLOCK // len(p))
    for start in range(0, draws, step):
        off = (rng.random((min(step, draws - start), len(p))) < p[order]) - p[order]
        found.append(np.abs(np.add.reduceat(off, starts, axis=1)).sum(axis=1) / len(p))
    return np.concatenate(found) * _design_effect(y - p, bins, member)


def _design_effect(errors: np.ndarray, bins: np.ndarray, member: np.ndarray) -> float:
    """How much further the means of the bins stray because cases come in groups: 1 where each is its own."""
    beside = errors - (np.bincount(bins, errors) / np.bincount(bins))[bins]
    cells, place = np.unique(member * (bins.max() + 1) + bins, return_inverse=True)
    together = np.bincount(cells % (bins.max() + 1), np.bincount(place, beside) ** 2)
    alone = np.bincount(bins, beside**2)
    return max(1.0, float(np.sqrt(together).sum() / np.sqrt(alone).sum())) if alone.any() else 1.0


def chance_metric(probabilities: np.ndarray, targets: np.ndarray, groups: Sequence[str] | np.ndarray) -> Metric:
    """Mean of `ece_by_chance` with the range of 95 of 100 draws: what an ECE has to be held against."""
    n = int((~np.isnan(targets)).reshape(len(targets), -1).any(axis=1).sum())
    drawn = ece_by_chance(probabilities, targets, groups)
    if not len(drawn):
        return undefined(n, "a label is unknown in all cases")
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Metric(
        float(drawn.mean()), float(low), float(high), n, "what calibrated probabilities measure on these cases"
    )


def brier(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared error of probabilities, (N,) or (N, L), over the known targets; weights (B, N) → (B,) in 0..1.

    For L labels this is the mean over labels, not the sum (Brier 1950 sums: for 3 classes ours is a third of it).
    """
    p, y = (np.asarray(a, np.float64).reshape(len(targets), -1) for a in (probabilities, targets))
    here = ~np.isnan(y)
    errors = np.where(here, (p - np.where(here, y, 0.0)) ** 2, 0.0).sum(axis=1)
    return ratio(weights @ errors, weights @ here.sum(axis=1).astype(np.float64))


def reliability_table(probabilities: np.ndarray, targets: np.ndarray, bins: int = BINS) -> list[dict[str, Any]]:
    """One row a bin of equal mass: n, mean probability, observed share of positives. Unknown targets are left out."""
    keep = ~np.isnan(targets)
    p, y = probabilities[keep].astype(np.float64), targets[keep].astype(np.float64)
    if not len(p):
        return []
    member = bins_of(p, bins)
    return [
        {
            "n": int((member == k).sum()),
            "mean_probability": float(p[member == k].mean()),
            "observed_share": float(y[member == k].mean()),
        }
        for k in np.unique(member)
    ]
