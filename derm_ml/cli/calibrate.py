"""A model's probabilities and operating points for the place where it is used, from a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from derm_ml import RESEARCH_USE, DermError, provenance
from derm_ml.cli.arguments import Model, TaskName, dataset_of, predictor_of, task_of
from derm_ml.cli.data import prepare_with_bar
from derm_ml.cli.settings import settings_of
from derm_ml.cli.terminal import notes, print_result, print_table, progress_bar, say_epoch
from derm_ml.files import replacing_folder
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.operating_points import measure_point
from derm_ml.model_folder import ModelFolder
from derm_ml.places import installation
from derm_ml.progress import hearing
from derm_ml.recipe import Recipe, recipe_with
from derm_ml.records import DataError
from derm_ml.task import Task

if TYPE_CHECKING:
    from derm_ml.bundles.bundle import BundleCard
    from derm_ml.bundles.classifier import Classifier
    from derm_ml.data.dataset import Dataset
    from derm_ml.metrics.metric import Metric


def calibrate(
    task_name: TaskName,
    cases: Annotated[
        Path,
        typer.Argument(help="labelled images of the place of use: a folder, or a prepared dataset", show_default=False),
    ],
    model: Model = None,
    held_back: Annotated[
        float,
        typer.Option(min=0.1, max=0.9, help="share of the patients of a folder that judge the result"),
    ] = 0.5,
    params: Annotated[Path | None, typer.Option(help="parameters of data preparation; default: params.yaml")] = None,
) -> None:
    """Fit a classifier's probabilities and operating points to another place, on labelled cases from there.

    The network is not trained again. The result is a new model beside the old one; cases that were held back say what
    both reach there.
    """
    from derm_ml.bundles.classifier import Classifier

    task, places = task_of(task_name), installation()
    before = predictor_of(task, model)
    if not isinstance(before, Classifier):
        raise DermError(f"{task.name} has no operating points: derm calibrate is for classifiers")
    recipe = _recipe_of(task, before.card)
    trained_on = _trained_on(task, before.card)
    local = _local_cases(task, cases, held_back, params)
    wanted = recipe.but(local_cases=local.md5.removesuffix(".dir"))
    _lay_beside(before, ModelFolder.of(places.models(task.name), recipe, trained_on.md5))
    made = ModelFolder.of(places.models(task.name), wanted, trained_on.md5)
    with progress_bar("calibrate") as bar:
        with _counted(bar, "fit", _images_to_fit(trained_on, local)):
            task.fit(trained_on, wanted, made.path, say_epoch)
        after = Classifier(made.bundle)
        with _counted(bar, "measure before and after", 2 * len(local.split("test"))):
            earlier, now = _reached(before, local, None), _reached(after, local, made)
    _print_gain(task, after.card, local, earlier, now)
    print_result(made.path)
    told = after.card.recipe["local_cases"]
    notes.print(f"in the Launchpad: local_cases: {told} in the recipe {after.card.recipe_name}", soft_wrap=True)
    notes.print(f"the whole report: derm evaluate {task.name} {made.path} --data {local.path}", soft_wrap=True)


@contextmanager
def _counted(bar: Any, name: str, images: int) -> Iterator[None]:
    """Within the block, a step of the bar counts the images that are predicted, of so many."""
    step = bar.add_task(name, total=images or None)
    with hearing(lambda more: bar.advance(step, more)):
        yield
    bar.update(step, completed=images)  # what is kept from before is not predicted again


def _images_to_fit(trained_on: Dataset, local: Dataset) -> int:
    """How many images a network that is there already is asked about: for its probabilities and its input gate."""
    from derm_ml.training.input_gate import TAUGHT
    from derm_ml.training.local_cases import USED

    cases = int(np.isin(local.manifest["split"], USED).sum())
    return len(trained_on.split("validation")) + cases + min(TAUGHT, len(trained_on.split("train")))


def _recipe_of(task: Task, card: BundleCard) -> Recipe:
    """The recipe a model was trained with, fitted on its own validation split."""
    if card.recipe_name not in task.recipes:
        raise DermError(f"the model's recipe {card.recipe_name} is not among those of {task.name}: train it again")
    return recipe_with(task.recipes[card.recipe_name], card.recipe).but(local_cases="")


def _trained_on(task: Task, card: BundleCard) -> Dataset:
    """The data version a model was trained on."""
    from derm_ml.data.dataset import Dataset

    path = installation().version(task.name, card.dataset_md5)
    if not path.exists():
        raise DataError(
            f"the data version {card.dataset_md5} that the model was trained on is not in {path.parent}: calibrate it "
            "where it was trained"
        )
    return Dataset.open(path)


def _local_cases(task: Task, cases: Path, held_back: float, params: Path | None) -> Dataset:
    """The local cases as a data version that never changes, prepared if they are a raw folder."""
    from derm_ml.cache import Cache
    from derm_ml.data.dataset import Dataset, freeze

    places = installation()
    if (cases / "dataset.json").exists():
        dataset = dataset_of(task, cases)
        return Dataset.open(freeze(dataset.path, places.version(task.name, dataset.md5)))
    if not cases.is_dir():
        raise DermError(f"{cases} is not a folder: give one of labelled images, or a prepared dataset")
    settings = settings_of(task, params).settings.model_copy(update={"test": held_back, "training_only": []})
    places.versions(task.name).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=places.versions(task.name), prefix=".local-") as scratch:
        with Cache(places.preparation_cache(task.name)) as cache:
            dataset = prepare_with_bar(task, cases, settings, Path(scratch) / "dataset", cache)
        return Dataset.open(freeze(dataset.path, places.version(task.name, dataset.md5)))


def _lay_beside(model: Classifier, twin: ModelFolder) -> None:
    """Put a model where its recipe and data are looked for, so that its network need not be trained again."""
    if twin.finished:
        return
    if model.card.local_cases:
        raise DermError("this model was calibrated for a place already: calibrate the one it was made of")
    source = ModelFolder.holding(model.bundle.path)
    twin.path.mkdir(parents=True, exist_ok=True)
    for file in (source.history, source.path / provenance.FILE):
        if file.exists():
            shutil.copyfile(file, twin.path / file.name)
    with replacing_folder(twin.bundle) as folder:
        shutil.copytree(model.bundle.path, folder, dirs_exist_ok=True)


def _reached(model: Classifier, local: Dataset, folder: ModelFolder | None) -> dict[str, Metric]:
    """Sensitivity and specificity of each operating point on the local test split, by the name of the metric."""
    from derm_ml.predictions.classifier import predictions_of

    asked = predictions_of(model, local, "test", folder)
    p, patients, found = asked.outputs.probabilities, asked.rows["group"].to_numpy(str), {}
    for point in model.card.operating_points:
        here = p[:, model.card.labels.index(point.label)].astype(np.float64)
        targets = asked.rows[f"target.{point.label}"].to_numpy(np.float64)
        for word, metric in measure_point(point, here, targets, patients).metrics():
            found[f"{word}_{point.label}_at_{point.name}"] = metric
    return found


def _print_gain(
    task: Task, card: BundleCard, local: Dataset, earlier: dict[str, Metric], now: dict[str, Metric]
) -> None:
    fitted, judged = card.local_cases, len(local.split("test"))
    assert fitted is not None
    table = Table("on the cases held back", "before", "after", title=f"{task.title} · {judged} local images")
    for name in dict.fromkeys([*now, *earlier]):
        of = metric_named(name)
        before, after = (found[name].short if name in found else "–" for found in (earlier, now))
        table.add_row(f"{of.title} {of.arrow}".rstrip(), before, after)
    table.caption = f"Fitted on {fitted.images} images of {fitted.groups} groups. 95 % intervals. {RESEARCH_USE}"
    print_table(table)
    for short in card.unclaimed_points:
        notes.print(f"– no {short.name} of {short.label}: {short.reason}", soft_wrap=True)
