"""Measure a classifier (softmax: one label a case; sigmoid: independent labels) on one frozen split.

In this order: line predictions up with cases → metrics with intervals → tables → figures → Evaluation. Example:

    outputs = concatenate(predictor.batches((dataset.image(row), dataset.attributes(row)) for row in rows))
    evaluate_classification(TASK, predictor.card, predictor.bundle.version, dataset.md5, frame, outputs, "test")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.calibration import calibrated
from derm_ml.bundles.classifier import Classifier, Outputs, concatenate
from derm_ml.data.dataset import Dataset
from derm_ml.data.splits import split_hash
from derm_ml.evaluation.cases import Cases
from derm_ml.evaluation.record import Evaluation, Row
from derm_ml.explain.overlay import overlay
from derm_ml.figures.charts import co_occurrence_figure, confusion_figure, reliability_figure
from derm_ml.figures.curves import precision_recall_figure, roc_figure, score_histogram
from derm_ml.figures.sheets import contact_sheet, heatmap_sheet
from derm_ml.metrics import calibration, classification
from derm_ml.metrics.intervals import Statistic, estimate, measured, weighted_mean
from derm_ml.metrics.metric import Metric, undefined
from derm_ml.metrics.operating_points import MeasuredPoint, measure_point, refuse_fitted_on
from derm_ml.metrics.subgroups import subgroup_table
from derm_ml.metrics.words import readable
from derm_ml.task import Task

CALIBRATED = 1e-5  # float32 probabilities: calibrating again may round the last digit differently
PredictRows = Callable[[Classifier, Dataset, pd.DataFrame], Outputs]
MISTAKES = 18  # three rows of pictures: what a person looks through in a minute
CAPTIONS = {
    "roc": "Bands hold, at each point, 95 % of resampled patients.",
    "confusion_matrix": "Row: truth. Column: what was predicted. The small figure is the share of the row.",
    "reliability": "On the dotted line a probability means what it says. Bins hold equally many cases; bars are "
    "exact 95 % intervals; the grey marks at the foot show where the predictions lie. Dashed: before calibration.",
    "precision_recall": "The thin horizontal line is the chance level, the share of positives. Bands as above.",
    "score_histogram": "How far apart the probabilities of cases with and without the label lie.",
    "confident_mistakes": "The wrong answers the model was surest of, beside what it looked at. Worth a look: some are "
    "errors of the label.",
    "operating_points": "Thresholds were fitted on validation only and are measured here. Intervals: exact "
    "(Clopper-Pearson) or patient bootstrap, whichever is wider.",
    "subgroups": "AUC in each subgroup. A group with fewer than 10 positives or 10 negatives is not evaluable.",
    "co_occurrence": "Cases that carry both labels; on the diagonal, all that carry the label. Left the truth, right "
    "what was decided. The small figure is the share of the row.",
    "pseudo_labels": "How often the labels given to unlabelled images were right, where the truth is known. Validation "
    "images are hidden from network, PCA and graph. Share in truth: what a blind guess would reach.",
    "per_label": "Each label against the rest.",
}


def evaluate_classification(
    task: Task,
    card: BundleCard,
    version: str,
    dataset_md5: str,
    frame: pd.DataFrame,
    outputs: Outputs,
    split: str,
    scored_labels: Sequence[str] = (),
    image: Callable[[pd.Series], np.ndarray] | None = None,
    unsquare: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    decided_at: str = "balanced",
) -> Evaluation:
    """Everything that is measured of a classifier on the rows of one split.

    `frame` (N rows of the manifest: id, group, target.<label>, attribute.*) in the order of `outputs` (N);
    `scored_labels` are those whose AUC counts and is averaged (all if empty); `image(row)` gives RGB uint8 and adds
    a sheet of the most confident mistakes, with their heatmaps if `unsquare(map, picture)` (`Classifier.unsquared`) is
    given; independent labels are decided at the operating point `decided_at`.
    Metrics: `auc_mean` (of two or more scored labels), `auc_<label>`, `balanced_accuracy`, `accuracy`,
    `average_precision_<label>`, `ece` and `brier` (both also before calibration, `…_uncalibrated`), and for
    each operating point `sensitivity_<label>_at_<point>` and `specificity_<label>_at_<point>`.
    A model that gives every case the same score has undefined ranking metrics that say so.
    Raises `ValueError` if outputs and rows do not match, an output is not finite, or an operating point was fitted
    on this test split.
    """
    negative = "" if task.negative == "none" else task.negative
    cases = Cases.lined_up(card, frame, outputs, scored_labels, negative, decided_at)
    hash_here = split_hash(dict.fromkeys(cases.ids, split), split)
    for point in card.operating_points:
        refuse_fitted_on(point, split, hash_here)
    areas, precisions, points = _by_label(cases)
    return Evaluation(
        task=task.name,
        title=task.title,
        model_version=version,
        recipe_name=card.recipe_name,
        recipe=card.recipe,
        git_commit=card.git_commit,
        dataset_md5=dataset_md5,
        split=split,
        split_hash=hash_here,
        n=len(cases),
        n_patients=len(np.unique(cases.groups)),
        labels=card.labels,
        metrics=_metrics(cases, areas, precisions, points),
        predictions=_predictions(cases, split),
        tables=_tables(cases, areas, precisions, points),
        figures=_figures(cases, areas, precisions, outputs.maps, image, unsquare),
        captions=CAPTIONS,
        notes=_notes(cases, split, hash_here),
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
    cases = Cases.lined_up(
        card, frame, outputs, scored_labels, "" if task.negative == "none" else task.negative, decided_at
    )
    return _metrics(cases, *_by_label(cases))


def saved_outputs(
    card: BundleCard, predictions: pd.DataFrame, dataset: Dataset, split: str
) -> tuple[pd.DataFrame, Outputs]:
    """(rows of the split, what was predicted of them), both in the order of the saved predictions."""
    frame = dataset.split(split).set_index("id", drop=False).loc[predictions["id"]]
    logits, p = (
        predictions[[f"{prefix}.{label}" for label in card.labels]].to_numpy(np.float64) for prefix in ("logit", "p")
    )
    apart = np.abs(calibrated(card, logits.astype(np.float32)) - p).max(axis=1)
    if (apart > CALIBRATED).any():
        raise ValueError(
            f"the probabilities of {predictions['id'].iloc[int(apart.argmax())]} are not its logits, calibrated"
        )
    return frame, Outputs(logits, p, np.zeros((len(p), 0)), np.zeros((len(p), len(card.labels), 0, 0)))


def repeat_classification(
    predictor: Classifier, dataset: Dataset, ids: Sequence[str], split: str, predict: PredictRows | None = None
) -> pd.DataFrame:
    """Some cases predicted again: id, p.<label>, logit.<label>. `predict` where rows are not each asked by itself."""
    rows = dataset.split(split).set_index("id", drop=False)
    asked = rows.loc[list(ids)]
    outputs = (predict or predict_rows)(predictor, dataset, asked)
    columns: dict[str, object] = {"id": asked["id"].to_numpy()}
    for prefix, values in (("p", outputs.probabilities), ("logit", outputs.logits)):
        columns |= {f"{prefix}.{label}": values[:, k] for k, label in enumerate(predictor.labels)}
    return pd.DataFrame(columns)


def predict_rows(predictor: Classifier, dataset: Dataset, rows: pd.DataFrame) -> Outputs:
    """What the predictor says of each row, asked as the endpoint would be: from its stored bytes."""
    return concatenate(predictor.batches((dataset.image(r), dataset.attributes(r)) for _, r in rows.iterrows()))


def _by_label(cases: Cases) -> tuple[dict[str, Metric], dict[str, Metric], list[MeasuredPoint]]:
    """AUC and average precision of each label, and what is measured at each operating point."""
    areas = {label: _ranking(classification.roc_auc, cases, label) for label in cases.labels}
    precisions = {label: _ranking(classification.average_precision, cases, label) for label in cases.labels}
    points = [measure_point(p, cases.p(p.label), cases.y(p.label), cases.groups) for p in cases.card.operating_points]
    return areas, precisions, points


def _metrics(
    cases: Cases, areas: dict[str, Metric], precisions: dict[str, Metric], points: Sequence[MeasuredPoint]
) -> dict[str, Metric]:
    return {
        **_ranking_metrics(cases, areas),
        **(_class_metrics(cases) if cases.exclusive else _label_metrics(cases)),
        **_mean_precision(cases),
        **{f"average_precision_{label}": precisions[label] for label in cases.scored},
        **_calibration_metrics(cases),
        **{f"{name}_{m.point.label}_at_{m.point.name}": metric for m in points for name, metric in m.metrics()},
        **_unclaimed_metrics(cases),
        **_pseudo_label_metrics(cases.card),
    }


def _ranking(measure: Callable[..., Metric], cases: Cases, label: str) -> Metric:
    """A ranking metric of a label; undefined where the model gives too few distinct scores to rank by."""
    p, y = cases.p(label), cases.y(label)
    why = classification.no_ranking(p[classification.known(y)])
    return undefined(len(p), why) if why else measure(p, y, cases.groups)


def _ranking_metrics(cases: Cases, areas: dict[str, Metric]) -> dict[str, Metric]:
    each = {f"auc_{label}": areas[label] for label in cases.scored}
    if len(cases.scored) == 1:
        return each
    columns = cases.columns(cases.scored)
    p, y = cases.probabilities[:, columns], cases.targets[:, columns]
    flat = next((metric.note for metric in each.values() if metric.value is None), "")
    mean = undefined(len(p), flat) if flat else classification.mean_roc_auc(p, y, cases.groups)
    return {"auc_mean": mean, **each}


def _mean_precision(cases: Cases) -> dict[str, Metric]:
    """Average precision averaged over labels that do not exclude each other, as their AUC is."""
    if cases.exclusive or len(cases.scored) == 1:
        return {}
    columns = cases.columns(cases.scored)
    p, y = cases.probabilities[:, columns], cases.targets[:, columns]
    why = "a label has no positives here"
    return {"average_precision_mean": measured(classification.mean_precision_area, cases.groups, p, y, why=why)}


def _pseudo_label_metrics(card: BundleCard) -> dict[str, Metric]:
    """What learning from unlabelled images brought on the validation split, whichever way it went."""
    outcome = card.pseudo_labels
    if outcome is None:
        return {}
    said = "accepted" if outcome.accepted else "not accepted: the interval of the gain reaches 0 or below"
    note = f"on validation, against teacher {outcome.teacher}, with {outcome.images} pseudo-labelled images: {said}"
    return {"pseudo_label_gain": Metric(outcome.gain, outcome.low, outcome.high, outcome.n, note)}


def _class_metrics(cases: Cases) -> dict[str, Metric]:
    """Of the likeliest class, where classes exclude each other."""
    keep = cases.classed
    guess, truth = cases.probabilities[keep].argmax(axis=1), cases.targets[keep].argmax(axis=1)
    statistics: dict[str, Statistic] = {
        "balanced_accuracy": classification.balanced_accuracy,
        "accuracy": classification.accuracy,
    }
    why = "no case has exactly one known class"
    return {name: measured(s, cases.groups[keep], guess, truth, why=why) for name, s in statistics.items()}


def _label_metrics(cases: Cases) -> dict[str, Metric]:
    """Of the decision on each label, where labels are independent; `accuracy` averages over a case's known labels."""
    keep = classification.known(cases.targets).any(axis=1)
    y, groups = cases.targets[keep], cases.groups[keep]
    flagged = cases.probabilities[keep] >= cases.cutoffs
    there = classification.known(y)
    right = ((flagged == (y == 1)) & there).sum(axis=1) / there.sum(axis=1)
    halves = classification.mean_of_sensitivity_and_specificity
    return {
        "balanced_accuracy": measured(halves, groups, flagged, y, why="a label has no positives or no negatives here"),
        "accuracy": measured(weighted_mean, groups, right, why="no target is known"),
    }


