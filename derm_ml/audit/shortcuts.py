"""Shortcuts that can be seen in the data alone: what should say nothing about the label, and does.

    shortcuts(measures, sources, targets, labels, groups)     one row a measure and label: AUC with its interval

A network trained on images whose size, border or source gives the label away learns that instead of the disease, and
fails where the link is absent (DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from derm_ml.metrics.classification import auc, patients_of_the_rarer
from derm_ml.metrics.intervals import measured
from derm_ml.metrics.metric import Metric

# lower bound of the AUC from which one of these numbers alone is worth learning to a network
STRONG = 0.65
SOURCE = "source"
_FOLDS = 5
_WORDS = {
    "brightness": ("darker", "brighter"),
    "contrast": ("flatter", "of higher contrast"),
    "sharpness": ("blurrier", "sharper"),
    "redness": ("greener", "redder"),
    "yellowness": ("bluer", "yellower"),
    "corner_brightness": ("darker in the corners", "brighter in the corners"),
    "corner_redness": ("greener in the corners", "redder in the corners"),
    "corner_yellowness": ("bluer in the corners", "yellower in the corners"),
    "border": ("with less of a black or white border", "with more of a black or white border"),
    "pixels": ("smaller", "larger"),
    "aspect": ("narrower", "wider"),
    SOURCE: ("", "told by the source they come from"),
}
MEASURES = tuple(name for name in _WORDS if name != SOURCE)
# what a lesion or an eye may rightly differ in: it is told, but it is no fault of the collection
OF_THE_SUBJECT = frozenset({"brightness", "contrast", "sharpness", "redness", "yellowness"})


@dataclass(frozen=True, slots=True)
class Shortcut:
    """How well one number alone tells one label from the rest; `words` says in which direction."""

    measure: str
    label: str
    auc: Metric
    words: str

    @property
    def strong(self) -> bool:
        return self.auc.low is not None and self.auc.low >= STRONG

    @property
    def suspicious(self) -> bool:
        """Strong, and nothing the disease itself would explain."""
        return self.strong and self.measure not in OF_THE_SUBJECT


def shortcuts(
    measures: Mapping[str, np.ndarray],
    sources: Sequence[str],
    targets: np.ndarray,
    labels: Sequence[str],
    groups: np.ndarray,
) -> list[Shortcut]:
    """measures name → (N,), sources (N,), targets (N, L) of 1, 0 and NaN, groups (N,): the strongest first.

    A measure that is the same in all images tells nothing and is left out, and so is the source where there is one.
    """
    found = []
    for k, label in enumerate(labels):
        known = ~np.isnan(targets[:, k])
        truth = targets[known, k]
        for name, values in measures.items():
            if np.unique(values[known]).size > 1:
                found.append(_of(name, label, values[known], truth, groups[known]))
        if len(set(sources)) > 1:
            rates = _rates(np.asarray(sources)[known], truth, groups[known])
            found.append(Shortcut(SOURCE, label, _area(groups[known], rates, truth), _WORDS[SOURCE][1]))
    return sorted(found, key=lambda s: -(s.auc.value or 0))


def _of(name: str, label: str, values: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> Shortcut:
    """The AUC of the values or of their negatives, whichever tells the label."""
    metric = _area(groups, values, truth)
    if metric.value is not None and metric.value < 0.5:
        return Shortcut(name, label, _area(groups, -values, truth), _WORDS[name][0])
    return Shortcut(name, label, metric, _WORDS[name][1])


def _area(groups: np.ndarray, values: np.ndarray, truth: np.ndarray) -> Metric:
    fewest = patients_of_the_rarer(truth, groups)
    why = "a label has no positives or no negatives"
    return measured(auc, groups, values, truth, why=why, rests_on=fewest)


def _rates(sources: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """For each image the share of the label in its source, counted in the other folds: its own label is not in it."""
    folds = np.array([hashlib.sha256(str(group).encode()).digest()[0] % _FOLDS for group in groups])
    rates = np.full(len(truth), truth.mean())
    for fold in range(_FOLDS):
        for source in np.unique(sources):
            there = (folds != fold) & (sources == source)
            if there.any():
                rates[(folds == fold) & (sources == source)] = truth[there].mean()
    return rates
