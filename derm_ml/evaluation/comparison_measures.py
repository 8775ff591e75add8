"""What can be reckoned again from saved predictions: the metrics a comparison measures on both models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from derm_ml.evaluation.record import Evaluation
from derm_ml.metrics import classification, screening
from derm_ml.metrics.calibration import brier
from derm_ml.metrics.intervals import estimate, ratio, weighted_mean

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.task import Task

RECALLS = (0.90, 0.95, 0.99)  # where specificities are compared: the high-recall end of the ROC curve
PRECISE = (0.99, 0.999)  # where precisions are: the original claims its gain at 99.9 %
LOWEST, HIGHEST = 0.90, 0.99  # "most at the high-recall end": the gain in specificity there less that here
SAME = 1e-6  # a metric reckoned again from saved predictions may differ by this, else it is another metric


@dataclass(frozen=True)
class Measure:
    """A metric that can be reckoned from a table of predictions: `arrays(table, run)` feed `statistic`."""

    name: str
    statistic: Callable[..., np.ndarray]
    own: Callable[[pd.DataFrame, Evaluation], np.ndarray]  # what differs between the models, (N,) or (N, L)
    shared: tuple[np.ndarray, ...] = ()  # what does not: targets
    is_auc: bool = False


def measures_of(evaluations: Sequence[Evaluation], tables: Sequence[pd.DataFrame], task: Task) -> Iterator[Measure]:
    """What all runs have, in the order of the report. `tables` are their predictions of the same cases, lined up."""
    table = tables[0]
    labels = [label for label in evaluations[0].labels if f"p.{label}" in table and f"target.{label}" in table]
    scored = [label for label in labels if f"auc_{label}" in evaluations[0].metrics]
    if len(scored) > 1:
        targets = _columns(table, "target", scored)
        yield Measure("auc_mean", classification.mean_auc, lambda t, _: _columns(t, "p", scored), (targets,))
    for label in scored:
        y = table[f"target.{label}"].to_numpy(np.float64)

        def scores(t: pd.DataFrame, _: Evaluation, label: str = label) -> np.ndarray:
            return t[f"p.{label}"].to_numpy(np.float64)

        yield Measure(f"auc_{label}", classification.auc, scores, (y,), is_auc=True)
        yield Measure(f"average_precision_{label}", classification.precision_area, scores, (y,))
        yield Measure(f"partial_auc_{label}", screening.partial_auc, scores, (y,))
        positives = int((y == 1).sum())
        for recall in (r for r in RECALLS if _has_rank(positives, r)):
            name = f"specificity_{label}_at_recall_{recall:g}_of_the_curve"
            yield Measure(name, screening.specificity_at_recall(recall), scores, (y,))
        for recall in (r for r in PRECISE if _has_rank(positives, r)):
            name = f"precision_{label}_at_recall_{recall:g}_of_the_curve"
            yield Measure(name, screening.precision_at_recall(recall), scores, (y,))
        if _has_rank(positives, HIGHEST):
            name = f"specificity_{label}_at_recall_{HIGHEST:g}_less_that_at_{LOWEST:g}_of_the_curve"
            yield Measure(name, _high_end, scores, (y,))
        yield from _decisions(evaluations, label, y)
    if labels:
        yield Measure("brier", brier, lambda t, _: _columns(t, "p", labels), (_columns(table, "target", labels),))
    yield from _per_case(evaluations, tables)
    for name, (above, below) in task.ratios.items():
        measure = Measure(name, _ratio, lambda t, _, above=above, below=below: sums_of(t, above, below))
        if all(_is(e, name, estimate(_ratio, measure.own(t, e))) for e, t in zip(evaluations, tables, strict=True)):
            yield measure


def _has_rank(positives: int, recall: float) -> bool:
    """Whether one miss is allowed: with fewer than 1 / (1 − recall) positives the recall is that of missing none."""
    return positives >= round(1 / (1 - recall))


def _high_end(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Specificity at the highest recall less that at the lowest: its difference of two models is the difference of
    their gains, above 0 where one helps most at the high-recall end.
    """
    high, low = (screening.specificity_at_recall(r)(scores, targets, weights) for r in (HIGHEST, LOWEST))
    return high - low


def _decisions(evaluations: Sequence[Evaluation], label: str, y: np.ndarray) -> Iterator[Measure]:
    """Recall and specificity at the operating points all runs have, each run at its own threshold."""
    thresholds = [thresholds_of(evaluation, label) for evaluation in evaluations]
    for point in (p for p in thresholds[0] if all(p in own for own in thresholds)):

        def flagged(t: pd.DataFrame, run: Evaluation, point: str = point) -> np.ndarray:
            return t[f"p.{label}"].to_numpy(np.float64) >= thresholds_of(run, label)[point]

        for word, statistic in (
            ("sensitivity", classification.sensitivity),
            ("specificity", classification.specificity),
        ):
            yield Measure(f"{word}_{label}_at_{point}", statistic, flagged, (y,))


def thresholds_of(evaluation: Evaluation, label: str) -> dict[str, float]:
    rows = evaluation.tables.get("operating_points", [])
    return {r["point"]: r["threshold"] for r in rows if r.get("label", label) == label and r["threshold"] is not None}


def _per_case(evaluations: Sequence[Evaluation], tables: Sequence[pd.DataFrame]) -> Iterator[Measure]:
    """Columns named like a metric that hold its value of each case, in every run."""
    for name in evaluations[0].metrics:
        column = name if name in tables[0] else f"case.{name}"
        if all(
            column in t and _is_mean(e, name, t[column].to_numpy()) for e, t in zip(evaluations, tables, strict=True)
        ):
            yield Measure(name, weighted_mean, lambda t, _, column=column: t[column].to_numpy(np.float64))


def sums_of(table: pd.DataFrame, above: Mapping[str, float], below: Mapping[str, float]) -> np.ndarray:
    """(N, 2): what each case adds above and below the line of a ratio; one of unknown truth adds nothing."""
    parts = [sum(factor * table[c].to_numpy(np.float64) for c, factor in part.items()) for part in (above, below)]
    both = np.stack(parts, axis=1)
    return np.where(np.isnan(both).any(axis=1, keepdims=True), 0.0, both)


def _ratio(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return ratio(weights @ sums[:, 0], weights @ sums[:, 1])


def _is(evaluation: Evaluation, metric: str, value: float | None) -> bool:
    found = evaluation.metrics.get(metric)
    if found is None or found.value is None or value is None:
        return False
    return math.isclose(value, found.value, abs_tol=SAME)


def _is_mean(evaluation: Evaluation, metric: str, values: np.ndarray) -> bool:
    if values.dtype.kind not in "fiub":
        return False
    known = values.astype(float)[~np.isnan(values.astype(float))]
    return len(known) > 0 and _is(evaluation, metric, float(known.mean()))


def _columns(table: pd.DataFrame, prefix: str, labels: Sequence[str]) -> np.ndarray:
    return table[[f"{prefix}.{label}" for label in labels]].to_numpy(np.float64)
