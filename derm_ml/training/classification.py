"""Train a classifier on a dataset and seal it into a bundle: what every classification task's `fit` does.

network → best weights (training/loop.py) → graph → temperature and operating points on the validation split → bundle
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from derm_ml.bundle import BundleCard, OperatingPoint, Preprocessing, UnclaimedPoint, seal, writing_bundle
from derm_ml.dataset import Dataset
from derm_ml.files import write_json
from derm_ml.images.augment import augmentation
from derm_ml.images.preprocess import to_square
from derm_ml.losses.classification import sigmoid_loss, softmax_loss
from derm_ml.metrics.calibration import fit_temperature, fit_temperature_and_bias
from derm_ml.metrics.classification import auc
from derm_ml.metrics.intervals import estimate
from derm_ml.metrics.operating_points import fit_balanced_point, fit_recall_points
from derm_ml.nets.backbones import describe_weights
from derm_ml.nets.classifier import Classifier
from derm_ml.predictor import Predictor, concatenate, encode_attributes
from derm_ml.progress import OnEpoch
from derm_ml.records import DataError
from derm_ml.training.code_version import git_commit
from derm_ml.training.export import export_classifier
from derm_ml.training.feeding import LoadSample, in_order
from derm_ml.training.loop import fit_network
from derm_ml.training.seeding import derived, generator
from derm_ml.training.settings import ClassifierRecipe

RECALLS = (0.90, 0.95)  # the recalls an operating point is fitted for, where a task names no others


def fit_classifier(
    dataset: Dataset,
    recipe: ClassifierRecipe,
    head: Literal["softmax", "sigmoid"],
    scored: Sequence[str],
    out: Path,
    on_epoch: OnEpoch,
    recalls: Sequence[float] = RECALLS,
) -> Path:
    """Train (or resume) in `out` and return `out/bundle`.

    `scored` are the labels whose (mean) AUC on the validation split chooses the best epoch.
    Raises `DataError` if a split or a label has no images, `TrainingError` if training fails.
    """
    bundle = out / "bundle"
    if (bundle / "bundle.json").exists():  # the folder names recipe and data: this is the same model
        return bundle
    train, validation = dataset.split("train"), dataset.split("validation")
    _check(dataset)
    torch.manual_seed(derived(recipe.seed, "weights"))
    columns = 2 * len(recipe.attributes)
    network = Classifier(
        recipe.backbone,
        len(dataset.labels),
        recipe.pretrained,
        recipe.hidden,
        recipe.dropout,
        columns,
        recipe.head_init,
    )
    targets = dataset.targets(train)
    weights, draws = _balance(dataset, train, targets, recipe, head)
    loss_of = softmax_loss if head == "softmax" else sigmoid_loss

    def loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        images, target, attributes = batch
        scale = None if weights is None else weights.to(target.device)
        logits = model(images, attributes if columns else None).float()
        return loss_of(logits, target, scale, recipe.label_smoothing, recipe.focal_gamma)

    identity = json.dumps([recipe.name, recipe.model_dump(mode="json"), dataset.md5], sort_keys=True)
    fitted = fit_network(
        network.to(memory_format=torch.channels_last),  # the layout these convolutions are fastest in
        training_samples(dataset, train, recipe),
        len(train),
        loss,
        _validation(dataset, validation, recipe, scored, loss_of),
        "auc_mean" if len(scored) > 1 else f"auc_{scored[0]}",
        recipe,
        out,
        identity,
        on_epoch,
        draws,
        before_epoch=lambda epoch: network.freeze_features(epoch < recipe.frozen_epochs),
    )
    write_json(out / "history.json", [asdict(report) for report in fitted.history])
    network.load_state_dict(fitted.state)
    card = BundleCard(
        task=dataset.task,
        recipe_name=recipe.name,
        recipe=recipe.model_dump(mode="json"),
        labels=dataset.labels,
        head=head,
        preprocessing=Preprocessing(
            side=recipe.side,
            store_side=dataset.info["settings"]["store_side"],
            fit=recipe.squaring,
            smallest_side=recipe.smallest_side,
        ),
        views=recipe.views,
        attributes=recipe.attributes,
        dataset_md5=dataset.md5,
        split_hashes=dataset.split_hashes,
        licences=dataset.licences,
        temperature=1.0,  # until it is fitted below
        backbone=recipe.backbone,
        pretrained=describe_weights(recipe.pretrained),
        git_commit=git_commit(),
        epochs=fitted.epoch,
        validation=fitted.history[fitted.epoch - 1].metrics,
    )
    with writing_bundle(bundle) as folder:
        export_classifier(network, recipe.side, columns, folder)
        seal(folder, card)
        seal(folder, _calibrated(card, Predictor(folder), dataset, validation, head, recalls))
    return bundle


def _check(dataset: Dataset) -> None:
    for name in ("train", "validation"):
        counts = {label: dataset.count(name, label) for label in dataset.labels}
        empty = [label for label, count in counts.items() if count == 0]
        empty += [f"anything but {label}" for label, count in counts.items() if count == len(dataset.split(name))]
        if empty:
            raise DataError(
                f"the {name} split of {dataset.path} has no image of {', '.join(empty)} ({counts}); "
                "add images or change the split fractions in params.yaml"
            )


def _balance(
    dataset: Dataset, rows: pd.DataFrame, targets: np.ndarray, recipe: ClassifierRecipe, head: str
) -> tuple[Tensor | None, Sequence[float] | None]:
    """Loss weights per label, and how often each image is drawn, as the recipe's class balance asks."""
    frequency = np.nanmean(targets, axis=0)
    rarity = (1 / frequency if head == "softmax" else (1 - frequency) / frequency) ** recipe.balance_power
    extra = rows["source"].isin(dataset.info["settings"]["training_only"]).to_numpy()
    draws = np.where(extra, recipe.extra_weight, 1.0)
    if recipe.class_balance == "sampler":
        # a case without any label is drawn as often as its own rarity says if there is one label, else as the commonest
        without = 1.0 if len(frequency) == 1 else np.minimum(1.0, rarity.min())
        draws = draws * np.nanmax(np.where(targets == 1, rarity, without), axis=1)
    even = recipe.class_balance != "sampler" and (recipe.extra_weight == 1 or not extra.any())
    weights = None
    if recipe.class_balance == "weights":
        scaled = rarity / (rarity * frequency).sum() if head == "softmax" else rarity  # mean weight of an image is 1
        weights = torch.tensor(scaled, dtype=torch.float32)
    return weights, None if even else list(draws)


