"""Fits persistent_conditions: version 1's numbers on pairs with known truth, version 2's network before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from derm_ml.data.dataset import Dataset
from derm_ml.pairs.settings import BiAutoencoderRecipe, PairRecipe
from derm_ml.pairs.training import fit_classical
from derm_ml.progress import OnEpoch


def fit(dataset: Dataset, recipe: PairRecipe, out: Path, on_epoch: OnEpoch) -> Path:
    """Fit (or resume) in `out` and return the path of the bundle."""
    if isinstance(recipe, BiAutoencoderRecipe):
        from derm_ml.pairs.bi_autoencoder import fit_bi_autoencoder

        return fit_bi_autoencoder(dataset, recipe, out, on_epoch)
    return fit_classical(dataset, recipe, out, on_epoch)


def demo(size: int) -> dict[str, Any]:
    """The bi-autoencoder's forward pass on two random photos, and its three losses, as the original's demo ran it."""
    import torch

    from derm_ml.losses.bi_autoencoder import reconstruction_and_latent
    from derm_ml.nets.bi_autoencoder import BiAutoencoder

    torch.manual_seed(0)
    network = BiAutoencoder(size).eval()
    first, second = torch.rand(1, 3, size, size), torch.rand(1, 3, size, size)
    with torch.no_grad():
        said = network(first, second)
        terms = reconstruction_and_latent(said, first, second, "bce")
    shapes = {"code": said.codes[0], "reconstruction": said.logits[0], "transform": said.transforms[0]}
    named = zip(("loss of the first photo", "loss of the second photo", "loss of the codes"), terms, strict=True)
    return {name: tuple(x.shape) for name, x in shapes.items()} | {name: round(v.item(), 4) for name, v in named}
