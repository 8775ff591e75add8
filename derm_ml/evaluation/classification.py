"""Measure a classifier (softmax: one label a case; sigmoid: independent labels) on one frozen split.

In this order: line predictions up with cases → metrics with intervals → tables → figures → Evaluation. Example:

    predictions = predictions_of(classifier, dataset, "test", model_folder)
    evaluate_classification(TASK, classifier, predictions)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.classifier import Classifier, Outputs
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.cases import Cases
from derm_ml.evaluation.classification_figures import CAPTIONS, figures
from derm_ml.evaluation.classification_metrics import measure
from derm_ml.evaluation.classification_tables import predictions_table, tables
from derm_ml.evaluation.faithful import Explained, explained_labels
from derm_ml.evaluation.further import NOTHING_FURTHER, Further
from derm_ml.evaluation.input_gate import QUALITY, gate_columns, gate_metrics
from derm_ml.evaluation.notes import of_local_cases, of_split
from derm_ml.evaluation.probe_names import EXPLANATIONS_TABLE, STRESS_TABLE
from derm_ml.evaluation.probes import Probes, asked_again
from derm_ml.evaluation.record import Evaluation, Row
from derm_ml.evaluation.stress import stress_table
from derm_ml.figures.explanations import explanations_figure
from derm_ml.figures.stress import stress_figure
from derm_ml.metrics import classification
from derm_ml.metrics.metric import Metric
from derm_ml.metrics.operating_points import refuse_fitted_on
from derm_ml.predictions.classifier import Predictions, predict_rows, require_calibrated
from derm_ml.task import Task

PredictRows = Callable[[Classifier, Dataset, pd.DataFrame], Outputs]
MISTAKES = 18  # three rows of pictures: what a person looks through in a minute
CHOSEN, CHOSEN_LOCALLY = "Epoch, temperature and operating points", "Epoch and input gate"  # on the validation split


def evaluate_classification(
    task: Task,
    classifier: Classifier,
    predictions: Predictions,
    scored_labels: Sequence[str] = (),
    decided_at: str = "balanced",
    further: Further = NOTHING_FURTHER,
) -> Evaluation:
    """Everything that is measured of a classifier on the split that `predictions` are of.

    `scored_labels` are those whose AUC counts and is averaged (all if empty); independent labels are decided at the
    operating point `decided_at`. `further` is what else the network was asked. The metrics are those of
    `classification_metrics.measure`.
    Raises `ValueError` if predictions and rows do not match, a prediction is not finite, or an operating point was
    fitted on this test split.
    """
    card, dataset, split = classifier.card, predictions.dataset, predictions.split
    cases = Cases.lined_up(card, predictions.rows, predictions.outputs, scored_labels, _negative(task), decided_at)
    split_hash = dataset.split_hash(split)
    for point in card.operating_points:
        refuse_fitted_on(point, split, split_hash)
    measured, mistakes = measure(cases, further), cases.confident_mistakes(MISTAKES)
    table = predictions_table(cases, split, further).assign(**gate_columns(classifier.fitness(predictions.outputs)))
    others = _tables_further(cases, further)
    return Evaluation.of(
        classifier.bundle,
        dataset,
        split,
        title=task.title,
        metrics=measured.metrics | fitted_elsewhere(card, dataset) | gate_metrics(table),
        predictions=table,
        tables=tables(cases, measured, [row for _, row in mistakes]) | others,
        figures=figures(cases, measured, mistakes, classifier, predictions)
        | {name: _FIGURES[name](rows) for name, rows in others.items()},
        captions=CAPTIONS,
        notes=(
            *of_split(card, split, split_hash, CHOSEN_LOCALLY if card.local_cases else CHOSEN),
            *of_local_cases(card, dataset.md5),
            *_unknown_targets(cases),
            *_of_probes(further.probes),
        ),
    )


def recount_classification(
    task: Task,
    card: BundleCard,
    predictions: pd.DataFrame,
    dataset: Dataset,
    split: str,
    scored_labels: Sequence[str] = (),
    decided_at: str = "balanced",
) -> dict[str, Metric]:
    """The metrics of `evaluate_classification` from its saved predictions; targets and patients are the dataset's.

    Raises `ValueError` if the predictions are of other cases, or a probability is not its logit calibrated.
    """
    frame, outputs = saved_outputs(card, predictions, dataset, split)
    cases = Cases.lined_up(card, frame, outputs, scored_labels, _negative(task), decided_at)
    measured = measure(cases, Further.saved(card, predictions)).metrics
    return measured | fitted_elsewhere(card, dataset) | gate_metrics(predictions)


def fitted_elsewhere(card: BundleCard, dataset: Dataset) -> dict[str, Metric]:
    """How many local cases calibration and operating points were fitted on, where this dataset is not theirs."""
    local = card.local_cases
    if local is None or local.dataset_md5 == dataset.md5:
        return {}
    note = f"probabilities and thresholds were fitted on {local.images} local images"
    return {"local_cases": Metric(float(local.images), None, None, local.images, note)}


def saved_outputs(
    card: BundleCard, predictions: pd.DataFrame, dataset: Dataset, split: str
) -> tuple[pd.DataFrame, Outputs]:
    """(rows of the split, what was predicted of them), both in the order of an evaluation's saved predictions."""
    frame = dataset.split(split).set_index("id", drop=False).loc[predictions["id"]]
    logits, p = (
        predictions[[f"{prefix}.{label}" for label in card.labels]].to_numpy(np.float64) for prefix in ("logit", "p")
    )
    require_calibrated(card, predictions["id"].tolist(), logits, p)
    none = np.zeros((len(p), 0))
    return frame, Outputs(logits, p, none, np.zeros((len(p), len(card.labels), 0, 0)), none)


