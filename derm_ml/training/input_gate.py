"""Fit the input gate of a model: what its training images look like, and how unlike them it may not be.

    gate = fit_gate(taught, validation, side)      each a `GateImages`: embeddings and statistics
    gate.write(folder)                             before the bundle is sealed

Fitted on training images, because they are what the model knows; the threshold on validation images, because a network
has memorised its training images and finds every other one stranger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from derm_ml.bundles.input_gate import Distance, InputGate, unit_length
from derm_ml.images.statistics import BORDER, NAMED, SHORTER_SIDE
from derm_ml.training.seeding import generator

if TYPE_CHECKING:
    import pandas as pd

WANTED = 0.015  # of the validation images are refused as unlike the others: half of what promotion allows
TAUGHT = 600  # training images are enough: with 1693 the AUROCs of docs/results.md are higher by 0.001 at most
EMBEDDING_AXES, STATISTICS_AXES = 64, 12  # 32 and 128, and 8, 20 and 32, did no better on ISIC 2017
ACTIVATION_AXES = 32  # 16, 64 and 128 change no AUROC by more than 0.001
# of the distance of the embedding as it is beside that at unit length: without it 7 of 10 retinas are refused, and from
# 0.35 to 1 all but one in a hundred; the less, the fewer images of another camera are refused
ACTIVATION_SHARE = 0.35
_MARGIN = 0.25  # of the way from the median to the most extreme image: how far beyond it a limit lies
_EXTREME = 0.001  # share of the images beyond what counts as the most extreme
_LEAST_FRAME = 0.5  # a frame is a fault from half of the image on, however rare frames were in training
_ENLARGED = 4  # an image that must be enlarged more than this to fill the network's square is too small


@dataclass(frozen=True, eq=False)
class GateImages:
    """Images as the gate sees them: statistics (N, S), and embeddings (N, D) where the model gives them."""

    statistics: np.ndarray
    embeddings: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.statistics)


def some_of(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """At most `TAUGHT` of the training rows, the same for the same seed, in their order."""
    if len(rows) <= TAUGHT:
        return rows
    return rows.iloc[np.sort(generator(seed, "input gate").choice(len(rows), TAUGHT, replace=False))]


def fit_gate(taught: GateImages, validation: GateImages, side: int) -> InputGate:
    """The gate of a model that sees squares of `side` pixels."""
    statistics = _likeness(taught.statistics[:, NAMED:], validation.statistics[:, NAMED:], STATISTICS_AXES, True)
    embedding = activation = None
    if taught.embeddings is not None and validation.embeddings is not None:
        both = unit_length(taught.embeddings), unit_length(validation.embeddings)
        embedding = _likeness(*both, EMBEDDING_AXES, False)
        activation = _likeness(taught.embeddings, validation.embeddings, ACTIVATION_AXES, False)
        activation = replace(activation, spread=activation.spread / ACTIVATION_SHARE)
    limits = _limits(np.concatenate([taught.statistics, validation.statistics]), side)
    gate = InputGate(limits, np.inf, statistics, embedding, activation, {})
    strange = np.sort(gate.strangeness(validation.statistics, validation.embeddings))
    gate = replace(gate, threshold=_threshold(strange))
    refused = sum(fit.abstained for fit in gate.judge(validation.statistics, validation.embeddings))
    about = {"taught": len(taught), "validation": len(validation), "refused": refused, "wanted": WANTED}
    return replace(gate, about=about)


def _threshold(strange: np.ndarray) -> float:
    """What at most the wanted share of the validation images exceed; if they are too few for it, beyond all of them."""
    allowed = int(WANTED * len(strange))
    if allowed:
        return float(strange[-1 - allowed])
    return float(strange[-1] + _MARGIN * (strange[-1] - np.median(strange)))


def _likeness(taught: np.ndarray, validation: np.ndarray, axes: int, to_scale: bool) -> Distance:
    taught, n, wide = taught.astype(np.float64), *taught.shape
    scale = taught.std(axis=0) if to_scale else np.ones(wide)
    scale = np.where(scale > 1e-6, scale, 1.0)
    away = (taught - taught.mean(axis=0)) / scale
    _, sizes, directions = np.linalg.svd(away, full_matrices=False)
    variance = sizes**2 / max(n - 1, 1)
    kept = max(0, min(axes, n // 4, wide - 1))  # fewer images cannot tell so many axes from chance
    whole = max(variance.sum(), 1e-12)
    rest = float(max(variance[kept:].sum() / (wide - kept), 1e-6 * whole))
    along = np.maximum(variance[:kept], rest)
    found = Distance(taught.mean(axis=0), scale, directions[:kept], along, rest, middle=0.0, spread=1.0)
    middle, high = np.quantile(found.log_distance(validation), (0.5, 0.84))
    return replace(found, middle=float(middle), spread=max(float(high - middle), 1e-3))


def _limits(statistics: np.ndarray, side: int) -> np.ndarray:
    """Beyond the most extreme of the images by a quarter of its distance from their median."""
    middle = np.median(statistics[:, :NAMED], axis=0)
    low = np.quantile(statistics[:, :NAMED], _EXTREME, axis=0)
    high = np.quantile(statistics[:, :NAMED], 1 - _EXTREME, axis=0)
    limits = low - _MARGIN * (middle - low)
    limits[BORDER] = max(high[BORDER] + _MARGIN * (high[BORDER] - middle[BORDER]), _LEAST_FRAME)
    limits[SHORTER_SIDE] = np.log2(side / _ENLARGED)
    return limits
