"""What a classifier learns from: the rows that are chosen, what is known of them, and how a batch is fed and balanced.

Several recipes' settings are read here and nowhere else: labelled_share, pseudo_labels, class_balance, extra_weight.
With a teacher, images without a label are among the rows too: all their targets are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from derm_ml.bundles.attributes import encode_attributes
from derm_ml.data.dataset import Dataset, Reader
from derm_ml.data.learned_ids import LearnedIds, learned_from, started_from
from derm_ml.images.augment import Augment, augmentation
from derm_ml.images.condition import conditioned
from derm_ml.images.lesion_place import central, on_background_of
from derm_ml.images.settings import Preprocessing
from derm_ml.metrics.heads import ClassifierHead
from derm_ml.records import DataError
from derm_ml.sentences import WrongValue
from derm_ml.training.feeding import LoadSample
from derm_ml.training.pseudo_labels import PseudoLabels, labelled_rows, read_pseudo_labels, unlabelled_rows
from derm_ml.training.seeding import generator
from derm_ml.training.settings import Balance, ClassifierImage, ClassifierRecipe, Patient
from derm_ml.training.teacher import Teacher, teacher_of

HALF_WAY = 0.5  # exponent of a label's rarity: 0 leaves labels as uneven as they are, 1 makes all alike
Targets = Callable[[np.ndarray], np.ndarray]  # (N, L) → (N, L), some of them NaN


@dataclass(frozen=True, eq=False)
class Selected:
    """The rows a classifier learns from and their targets (N, L), and the rows that choose its best epoch.

    `given`: the pseudo-labels among them, `learned`: the neutral ids of everything it learns from, `teacher`: who says
    what is learned beside the labels.
    """

    rows: pd.DataFrame
    targets: np.ndarray
    validation: pd.DataFrame
    given: PseudoLabels | None
    learned: LearnedIds
    teacher: Teacher | None


def select(dataset: Dataset, recipe: ClassifierRecipe, training_targets: Targets) -> Selected:
    """The rows the recipe wants learned.

    Raises `DataError` if a split or a label has no images, or for a teacher that is none for these data.
    """
    _check(dataset)
    labels, teacher = recipe.labels, teacher_of(recipe, dataset)
    if teacher and labels.pseudo_labels:
        raise WrongValue(
            "teacher and pseudo_labels cannot be set together: a teacher says something about every unlabelled image"
        )
    if teacher and recipe.image.other_background:
        raise WrongValue(
            "teacher and other_background cannot be set together: the teacher is asked about images as they are; set "
            "other_background=0"
        )
    rows = labelled_rows(dataset, labels.labelled_share, recipe.seed)
    targets = training_targets(dataset.targets(rows))
    given = None
    if labels.pseudo_labels:
        given = read_pseudo_labels(Path(labels.pseudo_labels), dataset, labels.labelled_share, recipe.seed)
        rows = pd.concat([rows, given.rows])
        targets = np.concatenate([targets, training_targets(given.targets)])
    extra = given.rows if given else None
    if teacher:
        extra, _ = unlabelled_rows(dataset, rows)
        targets = np.concatenate([targets, np.full((len(extra), len(dataset.labels)), np.nan, targets.dtype)])
        rows = pd.concat([rows, extra])
    teachers = [t for t in (given and given.teacher, teacher and teacher.bundle.path) if t]
    learned = learned_from(dataset, extra, [*teachers, *started_from(recipe)])
    _check_targets(dataset, targets, labels.labelled_share)
    return Selected(rows, targets, dataset.split("validation"), given, learned, teacher)


def preprocessing(image: ClassifierImage, dataset: Dataset) -> Preprocessing:
    """What the recipe wants done to an image of the dataset before the graph."""
    return Preprocessing(
        side=image.side,
        store_side=dataset.info["settings"]["store_side"],
        fit=image.squaring,
        field_of_view=image.field_of_view,
        channel=image.channel,
        contrast=image.contrast,
        smallest_side=image.smallest_side,
    )


@dataclass(frozen=True, eq=False)
class _TrainingSamples:
    image: Reader
    rule: Preprocessing
    augment: Augment
    targets: np.ndarray  # (N, L)
    attributes: np.ndarray  # (N, 2 · A)
    unknown: np.ndarray  # (2 · A,)
    hidden_share: float
    other_background: float

    def __call__(self, index: int, seed: int) -> tuple[np.ndarray, ...]:
        hidden = hides_facts(seed, self.hidden_share)
        image = self.augment(conditioned(self._shown(index, seed), self.rule), seed)
        return image, self.targets[index], self.unknown if hidden else self.attributes[index]

    def _shown(self, index: int, seed: int) -> np.ndarray:
        """The image, or its middle on the background of another one."""
        image, chance = self.image(index), generator(seed, "background")
        if chance.random() >= self.other_background:
            return image
        other = self.image(int(chance.integers(len(self.targets))))
        return on_background_of(other, image, central(*image.shape[:2]))


def hides_facts(seed: int, share: float) -> bool:
    """Whether the sample of that seed is shown without what is known of the person, as `share` of all are."""
    return generator(seed, "attributes").random() < share


def training_samples(
    dataset: Dataset,
    rows: pd.DataFrame,
    image: ClassifierImage,
    patient: Patient,
    targets: np.ndarray | None = None,
) -> LoadSample:
    """(index, seed) → augmented image (S, S, 3) uint8 of the training side, targets (L,), attributes (2 · A,) float32.

    `targets` (N, L) of the rows, where they are not those of the dataset.
    """
    side = image.training_side or image.side
    return _TrainingSamples(
        dataset.reader(rows),
        preprocessing(image, dataset),
        augmentation(image.augmentation, side, image.squaring, image.smallest_side),
        dataset.targets(rows) if targets is None else targets,
        encode_attributes(dataset.attributes_of(rows), patient.attributes),
        encode_attributes([{}], patient.attributes)[0],
        patient.attribute_dropout,
        image.other_background,
    )


def balance(
    dataset: Dataset, selected: Selected, settings: Balance, head: ClassifierHead
) -> tuple[Tensor | None, Sequence[float] | None]:
    """Loss weights per label, and how often each image is drawn, as the recipe's class balance asks."""
    targets = selected.targets
    frequency = np.nanmean(targets, axis=0)
    rarity = (1 / frequency if head == "softmax" else (1 - frequency) / frequency) ** HALF_WAY
    extra = selected.rows["source"].isin(dataset.info["settings"]["training_only"]).to_numpy()
    draws = np.where(extra, settings.extra_weight, 1.0)
    if settings.class_balance == "sampler":
        # a case without any label is drawn as often as its own rarity says if there is one label, else as the commonest
        without = 1.0 if len(frequency) == 1 else np.minimum(1.0, rarity.min())
        draws = draws * np.nanmax(np.where(targets == 1, rarity, without), axis=1)
    even = settings.class_balance != "sampler" and (settings.extra_weight == 1 or not extra.any())
    weights = None
    if settings.class_balance == "weights":
        scaled = rarity / (rarity * frequency).sum() if head == "softmax" else rarity  # mean weight of an image is 1
        weights = torch.tensor(scaled, dtype=torch.float32)
    return weights, None if even else list(draws)


def _check(dataset: Dataset) -> None:
    for name in ("train", "validation"):
        counts = {label: dataset.count(name, label) for label in dataset.labels}
        empty = [label for label, count in counts.items() if count == 0]
        empty += [f"anything but {label}" for label, count in counts.items() if count == len(dataset.split(name))]
        if empty:
            raise DataError(
                f"the {name} split of {dataset.path} has no image of {', '.join(empty)} ({counts}); "
                "add images or change the split fractions in params.yaml"
            )


def _check_targets(dataset: Dataset, targets: np.ndarray, share: float) -> None:
    """Labels that are put aside may have been the only ones."""
    for label, column in zip(dataset.labels, targets.T, strict=True):
        if not (column == 1).any() or not (column == 0).any():
            raise DataError(
                f"with labelled_share={share} no training image is known to have {label}, or to lack "
                "it: use a larger share, or a setting that hides fewer labels"
            )
