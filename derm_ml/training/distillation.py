"""One network that answers as an ensemble with its views does: it learns the teacher's answers beside the labels.

    derm fit lesion_classification --recipe distilled --set teacher=out/lesion_classification/strong-1234

The teacher is asked as an endpoint asks it, by the `Classifier` of its bundle, about every training image and every
unlabelled one whose patient has none in validation or test. What it says is kept by content in `data/cache`, image by
image: a training that was killed goes on asking where it was, and another student of the same teacher asks nothing.

With `teacher_crops` both see the same crops, as Beyer et al. 2021 advise (arXiv 2106.05237); turned by the teacher's
own views, under which its answer is the same. Without, the teacher sees the whole image once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from derm_ml.bundles.bundle import FromTeacher
from derm_ml.bundles.calibration import calibrated
from derm_ml.bundles.classifier import Classifier
from derm_ml.bundles.views import VIEWS
from derm_ml.cache import Cache, code_digest
from derm_ml.data.dataset import Dataset
from derm_ml.images.settings import Views
from derm_ml.metrics.classification import mean_auc
from derm_ml.metrics.intervals import paired_difference
from derm_ml.places import installation
from derm_ml.progress import duration, say_under_way
from derm_ml.ranks import this_rank
from derm_ml.training.classifier_samples import Selected, hides_facts, training_samples
from derm_ml.training.feeding import LoadSample
from derm_ml.training.seeding import derived, generator
from derm_ml.training.settings import ClassifierImage, ClassifierRecipe, Patient
from derm_ml.training.teacher import Teacher

KIND = "logits"  # in the cache
PAUSE = 15.0  # seconds between two sentences about how far the teacher is
_CODE = ("derm_ml.images.augment", "derm_ml.images.condition", "derm_ml.images.preprocess", __name__)


@dataclass(frozen=True, eq=False)
class _Taught:
    """Samples with the teacher's answer: (index, seed) → image, targets, attributes, answer (L,) float32."""

    samples: LoadSample
    answers: np.ndarray  # (N, crops or 1, L)
    names: Sequence[str]  # of the images, by which their crops are drawn; empty: every epoch draws its own
    views: Views

    def __call__(self, index: int, seed: int) -> tuple[np.ndarray, ...]:
        answers = self.answers[index]
        if not self.names:
            return *self.samples(index, seed), answers[0]
        rng = generator(seed, "crop")
        crop = int(rng.integers(len(answers)))
        turns = VIEWS[self.views]
        turn, _ = turns[int(rng.integers(len(turns)))]
        image, targets, attributes = self.samples(index, crop_seed(self.names[index], crop))
        return np.ascontiguousarray(turn(image[None])[0]), targets, attributes, answers[crop]


def taught_samples(dataset: Dataset, selected: Selected, teacher: Teacher, recipe: ClassifierRecipe) -> LoadSample:
    """As `training_samples`, with the teacher's answer (L,) float32 about what the image shows of it."""
    rows, crops = selected.rows, _crops(recipe)
    samples = training_samples(dataset, rows, recipe.image, recipe.patient, selected.targets)
    answers = answers_of(teacher, dataset, rows, recipe.image, recipe.patient, crops)
    return _Taught(samples, answers, _names(rows) if crops else (), teacher.bundle.card.views)


