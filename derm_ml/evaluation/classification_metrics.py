"""The metrics of a classifier: ranking, decisions, calibration and operating points, each with its interval.

measured = measure(cases)
measured.metrics["auc_mean"], measured.areas["melanoma"]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from derm_ml.bundles.bundle import BundleCard
from derm_ml.evaluation.cases import Cases
from derm_ml.evaluation.faithful import faithful_metrics
from derm_ml.evaluation.further import NOTHING_FURTHER, Further
from derm_ml.evaluation.probe_names import WIDEST_GAP, WORST_SUBGROUP
from derm_ml.evaluation.probes import Probes, probe_metrics
from derm_ml.evaluation.quantisation import int8_metrics
from derm_ml.evaluation.record import Row
from derm_ml.metrics import calibration, classification
from derm_ml.metrics.intervals import measured, weighted_mean
from derm_ml.metrics.metric import Metric, undefined
from derm_ml.metrics.operating_points import MeasuredPoint, measure_point
from derm_ml.metrics.subgroups import SKIN_TONE, subgroup_table, widest_gap, worst_subgroup
from derm_ml.metrics.words import no_threshold


@dataclass(frozen=True)
class Measured:
    """All `metrics` in the order of the report, and what tables and figures show of every label, scored or not: AUC
    (`areas`), average precision (`precisions`), each operating point (`points`), and the AUC of each scored label in
    each subgroup (`subgroups`)."""

    metrics: dict[str, Metric]
    areas: dict[str, Metric]
    precisions: dict[str, Metric]
    points: list[MeasuredPoint]
    subgroups: list[Row]


def measure(cases: Cases, further: Further = NOTHING_FURTHER) -> Measured:
    """Every metric of these cases.

    `auc_mean` (of two or more scored labels), `auc_<label>`, `balanced_accuracy`, `accuracy`,
    `average_precision_<label>`, `ece` and `brier` (both also before calibration, `…_uncalibrated`), `ece_by_chance`
    (what calibrated probabilities measure on these cases), and for each operating point
    `sensitivity_<label>_at_<point>` and `specificity_<label>_at_<point>`; `auc_worst_subgroup` and `auc_widest_gap`
    between subgroups; where it was asked `further`, those of `probe_metrics` and `faithful_metrics`.
    A model that gives every case the same score has undefined ranking metrics that say so.
    """
    areas = {label: _ranking(classification.roc_auc, cases, label) for label in cases.labels}
    precisions = {label: _ranking(classification.average_precision, cases, label) for label in cases.labels}
    points = [measure_point(p, cases.p(p.label), cases.y(p.label), cases.groups) for p in cases.card.operating_points]
    probes = further.probes
    subgroups = _subgroups(cases, probes)
    metrics = {
        **_ranking_metrics(cases, areas),
        **(_class_metrics(cases) if cases.exclusive else _label_metrics(cases)),
        **_mean_precision(cases),
        **{f"average_precision_{label}": precisions[label] for label in cases.scored},
        **_calibration_metrics(cases),
        **{f"{name}_{m.point.label}_at_{m.point.name}": metric for m in points for name, metric in m.metrics()},
        **_unclaimed_metrics(cases),
        **_pseudo_label_metrics(cases.card),
        **int8_metrics(cases.card),
        **_distilled_metrics(cases.card),
        WORST_SUBGROUP: worst_subgroup(subgroups),
        WIDEST_GAP: _widest_gap(cases, probes),
        **probe_metrics(cases, probes),
        **faithful_metrics(cases, further.explained),
    }
    return Measured(metrics, areas, precisions, points, subgroups)


def _with_tone(cases: Cases, probes: Probes | None) -> pd.DataFrame:
    return cases.frame if probes is None else cases.frame.assign(**{SKIN_TONE: probes.tone})


def _subgroups(cases: Cases, probes: Probes | None) -> list[Row]:
    frame = _with_tone(cases, probes)
    return [
        {"label": label, **row}
        for label in cases.scored
        for row in subgroup_table(frame, cases.p(label), cases.y(label), cases.groups)
    ]


def _widest_gap(cases: Cases, probes: Probes | None) -> Metric:
    """Of all scored labels the one with the widest gap."""
    frame = _with_tone(cases, probes)
    gaps = {label: widest_gap(frame, cases.p(label), cases.y(label), cases.groups) for label in cases.scored}
    label = max(gaps, key=lambda name: gaps[name].value or 0.0)
    return gaps[label] if gaps[label].value is None else replace(gaps[label], note=f"{label} {gaps[label].note}")


def _ranking(measure: Callable[..., Metric], cases: Cases, label: str) -> Metric:
    """A ranking metric of a label; undefined where the model gives too few distinct scores to rank by."""
    p, y = cases.p(label), cases.y(label)
    keep = classification.known(y)
    why = classification.no_ranking(p[keep])
    return undefined(int(keep.sum()), why) if why else measure(p, y, cases.groups)


def _ranking_metrics(cases: Cases, areas: dict[str, Metric]) -> dict[str, Metric]:
    each = {f"auc_{label}": areas[label] for label in cases.scored}
    if len(cases.scored) == 1:
        return each
    columns = cases.columns(cases.scored)
    p, y = cases.probabilities[:, columns], cases.targets[:, columns]
    flat = next((metric.note for metric in each.values() if metric.value is None), "")
    n = int(classification.known(y).any(axis=1).sum())
    mean = undefined(n, flat) if flat else classification.mean_roc_auc(p, y, cases.groups)
    return {"auc_mean": mean, **each}


def _mean_precision(cases: Cases) -> dict[str, Metric]:
    """Average precision averaged over labels that do not exclude each other, as their AUC is."""
    if cases.exclusive or len(cases.scored) == 1:
        return {}
    columns = cases.columns(cases.scored)
    p, y = cases.probabilities[:, columns], cases.targets[:, columns]
    why, mean_area = "a label has no positives here", classification.mean_precision_area
    fewest = classification.patients_of_the_rarer(y, cases.groups)
    return {"average_precision_mean": measured(mean_area, cases.groups, p, y, why=why, rests_on=fewest)}


def _pseudo_label_metrics(card: BundleCard) -> dict[str, Metric]:
    """What learning from unlabelled images brought on the validation split, whichever way it went."""
    outcome = card.pseudo_labels
    if outcome is None:
        return {}
    said = "accepted" if outcome.accepted else "not accepted: the interval of the gain reaches 0 or below"
    note = f"on validation, against teacher {outcome.teacher}, with {outcome.images} pseudo-labelled images: {said}"
    return {"pseudo_label_gain": Metric(outcome.gain, outcome.low, outcome.high, outcome.n, note)}


def _distilled_metrics(card: BundleCard) -> dict[str, Metric]:
    """What one network lost against its teacher on the validation split."""
    made = card.distilled
    if made is None:
        return {}
    passes = f"{made.passes} passes an image" if made.passes > 1 else "one pass an image"
    note = (
        f"on validation, against its teacher {made.teacher} (version {made.version}, {passes}), whose answers about "
        f"{made.images} images it learned, {made.unlabelled} of them without a label"
    )
    return {"distilled_difference": Metric(made.difference, made.low, made.high, made.n, note)}


def _class_metrics(cases: Cases) -> dict[str, Metric]:
    """Of the likeliest class, where classes exclude each other."""
    keep = cases.classed
    guess, truth = cases.probabilities[keep].argmax(axis=1), cases.targets[keep].argmax(axis=1)
    why, groups = "no case has exactly one known class", cases.groups[keep]
    fewest = classification.patients_of_the_rarest(truth, groups)
    return {
        "balanced_accuracy": measured(classification.balanced_accuracy, groups, guess, truth, why=why, rests_on=fewest),
        "accuracy": measured(classification.accuracy, groups, guess, truth, why=why),
    }


def _label_metrics(cases: Cases) -> dict[str, Metric]:
    """Of the decision on each label, where labels are independent; `accuracy` averages over a case's known labels."""
    keep = classification.known(cases.targets).any(axis=1)
    y, groups = cases.targets[keep], cases.groups[keep]
    flagged = cases.probabilities[keep] >= cases.cutoffs
    there = classification.known(y)
    right = ((flagged == (y == 1)) & there).sum(axis=1) / there.sum(axis=1)
    halves, fewest = classification.mean_of_sensitivity_and_specificity, classification.patients_of_the_rarer(y, groups)
    return {
        "balanced_accuracy": measured(
            halves, groups, flagged, y, why="a label has no positives or no negatives here", rests_on=fewest
        ),
        "accuracy": measured(weighted_mean, groups, right, why="no target is known"),
    }


