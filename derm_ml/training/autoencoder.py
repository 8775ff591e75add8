"""Train an autoencoder on a dataset's pictures and seal it into a bundle. Labels are not looked at.

network → best weights by PSNR on the validation split (training/loop.py) → graph → bundle
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
from derm_ml.data.dataset import Dataset, Reader
from derm_ml.data.learned_ids import learned_from
from derm_ml.images.augment import Augment, augmentation
from derm_ml.images.preprocess import to_square
from derm_ml.images.settings import Preprocessing
from derm_ml.losses.reconstruction import reconstruction_loss, structural_similarity
from derm_ml.model_folder import ModelFolder
from derm_ml.nets.autoencoder import Autoencoder, autoencoder
from derm_ml.progress import OnEpoch
from derm_ml.provenance import git_commit, note_training
from derm_ml.ranks import this_rank
from derm_ml.records import DataError
from derm_ml.training.autoencoder_recipes import AutoencoderImage, AutoencoderRecipe
from derm_ml.training.devices import gathered, own_share
from derm_ml.training.export import export_graph
from derm_ml.training.feeding import LoadSample
from derm_ml.training.loop import fit_network
from derm_ml.training.seeding import derived


def fit_autoencoder(dataset: Dataset, recipe: AutoencoderRecipe, out: Path, on_epoch: OnEpoch) -> Path:
    """Train (or resume) in `out` and return `out/bundle`, whose graph gives `embedding` (N, D) and `reconstruction`.

    Raises `DataError` if the training or the validation split is empty, `TrainingError` if training fails.
    """
    model = ModelFolder(out)
    if model.finished:  # the folder names recipe and data: this is the same model
        return model.bundle
    train, validation = dataset.split("train"), dataset.split("validation")
    if train.empty or validation.empty:
        raise DataError(f"{dataset.path}: an autoencoder needs training and validation images")
    torch.manual_seed(derived(recipe.seed, "weights"))
    image, wanted = recipe.image, recipe.objective
    network = autoencoder(recipe.network, image.side, recipe.code)

    def loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        return reconstruction_loss(model(batch[0]).float(), as_target(batch[0]), wanted.pixel_loss, wanted.ssim_weight)

    fitted = fit_network(
        network,
        training_samples(dataset, train, image),
        len(train),
        loss,
        _validation(dataset, validation, recipe),
        "psnr",
        recipe,
        out,
        json.dumps([recipe.name, recipe.identity(), dataset.md5], sort_keys=True),
        on_epoch,
        turns=dataset.turns(train),
    )
    if not this_rank().leads:
        return model.bundle  # which the first process writes
    note_training(model, fitted.history, streamed=dataset.streamed)
    network.load_state_dict(fitted.state)
    card = BundleCard(
        task=dataset.task,
        recipe_name=recipe.name,
        recipe=recipe.model_dump(mode="json"),
        labels=dataset.labels,
        head="reconstruction",
        preprocessing=Preprocessing(
            side=image.side, store_side=dataset.info["settings"]["store_side"], fit=image.squaring, smallest_side=0
        ),
        temperature=1.0,
        dataset_md5=dataset.md5,
        split_hashes=dataset.split_hashes,
        licences=dataset.licences,
        backbone=f"{recipe.network}_autoencoder",
        pretrained="none",
        git_commit=git_commit(),
        epochs=fitted.epoch,
        validation=fitted.history[fitted.epoch - 1].metrics,
    )
    with writing_bundle(model.bundle) as folder:
        images = torch.zeros(2, image.side, image.side, 3, dtype=torch.uint8)
        export_graph(network, _Coded(network), {"image": images}, ["embedding", "reconstruction"], folder)
        learned_from(dataset).write(folder)
        seal(folder, card)
    return model.bundle


class _Coded(nn.Module):
    """(N, S, S, 3) uint8 → code (N, D) float32, reconstruction (N, S, S, 3) uint8."""

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        code = self.network.encode(image)
        found = self.network.decode(code).permute(0, 2, 3, 1)
        return code, (found * 255).round().to(torch.uint8)


def as_target(images: Tensor) -> Tensor:
    """(N, S, S, 3) uint8 → (N, 3, S, S) float in 0..1."""
    return images.permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True, eq=False)
class _TrainingSamples:
    image: Reader
    augment: Augment

    def __call__(self, index: int, seed: int) -> tuple[np.ndarray, ...]:
        return (self.augment(self.image(index), seed),)


def training_samples(dataset: Dataset, rows: pd.DataFrame, image: AutoencoderImage) -> LoadSample:
    """(index, seed) → augmented image (side, side, 3) uint8."""
    return _TrainingSamples(dataset.reader(rows), augmentation(image.augmentation, image.side, image.squaring))


def _validation(
    dataset: Dataset, rows: pd.DataFrame, recipe: AutoencoderRecipe
) -> Callable[[nn.Module], dict[str, float]]:
    """PSNR (mean over images, dB) and SSIM on the validation images, kept as uint8 squares."""
    mine = rows.iloc[own_share(len(rows))].to_dict("records")
    squares = [to_square(dataset.image(row), recipe.image.side, recipe.image.squaring) for row in mine]
    images = torch.from_numpy(np.stack(squares))

    def validate(network: nn.Module) -> dict[str, float]:
        device = next(network.parameters()).device
        parts = []  # PSNR and SSIM of each image
        for some in images.split(recipe.optimiser.batch_size):
            wanted = as_target(some.to(device))
            found = network(some.to(device)).float()
            noise = -10 * torch.log10((found - wanted).square().mean(dim=(1, 2, 3)))
            pairs = zip(found.split(1), wanted.split(1), strict=True)
            likeness = torch.stack([structural_similarity(*pair) for pair in pairs])
            parts.append(torch.stack([noise, likeness], dim=1).cpu())
        psnr, ssim = gathered(torch.cat(parts), len(rows)).double().mean(dim=0).tolist()
        return {"psnr": psnr, "ssim": ssim}

    return validate
