"""How a task stands, from a terminal: its data, its champion and challenger, its latest trainings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from derm_ml import DermError
from derm_ml.cli.arguments import TaskName, open_registry, task_of
from derm_ml.cli.terminal import notes, print_narrow, print_result
from derm_ml.metrics.glossary import metric_named
from derm_ml.model_folder import ModelFolder, trainings
from derm_ml.places import installation
from derm_ml.task import Task

_RUNS = 5  # of the latest trainings that are shown


def status(task_name: TaskName) -> None:
    """Say how a task stands: its data, its champion and challenger, and the latest trainings."""
    task = task_of(task_name)
    print_result(f"data: {_data(task)}")
    try:
        registry = open_registry()
        found = registry.standing(task)
        since = f", since {found.since[:16]} UTC, by {found.by or 'not recorded'}"
        print_result(
            "champion: none" if found.champion is None else
            f"champion: version {found.champion}, model {found.model_version or 'not recorded'}{since}"
        )  # fmt: skip
        number = registry.challenger(task)
        print_result(f"challenger: {'none' if number is None else f'version {number}'}")
    except DermError as error:
        notes.print(f"registry: {error}", style="red", soft_wrap=True)
    _print_runs(task)


def _data(task: Task) -> str:
    from derm_ml.data.dataset import Dataset

    folder = installation().prepared(task.name)
    if not (folder / "dataset.json").exists():
        return f"none prepared: `derm prepare {task.name}`"
    dataset = Dataset.open(folder)
    sizes = ", ".join(f"{split} {count}" for split, count in dataset.info["sizes"].items())
    return f"{dataset.info['samples']} images ({sizes}), md5 {dataset.md5}, prepared {_when(folder / 'dataset.json')}"


def _print_runs(task: Task) -> None:
    found = sorted(trainings(installation().models(task.name)), key=lambda folder: folder.touched, reverse=True)
    if not found:
        print_result(f"trainings: none: `derm fit {task.name}`")
        return
    table = Table(
        "folder",
        "state",
        "last written (UTC)",
        f"{metric_named(task.primary_metric).title}, test",
        title="latest trainings",
    )
    for folder in found[:_RUNS]:
        state = "finished" if folder.finished else "not finished"
        moment = datetime.fromtimestamp(folder.touched, UTC).isoformat(sep=" ", timespec="minutes")[:16]
        table.add_row(folder.path.name, state, moment, _measured(task, folder))
    print_narrow(table)


def _measured(task: Task, folder: ModelFolder) -> str:
    from derm_ml.evaluation.record import SUMMARY, Evaluation

    place = folder.evaluation("test")
    if not (place / SUMMARY).exists():
        return "not evaluated"
    metric = Evaluation.load(place).metrics.get(task.primary_metric)
    return "undefined" if metric is None or metric.value is None else f"{metric.value:.4f}"


def _when(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(sep=" ", timespec="minutes")[:16]
