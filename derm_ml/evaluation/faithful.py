"""Do a classifier's heatmaps show what it decides by? Measured on at most `MOST` images of the split.

    explained = Explained.made(classifier, dataset, rows, outputs)     asks the network
    explained.columns()                                                what is saved with an evaluation's predictions
    Explained.saved(predictions)                                       the same from there, None where there is nothing
    faithful_metrics(cases, explained)

The map of an image is that of a label it has. Three things are asked of it: how much of its heat lies inside the
lesion, against what an even map has there; whether covering its hottest cells first costs the label more, and its
coldest first less, than a random order of the same cells (explain/deletion.py); and whether it changes when the head of
the network has random weights (explain/random_head.py).

A photograph of the fundus has no lesion whose place is known: the first is not asked, and only cells inside the round
field of view are covered (`in_view`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import cv2
import numpy as np
import pandas as pd
from scipy.stats import rankdata

from derm_ml.bundles.attributes import Attributes
from derm_ml.bundles.calibration import calibrated
from derm_ml.bundles.classifier import Classifier, Outputs, concatenate
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.cases import Cases
from derm_ml.evaluation.probe_names import (
    DELETION_GAIN,
    HEAT_BEYOND_AREA,
    HEAT_IN_LESION,
    INSERTION_GAIN,
    ORDER_GAIN,
    RANDOM_HEAD,
)
from derm_ml.evaluation.record import Row
from derm_ml.explain.deletion import (
    COLDEST,
    HOTTEST,
    RANDOM,
    all_covered,
    area_under,
    cells_within,
    covered_counts,
    covered_squares,
    orders,
)
from derm_ml.explain.random_head import random_heads
from derm_ml.images.condition import squared_view
from derm_ml.metrics.intervals import measured, weighted_mean
from derm_ml.metrics.metric import Metric, not_evaluable
from derm_ml.metrics.subgroups import MINIMUM
from derm_ml.predictions.places import LesionPlaces

MOST = 36  # images in all, shared among the labels: each is asked of 13 changed squares and of `HEADS` other heads
HEADS = 3  # one random head may by chance weigh the features as the learned one does
_COLUMNS = ("label", "deletion", "insertion", "random_order", "random_head")
_PLACED = ("heat_inside", "area")  # where the place of a lesion is known


@dataclass(frozen=True)
class Explained:
    """What was asked of the maps of N cases: `values` name → (N,), NaN for those it was not asked of.

    `label` is the column of the label explained, `heat_inside` the share of the heat inside the lesion's place, `area`
    that of an even map, neither where no place is known; `deletion`, `insertion` and `random_order` are areas under the
    curve of the label's probability, `random_head` the rank correlation with the map of a head of random weights.
    `curves` (n, 3, T) are those probabilities, hottest first, coldest first and at random; empty where it was read from
    a file.
    """

    values: dict[str, np.ndarray]
    curves: np.ndarray = field(default_factory=lambda: np.zeros(0))
    cells: int = 0

    @classmethod
    def made(
        cls,
        classifier: Classifier,
        dataset: Dataset,
        rows: pd.DataFrame,
        outputs: Outputs,
        which: np.ndarray | None = None,
        in_view: bool = False,
    ) -> Self:
        """Ask the classifier of rows whose `outputs` are known, each of its image alone; `which` (N,): the label of
        each, -1 for not asked. `in_view`: of images with a round field of view, and no lesion whose place is known.
        """
        which = explained_labels(rows, classifier.labels) if which is None else which
        asked = np.flatnonzero(which >= 0)
        values = {name: np.full(len(rows), np.nan) for name in (*_COLUMNS, *(() if in_view else _PLACED))}
        values["label"][asked] = which[asked]
        if not len(asked):
            return cls(values)
        records, heat = rows.iloc[asked].to_dict("records"), _rounded(outputs.maps[asked, which[asked]])
        pictures = [(dataset.image(row), dataset.attributes(row)) for row in records]
        curves, places = [], None if in_view else LesionPlaces.here()
        for k, row, (image, attributes), cam in zip(asked, records, pictures, heat, strict=True):
            if places is not None:
                place = places.of(dataset, row, image)
                even = _inside(classifier, np.ones_like(cam), image, place)
                values["area"][k] = even
                values["heat_inside"][k] = _inside(classifier, cam, image, place) if cam.any() else even
            chance = np.random.default_rng(_hash(row["id"]))
            within = squared_view(image, classifier.card.preprocessing) if in_view else None
            series = orders(cam, chance, None if within is None else cells_within(within, cam.shape))
            covered = _covered(classifier, image, attributes, series, cam.shape, within)[..., which[k]]
            curves.append(np.insert(covered, 0, outputs.probabilities[k, which[k]], axis=1))
            for name, order in (("deletion", HOTTEST), ("insertion", COLDEST), ("random_order", RANDOM)):
                values[name][k] = area_under(curves[-1][order])
        values["random_head"][asked] = _random_head(classifier, pictures, which[asked], heat)
        told = np.array(curves)
        return cls(values, told, told.shape[-1] - 1 if in_view else heat[0].size)  # in view the cells of each differ

    @classmethod
    def saved(cls, predictions: pd.DataFrame) -> Self | None:
        """From the predictions of an evaluation; None for one that was made before maps were asked about."""
        names = {name: _saved_as(name) for name in (*_COLUMNS, *_PLACED) if _saved_as(name) in predictions}
        if not {*_COLUMNS} <= {*names}:
            return None
        return cls({name: predictions[column].to_numpy(np.float64) for name, column in names.items()})

    def columns(self) -> dict[str, np.ndarray]:
        """Column → (N,) numbers."""
        return {_saved_as(name): values for name, values in self.values.items()}

    def table(self) -> list[Row]:
        """One row a step of the covering: share of the cells, mean probability in each order, n. [] without curves."""
        if not len(self.curves):
            return []
        steps, means = covered_counts(self.cells), self.curves.mean(axis=0)
        return [
            {
                "cells_covered": count / self.cells,
                "hottest_first": float(means[HOTTEST, step]),
                "random_order": float(means[RANDOM, step]),
                "coldest_first": float(means[COLDEST, step]),
                "n": len(self.curves),
            }
            for step, count in enumerate(steps)
        ]


def explained_labels(rows: pd.DataFrame, labels: tuple[str, ...], most: int = MOST) -> np.ndarray:
    """(N,) the column of the label whose map is asked about, -1 for none: as many of each label, `most` in all.

    Which images is decided by a hash of their ids, so the same ones everywhere; rare labels choose first.
    """
    which = np.full(len(rows), -1)
    order = np.argsort([_hash(name) for name in rows["id"]], kind="stable")
    has = rows[[f"target.{label}" for label in labels]].to_numpy(float) == 1
    for column in np.argsort(has.sum(axis=0), kind="stable"):
        free = [k for k in order if has[k, column] and which[k] < 0]
        which[free[: most // len(labels)]] = column
    return which


def faithful_metrics(cases: Cases, explained: Explained | None) -> dict[str, Metric]:
    """Heat inside the lesion and beyond its area, where its place is known, the gains of deletion and insertion over a
    random order, and both together, and the rank correlation with random heads; of labels that do not exclude each
    other the last four of each label too. Nothing where maps were not asked about.
    """
    if explained is None:
        return {}
    keep = np.isfinite(explained.values["deletion"])
    v = {name: values[keep] for name, values in explained.values.items()}
    deletion, insertion = v["random_order"] - v["deletion"], v["insertion"] - v["random_order"]
    whole, signed = (0.0, 1.0), (-1.0, 1.0)
    placed = {
        HEAT_IN_LESION: (v["heat_inside"], whole),
        HEAT_BEYOND_AREA: (v["heat_inside"] - v["area"], signed),
    } if set(_PLACED) <= set(v) else {}  # fmt: skip
    wanted = {
        DELETION_GAIN: (deletion, signed),
        INSERTION_GAIN: (insertion, signed),
        ORDER_GAIN: ((deletion + insertion), signed),
        RANDOM_HEAD: (v["random_head"], signed),
    }
    groups = cases.groups[keep]

    def told(values: np.ndarray, limits: tuple[float, float], of: np.ndarray) -> Metric:
        if (n := int(of.sum())) < MINIMUM:
            return not_evaluable(n)
        why = "the head's weights were not found in the graph"
        return measured(weighted_mean, groups[of], values[of], why=why, limits=limits)

    every = np.ones(len(groups), bool)
    found = {name: told(values, limits, every) for name, (values, limits) in (placed | wanted).items()}
    if cases.exclusive or len(cases.labels) == 1:
        return found
    return found | {
        f"{name}_{label}": told(values, limits, v["label"] == column)
        for column, label in enumerate(cases.labels)
        for name, (values, limits) in wanted.items()
    }


def _covered(
    classifier: Classifier,
    image: np.ndarray,
    attributes: Attributes,
    series: np.ndarray,
    shape: tuple[int, ...],
    within: np.ndarray | None,
) -> np.ndarray:
    """(3, T - 1, L) the probabilities as more and more cells of a map (h, w) are covered, the last time all of them."""
    square = classifier.square(image)
    steps = [covered_squares(square, shape, order, within) for order in series]
    squares = np.concatenate([*steps, all_covered(square, within)[None]])
    logits = classifier.seen(squares, [attributes] * len(squares))[0]
    p = calibrated(classifier.card, logits).astype(np.float64)
    inner = p[:-1].reshape(len(series), (len(p) - 1) // len(series), p.shape[1])
    return np.concatenate([inner, np.broadcast_to(p[-1], (len(series), 1, p.shape[1]))], axis=1)


def _random_head(
    classifier: Classifier, pictures: Sequence[tuple[np.ndarray, Attributes]], which: np.ndarray, heat: np.ndarray
) -> np.ndarray:
    """(n,) mean rank correlation of each map with those of heads of random weights; NaN where no head is found."""
    found = []
    with random_heads(classifier, HEADS) as others:
        for other in others:
            maps = concatenate(other.batches(pictures)).maps[np.arange(len(pictures)), which]
            found.append([_alike(a, b) for a, b in zip(heat, _rounded(maps), strict=True)])
    return np.mean(found, axis=0) if found else np.full(len(pictures), np.nan)


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two maps; of maps without an order 1 if both are, 0 if one is."""
    flat = [np.ptp(cam) == 0 for cam in (a, b)]
    return float(all(flat)) if any(flat) else float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _rounded(maps: np.ndarray) -> np.ndarray:
    """Maps (n, h, w) as shares of their maximum, as they are kept on disk: asked afresh or read, they are the same."""
    most = maps.max(axis=(1, 2), keepdims=True, initial=0.0)
    return (maps / np.where(most > 0, most, 1)).astype(np.float16).astype(np.float64)


def _inside(classifier: Classifier, cam: np.ndarray, image: np.ndarray, place: np.ndarray) -> float:
    """The share of a map's heat that lies in the place (H, W) of an image; 0 for a map without heat."""
    height, width = image.shape[:2]
    heat = cv2.resize(classifier.unsquared(cam, image).astype(np.float32), (width, height))
    total = float(heat.sum(dtype=np.float64))
    return float(heat[place].sum(dtype=np.float64)) / total if total > 0 else 0.0


def _hash(name: object) -> int:
    return int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:8], "big")


def _saved_as(name: str) -> str:
    return f"explained.{name}"
