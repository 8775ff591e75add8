"""Train a segmenter on a dataset of pictures with masks and seal it into a bundle: what such a task's `fit` does.

network(s) → best weights (training/loop.py, members.py) → graph (with int8: quantisation.py)
→ temperature on the validation split → bundle
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from derm_ml.bundles.bundle import BundleCard, seal, writing_bundle
from derm_ml.bundles.segmenter import Segmenter
from derm_ml.bundles.square_predictor import batched
from derm_ml.data.dataset import Dataset, Reader
from derm_ml.data.learned_ids import LearnedIds, learned_from, started_from
from derm_ml.images.augment import PairedAugment, paired_augmentation
from derm_ml.images.preprocess import to_square
from derm_ml.images.settings import MaskRule, Preprocessing
from derm_ml.losses.choices import SegmentationLoss
from derm_ml.losses.segmentation import boundary_loss, dice_bce_loss, soft_dice_loss
from derm_ml.metrics.calibration import fit_temperature
from derm_ml.metrics.intervals import weighted_mean
from derm_ml.metrics.segmentation import dice
from derm_ml.model_folder import ModelFolder
from derm_ml.nets.backbones import describe_weights
from derm_ml.nets.improved_unet import ImprovedUNet
from derm_ml.nets.segmenter import SegmenterNetwork
from derm_ml.nets.unet import UNet
from derm_ml.predictions.segmenter import segment_rows
from derm_ml.progress import OnEpoch
from derm_ml.provenance import git_commit, note_training, note_training_of
from derm_ml.ranks import this_rank
from derm_ml.records import DataError
from derm_ml.training.devices import gathered, own_share
from derm_ml.training.export import export_segmenter
from derm_ml.training.feeding import LoadSample, in_order
from derm_ml.training.input_gate import GateImages, fit_gate, some_of
from derm_ml.training.loop import Fitted, fit_network
from derm_ml.training.members import Trained, fit_members
from derm_ml.training.quantisation import quantisation_of, quantise
from derm_ml.training.seeding import generator
from derm_ml.training.settings import Networks, SegmenterImage, SegmenterRecipe
from derm_ml.training.twins import finished_twin, take_over

LOSSES: dict[SegmentationLoss, Callable[[Tensor, Tensor], Tensor]] = {
    "dice": soft_dice_loss,
    "dice_bce": dice_bce_loss,
    "boundary": boundary_loss,
}
HALF = 0.5  # what a pixel's probability must reach: it is calibrated, and another threshold gained nothing
GATE_BATCH = 8
CALIBRATED_PIXELS = 2000  # of each validation picture: neighbouring pixels say the same, more of them say no more


def fit_segmenter(dataset: Dataset, recipe: SegmenterRecipe, out: Path, on_epoch: OnEpoch) -> Path:
    """Train (or resume) in `out` and return `out/bundle`. The best epoch has the highest mean Dice on validation.

    Raises `DataError` if a split has no images or the training masks are empty, `TrainingError` if training fails.
    """
    model = ModelFolder(out)
    if model.finished:  # the folder names recipe and data: this is the same model
        return model.bundle
    train, validation = dataset.split("train"), dataset.split("validation")
    for name, rows in (("train", train), ("validation", validation)):
        if not (rows["mask.area"].to_numpy(float) > 0).any():
            raise DataError(f"the {name} split of {dataset.path} has no mask with a lesion ({len(rows)} images)")
    learned = learned_from(dataset, ancestors=started_from(recipe))  # refused now, not after hours of training
    twin = finished_twin(dataset, recipe, out)
    trained = None if twin else train_segmenters(dataset, recipe, out, on_epoch)
    if not this_rank().leads:
        return model.bundle  # which the first process writes
    if trained:
        note_training(model, trained.history, streamed=dataset.streamed)
    elif twin:
        note_training_of(twin, model)
    with writing_bundle(model.bundle) as folder:
        if trained:
            seal_segmenter(dataset, recipe, trained, learned, folder)
        elif twin:
            take_over(twin, recipe, folder)
        calibrate_segmenter(dataset, recipe, folder)
    return model.bundle


def train_segmenters(
    dataset: Dataset, recipe: SegmenterRecipe, out: Path, on_epoch: OnEpoch
) -> Trained[SegmenterNetwork]:
    """Train the recipe's network, or each of its members, on the training split."""
    train, validation = dataset.split("train"), dataset.split("validation")

    def fit(network: SegmenterNetwork, settings: SegmenterRecipe, folder: Path, tell: OnEpoch) -> Fitted:
        identity = [settings.name, settings.identity(), dataset.md5]
        return fit_network(
            network,
            training_samples(dataset, train, settings.image),
            len(train),
            segmentation_loss(settings.loss),
            _validation(dataset, validation, settings),
            "dice",
            settings,
            folder,
            json.dumps(identity, sort_keys=True),
            tell,
            turns=dataset.turns(train),
        )

    return fit_members(lambda settings: build_segmenter(settings.network), fit, recipe, out, on_epoch)


