"""Train a classifier on a dataset and seal it into a bundle: what every classification task's `fit` does.

network(s) → best weights (training/loop.py, members.py) → graph
→ calibration and operating points on the validation split → bundle
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from derm_ml.bundles.attributes import encode_attributes
from derm_ml.bundles.bundle import BundleCard, seal, writing_bundle
from derm_ml.bundles.calibration import calibrated, with_fellow_logits
from derm_ml.bundles.classifier import Classifier, concatenate
from derm_ml.data.dataset import Dataset, Reader
from derm_ml.data.learned_ids import learned_from, started_from
from derm_ml.files import write_json
from derm_ml.images.augment import Augment, augmentation
from derm_ml.images.condition import conditioned, square
from derm_ml.images.settings import Preprocessing
from derm_ml.losses.classification import asymmetric_loss, sigmoid_loss, softmax_loss
from derm_ml.metrics.calibration import fit_fellow_shares, fit_temperature, fit_temperature_and_bias
from derm_ml.metrics.classification import auc
from derm_ml.metrics.intervals import estimate
from derm_ml.metrics.operating_points import fit_balanced_point, fit_recall_points, fit_specificity_point
from derm_ml.metrics.points import OperatingPoint, UnclaimedPoint
from derm_ml.nets.backbones import describe_weights
from derm_ml.nets.classifier import ClassifierNetwork
from derm_ml.progress import OnEpoch
from derm_ml.records import DataError
from derm_ml.sentences import WrongValue
from derm_ml.training.code_version import git_commit
from derm_ml.training.export import export_classifier
from derm_ml.training.feeding import LoadSample, in_order
from derm_ml.training.loop import Fitted, fit_network
from derm_ml.training.members import fit_members
from derm_ml.training.pseudo_labels import judged, labelled_rows, read_pseudo_labels
from derm_ml.training.seeding import generator
from derm_ml.training.settings import ClassifierRecipe

RECALLS = (0.90, 0.95)  # the recalls an operating point is fitted for, where a task names no others
SPECIFICITIES = (0.90,)  # the same the other way round, for several independent labels

LossOf = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (logits, targets, weights) → mean loss


def fit_classifier(
    dataset: Dataset,
    recipe: ClassifierRecipe,
    head: Literal["softmax", "sigmoid"],
    scored: Sequence[str],
    out: Path,
    on_epoch: OnEpoch,
    recalls: Sequence[float] = RECALLS,
    training_targets: Callable[[np.ndarray], np.ndarray] = lambda targets: targets,
) -> Path:
    """Train (or resume) in `out` and return `out/bundle`.

    `scored` are the labels whose (mean) AUC on the validation split chooses the best epoch; `training_targets` may
    hide some of the targets (N, L) from training by making them NaN, where labels are independent.
    Raises `DataError` if a split or a label has no images, `TrainingError` if training fails.
    """
    bundle = out / "bundle"
    if (bundle / "bundle.json").exists():  # the folder names recipe and data: this is the same model
        return bundle
    _check(dataset)
    validation = dataset.split("validation")
    train = labelled_rows(dataset, recipe.labelled_share, recipe.seed)
    targets = training_targets(dataset.targets(train))
    given = None
    if recipe.pseudo_labels:
        given = read_pseudo_labels(Path(recipe.pseudo_labels), dataset, recipe.labelled_share, recipe.seed)
        train = pd.concat([train, given.rows])
        targets = np.concatenate([targets, training_targets(given.targets)])
    teachers = [Path(given.audit["teacher"])] if given else []
    learned = learned_from(dataset, given.rows if given else None, [*teachers, *started_from(recipe)])
    _check_targets(dataset, targets, recipe)
    columns = 2 * len(recipe.attributes)
    weights, draws = _balance(dataset, train, targets, recipe, head)
    loss_of = _loss(recipe, head)

    def loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        images, target, attributes = batch
        scale = None if weights is None else weights.to(target.device)
        logits = model(images, attributes if columns else None).float()
        return loss_of(logits, target, scale)

    taught = given.source if given else ""

    def fit(network: ClassifierNetwork, settings: ClassifierRecipe, folder: Path, tell: OnEpoch) -> Fitted:
        identity = [settings.name, settings.model_dump(mode="json", exclude={"members"}), dataset.md5, taught]
        return fit_network(
            network,
            training_samples(dataset, train, settings, targets),
            len(train),
            loss,
            _validation(dataset, validation, settings, scored, head),
            "auc_mean" if len(scored) > 1 else f"auc_{scored[0]}",
            settings,
            folder,
            json.dumps(identity, sort_keys=True),
            tell,
            draws,
            before_epoch=lambda epoch: network.freeze_features(epoch < settings.frozen_epochs),
        )

    trained = fit_members(lambda settings: build_classifier(settings, len(dataset.labels)), fit, recipe, out, on_epoch)
    write_json(out / "history.json", [asdict(report) for report in trained.history])
    card = BundleCard(
        task=dataset.task,
        recipe_name=recipe.name,
        recipe=recipe.model_dump(mode="json"),
        labels=dataset.labels,
        head=head,
        preprocessing=preprocessing(recipe, dataset),
        views=recipe.views,
        attributes=recipe.attributes,
        dataset_md5=dataset.md5,
        split_hashes=dataset.split_hashes,
        licences=dataset.licences,
        backbone=recipe.backbone,
        pretrained=describe_weights(recipe.pretrained),
        git_commit=git_commit(),
        epochs=trained.epoch,
        validation=trained.validation,
    )
    with writing_bundle(bundle) as folder:
        export_classifier(trained.network, recipe.side, columns, folder)
        learned.write(folder)
        seal(folder, card)
        card = _calibrated(card, Classifier(folder), dataset, validation, head, recalls, recipe.fellow)
        if given:
            teacher = Classifier(Path(given.audit["teacher"]))
            outcome = judged(teacher, Classifier(folder), dataset, scored, given)
            card = card.model_copy(update={"pseudo_labels": outcome})
        seal(folder, card)
    return bundle


def build_classifier(recipe: ClassifierRecipe, labels: int) -> ClassifierNetwork:
    """The network of a recipe, its weights in the memory layout its convolutions are fastest in.

    Raises `ValueError` if it cannot be trained at the recipe's training side.
    """
    network = ClassifierNetwork(
        recipe.backbone,
        labels,
        recipe.pretrained,
        recipe.hidden,
        recipe.dropout,
        2 * len(recipe.attributes),
        recipe.head_init,
        recipe.side,
    )
    if network.flat and recipe.training_side not in (0, recipe.side):
        raise WrongValue(f"{recipe.backbone} flattens its maps: training_side must be side ({recipe.side}) or 0")
    return network.to(memory_format=torch.channels_last)


def preprocessing(recipe: ClassifierRecipe, dataset: Dataset) -> Preprocessing:
    """What the recipe wants done to a picture of the dataset before the graph."""
    return Preprocessing(
        side=recipe.side,
        store_side=dataset.info["settings"]["store_side"],
        fit=recipe.squaring,
        field_of_view=recipe.field_of_view,
        channel=recipe.channel,
        contrast=recipe.contrast,
        smallest_side=recipe.smallest_side,
    )


def _loss(recipe: ClassifierRecipe, head: Literal["softmax", "sigmoid"]) -> LossOf:
    if recipe.loss == "asymmetric":
        if head == "softmax":
            raise WrongValue("loss=asymmetric is for independent labels; this task's classes exclude each other")
        return lambda logits, targets, weights: asymmetric_loss(
            logits, targets, weights, recipe.label_smoothing, recipe.focal_gamma, recipe.negative_gamma
        )
    plain = softmax_loss if head == "softmax" else sigmoid_loss
    return lambda logits, targets, weights: plain(logits, targets, weights, recipe.label_smoothing, recipe.focal_gamma)


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


def _check_targets(dataset: Dataset, targets: np.ndarray, recipe: ClassifierRecipe) -> None:
    """Labels that are put aside may have been the only ones."""
    for label, column in zip(dataset.labels, targets.T, strict=True):
        if not (column == 1).any() or not (column == 0).any():
            raise DataError(
                f"with labelled_share={recipe.labelled_share} no training image is known to have {label}, or to lack "
                "it: use a larger share, or a setting that hides fewer labels"
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


@dataclass(frozen=True, eq=False)
class _TrainingSamples:
    image: Reader
    rule: Preprocessing
    augment: Augment
    targets: np.ndarray  # (N, L)
    attributes: np.ndarray  # (N, 2 · A)
    unknown: np.ndarray  # (2 · A,)
    hidden_share: float

    def __call__(self, index: int, seed: int) -> tuple[np.ndarray, ...]:
        hidden = generator(seed, "attributes").random() < self.hidden_share
        image = self.augment(conditioned(self.image(index), self.rule), seed)
        return image, self.targets[index], self.unknown if hidden else self.attributes[index]


def training_samples(
    dataset: Dataset, rows: pd.DataFrame, recipe: ClassifierRecipe, targets: np.ndarray | None = None
) -> LoadSample:
    """(index, seed) → augmented image (S, S, 3) uint8 of the training side, targets (L,), attributes (2 · A,) float32.

    `targets` (N, L) of the rows, where they are not those of the dataset.
    """
    side = recipe.training_side or recipe.side
    return _TrainingSamples(
        dataset.reader(rows),
        preprocessing(recipe, dataset),
        augmentation(recipe.augmentation, side, recipe.squaring, recipe.smallest_side),
        dataset.targets(rows) if targets is None else targets,
        encode_attributes([dataset.attributes(r) for _, r in rows.iterrows()], recipe.attributes),
        encode_attributes([{}], recipe.attributes)[0],
        recipe.attribute_dropout,
    )


def _validation(
    dataset: Dataset,
    rows: pd.DataFrame,
    recipe: ClassifierRecipe,
    scored: Sequence[str],
    head: Literal["softmax", "sigmoid"],
) -> Callable[[nn.Module], dict[str, float]]:
    """Loss and AUCs on the validation images, read anew each time: memory does not grow with their number."""
    rule, loss_of = preprocessing(recipe, dataset), _loss(recipe, head)
    image = dataset.reader(rows)
    targets = torch.from_numpy(dataset.targets(rows))
    attributes = encode_attributes([dataset.attributes(r) for _, r in rows.iterrows()], recipe.attributes)

    def load(index: int) -> tuple[np.ndarray, ...]:
        return square(image(index), rule), attributes[index]

    def validate(network: nn.Module) -> dict[str, float]:
        device = next(network.parameters()).device
        parts = []
        for images, facts in in_order(load, len(rows), recipe.batch_size):
            extra = facts.to(device) if recipe.attributes else None
            parts.append(network(images.to(device), extra).float().cpu())
        logits = torch.cat(parts)
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


def _calibrated(
    card: BundleCard,
    predictor: Classifier,
    dataset: Dataset,
    rows: pd.DataFrame,
    head: Literal["softmax", "sigmoid"],
    recalls: Sequence[float],
    fellow: bool,
) -> BundleCard:
    """The card with calibration (and, if asked for, what the other eye counts) and operating points fitted on the
    validation split through the exported graph.
    """
    seen = predictor.batches((dataset.image(row), dataset.attributes(row)) for _, row in rows.iterrows())
    logits, targets = concatenate(seen).logits, dataset.targets(rows)
    if fellow:
        fellows = dataset.fellows(rows)
        card = card.model_copy(update={"fellow": fit_fellow_shares(logits, fellows, targets)})
        logits = with_fellow_logits(logits, fellows, card.fellow)
    if head == "softmax":
        calibration = {"temperature": fit_temperature(logits, targets, head)}
    elif len(card.labels) == 1:
        temperature, bias = fit_temperature_and_bias(logits, targets)
        calibration = {"temperature": temperature, "bias": bias}
    else:  # each label by itself: they differ in how often they are drawn, and in how well they are told
        each = [fit_temperature_and_bias(logits[:, [k]], targets[:, [k]]) for k in range(len(card.labels))]
        calibration = {"temperatures": tuple(t for t, _ in each), "bias": tuple(b for _, (b,) in each)}
    card = card.model_copy(update=calibration)
    probabilities = calibrated(card, logits)
    patients = rows["group"].to_numpy(str)
    points: list[OperatingPoint] = []
    unclaimed: list[UnclaimedPoint] = []
    for column, label in enumerate(card.labels):
        given = (label, probabilities[:, column], targets[:, column], "validation", dataset.split_hashes["validation"])
        points.append(fit_balanced_point("balanced", *given, groups=patients))
        claimed, short = fit_recall_points(*given, recalls, groups=patients)
        points, unclaimed = [*points, *claimed], [*unclaimed, *short]
        if head == "sigmoid" and len(card.labels) > 1:
            points += [
                fit_specificity_point(f"specificity_{wanted:g}", *given, wanted, groups=patients)
                for wanted in SPECIFICITIES
            ]
    shares = np.nanmean(targets, axis=0)  # each label has a known target: its operating point was fitted above
    found = {"operating_points": tuple(points), "unclaimed_points": tuple(unclaimed)}
    prevalence = {label: float(share) for label, share in zip(card.labels, shares, strict=True)}
    return card.model_copy(update=found | {"prevalence": prevalence})
