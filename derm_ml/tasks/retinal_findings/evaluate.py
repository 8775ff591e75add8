"""Measures retinal_findings on a frozen split: every finding by itself, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import pandas as pd

from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.classifier import Classifier, Outputs
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.classification import evaluate_classification, recount_classification, repeat_classification
from derm_ml.evaluation.faithful import Explained
from derm_ml.evaluation.further import Further
from derm_ml.evaluation.record import Evaluation
from derm_ml.explain.sheets import finding_sheets
from derm_ml.metrics.metric import Metric
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.classifier import predict_rows, predictions_of
from derm_ml.tasks.retinal_findings.task import TASK


def evaluate(predictor: Classifier, dataset: Dataset, split: str, model_folder: ModelFolder | None) -> Evaluation:
    """AUC, average precision and decisions of each finding, and everything beside it.

    Every picture is asked as the endpoint would be: from its stored bytes, by the Classifier, with the photo of the
    other eye where the split has one. Its heatmaps are asked about without that photo, which they do not show.
    """
    alone = predictions_of(predictor, dataset, split, model_folder)
    explained = Explained.made(predictor, dataset, alone.rows, alone.outputs, in_view=True)
    predictions = alone.with_fellows(predictor)
    measured = evaluate_classification(TASK, predictor, predictions, further=Further(explained=explained))
    few = finding_sheets(predictor, predictions, found=2, missed=1, false=1)  # `derm make … heatmaps` shows more
    heatmaps = {f"heatmaps_{label}": sheet for label, sheet in few.items()}
    said = "In the order of the manifest, beside the heatmap of this finding: found, overlooked, wrongly found."
    return measured.with_figures(heatmaps, dict.fromkeys(heatmaps, said))


def recount(card: BundleCard, predictions: pd.DataFrame, dataset: Dataset, split: str) -> dict[str, Metric]:
    """The metrics of `evaluate` from its saved predictions."""
    return recount_classification(TASK, card, predictions, dataset, split)


def repeat(predictor: Classifier, dataset: Dataset, ids: Sequence[str], split: str) -> pd.DataFrame:
    """Some cases predicted again, each with the photo of the other eye that stood beside it in the split."""
    rows = dataset.split(split).reset_index(drop=True)
    fellows = dataset.fellows(rows)
    place = {name: k for k, name in enumerate(rows["id"])}

    def with_fellows(predictor: Classifier, dataset: Dataset, asked: pd.DataFrame) -> Outputs:
        places = [place[name] for name in asked["id"]]
        beside = [int(fellows[k]) for k in places if fellows[k] >= 0 and fellows[k] not in places]
        together = rows.iloc[[*places, *dict.fromkeys(beside)]]
        of_asked = predictor.with_fellows(predict_rows(predictor, dataset, together), dataset.fellows(together))
        return Outputs(*(getattr(of_asked, f.name)[: len(places)] for f in fields(Outputs)))

    return repeat_classification(predictor, dataset, ids, split, with_fellows, in_view=True)
