"""Thresholds that reach a wished recall: fitted on validation only, stored with its hash, measured on other splits.

Example:
    >>> p, y = np.array([0.1, 0.3, 0.2, 0.6, 0.7, 0.9]), np.array([0, 0, 0, 1, 1, 1])
    >>> point = fit_operating_point("recall_0.95", "melanoma", p, y, "validation", "sha256 of the split", 0.95)
    >>> round(point.threshold, 2), point.sensitivity, round(point.sensitivity_low, 2)   # three positives prove little
    (0.45, 1.0, 0.37)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from derm_ml.metrics.classification import known, roc_curve, sensitivity, specificity
from derm_ml.metrics.intervals import (
    Statistic,
    bootstrap,
    clopper_pearson,
    clopper_pearson_low,
    estimate,
    positives_needed,
)
from derm_ml.metrics.metric import Metric, undefined
from derm_ml.metrics.points import FittedOn, OperatingPoint, UnclaimedPoint

Groups = Sequence[str] | np.ndarray


def fit_operating_point(
    name: str,
    label: str,
    probabilities: np.ndarray,
    positives: np.ndarray,
    split: FittedOn,
    split_hash: str,
    recall: float,
    groups: Groups | None = None,
) -> OperatingPoint:
    """The highest threshold at which at least `recall` of the validation positives have p ≥ threshold.

    probabilities (N,) calibrated, positives (N,) 1, 0 or NaN, groups (N,) patients or lesions (None: every image is
    its own), on which the bound of the recall rests (`recall_bound`). The threshold lies halfway to the next lower
    probability, so that a rounding error in the last digit cannot turn the case it rests on.
    Raises `ValueError` for any split but validation, without positives or negatives, or for recall outside (0, 1].
    """
    if not 0 < recall <= 1:
        raise ValueError(f"the recall of an operating point lies in (0, 1], got {recall}")
    p, y, patients = _usable(label, probabilities, positives, split, groups)
    found = np.sort(p[y == 1])[::-1]
    needed = math.ceil(recall * len(found) - 1e-9)  # 0.95 · 20 is 19.000000000000004 in floating point
    return _point(name, label, p, y, patients, float(found[needed - 1]), split, split_hash)


def recall_bound(flagged: np.ndarray, groups: Groups) -> tuple[float, int]:
    """With 95 % confidence the recall is at least this, and the number of distinct groups it rests on.

    flagged (P,) bool and groups (P,) of the positives alone. Images of one patient or lesion are not independent, so
    of two exact (Clopper-Pearson) one-sided bounds the lower one holds: that of images, and that of groups, where a
    group is missed if any of its positives is missed.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    missed = np.zeros(len(names), bool)
    missed[member[~flagged]] = True
    of_images = clopper_pearson_low(int(flagged.sum()), len(flagged))
    return min(of_images, clopper_pearson_low(int((~missed).sum()), len(names))), len(names)


def fit_recall_points(
    label: str,
    probabilities: np.ndarray,
    positives: np.ndarray,
    split: FittedOn,
    split_hash: str,
    recalls: Sequence[float],
    groups: Groups | None = None,
) -> tuple[list[OperatingPoint], list[UnclaimedPoint]]:
    """A point `recall_<recall>` for each wished recall, arguments as `fit_operating_point`; and those that get none.

    Where finding every positive would not prove the recall (95 % one-sided), a threshold would be a guess dressed
    as a number: the point is unclaimed, and says how many positives it needs. Counted are distinct groups (patients
    or lesions) among the positives: ten images of one lesion prove no more than one.
    """
    _, y, patients = _usable(label, probabilities, positives, split, groups)
    images, found = int((y == 1).sum()), len(np.unique(patients[y == 1]))
    points: list[OperatingPoint] = []
    unclaimed: list[UnclaimedPoint] = []
    for recall in recalls:
        name, needed = f"recall_{recall:g}", positives_needed(recall)
        if found < needed:
            unclaimed.append(
                UnclaimedPoint(name=name, label=label, recall=recall, split=split, split_hash=split_hash,
                               positives=images, groups=found, needed=needed)
            )  # fmt: skip
        else:
            given = (name, label, probabilities, positives, split, split_hash, recall, groups)
            points.append(fit_operating_point(*given))
    return points, unclaimed


def fit_specificity_point(
    name: str,
    label: str,
    probabilities: np.ndarray,
    positives: np.ndarray,
    split: FittedOn,
    split_hash: str,
    wanted: float,
    groups: Groups | None = None,
) -> OperatingPoint | UnclaimedPoint:
    """The lowest threshold at which at least the `wanted` share of the validation negatives have p < threshold.

    Arguments and errors as `fit_operating_point`. Unclaimed where too many negatives have a probability of exactly 1:
    no threshold lies above them, and a point must reach what it is named after.
    """
    if not 0 < wanted <= 1:
        raise ValueError(f"the specificity of an operating point lies in (0, 1], got {wanted}")
    p, y, patients = _usable(label, probabilities, positives, split, groups)
    calm = np.sort(p[y == 0])
    highest = calm[math.ceil(wanted * len(calm) - 1e-9) - 1]  # the last negative that must stay below
    above = p[p > highest]
    point = _point(name, label, p, y, patients, float(above.min()) if len(above) else 1.0, split, split_hash)
    if point.specificity >= wanted - 1e-9:
        return point
    return UnclaimedPoint(
        name=name, label=label, specificity=wanted, split=split, split_hash=split_hash, positives=point.positives,
        groups=point.groups, reached=float((calm < 1).mean()),
    )  # fmt: skip


