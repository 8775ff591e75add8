"""Measures lesion_segmentation on a frozen split: per picture, at original resolution."""

from __future__ import annotations

from derm_ml.dataset import Dataset
from derm_ml.evaluation import Evaluation
from derm_ml.evaluation_segmentation import evaluate_segmentation
from derm_ml.predictor import Predictor
from derm_ml.tasks.lesion_segmentation.task import TASK


def evaluate(predictor: Predictor, dataset: Dataset, split: str) -> Evaluation:
    """Mean Dice and Jaccard per picture with intervals, and everything beside them."""
    return evaluate_segmentation(TASK, predictor, dataset, split)
