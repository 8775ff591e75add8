"""The contract each task folder fulfils.

A task is one folder, `derm_ml/tasks/<name>/`, with the same inner shape:

    task.py      TASK = Task(...): the declared facts below. Light to import: no torch, no plotting.
    asking.py    ASKING: what it is asked with (one image, an image and its fellow, a pair with boxes), its options, and
                 the pydantic model of its answer
    recipes.py   the hyper-parameters: pydantic classes whose docstrings hold runtime and expected score
    data.py      read(root, settings) -> Reading          draw(folder, n, seed): a small set with exact truth
    model.py     the network of each recipe, where derm_ml/nets does not have it already
    train.py     fit(dataset, recipe, out, on_epoch) -> the path of a Bundle
    evaluate.py  evaluate(predictor, dataset, split, model_folder) -> Evaluation
                 recount(card, predictions, dataset, split) -> its metrics, counted from the saved predictions
                 repeat(predictor, dataset, ids, split) -> what predicting some cases again gives
    predict.py   load(bundle) -> its predictor
                 answer(predictor, asked, options) -> the model of its answer
                 explain(predictor, asked, options) -> RGB image
                 explanation(predictor, asked, options) -> (answer, Explanation): the same as numbers
                 answers(predictor, images, options) -> answers, if it is faster with several images at once;
                 the images may be shrunk to the size a dataset stores
                 columns(card) -> the columns of a table of answers; a mapping's are named `name.key`
                 drawings(image, answer) -> images by name, if an answer is to be looked at (a mask)
                 and, where an answer is not about images and their probabilities: held_out(dataset, evaluation, n) ->
                 uploads, numbers(answer) -> what a service must reproduce

`Task` calls these by convention and imports them when they are called, so that a code location that only
wants to know a task's name and settings does not pay for torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import Field

from derm_ml.asking.answers import Envelope
from derm_ml.asking.kinds import Asking
from derm_ml.asking.options import ABSTAINED, ANSWER
from derm_ml.asking.replay import Upload, image_uploads, numbers_of
from derm_ml.machine import memory_for
from derm_ml.progress import OnEpoch, silent
from derm_ml.ranks import refuse_several_processes, refuse_strangers
from derm_ml.recipe import Recipe, Settings, recipe_with
from derm_ml.records import FROZEN, DataError, Reading
from derm_ml.sentences import WrongValue, unknown
from derm_ml.synthetic_mark import mark_synthetic

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from derm_ml.asking.answers import Answer, Explanation
    from derm_ml.asking.pair import Pair
    from derm_ml.bundles.bundle import BundleCard
    from derm_ml.contract import Predictor
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation
    from derm_ml.metrics.metric import Metric
    from derm_ml.model_folder import ModelFolder


class PrepareSettings(Settings):
    """How a raw folder becomes a dataset: one section of params.yaml, repeated in the dataset's own dataset.json."""

    source: str = Field(default="auto", description="layout of the raw folder, or 'auto' to recognise it")
    training_only: list[str] = Field(
        default=[], description="sub-folders of extra data that are used for training only"
    )
    not_read: list[str] = Field(
        default=[],
        description="files and folders of the raw folder that take no part, by path or pattern (`old`, `*/thumbs`); "
        "they are counted",
    )
    store_side: int = Field(default=512, ge=64, le=4096, description="longer side of a stored image, in pixels")
    validation: float = Field(
        default=0.15, ge=0, lt=1, description="share drawn for validation where no official split exists"
    )
    test: float = Field(default=0.15, ge=0, lt=1, description="share drawn for test where no official split exists")
    seed: int = Field(default=0, description="seed of the drawn splits; a new one creates new splits for all images")
    test_grows: bool = Field(
        default=False,
        description="whether new images may join a test split that is there already; scores before and after are then "
        "not comparable. Without it a new image of a test patient is held back and listed",
    )
    recent: float = Field(
        default=0.15,
        ge=0,
        lt=1,
        description="share of the patients of later deliveries that form the split `recent`: never learned from, "
        "reported beside the test split; 0: no further patient joins it",
    )
    patients: str = Field(
        default="shared",
        pattern="^(shared|per_source)$",
        description="'shared': a patient or lesion ID means the same in every source; 'per_source': only within its "
        "source, all deliveries together being one. Set it where two sources number different people alike",
    )
    duplicates: str = Field(
        default="quarantine",
        pattern="^(stop|quarantine)$",
        description="near-duplicates across splits: 'quarantine' keeps the test image, else the validation image, and "
        "lists the others; 'stop' fails the check, so that somebody decides",
    )
    believe_splits: bool = Field(
        default=False,
        description="whether a delivery's own split column or split folders count; those of the images the task was "
        "set up with always do",
    )
    corrections: str = Field(
        default="refuse",
        pattern="^(refuse|apply)$",
        description="a delivery that says something else of known images (labels, masks, age, patient): 'refuse' it "
        "with the list of differences, or 'apply' what it says from then on",
    )
    follow_links: bool = Field(
        default=False, description="also read links that lead out of the raw folder; a delivery's are never followed"
    )
    licence: str = Field(default="unknown", description="licence of the images where the source does not say")


