"""Measures lesion_classification on a frozen split, scored as ISIC 2017 part 3 is."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.classification import evaluate_classification, recount_classification, repeat_classification
from derm_ml.evaluation.further import Further
from derm_ml.evaluation.isic import LABELS as SCORED
from derm_ml.evaluation.record import Evaluation
from derm_ml.metrics.metric import Metric
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.classifier import predictions_of
from derm_ml.tasks.lesion_classification.task import TASK


def evaluate(predictor: Classifier, dataset: Dataset, split: str, model_folder: ModelFolder | None) -> Evaluation:
    """Mean AUC of melanoma and seborrheic keratosis against the rest, and everything beside it.

    Every picture is asked as the endpoint would be: from its stored bytes, by the Classifier.
    """
    predictions = predictions_of(predictor, dataset, split, model_folder)
    further = Further.made(predictor, predictions)
    return evaluate_classification(TASK, predictor, predictions, scored_labels=SCORED, further=further)


def recount(card: BundleCard, predictions: pd.DataFrame, dataset: Dataset, split: str) -> dict[str, Metric]:
    """The metrics of `evaluate` from its saved predictions."""
    return recount_classification(TASK, card, predictions, dataset, split, scored_labels=SCORED)


def repeat(predictor: Classifier, dataset: Dataset, ids: Sequence[str], split: str) -> pd.DataFrame:
    """Some cases predicted again."""
    return repeat_classification(predictor, dataset, ids, split, probed=True)
