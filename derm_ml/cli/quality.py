"""The quality of data from a terminal: what deserves a look, and labels that somebody has corrected."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from derm_ml import DermError
from derm_ml.cli.arguments import (
    PreparedData,
    TaskName,
    dataset_of,
    predictor_of,
    replaceable,
    task_of,
)
from derm_ml.cli.settings import settings_of
from derm_ml.cli.terminal import notes, print_result, print_table, progress_bar
from derm_ml.model_folder import ModelFolder, bundle_named
from derm_ml.places import installation


def audit(
    task_name: TaskName,
    data: PreparedData = None,
    model: Annotated[
        Path | None, typer.Option(help="compare images by this model's embeddings; default: by colour, texture, shape")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the report; default: out/TASK/data_audit")] = None,
) -> None:
    """Look for label errors, off-topic, blank, dark, blurred or tiny images, contradictions and shortcuts.

    Nothing is changed. Prints the verdict and the path of the report. For `derm relabel` fill in its `review.csv`.
    """
    from derm_ml.audit import report
    from derm_ml.audit.findings import HAND_MADE
    from derm_ml.audit.findings import audit as look_through

    task = task_of(task_name)
    if model and not task.has_embedding:
        raise DermError(f"the models of {task.name} give no embedding: leave --model out")
    dataset = dataset_of(task, data)
    folder = replaceable(out or installation().data_audit(task.name), report.NUMBERS)
    vectors, judged_by = None, HAND_MADE
    if model:
        from derm_ml.embeddings.extract import table_of
        from derm_ml.embeddings.extract import vectors as stacked

        predictor = predictor_of(task, model)
        with notes.status("embedding the images"):
            vectors = stacked(table_of(predictor, dataset, ModelFolder.holding(bundle_named(model))))
        judged_by = f"the embeddings of {predictor.bundle.version}"
    with progress_bar("audit") as bar:
        step: Any = bar.add_task("look", total=len(dataset.manifest))
        found = look_through(
            dataset,
            task.negative,
            vectors,
            judged_by,
            lambda done, total: bar.update(step, completed=done, total=total),
        )
    report.save(found, dataset, folder)
    table = Table("finding", "images", "the likeliest", "why")
    for kind, rows in found.findings.items():
        first = rows.iloc[0] if len(rows) else None
        named = ("", "") if first is None else (str(first["id"]), str(first["why"]))
        table.add_row(kind.replace("_", " "), str(len(rows)), *named)
    print_table(table, note=True)
    for line in (*report.limits(found), found.verdict):
        notes.print(line, soft_wrap=True)
    print_result(folder / report.REPORT)


def relabel(
    task_name: TaskName,
    corrections: Annotated[
        Path, typer.Argument(help="CSV with the columns id, label and, if you like, remark", show_default=False)
    ],
    author: Annotated[str, typer.Option(help="who decided; it is recorded with the date")],
    raw: Annotated[Path | None, typer.Option(help="default: data/raw/TASK")] = None,
    params: Annotated[Path | None, typer.Option(help="default: params.yaml")] = None,
) -> None:
    """Record corrected labels beside the raw data; they count from the next `derm prepare` on.

    Reads the `review.csv` of an audit: rows without a label stay as they are. `derm withdraw` undoes it.
    """
    from derm_ml.data.relabel import relabel as record

    task = task_of(task_name)
    folder = raw or installation().raw(task.name)
    delivery = record(task, corrections, author, folder, settings_of(task, params).settings)
    for correction in delivery.corrections:
        notes.print(f"corrected: {correction}", soft_wrap=True)
    notes.print(
        f"{len(delivery.corrections)} labels corrected by {author}: `derm prepare {task.name}` applies them, "
        f"`derm withdraw {task.name} {delivery.folder.rpartition('/')[2]}` undoes them",
        soft_wrap=True,
    )
    print_result(folder / delivery.folder)
