"""The tables of a classifier's report, and its predictions as they are saved with it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from derm_ml.evaluation.cases import Cases
from derm_ml.evaluation.classification_metrics import Measured
from derm_ml.evaluation.further import NOTHING_FURTHER, Further
from derm_ml.evaluation.record import Row
from derm_ml.metrics import calibration
from derm_ml.metrics.conformal import coverage_by_subgroup
from derm_ml.metrics.intervals import estimate
from derm_ml.metrics.metric import Metric
from derm_ml.metrics.one_answer import prediction_sets


def predictions_table(cases: Cases, split: str, further: Further = NOTHING_FURTHER) -> pd.DataFrame:
    """One row a case: id, group, split, target.<label>, p.<label>, logit.<label>, what subgroups are made of, and what
    it was asked further."""
    columns: dict[str, object] = {"id": cases.ids, "group": cases.groups, "split": split}
    for prefix, values in (("target", cases.targets), ("p", cases.probabilities), ("logit", cases.logits)):
        columns |= {f"{prefix}.{label}": values[:, k] for k, label in enumerate(cases.labels)}
    columns |= {c: cases.frame[c] for c in cases.frame.columns if c == "source" or c.startswith("attribute.")}
    return pd.DataFrame(columns | further.columns())


def tables(cases: Cases, measured: Measured, mistakes: list[Row]) -> dict[str, list[Row]]:
    """Every table by its name; `mistakes` are the rows of the most confident ones."""
    labels = [_label_row(cases, n, measured.areas[n], measured.precisions[n]) for n in cases.labels]
    tables = {"per_label": labels}
    if measured.points:
        tables["operating_points"] = [point.row() for point in measured.points]
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
    tables["subgroups"] = measured.subgroups
    tables["reliability"] = [
        {"label": label, **row}
        for label in cases.scored
        for row in calibration.reliability_table(cases.p(label), cases.y(label))
    ]
    if cases.card.class_limits and cases.classed.any():
        keep = cases.classed
        sets = prediction_sets(cases.probabilities[keep], np.array(cases.card.class_limits))
        truth, rows = cases.targets[keep].argmax(axis=1), cases.frame.loc[keep].reset_index(drop=True)
        tables["prediction_sets"] = coverage_by_subgroup(rows, sets, truth, cases.groups[keep], cases.labels)
    if cases.card.pseudo_labels:
        tables["pseudo_labels"] = [dict(row) for row in cases.card.pseudo_labels.precision]
    tables["confident_mistakes"] = mistakes
    return tables


def _label_row(cases: Cases, label: str, area: Metric, precision: Metric) -> Row:
    y = cases.y(label)
    return {
        "label": label,
        "n": area.n,
        "positives": int((y == 1).sum()),
        "negatives": int((y == 0).sum()),
        "auc": area.value,
        "auc_low": area.low,
        "auc_high": area.high,
        "average_precision": precision.value,
        "ece": estimate(calibration.ece, cases.p(label), y),
        "brier": estimate(calibration.brier, cases.p(label), y),
        "remark": area.note,
    }
