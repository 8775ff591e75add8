"""What metrics and tables of probes and subgroups are called: read by checks, which load nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derm_ml.metrics.metric import Metric

SHORTCUT_SCORE = "shortcut_score"
HIDDEN, ALONE = "lesion_hidden", "background_removed"
WORST_SUBGROUP, WIDEST_GAP = "auc_worst_subgroup", "auc_widest_gap"
STRESS_TABLE = "stress"


def worst_label(score: Metric) -> str:
    """The label a shortcut score is of."""
    return score.note.split(":")[0]
