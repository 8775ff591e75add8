"""The champion from a terminal: promote a model on its evidence, roll back, look back, check that all agrees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Column, Table

from derm_ml import DermError
from derm_ml.cli.arguments import TaskName, TrainedModel, open_registry, task_of
from derm_ml.cli.terminal import notes, print_result, print_table
from derm_ml.model_folder import bundle_named
from derm_ml.places import SHARED, installation
from derm_ml.promotion.ledger import copy_to_shared
from derm_ml.registry import all_tasks
from derm_ml.sentences import WrongValue
from derm_ml.shared import shared_place

Why = Annotated[str, typer.Option(help="the reason, which goes into the ledger")]


def promote(
    task_name: TaskName,
    model: TrainedModel,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would happen, change nothing")] = False,
) -> None:
    """Make a model the champion if the evidence allows it; the decision goes to the ledger either way.

    Prints promoted, refused, or unchanged where the model is the champion already; of a dry run, that it would be. The
    exit code is 1 if it is refused.
    """
    decision = open_registry().promote(task_of(task_name), bundle_named(model), dry_run=dry_run)
    if decision.checks:
        evidence, hazard = (Column(name, max_width=60, overflow="fold") for name in ("evidence", "hazard it controls"))
        table = Table("check", evidence, "verdict", hazard, title=f"Promotion of {bundle_named(model).parent.name}")
        for check in decision.checks:
            table.add_row(*check.row.values())
        print_table(table, note=True)
    for reason in decision.reasons:
        notes.print(f"- {reason}", markup=False)
    would = "would be " if dry_run else ""
    print("unchanged" if decision.already else f"{would}{'promoted' if decision.promote else 'refused'}")
    if not decision.promote:
        raise typer.Exit(1)


def approve(
    task_name: TaskName,
    version: Annotated[
        int | None, typer.Argument(help="number of a registered version; default: the challenger", show_default=False)
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="who approves it; the name goes into the ledger")] = "",
) -> None:
    """Approve a challenger that waits for a person; Dagster then promotes it if its evidence still holds."""
    task = task_of(task_name)
    print_result(open_registry().approve(task, version, by))
    notes.print(
        f"Dagster promotes and releases it at its next look where the automation of {task.name} is on "
        f"(`make automate TASK={task.name}`); otherwise launch the job {task.name}_promote",
        markup=False,
        soft_wrap=True,
    )


def rollback(
    task_name: TaskName,
    why: Why = "",
    leave_empty: Annotated[
        bool, typer.Option(help="where there is no earlier champion, leave the task without one")
    ] = False,
) -> None:
    """Withdraw the champion and restore the previous one, with its service."""
    print_result(open_registry().rollback(task_of(task_name), why, leave_empty=leave_empty))


def reinstate(
    task_name: TaskName,
    version: Annotated[int, typer.Argument(help="number of the withdrawn version, see `derm history`")],
    why: Why = "",
) -> None:
    """Let a withdrawn version be promoted again."""
    print_result(open_registry().reinstate(task_of(task_name), version, why))


def share_ledger(task_name: TaskName) -> None:
    """Copy this installation's promotion ledger to the place DERM_SHARED names, for other machines."""
    task, shared = task_of(task_name), shared_place()
    if shared is None:
        raise WrongValue(f"{SHARED} is empty: let it name a bucket or a folder that all machines reach")
    print_result(copy_to_shared(installation(), shared, task.name))


def history(task_name: TaskName) -> None:
    """List every decision about the champion: when, who, what and why."""
    task = task_of(task_name)
    table = Table("when (UTC)", "what", "version", "model", "who", "why", title=f"Promotion ledger of {task.name}")
    for entry in open_registry().history(task):
        reasons = entry.get("why") or "; ".join(entry.get("reasons", ())) or entry.get("found", "")
        version = "" if entry.get("version") is None else str(entry["version"])
        model = entry.get("model_version") or entry.get("evidence", {}).get("model_version", "")
        table.add_row(str(entry["at"])[:19], entry["event"], version, model, entry.get("by", "not recorded"), reasons)
    print_table(table)


def champion(
    task_name: TaskName,
    at: Annotated[
        str, typer.Option(metavar="DATE", help="the champion at the end of this day (UTC), e.g. 2026-03-01")
    ] = "",
) -> None:
    """Say which version is the champion, or was on a date, since when, and who promoted it."""
    task, registry = task_of(task_name), open_registry()
    bundle = "" if at else f", {registry.champion(task)}"
    found = registry.standing(task, _end_of(at))
    when = f" on {at}" if at else ""
    if found.champion is None:
        print_result(f"{task.name} had no champion{when}")
        raise typer.Exit(1)
    model = f"model {found.model_version}" if found.model_version else "model not recorded"
    print_result(
        f"version {found.champion}, {model}, since {found.since[:19]} UTC, by {found.by or 'not recorded'}{bundle}"
    )


def doctor(
    task_name: Annotated[str, typer.Argument(metavar="[TASK]", help="default: every task", show_default=False)] = "",
    repair: Annotated[bool, typer.Option("--repair", help="repair what can be repaired, and write it down")] = False,
    why: Why = "",
) -> None:
    """Check that ledger, registry, model files, data and service agree about the champion."""
    registry, well = open_registry(), True
    for task in [task_of(task_name)] if task_name else all_tasks().values():
        for check in registry.doctor(task, repair=repair, why=why):
            well = well and check.ok
            print_result(f"{'ok  ' if check.ok else 'FAIL'} {task.name} {check.name}: {check.message}")
    if not well:
        raise typer.Exit(1)


def _end_of(date: str) -> str:
    """The last moment of a day as the ledger writes times; empty for an empty date."""
    if not date:
        return ""
    try:
        day = datetime.fromisoformat(date).replace(tzinfo=UTC)
    except ValueError:
        raise DermError(f"--at {date}: write a date such as 2026-03-01") from None
    whole_day = day + timedelta(days=1, milliseconds=-1) if len(date) <= 10 else day
    return whole_day.isoformat(timespec="milliseconds")
