"""What an answer says beside its probabilities where it is asked for: corrected to another prevalence, prediction sets.

AnswerModel(probabilities=…, **asked_for(card, probabilities, options))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from derm_ml.asking.answers import PredictionSet
from derm_ml.asking.options import PREVALENCE, SETS
from derm_ml.asking.prevalence import AtPrevalence, shares_of, trained_shares
from derm_ml.bundles.bundle import BundleCard
from derm_ml.metrics.one_answer import at_prevalence, precision_at, prediction_sets


def asked_for(card: BundleCard, probabilities: np.ndarray, options: Mapping[str, str]) -> dict[str, Any]:
    """`at_prevalence` and `prediction_set` of calibrated probabilities (L,), as far as `options` ask for them.

    Raises `PrevalenceError` for shares the model cannot use.
    """
    found: dict[str, Any] = {}
    if stated := options.get(PREVALENCE.name):
        found["at_prevalence"] = corrected(card, probabilities, shares_of(stated, card))
    if options.get(SETS.name) == "yes" and card.class_limits:
        found["prediction_set"] = _prediction_set(card, probabilities)
    return found


def asked_columns(card: BundleCard, options: Mapping[str, str]) -> list[str]:
    """The columns of a table of answers that hold what `options` ask for, after all others."""
    shares = [f"at_prevalence.{of}.{label}" for of in ("prevalence", "probabilities") for label in card.labels]
    sets = ["prediction_set.classes"] if options.get(SETS.name) == "yes" and card.class_limits else []
    return [*(shares if options.get(PREVALENCE.name) else []), *sets]


def corrected(card: BundleCard, probabilities: np.ndarray, shares: Mapping[str, float]) -> AtPrevalence:
    """Calibrated probabilities (L,) at another prevalence: those of independent labels each by itself."""
    trained = {label: trained_shares(card)[label] for label in shares}
    before, here = (np.array([of[label] for label in shares]) for of in (trained, shares))
    p = np.asarray(probabilities, np.float64)
    told = p.copy()
    if card.head == "softmax":
        told = at_prevalence(p[None], before, here)[0]
    else:
        columns = [card.labels.index(label) for label in shares]
        told[columns] = at_prevalence(p[columns], before, here)
    ppv: dict[str, dict[str, float | None]] = {label: {} for label in shares}
    for point in card.operating_points:
        if point.label in shares:
            ppv[point.label][point.name] = precision_at(point.sensitivity, point.specificity, shares[point.label])
    return AtPrevalence(
        prevalence=dict(shares),
        trained_at=trained,
        probabilities=dict(zip(card.labels, told.tolist(), strict=True)),
        ppv=ppv,
    )


def _prediction_set(card: BundleCard, probabilities: np.ndarray) -> PredictionSet:
    inside = prediction_sets(probabilities, np.array(card.class_limits))
    return PredictionSet(
        classes=[label for label, held in zip(card.labels, inside, strict=True) if held],
        holds=1 - card.set_error,
        limits=dict(zip(card.labels, card.class_limits, strict=True)),
    )
