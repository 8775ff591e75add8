"""Measures persistent_conditions on a frozen split."""

from __future__ import annotations

from derm_ml.dataset import Dataset
from derm_ml.evaluation import Evaluation
from derm_ml.matching.evaluation import evaluate_pairs
from derm_ml.matching.predictor import PairPredictor
from derm_ml.tasks.persistent_conditions.predict import numbers, said
from derm_ml.tasks.persistent_conditions.task import TASK


def evaluate(predictor: PairPredictor, dataset: Dataset, split: str) -> Evaluation:
    """Matching, states, registration and refusal, beside the original's way on the same pairs.

    Every pair is asked as the endpoint would be.
    """
    return evaluate_pairs(
        TASK, predictor, dataset, split, lambda pair, outcome: numbers(said(predictor, pair, outcome))
    )
