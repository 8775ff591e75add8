"""Models that share a trained network: what a setting changes after training needs no training again.

A model of the same recipe on the same data, but for 8-bit integers or local cases, gives its graph.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from derm_ml.bundles.bundle import LEARNED, MODEL, WEIGHTS, Bundle, seal
from derm_ml.data.dataset import Dataset
from derm_ml.model_folder import ModelFolder
from derm_ml.training.settings import ImageRecipe


def finished_twin(dataset: Dataset, recipe: ImageRecipe, out: Path) -> ModelFolder | None:
    """The model folder beside `out` of the same recipe on the same data, without local cases or also without `int8`, if
    one is trained."""
    at_home = recipe.but(local_cases="") if "local_cases" in recipe.paths() else recipe  # segmenters have none
    for simpler in (at_home, at_home.but(int8=False)):
        twin = ModelFolder.of(out.parent, simpler, dataset.md5)
        if simpler != recipe and twin.finished:
            return twin
    return None


def take_over(twin: ModelFolder, recipe: ImageRecipe, folder: Path) -> Bundle:
    """Put the trained network of `twin` into `folder` and seal it as this recipe's, not calibrated yet.

    Returns the bundle it comes from. Raises `BundleError` if that is damaged or not trusted.
    """
    bundle = Bundle.open_trusted(twin.bundle)
    for name in (MODEL, WEIGHTS, LEARNED):
        if (bundle.path / name).exists():  # a bundle of before may not say what it learned from
            shutil.copyfile(bundle.path / name, folder / name)
    seal(folder, bundle.card.model_copy(update={"recipe": recipe.model_dump(mode="json")}))
    return bundle