def _calibration_metrics(cases: Cases) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    known = classification.known(cases.targets).any(axis=1)
    y, groups = cases.targets[known], cases.groups[known]
    for suffix, probabilities in (("", cases.probabilities), ("_uncalibrated", cases.uncalibrated)):
        p = probabilities[known]
        if cases.exclusive:
            keep = cases.classed
            sure, right = calibration.confidence(probabilities[keep], cases.targets[keep])
            why = "no case has exactly one known class"
            error = measured(calibration.ece, cases.groups[keep], sure, right, why=why)
        else:
            error = measured(calibration.mean_ece, groups, p, y, why="a label is unknown in all cases")
        found[f"ece{suffix}"] = error
        found[f"brier{suffix}"] = measured(calibration.brier, groups, p, y, why="no target is known")
    return found


def _unclaimed_metrics(cases: Cases) -> dict[str, Metric]:
    """Operating points that were asked for and have no threshold: undefined, with the reason."""
    return {
        f"{name}_{point.label}_at_{point.name}": undefined(
            int((cases.y(point.label) == value).sum()), f"{point.name} was not fitted: {point.reason} in validation"
        )
        for point in cases.card.unclaimed_points
        for name, value in (("sensitivity", 1), ("specificity", 0))
    }


def _predictions(cases: Cases, split: str) -> pd.DataFrame:
    columns: dict[str, object] = {"id": cases.ids, "group": cases.groups, "split": split}
    for prefix, values in (("target", cases.targets), ("p", cases.probabilities), ("logit", cases.logits)):
        columns |= {f"{prefix}.{label}": values[:, k] for k, label in enumerate(cases.labels)}
    columns |= {c: cases.frame[c] for c in cases.frame.columns if c == "source" or c.startswith("attribute.")}
    return pd.DataFrame(columns)


