"""Where a model is trained. This one trains in the process of the Dagster step.

`fit` is all an asset knows of training, so a class of the same shape can send the work to another machine.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from derm_ml.progress import OnEpoch
from derm_ml.recipe import Recipe
from derm_ml.task import Task


class Trainer(dg.ConfigurableResource):
    """Trains in this process, on the devices Lightning Fabric finds."""

    def fit(self, task: Task, dataset: Path, recipe: Recipe, folder: Path, on_epoch: OnEpoch) -> Path:
        """Train (or resume) in `folder` on the prepared dataset; returns the path of the finished bundle."""
        from derm_ml.data.dataset import Dataset  # not before a training begins: a code location loads without it

        return task.fit(Dataset.open(dataset), recipe, folder, on_epoch)