def training_samples(dataset: Dataset, rows: pd.DataFrame, recipe: ClassifierRecipe) -> LoadSample:
    """(index, seed) → augmented image (side, side, 3) uint8, targets (L,) float32, attributes (2 · A,) float32."""
    targets = dataset.targets(rows)
    augment = augmentation(recipe.augmentation, recipe.side, recipe.squaring, recipe.smallest_side)
    attributes = encode_attributes([dataset.attributes(r) for _, r in rows.iterrows()], recipe.attributes)
    unknown = encode_attributes([{}], recipe.attributes)[0]
    image = dataset.reader(rows)

    def load(index: int, seed: int) -> tuple[np.ndarray, ...]:
        hidden = generator(seed, "attributes").random() < recipe.attribute_dropout
        return augment(image(index), seed), targets[index], unknown if hidden else attributes[index]

    return load


def _validation(
    dataset: Dataset,
    rows: pd.DataFrame,
    recipe: ClassifierRecipe,
    scored: Sequence[str],
    loss_of: Callable[..., Tensor],
) -> Callable[[nn.Module], dict[str, float]]:
    """Loss and AUCs on the validation images, read anew each time: memory does not grow with their number."""
    image = dataset.reader(rows)
    targets = torch.from_numpy(dataset.targets(rows))
    attributes = encode_attributes([dataset.attributes(r) for _, r in rows.iterrows()], recipe.attributes)

    def load(index: int) -> tuple[np.ndarray, ...]:
        square = to_square(image(index), recipe.side, recipe.squaring, recipe.smallest_side)
        return square, attributes[index]

    def validate(network: nn.Module) -> dict[str, float]:
        device = next(network.parameters()).device
        parts = []
        for images, facts in in_order(load, len(rows), recipe.batch_size):
            extra = facts.to(device) if recipe.attributes else None
            parts.append(network(images.to(device), extra).float().cpu())
        logits = torch.cat(parts)
        scores = (logits.softmax(1) if loss_of is softmax_loss else logits.sigmoid()).numpy()
        figures: dict[str, Any] = {"loss": loss_of(logits, targets).item()}
        for label in scored:
            column = dataset.labels.index(label)
            figures[f"auc_{label}"] = estimate(auc, scores[:, column], targets[:, column].numpy())
        found = [figures[f"auc_{label}"] for label in scored]
        if len(scored) > 1:
            figures["auc_mean"] = None if None in found else float(np.mean(found))
        return {name: value for name, value in figures.items() if value is not None}

    return validate


def _calibrated(
    card: BundleCard,
    predictor: Predictor,
    dataset: Dataset,
    rows: pd.DataFrame,
    head: Literal["softmax", "sigmoid"],
    recalls: Sequence[float],
) -> BundleCard:
    """The card with temperature and operating points fitted on the validation split through the exported graph."""
    outputs = concatenate(
        predictor.batches((dataset.image(row), dataset.attributes(row)) for _, row in rows.iterrows())
    )
    targets = dataset.targets(rows)
    if head == "softmax":
        temperature, bias = fit_temperature(outputs.logits, targets, head), ()
    else:
        temperature, bias = fit_temperature_and_bias(outputs.logits, targets)
    card = card.model_copy(update={"temperature": temperature, "bias": bias})
    predictor.card = card
    probabilities = predictor.calibrated(outputs.logits)
    points: list[OperatingPoint] = []
    unclaimed: list[UnclaimedPoint] = []
    for column, label in enumerate(card.labels):
        given = (label, probabilities[:, column], targets[:, column], "validation", dataset.split_hashes["validation"])
        points.append(fit_balanced_point("balanced", *given))
        claimed, short = fit_recall_points(*given, recalls)
        points, unclaimed = [*points, *claimed], [*unclaimed, *short]
    return card.model_copy(update={"operating_points": tuple(points), "unclaimed_points": tuple(unclaimed)})
