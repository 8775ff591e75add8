"""Models from a terminal: fit one, an autoencoder, or labels for unlabelled images; run one on random tensors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from derm_ml import DermError
from derm_ml.cli.arguments import (
    PreparedData,
    TaskName,
    TrainedModel,
    Values,
    dataset_of,
    recipe_of,
    task_of,
    values_of,
)
from derm_ml.cli.terminal import notes, print_result, print_rules, print_table, say_epoch
from derm_ml.evaluation.report import PAGE
from derm_ml.metrics.glossary import metric_named
from derm_ml.model_folder import ModelFolder, bundle_named
from derm_ml.places import installation
from derm_ml.progress import reading
from derm_ml.ranks import this_rank
from derm_ml.recipe import Recipe, recipe_with
from derm_ml.sentences import WrongValue, unknown
from derm_ml.training.launcher import devices_to_start, train_on

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset


def fit(
    task_name: TaskName,
    recipe: Annotated[str, typer.Option(help="recipe name (default: the first shown by `derm recipe TASK`)")] = "",
    values: Values = [],  # noqa: B006
    data: PreparedData = None,
    out: Annotated[Path | None, typer.Option(help="model folder; default: out/TASK/RECIPE-ID")] = None,
) -> None:
    """Train a model. Rerun the same command to resume an interrupted training."""
    from derm_ml.data.dataset import freeze
    from derm_ml.training.teacher import with_teacher_version

    task, places = task_of(task_name), installation()
    chosen = recipe_of(task, recipe, values)
    chosen = with_teacher_version(chosen, task.name)
    if _trained_by_others(chosen):
        return
    dataset = dataset_of(task, data)
    if not print_rules(task, dataset):
        raise DermError("a blocking data check fails: nothing is trained on these data")
    folder = ModelFolder(out) if out else ModelFolder.of(places.models(task.name), chosen, dataset.md5)
    _refuse_another(folder, chosen, dataset)
    if this_rank().leads:
        freeze(dataset.path, places.version(task.name, dataset.md5))
    notes.print(f"recipe {chosen.name} → {folder.path}")
    with reading(lambda text: notes.print(text, soft_wrap=True)):
        task.fit(dataset, chosen, folder.path, say_epoch)
    if this_rank().leads:
        print_result(folder.path)


def _trained_by_others(recipe: Recipe) -> bool:
    """Start this command once for each device of the recipe, and wait; False where this process trains itself."""
    devices = devices_to_start(recipe)
    if devices:
        train_on(devices, [sys.executable, "-m", "derm_ml.cli", *sys.argv[1:]])
    return bool(devices)


def _refuse_another(folder: ModelFolder, recipe: Recipe, dataset: Dataset) -> None:
    """A finished model is returned as it is, so a folder named by hand must not hold another one."""
    from derm_ml.bundles.bundle import read_card

    if not folder.finished:
        return
    card = read_card(folder.bundle)
    same = (card.recipe_name, card.dataset_md5) == (recipe.name, dataset.md5)
    if not same or not recipe.holds(card.recipe):
        raise DermError(
            f"{folder.path} holds a model of another recipe or of other data: choose another folder with --out"
        )


def autoencode(
    task_name: TaskName,
    recipe: Annotated[str, typer.Option(help="strong_autoencoder, faithful_autoencoder or drawn_autoencoder")] = (
        "strong_autoencoder"
    ),
    values: Values = [],  # noqa: B006
    data: PreparedData = None,
    out: Annotated[Path | None, typer.Option(help="model folder; default: out/TASK/RECIPE-ID")] = None,
    against: Annotated[Path | None, typer.Option(help="a classifier's model folder, to compare embeddings")] = None,
) -> None:
    """Train an autoencoder on the images of a task and report reconstructions and codes. Labels are not used."""
    from derm_ml.bundles.bundle import model_of
    from derm_ml.bundles.classifier import Classifier
    from derm_ml.embeddings.autoencoder import AutoencoderPredictor
    from derm_ml.embeddings.made import table_of
    from derm_ml.evaluation.autoencoder import report_autoencoder, save_autoencoder_report
    from derm_ml.training.autoencoder import fit_autoencoder
    from derm_ml.training.autoencoder_recipes import AUTOENCODERS

    task, places = task_of(task_name), installation()
    dataset = dataset_of(task, data)
    if not task.asking.takes_bytes:
        raise DermError(f"{task.name} is about pairs of photos: it has no autoencoder of single images")
    if recipe not in AUTOENCODERS:
        raise WrongValue(unknown("autoencoder", recipe, AUTOENCODERS, "there are"))
    chosen = recipe_with(AUTOENCODERS[recipe], values_of(values))
    if _trained_by_others(chosen):
        return
    other = bundle_named(against) if against else None
    compared = Classifier(model_of(task.name, other)) if other else None
    folder = ModelFolder(out) if out else ModelFolder.of(places.models(task.name), chosen, dataset.md5)
    _refuse_another(folder, chosen, dataset)
    notes.print(f"recipe {chosen.name} → {folder.path}")
    bundle = fit_autoencoder(dataset, chosen, folder.path, say_epoch)
    if not this_rank().leads:
        return
    with notes.status("measuring reconstructions and codes"):
        classifier = table_of(compared, dataset, ModelFolder.holding(other)) if compared and other else None
        report = report_autoencoder(AutoencoderPredictor(bundle), dataset, task.title, classifier)
        saved = save_autoencoder_report(report, folder.report)
    for name in ("psnr", "ssim", "checkerboard_energy", "code_silhouette", "code_precision_at_5"):
        notes.print(f"{metric_named(name).title}: {report.metrics[name]}")
    print_result(saved / PAGE)


def pseudo_label(
    task_name: TaskName,
    model: TrainedModel,
    data: PreparedData = None,
) -> None:
    """Propose labels for the unlabelled images by the neighbours of the model's embeddings, and audit them."""
    from derm_ml.bundles.bundle import model_of
    from derm_ml.bundles.classifier import Classifier
    from derm_ml.training.pseudo_labels import propose, write_proposal

    task = task_of(task_name)
    if not task.has_embedding:
        raise DermError(f"{task.name} has no pseudo-labels: its model has no embedding")
    bundle = bundle_named(model)
    predictor, dataset = Classifier(model_of(task.name, bundle)), dataset_of(task, data)
    with notes.status("spreading labels"):
        proposal = propose(predictor, dataset)
        made = write_proposal(proposal, predictor, dataset, ModelFolder.holding(bundle).pseudo_labels)
    table = Table("slice", "label", "given", "n", "precision", "95 % interval", title="How often they are right")
    for row in proposal.audit:
        right = "" if row["precision"] is None else f"{row['precision']:.3f}"
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        table.add_row(row["slice"], row["label"], row["given"], str(row["n"]), right, interval)
    print_table(table)
    given = f"{proposal.used} of {len(proposal.table)} unlabelled images got a label"
    notes.print(f"{given}; {proposal.excluded} of validation or test patients were left out")
    notes.print(f"the surest of them, with their images: {made['surest_page']}", soft_wrap=True)
    print_result(made["pseudo_labels"])


def demo(
    task_name: TaskName,
    size: Annotated[int, typer.Option(help="image size in pixels (square)")] = 256,
) -> None:
    """Smoke test: run the untrained network on random input and print tensor shapes. `make demo` runs the pipeline."""
    found = task_of(task_name).demo(size)
    table = Table(
        "output", "what", title=f"{task_name}, smoke test: an untrained network on random {size}×{size} input"
    )
    for name, value in found.items():
        table.add_row(name, str(value))
    print_table(table)


def sign(model: TrainedModel) -> None:
    """Sign a trained model with the private key that DERM_SIGNING_KEY names."""
    from derm_ml.bundles.bundle import CARD, SIGNATURE, Bundle
    from derm_ml.bundles.signing import sign as sign_file

    bundle = Bundle.open(bundle_named(model))
    sign_file(bundle.path / CARD, bundle.path / SIGNATURE)
    print(bundle.path / SIGNATURE)