def _tables(
    cases: Cases, areas: dict[str, Metric], precisions: dict[str, Metric], points: Sequence[MeasuredPoint]
) -> dict[str, list[Row]]:
    tables = {"per_label": [_label_row(cases, label, areas[label], precisions[label]) for label in cases.labels]}
    if points:
        tables["operating_points"] = [point.row() for point in points]
    if (confusion := cases.confusion()) is not None:
        names, counts = confusion
        tables["confusion_matrix"] = [
            {"truth": name, **dict(zip(names, row.tolist(), strict=True))}
            for name, row in zip(names, counts, strict=True)
        ]
    if (together := cases.co_occurrence()) is not None:
        tables["co_occurrence"] = [
            {"label": label, **dict(zip(cases.labels, row.tolist(), strict=True))}
            for label, row in zip(cases.labels, together[0], strict=True)
        ]
    tables["subgroups"] = [
        {"label": label, **row}
        for label in cases.scored
        for row in subgroup_table(cases.frame, cases.p(label), cases.y(label), cases.groups)
    ]
    tables["reliability"] = [
        {"label": label, **row}
        for label in cases.scored
        for row in calibration.reliability_table(cases.p(label), cases.y(label))
    ]
    if cases.card.pseudo_labels:
        tables["pseudo_labels"] = [dict(row) for row in cases.card.pseudo_labels.precision]
    tables["confident_mistakes"] = [row for _, row in cases.confident_mistakes(MISTAKES)]
    return tables


