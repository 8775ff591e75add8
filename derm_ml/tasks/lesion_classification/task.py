"""lesion_classification: melanoma / nevus / seborrheic keratosis on dermoscopy (ISIC 2017, part 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from derm_ml.data.rules import IMAGE_RULES
from derm_ml.embeddings.artifacts import EMBEDDING_ARTIFACTS
from derm_ml.evaluation.gates import (
    DISTILLED_GATE,
    INPUT_GATE,
    INT8_GATE,
    PSEUDO_LABEL_GATE,
    probabilities_are_calibrated,
    ranks_better_than_chance,
)
from derm_ml.promotion.gates import SUBGROUP_GATES, probe_gates
from derm_ml.task import Artifact, Gate, Task
from derm_ml.tasks.lesion_classification.asking import ASKING
from derm_ml.tasks.lesion_classification.recipes import Distilled, Drawn, Faithful, Strong, StrongGpu
from derm_ml.tasks.lesion_classification.settings import LesionSettings

if TYPE_CHECKING:
    from derm_ml.bundles.classifier import Classifier
    from derm_ml.data.dataset import Dataset


def heatmaps(predictor: Classifier, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """Images of the test split beside their Grad-CAM: right and wrong answers of every class."""
    from derm_ml.explain.sheets import classification_heatmaps
    from derm_ml.model_folder import ModelFolder
    from derm_ml.predictions.classifier import predictions_of

    predictions = predictions_of(predictor, dataset, "test", ModelFolder.holding(folder))
    return classification_heatmaps(predictor, predictions, folder)


TASK = Task(
    name="lesion_classification",
    title="Melanoma, nevus or seborrheic keratosis",
    labels=("melanoma", "nevus", "seborrheic_keratosis"),
    recipes={"strong": Strong, "strong_gpu": StrongGpu, "faithful": Faithful, "distilled": Distilled, "drawn": Drawn},
    asking=ASKING,
    primary_metric="auc_mean",
    rules=IMAGE_RULES,
    gates=(
        Gate("ranks_better_than_chance", ranks_better_than_chance, hazard="answers that say nothing"),
        Gate("probabilities_are_calibrated", probabilities_are_calibrated, False, "a probability that misleads"),
        INPUT_GATE,
        PSEUDO_LABEL_GATE,
        INT8_GATE,
        DISTILLED_GATE,
        *probe_gates("lesion_classification"),
        *SUBGROUP_GATES,
    ),
    artifacts=(Artifact("heatmaps", heatmaps), *EMBEDDING_ARTIFACTS),
    settings=LesionSettings,
)
