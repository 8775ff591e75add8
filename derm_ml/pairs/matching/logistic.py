"""A logistic regression as plain numbers: fitted once, written into a bundle's card, read without scikit-learn.

model = fit_logistic(["distance", "overlap"], x, y)
model([[0.02, 0.6]])                                  # probabilities (N,)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

FEWEST = 5  # of either kind: with fewer the fit is a memory, not a rule


class Logistic(BaseModel):
    """p = 1 / (1 + exp(−slope · (weights · (x − means) / scales + intercept) − offset)).

    `slope` and `offset` are Platt's (1999), fitted on cases the weights have not seen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    slope: float = 1.0
    offset: float = 0.0

    @model_validator(mode="after")
    def _one_number_a_name(self) -> Self:
        if not len(self.names) == len(self.means) == len(self.scales) == len(self.weights) or min(self.scales) <= 0:
            raise ValueError("means, scales (above 0) and weights must be one for each name")
        return self

    def logits(self, x: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
        """(N, F) in the order of `names` → log-odds (N,)."""
        table = np.asarray(x, float).reshape(-1, len(self.names))
        raw = (table - np.array(self.means)) / np.array(self.scales) @ np.array(self.weights) + self.intercept
        return self.slope * raw + self.offset

    def __call__(self, x: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
        """(N, F) → probabilities (N,) in 0..1."""
        return probability(self.logits(x))


def probability(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(np.asarray(logits, float) / 2))  # the sigmoid without overflow


def fit_logistic(
    names: Sequence[str], x: np.ndarray, y: np.ndarray, strength: float = 1.0, balanced: bool = False
) -> Logistic:
    """Ridge-penalised logistic regression on standardised features. `strength` is scikit-learn's C.

    x (N, F) finite, y (N,) of 0 and 1. Raises `ValueError` with fewer than five cases of either kind.
    """
    from sklearn.linear_model import LogisticRegression

    counts = int((y == 1).sum()), int((y == 0).sum())
    if min(counts) < FEWEST:
        raise ValueError(f"{counts[0]} positive and {counts[1]} negative cases: {FEWEST} of each are needed")
    means, scales = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    fitted = LogisticRegression(C=strength, max_iter=2000, class_weight="balanced" if balanced else None)
    fitted.fit((x - means) / scales, y)
    return Logistic(
        names=tuple(names),
        means=_plain(means),
        scales=_plain(scales),
        weights=_plain(np.ravel(fitted.coef_)),
        intercept=float(np.ravel(fitted.intercept_)[0]),
    )


@dataclass(frozen=True)
class Rows:
    """What one case gives a regression: x (N, F) and y (N,) of 0 and 1; `folds` are those of the people it shows."""

    folds: frozenset[int]
    x: np.ndarray
    y: np.ndarray


def fit_and_calibrate(
    names: Sequence[str], train: Sequence[Rows], held: Sequence[Rows], strength: float = 1.0, balanced: bool = False
) -> tuple[Logistic, list[np.ndarray | None]]:
    """Fit on `train` and calibrate on log-odds, which are returned too (of `train`, then of `held`).

    They are those of regressions that have not seen the people: for `held` the one that is fitted, for each training
    case one of the people who share no fold with it; None where these are too few.

    `balanced`: as if both kinds were as frequent. Raises `ValueError` as `fit_logistic` does.
    """
    model = fit_logistic(names, *_joined(names, train), strength, balanced)
    others: dict[frozenset[int], Logistic | None] = {}
    for folds in {rows.folds for rows in train}:
        try:
            rest = _joined(names, [rows for rows in train if not rows.folds & folds])
            others[folds] = fit_logistic(names, *rest, strength, balanced)
        except ValueError:
            others[folds] = None
    asked = [*((rows, others[rows.folds]) for rows in train), *((rows, model) for rows in held)]
    unseen = [None if by is None else by.logits(rows.x) for rows, by in asked]
    known = [(said, rows.y) for (rows, _), said in zip(asked, unseen, strict=True) if said is not None]
    if known:
        said, y = (np.concatenate(part) for part in zip(*known, strict=True))
        model = recalibrated(model, said, y, balanced)
    return model, [None if said is None else model.slope * said + model.offset for said in unseen]


def _joined(names: Sequence[str], rows: Sequence[Rows]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([np.zeros((0, len(names))), *(r.x for r in rows)]), np.concatenate(
        [np.zeros(0), *(r.y for r in rows)]
    )


def recalibrated(model: Logistic, logits: np.ndarray, y: np.ndarray, balanced: bool = False) -> Logistic:
    """The same order of cases with probabilities that mean what they say. `logits` (N,) are what the model, or one
    fitted alike, says of cases it was not fitted on, `y` (N,) the truth.

    `balanced`: as if both kinds were as frequent. With fewer than five cases of either kind the model stays as it is.
    """
    from sklearn.linear_model import LogisticRegression

    if min((y == 1).sum(), (y == 0).sum()) < FEWEST:
        return model
    fitted = LogisticRegression(C=10.0, class_weight="balanced" if balanced else None).fit(logits[:, None], y)
    slope = float(np.ravel(fitted.coef_)[0])
    if slope <= 0:  # a handful of odd cases must not turn the order round
        return model
    return model.model_copy(
        update={"slope": model.slope * slope, "offset": model.offset * slope + float(np.ravel(fitted.intercept_)[0])}
    )


def _plain(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
