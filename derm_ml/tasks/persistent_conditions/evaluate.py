"""Measures persistent_conditions on a frozen split."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from derm_ml.bundles.bundle import BundleCard
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.record import Evaluation
from derm_ml.metrics.metric import Metric
from derm_ml.model_folder import ModelFolder
from derm_ml.pairs.evaluation import evaluate_pairs, recount_pairs, repeat_pairs
from derm_ml.pairs.predictor import PairPredictor
from derm_ml.tasks.persistent_conditions.task import TASK
from derm_ml.tasks.persistent_conditions.visits import visit_numbers


def evaluate(predictor: PairPredictor, dataset: Dataset, split: str, model_folder: ModelFolder | None) -> Evaluation:
    """Matching, states, registration and refusal, beside the original's way on the same pairs.

    Every pair is asked as the endpoint would be.
    """
    return evaluate_pairs(TASK, predictor, dataset, split, visit_numbers, model_folder)


def recount(card: BundleCard, predictions: pd.DataFrame, dataset: Dataset, split: str) -> dict[str, Metric]:
    """The metrics of `evaluate` from its saved predictions."""
    return recount_pairs(predictions, dataset, split)


def repeat(predictor: PairPredictor, dataset: Dataset, ids: Sequence[str], split: str) -> pd.DataFrame:
    """Some pairs asked again."""
    return repeat_pairs(predictor, dataset, ids, split)