def seal_segmenter(
    dataset: Dataset,
    recipe: SegmenterRecipe,
    trained: Trained[SegmenterNetwork],
    learned: LearnedIds,
    folder: Path,
) -> None:
    """Export the trained network into `folder` and seal it, not calibrated yet."""
    net, image, mask = recipe.network, recipe.image, recipe.mask
    kinds = [net.backbone if kind == "unet" else kind for kind in net.networks[: recipe.members]]
    card = BundleCard(
        task=dataset.task,
        recipe_name=recipe.name,
        recipe=recipe.model_dump(mode="json"),
        labels=dataset.labels,
        head="mask",
        preprocessing=Preprocessing(
            side=image.side, store_side=dataset.info["settings"]["store_side"], fit=image.squaring, smallest_side=0
        ),
        views=image.views,
        mask_rule=MaskRule(threshold=HALF, largest_component=mask.largest_component, fill_holes=mask.fill_holes),
        dataset_md5=dataset.md5,
        split_hashes=dataset.split_hashes,
        licences=dataset.licences,
        backbone=" + ".join(kinds),
        pretrained=describe_weights(net.backbone, net.pretrained) if net.backbone in kinds else "none",
        git_commit=git_commit(),
        epochs=trained.epoch,
        validation=trained.validation,
    )
    export_segmenter(trained.network, image.side, folder)
    learned.write(folder)
    seal(folder, card)


def calibrate_segmenter(dataset: Dataset, recipe: SegmenterRecipe, folder: Path) -> None:
    """Seal the bundle in `folder` again, with the temperature its own graph needs on the validation split, and with its
    input gate. With `int8` its graph is quantised first, and what that cost is measured."""
    validation = dataset.split("validation")
    exact = None
    if recipe.int8:
        before = _calibrated(folder, dataset, recipe.seed)  # each graph with the temperature it would answer with
        exact = _dice_of_masks(before, dataset, validation)
        quantise(before, dataset, recipe.seed)
    predictor = _calibrated(folder, dataset, recipe.seed)
    card = predictor.card
    if exact is not None:
        now = _dice_of_masks(predictor, dataset, validation)
        made = quantisation_of(dataset, validation, weighted_mean, now, exact)
        card = card.model_copy(update={"quantisation": made})
    train = some_of(dataset.split("train"), recipe.seed)
    known, unseen = (_gate_images(predictor, dataset, rows) for rows in (train, validation))
    fit_gate(known, unseen, recipe.image.side).write(folder)
    seal(folder, card)


def build_segmenter(settings: Networks) -> SegmenterNetwork:
    """The first of the networks of a recipe, its weights in the memory layout it is fastest in on a CPU."""
    if settings.networks[0] == "improved_unet":  # instance normalisation has no kernel for channels_last
        return SegmenterNetwork(ImprovedUNet(settings.width, settings.dropout))
    return SegmenterNetwork(UNet(settings.backbone, settings.pretrained)).to(memory_format=torch.channels_last)


def segmentation_loss(name: SegmentationLoss) -> Callable[[nn.Module, Sequence[Tensor]], Tensor]:
    """(network, batch of images and masks) → mean loss."""
    loss_of = LOSSES[name]

    def loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        images, masks = batch
        return loss_of(model(images).float(), (masks[:, None] > 0).float())

    return loss


