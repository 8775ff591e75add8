"""Fits persistent_conditions: version 1's numbers on pairs with known truth, version 2's network before them."""

from __future__ import annotations

from pathlib import Path

from derm_ml.dataset import Dataset
from derm_ml.matching.training import fit_classical
from derm_ml.progress import OnEpoch
from derm_ml.training.settings import BiAutoencoderRecipe, PairRecipe


def fit(dataset: Dataset, recipe: PairRecipe, out: Path, on_epoch: OnEpoch) -> Path:
    """Fit (or resume) in `out` and return the path of the bundle."""
    if isinstance(recipe, BiAutoencoderRecipe):
        from derm_ml.training.bi_autoencoder import fit_bi_autoencoder

        return fit_bi_autoencoder(dataset, recipe, out, on_epoch)
    return fit_classical(dataset, recipe, out, on_epoch)
