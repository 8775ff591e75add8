"""Does a classifier look at the lesion? It is asked again with the lesion hidden and with the background removed.

    probes = Probes.made(classifier, dataset, rows)          asks the network
    probes.columns()                                         what is saved with the predictions of an evaluation
    Probes.saved(card, predictions)                          the same from there, None where there is nothing
    probe_metrics(cases, probes)

**Shortcut score** of a label: (AUC with the lesion hidden − 0.5) / (AUC of the same images as they are − 0.5), the
share of what it can do above chance that needs no lesion; 0 where nothing remains, 1 where the lesion adds nothing.
That of a model is the highest of its labels. Networks that keep their AUC with the lesion hidden: Bissoto et al. 2019
(arXiv:1904.08818), Winkler et al. 2019 (doi:10.1001/jamadermatol.2019.1735).

What it does not find: a shortcut inside the place that is hidden (a scale bar across the lesion), and one that lives in
age, sex or site, which the network is not told here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.calibration import calibrated
from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.cases import Cases
from derm_ml.evaluation.probe_names import ALONE, HIDDEN, SHORTCUT_SCORE
from derm_ml.images.lesion_place import background_removed, lesion_hidden, skin_tone
from derm_ml.metrics.classification import auc, known
from derm_ml.metrics.intervals import estimate, measured, ratio
from derm_ml.metrics.metric import Metric, not_evaluable, undefined
from derm_ml.metrics.subgroups import MINIMUM, SKIN_TONE
from derm_ml.predictions.classifier import predict_changed
from derm_ml.predictions.places import LesionPlaces

CHANGES = {HIDDEN: lesion_hidden, ALONE: background_removed}
MOST = 100  # images of each label that are asked again: the interval of an AUC of 0.5 is then ± 0.08
SHARE = "place.share"  # column: how much of the image the place is
_BATCH = 64  # images in memory at once


@dataclass(frozen=True)
class Probes:
    """What a network said of changed images of N cases: logits (N, L) by change, NaN for those it was not asked of.

    `share` (N,) of the image that the lesion's place is, `tone` (N,) ITA of the skin in degrees; `places` says where
    the places come from.
    """

    labels: tuple[str, ...]
    logits: dict[str, np.ndarray]
    share: np.ndarray
    tone: np.ndarray
    places: str = ""

    @classmethod
    def made(
        cls, classifier: Classifier, dataset: Dataset, rows: pd.DataFrame, asked: np.ndarray | None = None
    ) -> Self:
        """Ask the classifier of at most `MOST` images of each label of these rows, the same ones every time.

        `asked` (N,) bool: of which rows instead. Of all rows place and skin tone are measured.
        """
        places = LesionPlaces.here()
        asked = asked_again(rows) if asked is None else asked
        logits = {name: np.full((len(rows), len(classifier.labels)), np.nan) for name in CHANGES}
        share, tone = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        for start in range(0, len(rows), _BATCH):
            images, found, where = [], [], []
            for k, row in enumerate(rows.iloc[start : start + _BATCH].to_dict("records"), start):
                image = dataset.image(row)
                place = places.of(dataset, row, image)
                share[k], tone[k] = place.mean(), skin_tone(image, place)
                if asked[k]:
                    images.append(image)
                    found.append(place)
                    where.append(k)
            for name, change in CHANGES.items():
                if where:
                    changed = (change(image, place) for image, place in zip(images, found, strict=True))
                    logits[name][where] = predict_changed(classifier, changed)
        return cls(classifier.labels, logits, share, tone, places.said(dataset))

    @classmethod
    def saved(cls, card: BundleCard, predictions: pd.DataFrame) -> Self | None:
        """From the predictions of an evaluation; None for one that was made without probes."""
        names = {change: [f"{change}.logit.{label}" for label in card.labels] for change in CHANGES}
        if not {SHARE, SKIN_TONE, *(column for columns in names.values() for column in columns)} <= {*predictions}:
            return None
        logits = {change: predictions[columns].to_numpy(np.float64) for change, columns in names.items()}
        share, tone = (predictions[name].to_numpy(np.float64) for name in (SHARE, SKIN_TONE))
        return cls(card.labels, logits, share, tone)

    def columns(self) -> dict[str, np.ndarray]:
        """Column → (N,) numbers. The place first: promotion names the first one that differs."""
        logits = {
            f"{change}.logit.{label}": values[:, k]
            for change, values in self.logits.items()
            for k, label in enumerate(self.labels)
        }
        return {SHARE: self.share, SKIN_TONE: self.tone, **logits}


def asked_again(rows: pd.DataFrame, most: int = MOST) -> np.ndarray:
    """(N,) bool: at most `most` rows of each label, chosen by a hash of their ids, so the same ones everywhere."""
    order = [hashlib.sha256(str(name).encode()).hexdigest() for name in rows["id"]]
    ranked = pd.Series(order, index=range(len(rows))).groupby(rows["label"].to_numpy(str)).rank(method="first")
    return (ranked <= most).to_numpy()


def probe_metrics(cases: Cases, probes: Probes | None) -> dict[str, Metric]:
    """`shortcut_score`, and for each scored label `auc_<label>_lesion_hidden` and `auc_<label>_background_removed`.

    Nothing without probes. Where fewer than `MINIMUM` positives or negatives were asked, or the network ranks the
    images as they are no better than chance, there is no score, and its note says why.
    """
    if probes is None:
        return {}
    asked = np.isfinite(probes.logits[HIDDEN]).all(axis=1)
    p = {name: calibrated(cases.card, np.nan_to_num(logits)) for name, logits in probes.logits.items()}
    areas: dict[str, Metric] = {}
    scores: dict[str, Metric] = {}
    for label in cases.scored:
        k, y = cases.labels.index(label), cases.y(label)
        keep = asked & known(y)
        y, groups, plain = y[keep], cases.groups[keep], cases.p(label)[keep]
        few = min(int((y == 1).sum()), int((y == 0).sum())) < MINIMUM
        for name in CHANGES:
            values = p[name][keep, k].astype(np.float64)
            why = f"not evaluable (n = {len(y)})"
            areas[f"auc_{label}_{name}"] = not_evaluable(len(y)) if few else measured(auc, groups, values, y, why=why)
        if few:
            scores[label] = not_evaluable(len(y))
        elif (estimate(auc, plain, y) or 0) <= 0.5:
            scores[label] = undefined(len(y), f"{label} is ranked no better than by chance as it is")
        else:
            hidden = p[HIDDEN][keep, k].astype(np.float64)
            why = f"{label} is ranked no better than by chance"
            scores[label] = measured(share_without_lesion, groups, plain, hidden, y, why=why)
    return {SHORTCUT_SCORE: _worst(scores), **areas}


def share_without_lesion(plain: np.ndarray, hidden: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """plain, hidden, targets (N,), weights (B, N) → (B,) in 0..1: the shortcut score."""
    kept, able = auc(hidden, targets, weights) - 0.5, auc(plain, targets, weights) - 0.5
    return np.clip(ratio(kept, able), 0.0, 1.0)


def _worst(scores: dict[str, Metric]) -> Metric:
    """The highest score, its label in the note; undefined only where all are."""
    defined = {label: score for label, score in scores.items() if score.value is not None}
    if not defined:
        return next(iter(scores.values()))
    label = max(defined, key=lambda name: defined[name].value or 0.0)
    found = defined[label]
    return Metric(found.value, found.low, found.high, found.n, f"{label}: {found.note}" if found.note else label)
