"""Measures lesion_segmentation on a frozen split: per picture, at original resolution."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.segmenter import Segmenter
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.segmentation import evaluate_segmentation, recount_segmentation, repeat_segmentation
from derm_ml.metrics.metric import Metric
from derm_ml.model_folder import ModelFolder
from derm_ml.tasks.lesion_segmentation.task import TASK


def evaluate(predictor: Segmenter, dataset: Dataset, split: str, model_folder: ModelFolder | None) -> Evaluation:
    """Mean Dice and Jaccard per picture with intervals, and everything beside them."""
    return evaluate_segmentation(TASK, predictor, dataset, split, model_folder)


def recount(card: BundleCard, predictions: pd.DataFrame, dataset: Dataset, split: str) -> dict[str, Metric]:
    """The metrics of `evaluate` from its saved predictions."""
    return recount_segmentation(card, predictions, dataset, split)


def repeat(predictor: Segmenter, dataset: Dataset, ids: Sequence[str], split: str) -> pd.DataFrame:
    """Some pictures segmented again."""
    return repeat_segmentation(predictor, dataset, ids, split)
