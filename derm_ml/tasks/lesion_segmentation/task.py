"""lesion_segmentation: the outline of a lesion on dermoscopy (ISIC 2017 part 1, ISIC 2018 task 1)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from derm_ml.data.rules import MASK_RULES
from derm_ml.evaluation.gates import INPUT_GATE, INT8_MASK_GATE
from derm_ml.task import Finding, Gate, Task
from derm_ml.tasks.lesion_segmentation.asking import ASKING
from derm_ml.tasks.lesion_segmentation.recipes import Drawn, Faithful, Strong, StrongGpu

if TYPE_CHECKING:
    from derm_ml.evaluation.record import Evaluation

DICE_FLOOR = 0.70  # far below two people's agreement: such a network missed the point
MOST_EMPTY = 0.02  # of the pictures that show a lesion


def masks_overlap_the_lesions(evaluation: Evaluation) -> Finding:
    """The lower bound of the mean Dice per image is at least 0.70."""
    metric = evaluation.metrics["dice"]
    if metric.value is None or metric.low is None:
        return Finding.not_enough_data(f"the mean Dice is undefined: {metric.note}")
    message = f"mean Dice {metric.value:.3f} (95 % interval from {metric.low:.3f}, n = {metric.n})"
    return Finding(
        metric.low >= DICE_FLOOR,
        message,
        figures={"dice": metric.value},
        value=metric.short,
        limit=f"lower bound at least {DICE_FLOOR:g}",
    )


def lesions_are_not_missed(evaluation: Evaluation) -> Finding:
    """At most 2 % of the images with a lesion get an empty mask."""
    metric = evaluation.metrics["empty_predictions"]
    if metric.value is None:
        return Finding.not_enough_data(f"the share of empty masks is undefined: {metric.note}")
    message = f"{metric.value:.1%} of {metric.n} lesions got an empty mask"
    return Finding(
        metric.value <= MOST_EMPTY,
        message,
        figures={"empty_predictions": metric.value},
        value=f"{metric.value:.1%}",
        limit=f"at most {MOST_EMPTY:.0%}",
    )


TASK = Task(
    name="lesion_segmentation",
    title="Outline of a lesion",
    labels=("lesion",),
    recipes={"strong": Strong, "strong_gpu": StrongGpu, "faithful": Faithful, "drawn": Drawn},
    asking=ASKING,
    primary_metric="dice",
    rules=MASK_RULES,
    gates=(
        Gate("masks_overlap_the_lesions", masks_overlap_the_lesions, hazard="a lesion measured wrongly"),
        Gate("lesions_are_not_missed", lesions_are_not_missed, hazard="a lesion nobody looks at"),
        INT8_MASK_GATE,
        replace(INPUT_GATE, blocking=False),  # fitted on a dozen validation images it refuses too much
    ),
)
