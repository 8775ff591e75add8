"""Sets of classes that hold the right one as often as promised, class by class (Mondrian conformal prediction).

    limits = fit_class_limits(p, truth, patients, error=0.1)     on validation
    sets = prediction_sets(p, limits)                            (N, L) bool: which classes cannot be ruled out

Of new cases of each class at least 1 − error have it in their set, whatever the model is worth: a bad one gives large
sets. This holds on average over validation sets and new cases of the same kind. It holds for no single patient, not
under another camera or population, and not within a sub-group (`coverage_by_subgroup` shows where it does not). Source:
Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World (2005), 4.5.

Example:
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8]])
    >>> limits = fit_class_limits(p, np.array([0, 0, 0, 1]), np.arange(4), error=0.3)
    >>> limits.tolist()  # three of the first class bear an error of 0.3, one of the second bears none
    [0.7, 0.0]
    >>> from derm_ml.metrics.one_answer import prediction_sets
    >>> prediction_sets(np.array([[0.75, 0.25]]), limits).tolist()
    [[True, True]]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from derm_ml.metrics.intervals import clopper_pearson, measured, weighted_mean
from derm_ml.metrics.subgroups import MINIMUM, bands

if TYPE_CHECKING:
    import pandas as pd


def fit_class_limits(
    probabilities: np.ndarray, truth: np.ndarray, groups: Sequence[str] | np.ndarray, error: float
) -> np.ndarray:
    """For each class the least probability (L,) at which it is in a set; 0 where too few patients bear the promise.

    probabilities (N, L) of validation, truth (N,) int, groups (N,) patients. Images of a patient are not exchangeable
    with those of another, so a patient counts once in each class, by the least probable of the images: all images of a
    new patient's class are then held with 1 − error. Raises `ValueError` unless 0 < error < 1.
    """
    if not 0 < error < 1:
        raise ValueError(f"the error of a prediction set lies between 0 and 1, got {error}")
    p, patients = np.asarray(probabilities, np.float64), np.asarray(groups)
    limits = np.zeros(p.shape[1])
    for k in range(p.shape[1]):
        _, member = np.unique(patients[truth == k], return_inverse=True)
        least = np.full(int(member.max()) + 1 if len(member) else 0, np.inf)
        np.minimum.at(least, member, p[truth == k, k])
        allowed = math.floor(error * (len(least) + 1) + 1e-9)  # patients that may lie below the limit, the new one too
        if allowed:
            limits[k] = np.sort(least)[allowed - 1]
    return limits


def coverage_by_subgroup(
    rows: pd.DataFrame,
    sets: np.ndarray,
    truth: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    labels: Sequence[str],
    attributes: Sequence[str] = ("age", "sex", "site", "source"),
) -> list[dict[str, Any]]:
    """One row for all cases, each class and each sub-group: n, the share of sets that hold the right class with its
    interval over patients, and the mean size of a set. Below `MINIMUM` cases it is not evaluable."""
    held, patients = sets[np.arange(len(truth)), truth].astype(np.float64), np.asarray(groups)
    everybody = np.ones(len(truth), bool)
    parts = [("all", "all", everybody), *(("class", label, truth == k) for k, label in enumerate(labels))]
    for attribute in attributes:
        members = bands(rows, attribute)
        if members is not None and members.nunique() > 1:
            parts += [(attribute, name, (members == name).to_numpy()) for name in sorted(members.unique())]
    table = []
    for attribute, name, inside in parts:
        n = int(inside.sum())
        row: dict[str, Any] = {"attribute": attribute, "subgroup": name, "n": n}
        row |= dict.fromkeys(("coverage", "low", "high", "mean_size")) | {"remark": f"not evaluable (n = {n})"}
        if n >= MINIMUM:
            found = measured(weighted_mean, patients[inside], held[inside], why="there are no cases")
            exact = clopper_pearson(int(held[inside].sum()), n)
            low, high = (
                end if side is None else side for side, end in zip((found.low, found.high), exact, strict=True)
            )
            row |= {"coverage": found.value, "low": low, "high": high, "remark": found.note,
                    "mean_size": float(sets[inside].sum(axis=1).mean())}  # fmt: skip
        table.append(row)
    return table
