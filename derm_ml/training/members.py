"""Train the members of an ensemble one after the other, each as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch

from derm_ml.model_folder import ModelFolder
from derm_ml.nets.classifier import ClassifierNetwork
from derm_ml.nets.members import Members
from derm_ml.nets.segmenter import SegmenterNetwork
from derm_ml.progress import EpochReport, OnEpoch
from derm_ml.training.loop import Fitted
from derm_ml.training.seeding import derived
from derm_ml.training.settings import ImageRecipe

R = TypeVar("R", bound=ImageRecipe)
N = TypeVar("N", ClassifierNetwork, SegmenterNetwork)


@dataclass(frozen=True)
class Trained(Generic[N]):
    """The network whose graph becomes the model, and how its training went.

    `history` counts the epochs of all members on; `epoch` is the kept one of the last member in that count;
    `validation` are the figures of the kept epochs, averaged over the members: the ensemble itself is measured later.
    """

    network: N | Members
    history: list[EpochReport]
    epoch: int
    validation: dict[str, float]


def fit_members(
    build: Callable[[R], N], train: Callable[[N, R, Path, OnEpoch], Fitted], recipe: R, out: Path, on_epoch: OnEpoch
) -> Trained[N]:
    """`recipe.members` networks as `build(recipe)` makes them and `train(network, recipe, folder, on_epoch)` fits them.

    Member k is what `recipe.member(k)` gives alone. It trains (or resumes) in `out/member-<k + 1>`, the only member in
    `out` itself.
    """
    networks: list[N] = []
    history: list[EpochReport] = []
    figures: list[dict[str, float]] = []
    epoch = 0
    for k in range(recipe.members):
        alone = recipe.member(k)
        before = k * recipe.optimiser.epochs

        def counted(report: EpochReport, before: int = before) -> EpochReport:
            return replace(report, epoch=before + report.epoch, epochs=recipe.members * recipe.optimiser.epochs)

        folder = out if recipe.members == 1 else ModelFolder(out).member(k + 1).path
        torch.manual_seed(derived(alone.seed, "weights"))
        network = build(alone)
        fitted = train(network, alone, folder, lambda report, counted=counted: on_epoch(counted(report)))
        network.load_state_dict(fitted.state)
        networks.append(network)
        history += [counted(report) for report in fitted.history]
        epoch = before + fitted.epoch
        figures.append(fitted.history[fitted.epoch - 1].metrics)
    shared = set.intersection(*(set(f) for f in figures))
    validation = {name: float(np.mean([f[name] for f in figures])) for name in figures[0] if name in shared}
    return Trained(networks[0] if len(networks) == 1 else Members(networks), history, epoch, validation)