def _label_row(cases: Cases, label: str, area: Metric, precision: Metric) -> Row:
    y = cases.y(label)
    positives = int((y == 1).sum())
    return {
        "label": label,
        "n": area.n,
        "positives": positives,
        "negatives": area.n - positives,
        "auc": area.value,
        "auc_low": area.low,
        "auc_high": area.high,
        "average_precision": precision.value,
        "ece": estimate(calibration.ece, cases.p(label), y),
        "brier": estimate(calibration.brier, cases.p(label), y),
        "remark": area.note,
    }


def _figures(
    cases: Cases,
    areas: dict[str, Metric],
    precisions: dict[str, Metric],
    maps: np.ndarray,
    image: Callable[[pd.Series], np.ndarray] | None,
    unsquare: Callable[[np.ndarray, np.ndarray], np.ndarray] | None,
) -> dict[str, bytes]:
    columns = cases.columns(cases.scored)
    p, y = cases.probabilities[:, columns], cases.targets[:, columns]
    figures = {"roc": roc_figure(p, y, cases.scored, cases.groups, areas)}
    if (confusion := cases.confusion()) is not None:
        figures["confusion_matrix"] = confusion_figure(confusion[1], confusion[0])
    if (together := cases.co_occurrence()) is not None:
        figures["co_occurrence"] = co_occurrence_figure(*together, cases.labels)
    figures["precision_recall"] = precision_recall_figure(p, y, cases.scored, precisions, cases.groups)
    figures["reliability"] = reliability_figure(p, y, cases.scored, cases.uncalibrated[:, columns])
    thresholds: dict[str, dict[str, float]] = {}
    for point in cases.card.operating_points:
        thresholds.setdefault(point.label, {})[point.name] = point.threshold
    figures["score_histogram"] = score_histogram(p, y, cases.scored, thresholds)
    if image and (mistakes := cases.confident_mistakes(MISTAKES)):
        figures["confident_mistakes"] = _gallery(cases, mistakes, maps, image, unsquare)
    return figures


def _gallery(
    cases: Cases,
    mistakes: Sequence[tuple[int, Row]],
    maps: np.ndarray,
    image: Callable[[pd.Series], np.ndarray],
    unsquare: Callable[[np.ndarray, np.ndarray], np.ndarray] | None,
) -> bytes:
    """The pictures of the mistakes, beside the heatmap of the label that was said or missed if it can be laid over."""
    captions = [
        f"{row['id']}\nsaid {readable(row['predicted'])} {row['probability']:.2f}\nis {readable(row['truth'])}"
        for _, row in mistakes
    ]
    pictures = [image(cases.frame.iloc[i]) for i, _ in mistakes]
    if unsquare is None:
        return contact_sheet(pictures, captions, columns=6)
    pairs = []
    for picture, (i, row) in zip(pictures, mistakes, strict=True):
        label = next(name for name in (row["predicted"], row["truth"]) if name in cases.labels)
        cam = maps[i, cases.labels.index(label)]
        pairs.append((picture, overlay(picture, unsquare(cam, picture))))
    return heatmap_sheet(pairs, captions, columns=3)


def _notes(cases: Cases, split: str, hash_here: str) -> tuple[str, ...]:
    notes = []
    if split == "validation":
        notes.append("Epoch, temperature and operating points were chosen on this split: its figures flatter.")
    if split == "train":
        notes.append("The network was fitted to these cases: the figures say nothing about new ones.")
    expected = cases.card.split_hashes.get(split)
    if expected != hash_here:
        notes.append(
            f"This is not the {split} split the model was kept apart from ({expected or 'none is named'}): "
            "images of it may have been seen in training."
        )
    partly = int((~classification.known(cases.targets).all(axis=1)).sum())
    if partly:
        notes.append(f"{partly} of {len(cases)} cases have a target that is not known; it counts neither way.")
    return tuple(notes)
