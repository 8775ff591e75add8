"""What the input gate does to images of the task itself: each one it refuses is a patient without an answer.

No image is dropped for it: every metric is of all images of the split, and `false_refusal` says how many of them a
service would have abstained from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from derm_ml.asking.answers import Fitness
from derm_ml.metrics.intervals import clopper_pearson
from derm_ml.metrics.metric import Metric

ABSTAINED, SCORE, QUALITY = "gate.abstained", "gate.in_distribution", "gate.quality"  # columns of predictions
METRIC = "false_refusal"


def gate_columns(fits: Sequence[Fitness]) -> dict[str, np.ndarray]:
    """The columns that an evaluation's predictions hold of the gate; none where the model has no gate."""
    if all(fit.in_distribution is None for fit in fits):
        return {}
    return {
        SCORE: np.array([fit.in_distribution for fit in fits], np.float64),
        ABSTAINED: np.array([fit.abstained for fit in fits]),
        QUALITY: np.array([fit.quality for fit in fits]),
    }


def gate_metrics(predictions: pd.DataFrame) -> dict[str, Metric]:
    """`false_refusal`: the share of images that the model abstains from, with the exact interval over images."""
    if ABSTAINED not in predictions:
        return {}
    refused = predictions[ABSTAINED].to_numpy(bool)
    n, k = len(refused), int(refused.sum())
    low, high = clopper_pearson(k, n)
    return {METRIC: Metric(k / n, low, high, n, f"{k} of {n} images; exact interval over images")}