def _calibration_metrics(cases: Cases) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    known = classification.known(cases.targets).any(axis=1)
    y, groups = cases.targets[known], cases.groups[known]
    for suffix, probabilities in (("", cases.probabilities), ("_uncalibrated", cases.uncalibrated)):
        p = probabilities[known]
        if cases.exclusive:
            keep = cases.classed
            sure, right = calibration.confidence(probabilities[keep], cases.targets[keep])
            why = "no case has exactly one known class"
            error = measured(calibration.ece, cases.groups[keep], sure, right, why=why)
            asked = sure, right, cases.groups[keep]
        else:
            error = measured(calibration.mean_ece, groups, p, y, why="a label is unknown in all cases")
            asked = p, y, groups
        found[f"ece{suffix}"] = error
        if not suffix:
            found["ece_by_chance"] = calibration.chance_metric(*asked)
        found[f"brier{suffix}"] = measured(calibration.brier, groups, p, y, why="no target is known")
    return found


def _unclaimed_metrics(cases: Cases) -> dict[str, Metric]:
    """Operating points that were asked for and have no threshold: undefined, with the reason."""
    return {
        f"{name}_{point.label}_at_{point.name}": undefined(
            int((cases.y(point.label) == value).sum()), f"{no_threshold(point.name)}: {point.reason}"
        )
        for point in cases.card.unclaimed_points
        for name, value in (("sensitivity", 1), ("specificity", 0))
    }