@dataclass(frozen=True, eq=False)
class _TrainingSamples:
    image: Reader
    mask: Reader
    augment: PairedAugment

    def __call__(self, index: int, seed: int) -> tuple[np.ndarray, ...]:
        return self.augment(self.image(index), self.mask(index), seed)


def training_samples(dataset: Dataset, rows: pd.DataFrame, image: SegmenterImage) -> LoadSample:
    """(index, seed) → image (side, side, 3) uint8 and mask (side, side) uint8 of 0 and 255, moved alike."""
    augment = paired_augmentation(image.augmentation, image.side, image.squaring)
    return _TrainingSamples(dataset.reader(rows), dataset.reader(rows, "mask"), augment)


def _validation(
    dataset: Dataset, rows: pd.DataFrame, recipe: SegmenterRecipe
) -> Callable[[nn.Module], dict[str, float]]:
    """Loss and mean Dice per image on the square; neither views nor the mask rule are applied."""
    load = training_samples(dataset, rows, recipe.image.but(augmentation="none"))
    loss_of = LOSSES[recipe.loss]

    def validate(network: nn.Module) -> dict[str, float]:
        device = next(network.parameters()).device
        found = []  # loss and Dice of each image
        for images, masks in in_order(lambda i: load(i, 0), own_share(len(rows)), recipe.optimiser.batch_size):
            logits, truth = network(images.to(device)).float().cpu(), (masks[:, None] > 0).float()
            losses = torch.stack([loss_of(logits[i : i + 1], truth[i : i + 1]) for i in range(len(logits))])
            said, there = (logits.sigmoid() >= HALF).float().flatten(1), truth.flatten(1)
            sums = said.sum(1) + there.sum(1)
            dice = torch.where(sums > 0, 2 * (said * there).sum(1) / sums.clamp(min=1), 1.0)
            found.append(torch.stack([losses, dice], dim=1))
        loss, mean = gathered(torch.cat(found), len(rows)).double().mean(dim=0).tolist()
        return {"loss": loss, "dice": mean}

    return validate


def _gate_images(predictor: Segmenter, dataset: Dataset, rows: pd.DataFrame) -> GateImages:
    """The rows as the input gate sees them."""
    statistics, embeddings = [], []
    for batch in batched(rows.to_dict("records"), GATE_BATCH):
        images = [dataset.image(row) for row in batch]
        statistics.append(predictor.statistics(images))
        embeddings.append(predictor.seen(images)[1])
    return GateImages(np.concatenate(statistics), np.concatenate(embeddings))


def _calibrated(folder: Path, dataset: Dataset, seed: int) -> Segmenter:
    """The segmenter of the sealed bundle in `folder`, sealed again with a temperature for the graph that is there."""
    predictor = Segmenter(folder)
    temperature = _temperature(predictor, dataset, dataset.split("validation"), seed)
    seal(folder, predictor.card.model_copy(update={"temperature": temperature}))
    return Segmenter(folder)


def _dice_of_masks(predictor: Segmenter, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    """(N,) float64: the Dice of the mask of each row, drawn and compared as in an evaluation."""
    masks = segment_rows(predictor, dataset, rows)
    return np.array([dice(masks.mask(place), dataset.mask(row)) for place, row in enumerate(rows.to_dict("records"))])


def _temperature(predictor: Segmenter, dataset: Dataset, rows: pd.DataFrame, seed: int) -> float:
    """The temperature that makes pixel probabilities honest, fitted on pixels of the validation split."""
    logits, truth = [], []
    for number, (_, row) in enumerate(rows.iterrows()):
        rule = predictor.card.preprocessing
        found = predictor.seen([dataset.image(row)])[0][0, 0].ravel()
        mask = to_square(dataset.mask(row), rule.side, rule.fit).ravel()
        some = generator(seed, "pixels", number).integers(len(found), size=CALIBRATED_PIXELS)
        logits.append(found[some])
        truth.append(mask[some] >= 128)
    return fit_temperature(np.concatenate(logits)[:, None], np.concatenate(truth)[:, None].astype(float), "sigmoid")
