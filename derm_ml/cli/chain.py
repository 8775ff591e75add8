"""Where an answer came from and where an image went (`derm trace`), and records of predictions (`derm records`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from derm_ml import DermError
from derm_ml.answered.journal import DAYS, remove_old
from derm_ml.cli.arguments import TaskName, open_registry, task_of
from derm_ml.cli.terminal import notes, print_result, print_table
from derm_ml.places import RECORDS, installation, setting_path
from derm_ml.task import Task

Folder = Annotated[
    Path | None, typer.Option("--records", help="folder of the records; default: where the settings say")
]
_SHOWN = 20  # records of one image that are listed


def trace(
    task_name: TaskName,
    given: Annotated[
        str,
        typer.Argument(
            metavar="[ID]",
            help="prediction, Bento, version, model, run, dataset, delivery, commit, or an image file",
            show_default=False,
        ),
    ] = "",
    patient: Annotated[str, typer.Option(metavar="ID", help="which models learned from this patient")] = "",
    lesion: Annotated[str, typer.Option(metavar="ID", help="which models learned from this lesion")] = "",
    records: Folder = None,
) -> None:
    """Walk the chain prediction – Bento – version – run – dataset – delivery – commit, from any of its ids.

    An image file is looked for in the records by its bytes, and in what each model learned from.
    """
    task = task_of(task_name)
    if sum(map(bool, (given, patient, lesion))) != 1:
        raise DermError("give one thing to trace: an ID, an image file, --patient ID or --lesion ID")
    if patient or lesion:
        _print_models(task, "patient" if patient else "lesion", patient or lesion)
        return
    file = Path(given)
    if file.is_file():
        data = file.read_bytes()
        _print_models(task, "image", _stored_sha256(task, data))
        given = hashlib.sha256(data).hexdigest()
        notes.print(f"sha256 of {file}: {given}", markup=False, soft_wrap=True)
        if not _rows(records, task, given):
            print_result("no recorded prediction is about this file")
            return
    _print_chain(task, given, records)


def records(
    task_name: TaskName,
    folder: Folder = None,
    days: Annotated[int, typer.Option(min=0, help="remove records of days that lie further back; 0: keep all")] = DAYS,
) -> None:
    """Turn closed journals of a service into Parquet, remove what is too old, and say what there is."""
    from derm_ml.answered.table import pack, records_below

    task = task_of(task_name)
    place = records_folder(folder) / task.name
    gone = remove_old(place, days)
    made = pack(place)
    table = records_below(place)
    notes.print(f"{len(made)} files made, {len(gone)} removed that were older than {days} days: {place}", markup=False)
    if table.empty:
        print_result(f"no prediction of {task.name} is recorded below {place}; docs/operating.md says how")
        return
    shown = Table("model", "role", "predictions", "first", "last", title=f"Recorded predictions of {task.name}")
    for kind, rows in table.groupby(table["model_version"].astype(str) + " " + table["role"].astype(str)):
        shown.add_row(*str(kind).split(" "), str(len(rows)), str(rows["at"].min())[:19], str(rows["at"].max())[:19])
    print_table(shown)


def _print_chain(task: Task, given: str, folder: Path | None) -> None:
    from derm_ml.trace import chain_of, sources_of

    here, rows = installation(), _rows(folder, task)
    sources = sources_of(here.versions(task.name), here.raw(task.name))
    chain = chain_of(given, open_registry().registered(task), sources, rows)
    if chain.records:
        told = Table(
            "when (UTC)", "role", "prediction", "model", "Bento", "predicted", "image sha256", title="Predictions"
        )
        for row in chain.records[:_SHOWN]:
            images = ", ".join(str(one)[:16] for one in row["images"])
            names = ("role", "prediction_id", "model_version", "bento", "predicted")
            told.add_row(str(row["at"])[:19], *(str(row.get(name) or "") for name in names), images)
        print_table(told)
    table = Table("version", "state", "model", "Bento", "MLflow run", "Dagster runs", "dataset", "deliveries", "commit",
                  "predictions", title=f"{task.name}: what hangs together with {given}")  # fmt: skip
    for link in chain.links:
        v = link.version
        table.add_row(
            str(v.number), f"{v.state}, {v.release}", v.model_version, v.bento, v.run, ", ".join(v.dagster_runs),
            v.dataset_md5, ", ".join(link.deliveries), v.git_commit, str(link.predictions),
        )  # fmt: skip
    if chain.links:
        print_table(table)
    else:
        print_result("the registry knows no version of that model")


def _print_models(task: Task, kind: str, value: str) -> None:
    """What each registered version and each model folder that is not registered knows."""
    from derm_ml.files import sha256
    from derm_ml.model_folder import CARD, model_folders
    from derm_ml.trace import models_that_know

    registry = open_registry()
    registered = registry.registered(task)
    bundles: list[tuple[str, Callable[[], Path]]] = [
        (f"version {v.number}, {v.state}", partial(registry.bundle, task, v.number)) for v in registered
    ]
    known = {v.model_version for v in registered}
    for model in model_folders(installation().models(task.name)):
        if sha256(model.bundle / CARD)[:12] not in known:
            bundles.append((f"{model.path}, not registered", partial(Path, model.bundle)))
    found = models_that_know(kind, value, bundles)
    for one in found:
        verdict = f"cannot be told: {one.unsure}" if one.unsure else "learned from it" if one.knows else "did not"
        print_result(f"{one.name}: {verdict}")
    if not found:
        print_result(f"no model of {task.name} is here")


def _stored_sha256(task: Task, data: bytes) -> str:
    """The sha256 an image file is stored with in the datasets of the task."""
    from derm_ml.data.dataset import Dataset
    from derm_ml.data.decoded import stored_image

    prepared = installation().prepared(task.name)
    side = Dataset.open(prepared).info["settings"]["store_side"] if prepared.is_dir() else task.settings().store_side
    return hashlib.sha256(stored_image(data, int(side))).hexdigest()


def _rows(folder: Path | None, task: Task, sha256: str = "") -> list[dict[str, Any]]:
    from derm_ml.answered.table import records_below

    table = records_below(records_folder(folder) / task.name, lambda row: not sha256 or sha256 in row["images"])
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def records_folder(given: Path | None) -> Path:
    return given or setting_path(RECORDS) or installation().answered


def drift(
    task_name: TaskName,
    since: Annotated[str, typer.Option(metavar="DATE", help="records from this day on (UTC) are the recent ones")],
    model: Annotated[str, typer.Option(metavar="VERSION", help="model version; default: that of the last record")] = "",
    folder: Folder = None,
) -> None:
    """Compare recent prediction records of a model with earlier ones: did scores or embeddings shift?

    Exits with 1 if one did. No labels are needed, and nothing is said about whether the answers are right.
    """
    from datetime import date

    from derm_ml.answered.table import records_below, served
    from derm_ml.drift import drift_of
    from derm_ml.metrics.expected import BLIND_SPOT

    task = task_of(task_name)
    try:
        day = date.fromisoformat(since).isoformat()
    except ValueError:
        raise DermError(f"--since {since}: write a date such as 2026-03-01") from None
    table = records_below(records_folder(folder) / task.name)
    if served(table).empty:
        raise DermError(f"no prediction of {task.name} is recorded below {records_folder(folder) / task.name}")
    found = drift_of(table, task.labels, day, model)
    shown = Table("what", "earlier", "recent", "recent above earlier", "95 % interval", "",
                  title=f"Shift of what model {found.model_version} is asked since {day}; 0.5 is none")  # fmt: skip
    for one in found.shifts:
        value = "–" if one.value is None else f"{one.value:.3f}"
        interval = "–" if one.low is None else f"{one.low:.3f} to {one.high:.3f}"
        shown.add_row(
            one.name, str(one.earlier), str(one.recent), value, interval, "shifted" if one.found else one.remark
        )
    print_table(shown)
    if found.estimates:
        expected = Table("label", "earlier", "recent", title="AUC that the probabilities lead one to expect")
        for one in found.estimates:
            expected.add_row(one.label, str(one.earlier), str(one.recent))
        print_table(expected)
        notes.print(BLIND_SPOT, soft_wrap=True)
    if any(one.found for one in found.shifts):
        raise typer.Exit(1)
