"""What lies in a model folder, out/<task>/<recipe>-<id>/: the one place that names its files.

bundle/                  the trained model; bundle.json, its card, is written last
checkpoint.safetensors   the last finished epoch; of an ensemble each member has a folder, member-1, member-2, …
history.json             every epoch's report
provenance.json          when, by whom, where and in how long it was trained
evaluation_<split>/      what was measured on a frozen split
external_<dataset>_<split>/   what was measured on a dataset the model does not come from
predictions/             what the model says of each split of a dataset, kept: <dataset>/<split>.parquet
report/                  what was measured of an autoencoder
codes.parquet            the codes of an autoencoder
<artifact>/              what else is made of the model, one folder each: embeddings, heatmaps, similar_images, …
cards/                   the model card and the data card: Markdown, HTML, JSON
pseudo_labels/           labels proposed for the unlabelled images
mlflow_run               the registry's run that trained it
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from derm_ml.recipe import Recipe

CARD = "bundle.json"  # in a bundle
CARDS = "cards"  # a folder beside the bundle
_BUNDLE, _EVALUATION = "bundle", "evaluation_"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One model folder. Nothing in it needs to be there yet."""

    path: Path

    @classmethod
    def of(cls, models: Path, recipe: Recipe, dataset_md5: str) -> ModelFolder:
        """The folder below `models` of a recipe on a dataset, `<recipe>-<id>`: the id is a hash of both.

        The same recipe on the same data is the same folder, so a fit that was killed is resumed by fitting again.
        """
        identity = json.dumps([recipe.name, recipe.identity(), dataset_md5], sort_keys=True)
        return cls(models / f"{recipe.name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}")

    @classmethod
    def holding(cls, part: Path) -> ModelFolder:
        """The folder that holds a bundle, an evaluation or an artifact."""
        return cls(part.parent)

    @property
    def bundle(self) -> Path:
        return self.path / _BUNDLE

    @property
    def of_training(self) -> tuple[str, ...]:
        """What a training leaves for the steps after it, by name."""
        return (*(path.name for path in (self.bundle, self.history, self.registry_run)), "provenance.json")

    @property
    def finished(self) -> bool:
        """Whether the model is trained: its bundle has its card."""
        return (self.bundle / CARD).exists()

    @property
    def touched(self) -> float:
        """When something in the folder was written last, in seconds since 1970."""
        return max((part.stat().st_mtime for part in self.path.iterdir()), default=self.path.stat().st_mtime)

    @property
    def history(self) -> Path:
        return self.path / "history.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.safetensors"

    def member(self, number: int) -> ModelFolder:
        """Where member `number` of an ensemble trains, counted from 1."""
        return ModelFolder(self.path / f"member-{number}")

    def evaluation(self, split: str) -> Path:
        return self.path / f"{_EVALUATION}{split}"

    def external(self, dataset_md5: str, split: str) -> Path:
        """What was measured on a dataset the model does not come from."""
        return self.path / f"external_{dataset_md5[:12]}_{split}"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    def predicted(self, dataset_md5: str, split: str) -> Path:
        """What the model says of one split of a dataset, which the first digits of its md5 name."""
        return self.predictions / dataset_md5[:12] / f"{split}.parquet"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def codes(self) -> Path:
        return self.path / "codes.parquet"

    def artifact(self, name: str) -> Path:
        return self.path / name

    @property
    def embeddings(self) -> Path:
        """The embedding of every image of the dataset, which other artifacts read."""
        return self.artifact("embeddings") / "embeddings.parquet"

    @property
    def index(self) -> Path:
        """The index of similar images."""
        return self.artifact("similar_images") / "index"

    @property
    def pseudo_labels(self) -> Path:
        return self.path / "pseudo_labels"

    @property
    def registry_run(self) -> Path:
        return self.path / "mlflow_run"


def bundle_named(path: Path) -> Path:
    """The bundle a person names: itself, which may have another name where a registry keeps it, or its model folder."""
    return path if path.name == _BUNDLE or (path / CARD).exists() else ModelFolder(path).bundle


def model_folders(models: Path) -> Iterator[ModelFolder]:
    """The folders of trained models below `models`, by name."""
    for card in sorted(models.glob(f"*/{_BUNDLE}/{CARD}")):
        yield ModelFolder(card.parents[1])


def trainings(models: Path) -> Iterator[ModelFolder]:
    """The folders below `models` in which something was trained or is being trained, by name."""
    for path in sorted(models.glob("*/")):
        folder = ModelFolder(path)
        if any(
            part.exists() for part in (folder.bundle / CARD, folder.history, folder.checkpoint, folder.member(1).path)
        ):
            yield folder


def is_evaluation(path: Path) -> bool:
    """Whether a folder is called as the evaluation in a model folder is."""
    return path.name.startswith(_EVALUATION)


def evaluations(models: Path) -> Iterator[Path]:
    """The evaluations in all model folders below `models`, by name."""
    yield from sorted(models.glob(f"*/{_EVALUATION}*/"))
