"""The checks that models of several tasks share: sentences that are true of a model fit to be promoted.

Such a `Gate` takes an `Evaluation` and returns a `Finding`. Those of a dataset are in `data/rules.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from derm_ml.task import Finding, Gate

if TYPE_CHECKING:
    from derm_ml.evaluation.record import Evaluation

MOST_REFUSED = 0.03  # of a task's own images; the input gate is fitted for a third of it
# on validation; half of what a new champion may lose on the test split (`worse_by` in the tasks' policies)
MOST_LOST_BY_INT8 = 0.01  # of the (mean) AUC
MOST_DICE_LOST_BY_INT8 = 0.005  # of the mean Dice
MOST_LOST_TO_TEACHER = 0.005  # of the (mean) AUC on validation


def pseudo_labels_helped(evaluation: Evaluation) -> Finding:
    """A model that learned from pseudo-labels beats its teacher on the validation split beyond the interval."""
    gain = evaluation.metrics.get("pseudo_label_gain")
    if gain is None:
        return Finding(True, "no pseudo-labels were used")
    if gain.value is None:
        return Finding.not_enough_data(f"the gain in AUC is undefined: {gain.note}", "lower bound above 0")
    passed = gain.low is not None and gain.low > 0
    return Finding(
        passed,
        f"gain in AUC {gain}; {gain.note}",
        figures={"pseudo_label_gain": gain.value},
        value=gain.short,
        limit="lower bound above 0",
    )


def int8_answers_alike(evaluation: Evaluation) -> Finding:
    """A graph of 8-bit integers ranks the validation images next to as well as the float32 graph it was made of."""
    return _alike_within(MOST_LOST_BY_INT8, "AUC", evaluation)


def int8_masks_alike(evaluation: Evaluation) -> Finding:
    """A graph of 8-bit integers outlines the validation images next to as well as the float32 graph it was made of."""
    return _alike_within(MOST_DICE_LOST_BY_INT8, "Dice", evaluation)


def _alike_within(most: float, name: str, evaluation: Evaluation) -> Finding:
    """Passes where the lower bound of the difference in `name` to the float32 graph is at least −`most`."""
    difference = evaluation.metrics.get("int8_difference")
    if difference is None:
        return Finding(True, "the graph computes with float32")
    limit = f"lower bound at least {-most}"
    if difference.value is None:
        why = f"the difference in {name} to the float32 graph is undefined: {difference.note}"
        return Finding.not_enough_data(why, limit)
    passed = difference.low is not None and difference.low >= -most
    return Finding(
        passed,
        f"difference in {name} to the float32 graph {difference}; {difference.note}",
        figures={"int8_difference": difference.value},
        value=difference.short,
        limit=limit,
    )


def judged_elsewhere(evaluation: Evaluation) -> Finding | None:
    """What a check of thresholds or probabilities finds where they were fitted for another place than this one."""
    local = evaluation.metrics.get("local_cases")
    if local is None:
        return None
    return Finding.not_evaluable(
        f"{local.note}, so these images cannot judge them: derm evaluate with --data of the local set does"
    )


def distilled_answers_alike(evaluation: Evaluation) -> Finding:
    """A network that learned a teacher's answers ranks the validation images as well as the teacher.

    Passed where it is shown to lose at most 0.005 of the AUC, failed where it is shown to lose something and not shown
    to lose that little. Between the two the validation images are too few: it says how many it takes and refuses
    nothing, since promotion still compares the model itself with the champion on the test split.
    """
    difference = evaluation.metrics.get("distilled_difference")
    if difference is None:
        return Finding(True, "it learned from labels alone")
    if difference.value is None or difference.low is None or difference.high is None:
        return Finding.not_evaluable(difference.note)
    said = f"difference in AUC to its teacher {difference}; {difference.note}"
    alike, worse = difference.low >= -MOST_LOST_TO_TEACHER, difference.high < 0
    if not alike and not worse:
        reach = (difference.high - difference.low) / 2
        needed = math.ceil(difference.n * (reach / MOST_LOST_TO_TEACHER) ** 2)
        said = (
            f"not checked: {difference.n} validation images tell differences of {reach:.3f} and more, {needed:,} would "
            f"tell {MOST_LOST_TO_TEACHER}; {said}"
        )
    return Finding(
        alike,
        said,
        figures={"distilled_difference": difference.value},
        evaluable=alike or worse,
        value=difference.short,
        limit=f"lower bound at least {-MOST_LOST_TO_TEACHER}",
    )


def ranks_better_than_chance(evaluation: Evaluation) -> Finding:
    """The lower bound of the AUC, of several labels that of their mean, lies above 0.5."""
    name = "auc_mean" if "auc_mean" in evaluation.metrics else f"auc_{evaluation.labels[0]}"
    metric = evaluation.metrics[name]
    if metric.value is None or metric.low is None:
        return Finding.not_enough_data(f"the AUC is undefined: {metric.note}", "lower bound above 0.5")
    return Finding(
        metric.low > 0.5,
        f"AUC {metric}",
        figures={name: metric.value},
        value=metric.short,
        limit="lower bound above 0.5",
    )


def probabilities_are_calibrated(evaluation: Evaluation) -> Finding:
    """The calibration error, averaged over labels that do not exclude each other, is at most 0.10 beyond chance."""
    return calibrated_within(0.10, evaluation)


def calibrated_within(limit: float, evaluation: Evaluation) -> Finding:
    """Fails where the expected calibration error lies above what calibrated probabilities measure on these cases, and
    by more than `limit`: few cases alone give an ECE of 0.08."""
    if elsewhere := judged_elsewhere(evaluation):
        return elsewhere
    error, chance = evaluation.metrics["ece"], evaluation.metrics.get("ece_by_chance")
    if error.value is None:
        return Finding.not_enough_data(f"the calibration error is undefined: {error.note}")
    if chance is None or chance.value is None or chance.high is None:  # evaluated before it was measured
        message = f"ECE {error.value:.3f} (n = {error.n}), limit {limit:.3f}"
        return Finding(
            error.value <= limit, message, figures={"ece": error.value}, value=error.short, limit=f"at most {limit:.2f}"
        )
    beyond = error.value - chance.value
    message = (
        f"ECE {error.value:.3f} (n = {error.n}), {max(beyond, 0):.3f} beyond the {chance.value:.3f} that calibrated "
        f"probabilities measure here by chance (95 % up to {chance.high:.3f}), limit {limit:.3f}"
    )
    figures = {"ece": error.value, "ece_beyond_chance": beyond}
    return Finding(
        beyond <= limit or error.value <= chance.high,
        message,
        figures=figures,
        value=f"{max(beyond, 0):.3f} beyond chance",
        limit=f"at most {limit:.2f} beyond chance",
    )


def real_images_are_answered(evaluation: Evaluation) -> Finding:
    """The input gate refuses no more than 3 % of the images of the split, as far as their number tells."""
    metric = evaluation.metrics.get("false_refusal")
    if metric is not None and (metric.value is None or metric.low is None):
        return Finding.not_enough_data(f"how many images are refused is undefined: {metric.note}")
    if metric is None or metric.value is None or metric.low is None:
        return Finding(False, "the model has no input gate, so it answers about any image: train it again")
    passed = metric.low <= MOST_REFUSED
    message = f"abstains from {metric.note}: {metric}"
    return Finding(
        passed,
        message,
        figures={"false_refusal": metric.value},
        value=f"{metric.value:.1%} refused",
        limit=f"lower bound at most {MOST_REFUSED:.0%}",
    )


INPUT_GATE = Gate(
    "real_images_are_answered", real_images_are_answered, hazard="an answer about any image, or none about real ones"
)
INT8_GATE = Gate("int8_answers_alike", int8_answers_alike, hazard="answers spoilt by coarse arithmetic")
INT8_MASK_GATE = replace(INT8_GATE, check=int8_masks_alike)
DISTILLED_GATE = Gate(
    "distilled_answers_alike", distilled_answers_alike, hazard="a smaller network that knows less than its teacher"
)
PSEUDO_LABEL_GATE = Gate("pseudo_labels_helped", pseudo_labels_helped, hazard="a model that learned its own errors")
