"""retinal_findings: diabetic retinopathy, glaucoma, normal and more on photographs of the fundus (multi-label)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
)
from derm_ml.promotion.gates import SUBGROUP_GATES, faithful_gate
from derm_ml.task import Artifact, Finding, Gate, Task
from derm_ml.tasks.retinal_findings.asking import ASKING
from derm_ml.tasks.retinal_findings.recipes import Distilled, Drawn, Faithful, OneVsNormal, Strong, StrongGpu
from derm_ml.tasks.retinal_findings.settings import FINDINGS, RetinalSettings

if TYPE_CHECKING:
    from derm_ml.bundles.classifier import Classifier
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation


def every_finding_ranks_better_than_chance(evaluation: Evaluation) -> Finding:
    """The lower bound of every finding's AUC lies above 0.5."""
    rows, good = [], True
    for label in evaluation.labels:
        metric = evaluation.metrics[f"auc_{label}"]
        good = good and metric.low is not None and metric.low > 0.5
        rows.append({"finding": label, "auc": str(metric)})
    said = "; ".join(f"{row['finding']} {row['auc']}" for row in rows)
    measured = [m for label in evaluation.labels if (m := evaluation.metrics[f"auc_{label}"]).low is not None]
    lowest = min(measured, key=lambda metric: metric.low or 0.0).short if len(measured) == len(rows) else ""
    limit = "lower bound of each above 0.5"
    if len(measured) < len(rows) and all((metric.low or 0.0) > 0.5 for metric in measured):
        return replace(Finding.not_enough_data(said, limit), rows=tuple(rows))
    return Finding(good, said, tuple(rows), value=lowest, limit=limit)


def heatmaps(predictor: Classifier, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """A sheet for each finding: test images with its Grad-CAM, found, overlooked and wrongly found."""
    from derm_ml.explain.sheets import finding_heatmaps
    from derm_ml.model_folder import ModelFolder
    from derm_ml.predictions.classifier import predictions_of

    predictions = predictions_of(predictor, dataset, "test", ModelFolder.holding(folder)).with_fellows(predictor)
    return finding_heatmaps(predictor, predictions, folder)


def pseudo_labels(predictor: Classifier, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """Labels for the unlabelled images by label spreading over the model's embeddings, with confidence and audit."""
    from derm_ml.training.pseudo_labels import propose, write_proposal

    return write_proposal(propose(predictor, dataset), predictor, dataset, folder)


TASK = Task(
    name="retinal_findings",
    title="Findings on retinal photographs",
    labels=FINDINGS,
    recipes={
        "strong": Strong,
        "strong_gpu": StrongGpu,
        "faithful": Faithful,
        "one_vs_normal": OneVsNormal,
        "distilled": Distilled,
        "drawn": Drawn,
    },
    asking=ASKING,
    primary_metric="auc_mean",
    rules=IMAGE_RULES,
    gates=(
        Gate(
            "every_finding_ranks_better_than_chance",
            every_finding_ranks_better_than_chance,
            hazard="answers that say nothing",
        ),
        Gate("probabilities_are_calibrated", probabilities_are_calibrated, False, "a probability that misleads"),
        INPUT_GATE,
        PSEUDO_LABEL_GATE,
        INT8_GATE,
        DISTILLED_GATE,
        *SUBGROUP_GATES,
        faithful_gate("retinal_findings"),
    ),
    artifacts=(
        Artifact("heatmaps", heatmaps),
        Artifact("pseudo_labels", pseudo_labels, after=("embeddings",)),
        *EMBEDDING_ARTIFACTS,
    ),
    settings=RetinalSettings,
)
