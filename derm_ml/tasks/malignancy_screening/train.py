"""Trains malignancy_screening: one logit, binary cross-entropy, and operating points by recall."""

from __future__ import annotations

from pathlib import Path

from derm_ml.data.dataset import Dataset
from derm_ml.progress import OnEpoch
from derm_ml.training.classification import Aim, fit_classifier
from derm_ml.training.settings import ClassifierRecipe

RECALLS = (0.90, 0.95, 0.99, 0.999)


def fit(dataset: Dataset, recipe: ClassifierRecipe, out: Path, on_epoch: OnEpoch) -> Path:
    """Train (or resume) in `out` and return the path of the bundle."""
    return fit_classifier(dataset, recipe, Aim("sigmoid", dataset.labels, RECALLS), out, on_epoch)