LEFT_OUT = "left_out"


class NamedLabels(PrepareSettings):
    """Settings of a task whose sources may call its labels by other names."""

    labels: dict[str, str | None] = Field(
        default={},
        description="what a name of your lists or folders means: a label of the task, or left_out, whose images are "
        "not used but counted",
    )

    def label_map(self) -> dict[str, str | None]:
        """Name → label of the task, or None for left out."""
        return {name: None if label in (None, LEFT_OUT) else label for name, label in self.labels.items()}

    @property
    def hint(self) -> str:
        """Where a user says what an unknown name means."""
        return "`labels` in params.yaml, e.g. `labels: {that name: left_out}`"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a data rule or a gate: `passed`, one sentence, and the rows that show it.

    There is a third outcome: what the check needs is not known (`evaluable=False`). It has not passed, and says so,
    but nothing is shown to be wrong, so it stops nothing, unless nothing may pass without it (`needed`): a threshold
    that could not be fitted, a metric that is undefined.
    """

    passed: bool
    message: str
    rows: tuple[Mapping[str, Any], ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)  # bare numbers, plotted over time by the UI
    evaluable: bool = True
    value: str = ""  # what was measured and what it is held against, for a table; the message says both
    limit: str = ""
    needed: bool = False  # of one that cannot be evaluated

    @classmethod
    def not_evaluable(cls, why: str) -> Finding:
        return cls(False, f"not checked: {why}", evaluable=False)

    @classmethod
    def not_enough_data(cls, why: str, limit: str = "") -> Finding:
        """It cannot be evaluated, and nothing passes without it."""
        return cls(False, f"not checked: {why}", evaluable=False, needed=True, limit=limit)

    @property
    def stops(self) -> bool:
        """Whether this outcome of a blocking check stops what comes after it."""
        return not self.passed and (self.evaluable or self.needed)


@dataclass(frozen=True, slots=True)
class DataRule:
    """A sentence that is true of a usable dataset. A blocking rule that fails stops the pipeline.

    `more_data_may_help` marks one that a set fails while it is too small: no delivery is rejected for it.
    """

    name: str
    check: Callable[[Dataset], Finding]
    blocking: bool = True
    more_data_may_help: bool = False

    def stops(self, finding: Finding) -> bool:
        """Whether this outcome stops the pipeline."""
        return self.blocking and finding.stops

    @property
    def description(self) -> str:
        return (self.check.__doc__ or "").strip()


@dataclass(frozen=True, slots=True)
class Gate:
    """A sentence that is true of a model fit to be promoted. A blocking gate that fails refuses promotion.

    `hazard` says what would befall whom without it. One that cannot be evaluated is named; it refuses only where the
    finding says that nothing passes without it.
    """

    name: str
    check: Callable[[Evaluation], Finding]
    blocking: bool = True
    hazard: str = ""

    def stops(self, finding: Finding) -> bool:
        """Whether this outcome refuses promotion."""
        return self.blocking and finding.stops

    @property
    def description(self) -> str:
        return (self.check.__doc__ or "").strip()


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something made from a model beside its evaluation: a heatmap sheet, an embedding table.

    `make(predictor, dataset, folder)` writes into `folder` and returns the paths by name; a `.png` under
    200 kB is shown in Dagster, and the figures of a `numbers` (JSON, name → number) are plotted over time.
    `after` names artifacts whose files it reads.
    """

    name: str
    make: Callable[[Any, Dataset, Path], Mapping[str, Path]]  # Any: what the task's own `load` gives
    after: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        return (self.make.__doc__ or "").strip()


