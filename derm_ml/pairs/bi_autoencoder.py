"""Train version 2 on the photos of a dataset and seal it: network → graph → numbers of its matches → bundle.

What a training pair is: training/photo_pairs.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from derm_ml.asking.pair import FIRST, SECOND
from derm_ml.bundles.bundle import MODEL, writing_bundle
from derm_ml.data.dataset import Dataset
from derm_ml.images.preprocess import limit_side
from derm_ml.losses.bi_autoencoder import landed, misalignment, reconstruction_and_latent
from derm_ml.model_folder import ModelFolder
from derm_ml.nets.bi_autoencoder import BiAutoencoder
from derm_ml.pairs.photo_pairs import PLACES, training_pairs
from derm_ml.pairs.registration.learned import TransformNetwork
from derm_ml.pairs.settings import BiAutoencoderObjective, BiAutoencoderRecipe
from derm_ml.pairs.training import seal_pairs
from derm_ml.progress import OnEpoch
from derm_ml.provenance import note_training
from derm_ml.ranks import this_rank
from derm_ml.records import DataError
from derm_ml.training.export import export_registration
from derm_ml.training.loop import fit_network
from derm_ml.training.seeding import derived

KEPT = 1.7  # sides of what the network sees: photos are kept so large, so that what is cut out of them is sharp


def fit_bi_autoencoder(dataset: Dataset, recipe: BiAutoencoderRecipe, out: Path, on_epoch: OnEpoch) -> Path:
    """Train (or resume) in `out` and return `out/bundle`. The best epoch aligns the validation pairs best."""
    model = ModelFolder(out)
    if model.finished:
        return model.bundle
    torch.manual_seed(derived(recipe.seed, "weights"))
    net, side = recipe.network, recipe.network.side
    network = BiAutoencoder(side, net.dropout, net.shared, net.looks, net.bends)
    network.to(memory_format=torch.channels_last)  # as photos lie in memory: a quarter faster
    photos, validation = (_photos(dataset, split, side) for split in ("train", "validation"))
    if not photos or not validation:
        raise DataError(f"{dataset.path}: {recipe.name} needs training and validation photos")
    identity = json.dumps([recipe.name, recipe.identity(), dataset.md5], sort_keys=True)
    fitted = fit_network(
        network,
        training_pairs(photos, side),
        len(photos) * recipe.pairs_per_photo,
        bi_autoencoder_loss(recipe.objective),
        _validation(validation, recipe),
        "aligned",
        recipe,
        out,
        identity,
        on_epoch,
    )
    if not this_rank().leads:
        return model.bundle  # which the first process writes
    note_training(model, fitted.history, streamed=dataset.streamed)
    network.load_state_dict(fitted.state)
    with writing_bundle(model.bundle) as folder:
        export_registration(network, folder)
        seal_pairs(dataset, recipe, folder, recipe.version, TransformNetwork.open(folder / MODEL, side), fitted.epoch)
    return model.bundle


def bi_autoencoder_loss(wanted: BiAutoencoderObjective) -> Callable[[nn.Module, Sequence[Tensor]], Tensor]:
    """(network, batch of first photos, second photos uint8, where `PLACES` are) → the weighted sum of the terms."""
    places = torch.from_numpy(PLACES)
    weights = wanted.first_weight, wanted.second_weight, wanted.latent_weight, wanted.map_weight

    def loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        first, second = _floats(batch[0]), _floats(batch[1])
        said = model(first, second)
        terms = reconstruction_and_latent(said, first, second, wanted.latent)
        apart = misalignment(landed(said, places.to(first.device)), batch[2])
        known = apart.isfinite()
        terms = *terms, apart[known].sum() / apart.numel()
        return torch.stack([w * term for w, term in zip(weights, terms, strict=True)]).sum()

    return loss


def _photos(dataset: Dataset, split: str, side: int) -> list[list[np.ndarray]]:
    """The photos of a split, small: one, or the two visits of a pair."""
    found: list[list[np.ndarray]] = []
    for row in dataset.split(split).to_dict("records"):
        roles = [r for r in (FIRST, SECOND) if isinstance(row.get(f"{r}.shard"), str)]
        found.append([limit_side(dataset.image(row, role), round(KEPT * side)) for role in roles])
    return found


def _floats(photos: Tensor) -> Tensor:
    """(N, side, side, 3) uint8 → (N, 3, side, side) in 0..1."""
    return photos.permute(0, 3, 1, 2).float() / 255


def _validation(
    photos: Sequence[Sequence[np.ndarray]], recipe: BiAutoencoderRecipe
) -> Callable[[nn.Module], dict[str, float]]:
    """The three terms, and `aligned`: by how much the photos' mean misalignment falls, 0 untrained, 1 at best.

    At most 200 pairs, so each of several processes looks at all of them.
    """
    load = training_pairs([visits[:1] for visits in photos], recipe.network.side)
    drawn = [load(k, derived(recipe.seed, "validation", k)) for k in range(min(200, 3 * len(photos)))]
    parts = [torch.from_numpy(np.stack([d[k] for d in drawn])) for k in range(3)]
    places, batch = torch.from_numpy(PLACES), recipe.optimiser.batch_size
    still = misalignment(places.expand(len(drawn), 1, *places.shape), parts[2]).nanmean().item()

    def validate(network: nn.Module) -> dict[str, float]:
        assert isinstance(network, BiAutoencoder)
        device = next(network.parameters()).device
        terms, apart = [], []
        for start in range(0, len(drawn), batch):
            a, b, truth = (part[start : start + batch].to(device) for part in parts)
            first, second = _floats(a), _floats(b)
            said = network(first, second)
            found = reconstruction_and_latent(said, first, second, recipe.objective.latent)
            terms.append(torch.stack([t.float() for t in found]).cpu() * len(a))
            apart.append(misalignment(landed(said, places.to(device)), truth)[:, -1].cpu())
        mean = torch.stack(terms).sum(dim=0) / len(drawn)
        after = torch.cat(apart).nanmean().item()
        names = ("loss_first", "loss_second", "loss_latent")
        return {
            **dict(zip(names, mean.tolist(), strict=True)),
            "aligned": 1 - after / still,
            "error": after,
        }

    return validate
