"""Trains retinal_findings: independent findings, the best epoch chosen by their mean AUC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from derm_ml.data.dataset import Dataset
from derm_ml.progress import OnEpoch
from derm_ml.records import DataError
from derm_ml.tasks.retinal_findings.recipes import RetinalRecipe
from derm_ml.training.classification import Aim, fit_classifier

NORMAL = "normal"


def fit(dataset: Dataset, recipe: RetinalRecipe, out: Path, on_epoch: OnEpoch) -> Path:
    """Train (or resume) in `out` and return the path of the bundle."""
    if not recipe.against_normal:
        return fit_classifier(dataset, recipe, Aim("sigmoid", dataset.labels), out, on_epoch)
    if NORMAL not in dataset.labels:
        raise DataError(f"against_normal needs the finding '{NORMAL}'; the data have {', '.join(dataset.labels)}")
    aim = Aim("sigmoid", dataset.labels, training_targets=lambda targets: _against_normal(targets, dataset.labels))
    return fit_classifier(dataset, recipe, aim, out, on_epoch)


def _against_normal(targets: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Targets (N, L) in which the absence of a finding is only known of normal eyes; `normal` itself stays as it is."""
    normal = targets[:, list(labels).index(NORMAL)] == 1
    masked = targets.copy()
    for column, label in enumerate(labels):
        if label != NORMAL:
            masked[(targets[:, column] == 0) & ~normal, column] = np.nan
    return masked
