"""The same metric in every subgroup: age band, sex, source, site, device, tone of skin. A group too small to judge is
shown as such.

Example:
    >>> rows = pd.DataFrame({"sex": ["female", "male"] * 20, "patient": range(40)})
    >>> scores, targets = np.linspace(0, 1, 40), np.arange(40) >= 20
    >>> [(row["subgroup"], row["n"]) for row in subgroup_table(rows, scores, targets, rows["patient"], ["sex"])]
    [('female', 20), ('male', 20)]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from derm_ml.metrics.classification import auc, known, patients_of_the_rarer
from derm_ml.metrics.intervals import Statistic, estimate, measured
from derm_ml.metrics.metric import Metric, not_evaluable, undefined
from derm_ml.metrics.operating_points import proportion

MINIMUM = 10  # positives and negatives each: with fewer the interval of an AUC spans almost everything
AGE_BANDS = ((0, 30), (30, 50), (50, 70), (70, 200))
MOST = 12  # sub-groups named of one attribute, the rest is pooled: free text (sites) would flood the report
UNKNOWN = "unknown"
# columns of the skin's tone: as a person read it, and as an angle in degrees estimated from the image (ITA)
READ_TONES, SKIN_TONE, ESTIMATED = ("fitzpatrick", "monk"), "skin.ita", "skin tone, estimated"
_TONES = (-90, -30, 10, 28, 41, 55, 90)  # Chardon et al. 1991, doi:10.1111/j.1467-2494.1991.tb00561.x
_TONE_NAMES = ("dark", "brown", "tan", "intermediate", "light", "very light")
ATTRIBUTES = ("age", "sex", "eye", "site", "source", "device", *READ_TONES, ESTIMATED)


def subgroup_table(
    rows: pd.DataFrame,
    scores: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    attributes: Sequence[str] = ATTRIBUTES,
    statistic: Statistic = auc,
) -> list[dict[str, Any]]:
    """One row a subgroup: attribute, subgroup, n, positives, negatives, value, low, high, remark.

    `rows` (N) holds `attribute.<name>` or `<name>` columns, and `skin.ita` where the tone of the skin was estimated,
    which counts where nobody read it; scores, targets, groups (N,). Attributes the data do
    not have, or that have one value only, are left out; cases with an unknown value are a subgroup of their own. Of
    more than `MOST` values the rarest are pooled as "other (k values)": no case is left out.
    """
    table = []
    for attribute, name, inside in _subgroups(rows, attributes, targets):
        metric = subgroup_metric(scores[inside], targets[inside], np.asarray(groups)[inside], statistic)
        positives = int((targets[inside] == 1).sum())
        table.append(
            {
                "attribute": attribute,
                "subgroup": name,
                "n": metric.n,
                "positives": positives,
                "negatives": metric.n - positives,
                "value": metric.value,
                "low": metric.low,
                "high": metric.high,
                "remark": metric.note,
            }
        )
    return table


def subgroup_decisions(
    rows: pd.DataFrame,
    flagged: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    attributes: Sequence[str] = ("age", "sex", "site", "diagnosis", "source"),
) -> list[dict[str, Any]]:
    """Recall and specificity of decisions flagged (N,) bool in every subgroup, each with its n and interval.

    Unlike an AUC this can be said of one diagnosis too, of which all cases are malignant or none is. Below `MINIMUM`
    positives the recall is not evaluable, below `MINIMUM` negatives the specificity.
    """
    table = []
    for attribute, name, inside in _subgroups(rows, attributes, targets):
        row: dict[str, Any] = {"attribute": attribute, "subgroup": name}
        for word, count, which in (("recall", "positives", 1), ("specificity", "negatives", 0)):
            n = int((targets[inside] == which).sum())
            metric = (
                proportion(flagged[inside], targets[inside], np.asarray(groups)[inside], which)
                if n >= MINIMUM
                else not_evaluable(n)
            )
            interval = "" if metric.low is None or metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}"
            row |= {count: n, word: metric.note if metric.value is None else f"{metric.value:.3f}"}
            row |= {f"{word}_95": interval}
        table.append(row)
    return table


def worst_subgroup(table: Sequence[Mapping[str, Any]]) -> Metric:
    """The lowest evaluable value of a `subgroup_table` (whose rows may name a `label`), the note naming the group.

    Undefined where no group is evaluable.
    """
    judged = [row for row in table if row["value"] is not None]
    if not judged:
        return undefined(0, "not evaluable: " + ("every subgroup is too small" if table else "no subgroup is known"))
    worst = min(judged, key=lambda row: row["value"])
    named = " ".join(str(worst[name]) for name in ("label", "attribute", "subgroup") if name in worst)
    note = f"{named}; {len(table) - len(judged)} of {len(table)} subgroups are not evaluable"
    return Metric(worst["value"], worst["low"], worst["high"], worst["n"], note)


def widest_gap(
    rows: pd.DataFrame,
    scores: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    attributes: Sequence[str] = ATTRIBUTES,
) -> Metric:
    """The largest difference in AUC between the best and the worst evaluable subgroup of one attribute.

    The same resampled patients give both. The largest of several differences lies above 0 by chance too.
    """
    by_attribute: dict[str, list[tuple[float, str, np.ndarray]]] = {}
    for attribute, name, inside in _subgroups(rows, attributes, targets):
        n, positives = int(inside.sum()), int((targets[inside] == 1).sum())
        value = estimate(auc, scores[inside], targets[inside]) if min(positives, n - positives) >= MINIMUM else None
        if value is not None:
            by_attribute.setdefault(attribute, []).append((value, name, inside))
    pairs = [
        (attribute, max(found, key=_value_of), min(found, key=_value_of))
        for attribute, found in by_attribute.items()
        if len(found) > 1
    ]
    if not pairs:
        return undefined(0, "not evaluable: no attribute has two subgroups that are large enough")
    attribute, best, worst = max(pairs, key=lambda pair: pair[1][0] - pair[2][0])
    why = "a subgroup lacks positives or negatives"
    found = measured(_gap, groups, scores, targets, best[2], worst[2], why=why, limits=(-1, 1))
    return replace(found, n=int((best[2] | worst[2]).sum()), note=f"{attribute} {best[1]} against {worst[1]}")


def _value_of(group: tuple[float, str, np.ndarray]) -> float:
    return group[0]


def _gap(
    scores: np.ndarray, targets: np.ndarray, best: np.ndarray, worst: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    one, other = (auc(scores[inside], targets[inside], weights[:, inside]) for inside in (best, worst))
    return one - other


def subgroup_metric(scores: np.ndarray, targets: np.ndarray, groups: np.ndarray, statistic: Statistic = auc) -> Metric:
    """The metric of one subgroup, or `not evaluable (n = …)` below `MINIMUM` positives or negatives."""
    n, positives = len(targets), int((targets == 1).sum())
    if min(positives, n - positives) < MINIMUM:
        return not_evaluable(n)
    fewest = patients_of_the_rarer(targets, groups)
    return measured(statistic, groups, scores, targets, why=f"not evaluable (n = {n})", rests_on=fewest)


def bands(rows: pd.DataFrame, attribute: str) -> pd.Series | None:
    """The subgroup (N,) str of each row: age in bands of years, the rest as it is, `unknown` where missing."""
    if attribute == ESTIMATED:
        return _tones(rows)
    column = next((c for c in (f"attribute.{attribute}", attribute) if c in rows), None)
    if column is None:
        return None
    values = pd.Series(rows[column])
    if attribute == "age":
        names = [_band(low, high) for low, high in AGE_BANDS]
        edges = [low for low, _ in AGE_BANDS] + [AGE_BANDS[-1][1]]
        values = pd.Series(pd.cut(values.astype(np.float64), edges, right=False, labels=names), dtype=object)
    return values.where(values.notna() & (values.astype(str) != ""), UNKNOWN).astype(str)


def _tones(rows: pd.DataFrame) -> pd.Series | None:
    """The tone estimated of each image; None where a person read them, or nobody estimated."""
    read = [f"attribute.{name}" for name in READ_TONES if f"attribute.{name}" in rows]
    if SKIN_TONE not in rows or any((rows[c].notna() & (rows[c].astype(str) != "")).any() for c in read):
        return None
    tones = pd.Series(pd.cut(rows[SKIN_TONE].astype(np.float64), _TONES, labels=_TONE_NAMES), dtype=object)
    return tones.where(tones.notna(), UNKNOWN).astype(str)


def _band(low: int, high: int) -> str:
    return f"{low} and over" if high == AGE_BANDS[-1][1] else f"{low} to {high - 1}"


def _pooled(members: pd.Series) -> tuple[pd.Series, list[str]]:
    """The subgroup of each row and the subgroups in order: above `MOST` values the rarest are one."""
    order = _order(members)
    named = [name for name in order if name != UNKNOWN]
    if len(named) <= MOST:
        return members, order
    rare = named[MOST - 1 :]
    other = f"other ({len(rare)} values)"
    return members.where(~members.isin(rare), other), [*named[: MOST - 1], other, *order[len(named) :]]


def _order(members: pd.Series) -> list[str]:
    """Age bands by age, the others by size; `unknown` last."""
    ages = {_band(low, high): place for place, (low, high) in enumerate(AGE_BANDS)}
    counts = members.value_counts()
    return sorted(counts.index, key=lambda name: (name == UNKNOWN, ages.get(name, 0), -counts[name], name))


def _subgroups(
    rows: pd.DataFrame, attributes: Sequence[str], targets: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(attribute, subgroup, its cases (N,) bool) of every attribute the data know more than one value of."""
    for attribute in attributes:
        members = bands(rows, attribute)
        if members is None or members.nunique() < 2:
            continue
        members, names = _pooled(members)
        for name in names:
            yield attribute, name, (members == name).to_numpy() & known(targets)