def fit_balanced_point(
    name: str,
    label: str,
    probabilities: np.ndarray,
    positives: np.ndarray,
    split: FittedOn,
    split_hash: str,
    groups: Groups | None = None,
) -> OperatingPoint:
    """The threshold with the largest sensitivity + specificity (Youden 1950); arguments as `fit_operating_point`.

    Of equally good thresholds the lowest, which misses fewer positives.
    """
    p, y, patients = _usable(label, probabilities, positives, split, groups)
    false_rate, true_rate, thresholds = roc_curve(p, y)
    gain = true_rate[1:] - false_rate[1:]
    best = np.flatnonzero(gain >= gain.max() - 1e-12)[-1]
    return _point(name, label, p, y, patients, float(thresholds[1:][best]), split, split_hash)


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """An operating point on cases it was not fitted on."""

    point: OperatingPoint
    sensitivity: Metric
    specificity: Metric
    flagged: int
    precision: float | None  # of the flagged, at the prevalence of these cases; None if none is flagged

    def metrics(self) -> tuple[tuple[str, Metric], tuple[str, Metric]]:
        return ("sensitivity", self.sensitivity), ("specificity", self.specificity)

    def row(self) -> dict[str, Any]:
        """As a row of a table."""
        return {
            "label": self.point.label,
            "point": self.point.name,
            "threshold": self.point.threshold,
            "fitted_on": f"{self.point.split}, {self.point.positives} positives",
            "positives": self.sensitivity.n,
            "sensitivity": self.sensitivity.value,
            "sensitivity_95": _interval(self.sensitivity),
            "negatives": self.specificity.n,
            "specificity": self.specificity.value,
            "specificity_95": _interval(self.specificity),
            "flagged": self.flagged,
            "ppv_here": self.precision,
        }


def measure_point(
    point: OperatingPoint, probabilities: np.ndarray, targets: np.ndarray, groups: Sequence[str] | np.ndarray
) -> MeasuredPoint:
    """What an operating point reaches on cases with probabilities (N,), targets (N,) and patients (N,)."""
    keep = known(targets)
    y, flagged, patients = targets[keep], probabilities[keep] >= point.threshold, np.asarray(groups)[keep]
    hits, marked = int((flagged & (y == 1)).sum()), int(flagged.sum())
    return MeasuredPoint(
        point,
        proportion(flagged, y, patients, 1),
        proportion(flagged, y, patients, 0),
        marked,
        hits / marked if marked else None,
    )


def refuse_fitted_on(point: OperatingPoint, split: str, split_hash: str) -> None:
    """Raises `ValueError` if an operating point was fitted on the very test split it is to be measured on."""
    if split == "test" and point.split_hash == split_hash:
        raise ValueError(
            f"the operating point '{point.name}' of {point.label} was fitted on the test split ({split_hash}): "
            "what it reaches there proves nothing; fit it on validation"
        )


def _usable(
    label: str, probabilities: np.ndarray, positives: np.ndarray, split: FittedOn, groups: Groups | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, targets and groups of the cases whose truth is known."""
    if split not in get_args(FittedOn):
        raise ValueError(
            f"an operating point is fitted on the validation split or on local cases, not on '{split}': "
            "a threshold chosen on the cases it is judged by proves nothing"
        )
    targets = np.asarray(positives, np.float64)
    keep = known(targets)
    p, y = np.asarray(probabilities)[keep].astype(np.float64), targets[keep]
    if not (y == 1).any() or not (y == 0).any():
        raise ValueError(
            f"{label}: an operating point needs positives and negatives, {split} has {int((y == 1).sum())} "
            f"and {int((y == 0).sum())}"
        )
    patients = np.arange(len(keep)) if groups is None else np.asarray(groups)
    return p, y, patients[keep]


def _point(
    name: str,
    label: str,
    p: np.ndarray,
    y: np.ndarray,
    patients: np.ndarray,
    lowest_flagged: float,
    split: FittedOn,
    split_hash: str,
) -> OperatingPoint:
    below = p[p < lowest_flagged]
    highest_spared = float(below.max()) if len(below) else 0.0
    halfway = (lowest_flagged + highest_spared) / 2
    # between two neighbouring floating-point numbers there is none: half of them is either
    threshold = halfway if halfway > highest_spared else lowest_flagged
    flagged = p >= threshold
    hits, positives = int((flagged & (y == 1)).sum()), int((y == 1).sum())
    low, groups = recall_bound(flagged[y == 1], patients[y == 1])
    return OperatingPoint(
        name=name,
        label=label,
        threshold=threshold,
        split=split,
        split_hash=split_hash,
        sensitivity=hits / positives,
        sensitivity_low=low,
        specificity=float((~flagged[y == 0]).mean()),
        positives=positives,
        groups=groups,
    )


def proportion(flagged: np.ndarray, y: np.ndarray, groups: np.ndarray, which: int) -> Metric:
    """Sensitivity (`which` 1) or specificity (0) with the wider of the exact and the patient-bootstrap interval.

    The exact one takes images of one patient for independent; the bootstrap has no width at 0 and at 1, so there the
    trials are patients.
    """
    statistic: Statistic = sensitivity if which else specificity
    trials = int((y == which).sum())
    value = estimate(statistic, flagged, y) if trials else None
    if value is None:
        return undefined(trials, "no positives" if which else "no negatives")
    independent = len(np.unique(groups[y == which])) if value in (0, 1) else trials
    low, high = clopper_pearson(round(value * independent), independent)
    drawn_low, drawn_high = bootstrap(statistic, groups, flagged, y)
    if drawn_low is not None and drawn_high is not None:
        low, high = min(low, drawn_low), max(high, drawn_high)
    return Metric(value, low, high, trials)


def _interval(metric: Metric) -> str:
    return "–" if metric.low is None or metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}"
