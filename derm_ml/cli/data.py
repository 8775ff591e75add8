"""Data from a terminal: list the tasks, draw or fetch a raw folder, prepare it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from derm_ml import DermError
from derm_ml.cli.arguments import TaskName, open_registry, registry_installed, replaceable, task_of
from derm_ml.cli.settings import settings_of
from derm_ml.cli.terminal import (
    notes,
    out_console,
    print_line,
    print_narrow,
    print_result,
    print_rules,
    print_table,
    progress_bar,
)
from derm_ml.data.account import column_lines, file_rows, label_rows
from derm_ml.files import is_empty
from derm_ml.machine import writing
from derm_ml.places import installation
from derm_ml.records import UNLABELLED
from derm_ml.registry import all_tasks
from derm_ml.sentences import WrongValue, unknown
from derm_ml.synthetic_mark import is_synthetic
from derm_ml.task import PrepareSettings, Task

if TYPE_CHECKING:
    from derm_ml.cache import Cache
    from derm_ml.data.catalogue import Entry
    from derm_ml.data.dataset import Dataset


def tasks(
    task_name: Annotated[
        str, typer.Argument(metavar="[TASK]", help="what this task is asked with", show_default=False)
    ] = "",
) -> None:
    """List the tasks and their recipes; of one task, what it is asked with."""
    if task_name:
        return _print_asking(task_of(task_name))
    table = Table("task", "what", "recipes (the first is the default)")
    for task in all_tasks().values():
        table.add_row(task.name, task.title, ", ".join(task.recipes))
    print_table(table)


def _print_asking(task: Task) -> None:
    """The options of a task, as it declares them."""
    print_line(f"{task.name} is asked about {task.asking.about}: derm {task.asking.verb}, POST {task.asking.path}")
    table = Table("option", "values", "what", title=task.title)
    for option in task.asking.options:
        choices = ", ".join(option.choices) or {"labels": "a label", "points": "an operating point"}.get(
            option.of_model, ""
        )
        span = f"{option.low:g} to {option.high:g}" if option.low is not None and option.high is not None else "text"
        table.add_row(option.name, choices or span, option.help)
    if table.row_count:
        print_table(table)


def draw(
    task_name: TaskName,
    n: Annotated[int, typer.Option(min=1, help="how many images")] = 240,
    seed: int = 0,
    into: Annotated[Path | None, typer.Option(help="default: data/raw/TASK")] = None,
    plant: Annotated[
        list[str] | None,
        typer.Option(help="a fault to plant: shortcut, leak, label-noise, subgroup, off-topic, blur; several allowed"),
    ] = None,
    share: Annotated[float, typer.Option(min=0.01, max=0.5, help="share of the images a fault is planted in")] = 0.1,
) -> None:
    """Generate a small synthetic labelled image set in the folder layout of a public dataset.

    With --plant it has faults that checks must find, and INTO.planted.csv says which image has which.
    """
    folder = into or installation().raw(task_name)
    task = task_of(task_name)
    if not is_empty(folder):
        raise DermError(f"{folder} is not an empty folder; synthetic images are not mixed with yours: choose --into")
    with writing(folder, making=True):
        folder.mkdir(parents=True, exist_ok=True)
    if plant:
        truth = _planted(task, folder, n, seed, plant, share)
        notes.print(f"what is planted in which image: {truth}", soft_wrap=True)
    else:
        task.draw(folder, n, seed)
    notes.print(f"{n} synthetic images in {folder}", soft_wrap=True)


def _planted(task: Task, folder: Path, n: int, seed: int, plants: list[str], share: float) -> Path:
    from derm_ml.synthetic.planted import plant

    with TemporaryDirectory() as name:
        drawn = Path(name)
        task.draw(drawn, n, seed)
        return plant(task.read(drawn, task.settings()), drawn, folder, plants, share, seed, task.negative)


def fetch(
    name: Annotated[str, typer.Argument(help="dataset name; `derm fetch list` shows all", show_default=False)],
    of: Annotated[
        str, typer.Argument(metavar="[OF]", help="after `list`: the one to describe in full", show_default=False)
    ] = "",
    into: Annotated[
        Path | None, typer.Option(help="the data set becomes INTO/TASK/NAME in it; default: data/raw")
    ] = None,
) -> None:
    """Download a public data set: resumable, checksummed, unpacked into the layout the tasks read.

    `derm fetch list` shows what there is, `derm fetch list NAME` licence, citation and size of one.
    """
    from derm_ml.data.catalogue import catalogue, catalogue_lines
    from derm_ml.data.fetch import fetch_data_set

    entries = catalogue()
    if of and name != "list":
        raise DermError(f"'{of}' is one name too many: `derm fetch {name}`, or `derm fetch list {of}`")
    if of and of not in entries:
        raise WrongValue(unknown("data set", of, entries, "the catalogue has"))
    if of:
        for line in catalogue_lines(entries[of]):
            out_console.print(line)
    elif name == "list":
        _print_catalogue(list(entries.values()))
    else:
        print_result(fetch_data_set(name, into or installation().raw_folders, say=notes.print))


def _print_catalogue(entries: Sequence[Entry]) -> None:
    """Data sets that are fetched, those that are not, and models, each a table of at most 80 columns."""
    groups = {
        "data sets that derm downloads": [e for e in entries if e.files and not e.is_model],
        "data sets that you get from their page (derm fetch list NAME)": [e for e in entries if not e.files],
        "models, no images": [e for e in entries if e.is_model],
    }
    for title, group in groups.items():
        table = Table("name", *(() if group[0].is_model else ("images",)), "download", "licence", title=title)
        for entry in group:
            counted = () if entry.is_model else (f"{entry.images:,}" if entry.images else "you choose",)
            table.add_row(entry.name, *counted, entry.download.removeprefix("about ") or "–", entry.licence)
        print_narrow(table)
    print_line("Citation, terms and where a size comes from: derm fetch list NAME")


def prepare(
    task_name: TaskName,
    raw: Annotated[Path | None, typer.Option(help="folder as downloaded; default: data/raw/TASK")] = None,
    out: Annotated[Path | None, typer.Option(help="default: data/prepared/TASK")] = None,
    params: Annotated[Path | None, typer.Option(help="parameters of data preparation; default: params.yaml")] = None,
    checks: Annotated[bool, typer.Option(help="run the data checks; Dagster runs them itself")] = True,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="remove what earlier preparations computed, and begin anew")
    ] = False,
) -> None:
    """Turn a raw folder into a dataset: decode, quarantine, find duplicates, freeze splits, write shards.

    Prints what became of every label, file and column. The exit code is 1 if a blocking data check fails: the dataset
    is written, and nothing can be trained on it.
    """
    from derm_ml.cache import Cache
    from derm_ml.data.dataset import freeze

    task, places = task_of(task_name), installation()
    given = settings_of(task, params)
    known = places.preparation_cache(task.name)
    if fresh:
        Cache.remove(known)
    notes.print(str(given), soft_wrap=True)
    with Cache(known) as cache:
        folder = replaceable(out or places.prepared(task.name), "dataset.json")
        dataset = prepare_with_bar(task, raw or places.raw(task.name), given.settings, folder, cache)
        cache.forget_unused()
        freeze(dataset.path, places.version(task.name, dataset.md5))  # as Dagster does: models are measured on it
    _print_dataset(dataset)
    usable = print_rules(task, dataset) if checks else True
    if checks and (sheet := _contradictions(task, dataset)):
        notes.print(f"images with two labels, side by side: {sheet}", style="yellow", soft_wrap=True)
    print_result(dataset.path)
    if not usable:
        notes.print("a blocking data check failed: nothing is trained on this dataset", style="red")
        raise typer.Exit(1)


def prepare_with_bar(task: Task, raw: Path, settings: PrepareSettings, out: Path, cache: Cache) -> Dataset:
    """Prepare a raw folder and show how far it has come."""
    from derm_ml.data.prepare import prepare as prepare_dataset

    with progress_bar("prepare") as bar:
        steps: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in steps:
                steps[stage] = bar.add_task(stage, total=total or None)  # until it is known how many: it moves
            bar.update(steps[stage], completed=done, total=total or None)

        return prepare_dataset(task, raw, settings, out, progress, cache=cache)


def deliver(
    task_name: TaskName,
    batch: Annotated[Path, typer.Argument(help="folder of labelled images", show_default=False)],
    raw: Annotated[Path | None, typer.Option(help="default: data/raw/TASK")] = None,
    prepared: Annotated[
        Path | None, typer.Option(help="dataset whose splits are kept; default: data/prepared/TASK")
    ] = None,
    params: Annotated[Path | None, typer.Option(help="default: params.yaml")] = None,
    reviewed_by: Annotated[
        str, typer.Option(metavar="NAME", help="who looked at images and labels; the champion is not asked then")
    ] = "",
) -> None:
    """Check a folder of new images and add it to the raw data, as the inbox does; a rejected one stays where it is."""
    from derm_ml.cache import Cache
    from derm_ml.data.incoming import nobody_looks, take_in

    reviewed_by = reviewed_by.strip()  # blanks are no name
    task, places = task_of(task_name), installation()
    kept = prepared or places.prepared(task.name)
    with Cache(places.preparation_cache(task.name)) as cache:
        intake = take_in(
            task,
            batch,
            raw or places.raw(task.name),
            settings_of(task, params).settings,
            kept if (kept / "dataset.json").exists() else None,
            nobody_looks if reviewed_by or not registry_installed() else open_registry().reviewer(task),
            reviewed_by,
            cache,
        )
    for problem in (*intake.left_out, *intake.held_back):
        notes.print(f"{problem.kind.replace('_', ' ')}: {problem.file}: {problem.reason}", style="yellow")
    for correction in intake.corrections:
        notes.print(f"corrected: {correction}", style="yellow")
    notes.print(f"{intake.delivered} delivered, {intake.taken} taken, {len(intake.left_out)} left out")
    print_result(intake.folder or "nothing new")


def withdraw(
    task_name: TaskName,
    batch: Annotated[str, typer.Argument(help="as delivered, or its folder's name below data/raw/TASK/batches")],
    raw: Annotated[Path | None, typer.Option(help="default: data/raw/TASK")] = None,
    into: Annotated[Path | None, typer.Option(help="default: data/withdrawn/TASK")] = None,
) -> None:
    """Take an accepted delivery out of the raw data again and list the models that were trained on it."""
    from derm_ml.data.withdrawal import models_trained_on
    from derm_ml.data.withdrawal import withdraw as take_out

    task, places = task_of(task_name), installation()
    gone = take_out(raw or places.raw(task.name), batch, into or places.withdrawn(task.name))
    notes.print(f"{gone}; `derm prepare {task.name}` makes a dataset without it")
    for folder in models_trained_on(gone.delivery, places.models(task.name), places.versions(task.name)):
        notes.print(f"trained on it: {folder}", style="yellow")
    print_result(gone.folder)


def _contradictions(task: Task, dataset: Dataset) -> Path | None:
    """A page of the duplicates with two labels, written below the results of the task; None where there are none."""
    from derm_ml.figures.contradictions import TITLE, contradictions_sheet
    from derm_ml.figures.sheet_page import Shown, write_sheet

    sheet = contradictions_sheet(dataset)
    if sheet is None:
        return None
    note = "One label of each pair is wrong: correct it, or remove its image."
    shown = Shown(TITLE, note, large=True, synthetic=is_synthetic(dataset.licences))
    return write_sheet(sheet, installation().models(task.name), "contradictions", shown)["contradictions_page"]


def print_account(account: Mapping[str, Any]) -> None:
    """Label by label and split by split, files by fate, columns used and not, and what was understood otherwise."""
    for title, rows in (("images by label", label_rows(account)), ("files by what became of them", file_rows(account))):
        if rows:
            table = Table(*rows[0], title=title)
            for row in rows:
                table.add_row(*map(str, row.values()))
            print_table(table, note=True)
    for line in (*column_lines(account), *account.get("notes", ())):
        notes.print(line, soft_wrap=True)


def _print_dataset(dataset: Dataset) -> None:
    print_account(dataset.account)
    table = Table(
        "split", *dataset.labels, "hash", title=f"{dataset.task}: {dataset.info['samples']} images, md5 {dataset.md5}"
    )
    for split, counts in dataset.info["counts"].items():
        table.add_row(split, *(str(counts.get(label, 0)) for label in dataset.labels), dataset.split_hashes[split])
    notes.print(table)
    if unlabelled := dataset.info["sizes"].get(UNLABELLED):
        notes.print(f"{unlabelled} unlabelled images")
    if left_out := dataset.info["left_out"]:
        notes.print(f"not modelled: {', '.join(f'{name} ({n})' for name, n in left_out.items())}", soft_wrap=True)
    if len(dataset.quarantine):
        listed = dataset.path / "quarantine.csv"
        notes.print(f"{len(dataset.quarantine)} quarantined: {listed}", style="yellow")
    notes.print(f"licences: {', '.join(f'{name} ({n})' for name, n in dataset.licences.items())}")
