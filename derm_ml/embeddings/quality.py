"""Do the classes separate? Numbers of an embedding table, each with n and an interval over patients.

    quality(table)                         silhouette, kNN accuracy, alignment, uniformity, precision@5 of each class
    retrieve(table).values                 per query, to compare two embeddings on the same queries

Queries are the test images, neighbours are training images: what a reader of the endpoint would be shown of known
cases. Cosine everywhere. t-SNE maps are pictures; these are the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import silhouette_samples

from derm_ml.embeddings.extract import unit, vectors
from derm_ml.images.index import VectorIndex
from derm_ml.metrics.intervals import measured, ratio, weighted_mean
from derm_ml.metrics.metric import Metric

K = 5  # as many neighbours as the endpoint shows
VOTERS = 15  # of the kNN classifier: odd, and below the rarest class of a small data set


@dataclass(frozen=True)
class Retrieval:
    """For Q test queries: `labels`, `groups`, the `places` (Q, k) of their neighbours in the table (-1: none).

    `values` (Q,) is the share of a query's neighbours that have its label; `chance` label → its share in the gallery.
    """

    labels: np.ndarray
    groups: np.ndarray
    ids: np.ndarray
    places: np.ndarray
    values: np.ndarray
    chance: dict[str, float]


def retrieve(table: pd.DataFrame, k: int = K, queries: str = "test", gallery: str = "train") -> Retrieval:
    """The `k` nearest images of the split `gallery` to each of the split `queries`, the same group left out."""
    x = unit(vectors(table))
    labels, groups, ids = (table[name].to_numpy(str) for name in ("label", "group", "id"))
    asked, shown = (np.flatnonzero(table["split"].to_numpy(str) == split) for split in (queries, gallery))
    if not len(asked) or not len(shown):
        raise ValueError(
            f"the table has {len(asked)} images of {queries} and {len(shown)} of {gallery}: none to compare"
        )
    spare = int(np.isin(groups[shown], groups[asked]).sum())  # as many could be taken out; 0 unless groups cross splits
    _, found = VectorIndex.build(x[shown]).search(x[asked], min(k + spare, len(shown)))
    places = np.full((len(asked), k), -1)
    for row, (query, near) in enumerate(zip(asked, found, strict=True)):
        others = shown[near[near >= 0]]
        others = others[groups[others] != groups[query]][:k]
        places[row, : len(others)] = others
    hits = (labels[places] == labels[asked][:, None]) & (places >= 0)
    values = ratio(hits.sum(axis=1).astype(float), (places >= 0).sum(axis=1).astype(float))
    chance = {label: float((labels[shown] == label).mean()) for label in np.unique(labels)}
    return Retrieval(labels[asked], groups[asked], ids[asked], places, values, chance)


def precision_at_k(found: Retrieval) -> dict[str, Metric]:
    """`precision_at_k_<label>` of each label, and `precision_at_k`, their mean over queries; n = queries."""
    k = found.places.shape[1]
    why = "no query has this label"
    result = {f"precision_at_{k}": measured(weighted_mean, found.groups, found.values, why=why)}
    for label in found.chance:
        mine = found.labels == label
        result[f"precision_at_{k}_{label}"] = measured(weighted_mean, found.groups[mine], found.values[mine], why=why)
    return result


def quality(table: pd.DataFrame, split: str = "test") -> dict[str, Metric]:
    """All figures of an embedding table on one split (neighbours from the training split).

    `silhouette` (-1..1, Rousseeuw 1987) of the labels; `knn_accuracy` and `knn_balanced_accuracy` of a vote of the 15
    nearest training images; `alignment`, mean squared distance of two images of one label (0..4, low is good), and
    `uniformity`, log mean exp(-2 · squared distance) of any two (below 0, low is good), on the unit sphere (Wang &
    Isola 2020, arXiv:2005.10242, with equal labels as positive pairs); `precision_at_5`.
    """
    some = table.loc[table["split"] == split]
    x, labels, groups = unit(vectors(some)), some["label"].to_numpy(str), some["group"].to_numpy(str)
    kinds = len(np.unique(labels))
    result = {}
    separable = 1 < kinds < len(labels)
    apart = np.asarray(silhouette_samples(x, labels, metric="cosine")) if separable else np.empty(0)
    result["silhouette"] = measured(
        weighted_mean, groups[: len(apart)], apart, why="it needs two labels", limits=(-1, 1)
    )
    votes = retrieve(table, VOTERS, split)
    guess = np.array([_vote(names) for names in _labels(table, votes.places)])
    right = (guess == votes.labels).astype(float)
    result["knn_accuracy"] = measured(weighted_mean, votes.groups, right, why="there are no queries")
    why = "a label has no queries"
    result["knn_balanced_accuracy"] = measured(_mean_over_labels, votes.groups, right, votes.labels, why=why)
    near, even = _pairs(x, labels)
    result["alignment"] = measured(weighted_mean, groups, near, why="no two images share a label", limits=(0, 4))
    result["uniformity"] = measured(_log_mean, groups, even, why="there are no two images", limits=None)
    return result | precision_at_k(retrieve(table, K, split))


def _labels(table: pd.DataFrame, places: np.ndarray) -> list[list[str]]:
    labels = table["label"].to_numpy(str)
    return [labels[row[row >= 0]].tolist() for row in places]


def _vote(labels: list[str]) -> str:
    """The commonest label; of equals the one whose first voter is nearest."""
    return max(dict.fromkeys(labels), key=labels.count, default="")


def _mean_over_labels(right: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    means = [weighted_mean(np.where(labels == label, right, np.nan), weights) for label in np.unique(labels)]
    return np.mean(means, axis=0)


def _log_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.log(weighted_mean(values, weights))


def _pairs(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each image (N,): mean squared distance to the others of its label (NaN: none), mean of exp(-2 d²) to all."""
    near, even = np.full(len(x), np.nan), np.full(len(x), np.nan)
    for start in range(0, len(x), 1000):  # 1000 rows at a time: memory does not grow with N²
        rows = np.arange(start, min(start + 1000, len(x)))
        squared = np.clip(2 - 2 * (x[rows] @ x.T), 0, 4).astype(np.float64)
        others = np.ones_like(squared, bool)
        others[np.arange(len(rows)), rows] = False
        same = others & (labels[rows][:, None] == labels)
        near[rows] = ratio((squared * same).sum(axis=1), same.sum(axis=1).astype(float))
        even[rows] = ratio((np.exp(-2 * squared) * others).sum(axis=1), others.sum(axis=1).astype(float))
    return near, even
