"""Checks of a classifier that the task's policy sets a limit for: shortcuts, subgroups and heatmaps.

Each reads the evaluation and the policy of its task. What cannot be measured is told as such: the check is then neither
passed nor failed, and the decision of a promotion names it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from derm_ml.evaluation.probe_names import (
    ALONE,
    HEAT_BEYOND_AREA,
    HIDDEN,
    ORDER_GAIN,
    RANDOM_HEAD,
    SHORTCUT_SCORE,
    STRESS_TABLE,
    WIDEST_GAP,
    WORST_SUBGROUP,
    worst_label,
)
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.words import signed_interval
from derm_ml.promotion.policy import Policy
from derm_ml.task import Finding, Gate

if TYPE_CHECKING:
    from derm_ml.evaluation.record import Evaluation
    from derm_ml.metrics.metric import Metric

ROUNDED = 0.005  # share of the heat: maps of few cells lie inside a central ellipse to rounding as an even one does
SAME_MAP = 0.5  # rank correlation: Grad-CAM of networks trained here has -0.1 to 0.2, a map that ignores the head has 1


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
    message = f"with the lesion hidden the AUC of {label} is {hidden}; shortcut score {score}, limit {limit:g}"
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
    said = "; ".join(f"{metric_named(name).title} {metric}" for name, metric in judged.items())
    lowest = min(judged.values(), key=lambda metric: metric.low or 0.0)
    return Finding(passed, said, value=lowest.short, limit="lower bound above 0.5")


def fails_no_subgroup(evaluation: Evaluation) -> Finding:
    """No subgroup's AUC is shown to lie below the policy's floor: the upper end of none of the 95 % intervals does."""
    limit = Policy.of(evaluation.task).subgroup_floor
    return _of_subgroups(evaluation, WORST_SUBGROUP, limit, "floor", "lowest AUC {} of {}; the floor is {:g}")


def serves_subgroups_alike(evaluation: Evaluation) -> Finding:
    """Between no two subgroups of an attribute the AUC is shown to differ by more than the policy says."""
    limit = Policy.of(evaluation.task).subgroup_gap
    return _of_subgroups(evaluation, WIDEST_GAP, limit, "gap", "widest gap {}: {}; limit {:g}")


def _of_subgroups(evaluation: Evaluation, name: str, limit: float | None, of: str, said: str) -> Finding:
    """Whether a metric is not shown to lie on the wrong side of its limit: below a `floor`, above a `gap`.

    `said` takes the metric, its note and the limit.
    """
    metric = evaluation.metrics.get(name)
    if metric is None:
        return _not_probed(evaluation)
    if limit is None:
        return Finding.not_evaluable(f"the policy names no {of} of subgroups")
    if metric.value is None or metric.low is None or metric.high is None:
        return _unjudged(metric)
    passed, end = (
        (metric.high >= limit, f"upper bound at least {limit:g}")
        if of == "floor"
        else (metric.low <= limit, f"lower bound at most {limit:g}")
    )
    message = said.format(metric, metric.note, limit)
    return Finding(passed, message, figures={name: metric.value}, value=metric.short, limit=end)


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
    said = f"{worst['change']} costs most: {worst['loss']:+.3f} ({signed_interval(worst['low'], worst['high'])})"
    return Finding(
        not costly,
        f"{said} of AUC, n = {worst['n']}; limit {limit:g}",
        tuple(costly),
        value=f"{worst['loss']:+.3f}",
        limit=f"at most {limit:g}",
    )


def heatmaps_are_faithful(evaluation: Evaluation) -> Finding:
    """Heatmaps show what the model decides by.

    Covering their hottest cells first costs more than covering the coldest first, their heat is not shown to lie
    outside the lesion more than an even map's, where its place is known, and they change when the head of the network
    has random weights. Of findings that do not exclude each other none is shown to fail by itself.
    """
    order, inside, random = (evaluation.metrics.get(name) for name in (ORDER_GAIN, HEAT_BEYOND_AREA, RANDOM_HEAD))
    if order is None or random is None:
        return _not_probed(evaluation)
    if order.value is None:
        return _unjudged(order)
    faults = []
    if order.low is None or order.low <= 0:
        faults.append("their order of the image's cells is not shown to be better than the reverse")
    if inside is not None and inside.high is not None and inside.high < -ROUNDED:
        faults.append("they lie outside the lesion more than an even map would")
    if random.low is not None and random.low > SAME_MAP:
        faults.append("they stay as they are when the weights of the head are random")
    rows, of_findings = _of_each_finding(evaluation)
    faults += of_findings
    place = "" if inside is None else f"heat inside the lesion beyond its area {inside.short}, "
    message = (
        f"order gain {order}, {place}"
        f"rank correlation with random heads {random.short if random.value is not None else random.note}"
    )
    return Finding(
        not faults,
        "; ".join([*faults, message]),
        rows,
        figures={name: m.value for name, m in ((ORDER_GAIN, order), (RANDOM_HEAD, random)) if m.value is not None},
        value=order.short,
        limit="lower bound above 0",
    )


def _of_each_finding(evaluation: Evaluation) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """A row for each finding whose heatmaps were asked about by themselves, and what is shown to be wrong with some.

    A dozen images of a finding rarely show that its order is better than the reverse; that it is worse they can show.
    """
    rows, faults = [], []
    for label in evaluation.labels:
        order, random = (evaluation.metrics.get(f"{name}_{label}") for name in (ORDER_GAIN, RANDOM_HEAD))
        if order is None or random is None:
            continue
        rows.append({"finding": label, "order_gain": str(order), "rank correlation with random heads": str(random)})
        if order.high is not None and order.high < 0:
            faults.append(f"of {label} covering the coldest cells first costs more than the hottest")
        if random.low is not None and random.low > SAME_MAP:
            faults.append(f"of {label} they stay as they are when the weights of the head are random")
    return tuple(rows), faults


def _unjudged(metric: Metric) -> Finding:
    return Finding.not_evaluable(metric.note.removeprefix("not evaluable: "))


def _not_probed(evaluation: Evaluation) -> Finding:
    return Finding.not_enough_data(f"this was not measured yet: run `derm evaluate {evaluation.task} MODEL` again")


SUBGROUP_GATES = (
    Gate("fails_no_subgroup", fails_no_subgroup, hazard="wrong advice for one group of patients"),
    Gate(
        "serves_subgroups_alike",
        serves_subgroups_alike,
        blocking=False,
        hazard="worse advice for one group of patients than for another",
    ),
)
_PROBE_GATES = (
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


def probe_gates(task: str) -> tuple[Gate, ...]:
    """The checks of a classifier of lesions that is asked with changed images; what blocks is as its policy says."""
    return (*_PROBE_GATES, faithful_gate(task))


def faithful_gate(task: str) -> Gate:
    """The check of its heatmaps; whether it blocks is as the task's policy says."""
    return Gate(
        "heatmaps_are_faithful",
        heatmaps_are_faithful,
        blocking=Policy.of(task).unfaithful == "refuses",
        hazard="a person trusts an answer for a heatmap that has nothing to do with it",
    )
