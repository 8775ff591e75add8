"""Where the verbs write: results to stdout, everything else to stderr.

Both are consoles that take text as it is: names, labels and reasons come from data, so a `[left]` in a file name is
no style, `:x:` no emoji, and an escape sequence is written out. Styles are arguments: `notes.print(line, style="red")`.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from derm_ml.escape import visible
from derm_ml.files import replacing_file
from derm_ml.machine import WriteError
from derm_ml.progress import EpochReport
from derm_ml.task import Finding, Task

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset


class LiteralConsole(Console):
    """A console that prints every text as it is written, cells of tables, titles and status lines included."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """A line that stands while something is done."""
        return super().status(Text(visible(status)) if isinstance(status, str) else status, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string that is not a `Text` yet comes through here."""
        return super().render_str(visible(text, keep="\n\t"), **options)


out_console, notes = LiteralConsole(), LiteralConsole(stderr=True)


def print_result(result: Path | str) -> None:
    """A line of the answer on stdout: the bare path for a program, nothing that acts on a terminal for a person."""
    print_line(visible(str(result)) if sys.stdout.isatty() else str(result))


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


def print_table(table: Table, note: bool = False) -> None:
    """The table at the width it needs, on stderr if it is a `note`: a figure that is cut off helps nobody, and a pipe
    has no width."""
    needed = LiteralConsole(width=1000).measure(table).maximum
    LiteralConsole(stderr=note, width=max(out_console.width, needed)).print(table)


def print_narrow(table: Table) -> None:
    """The table within 80 columns, long cells on several lines: for a list that is read on any terminal."""
    LiteralConsole(width=80).print(table)


def print_finding(name: str, finding: Finding) -> None:
    """A check's answer on one line, after a mark: passed, failed, or not evaluable."""
    mark = Text("✗", "red") if finding.evaluable else Text("⚠", "yellow")
    mark = Text("✓", "green") if finding.passed else mark
    notes.print(mark, f"{name}: {finding.message}")


def progress_bar(title: str) -> Progress:
    return Progress(
        TextColumn(f"{title} · {{task.description}}", markup=False),
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
        print_finding(rule.name, finding)
    return usable