def repeat_classification(
    classifier: Classifier,
    dataset: Dataset,
    ids: Sequence[str],
    split: str,
    predict: PredictRows = predict_rows,
    probed: bool = False,
    in_view: bool = False,
) -> pd.DataFrame:
    """Some cases predicted again: id, p.<label>, logit.<label>, and what the input gate says.

    `probed`: those that were asked with changed images and of their heatmaps are asked again too; `in_view`: of their
    heatmaps alone, inside a round field of view.

    `predict` where rows are not each asked by itself. Promotion holds an evaluation against it, so the graph runs
    again: kept predictions are not read here.
    """
    rows = dataset.split(split).set_index("id", drop=False)
    asked = rows.loc[list(ids)]
    outputs = predict(classifier, dataset, asked)
    columns: dict[str, object] = {"id": asked["id"].to_numpy()}
    for prefix, values in (("p", outputs.probabilities), ("logit", outputs.logits)):
        columns |= {f"{prefix}.{label}": values[:, k] for k, label in enumerate(classifier.labels)}
    columns |= gate_columns(classifier.fitness(outputs))
    if probed:
        chosen = pd.Series(asked_again(rows), rows.index).loc[asked.index].to_numpy()
        columns |= Probes.made(classifier, dataset, asked, chosen).columns()
    if probed or in_view:
        which = pd.Series(explained_labels(rows, classifier.labels), rows.index).loc[asked.index].to_numpy()
        alone = outputs if predict is predict_rows else predict_rows(classifier, dataset, asked)
        columns |= Explained.made(classifier, dataset, asked, alone, which, in_view).columns()
    return pd.DataFrame(columns).drop(columns=QUALITY, errors="ignore")  # no number


def _negative(task: Task) -> str:
    return "" if task.negative == "none" else task.negative


_FIGURES = {STRESS_TABLE: stress_figure, EXPLANATIONS_TABLE: explanations_figure}  # the figure of each table


def _tables_further(cases: Cases, further: Further) -> dict[str, list[Row]]:
    found = {}
    if further.stress is not None:
        found[STRESS_TABLE] = stress_table(cases, further.stress)
    if further.explained is not None:
        found[EXPLANATIONS_TABLE] = further.explained.table()
    return found


def _of_probes(probes: Probes | None) -> tuple[str, ...]:
    if probes is None:
        return ()
    return (f"Where the lesion is (for the probes and the tone of the skin): {probes.places}.",)


def _unknown_targets(cases: Cases) -> tuple[str, ...]:
    partly = int((~classification.known(cases.targets).all(axis=1)).sum())
    if not partly:
        return ()
    return (f"{partly} of {len(cases)} cases have a target that is not known; it counts neither way.",)
