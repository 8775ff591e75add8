"""Gates every classifier shares: sentences that are true of a model fit to be promoted.

A gate takes an `Evaluation` and returns a `Finding`. Those of a dataset are in `data/rules.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from derm_ml.task import Finding, Gate

if TYPE_CHECKING:
    from derm_ml.evaluation.record import Evaluation


def pseudo_labels_helped(evaluation: Evaluation) -> Finding:
    """A model that learned from pseudo-labels beats its teacher on the validation split beyond the interval."""
    gain = evaluation.metrics.get("pseudo_label_gain")
    if gain is None:
        return Finding(True, "no pseudo-labels were used")
    passed = gain.low is not None and gain.low > 0
    return Finding(passed, f"gain in AUC {gain}; {gain.note}", figures={"pseudo_label_gain": gain.value or 0.0})


def ranks_better_than_chance(evaluation: Evaluation) -> Finding:
    """The lower bound of the AUC, of several labels that of their mean, lies above 0.5."""
    name = "auc_mean" if "auc_mean" in evaluation.metrics else f"auc_{evaluation.labels[0]}"
    metric = evaluation.metrics[name]
    if metric.value is None or metric.low is None:
        return Finding(False, f"the AUC is undefined: {metric.note}")
    return Finding(metric.low > 0.5, f"AUC {metric}", figures={name: metric.value})


def probabilities_are_calibrated(evaluation: Evaluation) -> Finding:
    """The expected calibration error, averaged over labels that do not exclude each other, is at most 0.10."""
    metric = evaluation.metrics["ece"]
    if metric.value is None:
        return Finding(False, f"the calibration error is undefined: {metric.note}")
    return Finding(metric.value <= 0.10, f"ECE {metric.value:.3f} (n = {metric.n})", figures={"ece": metric.value})


PSEUDO_LABEL_GATE = Gate("pseudo_labels_helped", pseudo_labels_helped, hazard="a model that learned its own errors")
