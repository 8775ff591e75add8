"""What chooses a classifier's best epoch: loss and AUCs on the validation images; and the loss its recipe names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from derm_ml.bundles.attributes import encode_attributes
from derm_ml.data.dataset import Dataset
from derm_ml.images.condition import square
from derm_ml.losses.classification import asymmetric_loss, sigmoid_loss, softmax_loss
from derm_ml.metrics.classification import auc
from derm_ml.metrics.heads import ClassifierHead
from derm_ml.metrics.intervals import estimate
from derm_ml.sentences import WrongValue
from derm_ml.training.classifier_samples import preprocessing
from derm_ml.training.devices import gathered, own_share
from derm_ml.training.feeding import in_order
from derm_ml.training.settings import ClassifierObjective, ClassifierRecipe

LossOf = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (logits, targets, weights) → mean loss


def best_by(scored: Sequence[str]) -> str:
    """The figure of `validation` that is highest in the best epoch."""
    return "auc_mean" if len(scored) > 1 else f"auc_{scored[0]}"


def validation(
    dataset: Dataset,
    rows: pd.DataFrame,
    recipe: ClassifierRecipe,
    scored: Sequence[str],
    head: ClassifierHead,
) -> Callable[[nn.Module], dict[str, float]]:
    """Loss and AUCs on the validation images, read anew each time: memory does not grow with their number."""
    rule, loss_of = preprocessing(recipe.image, dataset), loss_named_by(recipe.objective, head)
    told = recipe.patient.attributes
    image = dataset.reader(rows)
    targets = torch.from_numpy(dataset.targets(rows))
    attributes = encode_attributes(dataset.attributes_of(rows), told)

    def load(index: int) -> tuple[np.ndarray, ...]:
        return square(image(index), rule), attributes[index]

    def validate(network: nn.Module) -> dict[str, float]:
        device = next(network.parameters()).device
        parts = []
        for images, facts in in_order(load, own_share(len(rows)), recipe.optimiser.batch_size):
            extra = facts.to(device) if told else None
            parts.append(network(images.to(device), extra).float().cpu())
        logits = gathered(torch.cat(parts), len(rows))
        if not logits.isfinite().all():  # nothing can be ranked: the loop stops at it
            return {"loss": math.nan}
        scores = (logits.softmax(1) if head == "softmax" else logits.sigmoid()).numpy()
        figures: dict[str, Any] = {"loss": loss_of(logits, targets, None).item()}
        for label in scored:
            column = dataset.labels.index(label)
            figures[f"auc_{label}"] = estimate(auc, scores[:, column], targets[:, column].numpy())
        found = [figures[f"auc_{label}"] for label in scored]
        if len(scored) > 1:
            figures["auc_mean"] = None if None in found else float(np.mean(found))
        return {name: value for name, value in figures.items() if value is not None}

    return validate


def loss_named_by(wanted: ClassifierObjective, head: ClassifierHead) -> LossOf:
    """The loss of the recipe. Raises `WrongValue` for one that does not fit the head."""
    if wanted.loss == "asymmetric":
        if head == "softmax":
            raise WrongValue("loss=asymmetric is for independent labels; this task's classes exclude each other")
        return lambda logits, targets, weights: asymmetric_loss(
            logits, targets, weights, wanted.label_smoothing, wanted.negative_gamma
        )
    plain = softmax_loss if head == "softmax" else sigmoid_loss
    return lambda logits, targets, weights: plain(logits, targets, weights, wanted.label_smoothing)
