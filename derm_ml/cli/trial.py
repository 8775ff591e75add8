"""The silent trial from a terminal: labels that came later judge what a challenger answered unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from derm_ml.cli.arguments import TaskName, task_of
from derm_ml.cli.chain import Folder, records_folder
from derm_ml.cli.terminal import notes, print_result
from derm_ml.places import installation


def trial(
    task_name: TaskName,
    labels: Annotated[
        Path, typer.Option(metavar="FILE", help="list with label, prediction_id or image, and patient if it is known")
    ],
    challenger: Annotated[
        str, typer.Option(metavar="VERSION", help="model version; default: the challenger that was asked last")
    ] = "",
    champion: Annotated[
        str, typer.Option(metavar="VERSION", help="model version; default: the one that answered last beside it")
    ] = "",
    folder: Folder = None,
) -> None:
    """Judge a challenger that answered unseen beside the service, by labels that came later: a paired comparison.

    Prints the difference with its interval and keeps it as evidence; a policy with `trial_patients` asks for it before
    promotion. Exits with 1 if nothing can be said.
    """
    from derm_ml.answered.table import records_below
    from derm_ml.promotion.trial import read_labels, trial_of

    task = task_of(task_name)
    known = read_labels(labels, task)
    found = trial_of(task, records_below(records_folder(folder) / task.name), known, champion, challenger)
    counts = found.counts
    notes.print(
        f"{counts['both']} images were answered by both {found.champion} and {found.challenger} "
        f"({found.first} to {found.last}): {counts['unlabelled']} have no label in {labels}, of {counts['abstained']} "
        f"one of the two abstained, {counts['again']} were sent again, {counts['compared']} are compared",
        markup=False,
        soft_wrap=True,
    )
    if found.difference is not None and found.remark:
        notes.print(f"– {found.remark}", markup=False)
    place = found.write(installation().trial(task.name, found.challenger, found.champion))
    print_result(str(found))
    notes.print(f"kept in {place}", markup=False, soft_wrap=True)
    if found.difference is None:
        raise typer.Exit(1)
