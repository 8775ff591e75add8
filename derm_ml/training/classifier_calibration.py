"""Calibration and operating points of a classifier, fitted on the validation split or on local cases: a card and
logits → a card.

Nothing is asked of a network here, and nothing is changed: what training fits can be fitted again from saved logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.calibration import calibrated, with_fellow_logits
from derm_ml.metrics.calibration import (
    fit_fellow_shares,
    fit_temperature,
    fit_temperature_and_bias,
    one_positive,
)
from derm_ml.metrics.conformal import fit_class_limits
from derm_ml.metrics.operating_points import fit_balanced_point, fit_recall_points, fit_specificity_point
from derm_ml.metrics.points import FittedOn, OperatingPoint, UnclaimedPoint

SPECIFICITIES = (0.90,)  # an operating point is fitted for each, where there are several independent labels


@dataclass(frozen=True, eq=False)
class CalibrationLogits:
    """What the exported graph says of the cases that calibration is fitted on: logits (N, L) float32 before it, targets
    (N, L) of 1, 0 or NaN, `patients` (N,) str, and the place (N,) of each image's other eye among them, -1 where there
    is none (None: the other eye is not to count). `split` and `split_hash` say which cases they are."""

    logits: np.ndarray
    targets: np.ndarray
    patients: np.ndarray
    split_hash: str
    split: FittedOn = "validation"
    fellows: np.ndarray | None = None


def calibrated_card(card: BundleCard, said: CalibrationLogits, recalls: Sequence[float]) -> BundleCard:
    """The card with all that is fitted on these cases: shares of the other eye, calibration, operating points,
    prevalences, limits of prediction sets."""
    logits = said.logits
    if said.fellows is not None:
        card = card.model_copy(update={"fellow": fit_fellow_shares(logits, said.fellows, said.targets)})
        logits = with_fellow_logits(logits, said.fellows, card.fellow)
    card = card.model_copy(update=_calibration(card, logits, said))
    points, unclaimed = _points(card, calibrated(card, logits), said, recalls)
    if card.head == "softmax":
        keep = one_positive(said.targets)
        sure, truth = calibrated(card, logits)[keep], said.targets[keep].argmax(axis=1)
        limits = fit_class_limits(sure, truth, said.patients[keep], card.set_error)
        card = card.model_copy(update={"class_limits": tuple(float(limit) for limit in limits)})
    shares = np.nanmean(said.targets, axis=0)  # each label has a known target: its operating point was fitted above
    prevalence = {label: float(share) for label, share in zip(card.labels, shares, strict=True)}
    found = {"operating_points": points, "unclaimed_points": unclaimed, "prevalence": prevalence}
    return card.model_copy(update=found)


def _calibration(card: BundleCard, logits: np.ndarray, said: CalibrationLogits) -> dict[str, Any]:
    targets = said.targets
    if card.head == "softmax" and said.split == "local":  # there the labels are not as frequent as in training
        temperature, bias = fit_temperature_and_bias(logits, targets, "softmax")
        return {"temperature": temperature, "bias": bias}
    if card.head == "softmax":
        return {"temperature": fit_temperature(logits, targets, "softmax"), "bias": ()}
    if len(card.labels) == 1:
        temperature, bias = fit_temperature_and_bias(logits, targets)
        return {"temperature": temperature, "bias": bias}
    # each label by itself: they differ in how often they are drawn, and in how well they are told
    each = [fit_temperature_and_bias(logits[:, [k]], targets[:, [k]]) for k in range(len(card.labels))]
    return {"temperatures": tuple(t for t, _ in each), "bias": tuple(b for _, (b,) in each)}


def _points(
    card: BundleCard, probabilities: np.ndarray, said: CalibrationLogits, recalls: Sequence[float]
) -> tuple[tuple[OperatingPoint, ...], tuple[UnclaimedPoint, ...]]:
    patients = said.patients
    points: list[OperatingPoint] = []
    unclaimed: list[UnclaimedPoint] = []
    for column, label in enumerate(card.labels):
        given = (label, probabilities[:, column], said.targets[:, column], said.split, said.split_hash)
        points.append(fit_balanced_point("balanced", *given, groups=patients))
        claimed, short = fit_recall_points(*given, recalls, groups=patients)
        points, unclaimed = [*points, *claimed], [*unclaimed, *short]
        if card.head == "sigmoid" and len(card.labels) > 1:
            for wanted in SPECIFICITIES:
                found = fit_specificity_point(f"specificity_{wanted:g}", *given, wanted, groups=patients)
                if isinstance(found, OperatingPoint):
                    points.append(found)
                else:
                    unclaimed.append(found)
    return tuple(points), tuple(unclaimed)
