"""What metrics and tables of probes and subgroups are called: read by checks, which load nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derm_ml.metrics.metric import Metric

SHORTCUT_SCORE = "shortcut_score"
HIDDEN, ALONE = "lesion_hidden", "background_removed"
WORST_SUBGROUP, WIDEST_GAP = "auc_worst_subgroup", "auc_widest_gap"
STRESS_TABLE = "stress"
HEAT_IN_LESION, HEAT_BEYOND_AREA = "heat_in_lesion", "heat_beyond_area"
DELETION_GAIN, INSERTION_GAIN, ORDER_GAIN = "deletion_gain", "insertion_gain", "order_gain"
RANDOM_HEAD = "random_head_correlation"
EXPLANATIONS_TABLE = "explanations"


def worst_label(score: Metric) -> str:
    """The label a shortcut score is of."""
    return score.note.split(":")[0]
