"""What hair, ink, a ruler, a dark corner, blur, compression, a colour cast or a turn cost a classifier.

    rows = stress_table(cases, stressed(classifier, predictions))

Each is drawn into the same images; the loss is the mean AUC of the scored labels as they are less that of the changed
ones, its interval that of the paired patient bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from derm_ml.bundles.calibration import calibrated
from derm_ml.bundles.classifier import Classifier
from derm_ml.evaluation.cases import Cases
from derm_ml.evaluation.probes import asked_again
from derm_ml.evaluation.record import Row
from derm_ml.images.changes import STRESS, Change
from derm_ml.metrics.classification import known, mean_auc
from derm_ml.metrics.intervals import estimate, paired_difference
from derm_ml.predictions.classifier import Predictions, predict_changed

MOST = 30  # images of each label: eight changes of them cost as much as a test split of some hundred


def stressed(classifier: Classifier, predictions: Predictions) -> dict[str, np.ndarray]:
    """Name of a change, and `none`, → logits (N, L), NaN but for at most `MOST` rows of each label.

    `none`: the same images unchanged, without age and sex as the others. A network that knows neither has said what it
    says of them, and is not asked again.
    """
    dataset, rows = predictions.dataset, predictions.rows
    asked = asked_again(rows, MOST)
    records = rows.loc[asked].to_dict("records")
    found: dict[str, np.ndarray] = {}
    changes: dict[str, Change] = dict(STRESS)
    if classifier.card.attributes:
        changes = {"none": lambda image: image, **changes}
    else:
        found["none"] = np.where(asked[:, None], predictions.outputs.logits, np.nan)
    for name, change in changes.items():
        logits = np.full((len(rows), len(classifier.labels)), np.nan)
        logits[asked] = predict_changed(classifier, (change(dataset.image(row)) for row in records))
        found[name] = logits
    return found


def stress_table(cases: Cases, logits: Mapping[str, np.ndarray]) -> list[Row]:
    """One row a change: AUC before and after, the loss with its paired 95 % interval, n. No rows where none is defined.

    A label of which no positive or no negative was asked is left out of the mean.
    """
    asked = np.isfinite(logits["none"]).all(axis=1)
    columns = [k for k in cases.columns(cases.scored) if _both(cases.targets[asked, k])]
    keep = asked & known(cases.targets[:, columns]).all(axis=1)
    y, groups = cases.targets[keep][:, columns], cases.groups[keep]
    p = {name: calibrated(cases.card, values[keep])[:, columns].astype(np.float64) for name, values in logits.items()}
    if not columns or estimate(mean_auc, p["none"], y) is None:
        return []
    rows: list[Row] = []
    for name in STRESS:
        row: Row = {"change": name, "n": int(keep.sum()), "auc_before": estimate(mean_auc, p["none"], y)}
        row["auc_after"] = estimate(mean_auc, p[name], y)
        try:
            lost = paired_difference(mean_auc, groups, p["none"], p[name], y)
        except ValueError as error:  # too few patients for an interval
            rows.append(row | {"loss": None, "low": None, "high": None, "remark": str(error)})
        else:
            rows.append(row | {"loss": lost.value, "low": lost.low, "high": lost.high, "remark": ""})
    return rows


def _both(targets: np.ndarray) -> bool:
    return bool((targets == 1).any() and (targets == 0).any())
