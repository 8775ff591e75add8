"""Checks of a classifier that the task's policy sets a limit for: shortcuts and subgroups.

Each reads the evaluation and the policy of its task. What cannot be measured is told as such: the check is then neither
passed nor failed, and the decision of a promotion names it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from derm_ml.evaluation.probe_names import (
    ALONE,
    HIDDEN,
    SHORTCUT_SCORE,
    STRESS_TABLE,
    WIDEST_GAP,
    WORST_SUBGROUP,
    worst_label,
)
from derm_ml.promotion.policy import Policy
from derm_ml.task import Finding, Gate

if TYPE_CHECKING:
    from derm_ml.evaluation.record import Evaluation
    from derm_ml.metrics.metric import Metric


def ranks_by_the_lesion(evaluation: Evaluation) -> Finding:
    """With the lesion hidden the model is not shown to keep more than the policy's share of what it can do.

    Shown: the lower end of the score's 95 % interval lies above the limit. Where only the score itself does, there are
    too few images to tell.
    """
    limit, score = Policy.of(evaluation.task).shortcut, evaluation.metrics.get(SHORTCUT_SCORE)
    if score is None:
        return _not_probed(evaluation)
    if score.value is None:
        return _unjudged(score)
    label = worst_label(score)
    hidden = evaluation.metrics[f"auc_{label}_{HIDDEN}"]
    message = (
        f"with the lesion hidden the AUC of {label} is {hidden}; shortcut score {score}, at most {limit:g} is allowed"
    )
    told: dict[str, Any] = {
        "figures": {SHORTCUT_SCORE: score.value},
        "value": score.short,
        "limit": f"at most {limit:g}",
    }
    if score.value <= limit:
        return Finding(True, message, **told)
    if score.low is None or score.low <= limit:
        return replace(Finding.not_evaluable(f"too few images to tell: {message}"), **told)
    message += ": the model reads what surrounds the lesion; `derm audit` looks for it in the data"
    return Finding(False, message, **told)


def keeps_its_rank_without_background(evaluation: Evaluation) -> Finding:
    """With the background removed each label still ranks above chance."""
    if SHORTCUT_SCORE not in evaluation.metrics:
        return _not_probed(evaluation)
    end = f"_{ALONE}"
    found = {name.removesuffix(end): m for name, m in evaluation.metrics.items() if name.endswith(end)}
    judged = {name: metric for name, metric in found.items() if metric.value is not None and metric.low is not None}
    if not judged:
        return Finding.not_evaluable("; ".join(metric.note for metric in found.values()))
    passed = all(metric.low is not None and metric.low > 0.5 for metric in judged.values())
    said = "; ".join(f"{name} {metric}" for name, metric in judged.items())
    lowest = min(judged.values(), key=lambda metric: metric.low or 0.0)
    return Finding(passed, said, value=lowest.short, limit="lower bound above 0.5")


def fails_no_subgroup(evaluation: Evaluation) -> Finding:
    """No subgroup's AUC is shown to lie below the policy's floor: the upper end of none of the 95 % intervals does."""
    floor, worst = Policy.of(evaluation.task).subgroup_floor, evaluation.metrics.get(WORST_SUBGROUP)
    if worst is None:
        return _not_probed(evaluation)
    if floor is None:
        return Finding.not_evaluable("the policy names no floor of subgroups")
    if worst.value is None or worst.high is None:
        return _unjudged(worst)
    message = f"lowest AUC {worst} of {worst.note}; the floor is {floor:g}"
    return Finding(
        worst.high >= floor,
        message,
        figures={WORST_SUBGROUP: worst.value},
        value=worst.short,
        limit=f"upper bound at least {floor:g}",
    )


def serves_subgroups_alike(evaluation: Evaluation) -> Finding:
    """Between no two subgroups of an attribute the AUC is shown to differ by more than the policy says."""
    limit, gap = Policy.of(evaluation.task).subgroup_gap, evaluation.metrics.get(WIDEST_GAP)
    if gap is None:
        return _not_probed(evaluation)
    if limit is None:
        return Finding.not_evaluable("the policy names no gap of subgroups")
    if gap.value is None or gap.low is None:
        return _unjudged(gap)
    message = f"widest gap {gap}: {gap.note}; at most {limit:g} is wanted"
    return Finding(
        gap.low <= limit,
        message,
        figures={WIDEST_GAP: gap.value},
        value=gap.short,
        limit=f"lower bound at most {limit:g}",
    )


def holds_under_stress(evaluation: Evaluation) -> Finding:
    """Hair, ink, a ruler, a dark corner, blur, JPEG, a colour cast, a turn: each costs no more than the policy says."""
    limit, rows = Policy.of(evaluation.task).stress_drop, evaluation.tables.get(STRESS_TABLE)
    if rows is None:
        return _not_probed(evaluation)
    judged = [row for row in rows if row["loss"] is not None]
    if not judged:
        return Finding.not_evaluable("too few images")
    costly = [row for row in judged if row["loss"] > limit and row["low"] > 0]
    worst = max(judged, key=lambda row: row["loss"])
    said = f"{worst['change']} costs most: {worst['loss']:+.3f} ({worst['low']:+.3f} to {worst['high']:+.3f})"
    return Finding(
        not costly,
        f"{said} of AUC, n = {worst['n']}; at most {limit:g} is wanted",
        tuple(costly),
        value=f"{worst['loss']:+.3f}",
        limit=f"at most {limit:g}",
    )


def _unjudged(metric: Metric) -> Finding:
    return Finding.not_evaluable(metric.note.removeprefix("not evaluable: "))


def _not_probed(evaluation: Evaluation) -> Finding:
    return Finding(False, f"this was not measured yet: run `derm evaluate {evaluation.task} MODEL` again")


SUBGROUP_GATES = (
    Gate("fails_no_subgroup", fails_no_subgroup, hazard="wrong advice for one group of patients"),
    Gate(
        "serves_subgroups_alike",
        serves_subgroups_alike,
        blocking=False,
        hazard="worse advice for one group of patients than for another",
    ),
)
PROBE_GATES = (
    Gate(
        "ranks_by_the_lesion",
        ranks_by_the_lesion,
        hazard="decides by a ruler, ink or the camera, and fails where they are absent",
    ),
    Gate(
        "keeps_its_rank_without_background",
        keeps_its_rank_without_background,
        blocking=False,
        hazard="decides by what surrounds the lesion",
    ),
    Gate(
        "holds_under_stress",
        holds_under_stress,
        blocking=False,
        hazard="fails on images that are hairy, inked, blurred or lit otherwise",
    ),
)
