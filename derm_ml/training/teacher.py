"""The teacher a recipe names: found, named by its version, and refused where it knows what the student is judged by.

    recipe = with_teacher_version(recipe, task)   before the model folder is named: another teacher is another model
    teacher = teacher_of(recipe, dataset)         None where the recipe has none

A teacher is a trained classifier of the same task. Its path is no part of a model's identity, its version is: a name
of exactly its graph, its views and its calibration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from derm_ml.bundles.bundle import Bundle, model_of, read_card
from derm_ml.bundles.views import VIEWS
from derm_ml.data.dataset import Dataset
from derm_ml.data.learned_ids import LearnedIds
from derm_ml.model_folder import CARD, ModelFolder, bundle_named, model_folders
from derm_ml.places import PROJECT, installation
from derm_ml.recipe import Recipe, leaves
from derm_ml.records import DataError
from derm_ml.sentences import WrongValue
from derm_ml.training.settings import ClassifierRecipe

R = TypeVar("R", bound=Recipe)
_VERSION = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Teacher:
    """A trained model whose answers are learned. `name`: of its model folder."""

    bundle: Bundle
    name: str

    @property
    def version(self) -> str:
        return self.bundle.version

    @property
    def passes(self) -> int:
        """How often its networks look at an image: members times views."""
        card = self.bundle.card
        return int(leaves(card.recipe).get("members", 1)) * len(VIEWS[card.views])

    def __str__(self) -> str:
        return f"{self.name} (version {self.version})"


def with_teacher_version(recipe: R, task: str) -> R:
    """The recipe with its teacher named by folder and version; any other recipe as it is.

    Raises `WrongValue` where there is no such model or a recipe that needs one names none, `DataError` where the model
    that is there is not the version the recipe names, `BundleError` for one of another task.
    """
    if not isinstance(recipe, ClassifierRecipe):
        return recipe
    wanted = recipe.distillation
    if not wanted.teacher:
        if recipe.needs_teacher or wanted.teacher_version:
            raise WrongValue(
                f"the recipe {recipe.name} learns the answers of a trained model, its teacher: name one with "
                f"--set teacher=out/{task}/…"
            )
        return recipe
    bundle = model_of(task, _bundle(wanted.teacher, task))
    version = Bundle(bundle, read_card(bundle)).version
    if wanted.teacher_version not in ("", version):
        raise DataError(
            f"the teacher {bundle} is version {version}, the recipe names {wanted.teacher_version}: name the folder of "
            "that version, or leave teacher_version empty to learn from the one that is there"
        )
    return recipe.but(teacher=_short(bundle, task), teacher_version=version)


def teacher_of(recipe: ClassifierRecipe, dataset: Dataset) -> Teacher | None:
    """The teacher of a recipe `with_teacher_version`, opened.

    Raises `DataError` where it was trained on other splits, so that it may have learned from the images its student is
    validated or tested on, where it knows one of these by content, or for other labels; `BundleError` where it is
    damaged, not trusted, or does not say what it learned from.
    """
    if not recipe.distillation.teacher:
        return None
    bundle = Bundle.open_trusted(_bundle(recipe.distillation.teacher, dataset.task))
    card, path = bundle.card, bundle.path
    for split in ("test", "validation"):
        theirs, ours = card.split_hashes.get(split), dataset.split_hashes[split]
        if theirs != ours:
            raise DataError(
                f"the teacher {path} was trained beside the {split} split {theirs}, these data have {ours}: it may "
                f"have learned from images its student is judged by; train the teacher on these data first"
            )
    if known := LearnedIds.of(bundle).in_split(dataset, "test"):  # images that have come under other names
        raise DataError(f"the teacher {path} cannot teach here: {known[0]}; train the teacher on these data first")
    if card.labels != dataset.labels:
        raise DataError(
            f"the teacher {path} tells {', '.join(card.labels)}, these data have {', '.join(dataset.labels)}: name a "
            "teacher of the same labels"
        )
    return Teacher(bundle, _folder(path).name)


def _bundle(named: str, task: str) -> Path:
    """The bundle somebody names by path, by folder below the models of the task, or by version."""
    models = installation().models(task)
    for path in (Path(named).expanduser(), models / named, PROJECT / named):
        bundle = bundle_named(path)
        if (bundle / CARD).is_file():
            return bundle
    if _VERSION.fullmatch(named):
        for folder in model_folders(models):
            if Bundle(folder.bundle, read_card(folder.bundle)).version == named:
                return folder.bundle
    raise WrongValue(
        f"teacher={named}: there is no trained model; give the path of a model folder, its name below {models}, or the "
        "version of a model there"
    )


def _folder(bundle: Path) -> Path:
    """The model folder of a bundle, or the bundle itself where it lies alone."""
    folder = ModelFolder.holding(bundle)
    return folder.path if folder.bundle == bundle else bundle


def _short(bundle: Path, task: str) -> str:
    """A name by which every process finds the bundle: that below the models of the task, else the whole path."""
    folder = _folder(bundle).resolve()
    return folder.name if folder.parent == installation().models(task).resolve() else str(folder)