def answers_of(
    teacher: Teacher, dataset: Dataset, rows: pd.DataFrame, image: ClassifierImage, patient: Patient, crops: int = 0
) -> np.ndarray:
    """What the teacher says of each image, or of each of its `crops` crops: logits (N, crops or 1, L) float32.

    Raises `DataError` for an image that cannot be read.
    """
    predictor = Classifier(teacher.bundle.path)
    questions = _Questions.of(predictor, dataset, rows, image, patient, crops)
    each = max(1, crops)
    found = np.empty((len(rows), each, len(predictor.labels)), np.float32)
    told = _Told(found.shape[0] * each)
    rank = this_rank()  # each process begins elsewhere, and finds there what the others have asked
    places = np.roll(np.arange(told.total), -(rank.number * told.total // rank.world))
    with Cache(installation().answers_of_teacher(dataset.task, teacher.version)) as kept:
        for place in places.tolist():
            index, crop = divmod(place, each)
            key = questions.key(index, crop)
            answer, missing = kept.get(KIND, key), False
            if answer is None:
                square, facts = questions.asked(index, crop)
                # alone: whatever else is asked, the answer is the same to the last bit
                answer, missing = predictor.seen(square[None], [facts])[0][0].astype("<f4").tobytes(), True
                kept.put(KIND, key, answer)
            found[index, crop] = np.frombuffer(answer, "<f4")
            told.answered(missing)
    return found


def from_teacher(
    teacher: Teacher, student: np.ndarray, dataset: Dataset, scored: Sequence[str], selected: Selected
) -> FromTeacher:
    """Student against teacher on the validation split, the same resampled patients for both.

    `student` (N, L) are the probabilities, calibrated, that the new model gives the images of the validation split.
    Of logits alone nothing could be said: where labels exclude each other, only differences of them mean something.
    """
    rows = selected.validation
    logits = answers_of(teacher, dataset, rows, ClassifierImage(), Patient())[:, 0]
    of_teacher = calibrated(teacher.bundle.card, logits)
    columns = [dataset.labels.index(label) for label in scored]
    y, patients = dataset.targets(rows)[:, columns], rows["group"].to_numpy(str)
    lost = paired_difference(mean_auc, patients, student[:, columns], of_teacher[:, columns], y)
    return FromTeacher(
        teacher=teacher.name,
        version=teacher.version,
        passes=teacher.passes,
        images=len(selected.rows),
        unlabelled=int(np.isnan(selected.targets).all(axis=1).sum()),
        difference=lost.value,
        low=lost.low,
        high=lost.high,
        n=lost.n,
        split_hash=dataset.split_hashes["validation"],
    )


def crop_seed(name: str, number: int) -> int:
    """What draws crop `number` of the image of that name: the same for every student."""
    return derived("crop", name, number)


@dataclass(frozen=True, eq=False)
class _Questions:
    """What the teacher is asked about each crop of each image, and the key its answer is kept by."""

    predictor: Classifier
    dataset: Dataset
    rows: pd.DataFrame
    crops: LoadSample | None  # as the teacher sees them; None: it sees whole images
    names: Sequence[str]
    facts: Sequence[dict[str, Any]]
    hidden_share: float
    drawn: Sequence[Any]  # what else a crop follows from

    @classmethod
    def of(
        cls,
        predictor: Classifier,
        dataset: Dataset,
        rows: pd.DataFrame,
        image: ClassifierImage,
        patient: Patient,
        crops: int,
    ) -> _Questions:
        """`image` and `patient` are the student's: of the crops and of what it is told of people."""
        card, side = predictor.card, image.training_side or image.side
        own = card.preprocessing
        shown = image.but(
            side=own.side,
            training_side=0,
            smallest_side=round(image.smallest_side * own.side / side),
            field_of_view=own.field_of_view,
            channel=own.channel,
            contrast=own.contrast,
        )
        hidden = patient.attribute_dropout if patient.attributes else 0.0
        known = [
            {name: facts[name] for name in card.attributes if name in facts} for facts in dataset.attributes_of(rows)
        ]
        samples = training_samples(dataset, rows, shown, Patient()) if crops else None
        drawn = [shown.augmentation, shown.squaring, shown.smallest_side, hidden] if crops else []
        return cls(predictor, dataset, rows, samples, _names(rows), known, hidden, drawn)

    def key(self, index: int, crop: int) -> bytes:
        name, store_side = self.names[index], self.dataset.info["settings"]["store_side"]
        which = [name, store_side, self.facts[index], *([*self.drawn, crop] if self.crops else [])]
        return hashlib.blake2b(_code() + json.dumps(which, sort_keys=True).encode(), digest_size=20).digest()

    def asked(self, index: int, crop: int) -> tuple[np.ndarray, dict[str, Any]]:
        """The square (side, side, 3) uint8, and what is known of the person."""
        if self.crops is None:
            image = self.dataset.image(self.rows.iloc[index])
            return self.predictor.squares([image])[0], self.facts[index]
        seed = crop_seed(self.names[index], crop)
        hidden = hides_facts(seed, self.hidden_share)
        return self.crops(index, seed)[0], {} if hidden else self.facts[index]


def _crops(recipe: ClassifierRecipe) -> int:
    """Crops of each image the teacher is asked about: without augmentation they would all be the same."""
    return 0 if recipe.image.augmentation == "none" else recipe.distillation.teacher_crops


def _names(rows: pd.DataFrame) -> tuple[str, ...]:
    return tuple(rows["image.sha256"].astype(str))


@cache
def _code() -> bytes:
    return code_digest(*_CODE) + version("albumentations").encode()


@dataclass
class _Told:
    """Says from time to time how many of all questions are answered; those that were kept cost no time."""

    total: int
    done: int = 0
    asked: int = 0
    begun: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def answered(self, now_asked: bool) -> None:
        now = time.monotonic()
        self.done += 1
        self.asked += now_asked
        if now_asked and now - self.said >= PAUSE and this_rank().leads:
            self.said = now
            left = (now - self.begun) / self.asked * (self.total - self.done)
            say_under_way(
                f"the teacher has answered {self.done:,} of {self.total:,} questions, about {duration(left)} left"
            )
