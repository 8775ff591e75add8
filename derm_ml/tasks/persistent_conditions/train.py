"""Fits persistent_conditions: version 1 is measured on pairs with known truth and its numbers fitted."""

from __future__ import annotations

from pathlib import Path

from derm_ml.dataset import Dataset
from derm_ml.matching.training import fit_classical
from derm_ml.progress import OnEpoch
from derm_ml.tasks.persistent_conditions.recipes import PairRecipe


def fit(dataset: Dataset, recipe: PairRecipe, out: Path, on_epoch: OnEpoch) -> Path:
    """Fit in `out` and return the path of the bundle."""
    return fit_classical(dataset, recipe, out, on_epoch)
