"""What a classifier is asked beside its test split: with changed images, and of its own heatmaps.

further = Further.made(classifier, predictions)     some hundred questions more, however large the split
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.classifier import Classifier
from derm_ml.evaluation.faithful import Explained
from derm_ml.evaluation.probes import Probes
from derm_ml.evaluation.stress import stressed
from derm_ml.predictions.classifier import Predictions


@dataclass(frozen=True)
class Further:
    """`probes` and `explained` are saved with the predictions; `stress` (change → logits) is shown as a table."""

    probes: Probes | None = None
    explained: Explained | None = None
    stress: Mapping[str, np.ndarray] | None = None

    @classmethod
    def made(cls, classifier: Classifier, predictions: Predictions) -> Self:
        """Ask the classifier, which predicted each image by itself."""
        dataset, rows = predictions.dataset, predictions.rows
        return cls(
            Probes.made(classifier, dataset, rows),
            Explained.made(classifier, dataset, rows, predictions.outputs),
            stressed(classifier, predictions),
        )

    @classmethod
    def saved(cls, card: BundleCard, predictions: pd.DataFrame) -> Self:
        """From the predictions of an evaluation, as far as it asked."""
        return cls(Probes.saved(card, predictions), Explained.saved(predictions))

    def columns(self) -> dict[str, np.ndarray]:
        """What is saved with the predictions: column → (N,) numbers."""
        found = (self.probes, self.explained)
        return {name: values for part in found if part for name, values in part.columns().items()}


NOTHING_FURTHER = Further()
