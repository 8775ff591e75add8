"""Measures malignancy_screening on a frozen split: what a recall costs, and how far the numbers bear it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.classification import (
    evaluate_classification,
    recount_classification,
    repeat_classification,
    saved_outputs,
)
from derm_ml.evaluation.further import Further
from derm_ml.evaluation.record import Evaluation, Row
from derm_ml.figures.screening import decision_curve_figure
from derm_ml.metrics import calibration
from derm_ml.metrics.classification import known, no_ranking
from derm_ml.metrics.intervals import clopper_pearson, estimate
from derm_ml.metrics.metric import Metric, undefined
from derm_ml.metrics.one_answer import precision_at
from derm_ml.metrics.operating_points import MeasuredPoint, measure_point, recall_bound
from derm_ml.metrics.screening import (
    PREVALENCES,
    decision_curve,
    partial_auc_metric,
    precision_limits,
    precision_metric,
)
from derm_ml.metrics.subgroups import subgroup_decisions
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.classifier import predictions_of
from derm_ml.promotion.policy import Policy
from derm_ml.tasks.malignancy_screening.task import TASK

LABEL = TASK.labels[0]
RISKS = np.round(np.r_[np.arange(0.005, 0.1, 0.005), np.arange(0.1, 0.505, 0.02)], 3)  # finer where clinics decide
TABLED_RISKS = (0.01, 0.02, 0.05, 0.10, 0.20, 0.30)
CAPTIONS = {
    "roc": "Band: pointwise 95 % intervals (bootstrap over patients). The partial AUC is the area between the curve "
    "and a recall of 0.8: 0.2 is perfect, 0.02 is chance.",
    "operating_points": "Thresholds were fitted on other images and are measured here. The exact interval is "
    "Clopper-Pearson's over images; the other is the wider of it and the patient bootstrap. The recall is at least "
    "(95 %, one-sided) the lower of two exact bounds: per image, and per patient or lesion (missed if any of its "
    "images is missed). No threshold is set if even perfect validation results could not prove the target sensitivity.",
    "at_prevalence": "Precision is the share of flagged lesions that are malignant; the number needed to biopsy is "
    "its inverse. Values at other prevalences are computed with Bayes' theorem from recall and specificity here. "
    "Found and missed cancers are those among 1000 people examined. The intervals of precision join the patient "
    "bootstrap with what the lower and the upper ends of recall and specificity together give, so that a set without a "
    "false positive does not claim a precision of 1; those of the other columns follow from them.",
    "decision_curve": "Net benefit: true positives minus false positives, weighted by the risk threshold for "
    "biopsy (Vickers & Elkin 2006), at this set's prevalence. The band: at each risk, 95 % of resampled patients. "
    "Where the curve is not above both lines the model is of no use.",
    "decisions_by_subgroup": "Sensitivity and specificity in each subgroup at the operating point named below. "
    "Groups with fewer than 10 positives (sensitivity) or 10 negatives (specificity) are not evaluated.",
    "calibration": "Temperature and bias were fitted with the thresholds.",
    "confusion_matrix": "Row: truth. Column: what was decided. The small figure is the share of the row.",
}


def evaluate(predictor: Classifier, dataset: Dataset, split: str, model_folder: ModelFolder | None) -> Evaluation:
    """What every classifier is measured by, and the tables and curves of a screening test.

    Decisions (confusion matrix, mistakes, subgroups) are those at the operating point of the policy, or at the
    balanced point where the bundle could not claim it.
    """
    card, policy = predictor.card, Policy.of(TASK)
    predictions = predictions_of(predictor, dataset, split, model_folder)
    further = Further.made(predictor, predictions)
    base = evaluate_classification(TASK, predictor, predictions, decided_at=policy.operating_point, further=further)
    rows, outputs = predictions.rows, predictions.outputs
    p, y = outputs.probabilities[:, 0].astype(np.float64), dataset.targets(rows)[:, 0].astype(np.float64)
    groups = rows["group"].to_numpy(str)
    cutoff = card.threshold(LABEL, policy.operating_point)
    points = [measure_point(point, p, y, groups) for point in card.operating_points]
    curve = decision_curve(p, y, groups, [*RISKS.tolist()])
    tables = {
        "operating_points": [*_point_rows(points, p, y, groups), *_unclaimed_rows(card)],
        "at_prevalence": [row for point in points for row in _prevalence_rows(point, p, y, groups)],
        "decisions_by_subgroup": subgroup_decisions(rows.reset_index(drop=True), p >= cutoff, y, groups),
        "calibration": _calibration_rows(card, p, outputs.logits[:, 0], y),
        "decision_curve": [row for row in curve if row["threshold"] in TABLED_RISKS],
    }
    marks = {point.name: point.threshold for point in card.operating_points}
    return replace(
        base,
        metrics=_in_order(base.metrics, policy.operating_point, _partial_area(p, y, groups)),
        tables=tables | {name: rows for name, rows in base.tables.items() if name not in tables},
        figures=base.figures | {"decision_curve": decision_curve_figure(curve, marks)},
        captions=base.captions | CAPTIONS,
        notes=(*base.notes, _decided(card, policy.operating_point, cutoff)),
    )


def recount(card: BundleCard, predictions: pd.DataFrame, dataset: Dataset, split: str) -> dict[str, Metric]:
    """The metrics of `evaluate` from its saved predictions."""
    point = Policy.of(TASK).operating_point
    metrics = recount_classification(TASK, card, predictions, dataset, split, decided_at=point)
    rows, outputs = saved_outputs(card, predictions, dataset, split)
    y = dataset.targets(rows)[:, 0].astype(np.float64)
    return _in_order(metrics, point, _partial_area(outputs.probabilities[:, 0], y, rows["group"].to_numpy(str)))


def repeat(predictor: Classifier, dataset: Dataset, ids: Sequence[str], split: str) -> pd.DataFrame:
    """Some cases predicted again."""
    return repeat_classification(predictor, dataset, ids, split, probed=True)


def _partial_area(p: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Metric:
    keep = known(y)
    flat = no_ranking(p[keep])
    return undefined(int(keep.sum()), flat) if flat else partial_auc_metric(p, y, groups)


def _in_order(metrics: dict[str, Metric], point: str, partial: Metric) -> dict[str, Metric]:
    """The headline of a screening test first: AUC, recall and specificity where the service decides."""
    area = f"auc_{LABEL}"
    first = [area, f"sensitivity_{LABEL}_at_{point}", f"specificity_{LABEL}_at_{point}"]
    headline = {name: metrics[name] for name in first if name in metrics} | {f"partial_auc_{LABEL}": partial}
    return headline | {name: metric for name, metric in metrics.items() if name not in headline}


def _point_rows(points: Sequence[MeasuredPoint], p: np.ndarray, y: np.ndarray, groups: np.ndarray) -> list[Row]:
    rows = []
    for measured in points:
        point, recall = measured.point, measured.sensitivity
        positives = int((y == 1).sum())
        found = int(((p >= point.threshold) & (y == 1)).sum())
        low, high = clopper_pearson(found, positives)
        at_least, patients = recall_bound(p[y == 1] >= point.threshold, groups[y == 1])
        rows.append(
            {
                "point": point.name,
                "threshold": point.threshold,
                "fitted_on": f"{point.split}, {point.positives} positives"
                + ("" if point.recall_at_least is None else f", recall ≥ {point.recall_at_least:.3f}"),
                "positives": positives,
                "missed": positives - found,
                "recall": recall.value,
                "recall_exact_95": f"{low:.4f} to {high:.4f}" if positives else "–",
                "recall_95": _interval(recall),
                "recall_at_least": at_least if positives else None,
                "positive_groups": patients,
                "negatives": measured.specificity.n,
                "specificity": measured.specificity.value,
                "specificity_95": _interval(measured.specificity),
                "flagged": measured.flagged,
                "remark": "",
            }
        )
    return rows


def _unclaimed_rows(card: BundleCard) -> list[Row]:
    """A row without numbers for each recall that cannot be claimed, saying what it would need."""
    blank: dict[str, Any] = dict.fromkeys(
        (
            "threshold",
            "positives",
            "missed",
            "recall",
            "recall_at_least",
            "positive_groups",
            "negatives",
            "specificity",
            "flagged",
        )
    )
    return [
        {"point": point.name, **blank, "fitted_on": "–", "recall_exact_95": "–", "recall_95": "–",
         "specificity_95": "–", "remark": point.reason}
        for point in card.unclaimed_points
    ]  # fmt: skip


def _prevalence_rows(measured: MeasuredPoint, p: np.ndarray, y: np.ndarray, groups: np.ndarray) -> list[Row]:
    recall, spared = measured.sensitivity.value, measured.specificity.value
    if recall is None or spared is None:
        return []
    rows = []
    said = Policy.of(TASK).prevalence
    stated = said if isinstance(said, float) else None
    for prevalence in (None, *([stated] if stated else ()), *(p for p in PREVALENCES if p != stated)):
        share = float((y == 1).mean()) if prevalence is None else prevalence
        resampled = precision_metric(p >= measured.point.threshold, y, groups, prevalence)
        low, high = precision_limits(measured.sensitivity, measured.specificity, share, resampled)
        value = precision_at(recall, spared, share)
        rows.append(
            {
                "point": measured.point.name,
                "prevalence": _named(share, prevalence, stated),
                "precision": value,
                "precision_95": f"{low:.3f} to {high:.3f}",
                "number_needed_to_biopsy": None if not value else round(1 / value, 1),
                "number_needed_95": "–" if not value else f"{1 / high:.1f} to {f'{1 / low:.1f}' if low > 0 else '∞'}",
                "biopsies_per_1000": round(1000 * (share * recall + (1 - share) * (1 - spared)), 1),
                "cancers_found_per_1000": round(1000 * share * recall, 2),
                "missed_cancers_per_1000": round(1000 * share * (1 - recall), 2),
                "missed_95": _missed(measured.sensitivity, share),
                "positives": measured.sensitivity.n,
                "negatives": measured.specificity.n,
            }
        )
    return rows


def _named(share: float, prevalence: float | None, stated: float | None) -> str:
    if prevalence is None:
        return f"{100 * share:.1f} % (this set)"
    return f"{100 * share:g} % (where the model is used)" if prevalence == stated else f"{100 * share:g} %"


def _missed(recall: Metric, share: float) -> str:
    """The interval of the cancers missed among 1000 people, a `share` of whom have one."""
    if recall.low is None or recall.high is None:
        return "–"
    return f"{1000 * share * (1 - recall.high):.2f} to {1000 * share * (1 - recall.low):.2f}"


def _calibration_rows(card: BundleCard, p: np.ndarray, logits: np.ndarray, y: np.ndarray) -> list[Row]:
    before = 1 / (1 + np.exp(-logits.astype(np.float64)))
    bias = card.bias[0] if card.bias else 0.0
    return [
        {
            "probabilities": name,
            "temperature": temperature,
            "bias": shift,
            "ece": estimate(calibration.ece, said, y),
            "brier": estimate(calibration.brier, said, y),
            "mean_probability": float(said.mean()),
            "prevalence": float((y == 1).mean()),
        }
        for name, said, temperature, shift in (("before", before, 1.0, 0.0), ("as served", p, card.temperature, bias))
    ]


def _decided(card: BundleCard, point: str, cutoff: float) -> str:
    short = next((p for p in card.unclaimed_points if p.name == point), None)
    if short:
        return f"{point} could not be fitted ({short.reason}): decisions shown are {_instead(card)}, from {cutoff:.3f}."
    if point not in card.point_names:
        unknown = f"The policy's operating point {point} is unknown to this model"
        return f"{unknown}: decisions shown are {_instead(card)}, from {cutoff:.3f}."
    return f"Decisions (confusion matrix, mistakes, subgroups) are those at {point}: malignant from {cutoff:.3f}."


def _instead(card: BundleCard) -> str:
    return "those at the balanced point" if "balanced" in card.point_names else "the likelier of the two"


def _interval(metric: Metric) -> str:
    return "–" if metric.low is None or metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}"
