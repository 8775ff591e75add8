"""The champion from a terminal: promote a model on its evidence, roll back."""

from __future__ import annotations

from typing import Annotated

import typer

from derm_ml.cli.arguments import ModelFolder, TaskName, bundle_of, open_registry, task_of
from derm_ml.cli.terminal import notes, print_result


def promote(
    task_name: TaskName,
    model: ModelFolder,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would happen, change nothing")] = False,
) -> None:
    """Make a model the champion if the evidence allows it; the decision goes to the ledger either way."""
    decision = open_registry().promote(task_of(task_name), bundle_of(model), dry_run=dry_run)
    for reason in decision.reasons:
        notes.print(f"- {reason}")
    print("promoted" if decision.promote else "refused")
    if not decision.promote:
        raise typer.Exit(1)


def rollback(task_name: TaskName) -> None:
    """Make the previous champion the champion again."""
    print_result(open_registry().rollback(task_of(task_name)))
