"""Measures lesion_classification on a frozen split, scored as ISIC 2017 part 3 is."""

from __future__ import annotations

from derm_ml.dataset import Dataset
from derm_ml.evaluation import Evaluation
from derm_ml.evaluation_classification import evaluate_classification
from derm_ml.metrics.isic import LABELS as SCORED
from derm_ml.predictor import Predictor, concatenate
from derm_ml.tasks.lesion_classification.task import TASK


def evaluate(predictor: Predictor, dataset: Dataset, split: str) -> Evaluation:
    """Mean AUC of melanoma and seborrheic keratosis against the rest, and everything beside it.

    Every picture is asked as the endpoint would be: from its stored bytes, by the Predictor.
    """
    rows = dataset.split(split)
    outputs = concatenate(predictor.batches((dataset.image(r), dataset.attributes(r)) for _, r in rows.iterrows()))
    return evaluate_classification(
        TASK,
        predictor.card,
        predictor.bundle.version,
        dataset.md5,
        rows,
        outputs,
        split,
        scored_labels=SCORED,
        image=dataset.image,
        unsquare=predictor.unsquared,
    )
