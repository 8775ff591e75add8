"""What flagged images are worth where the labels are rarer than in the split: `derm evaluate --prevalence`.

evaluation = with_prevalence(evaluation, card, "0.02")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from derm_ml.asking.prevalence import shares_of
from derm_ml.bundles.bundle import BundleCard
from derm_ml.evaluation.record import Evaluation, Row
from derm_ml.metrics.one_answer import precision_at
from derm_ml.metrics.operating_points import measure_point
from derm_ml.metrics.screening import precision_limits, precision_metric

TABLE = "operating_prevalence"
CAPTION = (
    "Positive predictive value (PPV) at the prevalence that was asked for, by Bayes' theorem from sensitivity and "
    "specificity in this split. It assumes that only how often the labels occur differs, not how they look."
)


def with_prevalence(evaluation: Evaluation, card: BundleCard, stated: str) -> Evaluation:
    """The evaluation with the PPV of each operating point at a prevalence (`asking.prevalence.shares_of`).

    Raises `PrevalenceError` for one the model cannot use.
    """
    rows = prevalence_rows(card, evaluation.predictions, shares_of(stated, card))
    return replace(
        evaluation, tables={**evaluation.tables, TABLE: rows}, captions={**evaluation.captions, TABLE: CAPTION}
    )


def prevalence_rows(card: BundleCard, predictions: pd.DataFrame, shares: Mapping[str, float]) -> list[Row]:
    """One row for each operating point of each label with a share; its PPV is None where nothing is flagged."""
    groups, rows = predictions["group"].to_numpy(str), []
    for point in card.operating_points:
        if point.label not in shares:
            continue
        p, y = (predictions[f"{of}.{point.label}"].to_numpy(float) for of in ("p", "target"))
        measured, share = measure_point(point, p, y, groups), shares[point.label]
        found, spared = measured.sensitivity, measured.specificity
        here = float((y == 1).sum() / max(1, (~pd.isna(y)).sum()))
        row: Row = {"label": point.label, "point": point.name, "prevalence": share, "in_this_split": here}
        if found.value is None or spared.value is None:
            rows.append(row | {"ppv": None, "ppv_95": "–", "remark": found.note or spared.note})
            continue
        low, high = precision_limits(found, spared, share, precision_metric(p >= point.threshold, y, groups, share))
        value = precision_at(found.value, spared.value, share)
        rows.append(row | {"ppv": value, "ppv_95": f"{low:.3f} to {high:.3f}", "remark": ""})
    return rows
