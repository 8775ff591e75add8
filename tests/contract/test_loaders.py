"""What a training hands to its worker processes must be something that can be sent to them.

Every run that Dagster launches is itself started by `spawn`, and so are its workers. A closure among the samples then
ends the training at its first batch, while every test that trains in one process passes.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.progress import silent
from derm_ml.recipe import Recipe
from derm_ml.registry import all_tasks
from derm_ml.task import Task
from derm_ml.training import loop
from derm_ml.training.autoencoder import fit_autoencoder
from derm_ml.training.autoencoder_recipes import AUTOENCODERS
from derm_ml.training.feeding import LoadSample

pytestmark = pytest.mark.slow

SEED = 2**40 + 7


class Captured(Exception):
    """Carries what a training was about to load its samples with."""

    def __init__(self, load: LoadSample) -> None:
        self.load = load


def given_to_the_workers(fit, dataset: Dataset, recipe: Recipe, out: Path) -> LoadSample | None:
    """None for a fit without a network."""
    try:
        fit(dataset, recipe, out, silent)
    except Captured as caught:
        return caught.load
    return None


def recipes_of(task: Task) -> Iterator[Recipe]:
    for name, recipe in task.recipes.items():
        if getattr(recipe, "needs_teacher", False):  # tests/training/test_distillation.py has one
            continue
        own = {"pretrained": "none"} if "pretrained" in recipe.paths() else {}
        yield task.recipe(name, **own)
        if name == task.default_recipe and "augmentation" in recipe.paths():
            kinds = get_args(type(recipe.groups()["image"]).model_fields["augmentation"].annotation)
            yield from (task.recipe(name, augmentation=kind, **own) for kind in kinds)


@pytest.fixture(scope="module")
def worker() -> Iterator[multiprocessing.pool.Pool]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


@pytest.mark.parametrize("task", all_tasks().values(), ids=lambda task: task.name)
def test_a_spawned_worker_prepares_the_very_samples_of_every_recipe(task, worker, tmp_path, monkeypatch):
    def capture(load, *_args, **_options):
        raise Captured(load)

    monkeypatch.setattr(loop, "training_loader", capture)
    task.draw(tmp_path / "raw", 24, seed=2)
    dataset = prepare(task, tmp_path / "raw", task.settings(), tmp_path / "data")
    asked = [(task.fit, recipe) for recipe in recipes_of(task) if "epochs" in recipe.paths()]
    if task.has_embedding:
        asked += [(fit_autoencoder, recipe()) for recipe in AUTOENCODERS.values()]
    assert asked
    for number, (fit, recipe) in enumerate(asked):
        load = given_to_the_workers(fit, dataset, recipe, tmp_path / f"{number}")
        assert load is not None, f"{recipe.name} trains without a loader of samples"
        for here, there in zip(load(1, SEED), worker.apply(load, (1, SEED)), strict=True):
            assert here.dtype == there.dtype
            np.testing.assert_array_equal(here, there, err_msg=f"{recipe.name}: {recipe}")
