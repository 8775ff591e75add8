"""Where the verbs write: results to stdout, everything else to stderr."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from derm_ml.files import replacing_file
from derm_ml.machine import WriteError
from derm_ml.progress import EpochReport
from derm_ml.task import Task

if TYPE_CHECKING:
    from derm_ml.dataset import Dataset

out_console, notes = Console(), Console(stderr=True)


def print_line(line: str) -> None:
    """One line of the result, at once: what was answered stands even if the next answer never comes.

    Raises `WriteError` if the file behind stdout has no room.
    """
    try:
        print(line, flush=True)
    except OSError as error:
        if error.errno == errno.EPIPE:  # `derm … | head`: the reader has enough
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered would fail again
        raise WriteError.of(Path("the standard output"), error.strerror or str(error)) from error


def write_png(path: Path, image: Any) -> None:
    """Write an RGB image (H, W, 3) or a mask (H, W), both uint8, whole or not at all."""
    import cv2

    with replacing_file(path) as temporary:
        ordered = image[..., ::-1] if image.ndim == 3 else image
        temporary.write_bytes(cv2.imencode(".png", ordered)[1].tobytes())


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
        usable = usable and (finding.passed or not rule.blocking)
        notes.print(f"{'[green]✓' if finding.passed else '[red]✗'}[/] {rule.name}: {finding.message}")
    return usable
