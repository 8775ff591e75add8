"""Whether what a service is asked has changed: scores and embeddings of recent records against earlier ones.

    found = drift_of(records, task.labels, since="2026-03-01")
    for shift in found.shifts: print(shift.name, shift.value, shift.low, shift.high)
    for one in found.estimates: print(one.label, one.earlier, one.recent)

Each shift is the probability that a recent record lies above an earlier one: 0.5 is no shift, 0 or 1 a complete one. It
needs no labels, and so says nothing about whether the answers are right: a shift is a reason to look, and a model can
grow worse without one. Images are counted once, by their hash; of patients the records know nothing, so where one
person sends many images the intervals are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from derm_ml.answered.table import served
from derm_ml.metrics.expected import expected_auc_of
from derm_ml.metrics.metric import Metric

FEWEST = 30  # records on either side: below that an interval from a normal approximation says little
LEVEL = 0.95
_MOST = 5000  # records of a side that are looked at: the interval is then narrower than any shift that matters
EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Shift:
    """The probability that a recent record lies above an earlier one, with its interval.

    `value` None: `remark` says why nothing can be said.
    """

    name: str
    earlier: int
    recent: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    remark: str = ""

    @property
    def found(self) -> bool:
        """Whether 0.5 lies outside the interval."""
        return self.low is not None and self.high is not None and not self.low <= 0.5 <= self.high


@dataclass(frozen=True, slots=True)
class Expected:
    """The AUC of a label that the probabilities lead one to expect, before and now: see `metrics.expected`."""

    label: str
    earlier: Metric
    recent: Metric


@dataclass(frozen=True, slots=True)
class Drift:
    """What the records of one model say of a change since a day (UTC, ISO 8601)."""

    model_version: str
    since: str
    shifts: tuple[Shift, ...]
    estimates: tuple[Expected, ...]

    def beyond(self, least: float) -> tuple[Shift, ...]:
        """The shifts that are shown, and at least so far from 0.5."""
        return tuple(s for s in self.shifts if s.found and s.value is not None and abs(s.value - 0.5) >= least)


def drift_of(
    records: pd.DataFrame, labels: Sequence[str], since: str, model: str = "", together: bool = False
) -> Drift:
    """Records of a task (`answered.table`) from `since` on against the earlier ones of the same model: `model`, else
    that of the last record. What a challenger was asked unseen does not count.

    `together`: all intervals hold at once in 95 of 100 comparisons (Bonferroni), for who looks at all of them every
    day; else each by itself. Raises `ValueError` without records.
    """
    own = served(records)
    if own.empty:
        raise ValueError("there are no records")
    wanted = model or str(own["model_version"].iloc[-1])
    own = own.loc[own["model_version"] == wanted]
    earlier, recent = own.loc[own["at"] < since], own.loc[own["at"] >= since]
    asked = 1 + sum(str(name).startswith("score.") for name in own.columns) if together else 1
    found = shifts(earlier, recent, 1 - (1 - LEVEL) / asked)
    known = [label for label in labels if f"score.{label}" in own]
    estimates = [Expected(label, *(_expected(side, label) for side in (earlier, recent))) for label in known]
    return Drift(wanted, since, tuple(found), tuple(estimates))


def _expected(side: pd.DataFrame, label: str) -> Metric:
    table = _once(side)
    table = table.loc[table[f"score.{label}"].between(0, 1)]
    return expected_auc_of(table[f"score.{label}"].to_numpy(float), np.arange(len(table)).astype(str))


def shifts(earlier: pd.DataFrame, recent: pd.DataFrame, level: float = LEVEL) -> list[Shift]:
    """The shift of each score and of the embedding, of records of one model (`answered.table`); `level` of intervals.

    An embedding is looked at along one direction: from the mean of the earlier to that of the recent records, drawn on
    one half of them and measured on the other, so that noise alone gives 0.5.
    """
    sides = [_once(table) for table in (earlier, recent)]
    scores = [c for c in sides[0].columns if c.startswith("score.") and c in sides[1]]
    numbers = {name: [side[name].dropna().to_numpy(float) for side in sides] for name in scores}
    found = [_shift(name, before, now, level) for name, (before, now) in numbers.items()]
    known = [side.loc[side[EMBEDDING].notna(), EMBEDDING] for side in sides]
    if min(map(len, known)) >= 2 * FEWEST:
        before, now = (np.stack([np.asarray(one, float) for one in side]) for side in known)
        found.append(_along(before, now, level))
    elif max(map(len, known)):
        found.append(_few(EMBEDDING, len(known[0]), len(known[1]), 2 * FEWEST))
    return found


def _along(earlier: np.ndarray, recent: np.ndarray, level: float) -> Shift:
    fitted = recent[::2].mean(axis=0) - earlier[::2].mean(axis=0)
    spread = np.concatenate([earlier[::2], recent[::2]]).std(axis=0)
    direction = fitted / np.maximum(spread, 1e-6) ** 2
    return _shift(EMBEDDING, earlier[1::2] @ direction, recent[1::2] @ direction, level)


def _shift(name: str, earlier: np.ndarray, recent: np.ndarray, level: float) -> Shift:
    if min(len(earlier), len(recent)) < FEWEST:
        return _few(name, len(earlier), len(recent), FEWEST)
    above, below = _placements(earlier, recent), 1 - _placements(recent, earlier)
    value = float(above.mean())
    # DeLong's variance on the logit scale, which keeps the ends between 0 and 1; of a complete shift one pair is halved
    near = min(max(value, 0.5 / (len(above) * len(below))), 1 - 0.5 / (len(above) * len(below)))
    error = math.sqrt(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)) / (near * (1 - near))
    middle, reach = math.log(near / (1 - near)), float(norm.ppf(0.5 + level / 2))
    low, high = (1 / (1 + math.exp(-(middle + side * reach * error))) for side in (-1, 1))
    return Shift(name, len(earlier), len(recent), value, low, high)


def _placements(earlier: np.ndarray, recent: np.ndarray) -> np.ndarray:
    """For each recent number the share of the earlier ones that lie below it, ties counting half."""
    inside = rankdata(recent)
    return (rankdata(np.concatenate([recent, earlier]))[: len(recent)] - inside) / len(earlier)


def _once(table: pd.DataFrame) -> pd.DataFrame:
    """Each image once, in order of time; the last `_MOST`."""
    if table.empty:
        return table
    asked = table["images"].map(lambda images: " ".join(images))
    return table.loc[~asked.duplicated()].tail(_MOST)


def _few(name: str, earlier: int, recent: int, needed: int) -> Shift:
    return Shift(name, earlier, recent, remark=f"not evaluable: {needed} different images are needed on either side")
