"""Whether what a service is asked has changed: scores and embeddings of recent records against earlier ones.

    for shift in shifts(earlier, recent): print(shift.name, shift.value, shift.low, shift.high)

Each shift is the probability that a recent record lies above an earlier one: 0.5 is no shift, 0 or 1 a complete one. It
needs no labels, and so says nothing about whether the answers are right: a shift is a reason to look, and a model can
grow worse without one. Images are counted once, by their hash; of patients the records know nothing, so where one
person sends many images the intervals are too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

FEWEST = 30  # records on either side: below that an interval from a normal approximation says little
Z = 1.96  # standard errors of a 95 % interval
_MOST = 5000  # records of a side that are looked at: the interval is then narrower than any shift that matters
EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Shift:
    """The probability that a recent record lies above an earlier one, with its 95 % interval.

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


def shifts(earlier: pd.DataFrame, recent: pd.DataFrame) -> list[Shift]:
    """The shift of each score and of the embedding, of records of one model (`answered.table`).

    An embedding is looked at along one direction: from the mean of the earlier to that of the recent records, drawn on
    one half of them and measured on the other, so that noise alone gives 0.5.
    """
    sides = [_once(table) for table in (earlier, recent)]
    scores = [c for c in sides[0].columns if c.startswith("score.") and c in sides[1]]
    found = [_shift(name, *(side[name].dropna().to_numpy(float) for side in sides)) for name in scores]
    known = [side.loc[side[EMBEDDING].notna(), EMBEDDING] for side in sides]
    if min(map(len, known)) >= 2 * FEWEST:
        found.append(_along(*(np.stack([np.asarray(one, float) for one in side]) for side in known)))
    elif max(map(len, known)):
        found.append(_few(EMBEDDING, len(known[0]), len(known[1]), 2 * FEWEST))
    return found


def _along(earlier: np.ndarray, recent: np.ndarray) -> Shift:
    fitted = recent[::2].mean(axis=0) - earlier[::2].mean(axis=0)
    spread = np.concatenate([earlier[::2], recent[::2]]).std(axis=0)
    direction = fitted / np.maximum(spread, 1e-6) ** 2
    return _shift(EMBEDDING, earlier[1::2] @ direction, recent[1::2] @ direction)


def _shift(name: str, earlier: np.ndarray, recent: np.ndarray) -> Shift:
    if min(len(earlier), len(recent)) < FEWEST:
        return _few(name, len(earlier), len(recent), FEWEST)
    above, below = _placements(earlier, recent), 1 - _placements(recent, earlier)
    value = float(above.mean())
    # DeLong's variance on the logit scale, which keeps the ends between 0 and 1; of a complete shift one pair is halved
    near = min(max(value, 0.5 / (len(above) * len(below))), 1 - 0.5 / (len(above) * len(below)))
    error = math.sqrt(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)) / (near * (1 - near))
    middle = math.log(near / (1 - near))
    low, high = (1 / (1 + math.exp(-(middle + side * Z * error))) for side in (-1, 1))
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
