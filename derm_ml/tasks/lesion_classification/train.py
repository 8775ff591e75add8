"""Trains lesion_classification: one label out of three, the best epoch chosen by the official mean AUC."""

from __future__ import annotations

from pathlib import Path

from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.isic import LABELS as SCORED
from derm_ml.progress import OnEpoch
from derm_ml.training.classification import Aim, fit_classifier
from derm_ml.training.settings import ClassifierRecipe


def fit(dataset: Dataset, recipe: ClassifierRecipe, out: Path, on_epoch: OnEpoch) -> Path:
    """Train (or resume) in `out` and return the path of the bundle."""
    return fit_classifier(dataset, recipe, Aim("softmax", SCORED), out, on_epoch)
