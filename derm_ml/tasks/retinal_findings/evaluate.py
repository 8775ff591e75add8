"""Measures retinal_findings on a frozen split: every finding by itself, and their mean."""

from __future__ import annotations

from dataclasses import replace

from derm_ml.dataset import Dataset
from derm_ml.evaluation import Evaluation
from derm_ml.evaluation_classification import evaluate_classification
from derm_ml.explain.findings import finding_sheets, findings_of
from derm_ml.predictor import Predictor
from derm_ml.tasks.retinal_findings.task import TASK


def evaluate(predictor: Predictor, dataset: Dataset, split: str) -> Evaluation:
    """AUC, average precision and decisions of each finding, and everything beside it.

    Every picture is asked as the endpoint would be: from its stored bytes, by the Predictor, with the photo of the
    other eye where the split has one.
    """
    rows = dataset.split(split)
    outputs = findings_of(predictor, dataset, rows)
    measured = evaluate_classification(
        TASK,
        predictor.card,
        predictor.bundle.version,
        dataset.md5,
        rows,
        outputs,
        split,
        image=dataset.image,
        unsquare=predictor.unsquared,
    )
    sheets = finding_sheets(predictor, dataset, rows, outputs)
    heatmaps = {f"heatmaps_{label}": sheet for label, sheet in sheets.items()}
    said = "In the order of the manifest, beside the heatmap of this finding: found, overlooked, wrongly found."
    return replace(
        measured,
        figures={**measured.figures, **heatmaps},
        captions={**measured.captions, **dict.fromkeys(heatmaps, said)},
    )
