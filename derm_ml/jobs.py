"""One training as a file, so that another process can do it: a recipe, the version of a dataset, a folder.

Job("lesion_classification", recipe, dataset.path, dataset.md5, folder).write(path)
Job.read(path).train(on_epoch)          train, or go on with a training that was killed
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from derm_ml import DermError, formats
from derm_ml.files import write_json
from derm_ml.progress import OnEpoch
from derm_ml.recipe import Recipe, recipe_with
from derm_ml.registry import get_task
from derm_ml.training.autoencoder_recipes import AUTOENCODERS


class JobError(DermError, ValueError):
    """A job cannot be read, or its data are no longer those it names."""


@dataclass(frozen=True, slots=True)
class Job:
    """`recipe` is one of the task's, or an autoencoder's; the dataset at that path has that md5."""

    task: str
    recipe: Recipe
    dataset: Path
    dataset_md5: str
    folder: Path

    def write(self, path: Path) -> None:
        """Write the job as JSON."""
        write_json(
            path,
            formats.JOB.stamped(
                {
                    "task": self.task,
                    "recipe": self.recipe.name,
                    "values": self.recipe.flat(),
                    "dataset": str(self.dataset),
                    "dataset_md5": self.dataset_md5,
                    "folder": str(self.folder),
                }
            ),
        )

    @classmethod
    def read(cls, path: Path) -> Job:
        """The job in a file. Raises `JobError` naming the file, `WrongValue` for a recipe that has other settings."""
        try:
            said = formats.JOB.read(json.loads(path.read_text(encoding="utf-8")), path, JobError)
            recipes = {**get_task(said["task"]).recipes, **AUTOENCODERS}
            recipe = recipe_with(recipes[said["recipe"]], said["values"])
            return cls(said["task"], recipe, Path(said["dataset"]), said["dataset_md5"], Path(said["folder"]))
        except OSError as error:
            raise JobError(f"{path} cannot be read: {error.strerror or error}") from None
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
            raise JobError(f"{path} is no training job ({error}): {formats.JOB.again}") from None

    def train(self, on_epoch: OnEpoch) -> Path:
        """Train (or resume) in the folder; the path of the finished bundle.

        Raises `JobError` where the dataset at the path is another version.
        """
        from derm_ml.data.dataset import Dataset  # not before a training begins: a code location loads without it

        dataset = Dataset.open(self.dataset)
        if dataset.md5 != self.dataset_md5:
            raise JobError(f"{self.dataset} is version {dataset.md5}, the training is of {self.dataset_md5}")
        if self.recipe.name not in AUTOENCODERS:
            return get_task(self.task).fit(dataset, self.recipe, self.folder, on_epoch)
        from derm_ml.training.autoencoder import fit_autoencoder
        from derm_ml.training.autoencoder_recipes import AutoencoderRecipe

        assert isinstance(self.recipe, AutoencoderRecipe)
        return fit_autoencoder(dataset, self.recipe, self.folder, on_epoch)
