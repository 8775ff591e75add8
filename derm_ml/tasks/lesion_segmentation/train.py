"""Trains lesion_segmentation: one mask a picture, the best epoch chosen by the mean Dice per image."""

from __future__ import annotations

from pathlib import Path

from derm_ml.data.dataset import Dataset
from derm_ml.progress import OnEpoch
from derm_ml.training.segmentation import fit_segmenter
from derm_ml.training.settings import SegmenterRecipe


def fit(dataset: Dataset, recipe: SegmenterRecipe, out: Path, on_epoch: OnEpoch) -> Path:
    """Train (or resume) in `out` and return the path of the bundle."""
    return fit_segmenter(dataset, recipe, out, on_epoch)