@dataclass(frozen=True)
class Task:
    """One task: its declared facts, and its verbs (imported when called)."""

    name: str
    title: str
    labels: tuple[str, ...]
    recipes: Mapping[str, type[Recipe]]  # the first is the default
    asking: Asking  # what it is asked with, and what it answers
    primary_metric: str  # higher is better; promotion compares it
    rules: tuple[DataRule, ...]
    gates: tuple[Gate, ...]
    artifacts: tuple[Artifact, ...] = ()
    settings: type[PrepareSettings] = PrepareSettings
    negative: str = "none"  # what a case without any label is called: `benign`
    # metrics that are a ratio of sums over columns of the predictions, so that runs can be compared by them:
    # {"match_f1": ({"n_matched": 2}, {"n_predicted": 1, "n_true": 1})}
    ratios: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]] = field(default_factory=dict)
    serving_packages: tuple[str, ...] = ()  # what its service needs beside numpy, OpenCV and ONNX Runtime

    @property
    def has_embedding(self) -> bool:
        """Whether its models give an embedding, from which maps and similar images are made."""
        return any(artifact.name == "embeddings" for artifact in self.artifacts)

    @property
    def default_recipe(self) -> str:
        return next(iter(self.recipes))

    def recipe(self, name: str = "", **values: Any) -> Recipe:
        """The recipe `name` (empty: the default) with some values replaced. Raises `WrongValue` naming the field."""
        name = name or self.default_recipe
        if name not in self.recipes:
            raise WrongValue(unknown("recipe", name, self.recipes, f"{self.name} has"))
        return recipe_with(self.recipes[name], values)

    def read(self, root: Path, settings: PrepareSettings) -> Reading:
        """Read a raw folder as downloaded. Raises `DataError` naming file and row."""
        return self._module("data").read(root, settings)

    def draw(self, folder: Path, n: int, seed: int = 0) -> None:
        """Draw a small set of `n` images with exact truth into `folder`, in a layout `read` knows, marked as synthetic:
        what is learned or measured on it says so."""
        self._module("data").draw(folder, n, seed)
        mark_synthetic(folder)

    def fit(self, dataset: Dataset, recipe: Recipe, out: Path, on_epoch: OnEpoch = silent) -> Path:
        """Train (or resume) in `out` and return the path of the finished bundle.

        As one of several processes that train together (`ranks.py`) only the first writes, and the others may return
        before the bundle is there. Raises `SeveralProcessesError` where the recipe trains no network: they would all
        write into `out`.
        """
        refuse_strangers()
        if "hardware" not in recipe.groups():
            refuse_several_processes(f"{self.name} with the recipe {recipe.name}")
        with memory_for(f"fitting {self.name}", "end other programs, or choose a smaller recipe and run it again"):
            return self._module("train").fit(dataset, recipe, out, on_epoch)

    def demo(self, size: int) -> Mapping[str, Any]:
        """Run the task's network once on random pictures of that size; names of outputs → their shapes and values.

        Raises `WrongValue` for a task that has no such demo, or for a size its network cannot take.
        """
        own = getattr(self._module("train"), "demo", None)
        if own is None:
            raise WrongValue(f"{self.name} has no demo on random images; draw some with `derm draw {self.name}`")
        return own(size)

    def evaluate(
        self, predictor: Predictor, dataset: Dataset, split: str = "test", model_folder: ModelFolder | None = None
    ) -> Evaluation:
        """Measure a bundle on one frozen split. Raises `DataError` for a split that does not exist or is empty.

        With a `model_folder` the predictions kept there are read, and kept where there are none; without one every case
        is predicted afresh, as for a promotion, which believes no file.
        """
        if split not in FROZEN:
            raise WrongValue(unknown("split", split, FROZEN, "there are"))
        if dataset.split(split).empty:
            raise DataError(f"{dataset.path} has no images in the {split} split: there is nothing to measure")
        with memory_for(f"evaluating {self.name}", "end other programs and run it again"):
            return self._module("evaluate").evaluate(predictor, dataset, split, model_folder)

    def recount(
        self, card: BundleCard, predictions: pd.DataFrame, dataset: Dataset, split: str = "test"
    ) -> dict[str, Metric]:
        """Every metric of an evaluation, counted again from its saved predictions and the truth in the dataset.

        Raises `ValueError` or `KeyError` where the predictions are not those of the split.
        """
        return self._module("evaluate").recount(card, predictions, dataset, split)

    def repeat(self, predictor: Predictor, dataset: Dataset, ids: Sequence[str], split: str = "test") -> pd.DataFrame:
        """Some cases of a split predicted afresh: `id`, and the numbers of the predictions that must be the same."""
        return self._module("evaluate").repeat(predictor, dataset, ids, split)

    def load(self, bundle: Path) -> Predictor:
        """The predictor of a bundle of this task. Raises `BundleError` for one that is damaged or of something else."""
        return self._module("predict").load(bundle)

    def held_out(self, dataset: Dataset, evaluation: Evaluation, n: int) -> Iterator[Upload]:
        """At most `n` test cases as they would be uploaded, with what the evaluation said of them."""
        own = getattr(self._module("predict"), "held_out", None)
        return own(dataset, evaluation, n) if own else image_uploads(self.asking, dataset, evaluation, n)

    def numbers(self, answer: Mapping[str, Any]) -> Mapping[str, float]:
        """The numbers of an answer by name: what a built service must reproduce."""
        return getattr(self._module("predict"), "numbers", numbers_of)(answer)

    def answer(self, predictor: Predictor, asked: np.ndarray | Pair, options: Mapping[str, str]) -> dict[str, Any]:
        """What the service and the command line say of one RGB image (H, W, 3) uint8, or of a pair, and who says it.

        The fields of `asking.answer` in their `Envelope`, as JSON would hold them.
        """
        return self._enveloped(predictor, self._module("predict").answer(predictor, asked, options), options)

    def answers(
        self, predictor: Predictor, images: Sequence[np.ndarray], options: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """`answer` for each of several images, predicted together where the task is faster that way."""
        if not self.answers_together:
            return [self.answer(predictor, image, options) for image in images]
        found = self._module("predict").answers(predictor, images, options)
        return [self._enveloped(predictor, said, options) for said in found]

    def envelope(self, predictor: Predictor, options: Mapping[str, str]) -> Envelope:
        """What is common to all answers of a model to questions with these options."""
        known, card = self.asking.options_for(ANSWER), predictor.card
        unused = [
            name for name in options if name in known and known[name].is_attribute and name not in card.attributes
        ]
        warnings = tuple(f"'{name}' has no effect: the model was not trained with it." for name in unused)
        return Envelope.of(card, predictor.bundle.version, warnings)

    @property
    def answers_together(self) -> bool:
        """Whether several images are predicted together, for which they may be shrunk to what a dataset stores."""
        return hasattr(self._module("predict"), "answers")

    def columns(self, card: BundleCard) -> list[str]:
        """The columns of a table of answers, the same for every answer of that model. Not for tasks of pairs."""
        return self._module("predict").columns(card)

    def explain(self, predictor: Predictor, asked: np.ndarray | Pair, options: Mapping[str, str]) -> np.ndarray:
        """The image `/explain` and `derm explain` show: RGB uint8, what was asked about with a caption below."""
        return self._module("predict").explain(predictor, asked, options)

    def explanation(
        self, predictor: Predictor, asked: np.ndarray | Pair, options: Mapping[str, str]
    ) -> tuple[dict[str, Any], Explanation]:
        """The answer, and what `explain` draws as numbers."""
        said, explanation = self._module("predict").explanation(predictor, asked, options)
        return self._enveloped(predictor, said, options), explanation

    def drawings(self, image: np.ndarray, answer: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The images of an answer, by name, that `derm predict` writes; none where a task has no `drawings`."""
        make = getattr(self._module("predict"), "drawings", None)
        return make(image, answer) if make else {}

    def _enveloped(self, predictor: Predictor, said: Answer, options: Mapping[str, str]) -> dict[str, Any]:
        with_numbers = options.get(ABSTAINED.name) == "numbers"
        return self.envelope(predictor, options).around(said.told(with_numbers))

    def _module(self, part: str) -> ModuleType:
        return importlib.import_module(f"derm_ml.tasks.{self.name}.{part}")
