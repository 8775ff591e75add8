"""Where the verbs write: results to stdout, everything else to stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from derm_ml.progress import EpochReport
from derm_ml.task import Task

if TYPE_CHECKING:
    from derm_ml.dataset import Dataset

out_console, notes = Console(), Console(stderr=True)


def print_table(table: Table) -> None:
    """The table at the width it needs: a figure that is cut off helps nobody, and a pipe has no width."""
    needed = Console(width=1000).measure(table).maximum
    Console(width=max(out_console.width, needed)).print(table)


def progress_bar(title: str) -> Progress:
    return Progress(
        TextColumn(f"{title} · {{task.description}}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=notes,
    )


def say_epoch(report: EpochReport) -> None:
    figures = "  ".join(f"{name} {value:.4f}" for name, value in report.metrics.items())
    notes.print(
        f"epoch {report.epoch:3d}/{report.epochs}  loss {report.train_loss:.4f}  {figures}  "
        f"{report.images_per_second:6.1f} img/s  {report.seconds:5.0f} s{'  best' if report.best else ''}"
    )


def print_rules(task: Task, dataset: Dataset) -> bool:
    """Print every data rule; False if a blocking one is red."""
    usable = True
    for rule in task.rules:
        finding = rule.check(dataset)
        usable = usable and not rule.stops(finding)
        mark = "[green]✓" if finding.passed else "[red]✗" if rule.stops(finding) else "[yellow]⚠"
        notes.print(f"{mark}[/] {rule.name}: {finding.message}")
    return usable
