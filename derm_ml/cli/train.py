"""Models from a terminal: fit one, an autoencoder, or labels for unlabelled images; run one on random tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from derm_ml import DermError
from derm_ml.cli.arguments import (
    ModelFolder,
    PreparedData,
    TaskName,
    Values,
    bundle_of,
    dataset_of,
    out_root,
    recipe_of,
    task_of,
    values_of,
)
from derm_ml.cli.terminal import notes, print_result, print_rules, print_table, say_epoch


def fit(
    task_name: TaskName,
    recipe: Annotated[str, typer.Option(help="a recipe of the task; empty: its first")] = "",
    values: Values = [],  # noqa: B006
    data: PreparedData = None,
    out: Annotated[Path | None, typer.Option(help="model folder; default: out/TASK/RECIPE-ID")] = None,
) -> None:
    """Train a model. Run it again after a crash and it goes on where it was."""
    from derm_ml.dataset import model_folder

    task = task_of(task_name)
    dataset = dataset_of(task, data)
    if not print_rules(task, dataset):
        raise DermError("a blocking data rule is red: nothing is trained on these data")
    chosen = recipe_of(task, recipe, values)
    folder = out or model_folder(out_root(), task, chosen, dataset.md5)
    notes.print(f"recipe {chosen.name} → {folder}")

    print_result(task.fit(dataset, chosen, folder, say_epoch).parent)


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
    """Train an autoencoder on the images of a task and report reconstructions and codes. Labels are not learned."""
    from derm_ml.dataset import model_folder
    from derm_ml.embeddings.autoencoder import AutoencoderPredictor
    from derm_ml.embeddings.made import table_of
    from derm_ml.embeddings.recipes import AUTOENCODERS
    from derm_ml.embeddings.report import report_autoencoder
    from derm_ml.training.autoencoder import fit_autoencoder

    task = task_of(task_name)
    dataset = dataset_of(task, data)
    if recipe not in AUTOENCODERS:
        raise typer.BadParameter(f"no autoencoder '{recipe}'; there are {', '.join(AUTOENCODERS)}")
    try:
        chosen = AUTOENCODERS[recipe](**values_of(values))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    folder = out or model_folder(out_root(), task, chosen, dataset.md5)
    notes.print(f"recipe {chosen.name} → {folder}")
    bundle = fit_autoencoder(dataset, chosen, folder, say_epoch)
    with notes.status("measuring reconstructions and codes"):
        classifier = table_of(task.load(bundle_of(against)), dataset, bundle_of(against).parent) if against else None
        report = report_autoencoder(AutoencoderPredictor(bundle), dataset, task.title, classifier)
        saved = report.save(folder / "report")
    for name in ("psnr", "ssim", "checkerboard_energy", "code_silhouette", "code_precision_at_5"):
        notes.print(f"{name}: {report.metrics[name]}")
    print_result(saved / "report.html")


def pseudo_label(
    task_name: TaskName,
    model: ModelFolder,
    data: PreparedData = None,
) -> None:
    """Propose labels for the unlabelled images by the neighbours of the model's embeddings, and audit them."""
    from derm_ml.embeddings.pseudo_labels import propose, write_proposal
    from derm_ml.predictor import Predictor

    predictor, dataset = Predictor(bundle_of(model)), dataset_of(task_of(task_name), data)
    with notes.status("spreading labels"):
        proposal = propose(predictor, dataset)
        made = write_proposal(proposal, predictor, dataset, bundle_of(model).parent / "pseudo_labels")
    table = Table("slice", "label", "given", "n", "precision", "95 % interval", title="How often they are right")
    for row in proposal.audit:
        right = "" if row["precision"] is None else f"{row['precision']:.3f}"
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        table.add_row(row["slice"], row["label"], row["given"], str(row["n"]), right, interval)
    print_table(table)
    given = f"{proposal.used} of {len(proposal.table)} unlabelled images got a label"
    notes.print(f"{given}; {proposal.excluded} of validation or test patients were left out")
    print_result(made["pseudo_labels"])


def demo(
    task_name: TaskName,
    size: Annotated[int, typer.Option(help="pixels a side of the random pictures")] = 256,
) -> None:
    """Run a task's network forward on random tensors, untrained: shows that it runs here, and the shapes."""
    try:
        found = task_of(task_name).demo(size)
    except ValueError as error:
        raise DermError(str(error)) from error
    table = Table("output", "what", title=f"{task_name}, random {size}×{size} pictures")
    for name, value in found.items():
        table.add_row(name, str(value))
    print_table(table)
